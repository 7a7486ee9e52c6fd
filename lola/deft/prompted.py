"""A frozen model with one prompt among its input's tokens: P-tuning's and prompt tuning's place for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lola.adapters.shards import trim_padding
from lola.models.depths import Depths
from lola.models.errors import ModelError
from lola.models.running import evaluating, running
from lola.models.seeding import seeded
from lola.solvers.checks import IntArray, positive_integer
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch
    from torch import nn

# Module and class of text classifiers, which read their first token: it must stay the first. The tests compare each
# with the model run by hand. Others may read another token, or have no place for embeddings.
_CLASSIFIERS = (
    "bert.BertForSequenceClassification",
    "roberta.RobertaForSequenceClassification",
    "xlm_roberta.XLMRobertaForSequenceClassification",
    "electra.ElectraForSequenceClassification",
    "distilbert.DistilBertForSequenceClassification",
    "mpnet.MPNetForSequenceClassification",
)
_COLUMNS = ("input_ids", "attention_mask", "token_type_ids", "labels")


def with_prompt(model: nn.Module, prompt: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> Any:
    """Run a model on a batch with a prompt among its tokens.

    Parameters
    ----------
    model : torch.nn.Module
        A text classifier of transformers, ``…ForSequenceClassification`` of BERT, RoBERTa, XLM-RoBERTa, ELECTRA,
        DistilBERT or MPNet: the prompt stands after the first token, so that the classifier still reads that one.
    prompt : (tokens, width) torch.Tensor
        Of the dtype of the model's word embeddings and as wide as they are; one for all rows. Gradients reach it.
    batch : mapping of str to torch.Tensor
        ``input_ids``, (rows, length), and, where the model takes them, ``attention_mask``, ``token_type_ids`` and
        ``labels``. Padding is on the right.

    Returns
    -------
    transformers.utils.ModelOutput
        With ``logits``, and ``loss`` where there are labels.

    Raises
    ------
    ModelError
        If the model is none of these, or text and prompt are longer than its positions.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    The prompt takes part as tokens would: it is attended to, and the tokens behind it move on by as many positions, as
    the model counts them. It is of text A where there are two. Lester, Al-Rfou, Constant, *The Power of Scale for
    Parameter-Efficient Prompt Tuning* (2021), section 2; the article on DEFT, section 2.1.

    Examples
    --------
    >>> import torch, transformers, lola
    >>> sizes = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    >>> model = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, intermediate_size=4))
    >>> batch = {"input_ids": torch.tensor([[1, 2, 3], [1, 4, 5]])}
    >>> prompt = lola.deft.draw_prompt(model, tokens=2, seed=0)
    >>> lola.deft.with_prompt(model, prompt, batch).logits.shape
    torch.Size([2, 2])
    """
    import torch

    _expect_classifier(model)
    ids, others = _checked(batch)
    rows, length = ids.shape
    words = model.get_input_embeddings()(ids)  # type: ignore[operator]
    prompts = _expanded(prompt, words)
    tokens = prompts.shape[1]
    if length + tokens > (most := _positions(model)):
        raise ModelError(
            f"text and prompt must fit the {most} positions of {type(model).__name__}, got {length} and {tokens} "
            "tokens; shorten one"
        )

    def spread(column: torch.Tensor, value: int) -> torch.Tensor:
        inserted = column.new_full((rows, tokens), value)
        return torch.cat([column[:, :1], inserted, column[:, 1:]], dim=1)

    inputs = {"attention_mask": spread(others.pop("attention_mask", torch.ones_like(ids)), 1)}
    if "token_type_ids" in others:
        inputs["token_type_ids"] = spread(others.pop("token_type_ids"), 0)
    if "labels" in others:
        inputs["labels"] = others.pop("labels")
    embeddings = torch.cat([words[:, :1], prompts, words[:, 1:]], dim=1)
    with running(model, batch):
        return model(inputs_embeds=embeddings, **inputs)


def draw_prompt(model: nn.Module, *, tokens: int, seed: int) -> torch.Tensor:
    """Draw a prompt to begin with: the embeddings of random words of the model's vocabulary.

    Parameters
    ----------
    model : torch.nn.Module
        One that `with_prompt` takes.
    tokens : int
    seed : int

    Returns
    -------
    (tokens, width) torch.Tensor
        A copy, without gradients. Words begin better than noise (Lester, Al-Rfou, Constant 2021, section 3.2).

    Raises
    ------
    ModelError
        If the model is none of these.
    TypeError, ValueError
        If `tokens` is not positive, or the seed none that torch takes.
    """
    import torch

    _expect_classifier(model)
    words = model.get_input_embeddings().weight  # type: ignore[operator]
    with seeded(seed), torch.no_grad():
        chosen = torch.randint(len(words), (positive_integer("tokens", tokens),))
        drawn: torch.Tensor = words[chosen.to(words.device)].detach().clone()
    return drawn


class PromptedClassifier:
    """A text classifier that is frozen but for its head, to be used with prompts.

    Parameters
    ----------
    model : torch.nn.Module
        A text classifier that `with_prompt` takes, of two classes at least. What of it requires a gradient is changed.
    train_head : bool
        Whether the head may be trained along with a prompt. A head that was never trained must be: a prompt cannot make
        up for it.

    Attributes
    ----------
    model : torch.nn.Module
    head : list of torch.nn.Parameter
        What of the model may be trained; empty if nothing.

    Raises
    ------
    ModelError
        If the model is none of these.

    Examples
    --------
    >>> import torch, transformers, lola
    >>> sizes = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    >>> model = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, intermediate_size=4))
    >>> classifier = lola.deft.PromptedClassifier(model)
    >>> columns = {"input_ids": torch.tensor([[1, 2, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
    >>> classifier.predict(lola.deft.draw_prompt(model, tokens=2, seed=0), columns).shape
    (1,)
    """

    def __init__(self, model: nn.Module, *, train_head: bool = True) -> None:
        if isinstance(model, Depths):
            raise LolaTypeError("model must be a text classifier of transformers, got Depths; give depths.model")
        _expect_classifier(model)
        n_labels = int(getattr(model.config, "num_labels", 0))
        if n_labels < 2:
            raise ModelError(
                f"a classifier of two classes at least was wanted, got {n_labels}; load it with num_labels"
            )
        self.model = model.requires_grad_(False)
        base = {id(parameter) for parameter in model.base_model.parameters()}  # type: ignore[union-attr]
        head = [parameter for parameter in model.parameters() if id(parameter) not in base]
        self.head: list[nn.Parameter] = head if train_head else []
        for parameter in self.head:
            parameter.requires_grad_(True)

    def named_head(self) -> dict[str, nn.Parameter]:
        """Return the head's parameters by their names in the model."""
        head = {id(parameter) for parameter in self.head}
        return {name: one for name, one in self.model.named_parameters() if id(one) in head}

    def __repr__(self) -> str:
        return f"<PromptedClassifier on {type(self.model).__name__}, head {'trained' if self.head else 'frozen'}>"

    def probabilities(
        self, prompt: torch.Tensor, columns: Mapping[str, torch.Tensor], *, batch_size: int = 64
    ) -> torch.Tensor:
        """Return the probability of each class for each row, without gradients and without dropout.

        Parameters
        ----------
        prompt : (tokens, width) torch.Tensor
        columns : mapping of str to torch.Tensor
            What `with_prompt` takes, and any number of rows; ``labels`` are not looked at. With an ``attention_mask``.
        batch_size : int

        Returns
        -------
        (rows, classes) torch.Tensor

        Raises
        ------
        ModelError, TypeError, ValueError
            As `with_prompt` does.
        """
        import torch

        positive_integer("batch_size", batch_size)
        inputs = {name: column for name, column in columns.items() if name != "labels"}
        _checked(inputs)
        order = torch.argsort(inputs["attention_mask"].sum(dim=1), stable=True)
        with torch.no_grad(), evaluating(self.model):
            parts = [
                with_prompt(
                    self.model, prompt, trim_padding({name: column[some] for name, column in inputs.items()})
                ).logits.softmax(dim=1)
                for some in torch.split(order, batch_size)
            ]
        by_length = torch.cat(parts)
        probabilities = torch.empty_like(by_length)
        probabilities[order] = by_length
        return probabilities

    def predict(self, prompt: torch.Tensor, columns: Mapping[str, torch.Tensor], *, batch_size: int = 64) -> IntArray:
        """Return the likeliest class of each row, (rows,) int64; see `probabilities`."""
        return np.asarray(self.probabilities(prompt, columns, batch_size=batch_size).argmax(dim=1).cpu().numpy())


def _expect_classifier(model: nn.Module) -> None:
    """Refuse what is no text classifier that was tried with a prompt."""
    package, *_, name = type(model).__module__.split(".")
    key = f"{name.removeprefix('modeling_')}.{type(model).__name__}"
    if package != "transformers" or key not in _CLASSIFIERS:
        tried = ", ".join(known.rpartition(".")[2] for known in _CLASSIFIERS)
        raise ModelError(
            f"a text classifier that was tried with a prompt was wanted, one of {tried}; got {type(model).__name__}; "
            "take one of these, or put prompts into every block with lola.models.attach_prompts"
        )


def _checked(batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the tokens of a batch, and its other columns."""
    import torch

    others = dict(batch)
    ids = others.pop("input_ids", None)
    if not isinstance(ids, torch.Tensor) or ids.dim() != 2 or not ids.numel():
        raise LolaValueError(
            "a batch must hold input_ids of shape (rows, length), for a prompt stands among tokens; got "
            f"{sorted(batch)}; give it what the tokenizer returns"
        )
    if unknown := sorted(others.keys() - {*_COLUMNS}):
        raise LolaValueError(
            f"a batch with a prompt may hold {', '.join(_COLUMNS)}, got {', '.join(unknown)} too; leave that out, for "
            "it would not know of the prompt"
        )
    for name in ("attention_mask", "token_type_ids"):
        if name in others and others[name].shape != ids.shape:
            raise LolaValueError(
                f"{name} must be of the shape of input_ids, {tuple(ids.shape)}, got {tuple(others[name].shape)}; take "
                "both from the same call of the tokenizer"
            )
    return ids, others


def _expanded(prompt: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Return a prompt for each row."""
    _expect_alike(prompt, words)
    return prompt.expand(len(words), -1, -1)


def expect_prompts(model: nn.Module, prompts: Iterable[torch.Tensor]) -> None:
    """Refuse prompts that a model could not have, or that are not finite: no round would come to anything."""
    words: Any = model.get_input_embeddings()  # type: ignore[operator]
    for prompt in prompts:
        _expect_alike(prompt, words.weight)
        if not prompt.isfinite().all():
            raise LolaValueError("a prompt must be finite, got a value that is not; draw or train it anew")


def _expect_alike(prompt: torch.Tensor, words: torch.Tensor) -> None:
    """Refuse a prompt of another dtype or width than words, (…, width)."""
    import torch

    if not isinstance(prompt, torch.Tensor) or prompt.dtype != words.dtype:
        kind = getattr(prompt, "dtype", type(prompt).__name__)
        raise LolaTypeError(
            f"a prompt must be a tensor of the model's dtype, {words.dtype}, got {kind}; draw_prompt makes one"
        )
    if prompt.dim() != 2 or not len(prompt) or prompt.shape[1] != words.shape[-1]:
        raise LolaValueError(
            f"a prompt must be of shape (tokens, {words.shape[-1]}), as wide as the model's word embeddings, got "
            f"{tuple(prompt.shape)}; draw_prompt makes one"
        )


def _positions(model: nn.Module) -> int:
    """Return how many tokens a model can count."""
    base: Any = model.base_model
    table = next(module for name, module in base.named_modules() if name.rpartition(".")[2] == "position_embeddings")
    # Some count from behind the index of padding.
    return int(table.num_embeddings) - (0 if table.padding_idx is None else int(table.padding_idx) + 1)
