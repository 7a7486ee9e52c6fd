"""One round of device-edge cooperative fine-tuning, free of any transport: plan and compute.

Algorithm 1 of the LoLa-DEFT paper. The server makes a `RoundPlan` from a schedule and sends each device its
`BlockTask`; the device answers with a `BlockGradient`; the server steps its optimizer with `apply_round`
(`lola.adapters.server`). What travels, and how, is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lola.formats import expect
from lola.solution import Schedule
from lola.solvers.checks import positive_integer

if TYPE_CHECKING:
    import torch

    from lola.profiling import Depths

Batch = Mapping[str, "torch.Tensor"]
Loss = Callable[[Any, Any], "torch.Tensor"]


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
    """

    version: int
    device: int
    depth: int
    bandwidth_hz: float


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
    def from_schedule(cls, schedule: Schedule, version: int, devices: ArrayLike | None = None) -> RoundPlan:
        """Make the plan that a schedule amounts to.

        Parameters
        ----------
        schedule : lola.Schedule
        version : int
            Version of the model that the round starts from.
        devices : (K,) int array_like, optional
            Numbers of the scheduled fleet's devices, where that fleet is only a part of yours.
        """
        expect("schedule", schedule, Schedule)
        chosen = schedule.device_of_block
        numbers = (chosen if devices is None else np.asarray(devices)[chosen]).tolist()
        pairs = zip(numbers, schedule.bandwidth_hz.tolist(), strict=True)
        tasks = tuple(BlockTask(version, device, i + 1, share) for i, (device, share) in enumerate(pairs))
        return cls(version, tasks, schedule.latency_s)


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


def loss_of_output(model: Any, batch: Batch) -> torch.Tensor:
    """Take the loss that a transformers model puts into its output."""
    if not isinstance(batch, Mapping):
        raise TypeError(
            f"a batch must be a mapping of names to tensors, labels among them, got {type(batch).__name__}; or give "
            "your own loss(model, batch)"
        )
    loss: torch.Tensor | None = getattr(model(**batch), "loss", None)
    if loss is None:
        raise ValueError(f"{type(model).__name__} gives no loss; a batch needs labels, and the model a head")
    return loss


def block_gradient(
    depths: Depths, task: BlockTask, batches: Iterable[Batch], local_steps: int, *, loss: Loss = loss_of_output
) -> BlockGradient:
    """Compute the gradient of one block: a device's part of a round.

    Everything but the block is frozen, backward stops there, and the gradients of `local_steps` batches are averaged at
    fixed parameters, so that a round is one step of the server's optimizer on `local_steps` batches per block.

    Parameters
    ----------
    depths : lola.profiling.Depths
        The model with its adapters, from `lola.profiling.attach_lora`. Left with the task's depth selected and without
        gradients.
    task : BlockTask
    batches : iterable of mapping of str to torch.Tensor
        The device's data; the first `local_steps` are used. A DataLoader begins anew in every round: let it shuffle.
    local_steps : int
        M ≥ 1.
    loss : callable, optional
        ``loss(model, batch)`` gives a scalar; by default the model's own output has it.

    Returns
    -------
    BlockGradient

    Raises
    ------
    ValueError
        If there are fewer batches than `local_steps`.
    lola.profiling.ProfilingError
        If backward would not stop at the block.
    """
    positive_integer("local_steps", local_steps)
    depths.select(task.depth)
    model = depths.model
    model.zero_grad(set_to_none=True)
    total, done = 0.0, 0
    with depths.guard(task.depth):
        for batch in batches:
            value = loss(model, batch) / local_steps
            value.backward()  # type: ignore[no-untyped-call]
            total += float(value.detach())
            done += 1
            if done == local_steps:
                break
    if done < local_steps:
        raise ValueError(f"{local_steps} local batches are needed, device {task.device} has {done}; give it more data")
    gradients = {}
    for name, parameter in depths.named_parameters(task.depth).items():
        if parameter.grad is None:
            raise ValueError(
                f"the loss does not depend on {name}, which depth {task.depth} trains; is it the model's loss?"
            )
        gradients[name] = parameter.grad.detach().to("cpu", copy=True)
    model.zero_grad(set_to_none=True)
    return BlockGradient(task.version, task.device, task.depth, gradients, total)
