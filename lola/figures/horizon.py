"""Fine-tuning and serving, round by round, as a picture; needs the extra ``plot``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lola.chains.horizon import HorizonProblem
from lola.figures.picture import import_figure, lettering
from lola.solvers.checks import IntArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lola.solvers.horizon import HorizonRun

_STYLES = (("#35618f", "o", "-"), ("#e8a33d", "s", "--"), ("#7a7a7a", "^", ":"))
_LONGEST_NAME = 10
# Rounds beside which there is room for the names of what they ask for.
_MOST_LABELS = 20


def draw_horizon(problem: HorizonProblem, demand: IntArray, runs: "Mapping[str, HorizonRun]") -> "Figure":
    """Draw the cumulated profit of up to three ways to act, round by round; hollow marks are rounds of fine-tuning.

    Raises
    ------
    ImportError
        If matplotlib is missing; it names the extra to install.
    """
    figure = import_figure()(figsize=(10.5, 4.4), layout="constrained")
    axes = figure.subplots()
    rounds = np.arange(demand.size + 1)
    for (label, run), (color, marker, line) in zip(runs.items(), _STYLES, strict=False):
        total = np.concatenate([[0.0], np.cumsum(run.profit)])
        axes.plot(rounds, total, color=color, linestyle=line, label=f"{label}: {total[-1]:,.6g}")
        for raised in (False, True):
            at = rounds[1:][(run.upgraded >= 0) == raised]
            face = "white" if raised else color
            axes.plot(at, total[at], marker, color=color, markerfacecolor=face, markersize=6)
    axes.axhline(0, color="black", linewidth=0.8)
    if demand.size <= _MOST_LABELS:
        names, fonts = lettering([problem.label(m) for m in demand.tolist()], _LONGEST_NAME)
        labels = [f"{t}\n{name}" for t, name in enumerate(names, start=1)]
        axes.set_xticks(rounds[1:], labels, fontfamily=fonts)
        axes.set_xlabel("round, and the model that it asks for")
    else:
        axes.set_xlabel("round")
    axes.set_ylabel("profit of all rounds so far")
    axes.set_title("filled: the round serves; hollow: it fine-tunes a model", loc="left")
    axes.legend(loc="upper left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure
