"""What plots of the pages share: axes without a frame, with a faint grid."""

from __future__ import annotations

from typing import Any

from lola.figures.picture import import_figure


def framed(width: float = 7.0, height: float = 4.2) -> tuple[Any, Any]:
    """Return a figure of so many inches, and its axes."""
    figure = import_figure()(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    tidy(axes)
    return figure, axes


def tidy(axes: Any) -> None:
    """Take the upper and right line away, and put a faint grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
