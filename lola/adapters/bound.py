"""What a gradient's norm may be, by those of its block that were applied before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median

from lola.adapters.messages import BlockGradient
from lola.solvers.checks import positive_number
from lola.solvers.errors import LolaValueError

# Of five norms two may be outliers and the median is still one of the others.
_LEAST_NORMS, _MOST_NORMS = 5, 20


class NormBound:
    """Refuses a gradient whose norm exceeds a multiple of the median of its block's recent ones.

    Only norms of gradients that were applied are remembered, the last 20 of each block. Until there are five, a
    block's gradients pass: there is nothing to measure them by. An answer for several blocks passes if each does.

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
        """Say why an answer for one block is refused, or nothing."""
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
        """Remember the norm of an answer for one block that was applied."""
        depth, norm = int(answer.depth), _norm(answer)
        if norm > 0:  # a median of zero would refuse everything from then on
            self.recent[depth] = [*self.recent.get(depth, []), norm][-_MOST_NORMS:]


def _norm(answer: BlockGradient) -> float:
    squares = (float(gradient.detach().double().square().sum()) for _, gradient in sorted(answer.gradients.items()))
    return math.sqrt(sum(squares))
