"""What ranks are worth and which were chosen, block by block, as a picture; needs the extra ``plot``."""

from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from lola.figures.picture import import_figure, lettering
from lola.ranks.importance import SENSITIVITY, SINGULAR, Importance
from lola.ranks.plan import RankPlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LONGEST_TITLE, _LINE, _LONGEST_NAME = 360, 130, 28  # three lines
_BAR, _UNIFORM, _EDGE = "#35618f", "#e8a33d", "#b3261e"
_WORTH = {SINGULAR: "squared singular value of the update", SENSITIVITY: "sensitivity |w·∇w|"}
# More blocks than these have no room for names.
_MOST_NAMES = 32


def draw_ranks(plan: RankPlan, importance: Importance) -> "Figure":
    """Draw the worth of each rank of each block, a line round those chosen, beside the ranks and the best uniform one.

    Raises
    ------
    ImportError
        If matplotlib is missing; it names the extra to install.
    """
    figure_class = import_figure()
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    depth = np.arange(1, importance.n_blocks + 1)
    height = float(np.clip(2.0 + 0.3 * importance.n_blocks, 3.8, 12.0))
    figure = figure_class(figsize=(10.5, height), layout=ConstrainedLayoutEngine(wspace=0.06))
    worth, ranks = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    _draw_worth(worth, plan, importance)
    bars = ranks.barh(depth, plan.rank, 0.7, color=_BAR)
    ranks.bar_label(bars, plan.rank.tolist(), padding=3)
    ranks.axvline(plan.uniform_rank, color=_UNIFORM, linewidth=2, label=f"one rank for all: {plan.uniform_rank}")
    ranks.set_xlim(0, 1.12 * max(int(plan.rank.max()), plan.uniform_rank, 1))
    ranks.set_xlabel("rank of LoRA")
    limit = f"of {plan.budget:,.6g}" if plan.budget is not None else f"by {plan.deadline_s:.4g} s"
    ranks.set_title(f"{plan.parameters.sum():,} parameters {limit}", loc="left", fontsize="medium")
    ranks.spines[["top", "right"]].set_visible(False)
    ranks.grid(axis="x", alpha=0.3)
    ranks.set_axisbelow(True)
    ranks.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.17), borderaxespad=0.0)
    texts = [f"{n}  {name}" for n, name in enumerate(importance.name or (), start=1)]
    names, fonts = lettering(texts, _LONGEST_NAME)
    if names and importance.n_blocks <= _MOST_NAMES:
        worth.set_yticks(depth, names, fontfamily=fonts)
    for axes in (worth, ranks):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    worth.set_ylabel("depth, 1 nearest the output")
    worth.set_ylim(importance.n_blocks + 0.5, 0.5)
    (origin,), fonts = lettering([str(importance.provenance or "unknown provenance")], _LONGEST_TITLE)
    figure.suptitle("\n".join(wrap(origin, _LINE)), fontsize="small", fontfamily=fonts)
    return figure


def _draw_worth(axes: "Axes", plan: RankPlan, importance: Importance) -> None:
    """Draw a cell a rank, the darker the more it is worth, by magnitude; what is worth nothing stays white."""
    from matplotlib.colors import LogNorm

    gain = np.ma.masked_less_equal(importance.gain, 0.0)
    n_blocks, most = importance.gain.shape
    edges = np.arange(most + 1) + 0.5, np.arange(n_blocks + 1) + 0.5
    cells = axes.pcolormesh(*edges, gain, cmap="Blues", norm=None if gain.mask.all() else LogNorm(), linewidth=0.4)
    axes.figure.colorbar(cells, ax=axes, label=_WORTH[importance.measure], pad=0.01)
    axes.stairs(plan.rank + 0.5, edges[1], baseline=None, orientation="horizontal", color=_EDGE, linewidth=2)
    total = float(importance.gain.sum())
    share = 100 * plan.objective / total if total > 0 else 0.0
    axes.set_title(f"left of the line: chosen, {share:.1f} % of the worth of all", loc="left", fontsize="medium")
    axes.set_xlabel("number of the rank")
    axes.set_xlim(0.5, most + 0.6)
