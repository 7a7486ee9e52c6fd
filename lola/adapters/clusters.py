"""What a cluster computes in a round, and how the server averages over clusters."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lola.adapters.chain import ModelChain
from lola.adapters.passage import ChainPass, ClientLostError
from lola.air.uplink import Reception, Uplink
from lola.models.depths import Batch, Loss
from lola.solvers.checks import IntArray
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]


class PlannedChain(Protocol):
    """Who has which module of a cluster, and how long a batch takes through it; `ClusterPlan` is one."""

    @property
    def client_of_module(self) -> IntArray | Sequence[int]:
        """The client of each module, the embedding first: see `ModelChain`."""
        ...

    @property
    def latency_s(self) -> float:
        """Seconds of a batch, forward and backward."""
        ...

    @property
    def lower_bound_s(self) -> float:
        """What no chain could take less than."""
        ...


@dataclass(frozen=True)
class ClusterPlan:
    """A chain that is planned for a cluster.

    Parameters
    ----------
    client_of_module : tuple of int
        The client of each module, the embedding first: see `ModelChain`.
    latency_s : float
        Seconds of a batch, forward and backward.
    lower_bound_s : float
        What no chain could take less than, if that is known.
    """

    client_of_module: tuple[int, ...]
    latency_s: float = 0.0
    lower_bound_s: float = math.nan


@dataclass(frozen=True, eq=False)
class ClusterAnswer:
    """What the clients of a cluster upload at the end of a round.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
        The mean gradient of each tunable parameter, or its value after the cluster's own steps.
    loss : float
        Mean over the batches, of gradients by their rows.
    rows : int
        How much it weighs in an average.
    """

    tensors: Tensors
    loss: float
    rows: int

    @property
    def refusal(self) -> str:
        """Why it cannot be used, or nothing."""
        if not math.isfinite(self.loss):
            return "the loss is not finite"
        return next((f"{name} is not finite" for name, value in self.tensors.items() if not value.isfinite().all()), "")


class Cluster:
    """A chain at work on the batches of its first client.

    Parameters
    ----------
    chain : ModelChain
    loss : callable
        ``loss(model, batch)`` gives a scalar.
    lost : collection of int
        Clients that drop out in the middle of the last batch of the round.

    Attributes
    ----------
    passes : list of ChainPass
        Of every batch, that of a lost one up to where it was lost.
    """

    def __init__(self, chain: ModelChain, loss: Loss, lost: Collection[int]) -> None:
        self.chain, self.loss, self.lost = chain, loss, lost
        self.passes: list[ChainPass] = []

    def mean_gradients(self, batches: Iterable[Batch], local_steps: int) -> ClusterAnswer:
        """Average the gradients of so many batches at fixed parameters, by their rows; weighs as many as these have.

        Raises
        ------
        ClientLostError
            If a client is lost: what the others had of its cluster's batches is of no use then.
        """
        tunables = self.chain.depths.all_named_parameters()
        self.chain.depths.model.zero_grad(set_to_none=True)
        dealt = list(self._dealt(batches, local_steps))
        rows_of = [len(next(iter(batch.values()))) for batch, _ in dealt]
        total, rows = 0.0, sum(rows_of)
        try:
            for (batch, lost), own in zip(dealt, rows_of, strict=True):
                total += self._backward(batch, lost, rows / max(own, 1))  # an empty one's loss is refused if it is NaN
            return ClusterAnswer({name: _gradient(name, one) for name, one in tunables.items()}, total, rows)
        finally:
            self.chain.depths.model.zero_grad(set_to_none=True)

    def step_tunables(
        self, batches: Iterable[Batch], local_steps: int, optimizer: torch.optim.Optimizer, rows: int
    ) -> ClusterAnswer:
        """Step the tunable parameters with each of so many batches, and take them back afterwards; weighs `rows`.

        The optimizer begins without any state and is left without any, its settings as they were.

        Raises
        ------
        ClientLostError
            If a client is lost, and with it what its modules had learnt in the round.
        """
        tunables, total = self.chain.depths.all_named_parameters(), 0.0
        with _taken_back(optimizer, list(tunables.values())):
            for batch, lost in self._dealt(batches, local_steps):
                optimizer.zero_grad(set_to_none=True)
                total += self._backward(batch, lost, 1) / local_steps
                optimizer.step()
            return ClusterAnswer({name: one.detach().clone() for name, one in tunables.items()}, total, rows)

    def _dealt(self, batches: Iterable[Batch], local_steps: int) -> Iterator[tuple[Batch, Collection[int]]]:
        """Give each batch with those who are lost in the middle of it."""
        for number, batch in zip(range(1, local_steps + 1), batches, strict=False):
            yield batch, self.lost if number == local_steps else ()

    def _backward(self, batch: Batch, lost: Collection[int], parts: float) -> float:
        """Add a part of a batch's gradients, and return that part of its loss."""
        try:
            passed = self.chain.backward(batch, loss=lambda *of: self.loss(*of) / parts, lost=lost)
        except ClientLostError as error:
            self.passes.append(error.passed)
            raise
        self.passes.append(passed)
        return passed.loss


def average(answers: Sequence[ClusterAnswer], uplink: Uplink, rng: np.random.Generator) -> tuple[Reception, float]:
    """Receive the mean of what clusters answered, and return that of their losses too, by the rows that each weighs."""
    weights = [answer.rows / sum(other.rows for other in answers) for answer in answers]
    received = uplink.receive([answer.tensors for answer in answers], weights, rng)
    return received, sum(answer.loss * weight for answer, weight in zip(answers, weights, strict=True))


def _gradient(name: str, parameter: torch.nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        raise LolaValueError(f"the loss does not depend on {name}, which is trained; is it the model's loss?")
    return parameter.grad.detach().clone()


@contextmanager
def _taken_back(optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Leave parameters and the optimizer's settings as they were, and the optimizer without any state."""
    import torch

    weights = [parameter.detach().clone() for parameter in parameters]
    settings: list[dict[str, Any]] = [
        {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
    optimizer.state.clear()
    try:
        yield
    finally:
        optimizer.zero_grad(set_to_none=True)
        optimizer.state.clear()
        for group, kept in zip(optimizer.param_groups, settings, strict=True):
            group.update(kept)
        with torch.no_grad():
            for parameter, weight in zip(parameters, weights, strict=True):
                parameter.copy_(weight)
