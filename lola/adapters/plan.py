"""Who computes what in a round: a schedule as the tasks of its devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lola.adapters.messages import TASK_FIELDS, BlockTask, in_words
from lola.adapters.wire import HEADER_BYTES, count, pack, positive, unpack
from lola.files.formats import FormatError, check_keys, table
from lola.problem import segments
from lola.solution import Schedule
from lola.solvers.checks import expect, positive_integer, shown
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    from lola.models.depths import Depths


@dataclass(frozen=True)
class RoundPlan:
    """Who computes which depths, with how much bandwidth, at which version of the model.

    Attributes
    ----------
    version : int
        Goes up by one with every applied round.
    tasks : tuple of BlockTask
        In depth order, one a device: each depth is in one of them.
    latency_s : float
        What the schedule says the round takes.

    Raises
    ------
    ValueError
        If the tasks are not of depths 1, 2, 3 … in their order, each in one of them, or a device has two.
    """

    version: int
    tasks: tuple[BlockTask, ...]
    latency_s: float

    def __post_init__(self) -> None:
        wanted, devices = 1, set()
        for task in self.tasks:
            if task.depths[0] != wanted:
                raise LolaValueError(
                    f"tasks must be in depth order, each depth in one of them: one from depth {wanted} on was wanted, "
                    f"got one for {in_words(task.depths)}; give a task to each depth, depth 1 first"
                )
            if task.device in devices:
                raise LolaValueError(
                    f"tasks must be one a device, got two for device {task.device}; give it one with the range of its "
                    "depths"
                )
            wanted = task.depth + 1
            devices.add(task.device)

    @classmethod
    def from_schedule(
        cls, schedule: Schedule, version: int, devices: ArrayLike | None = None, *, local_steps: int | None = None
    ) -> RoundPlan:
        """Make the plan that a schedule amounts to: a task for each of its segments.

        Parameters
        ----------
        schedule : lola.Schedule
        version : int
            Version of the model that the round starts from.
        devices : (K,) int array_like, optional
            Numbers of the scheduled fleet's devices, where that fleet is only a part of yours.
        local_steps : int, optional
            M: the schedule's if left out.

        Raises
        ------
        TypeError, ValueError
            If `schedule` is none, or has no M and none is given, or a device's blocks are no neighbours.
        """
        expect("schedule", schedule, Schedule)
        if local_steps is None:
            local_steps = schedule.local_steps
        if local_steps is None:
            raise LolaValueError(
                "local_steps must be given for a schedule that does not tell them, got None; give the problem's"
            )
        local_steps = positive_integer("local_steps", local_steps)
        chosen = schedule.device_of_block
        numbers = (chosen if devices is None else np.asarray(devices)[chosen]).tolist()
        tasks = []
        for depths in segments(chosen):
            share = sum(schedule.bandwidth_hz[depths[0] - 1 : depths[-1]].tolist())
            tasks.append(BlockTask(version, numbers[depths[0] - 1], depths, share, local_steps))
        return cls(version, tuple(tasks), schedule.latency_s)

    @property
    def device_of_block(self) -> tuple[int, ...]:
        """The device that is asked for each depth, depth 1 first."""
        return tuple(task.device for task in self.tasks for _ in task.depths)

    def to_bytes(self) -> bytes:
        """Write the plan, to be kept or sent."""
        tasks = [task.to_dict() for task in self.tasks]
        return pack("RoundPlan", {"version": self.version, "tasks": tasks, "latency_s": self.latency_s})

    @classmethod
    def from_bytes(cls, data: bytes, depths: Depths, *, limit: int | None = None) -> RoundPlan:
        """Read a plan for a model: each of its depths in one task, in their order, at the plan's version.

        Parameters
        ----------
        data : bytes
        depths : lola.models.Depths
            The model that is planned for.
        limit : int, optional
            Most bytes to read; by default what a plan for so many depths takes.

        Raises
        ------
        FormatError
            If the bytes are no plan for this model.
        """
        names, n_blocks = ("version", "tasks", "latency_s"), len(depths)
        header, _ = unpack("RoundPlan", data, names, limit, header_bytes=HEADER_BYTES * (1 + n_blocks))
        where, version = "a RoundPlan", count("a RoundPlan", header, "version", 0)
        listed = header["tasks"]
        if not isinstance(listed, list) or not 1 <= len(listed) <= n_blocks:
            raise FormatError(f"{where}: 1 to {n_blocks} tasks were wanted, for as many depths; got {shown(listed)}")
        tasks: list[BlockTask] = []
        for entry in listed:
            first = tasks[-1].depth + 1 if tasks else 1
            task_of = f"{where}'s task for depth {first}"
            check_keys(task_of, table(task_of, entry), TASK_FIELDS)
            task = BlockTask.from_dict(task_of, entry, n_blocks)
            if (task.version, task.depths[0]) != (version, first):
                raise FormatError(
                    f"{task_of}: version {version} and depth {first} were wanted, got {task.version} and "
                    f"{task.depths[0]}"
                )
            if any(task.device == other.device for other in tasks):
                raise FormatError(f"{task_of}: a device without a task was wanted, got {task.device} again")
            tasks.append(task)
        if tasks[-1].depth != n_blocks:
            raise FormatError(
                f"{where}: tasks for {n_blocks} depths were wanted, got them for {tasks[-1].depth}; is it of this "
                "model?"
            )
        return cls(version, tuple(tasks), positive(where, header, "latency_s"))
