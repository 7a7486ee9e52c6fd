"""A batch through a chain as a picture."""

from typing import TYPE_CHECKING

from lola.chains.chain import Chain
from lola.chains.problem import ChainProblem
from lola.chains.timeline import timeline
from lola.chains.times import modules_in_words
from lola.figures.picture import import_figure, lettering

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTABLE = 1e-3
_LONGEST_NAME = 32
# What a client computes is drawn above what it sends, which goes on meanwhile; what goes back is lighter.
_COMPUTE, _SEND = (-0.16, 0.44), (0.26, 0.28)  # middle and height
_LOOKS = {
    "forward": ("forward", "#35618f", _COMPUTE),
    "hop": ("activations to the next", "#e8a33d", _SEND),
    "ring": ("answer to the first", "#7a5195", _SEND),
    "backward": ("backward", "#a9c1da", _COMPUTE),
    "return": ("gradients to the one before", "#f3d3a2", _SEND),
}


def draw_chain(chain: Chain, problem: ChainProblem) -> "Figure":
    """Draw a batch through the chain as a Gantt chart: who computes and who sends, forward and then backward.

    Raises
    ------
    ImportError
        If matplotlib is missing; it names the extra to install.
    """
    figure = import_figure()(figsize=(10.5, 1.9 + 0.45 * len(chain.stages)), layout="constrained")
    gantt = figure.subplots()
    spans = timeline(chain)
    for activity, (label, color, (middle, height)) in _LOOKS.items():
        bars = [bar for bar in spans if bar.activity == activity]
        if bars:
            gantt.barh(
                [bar.stage + middle for bar in bars],
                [bar.end_s - bar.begin_s for bar in bars],
                left=[bar.begin_s for bar in bars],
                height=height,
                color=color,
                edgecolor="white" if chain.micro_batches > 1 else color,
                linewidth=0.5,
                label=label,
            )
    gantt.axvline(chain.latency_s, color="black", linewidth=1, linestyle="--")
    names = [problem.clients.label(client) for client, _ in chain.stages]
    modules = [modules_in_words(problem.stages, run) for _, run in chain.stages]
    words, fonts = lettering([*names, *modules], _LONGEST_NAME)
    labels = [f"{name} · {taken}" for name, taken in zip(words[: len(names)], words[len(names) :], strict=True)]
    gantt.set_yticks(range(len(labels)), labels, fontfamily=fonts)
    gantt.invert_yaxis()
    gantt.set_xlim(0, max(chain.latency_s, spans[-1].end_s) * 1.02)
    gantt.set_xlabel("seconds into the batch")
    parts = f" in {chain.micro_batches} parts" if chain.micro_batches > 1 else ""
    title = f"a batch of {problem.stages.batch_size}{parts} takes {chain.latency_s:.4g} s"
    if spans[-1].end_s > chain.latency_s * (1 + _NOTABLE):
        title += f"; with all forward passes first, as drawn, {spans[-1].end_s:.4g} s"
    gantt.set_title(title, loc="left")
    figure.legend(loc="outside lower left", ncols=5, frameon=False)
    gantt.spines[["top", "right"]].set_visible(False)
    gantt.grid(axis="x", alpha=0.3)
    gantt.set_axisbelow(True)
    return figure
