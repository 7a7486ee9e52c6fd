"""A round as a picture."""

from typing import TYPE_CHECKING

import numpy as np

from lola.figures.picture import import_figure, lettering
from lola.problem import Problem, segments, span
from lola.solution import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST_NAME = 32
_COMPUTE, _UPLOAD, _WALL = "#35618f", "#e8a33d", "#b3261e"
_BROADCAST = "#bbbbbb"


def draw_round(schedule: Schedule, problem: Problem) -> "Figure":
    """Draw the round as a Gantt chart (computation, then upload) with each device's share of the spectrum beside it.

    Raises
    ------
    ImportError
        If matplotlib is missing; it names the extra to install.
    """
    depths = segments(schedule.device_of_block)
    first = np.array([s.start - 1 for s in depths])
    rows, compute, upload = np.arange(len(depths)), schedule.compute_s[first], schedule.upload_s[first]
    figure = import_figure()(figsize=(10.5, 1.9 + 0.33 * len(depths)), layout="constrained")
    gantt, shares = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    if problem.broadcast_s:
        gantt.axvspan(0, problem.broadcast_s, color=_BROADCAST, label="broadcast")
    begin = problem.broadcast_s
    gantt.barh(rows, compute, left=begin, color=_COMPUTE, label="compute")
    gantt.barh(rows, upload, left=begin + compute, color=_UPLOAD, label="upload")
    gantt.axvline(schedule.latency_s, color="black", linewidth=1, linestyle="--")
    names, fonts = lettering([problem.fleet.label(k) for k in schedule.device_of_block[first].tolist()], _LONGEST_NAME)
    labels = [f"{name} · depth{'s' * (len(s) > 1)} {span(s)}" for name, s in zip(names, depths, strict=True)]
    gantt.set_yticks(rows, labels, fontfamily=fonts)
    for tick, wall in zip(gantt.get_yticklabels(), schedule.hits_memory_wall[first], strict=True):
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
    shares.barh(rows, np.add.reduceat(schedule.bandwidth_hz, first) / 1e6, color=_UPLOAD)
    shares.set_xlabel(f"MHz of {problem.bandwidth_hz / 1e6:.6g}")
    shares.set_title("bandwidth", loc="left")
    shares.tick_params(left=False)
    for axes in (gantt, shares):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    return figure
