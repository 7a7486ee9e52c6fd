"""The server's part of a round: check what came back, step the optimizer, and say what became of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np

from lola.adapters.answer import not_finite
from lola.adapters.bound import NormBound
from lola.adapters.messages import BlockGradient, in_words
from lola.adapters.plan import RoundPlan
from lola.adapters.quarantine import Quarantine
from lola.adapters.stepping import step
from lola.adapters.wire import unlike
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch

    from lola.adapters.stepping import Block
    from lola.models import Depths


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
        Answers that were not used or did not come, by their deepest depth, and why; None where an answer names no
        device or no depth. An answer for several depths is used whole or not at all.
    loss : float
        Mean over the depths that were stepped; NaN if there were none.
    """

    version: int
    applied: tuple[int, ...]
    missing: tuple[int, ...]
    refused: tuple[tuple[int | None, int | None, str], ...]
    loss: float

    def __str__(self) -> str:
        parts = [f"version {self.version}: depths {_listed(self.applied) or 'none'} applied"]
        if self.missing:
            parts.append(f"{_listed(self.missing)} missing")
        for numbers in self.refused:
            device, depth, why = ("unknown" if value is None else value for value in numbers)
            parts.append(f"device {device} refused at depth {depth}: {why}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Refusal:
    """What stands for an answer that did not come, or that whoever carries answers did not let through.

    Attributes
    ----------
    device, depth : int or None
        Who was asked for what, by the deepest depth; None where that is not known.
    why : str
        In words, for the record of the round.
    answered : bool
        Whether an answer came, and was not let through: a `Quarantine` counts that.
    """

    device: int | None
    depth: int | None
    why: str
    answered: bool = False


def apply_round(
    optimizer: torch.optim.Optimizer,
    depths: Depths,
    plan: RoundPlan,
    answers: Iterable[BlockGradient | Refusal | None],
    *,
    receive: Callable[[BlockGradient], BlockGradient] | None = None,
    bound: NormBound | None = None,
    quarantine: Quarantine | None = None,
) -> RoundReport:
    """Step the server's optimizer with the gradients of a round.

    A block without a usable gradient keeps its parameters and its optimizer state, as if it had not been asked for. The
    blocks of one device are stepped together or not at all.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Any of torch's that steps without a closure (all but LBFGS), over the parameters of all depths. What it does
        before a step, such as clipping, goes into its ``register_step_pre_hook``, which runs again where an answer is
        refused for what its step would do.
    depths : lola.models.Depths
    plan : RoundPlan
    answers : iterable of BlockGradient, Refusal or None
        In any order; a device that did not answer is not there, None, or a `Refusal`, which is reported. The gradients
        are copied, not kept.
    receive : callable, optional
        ``receive(answer)`` gives a whole answer, one that fits its task, as it arrives over an uplink.
    bound : NormBound, optional
        Refuses outliers, and is updated. Without it any finite gradient is taken that leaves everything finite.
    quarantine : Quarantine, optional
        Is told whose answers were refused, of those who were asked. Whoever plans leaves out those whom it holds.

    Returns
    -------
    RoundReport
        What was applied, what is missing, and what was refused and why: no answer at all, an old version, blocks that
        were not asked for, or not all of those that were, a second answer, a shape or name that is not the block's, a
        value that is not finite, a step after which a weight or the optimizer's state would not be finite.

    Raises
    ------
    ValueError
        If the plan is of another number of blocks than the model, or the optimizer lacks a parameter.
    """
    planned = tuple(depth for task in plan.tasks for depth in task.depths)
    if planned != tuple(range(1, len(depths) + 1)):
        raise LolaValueError(
            f"the plan must be for the model's {len(depths)} blocks, got depths {_listed(planned)}; schedule a profile "
            "of this model"
        )
    blocks = {depth: depths.named_parameters(depth) for depth in planned}
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for depth, block in blocks.items():
        for name, parameter in block.items():
            if id(parameter) not in held:
                raise LolaValueError(
                    f"the optimizer does not hold {name} of depth {depth}; make it over depths.all_parameters()"
                )
    wanted = {task.depths: _joined(blocks[depth] for depth in task.depths) for task in plan.tasks}
    accepted: dict[range, BlockGradient] = {}
    refused: list[tuple[int | None, int | None, str]] = []
    asked = {task.device for task in plan.tasks}

    def refuse(device: int | None, depth: int | None, why: str, *, answered: bool = True) -> None:
        if answered and quarantine is not None and device is not None and device in asked:
            why += quarantine.note(device, plan.version)
        refused.append((device, depth, why))

    for answer in answers:
        if answer is None:
            continue
        if isinstance(answer, Refusal):
            refuse(answer.device, answer.depth, answer.why, answered=answer.answered)
            continue
        why = _misfit(answer) or _refusal(answer, plan, accepted, wanted)
        if not why and receive is not None:
            answer = receive(answer)
            if spoilt := not_finite(answer.gradients):
                refuse(answer.device, answer.depths[-1], f"what arrived: {spoilt}", answered=False)  # not its fault
                continue
        if not why and bound is not None:
            why = next(filter(None, map(bound.refusal, _by_block(answer, blocks))), "")
        if why:
            refuse(_number(answer, "device"), _deepest(answer), why)
        else:
            accepted[answer.depths] = answer
    with depths.lock:
        spoiled = step(optimizer, wanted, {part: answer.gradients for part, answer in accepted.items()})
    for spoiled_depths, why in spoiled.items():
        refuse(int(accepted.pop(spoiled_depths).device), spoiled_depths[-1], why)
    if bound is not None:
        for answer in accepted.values():
            for part in _by_block(answer, blocks):
                bound.note(part)
    loss_of = {depth: float(answer.loss) for answer in accepted.values() for depth in answer.depths}
    applied = tuple(sorted(loss_of))
    missing = tuple(depth for depth in planned if depth not in loss_of)
    loss = float(np.mean([loss_of[depth] for depth in applied])) if applied else math.nan
    return RoundReport(plan.version + 1, applied, missing, tuple(refused), loss)


def _joined(blocks: Iterable[Block]) -> Block:
    return {name: parameter for block in blocks for name, parameter in block.items()}


def _by_block(answer: BlockGradient, blocks: Mapping[int, Block]) -> list[BlockGradient]:
    """Part an answer for several blocks into one for each."""
    return [
        replace(answer, depths=range(i, i + 1), gradients={name: answer.gradients[name] for name in blocks[i]})
        for i in answer.depths
    ]


def _number(answer: object, name: str) -> int | None:
    """Return a number that an answer names itself by, or None where there is none."""
    value = getattr(answer, name, None)
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None


def _deepest(answer: object) -> int | None:
    """Return the deepest of the depths that an answer says it is of, or None where it names none."""
    depths = getattr(answer, "depths", None)
    return depths[-1] if isinstance(depths, range) and depths else None


def _misfit(answer: object) -> str:
    """Say why this is no answer, or nothing."""
    if not isinstance(answer, BlockGradient):
        return f"a BlockGradient was wanted, got {type(answer).__name__}"
    for name in ("version", "device"):
        if _number(answer, name) is None:
            return f"its {name} must be an integer, got {type(getattr(answer, name)).__name__}"
    if not isinstance(answer.depths, range):
        return f"its depths must be a range or an integer, got {type(answer.depths).__name__}"
    return ""


def _refusal(
    answer: BlockGradient, plan: RoundPlan, accepted: Mapping[range, BlockGradient], blocks: Mapping[range, Block]
) -> str:
    """Say why an answer cannot be used, or nothing."""
    if answer.version != plan.version:
        return f"the gradient is of version {answer.version}, the model is at {plan.version}"
    depths = answer.depths
    asked = next((task.depths for task in plan.tasks if task.device == answer.device), None)
    if asked is None:
        return f"this device was not asked for {in_words(depths)}, nor for any"
    if depths != asked:
        part = bool(depths) and depths[0] in asked and depths[-1] in asked
        return f"answered {in_words(depths)}{' only' if part else ''}, was asked for {in_words(asked)}"
    if depths in accepted:
        return f"{'these depths were' if len(depths) > 1 else 'this depth was'} answered already"
    if not _is_finite_number(answer.loss):
        return "the loss is not finite"
    wanted = blocks[depths]
    if not isinstance(answer.gradients, Mapping) or answer.gradients.keys() != wanted.keys():
        return f"the gradients must be by name, those of {', '.join(wanted)} and no others"
    for name, gradient in answer.gradients.items():
        why = unlike(gradient, wanted[name])
        if why:
            return f"{name} {why}"
    return ""


def _is_finite_number(value: object) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def _listed(depths: tuple[int, ...]) -> str:
    return ", ".join(map(str, depths))
