"""A value that travels one way and its gradient the other, for torch's autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Passing = Callable[[torch.Tensor], torch.Tensor]


class Exchange(torch.autograd.Function):
    """Whatever ``there`` makes of a tensor; its gradient is what ``back`` makes of the one that comes in."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, there: Passing, back: Passing) -> torch.Tensor:
        """Send the value."""
        ctx.back = back
        return there(value)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Send the gradient back."""
        return ctx.back(gradients[0]), None, None
