"""What travels in a round of device-edge cooperative fine-tuning, whatever carries it.

Algorithm 1 of the LoLa-DEFT paper. The server makes a `RoundPlan` from a schedule and a `ModelUpdate` of what its model
has learnt; each device gets the update and its `BlockTask`, and answers with a `BlockGradient`; the server steps its
optimizer with `apply_round` (`lola.adapters.apply`). How they travel is the caller's business: each is written to bytes
(``to_bytes``) and read from those of strangers (``from_bytes``); `lola.adapters.wire` has the format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lola.adapters.wire import (
    HEADER_BYTES,
    count,
    layouts_of,
    pack,
    positive,
    read_tensors,
    room_for,
    unlike,
    unpack,
)
from lola.files.formats import FormatError, check_keys, number, table
from lola.solution import Schedule
from lola.solvers.checks import expect, positive_integer, shown
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch

    from lola.models.depths import Depths


@dataclass(frozen=True)
class BlockTask:
    """What one device is asked to do in a round.

    Attributes
    ----------
    version : int
        Version of the model that the gradient must be taken at.
    device : int
    depth : int
        1 is the block nearest the output.
    bandwidth_hz : float
        The device's share of the uplink.
    local_steps : int
        M: batches to take the mean gradient over.
    """

    version: int
    device: int
    depth: int
    bandwidth_hz: float
    local_steps: int = 1

    def to_bytes(self) -> bytes:
        """Write the task, to be sent."""
        return pack("BlockTask", asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, depths: Depths, *, limit: int | None = None) -> BlockTask:
        """Read a task for a model.

        Parameters
        ----------
        data : bytes
        depths : lola.models.Depths
            The model that the task must be possible with.
        limit : int, optional
            Most bytes to read; by default what a task takes.

        Raises
        ------
        FormatError
            If the bytes are no task for this model.
        """
        header, _ = unpack("BlockTask", data, _names(cls), limit)
        return cls._checked("a BlockTask", header, len(depths))

    @classmethod
    def _checked(cls, where: str, entry: Mapping[str, Any], n_blocks: int) -> BlockTask:
        return cls(
            version=count(where, entry, "version", 0),
            device=count(where, entry, "device", 0),
            depth=count(where, entry, "depth", 1, n_blocks),
            bandwidth_hz=positive(where, entry, "bandwidth_hz"),
            local_steps=count(where, entry, "local_steps", 1),
        )


@dataclass(frozen=True)
class RoundPlan:
    """Who computes which depth, with how much bandwidth, at which version of the model.

    Attributes
    ----------
    version : int
        Goes up by one with every applied round.
    tasks : tuple of BlockTask
        In depth order.
    latency_s : float
        What the schedule says the round takes.
    """

    version: int
    tasks: tuple[BlockTask, ...]
    latency_s: float

    @classmethod
    def from_schedule(
        cls, schedule: Schedule, version: int, devices: ArrayLike | None = None, *, local_steps: int | None = None
    ) -> RoundPlan:
        """Make the plan that a schedule amounts to.

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
            If `schedule` is none, or has no M and none is given.
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
        pairs = zip(numbers, schedule.bandwidth_hz.tolist(), strict=True)
        tasks = tuple(BlockTask(version, device, i + 1, share, local_steps) for i, (device, share) in enumerate(pairs))
        return cls(version, tasks, schedule.latency_s)

    def to_bytes(self) -> bytes:
        """Write the plan, to be kept or sent."""
        return pack("RoundPlan", asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, depths: Depths, *, limit: int | None = None) -> RoundPlan:
        """Read a plan for a model: a task for each of its depths, in their order, at the plan's version.

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
        header, _ = unpack("RoundPlan", data, _names(cls), limit, header_bytes=HEADER_BYTES * (1 + len(depths)))
        where, version = "a RoundPlan", count("a RoundPlan", header, "version", 0)
        listed = header["tasks"]
        if not isinstance(listed, list) or len(listed) != len(depths):
            raise FormatError(f"{where}: {len(depths)} tasks were wanted, one a depth; got {shown(listed)}")
        tasks = []
        for depth, entry in enumerate(listed, start=1):
            task_of = f"{where}'s task for depth {depth}"
            check_keys(task_of, table(task_of, entry), _names(BlockTask))
            task = BlockTask._checked(task_of, entry, len(depths))
            if (task.version, task.depth) != (version, depth):
                raise FormatError(
                    f"{task_of}: version {version} and depth {depth} were wanted, got {task.version} and {task.depth}"
                )
            tasks.append(task)
        return cls(version, tuple(tasks), positive(where, header, "latency_s"))


@dataclass(frozen=True, eq=False)
class ModelUpdate:
    """The trained parameters of a version: with the frozen ones, what a device needs to compute at that version.

    Attributes
    ----------
    version : int
    parameters : dict of str to torch.Tensor
        Of all depths, by their names in the model; on the CPU.
    alpha : float
        LoRA's, which no shape tells: with another, gradients would be of another model.
    """

    version: int
    parameters: dict[str, torch.Tensor]
    alpha: float

    @classmethod
    def from_depths(cls, depths: Depths, version: int) -> ModelUpdate:
        """Copy what a model has learnt by a version."""
        named = depths.all_named_parameters()
        with depths.lock:
            parameters = {name: weight.detach().to("cpu", copy=True) for name, weight in named.items()}
        return cls(version, parameters, depths.alpha)

    def apply_to(self, depths: Depths) -> None:
        """Put the parameters into a model of the same kind, all of them or none.

        Raises
        ------
        ValueError
            If they are not this model's, or have a value that is not finite. Then nothing is changed.
        """
        import torch

        if self.alpha != depths.alpha:
            raise LolaValueError(
                f"the update must be of LoRA with the model's alpha, {depths.alpha:g}, got {self.alpha:g}; adapt the "
                "model with the server's"
            )
        wanted = depths.all_named_parameters()
        if self.parameters.keys() != wanted.keys():
            name = min(self.parameters.keys() ^ wanted.keys())
            raise LolaValueError(
                f"the update must hold the model's {len(wanted)} trained parameters and no others, got "
                f"{len(self.parameters)}; {name} is {'missing' if name in wanted else 'not in the model'}. Adapt the "
                "same model with the same rank and targets"
            )
        for name, weight in wanted.items():
            why = unlike(self.parameters[name], weight)
            if why:
                raise LolaValueError(f"the update does not fit the model: {name} {why}")
        with depths.lock, torch.no_grad():
            for name, weight in wanted.items():
                weight.copy_(self.parameters[name])

    def to_bytes(self) -> bytes:
        """Write the update, to be sent."""
        return pack("ModelUpdate", {"version": self.version, "alpha": self.alpha}, self.parameters)

    @classmethod
    def from_bytes(cls, data: bytes, depths: Depths, *, limit: int | None = None) -> ModelUpdate:
        """Read an update of a model; `apply_to` looks whether its values are finite, and its alpha the model's.

        Parameters
        ----------
        data : bytes
        depths : lola.models.Depths
            The model whose names, shapes and types the parameters must have. It is not changed.
        limit : int, optional
            Most bytes to read; by default what the model's parameters take.

        Raises
        ------
        FormatError
            If the bytes are no update of this model.
        """
        layouts = layouts_of(depths.all_named_parameters())
        header, packed = unpack("ModelUpdate", data, ("version", "alpha"), limit, tensor_bytes=room_for(layouts))
        version, alpha = count("a ModelUpdate", header, "version", 0), positive("a ModelUpdate", header, "alpha")
        return cls(version, read_tensors(packed, layouts), alpha)


@dataclass(frozen=True, eq=False)
class BlockGradient:
    """What one device answers.

    Attributes
    ----------
    version, device, depth : int
        Of the task.
    gradients : dict of str to torch.Tensor
        Mean over the local batches, by the parameter's name in the model; on the CPU.
    loss : float
        Mean over the local batches.
    """

    version: int
    device: int
    depth: int
    gradients: dict[str, torch.Tensor]
    loss: float

    def to_bytes(self) -> bytes:
        """Write the gradient, to be sent. A loss that is not finite comes back as NaN."""
        loss = self.loss if math.isfinite(self.loss) else None
        numbers = {"version": self.version, "device": self.device, "depth": self.depth, "loss": loss}
        return pack("BlockGradient", numbers, self.gradients)

    @classmethod
    def from_bytes(cls, data: bytes, depths: Depths, *, limit: int | None = None) -> BlockGradient:
        """Read a gradient of any one block of a model; `apply_round` looks whether it was asked for, and is finite.

        Parameters
        ----------
        data : bytes
        depths : lola.models.Depths
            The model whose names, shapes and types the gradients must have, those of the depth they say they are of.
        limit : int, optional
            Most bytes to read; by default what the largest block's gradients take.

        Raises
        ------
        FormatError
            If the bytes are no gradient of this model.
        """
        layouts = {depth: layouts_of(depths.named_parameters(depth)) for depth in range(1, len(depths) + 1)}
        room = max(room_for(layout) for layout in layouts.values())
        names = ("version", "device", "depth", "loss")
        header, packed = unpack("BlockGradient", data, names, limit, tensor_bytes=room)
        where = "a BlockGradient"
        version, device = (count(where, header, name, 0) for name in ("version", "device"))
        depth = count(where, header, "depth", 1, len(depths))
        loss = math.nan if header["loss"] is None else number(f"{where}'s loss", header["loss"])
        return cls(version, device, depth, read_tensors(packed, layouts[depth]), loss)


def _names(kind: type[BlockTask] | type[RoundPlan]) -> list[str]:
    return [field.name for field in fields(kind)]
