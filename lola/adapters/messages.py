"""What travels in a round of device-edge cooperative fine-tuning, whatever carries it.

Algorithm 1 of the LoLa-DEFT paper. The server makes a `RoundPlan` (`lola.adapters.plan`) from a schedule and a
`ModelUpdate` of what its model has learnt; each device gets the update and its `BlockTask`, and answers with a
`BlockGradient`; the server steps its optimizer with `apply_round` (`lola.adapters.apply`). How they travel is the
caller's business: each is written to bytes (``to_bytes``) and read from those of strangers (``from_bytes``);
`lola.adapters.wire` has the format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

from lola.adapters.wire import count, layouts_of, pack, positive, read_tensors, room_for, unlike, unpack
from lola.files.formats import FormatError, number
from lola.solvers.checks import shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch

    from lola.models.depths import Depths


TASK_FIELDS = ("version", "device", "first_depth", "last_depth", "bandwidth_hz", "local_steps")


@dataclass(frozen=True, init=False)
class BlockTask:
    """What one device is asked to do in a round.

    Parameters
    ----------
    version : int
        Version of the model that the gradient must be taken at.
    device : int
    depths : range or int
        The consecutive depths that the device trains, such as ``range(1, 4)``, or the one; kept as a range. 1 is the
        block nearest the output.
    bandwidth_hz : float
        The device's share of the uplink.
    local_steps : int
        M: batches to take the mean gradient over.

    Raises
    ------
    TypeError, ValueError
        If `depths` is no depth and no range of neighbours; `block_gradient` looks whether the model has them.

    Examples
    --------
    >>> from lola.adapters import BlockTask
    >>> task = BlockTask(version=0, device=4, depths=range(2, 5), bandwidth_hz=1e6)
    >>> task.depth, BlockTask(0, 4, 3, 1e6).depths
    (4, range(3, 4))
    """

    version: int
    device: int
    depths: range
    bandwidth_hz: float
    local_steps: int

    def __init__(
        self, version: int, device: int, depths: range | int, bandwidth_hz: float, local_steps: int = 1
    ) -> None:
        depths = _ranged(depths)
        if not isinstance(depths, range):
            raise LolaTypeError(
                f"depths must be a depth or a range of them, got {shown(depths)}; give {_suggested(depths)}"
            )
        if not depths or depths.step != 1 or depths.start < 1:
            raise LolaValueError(f"depths must be neighbours from 1 on, such as range(1, 4); got {depths}")
        values = {"version": version, "device": device, "depths": depths, "bandwidth_hz": bandwidth_hz}
        for name, value in {**values, "local_steps": local_steps}.items():
            object.__setattr__(self, name, value)

    @property
    def depth(self) -> int:
        """The deepest of the depths: how far backward runs."""
        return self.depths[-1]

    def to_bytes(self) -> bytes:
        """Write the task, to be sent."""
        return pack("BlockTask", self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the task as JSON can keep it."""
        rest = {name: getattr(self, name) for name in ("version", "device", "bandwidth_hz", "local_steps")}
        return {**rest, **_ends(self.depths)}

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
        header, _ = unpack("BlockTask", data, TASK_FIELDS, limit)
        return cls.from_dict("a BlockTask", header, len(depths))

    @classmethod
    def from_dict(cls, where: str, entry: Mapping[str, Any], n_blocks: int) -> BlockTask:
        """Make the task of what `to_dict` returned, or say what of it is not possible with so many blocks."""
        return cls(
            version=count(where, entry, "version", 0),
            device=count(where, entry, "device", 0),
            depths=_between(where, entry, n_blocks),
            bandwidth_hz=positive(where, entry, "bandwidth_hz"),
            local_steps=count(where, entry, "local_steps", 1),
        )


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


@dataclass(frozen=True, eq=False, init=False)
class BlockGradient:
    """What one device answers.

    Parameters
    ----------
    version, device, depths
        Of the task. Not checked: answers come from others, and `apply_round` looks at them.
    gradients : dict of str to torch.Tensor
        Mean over the local batches, by the parameter's name in the model, depth by depth; on the CPU.
    loss : float
        Mean over the local batches.
    """

    version: int
    device: int
    depths: range
    gradients: dict[str, torch.Tensor]
    loss: float

    def __init__(
        self, version: int, device: int, depths: range | int, gradients: dict[str, torch.Tensor], loss: float
    ) -> None:
        values = {"version": version, "device": device, "depths": _ranged(depths), "gradients": gradients}
        for name, value in {**values, "loss": loss}.items():
            object.__setattr__(self, name, value)

    @property
    def depth(self) -> int:
        """The deepest of the depths."""
        return self.depths[-1]

    def to_bytes(self) -> bytes:
        """Write the gradient, to be sent. A loss that is not finite comes back as NaN."""
        loss = self.loss if math.isfinite(self.loss) else None
        numbers = {"version": self.version, "device": self.device, **_ends(self.depths), "loss": loss}
        return pack("BlockGradient", numbers, self.gradients)

    @classmethod
    def from_bytes(cls, data: bytes, depths: Depths, *, limit: int | None = None) -> BlockGradient:
        """Read a gradient of any neighbouring blocks of a model.

        `apply_round` looks whether they were asked for, and whether it is finite.

        Parameters
        ----------
        data : bytes
        depths : lola.models.Depths
            The model whose names, shapes and types the gradients must have, those of the depths they say they are of.
        limit : int, optional
            Most bytes to read; by default what the gradients of all blocks take, and never more than those of the
            depths they say they are of.

        Raises
        ------
        FormatError
            If the bytes are no gradient of this model.
        """
        where, names = "a BlockGradient", ("version", "device", "first_depth", "last_depth", "loss")
        room = room_for(layouts_of(depths.all_named_parameters()))
        header, packed = unpack("BlockGradient", data, names, limit, tensor_bytes=room)
        version, device = (count(where, header, name, 0) for name in ("version", "device"))
        chosen = _between(where, header, len(depths))
        loss = math.nan if header["loss"] is None else number(f"{where}'s loss", header["loss"])
        layouts = layouts_of({k: p for depth in chosen for k, p in depths.named_parameters(depth).items()})
        if len(packed) > room_for(layouts):
            raise FormatError(
                f"{where} of depths {chosen[0]} to {chosen[-1]} with at most {room_for(layouts)} bytes of tensors was "
                f"wanted, got {len(packed)}; is it of another model?"
            )
        return cls(version, device, chosen, read_tensors(packed, layouts), loss)


def _ranged(depths: Any) -> Any:
    """Let one depth stand for the range of it alone; leave anything else as it is."""
    if isinstance(depths, Integral) and not isinstance(depths, bool):
        return range(int(depths), int(depths) + 1)
    return depths


def _suggested(depths: object) -> range:
    """Return the range that was probably meant, or an example."""
    if isinstance(depths, list | tuple | set) and depths and all(type(depth) is int for depth in depths):
        meant = range(min(depths), max(depths) + 1)
        if meant.start >= 1 and sorted(depths) == list(meant):
            return meant
    return range(1, 4)


def in_words(depths: range) -> str:
    """Name depths in a message, however many a stranger's range has."""
    if not depths:
        return "no depths"
    several = len(depths[:2]) > 1  # a stranger's range may be longer than len can tell
    by = f" by {depths.step}" if several and depths.step != 1 else ""
    return f"depths {depths[0]} to {depths[-1]}{by}" if several else f"depth {depths[0]}"


def _ends(depths: range) -> dict[str, int]:
    return {"first_depth": depths[0], "last_depth": depths[-1]}


def _between(where: str, entry: Mapping[str, Any], n_blocks: int) -> range:
    last = count(where, entry, "last_depth", 1, n_blocks)
    return range(count(where, entry, "first_depth", 1, last), last + 1)
