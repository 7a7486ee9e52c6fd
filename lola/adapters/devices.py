"""Who answers a plan: the seam between a session and its devices, and devices simulated on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from lola.adapters.apply import Refusal
from lola.adapters.compute import block_gradient
from lola.adapters.messages import BlockGradient
from lola.adapters.plan import RoundPlan
from lola.adapters.setting import Purpose, Setting
from lola.adapters.shards import ShardedData
from lola.fleet import Fleet
from lola.models.depths import Depths, Loss, loss_of_output
from lola.models.seeding import seeded
from lola.problem import Problem
from lola.solvers.checks import IntArray
from lola.solvers.errors import LolaValueError


class Devices(Protocol):
    """The devices of a session, wherever they are."""

    def answers(self, plan: RoundPlan) -> Iterable[BlockGradient | Refusal | None]:
        """Have the tasks of a plan done, and give what came back, in any order.

        Whoever does not answer is not there, None, or a `Refusal` that says why. Nothing needs to be checked: the
        session refuses what does not fit, and says why. Devices elsewhere need their task and
        ``ModelUpdate.from_depths(depths, plan.version)``.
        """
        ...


@dataclass(frozen=True, eq=False)
class Roster:
    """Who is there at a moment.

    Attributes
    ----------
    serial : int
        Goes up whenever somebody comes, goes, or says something new.
    numbers : (K,) int64 array
        Of the devices, ascending. A device keeps its number for as long as the run lasts.
    fleet : Fleet
        What they said of themselves, in the order of the numbers.
    """

    serial: int
    numbers: IntArray
    fleet: Fleet

    def fleet_of(self, numbers: IntArray) -> Fleet:
        """Return the fleet of some of them."""
        return self.fleet.with_channel(self.fleet.spectral_efficiency, np.searchsorted(self.numbers, numbers))


@runtime_checkable
class LiveDevices(Devices, Protocol):
    """Devices that come and go: a session schedules each round for those that are there, as they last said they are."""

    def roster(self, problem: Problem, after: int) -> Roster:
        """Say who is there for a round of a problem, whose own fleet is not looked at.

        Waits until that is somebody, and differs from the roster whose serial is `after` (-1: any will do).
        """
        ...


class SimulatedDevices:
    """Devices simulated one after the other on this machine, with the session's own model.

    A device that lacks the memory for its blocks never answers. What else is random about one follows from the seed,
    the round and the device alone.

    Parameters
    ----------
    depths : lola.models.Depths
        The session's.
    problem : Problem
        What blocks need, and what memory each device has.
    data : ShardedData
        One shard a device.
    setting : Setting
        Its seed, and the chance that a device never answers.
    loss : callable, optional
        See `block_gradient`.

    Raises
    ------
    ValueError
        If there is not one shard a device.
    """

    def __init__(
        self, depths: Depths, problem: Problem, data: ShardedData, setting: Setting, *, loss: Loss = loss_of_output
    ) -> None:
        if len(data.shards) != problem.n_devices:
            raise LolaValueError(
                f"data must have a shard for each of {problem.n_devices} devices, got {len(data.shards)}"
            )
        self.depths, self.problem, self.data, self.setting, self.loss = depths, problem, data, setting, loss

    def answers(self, plan: RoundPlan) -> Iterator[BlockGradient]:
        """Compute the gradients of those devices that answer."""
        where = self.depths.all_parameters()[0].device.type
        needed = self.problem.memory_bytes_of(np.array(plan.device_of_block))
        offered = self.problem.fleet.usable_memory_bytes
        silent = self.setting.failing(plan.version, self.problem.n_devices)
        for task in plan.tasks:
            if silent[task.device] or offered[task.device] < needed[task.depth - 1]:
                continue
            batches = self.data.batches(task.device, plan.version)
            # Dropout too must not depend on what else this process has computed, nor change what it computes later.
            rng = self.setting.rng(plan.version, Purpose.DROPOUT, task.device)
            with seeded(int(rng.integers(2**63)), where):
                answer = block_gradient(self.depths, task, batches, loss=self.loss)
            yield answer
