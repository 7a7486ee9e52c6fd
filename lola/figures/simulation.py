"""A simulation as a picture; needs the extra ``plot``."""

from typing import TYPE_CHECKING

import numpy as np

from lola.figures.picture import import_figure
from lola.methods import BY_NAME
from lola.methods.method import Style
from lola.rounds import PARAMETERS
from lola.simulation import Simulation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_simulation(simulation: Simulation) -> "Figure":
    """Draw mean latency with its 95 % interval, and how often baselines hit the memory wall, over the sweep.

    Without a sweep the latencies of all rounds are drawn, as the share of rounds that end within a time.

    Raises
    ------
    ImportError
        If matplotlib is missing; it names the extra to install.
    """
    figure = import_figure()(figsize=(10.5, 4.4), layout="constrained")
    if simulation.axis is None:
        _draw_distribution(figure.subplots(), simulation)
    else:
        if simulation.wall.any():
            left, right = figure.subplots(1, 2, width_ratios=(3, 2))
            _draw_walls(right, simulation)
        else:
            left = figure.subplots()
        _draw_means(left, simulation)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3, which="both")
        axes.set_axisbelow(True)
    return figure


def _style(name: str, place: int) -> Style:
    """Return a method's own style; for one that has none, or that the table no longer has, matplotlib's next color."""
    method = BY_NAME.get(name)
    return Style(f"C{place % 10}", ".", "-") if method is None or method.style is None else method.style


def _draw_means(axes: "Axes", simulation: Simulation) -> None:
    at = _place(axes, simulation)
    for m, method in enumerate(simulation.methods):
        color, marker, line = _style(method, m)
        mean, half = simulation.mean_s[:, m], simulation.half_width_s[:, m]
        axes.errorbar(at, mean, half, color=color, marker=marker, linestyle=line, markersize=4, capsize=3, label=method)
    means = simulation.mean_s
    if means.max() > 10 * means.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel("latency of a round, s")
    count = simulation.feasible.sum(axis=1)
    between = f"{count.min():,}" if count.min() == count.max() else f"{count.min():,} to {count.max():,}"
    axes.set_title(f"mean of {between} rounds, with 95 % confidence interval", loc="left")


def _draw_walls(axes: "Axes", simulation: Simulation) -> None:
    at = _place(axes, simulation)
    for m in np.flatnonzero(simulation.wall.any(axis=(0, 2))).tolist():
        method = simulation.methods[m]
        color, marker, line = _style(method, m)
        share = 100 * simulation.wall_rounds[:, m]
        axes.plot(at, share, color=color, marker=marker, linestyle=line, markersize=4)
    axes.set_ylim(0, 105)
    axes.set_ylabel("% of rounds")
    axes.set_title("a chosen device lacks the memory", loc="left")


def _place(axes: "Axes", simulation: Simulation) -> list[float]:
    """Label the axis of the sweep and return where the points lie on it."""
    label, unit, scale = PARAMETERS[simulation.axis or ""]
    axes.set_xlabel(f"{label}, {unit}" if unit else label)
    return [getattr(point, simulation.axis or "") / scale for point in simulation.points]


def _draw_distribution(axes: "Axes", simulation: Simulation) -> None:
    count = int(simulation.feasible.sum())
    for m, method in enumerate(simulation.methods):
        color, _, line = _style(method, m)
        latency = np.sort(simulation.latency_s[0, m, simulation.feasible[0]])
        label = f"{method}: mean {simulation.mean_s[0, m]:.4g} ± {simulation.half_width_s[0, m]:.3g} s"
        axes.plot(latency, 100 * np.arange(1, count + 1) / count, color=color, linestyle=line, label=label)
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    axes.set_xlabel("latency of a round, s")
    axes.set_ylabel("% of rounds that take no longer")
    axes.set_title(f"{count:,} rounds; means with 95 % confidence interval", loc="left")
    axes.legend(loc="lower right", frameon=False)
