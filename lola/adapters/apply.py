"""The server's part of a round: check what came back, step the optimizer, and say what became of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from lola.adapters.messages import BlockGradient, RoundPlan
from lola.adapters.wire import unlike
from lola.solvers.checks import positive_number
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch

    from lola.models import Depths

    Block = dict[str, torch.nn.Parameter]

# Of five norms two may be outliers and the median is still one of the others.
_LEAST_NORMS, _MOST_NORMS = 5, 20


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
        Answers that were not used or did not come, and why; None where an answer names no device or no depth.
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
        Who was asked for what; None where that is not known.
    why : str
        In words, for the record of the round.
    """

    device: int | None
    depth: int | None
    why: str


class NormBound:
    """Refuses a gradient whose norm exceeds a multiple of the median of its block's recent ones.

    Only norms of gradients that were applied are remembered, the last 20 of each block. Until there are five, a
    block's gradients pass: there is nothing to measure them by.

    Parameters
    ----------
    refuse_above : float
        The multiple, more than 1.
    recent : dict of int to list of float, optional
        The norms of each depth, the oldest first, where a run goes on.

    Raises
    ------
    ValueError, TypeError
        If `refuse_above` is not a number above 1.
    """

    def __init__(self, refuse_above: float, recent: Mapping[int, list[float]] | None = None) -> None:
        if positive_number("refuse_above", refuse_above) <= 1:
            raise LolaValueError(
                f"refuse_above must be more than 1, or usual gradients are refused; got {refuse_above}"
            )
        self.refuse_above = float(refuse_above)
        self.recent = {depth: list(norms) for depth, norms in (recent or {}).items()}

    def refusal(self, answer: BlockGradient) -> str:
        """Say why an answer is refused, or nothing."""
        norms, norm = self.recent.get(answer.depth, []), _norm(answer)
        if not math.isfinite(norm):
            return "the norm of its gradient is not finite"
        if len(norms) < _LEAST_NORMS or norm <= self.refuse_above * median(norms):
            return ""
        return (
            f"the norm of its gradient, {norm:.3g}, is more than {self.refuse_above:g} times {median(norms):.3g}, the "
            f"median of this block's last {len(norms)}"
        )

    def note(self, answer: BlockGradient) -> None:
        """Remember the norm of an answer that was applied."""
        depth, norm = int(answer.depth), _norm(answer)
        if norm > 0:  # a median of zero would refuse everything from then on
            self.recent[depth] = [*self.recent.get(depth, []), norm][-_MOST_NORMS:]


def apply_round(
    optimizer: torch.optim.Optimizer,
    depths: Depths,
    plan: RoundPlan,
    answers: Iterable[BlockGradient | Refusal | None],
    *,
    bound: NormBound | None = None,
) -> RoundReport:
    """Step the server's optimizer with the gradients of a round.

    A block without a usable gradient keeps its parameters and its optimizer state, as if it had not been asked for.

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
    bound : NormBound, optional
        Refuses outliers, and is updated. Without it any finite gradient is taken that leaves everything finite.

    Returns
    -------
    RoundReport
        What was applied, what is missing, and what was refused and why: no answer at all, an old version, a block that
        was not asked for, a second answer, a shape or name that is not the block's, a value that is not finite, a step
        after which a weight or the optimizer's state would not be finite.

    Raises
    ------
    ValueError
        If the plan is of another number of blocks than the model, or the optimizer lacks a parameter.
    """
    if [task.depth for task in plan.tasks] != list(range(1, len(depths) + 1)):
        raise LolaValueError(
            f"the plan must be for the model's {len(depths)} blocks, got depths "
            f"{_listed(tuple(task.depth for task in plan.tasks))}; schedule a profile of this model"
        )
    blocks = {task.depth: depths.named_parameters(task.depth) for task in plan.tasks}
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for depth, block in blocks.items():
        for name, parameter in block.items():
            if id(parameter) not in held:
                raise LolaValueError(
                    f"the optimizer does not hold {name} of depth {depth}; make it over depths.all_parameters()"
                )
    accepted: dict[int, BlockGradient] = {}
    refused: list[tuple[int | None, int | None, str]] = []
    for answer in answers:
        if answer is None:
            continue
        if isinstance(answer, Refusal):
            refused.append((answer.device, answer.depth, answer.why))
            continue
        why = _misfit(answer) or _refusal(answer, plan, accepted, blocks)
        if not why and bound is not None:
            why = bound.refusal(answer)
        if why:
            refused.append((_number(answer, "device"), _number(answer, "depth"), why))
        else:
            accepted[int(answer.depth)] = answer
    with depths.lock:
        spoiled = _step(optimizer, blocks, accepted)
    for depth, why in spoiled.items():
        refused.append((int(accepted.pop(depth).device), depth, why))
    if bound is not None:
        for answer in accepted.values():
            bound.note(answer)
    missing = tuple(depth for depth in blocks if depth not in accepted)
    losses = [float(accepted[depth].loss) for depth in sorted(accepted)]
    loss = float(np.mean(losses)) if losses else math.nan
    return RoundReport(plan.version + 1, tuple(sorted(accepted)), missing, tuple(refused), loss)


def _number(answer: object, name: str) -> int | None:
    """Return a number that an answer names itself by, or None where there is none."""
    value = getattr(answer, name, None)
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None


def _misfit(answer: object) -> str:
    """Say why this is no answer, or nothing."""
    if not isinstance(answer, BlockGradient):
        return f"a BlockGradient was wanted, got {type(answer).__name__}"
    for name in ("version", "device", "depth"):
        if _number(answer, name) is None:
            return f"its {name} must be an integer, got {type(getattr(answer, name)).__name__}"
    return ""


def _refusal(
    answer: BlockGradient, plan: RoundPlan, accepted: Mapping[int, BlockGradient], blocks: Mapping[int, Block]
) -> str:
    """Say why an answer cannot be used, or nothing."""
    if answer.version != plan.version:
        return f"the gradient is of version {answer.version}, the model is at {plan.version}"
    if not any((task.device, task.depth) == (answer.device, answer.depth) for task in plan.tasks):
        return "this device was not asked for this depth"
    if answer.depth in accepted:
        return "this depth was answered already"
    if not _is_finite_number(answer.loss):
        return "the loss is not finite"
    wanted = blocks[answer.depth]
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


def _step(
    optimizer: torch.optim.Optimizer, blocks: Mapping[int, Block], accepted: Mapping[int, BlockGradient]
) -> dict[int, str]:
    """Step the accepted blocks. Those whose step does not stay finite are left as they were; say which, and why."""
    import torch

    stepped = [parameter for depth in accepted for parameter in blocks[depth].values()]
    weights = [parameter.detach().clone() for parameter in stepped]
    states = [_copied(optimizer.state.get(parameter)) for parameter in stepped]
    groups = [copy.deepcopy({**group, "params": None}) for group in optimizer.param_groups]
    spoiled: dict[int, str] = {}
    while spoiled.keys() != accepted.keys():
        optimizer.zero_grad(set_to_none=True)  # torch leaves a parameter without a gradient, and its state, alone
        for depth in accepted.keys() - spoiled.keys():
            for name, parameter in blocks[depth].items():
                parameter.grad = accepted[depth].gradients[name].detach().to(parameter.device, copy=True)
        optimizer.step()
        newly = {depth: _not_finite(optimizer, blocks[depth]) for depth in accepted if depth not in spoiled}
        if not any(newly.values()):
            break
        spoiled |= {depth: why for depth, why in newly.items() if why}
        with torch.no_grad():
            for parameter, weight, state in zip(stepped, weights, states, strict=True):
                parameter.copy_(weight)
                optimizer.state.pop(parameter, None)
                if state is not None:
                    optimizer.state[parameter] = _copied(state)
        for group, entries in zip(optimizer.param_groups, groups, strict=True):
            group.update({**copy.deepcopy(entries), "params": group["params"]})
    optimizer.zero_grad(set_to_none=True)
    return spoiled


def _copied(state: dict[str, Any] | None) -> Any:
    """Copy a parameter's optimizer state; deepcopy alone takes several times as long for tensors."""
    import torch

    if state is None:
        return None
    return {
        name: value.clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)
        for name, value in state.items()
    }


def _not_finite(optimizer: torch.optim.Optimizer, block: Block) -> str:
    """Say what a step has spoiled of a block, or nothing."""
    import torch

    for name, parameter in block.items():
        for entry, value in {"": parameter, **optimizer.state.get(parameter, {})}.items():
            if isinstance(value, torch.Tensor) and not value.isfinite().all():
                of = f"the optimizer's {entry} of {name}" if entry else name
                return f"its step would make {of} not finite"
    return ""


def _norm(answer: BlockGradient) -> float:
    squares = (float(gradient.detach().double().square().sum()) for _, gradient in sorted(answer.gradients.items()))
    return math.sqrt(sum(squares))


def _listed(depths: tuple[int, ...]) -> str:
    return ", ".join(map(str, depths))
