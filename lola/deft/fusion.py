"""Prompt transfer and fusion: a target's prompt is its own and, by attention, those of sources that the uplink sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lola.adapters.answer import Answer, mean_gradients
from lola.adapters.shards import ShardedData
from lola.adapters.stepping import step
from lola.adapters.tunables import Trained
from lola.deft.attention import PromptAttention, pooled_prompt, pooled_texts
from lola.deft.prompted import PromptedClassifier, expect_prompts
from lola.deft.scheme import FederatedRound, Outcome, Scheme, bits_of
from lola.deft.tuning import loss_with_prompt
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch

    from lola.air.uplink import Uplink

# A weight that the softmax has rounded to nothing, among others like it, must still be one that shares are made of.
_LEAST_WEIGHT = 1e-30


class FusionScheme(Scheme):
    """Iterations in which sources send prompts, weighted by a target's attention, and the target learns from their sum.

    The devices are the sources: each holds a prompt that was trained on a task of its own and stays as it is. The data
    are the target's, one shard. In an iteration the server broadcasts the weights; the uplink sums what the sources
    send, over the air or digitally; to that the server adds the target's own prompt, and its weight times that again.
    The gradient with regard to the fused prompt is broadcast, and each source returns one number, the product of that
    with its prompt: all that the attention needs, so that nobody sends a prompt twice. Trained are the target's own
    prompt, the attention and the classifier's head.

    Parameters
    ----------
    classifier : PromptedClassifier
        The target's: of its classes, with a head of its own.
    sources : sequence of K (tokens, width) torch.Tensor
        The sources' prompts, of one shape.
    own : (tokens, width) torch.Tensor
        What the target's prompt begins with, such as from `draw_prompt`; copied.
    attention : PromptAttention, optional
        As wide as the prompts; left out, one of the seed 0.

    Attributes
    ----------
    own : torch.nn.Parameter
    attention : PromptAttention

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Wu, Chen and Huang, "Device-Edge Cooperative Fine-Tuning of Foundation Models as a 6G Service", sections 5.3 and
    6.1; Asai, Salehi, Peters, Hajishirzi, *ATTEMPT* (2022), section 3.2, whose weights are by text, and here by task:
    see `PromptAttention`. The softmax is over the target and the sources that answer, so who drops out leaves its
    weight to the others; an iteration in which no source answers is lost. Not counted among what is sent are
    the sources' pooled prompts, once, and a number of each in an iteration. The uplink carries the mean of prompts by
    their weights, which the server multiplies by the weights' sum: what a record's ``uplink_mse`` is of.

    A record's ``numbers`` are ``weight.target``, and ``weight.0`` … of the sources, 0 for who did not answer.
    """

    def __init__(
        self,
        classifier: PromptedClassifier,
        sources: Sequence[torch.Tensor],
        own: torch.Tensor,
        *,
        attention: PromptAttention | None = None,
    ) -> None:
        import torch

        if not isinstance(classifier, PromptedClassifier):
            raise LolaTypeError(f"classifier must be a lola.deft.PromptedClassifier, got {type(classifier).__name__}")
        if not sources or not all(isinstance(prompt, torch.Tensor) for prompt in (*sources, own)):
            raise LolaTypeError("sources must be tensors, one at least, and own another; train_prompt returns one")
        shapes = {(tuple(prompt.shape), prompt.dtype) for prompt in (*sources, own)}
        if len(shapes) > 1 or own.dim() != 2:
            raise LolaValueError(
                f"the prompts of sources and target must have one dtype and one shape, (tokens, width), got "
                f"{sorted(map(str, shapes))}; train them with as many tokens"
            )
        expect_prompts(classifier.model, (*sources, own))
        width = own.shape[1]
        self.attention = PromptAttention(width, dtype=own.dtype) if attention is None else attention
        if self.attention.width != width:
            raise LolaValueError(f"the attention must be as wide as the prompts, {width}, got {self.attention.width}")
        self.attention.network.to(own.device)
        self.classifier, self.model = classifier, classifier.model
        self.sources = [prompt.detach().clone() for prompt in sources]
        self.own = torch.nn.Parameter(own.detach().clone())
        of_attention = {f"attention.{name}": one for name, one in self.attention.network.named_parameters()}
        self._beside = {"own": self.own, **of_attention}
        self._tunables = Trained(self.model, self._beside | classifier.named_head())
        self._task: torch.Tensor | None = None

    def __repr__(self) -> str:
        return f"<FusionScheme of {len(self.sources)} sources, prompts of shape {tuple(self.own.shape)}>"

    @property
    def tunables(self) -> Trained:
        """The target's own prompt, the attention and the head where that is trained, by its names in the model."""
        return self._tunables

    @property
    def identity(self) -> tuple[object, ...]:
        """The sources' prompts, and what the attention is."""
        return self.sources, tuple(self.own.shape), self.attention.temperature, repr(self.attention.network)

    def begin(self, data: ShardedData, uplink: Uplink) -> int:
        """Return how many sources there are, having looked at the target's texts.

        Raises
        ------
        ValueError
            If there is not one shard, the target's.
        """
        import torch

        if len(data.shards) != 1:
            raise LolaValueError(
                f"fusion learns from the target's data: one shard was wanted, got {len(data.shards)}; sources need none"
            )
        if "attention_mask" not in data.columns:
            raise LolaValueError(
                f"texts with an attention_mask were wanted, got {', '.join(data.columns)}; take all that the tokenizer "
                "returns"
            )
        chosen = torch.from_numpy(data.shards[0])
        texts = {name: data.columns[name][chosen] for name in ("input_ids", "attention_mask")}
        self._task = pooled_texts(self.model, texts)
        return len(self.sources)

    def asked(self, work: FederatedRound) -> Sequence[int]:
        """Ask all that take part, and say how much each source weighs."""
        work.noted["weights"] = self.weights(range(len(self.sources))).tolist()
        return super().asked(work)

    def answer(self, work: FederatedRound, device: int) -> Answer:
        """Let a source send its prompt with its weight."""
        return Answer({"prompt": self.sources[device]}, 0.0, max(work.noted["weights"][device], _LEAST_WEIGHT))

    def apply(self, work: FederatedRound, answers: Mapping[int, Answer], optimizer: torch.optim.Optimizer) -> Outcome:
        """Fuse what arrives with the target's own prompt, and step all that is trained, or nothing of it."""
        weights = self.weights([*answers])
        numbers = self._numbers([*answers], weights)
        gradients, loss = self.gradients(work, answers, weights)
        delivered_bits = self._weights_bits(work) + len(answers) * bits_of([self.own])
        if spoiled := step(optimizer, {"": self._tunables.named}, {"": gradients}):
            return Outcome(float("nan"), (), (f"the iteration: {spoiled['']}",), numbers, delivered_bits)
        return Outcome(loss, tuple(answers), (), numbers, delivered_bits)

    def without_answers(self, work: FederatedRound) -> Outcome:
        """Lose the iteration."""
        return Outcome(float("nan"), (), (), self._numbers([], self.weights([])), self._weights_bits(work))

    def gradients(
        self, work: FederatedRound, answers: Mapping[int, Answer], weights: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], float]:
        """Receive the answers, and return the gradient of all that is trained by name, and the loss.

        `weights` are those of the sources that answered, from the method of that name.

        Where nothing is lost on the way they are what autograd gives for the whole sum; elsewhere, they are taken at
        the prompt that arrived.
        """
        import torch

        mean, _ = work.receive([*answers.values()])
        own = self.own * (1 + weights[-1])
        arrived = mean["prompt"] * weights[:-1].detach().sum()
        fused = torch.nn.Parameter(arrived + own.detach())
        of_server = mean_gradients(
            self.model,
            {"fused": fused, **self.classifier.named_head()},
            work.batches(0),
            lambda batch: loss_with_prompt(self.model, fused, batch),
        )
        of_fused, of_head = of_server.tensors.pop("fused"), of_server.tensors
        # What each source computes by itself, from the one gradient that is broadcast.
        products = [(of_fused * self.sources[source]).sum() for source in answers]
        of_weights = torch.stack([*products, torch.zeros_like(products[0])])
        beside = self._beside
        of_beside = torch.autograd.grad([weights, own], [*beside.values()], [of_weights, of_fused])
        return {**dict(zip(beside, of_beside, strict=True)), **of_head}, of_server.loss

    def weights(self, sources: Sequence[int]) -> torch.Tensor:
        """Return the attention's weights of some sources and, last, of the target, (n + 1,); they sum to one."""
        import torch

        if self._task is None:
            raise LolaValueError("the weights follow from the target's texts: give the scheme to a session first")
        pooled = [pooled_prompt(self.sources[source]) for source in sources]
        return self.attention.weights(self._task, torch.stack([*pooled, pooled_prompt(self.own)]))

    def prompt(self) -> torch.Tensor:
        """Return the fused prompt of all sources, as a perfect uplink would give it, without gradients.

        It serves the target from then on without any source.
        """
        import torch

        with torch.no_grad():
            *of_sources, of_own = self.weights(range(len(self.sources)))
            fused: torch.Tensor = self.own * (1 + of_own)
            for weight, prompt in zip(of_sources, self.sources, strict=True):
                fused = fused + weight * prompt
        return fused

    def _weights_bits(self, work: FederatedRound) -> float:
        """Count the weight that each source is told; the gradient follows to those that send, as large as a prompt."""
        return len(work.asked) * bits_of([self.own[0, 0]])

    def _numbers(self, sources: Sequence[int], weights: torch.Tensor) -> dict[str, float]:
        """Return who counts how much where these sources answer."""
        *of_sources, of_own = weights.tolist()
        heard = dict(zip(sources, of_sources, strict=True))
        named = {f"weight.{source}": heard.get(source, 0.0) for source in range(len(self.sources))}
        return {"weight.target": of_own, **named}
