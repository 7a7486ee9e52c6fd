"""Text classifiers: loading a checkpoint, turning texts into tensors, and predicting."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lola.adapters.shards import trim_padding
from lola.models.loading import import_transformers, load_config, reading, sequence_length
from lola.models.seeding import seeded
from lola.solvers.errors import LolaValueError
from lola.tasks.glue import Examples

if TYPE_CHECKING:
    import torch

_ENCODERS = ("bert", "roberta", "xlm-roberta", "electra")
# What a checkpoint of an encoder alone does not have.
_NEW = ("classifier.", "bert.pooler.")
_CHUNK = 4096  # texts; a chunk's token lists take far more memory than its tensors


@dataclass(frozen=True, eq=False)
class TextClassifier:
    """A model with its tokenizer. Made by `load_classifier`.

    Attributes
    ----------
    model : torch.nn.Module
        On the CPU, in single precision.
    tokenizer : transformers.PreTrainedTokenizerBase
    source : str
        Where they were loaded from.
    """

    model: Any
    tokenizer: Any
    source: str

    def encode(self, examples: Examples, length: int) -> dict[str, torch.Tensor]:
        """Turn texts into what the model takes.

        Parameters
        ----------
        examples : Examples
        length : int
            Tokens of a text, or of both texts, at most; what is longer is cut.

        Returns
        -------
        dict of str to torch.Tensor
            ``input_ids``, ``attention_mask`` and, where the model tells two texts apart by them, ``token_type_ids``:
            (n, width) int64, padded on the right; ``labels``, (n,) int64, or float32 for a regression.

        Raises
        ------
        ValueError
            If the model has fewer positions, or nothing of a text would be left.
        """
        import torch

        config, tokenizer = self.model.config, self.tokenizer
        sequence_length(self.source, config, length)
        n_special = tokenizer.num_special_tokens_to_add(pair=examples.second is not None)
        if length <= n_special:
            raise LolaValueError(
                f"{n_special} tokens are special ones, so a sequence must be longer; got {length}; 128 is usual"
            )
        names, parts = self._input_names(), []
        for start in range(0, len(examples), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            tokens = tokenizer(
                list(examples.first[chunk]),
                None if examples.second is None else list(examples.second[chunk]),
                truncation=True,
                max_length=length,
                padding="max_length",
                padding_side="right",
                return_attention_mask=True,
                return_token_type_ids=True,
                return_tensors="pt",
            )
            parts.append([tokens[name] for name in names])
        columns = {name: torch.cat(tensors) for name, tensors in zip(names, zip(*parts, strict=True), strict=True)}
        dtype = torch.float32 if config.num_labels == 1 else torch.int64
        return {**trim_padding(columns), "labels": torch.as_tensor(examples.labels, dtype=dtype)}

    def tokenizer_to_keep(self) -> Any:
        """Return a copy of the tokenizer that gives the model, unasked, what `encode` gives it.

        Padding and truncation are as they were loaded, for a tokenizer keeps those of its last call.
        """
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.model_input_names, tokenizer.padding_side = self._input_names(), "right"
        # What a saved tokenizer says of itself is what it was made with.
        tokenizer.init_kwargs |= {"model_input_names": self._input_names(), "padding_side": "right"}
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
        return tokenizer

    def _input_names(self) -> list[str]:
        segments = ["token_type_ids"] if self.model.config.type_vocab_size > 1 else []
        return ["input_ids", "attention_mask", *segments]

    def predict(self, columns: dict[str, torch.Tensor], *, batch_size: int = 64) -> NDArray[Any]:
        """Predict, with the model in the mode that it is in; call ``model.eval()`` before if it is training.

        Parameters
        ----------
        columns : dict of str to torch.Tensor
            From `encode`.
        batch_size : int
            Texts of similar length are batched together.

        Returns
        -------
        (n,) int64 or float32 array
            Classes, or the values of a regression, in the order of the rows.
        """
        import torch

        inputs = {name: column for name, column in columns.items() if name != "labels"}
        order = torch.argsort(inputs["attention_mask"].sum(dim=1), stable=True)
        parts = []
        with torch.no_grad():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                batch = trim_padding({name: column[rows] for name, column in inputs.items()})
                parts.append(self.model(**batch).logits)
        sorted_logits = torch.cat(parts)
        logits = torch.empty_like(sorted_logits)
        logits[order] = sorted_logits
        predicted = logits[:, 0] if logits.shape[1] == 1 else logits.argmax(dim=1)
        return np.asarray(predicted.numpy())


def load_classifier(source: str, n_labels: int, *, seed: int | None) -> TextClassifier:
    """Load a checkpoint of an encoder as a classifier of texts.

    Parameters
    ----------
    source : str
        Local folder or hub name of a BERT, RoBERTa or ELECTRA, with its tokenizer. An encoder alone gets a head.
    n_labels : int
        1 for a regression by least squares.
    seed : int or None
        Of the head, where the checkpoint has none of this size; None draws it from torch's random state.

    Returns
    -------
    TextClassifier

    Raises
    ------
    ValueError
        If there is no such model, or it is of another type, incomplete or damaged.

    Notes
    -----
    Weights are read from safetensors, or else with ``weights_only=True``; no code from a model's folder is run.
    """
    transformers = import_transformers()
    import torch

    config = load_config(source)
    if config.model_type not in _ENCODERS:
        raise LolaValueError(
            f"{source}: is a {config.model_type}; texts are classified by an encoder: {', '.join(_ENCODERS)}"
        )
    config.num_labels = n_labels
    config.problem_type = "regression" if n_labels == 1 else "single_label_classification"
    with reading(f"{source}: no model and tokenizer that transformers can read"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        with seeded(seed):
            model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
                source,
                config=config,
                dtype=torch.float32,
                attn_implementation="eager",
                weights_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    lost = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if encoder := [name for name in lost if not name.startswith(_NEW)]:
        raise LolaValueError(
            f"{source}: {len(encoder)} weights of the encoder are missing or of another shape, such as {encoder[0]}; "
            "is it a whole checkpoint of its config.json?"
        )
    if not len(tokenizer.all_special_ids) < len(tokenizer) <= config.vocab_size:
        raise LolaValueError(
            f"{source}: the tokenizer knows {len(tokenizer)} tokens, the model {config.vocab_size}; its files are "
            "missing, or of another model"
        )
    if tokenizer.pad_token is None:
        raise LolaValueError(f"{source}: the tokenizer has no token to pad with; give it a pad_token and save it again")
    model.config.architectures = [type(model).__name__]
    return TextClassifier(model, tokenizer, source)
