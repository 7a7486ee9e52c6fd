"""The plots of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from axes import framed, tidy
from boosted_prompts import SCHEDULERS
from deft_runs_page import by_seed, spread
from fused_prompts import AIR, DIGITAL, SCRATCH
from glue_rows import NAMES
from rank_budgets import MEASURES, UNIFORM

from lola.figures.picture import import_figure, save_figure

BLUE, ORANGE, RED, GREY = "#33608c", "#e8a33d", "#b0473a", "#777777"

Record = dict[str, Any]


def draw(results: Record, plots: Path) -> None:
    """Draw what was measured."""
    plots.mkdir(exist_ok=True)
    drawn = {
        "one-device": ("one-device", draw_one_device),
        "many-devices": ("many-devices", draw_many_devices),
        "fusion": ("many-devices", draw_fusion),
        "ranks": ("ranks", draw_ranks),
        "emulator": ("emulator", draw_emulator),
        "boosting": ("boosting", draw_boosting),
    }
    for name, (part, draw_part) in drawn.items():
        if part in results:
            save_figure(draw_part(results[part]), plots / f"{name}.png")


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


def bars(values: np.ndarray) -> np.ndarray | None:
    """Return one standard error; none of one seed."""
    return spread(values) if len(values) > 1 else None


def draw_curve(axes: Any, values: np.ndarray, label: str, colour: str, mark: str, aside: float) -> None:
    """Draw the mean over seeds after each epoch, with its standard error; before the first, the head is random."""
    trained = values[:, 1:]
    epochs = np.arange(1, values.shape[1])
    axes.set_xticks(epochs)
    axes.errorbar(epochs + aside, trained.mean(axis=0), bars(trained), fmt=mark, color=colour, capsize=3, label=label)


def draw_many_devices(data: Record) -> Any:
    """Draw Fig. 6: accuracy by epoch, and beside it the seconds on the air."""
    figure = import_figure()(figsize=(9.5, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for arm, colour, mark, aside in ((DIGITAL, ORANGE, "s--", -0.04), (AIR, BLUE, "o-", 0.04)):
        draw_curve(left, by_seed(data["runs"], "accuracy", arm=arm), arm, colour, mark, aside)
        seconds = by_seed(data["runs"], "clock_s", arm=arm)[0]
        right.plot(range(1, len(seconds)), 1e3 * seconds[1:], mark, color=colour)
    left.axhline(data["majority"], color=GREY, ls=":", lw=1, label="the majority class")
    left.set(xlabel="epochs", ylabel=f"accuracy on {NAMES[data['target']]}")
    left.set_title("mean over seeds; bars: one standard error", loc="left", fontsize=10)
    right.set(xlabel="epochs", ylabel="ms on the air, of all epochs so far", ylim=(0, None))
    right.set_xticks(left.get_xticks())
    for axes in (left, right):
        tidy(axes)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_fusion(data: Record) -> Any:
    """Draw accuracy by epoch, from scratch and by transfer."""
    figure, axes = framed()
    arms = (
        (SCRATCH, "from scratch", GREY, "s--", -0.05),
        (DIGITAL, "transfer, digital", ORANGE, "o-", 0.0),
        (AIR, "transfer, AirComp", BLUE, "o-", 0.05),
    )
    for arm, label, colour, mark, aside in arms:
        draw_curve(axes, by_seed(data["runs"], "accuracy", arm=arm), label, colour, mark, aside)
    axes.axhline(data["majority"], color=GREY, ls=":", lw=1, label="the majority class")
    axes.set(xlabel="epochs", ylabel=f"accuracy on {NAMES[data['target']]}")
    axes.set_title("mean over seeds; bars: one standard error", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    return figure


def draw_ranks(data: Record) -> Any:
    """Draw the mean rank of each depth."""
    figure = import_figure()(figsize=(8.0, 3.6), layout="constrained")
    axes_of = figure.subplots(1, len(data["tasks"]), sharey=True, squeeze=False)[0]
    for axes, task in zip(axes_of, data["tasks"], strict=True):
        tidy(axes)
        for place, (arm, colour) in enumerate(zip((UNIFORM, *MEASURES), (GREY, BLUE, ORANGE), strict=True)):
            mean = by_seed(data["runs"], "rank", task=task, arm=arm).mean(axis=0)
            depths = np.arange(1, len(mean) + 1)
            axes.bar(depths + 0.27 * (place - 1), mean, 0.25, color=colour, label=arm)
        axes.set(xlabel="depth, 1 nearest the output", xticks=depths)
        axes.set_title(NAMES[task], loc="left", fontsize=10)
    axes_of[0].set_ylabel("rank, mean over seeds")
    figure.legend(*axes_of[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_emulator(data: Record) -> Any:
    """Draw accuracy by the share of blocks kept."""
    figure, axes = framed(6.5)
    counts = sorted({run["n_kept"] for run in data["runs"]})
    share = np.array(counts) / data["blocks"]
    for name, label, colour, mark, aside in (
        ("accuracy", "whole model", BLUE, "o-", -0.005),
        ("emulator_accuracy", "emulator alone", ORANGE, "s--", 0.005),
    ):
        values = np.stack([by_seed(data["runs"], name, n_kept=count) for count in counts], axis=1)
        axes.errorbar(share + aside, values.mean(axis=0), bars(values), fmt=mark, color=colour, capsize=3, label=label)
    axes.axhline(data["majority"], color=GREY, ls=":", lw=1, label="the majority class")
    axes.set(xlabel="share of blocks kept", ylabel=f"accuracy on {NAMES[data['task']]}")
    axes.set_xticks(share, [f"{count}/{data['blocks']}" for count in counts])
    axes.set_title("mean over seeds; bars: one standard error", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    return figure


def draw_boosting(data: Record) -> Any:
    """Draw how many devices are satisfied after each round, the mean over seeds; who was done stays so."""
    figure, axes = framed(6.5)
    most, devices = data["scale"]["rounds"] + 1, data["scale"]["devices"]
    styles = zip(SCHEDULERS, ((BLUE, "o-"), (ORANGE, "s--"), (RED, "^:")), strict=True)
    for scheduler, (colour, mark) in styles:
        runs = [run["satisfied"] for run in data["runs"] if run["scheduler"] == scheduler]
        padded = np.array([run + [run[-1]] * (most - len(run)) for run in runs])
        axes.plot(padded.mean(axis=0), mark, color=colour, label=scheduler)
    axes.axhline(devices, color=GREY, lw=1)
    axes.set_xticks(range(most))
    axes.set_yticks(range(devices + 1))
    axes.set(xlabel="rounds of new prompts", ylabel=f"satisfied devices of {devices}, mean over seeds", ylim=(0, None))
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(0, 0.95), handlelength=3)
    return figure
