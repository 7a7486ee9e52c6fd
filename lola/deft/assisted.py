"""Federated P-tuning with a server's help: devices have prompt encoders, the server the model and one gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lola.adapters.answer import Answer, mean_gradients, shares
from lola.adapters.shards import ShardedData
from lola.adapters.stepping import step
from lola.adapters.tunables import Trained
from lola.deft.prompted import PromptedClassifier
from lola.deft.scheme import FederatedRound, Outcome, Scheme, bits_of
from lola.deft.tuning import loss_with_prompt
from lola.models.errors import ModelError
from lola.models.seeding import seeded
from lola.solvers.checks import positive_integer, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch
    from peft import PromptEncoder
    from torch import nn

    from lola.air.uplink import Uplink

ENCODERS = ("LSTM", "MLP")
_PROMPT = "prompt"


def prompt_encoder(
    model: nn.Module, *, tokens: int, hidden: int | None = None, kind: str = "LSTM", seed: int
) -> PromptEncoder:
    """Make PEFT's prompt encoder for a model: what P-tuning trains in place of the prompt itself.

    Parameters
    ----------
    model : torch.nn.Module
        Whose word embeddings the prompt stands among: it is as wide, and of the same dtype.
    tokens : int
        Of the prompt.
    hidden : int, optional
        Width of the encoder; the model's if left out.
    kind : str
        ``"LSTM"``: two layers in both directions with two linear ones behind; ``"MLP"``: three linear ones.
    seed : int
        Of its weights.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import transformers, lola
    >>> config = transformers.BertConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    >>> model = transformers.BertForSequenceClassification(config)
    >>> encoder = lola.deft.prompt_encoder(model, tokens=2, hidden=8, seed=0)
    >>> sum(parameter.numel() for parameter in encoder.parameters())
    2908
    """
    from peft import PromptEncoder, PromptEncoderConfig

    if kind not in ENCODERS:
        raise LolaValueError(f"kind must be one of {', '.join(ENCODERS)}; got {shown(kind)}")
    words = _words(model)
    width = words.shape[1]
    config = PromptEncoderConfig(
        peft_type="P_TUNING",
        num_virtual_tokens=positive_integer("tokens", tokens),
        token_dim=width,
        num_transformer_submodules=1,
        encoder_reparameterization_type=kind,
        encoder_hidden_size=positive_integer("hidden", width if hidden is None else hidden),
    )
    with seeded(seed):
        encoder = PromptEncoder(config)  # type: ignore[no-untyped-call]
    return encoder.to(words.device, words.dtype)


class AssistedScheme(Scheme):
    """Prompts of devices' encoders: the server runs the model with their mean, and returns one gradient to all.

    In a round, every device that is asked computes its prompt and sends it. The server puts the mean of those that
    arrive, by the rows of the devices' batches, among the tokens of all these batches, goes backward, and returns the
    gradient with respect to the mean. Every device whose prompt was in it goes on backward through its own encoder, and
    steps. The head is the server's, and is stepped with the same backward pass.

    Parameters
    ----------
    classifier : PromptedClassifier
        The server's model, with the head that it trains or without.
    encoders : sequence of K peft.PromptEncoder
        One for each device, such as `prompt_encoder` makes; each of the same prompts' shape, and with weights of its
        own.
    weighted : bool
        Whether a device scales the gradient by what its prompt weighs in the mean, which makes it the gradient of the
        round's loss. Otherwise it takes the gradient as it was returned: then encoders that begin as equals stay so and
        learn as a single one would that is trained on all the data, with the same learning rate.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Wu, Chen and Huang, "Device-Edge Cooperative Fine-Tuning of Foundation Models as a 6G Service", section 5.1. Only
    the prompts are counted as sent, as in section 6.3; the batches are read by the server.
    """

    def __init__(
        self, classifier: PromptedClassifier, encoders: Sequence[PromptEncoder], *, weighted: bool = True
    ) -> None:
        from torch import nn

        if not isinstance(classifier, PromptedClassifier):
            raise LolaTypeError(
                f"classifier must be a lola.deft.PromptedClassifier, got {type(classifier).__name__}; make one"
            )
        self.classifier, self.weighted = classifier, bool(weighted)
        self.encoders = _checked(encoders, _words(classifier.model))
        modules = nn.ModuleDict({"model": classifier.model, "encoders": nn.ModuleList(self.encoders)})
        of_encoders = {name: one for name, one in modules.named_parameters() if name.startswith("encoders.")}
        self._tunables = Trained(modules, of_encoders | classifier.named_head())
        self._prompts: dict[int, torch.Tensor] = {}

    @property
    def tunables(self) -> Trained:
        """All encoders, as ``encoders.K.…``, and the head where that is trained, by its names in the model."""
        return self._tunables

    @property
    def identity(self) -> tuple[object, ...]:
        """The kind and shape of the encoders, and what a device does with the gradient."""
        return repr(self.encoders), self.weighted, len(self.classifier.head)

    def begin(self, data: ShardedData, uplink: Uplink) -> int:
        """Return how many encoders there are, which must be as many as shards."""
        if len(data.shards) != len(self.encoders):
            raise LolaValueError(
                f"data must have a shard for each of {len(self.encoders)} encoders, got {len(data.shards)}; make an "
                "encoder for each device"
            )
        return len(self.encoders)

    def answer(self, work: FederatedRound, device: int) -> Answer:
        """Compute the device's prompt; it weighs as many rows as its batches have. The server knows the loss."""
        self._prompts[device] = _prompt_of(self.encoders[device])
        rows = sum(len(batch["input_ids"]) for batch in work.batches(device))
        return Answer({_PROMPT: self._prompts[device].detach().clone()}, 0.0, rows)

    def apply(self, work: FederatedRound, answers: Mapping[int, Answer], optimizer: torch.optim.Optimizer) -> Outcome:
        """Run the model with the mean prompt, and step the encoders behind it and the head with what returns."""
        import torch

        mean, _ = work.receive([*answers.values()])
        prompt = torch.nn.Parameter(mean[_PROMPT])
        batches = [batch for device in answers for batch in work.batches(device)]

        model, head = self.classifier.model, self.classifier.named_head()
        trained = {_PROMPT: prompt, **head}
        of_server = mean_gradients(model, trained, batches, lambda batch: loss_with_prompt(model, prompt, batch))
        prompts, self._prompts = self._prompts, {}
        if of_server.refusal:
            return Outcome(float("nan"), (), (f"the server: {of_server.refusal}",))
        parts: dict[int, dict[str, nn.Parameter]] = {}
        gradients: dict[int, dict[str, torch.Tensor]] = {}
        for device, share in zip(answers, shares([*answers.values()]), strict=True):
            parts[device] = dict(self.encoders[device].named_parameters())
            returned = of_server.tensors[_PROMPT] * (share if self.weighted else 1.0)
            through = torch.autograd.grad(prompts[device], list(parts[device].values()), returned)
            gradients[device] = dict(zip(parts[device], through, strict=True))
        if head:
            parts[_HEAD] = head
            gradients[_HEAD] = {name: of_server.tensors[name] for name in head}
        spoiled = step(optimizer, parts, gradients)
        used = tuple(device for device in answers if device not in spoiled)
        told = {part: "the head" if part == _HEAD else f"device {part}" for part in spoiled}
        refused = tuple(f"{told[part]}: {why}" for part, why in sorted(spoiled.items()))
        returned_bits = len(answers) * bits_of([of_server.tensors[_PROMPT]])
        loss = of_server.loss if spoiled.keys() < gradients.keys() else float("nan")
        return Outcome(loss, used, refused, delivered_bits=returned_bits)

    def prompt(self) -> torch.Tensor:
        """Return the mean of all devices' prompts, (tokens, width), as it would be sent now, to evaluate with."""
        import torch

        with torch.no_grad():
            return torch.stack([_prompt_of(encoder) for encoder in self.encoders]).mean(dim=0)


# The server's part of a step, beside the devices' numbers.
_HEAD = -1


def _prompt_of(encoder: PromptEncoder) -> torch.Tensor:
    import torch

    places = torch.arange(encoder.total_virtual_tokens, device=encoder.embedding.weight.device)
    prompt: torch.Tensor = encoder(places[None])[0]
    return prompt


def _words(model: nn.Module) -> torch.Tensor:
    """Return the weights of a model's word embeddings."""
    embedding: Any = getattr(model, "get_input_embeddings", lambda: None)()
    if getattr(embedding, "weight", None) is None:
        raise ModelError(f"a model with word embeddings was wanted, got {type(model).__name__}; take one of texts")
    weight: torch.Tensor = embedding.weight
    return weight


def _checked(encoders: Sequence[PromptEncoder], words: torch.Tensor) -> tuple[PromptEncoder, ...]:
    """Refuse what are no encoders of prompts that can be averaged, and put among these words."""
    from peft import PromptEncoder

    for encoder in encoders:
        if not isinstance(encoder, PromptEncoder):
            raise LolaTypeError(
                f"encoders must be of peft's PromptEncoder, got {type(encoder).__name__}; "
                "lola.deft.prompt_encoder makes one"
            )
    if not encoders:
        raise LolaValueError("encoders must hold one for each device, got none; lola.deft.prompt_encoder makes one")
    owned = [id(parameter) for encoder in encoders for parameter in encoder.parameters()]
    if len({*owned}) < len(owned):
        raise LolaValueError(
            "every encoder must have weights of its own, got some that share them; make one for each device, with the "
            "same seed where they shall begin as equals"
        )
    shapes = {(encoder.total_virtual_tokens, encoder.token_dim, encoder.embedding.weight.dtype) for encoder in encoders}
    if len(shapes) > 1 or next(iter(shapes))[1:] != (words.shape[1], words.dtype):
        raise LolaValueError(
            f"prompts must be of one length, and of width {words.shape[1]} and dtype {words.dtype} as the model's "
            f"words are; got (tokens, width, dtype) {sorted(shapes, key=str)}; lola.deft.prompt_encoder makes them so"
        )
    return tuple(encoders)
