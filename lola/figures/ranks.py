"""What ranks are worth and which were chosen, block by block, as a picture; needs the extra ``plot``."""

from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from lola.figures.picture import import_figure, lettering
from lola.ranks.importance import SINGULAR, Importance
from lola.ranks.plan import RankPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST_TITLE, _LINE, _LONGEST_NAME = 360, 130, 28  # three lines
_CHOSEN, _LEFT, _UNIFORM = "#35618f", "#d5dfea", "#e8a33d"
_WORTH = {SINGULAR: "squared singular values of the update", "sensitivity": "sensitivity |w·∇w|"}
# More blocks than these have no room for names.
_MOST_NAMES = 32


def draw_ranks(plan: RankPlan, importance: Importance) -> "Figure":
    """Draw the worth of each rank of each block, those chosen filled, beside the ranks and the best uniform one.

    Raises
    ------
    ImportError
        If matplotlib is missing; it names the extra to install.
    """
    depth = np.arange(1, importance.n_blocks + 1)
    height = float(np.clip(1.8 + 0.3 * importance.n_blocks, 3.6, 12.0))
    figure = import_figure()(figsize=(10.5, height), layout="constrained")
    worth, ranks = figure.subplots(1, 2, sharey=True)
    chosen = np.arange(importance.max_rank) < plan.rank[:, None]
    gain = np.maximum(importance.gain, 0.0)  # a bar has no room for a loss
    left = np.cumsum(gain, axis=1) - gain
    for which, color, label in (
        (chosen, _CHOSEN, "ranks that are chosen"),
        (~chosen, _LEFT, "ranks that are left out"),
    ):
        row, column = np.nonzero(which & (gain > 0))
        worth.barh(
            depth[row],
            gain[row, column],
            0.7,
            left[row, column],
            color=color,
            edgecolor="white",
            linewidth=0.6,
            label=label,
        )
    worth.set_xlabel(f"worth of each rank: {_WORTH[importance.measure]}")
    share = plan.objective / total if (total := float(importance.gain.sum())) else 0.0
    worth.set_title(f"{100 * share:.1f} % of the worth of all ranks is chosen", loc="left", fontsize="medium")
    bars = ranks.barh(depth, plan.rank, 0.7, color=_CHOSEN, label="rank")
    ranks.bar_label(bars, plan.rank.tolist(), padding=3)
    ranks.axvline(plan.uniform_rank, color=_UNIFORM, linewidth=2, label=f"one rank for all: {plan.uniform_rank}")
    ranks.set_xlim(0, 1.12 * max(int(plan.rank.max()), plan.uniform_rank, 1))
    ranks.set_xlabel("rank of LoRA")
    limit = f"of {plan.budget:,.6g}" if plan.budget is not None else f"by {plan.deadline_s:.4g} s"
    ranks.set_title(f"{plan.parameters.sum():,} parameters {limit}", loc="left", fontsize="medium")
    names, fonts = lettering(
        [f"{d}  {importance.name[d - 1]}" for d in depth.tolist()] if importance.name else [], _LONGEST_NAME
    )
    if names and importance.n_blocks <= _MOST_NAMES:
        worth.set_yticks(depth, names, fontfamily=fonts)
        worth.set_ylabel("depth (1 is nearest the output), and block")
    else:
        worth.set_ylabel("depth (1 is nearest the output)")
    worth.invert_yaxis()
    below = -0.55 / (height - 1.6)  # half an inch, where the axis has its label
    for axes in (worth, ranks):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, below), ncols=2)
    (origin,), fonts = lettering([str(importance.provenance or "unknown provenance")], _LONGEST_TITLE)
    figure.suptitle("\n".join(wrap(origin, _LINE)), fontsize="small", fontfamily=fonts)
    return figure
