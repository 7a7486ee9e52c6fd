"""A step of the server's optimizer that leaves everything finite, or is taken back."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

    Block = dict[str, torch.nn.Parameter]
    Part = TypeVar("Part", bound=Hashable)


def step(
    optimizer: torch.optim.Optimizer,
    blocks: Mapping[Part, Block],
    gradients: Mapping[Part, Mapping[str, torch.Tensor]],
) -> dict[Part, str]:
    """Step the parts of a model that there are gradients for. Where a step does not stay finite, take that part's back.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    blocks : mapping of str to torch.nn.Parameter, by part
    gradients : mapping of str to torch.Tensor, by part
        Copied, not kept. Parts without any keep their parameters and optimizer state.

    Returns
    -------
    dict of str, by part
        What a step would have made not finite of the parts that were left as they were.
    """
    import torch

    stepped = [parameter for part in gradients for parameter in blocks[part].values()]
    weights = [parameter.detach().clone() for parameter in stepped]
    states = [_copied(optimizer.state.get(parameter)) for parameter in stepped]
    groups = [copy.deepcopy({**group, "params": None}) for group in optimizer.param_groups]
    spoiled: dict[Part, str] = {}
    while spoiled.keys() != gradients.keys():
        optimizer.zero_grad(set_to_none=True)  # torch leaves a parameter without a gradient, and its state, alone
        for part in gradients.keys() - spoiled.keys():
            for name, parameter in blocks[part].items():
                parameter.grad = gradients[part][name].detach().to(parameter.device, copy=True)
        optimizer.step()
        newly = {part: _not_finite(optimizer, blocks[part]) for part in gradients if part not in spoiled}
        if not any(newly.values()):
            break
        spoiled |= {part: why for part, why in newly.items() if why}
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
