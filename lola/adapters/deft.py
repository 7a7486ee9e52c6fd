"""One round of device-edge cooperative fine-tuning, free of any transport: plan, compute, apply.

Algorithm 1 of the LoLa-DEFT paper. The server makes a `RoundPlan` from a schedule and sends each device its
`BlockTask`; the device answers with a `BlockGradient`; the server steps its optimizer with `apply_round`. What travels,
and how, is the caller's business.
"""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class RoundReport:
    """What became of a round.

    Attributes
    ----------
    version : int
        Version of the model after the round.
    applied : tuple of int
        Depths that were stepped.
    missing : tuple of int
        Depths that no usable gradient came for. Their parameters and optimizer state are untouched.
    refused : tuple of (device, depth, str)
        Answers that were not used, and why.
    """

    version: int
    applied: tuple[int, ...]
    missing: tuple[int, ...]
    refused: tuple[tuple[int, int, str], ...]

    def __str__(self) -> str:
        parts = [f"version {self.version}: depths {_listed(self.applied) or 'none'} applied"]
        if self.missing:
            parts.append(f"{_listed(self.missing)} missing")
        parts += [f"device {device} refused at depth {depth}: {why}" for device, depth, why in self.refused]
        return "; ".join(parts)


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


def apply_round(
    optimizer: torch.optim.Optimizer, depths: Depths, plan: RoundPlan, answers: Iterable[BlockGradient | None]
) -> RoundReport:
    """Step the server's optimizer with the gradients of a round.

    A block without a usable gradient keeps its parameters and its optimizer state, as if it had not been asked for.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Any of torch's that steps without a closure (all but LBFGS), over the parameters of all depths. What it does
        before a step, such as clipping, goes into its ``register_step_pre_hook``.
    depths : lola.profiling.Depths
    plan : RoundPlan
    answers : iterable of BlockGradient or None
        In any order; a device that did not answer is not there, or None.

    Returns
    -------
    RoundReport
        What was applied, what is missing, and what was refused and why: an old version, a block that was not asked for,
        a second answer, a shape or name that is not the block's, a value that is not finite.

    Raises
    ------
    ValueError
        If the plan is of another number of blocks than the model, or the optimizer lacks a parameter.
    """
    if [task.depth for task in plan.tasks] != list(range(1, len(depths) + 1)):
        raise ValueError(
            f"the plan must be for the model's {len(depths)} blocks, got depths "
            f"{_listed(tuple(task.depth for task in plan.tasks))}; schedule a profile of this model"
        )
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for task in plan.tasks:
        for name, parameter in depths.named_parameters(task.depth).items():
            if id(parameter) not in held:
                raise ValueError(
                    f"the optimizer does not hold {name} of depth {task.depth}; make it over depths.all_parameters()"
                )
    asked = {(task.device, task.depth) for task in plan.tasks}
    accepted: dict[int, BlockGradient] = {}
    refused = []
    for answer in answers:
        if answer is None:
            continue
        why = _refusal(answer, plan.version, asked, accepted, depths)
        if why:
            refused.append((answer.device, answer.depth, why))
        else:
            accepted[answer.depth] = answer
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None  # torch's optimizers leave a parameter without a gradient, and its state, alone
    for depth, answer in accepted.items():
        for name, parameter in depths.named_parameters(depth).items():
            parameter.grad = answer.gradients[name].to(parameter.device)
    if accepted:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    missing = tuple(task.depth for task in plan.tasks if task.depth not in accepted)
    return RoundReport(plan.version + 1, tuple(sorted(accepted)), missing, tuple(refused))


def _refusal(
    answer: BlockGradient,
    version: int,
    asked: set[tuple[int, int]],
    accepted: Mapping[int, BlockGradient],
    depths: Depths,
) -> str:
    """Say why an answer cannot be used, or nothing."""
    if answer.version != version:
        return f"the gradient is of version {answer.version}, the model is at {version}"
    if (answer.device, answer.depth) not in asked:
        return "this device was not asked for this depth"
    if answer.depth in accepted:
        return "this depth was answered already"
    if not isinstance(answer.loss, float) or not math.isfinite(answer.loss):
        return "the loss is not finite"
    wanted = depths.named_parameters(answer.depth)
    if not isinstance(answer.gradients, Mapping) or answer.gradients.keys() != wanted.keys():
        return f"the gradients must be by name, those of {', '.join(wanted)} and no others"
    for name, gradient in answer.gradients.items():
        why = _unlike(gradient, wanted[name])
        if why:
            return f"{name} {why}"
    return ""


def _unlike(gradient: object, parameter: torch.nn.Parameter) -> str:
    """Say why this cannot be the gradient of a parameter, or nothing."""
    import torch

    if not isinstance(gradient, torch.Tensor):
        return f"is a {type(gradient).__name__}, wanted a tensor"
    if gradient.shape != parameter.shape:
        return f"has shape {tuple(gradient.shape)}, wanted {tuple(parameter.shape)}"
    if gradient.dtype != parameter.dtype:
        return f"is {gradient.dtype}, wanted {parameter.dtype}"
    if not gradient.isfinite().all():
        return "has a value that is not finite"
    return ""


def _listed(depths: tuple[int, ...]) -> str:
    return ", ".join(map(str, depths))
