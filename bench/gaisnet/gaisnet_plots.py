"""The plots of results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from axes import framed, tidy

from lola.figures.picture import import_figure, save_figure

BLUE, LIGHT, ORANGE, RED, GREY = "#33608c", "#6fa8dc", "#e8a33d", "#b0473a", "#777777"

TABLE_III = {1: (0.200, 0.200), 2: (0.397, 0.397), 3: (0.575, 0.595), 4: (0.753, 0.767), 5: (0.933, 0.967)}
NAMES = {"sst2": "SST-2", "mnli": "MNLI"}

Record = dict[str, Any]


def draw(results: Record, plots: Path) -> None:
    """Draw what was measured."""
    plots.mkdir(exist_ok=True)
    drawn = {"horizon": draw_profit, "splits": draw_splits, "classes": draw_classes, "pretraining": draw_epochs}
    for part, draw_part in drawn.items():
        if part in results:
            save_figure(draw_part(results[part]), plots / f"{part}.png")
    if runs := {part: data for part, data in results.items() if part.startswith("clusters-")}:
        save_figure(draw_clusters(runs), plots / "clusters.png")


def two_errors(n_rows: int) -> float:
    """Return two standard errors of an accuracy of a half."""
    return 2 * (0.25 / n_rows) ** 0.5


def draw_profit(data: Record) -> Any:
    """Draw Fig. 8: cumulative profit; hollow marks are rounds of fine-tuning."""
    figure, axes = framed(8.5)
    optimal, printed = data["optimal"], data["printed"]
    same = optimal["two levels up"]["actions"] == printed["proposed"]["actions"]
    capped = "two levels up, optimal" + ("; proposed, as printed" if same else "")
    styles = {
        "no cap, optimal": (optimal["no cap"], LIGHT, "D", "-"),
        capped: (optimal["two levels up"], BLUE, "o", "-"),
        "immediate, as printed": (printed["immediate"], ORANGE, "s", "--"),
        "random, as printed": (printed["random"], GREY, "^", ":"),
    }
    rounds = np.arange(len(data["demand"]) + 1)
    for label, (run, colour, mark, line) in styles.items():
        total = np.concatenate([[0.0], np.cumsum(run["profit"])])
        axes.plot(rounds, total, color=colour, linestyle=line)
        axes.plot([], [], color=colour, linestyle=line, marker=mark, label=f"{label}: {total[-1]:g}".replace("-", "−"))
        for t, action in enumerate(run["actions"], start=1):
            face = "white" if action.islower() else colour
            axes.plot(t, total[t], mark, color=colour, markerfacecolor=face, markersize=6)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(rounds[1:], [f"{t}\n{model}" for t, model in enumerate(data["demand"], start=1)])
    axes.set(xlabel="round, and the model that it asks for", ylabel="profit of all rounds so far")
    axes.set_title("filled: the round serves; hollow: it fine-tunes a model", loc="left", fontsize=10)
    axes.legend(frameon=False, loc="upper left", fontsize=9, handlelength=3)
    return figure


def draw_splits(data: Record) -> Any:
    """Draw, for each question, the share of clusters in which a rule takes at most so many times as long."""
    figure = import_figure()(figsize=(10.5, 4.6), layout="constrained")
    axes_of = figure.subplots(1, len(data["questions"]), sharey=True)
    colours, styles = {"speed": BLUE, "memory": ORANGE, "equal": RED}, {"best order": "-", "drawn order": "--"}
    for axes, (question, asked) in zip(axes_of, data["questions"].items(), strict=True):
        tidy(axes)
        for name, found in asked["ratios"].items():
            rule, _, order = name.partition(", ")
            if order in styles and found["quantiles"]:
                shares = np.linspace(0, 1 - found["beyond_memory"], len(found["quantiles"]))
                axes.plot(found["quantiles"], shares, styles[order], color=colours[rule], label=f"{rule}, {order}")
        axes.set(xscale="log", xlim=(1, None), ylim=(0, 1), xlabel="times as long as lola's optimum")
        ticks = [tick for tick in (1, 1.5, 2, 3, 5, 10, 20, 40) if tick <= axes.get_xlim()[1]]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_title(question, loc="left", fontsize=10)
    axes_of[0].set_ylabel("share of clusters; the rest is beyond memory")
    figure.legend(*axes_of[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_classes(data: Record) -> Any:
    """Draw accuracy at the end by the share of classes seen, beside Table III."""

    figure, axes = framed(6.0, 4.4)
    axes.plot([0, 1], [0, 1], color="black", lw=1, label="ceiling: the share of classes seen")
    printed = [(seen / len(TABLE_III), end) for seen, (_, end) in TABLE_III.items()]
    axes.plot(*zip(*printed, strict=True), "s--", color=ORANGE, label="printed, five classes of flowers")
    ours = [(run["seen"] / data["n_classes"], run["accuracy"][-1]) for run in data["runs"]]
    axes.plot(*zip(*ours, strict=True), "o-", color=BLUE, label=f"here, {NAMES[data['scale']['task']]}")
    axes.set(
        xlabel="share of classes seen in fine-tuning", ylabel="accuracy at the end", xlim=(0, 1.03), ylim=(0, 1.03)
    )
    axes.legend(frameon=False, loc="upper left", fontsize=9, handlelength=3)
    return figure


def draw_clusters(runs: dict[str, Record]) -> Any:
    """Draw accuracy by the number of clusters, with two standard errors, and chance."""
    figure, axes = framed(6.0, 4.0)
    for (part, data), colour in zip(runs.items(), (BLUE, ORANGE), strict=False):
        counts = [run["clusters"] for run in data["runs"]]
        accuracy = [run["accuracy"] for run in data["runs"]]
        error = two_errors(data["scale"]["dev_rows"])
        axes.errorbar(counts, accuracy, error, fmt="o-", color=colour, capsize=3, label=NAMES[part.split("-")[1]])
        axes.axhline(1 / data["n_classes"], color=colour, ls=":", lw=1)
    axes.set(xlabel="clusters, each with rows of its own", ylabel="accuracy", xticks=counts)
    axes.set_title("bars: two standard errors; dotted: chance", loc="left", fontsize=10)
    axes.legend(frameon=False)
    return figure


def draw_epochs(data: Record) -> Any:
    """Draw Figs. 6 and 7: accuracy by epoch."""
    figure, axes = framed(6.5, 4.2)
    colours = {"adapters": BLUE, "everything": ORANGE}
    for run in data["runs"]:
        weights = "pretrained" if run["pretrained"] else "random"
        style = "o-" if run["pretrained"] else "s--"
        axes.plot(run["accuracy"], style, color=colours[run["tuned"]], label=f"{weights} weights, {run['tuned']} tuned")
    axes.set(xlabel="epochs", ylabel="accuracy", xticks=range(data["scale"]["epochs"] + 1))
    scale = data["scale"]
    axes.set_title(f"{NAMES[scale['task']]}, {scale['rows']} rows, one seed", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9, handlelength=3)
    return figure
