"""The plots of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lola.figures.picture import import_figure, save_figure

BLUE, ORANGE, RED, GREY = "#33608c", "#e8a33d", "#b0473a", "#777777"

Record = dict[str, Any]


def draw(results: Record, plots: Path) -> None:
    """Draw what was measured."""
    plots.mkdir(exist_ok=True)
    drawn = {"one-device": draw_one_device}
    for part, draw_part in drawn.items():
        if part in results:
            save_figure(draw_part(results[part]), plots / f"{part}.png")


def framed(width: float = 7.0, height: float = 4.2) -> tuple[Any, Any]:
    figure = import_figure()(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    tidy(axes)
    return figure, axes


def tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)


def draw_one_device(data: Record) -> Any:
    """Draw Fig. 5: latency by SNR, with the level that DEFT cannot fall below."""
    figure, axes = framed()
    fit, snr_db = data["fit"], data["snr_db"]
    axes.plot(snr_db, fit["centralised_s"], color=ORANGE, label="centralised: raw data once, computed at the server")
    axes.plot(snr_db, fit["deft_s"], color=BLUE, label="DEFT: a prompt in each iteration, computed by the device")
    axes.axhline(fit["floor_s"], color=BLUE, ls=":", lw=1)
    axes.text(snr_db[0], fit["floor_s"] * 0.93, "the device's computing alone", color=BLUE, fontsize=9, va="top")
    at = snr_db.index(10.0)
    ends = fit["deft_s"][at], fit["centralised_s"][at]
    axes.annotate("", (10, ends[1]), (10, ends[0]), arrowprops={"arrowstyle": "<->", "color": GREY})
    axes.text(10.6, (ends[0] * ends[1]) ** 0.5, f"{ends[1] / ends[0]:.0f} ×", color=GREY, va="center")
    axes.set(xlabel="SNR in dB", ylabel="seconds of the whole fine-tuning", yscale="log", ylim=(1, None))
    ticks = [1, 2, 5, 10, 20, 50, 100]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_title("sizes that the article does not print are fitted", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    return figure
