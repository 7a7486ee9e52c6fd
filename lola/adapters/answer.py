"""What is uploaded at the end of a round, how it is computed from batches, and how a server averages it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lola.air.uplink import Reception, Uplink, received
from lola.models.depths import Batch
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Answer:
    """What the clients of a cluster, or a federated device, upload at the end of a round.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
        The mean gradient of each tunable parameter, its value after the cluster's own steps, or what else its scheme
        sums up.
    loss : float
        Mean over the batches, of gradients by their rows.
    weight : float
        How much it weighs in an average: rows of data, for example. Positive.
    """

    tensors: Tensors
    loss: float
    weight: float

    @property
    def refusal(self) -> str:
        """Why it cannot be used, or nothing."""
        if not math.isfinite(self.loss):
            return "the loss is not finite"
        if why := not_finite(self.tensors):
            return why
        return "" if 0 < self.weight < math.inf else f"its weight is not positive and finite, but {self.weight}"


def not_finite(tensors: Tensors) -> str:
    """Say which of several tensors is not finite, or nothing."""
    return next((f"{name} is not finite" for name, value in tensors.items() if not value.isfinite().all()), "")


def mean_gradients(
    model: torch.nn.Module,
    tunables: Mapping[str, torch.nn.Parameter],
    batches: Sequence[Batch],
    loss: Callable[[Batch], torch.Tensor],
) -> Answer:
    """Average gradients over batches at fixed parameters, by their rows, of which the answer weighs as many.

    Parameters
    ----------
    model : torch.nn.Module
        Whose gradients are cleared, before and after.
    tunables : mapping of str to torch.nn.Parameter
        Whose gradients are answered.
    batches : sequence of mapping of str to torch.Tensor
    loss : callable
        ``loss(batch)`` gives a scalar.
    """

    def add(number: int, parts: float) -> float:
        value = loss(batches[number]) / parts
        if not value.requires_grad:
            raise LolaValueError("the loss depends on nothing that is trained; is it the model's loss?")
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    return accumulate_gradients(model, tunables, batches, add)


def accumulate_gradients(
    model: torch.nn.Module,
    tunables: Mapping[str, torch.nn.Parameter],
    batches: Sequence[Batch],
    add: Callable[[int, float], float],
) -> Answer:
    """Average over batches: ``add(number, parts)`` adds one of so many parts of one's gradients, returns its loss's."""
    model.zero_grad(set_to_none=True)
    rows_of = [len(next(iter(batch.values()))) for batch in batches]
    total, rows = 0.0, sum(rows_of)
    try:
        for number, own in enumerate(rows_of):
            total += add(number, rows / max(own, 1))  # an empty one's loss is refused if it is NaN
        return Answer({name: _gradient(name, one) for name, one in tunables.items()}, total, rows)
    finally:
        model.zero_grad(set_to_none=True)


def shares(answers: Sequence[Answer]) -> list[float]:
    """Return how much each of several answers weighs in their mean."""
    total = sum(answer.weight for answer in answers)
    return [answer.weight / total for answer in answers]


def average(answers: Sequence[Answer], uplink: Uplink, rng: np.random.Generator) -> tuple[Reception, float]:
    """Receive the mean of what was answered, and return that of the losses too, by what each answer weighs."""
    weights = shares(answers)
    reception = received(uplink, [answer.tensors for answer in answers], weights, rng)
    return reception, sum(answer.loss * weight for answer, weight in zip(answers, weights, strict=True))


def _gradient(name: str, parameter: torch.nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        raise LolaValueError(f"the loss does not depend on {name}, which is trained; is it the model's loss?")
    return parameter.grad.detach().clone()
