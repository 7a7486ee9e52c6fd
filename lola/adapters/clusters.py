"""What a cluster computes in a round."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lola.adapters.answer import Answer, accumulate_gradients
from lola.adapters.chain import ModelChain
from lola.adapters.passage import ChainPass, ClientLostError
from lola.models.depths import Batch, Loss
from lola.solvers.checks import IntArray

if TYPE_CHECKING:
    import torch


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

    def mean_gradients(self, batches: Iterable[Batch], local_steps: int) -> Answer:
        """Average the gradients of so many batches at fixed parameters, by their rows; weighs as many as these have.

        Raises
        ------
        ClientLostError
            If a client is lost: what the others had of its cluster's batches is of no use then.
        """
        tunables = self.chain.depths.all_named_parameters()
        dealt = list(self._dealt(batches, local_steps))
        return accumulate_gradients(
            self.chain.depths.model,
            tunables,
            [batch for batch, _ in dealt],
            lambda number, parts: self._backward(*dealt[number], parts),
        )

    def step_tunables(
        self, batches: Iterable[Batch], local_steps: int, optimizer: torch.optim.Optimizer, rows: int
    ) -> Answer:
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
            return Answer({name: one.detach().clone() for name, one in tunables.items()}, total, rows)

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
