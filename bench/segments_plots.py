"""The pictures of SEGMENTS.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from segments_page import longest_name, medians

RATIOS = (0.2, 0.5, 1.0, 2.0, 5.0)
_BLUE, _RED, _GREEN, _YELLOW = "#33608c", "#b0473a", "#6a9f58", "#e8a33d"


def draw_all(state: dict, plots: Path) -> None:
    plots.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        draw(figure, state["participation" if name == "participation" else "gains"])
        figure.savefig(plots / f"segments_{name}.png", dpi=120)


def band(axes: Axes, x: list, lines: list[dict], key: str, colour: str, label: str) -> None:
    """Draw a median and its quartiles, where there are any."""
    there = [(at, line[key]) for at, line in zip(x, lines, strict=True) if line[key] is not None]
    if there:
        at, values = zip(*there, strict=True)
        low, median, high = np.array(values).T
        axes.plot(at, median, marker="o", markersize=3, color=colour, label=label)
        axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)


def finish(axes: Axes, title: str, **labels: str) -> None:
    axes.set(**labels)
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)


def draw_devices(figure: Figure, data: dict) -> None:
    latency, ratio, part = figure.subplots(1, 3)
    lines = data["devices"]
    x = [line["devices"] for line in lines]
    band(latency, x, lines, "one_s", _RED, "one block")
    band(latency, x, lines, "seconds", _BLUE, "segments")
    latency.set_ylim(bottom=0)
    latency.legend(frameon=False)
    finish(latency, "Latency: median and quartiles", xlabel="devices K", ylabel="seconds")
    band(ratio, x, lines, "ratio", _BLUE, "")
    ratio.set_ylim(0, 1)
    finish(ratio, "Segments / one block", xlabel="devices K", ylabel="ratio of latencies")
    band(part, x, lines, "taking_part", _BLUE, "segments")
    part.axhline(data["blocks"], color=_RED, label="one block")
    part.set_ylim(0, data["blocks"] + 1)
    part.legend(frameon=False)
    finish(part, "Devices that take part", xlabel="devices K", ylabel="devices in a round")


def draw_upload(figure: Figure, data: dict) -> None:
    ratio, part = figure.subplots(1, 2)
    lines = data["upload"]
    x = medians(lines, "compute_to_upload").tolist()
    for axes, key in ((ratio, "ratio"), (part, "taking_part")):
        band(axes, x, lines, key, _BLUE, "")
        axes.set_xscale("log")
        axes.set_xticks(RATIOS, [f"{ratio:g}" for ratio in RATIOS])
        axes.set_xticks([], minor=True)
    ratio.set_ylim(0, 1)
    part.set_ylim(0, data["blocks"] + 1)
    at = "computation / upload, one block a device"
    finish(ratio, "K = 20: segments / one block", xlabel=at, ylabel="ratio of latencies")
    finish(part, "Devices that take part, with segments", xlabel=at, ylabel="devices in a round")


def draw_extra(figure: Figure, data: dict) -> None:
    ratio, part = figure.subplots(1, 2)
    names = list(dict.fromkeys(line["extra"] for line in data["extra"]))
    sizes = list(dict.fromkeys(line["devices"] for line in data["extra"]))
    for devices, colour in zip(sizes, (_YELLOW, _BLUE, _GREEN), strict=True):
        lines = [line for line in data["extra"] if line["devices"] == devices]
        for axes, key in ((ratio, "ratio"), (part, "taking_part")):
            band(axes, list(range(len(names))), lines, key, colour, f"K = {devices}")
    for axes in (ratio, part):
        axes.set_xticks(range(len(names)), names)
    ratio.set_ylim(0, 1.05)
    part.set_ylim(0, data["blocks"] + 1)
    part.legend(frameon=False)
    at = "one more block costs"
    finish(ratio, "Segments / one block", xlabel=at, ylabel="ratio of latencies")
    finish(part, "Devices that take part", xlabel=at, ylabel="devices in a round")


def draw_longest(figure: Figure, data: dict) -> None:
    latency, ratio = figure.subplots(1, 2)
    names = list(dict.fromkeys(longest_name(line["longest"]) for line in data["longest"]))
    sizes = list(dict.fromkeys(line["devices"] for line in data["longest"]))
    for devices, colour in zip(sizes, (_RED, _YELLOW, _BLUE, _GREEN), strict=True):
        lines = [line for line in data["longest"] if line["devices"] == devices]
        for axes, key in ((latency, "seconds"), (ratio, "ratio")):
            band(axes, list(range(len(names))), lines, key, colour, f"K = {devices}")
    for axes in (latency, ratio):
        axes.set_xticks(range(len(names)), names)
    latency.set_ylim(bottom=0)
    latency.legend(frameon=False)
    ratio.set_ylim(0, 1.05)
    at = "blocks in a segment, at most"
    finish(latency, "Latency: median and quartiles", xlabel=at, ylabel="seconds")
    finish(ratio, "Over one block a device", xlabel=at, ylabel="ratio of latencies")


def draw_participation(figure: Figure, data: dict) -> None:
    share, count = figure.subplots(1, 2, width_ratios=[2, 1])
    order = np.argsort(data["segments"]["share"])[::-1]
    at = np.arange(order.size)
    for name, colour, shift in (("one block", _RED, -0.2), ("segments", _BLUE, 0.2)):
        share.bar(at + shift, 100 * np.array(data[name]["share"])[order], 0.4, color=colour, label=name)
        rounds = np.array(data[name]["devices"]) / sum(data[name]["devices"])
        count.bar(np.arange(rounds.size), 100 * rounds, 0.8, color=colour, label=name)
    labels = [f"{data['speed'][k]:.2f}\n{data['memory_bytes'][k] / 1e9:.1f}" for k in order]
    share.set_xticks(at, labels, fontsize=7)
    share.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.0, 1.08))
    count.set_xticks(range(0, len(data["segments"]["devices"]), 2))
    finish(share, "How often each device takes part", xlabel="device: speed, and memory in GB", ylabel="% of rounds")
    finish(count, "Devices in a round", xlabel="devices", ylabel="% of rounds")


PICTURES = {
    "devices": draw_devices,
    "upload": draw_upload,
    "extra": draw_extra,
    "longest": draw_longest,
    "participation": draw_participation,
}
