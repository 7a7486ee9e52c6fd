"""What the modules of a chain cost as a picture: seconds, memory and traffic; needs the extra ``plot``."""

from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from lola.chains.stages import StageProfile
from lola.figures.picture import import_figure, lettering

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LONGEST_TITLE, _LINE, _LONGEST_NAME = 360, 130, 24  # three lines
_FORWARD, _BACKWARD, _LIGHT = "#35618f", "#e8a33d", "#a9c1da"


def draw_stages(stages: StageProfile) -> "Figure":
    """Draw seconds and bytes of each module, from the input down, and bits between each two.

    Raises
    ------
    ImportError
        If matplotlib is missing; it names the extra to install.
    """
    row = np.arange(stages.n_modules)
    height = max(3.6, 1.6 + 0.24 * stages.n_modules)
    figure = import_figure()(figsize=(13.0, height), layout="constrained")
    seconds, memory, traffic = figure.subplots(1, 3, sharey=True)
    spreads = (stages.forward_iqr_s, stages.backward_iqr_s)
    before = np.zeros(stages.n_modules)
    for name, values, spread, color in zip(
        ("forward", "backward"), (stages.forward_s, stages.backward_s), spreads, (_FORWARD, _BACKWARD), strict=True
    ):
        half = None if spread is None else spread / 2
        seconds.barh(row, values, left=before, color=color, label=name, xerr=half, ecolor="black", capsize=2)
        before = before + values
    seconds.set_xlabel("seconds for one batch")
    _title(seconds, f"{before.sum():.3g} s a batch")
    before = np.zeros(stages.n_modules)
    trained = np.maximum(stages.memory_bytes - stages.inference_memory_bytes, 0.0)
    for name, values, color in (
        ("weights", stages.inference_memory_bytes, _FORWARD),
        ("kept in training", trained, _BACKWARD),
        ("workspace in training", stages.workspace_bytes, _LIGHT),
    ):
        memory.barh(row, values / 1e6, left=before / 1e6, color=color, label=name)
        before = before + values
    memory.set_xlabel("MB")
    _title(memory, "memory; of a stage, the largest workspace counts")
    cut = row[:-1] + 0.5
    traffic.barh(cut - 0.16, stages.hop_bits / 1e6, 0.32, color=_FORWARD, label="activations, forward")
    traffic.barh(cut + 0.16, stages.return_bits / 1e6, 0.32, color=_BACKWARD, label="gradients, back")
    traffic.set_xlabel("Mbit for one batch")
    _title(traffic, "between two modules")
    names, fonts = lettering([*stages.module, str(stages.provenance or "unknown provenance")], _LONGEST_TITLE)
    shortened, _ = lettering(list(stages.module), _LONGEST_NAME)
    seconds.set_yticks(row, shortened, fontfamily=fonts)
    seconds.invert_yaxis()
    for axes in (seconds, memory, traffic):
        axes.set_xlim(left=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        below = -0.5 / (height - 1.6)  # half an inch, where the axis has its label
        axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, below), ncols=2)
    figure.suptitle("\n".join(wrap(names[-1], _LINE)), fontsize="small", fontfamily=fonts)
    return figure


def _title(axes: "Axes", text: str) -> None:
    axes.set_title(text, loc="left", fontsize="medium")
