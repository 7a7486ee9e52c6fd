"""A round as a picture."""

from typing import TYPE_CHECKING

import numpy as np

from lola.figures.picture import import_figure, lettering
from lola.problem import Problem
from lola.solution import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST_NAME = 32
_COMPUTE, _UPLOAD, _WALL = "#35618f", "#e8a33d", "#b3261e"
_BROADCAST = "#bbbbbb"


def draw_round(schedule: Schedule, problem: Problem) -> "Figure":
    """Draw the round as a Gantt chart (computation, then upload) with each block's share of the spectrum beside it.

    Raises
    ------
    ImportError
        If matplotlib is missing; it names the extra to install.
    """
    n_blocks = problem.n_blocks
    rows = np.arange(n_blocks)
    figure = import_figure()(figsize=(10.5, 1.9 + 0.33 * n_blocks), layout="constrained")
    gantt, shares = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    if problem.broadcast_s:
        gantt.axvspan(0, problem.broadcast_s, color=_BROADCAST, label="broadcast")
    begin = problem.broadcast_s
    gantt.barh(rows, schedule.compute_s, left=begin, color=_COMPUTE, label="compute")
    gantt.barh(rows, schedule.upload_s, left=begin + schedule.compute_s, color=_UPLOAD, label="upload")
    gantt.axvline(schedule.latency_s, color="black", linewidth=1, linestyle="--")
    names, fonts = lettering([problem.fleet.label(k) for k in schedule.device_of_block.tolist()], _LONGEST_NAME)
    gantt.set_yticks(rows, [f"{name} · depth {i + 1}" for i, name in enumerate(names)], fontfamily=fonts)
    for tick, wall in zip(gantt.get_yticklabels(), schedule.hits_memory_wall, strict=True):
        if wall:
            tick.set_color(_WALL)
    gantt.invert_yaxis()
    gantt.set_xlim(0, schedule.latency_s * 1.02)
    gantt.set_xlabel("seconds into the round")
    figure.legend(loc="outside lower left", ncols=3, frameon=False)
    title = f"{schedule.method}: the round takes {schedule.latency_s:.4g} s"
    if schedule.hits_memory_wall.any():
        title += f"; {int(schedule.hits_memory_wall.sum())} device(s) at the memory wall (red)"
    gantt.set_title(title, loc="left")
    shares.barh(rows, schedule.bandwidth_hz / 1e6, color=_UPLOAD)
    shares.set_xlabel(f"MHz of {problem.bandwidth_hz / 1e6:.6g}")
    shares.set_title("bandwidth", loc="left")
    shares.tick_params(left=False)
    for axes in (gantt, shares):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    return figure
