"""A profile as a picture: memory and latency against depth; needs the extra ``plot``."""

from collections.abc import Mapping
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from lola.figures.picture import import_figure, lettering
from lola.profile import Profile
from lola.solvers.checks import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST_TITLE, _LINE = 360, 130  # three lines
_MEMORY, _LATENCY, _LIGHT = "#35618f", "#e8a33d", "#a9c1da"


def draw_profile(profile: Profile) -> "Figure":
    """Draw memory and latency against depth (the paper's Fig. 4(a)), with the spread and a line through each.

    Raises
    ------
    ImportError
        If matplotlib is missing; it names the extra to install.
    """
    from lola.profiling import judge

    verdict = judge(profile)
    evidence = profile.evidence
    depth = np.arange(1.0, profile.n_blocks + 1)
    figure = import_figure()(figsize=(10.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(depth, verdict.memory.at(depth) / 1e9, color="black", linewidth=1, label="line")
    run = np.ones(profile.n_blocks, bool) if evidence is None or evidence.repeats is None else evidence.repeats > 0
    left.plot(depth[run], profile.memory_bytes[run] / 1e9, "o", color=_MEMORY, label=_memory_label(profile))
    left.set_title(f"memory, R² = {verdict.memory.r_squared:.5f}", loc="left")
    left.set_ylabel("GB")
    spread = None if evidence is None or evidence.latency_iqr_s is None else evidence.latency_iqr_s / 2
    right.plot(depth, verdict.latency.at(depth), color="black", linewidth=1, label="line")
    label = "operations / rate" if spread is None else "median, with half the interquartile range either way"
    at_run = None if spread is None else spread[run]
    right.errorbar(depth[run], profile.latency_s[run], at_run, fmt="o", color=_LATENCY, capsize=3, label=label)
    if not run.all():
        hollow = {"markerfacecolor": "white", "label": "not run: between those beside it"}
        left.plot(depth[~run], profile.memory_bytes[~run] / 1e9, "o", color=_MEMORY, **hollow)
        right.plot(depth[~run], profile.latency_s[~run], "o", color=_LATENCY, **hollow)
    if profile.extra_memory_bytes is not None:
        at_once = profile.memory_bytes + _above(profile.extra_memory_bytes)
        left.plot(
            depth, at_once / 1e9, "--", color=_MEMORY, linewidth=1, label="with all shallower depths trained, too"
        )
    if profile.extra_latency_s is not None:
        at_once = profile.latency_s + _above(profile.extra_latency_s)
        right.plot(depth, at_once, "--", color=_LATENCY, linewidth=1, label="with all shallower depths trained, too")
    if evidence is not None and evidence.raw_latency_s is not None:
        right.plot(depth[run], evidence.raw_latency_s[run], "x", color="black", label="before isotonic regression")
    ratio = profile.latency_s[-1] / profile.latency_s[0] if profile.latency_s[0] > 0 else np.nan
    right.set_title(f"latency, R² = {verdict.latency.r_squared:.5f}, d(L)/d(1) = {ratio:.2f}", loc="left")
    right.set_ylabel("seconds for one local iteration")
    for axes in (left, right):
        axes.set_xlabel("depth (1 is the block nearest the output)")
        axes.set_xlim(0, profile.n_blocks + 1)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    (origin,), fonts = lettering([str(profile.provenance or "unknown provenance")], _LONGEST_TITLE)
    figure.suptitle("\n".join(wrap(origin, _LINE)), fontsize="small", fontfamily=fonts)
    return figure


def _above(extra: FloatArray) -> FloatArray:
    """Add up what the blocks nearer the output cost, (L,); depth 1 has none."""
    return np.cumsum(extra) - extra


def _memory_label(profile: Profile) -> str:
    return (profile.provenance.memory if profile.provenance else None) or "memory"


def draw_alone(profile: Profile, alone_bytes: Mapping[str, float]) -> "Figure":
    """Draw what one device alone needs against what each depth needs (the paper's Fig. 4(b)).

    Parameters
    ----------
    profile : Profile
        What a cooperating device needs; counted as `alone_bytes` is.
    alone_bytes : mapping of str to float
        Parts of what a device needs that trains all blocks itself, stacked in this order.

    Raises
    ------
    ImportError
        If matplotlib is missing; it names the extra to install.
    """
    figure = import_figure()(figsize=(10.5, 4.4), layout="constrained")
    axes = figure.subplots()
    depth = np.arange(1, profile.n_blocks + 1)
    axes.bar(depth, profile.memory_bytes / 1e9, color=_MEMORY, label="one depth, cooperating")
    height = 0.0
    at = profile.n_blocks + 2
    for (name, part), color in zip(alone_bytes.items(), (_LIGHT, _LATENCY, "#b3261e"), strict=False):
        axes.bar(at, part / 1e9, bottom=height / 1e9, color=color, label=f"alone: {name}")
        height += part
    shares = [100 * value / height for value in (profile.memory_bytes[0], profile.memory_bytes[-1])]
    mean = 100 * profile.memory_bytes.mean() / height
    axes.set_xticks([*depth, at], [*map(str, depth), "alone"])
    axes.set_xlabel("depth (1 is the block nearest the output)")
    axes.set_ylabel("GB")
    axes.set_title(
        f"a cooperating device needs {shares[0]:.0f} % (depth 1) to {shares[1]:.0f} % (depth {profile.n_blocks}) of "
        f"one alone, {mean:.0f} % on average",
        loc="left",
    )
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    return figure
