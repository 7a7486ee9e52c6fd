"""A batch through a chain as a picture."""

from typing import TYPE_CHECKING

from lola.chains.chain import Chain
from lola.chains.problem import ChainProblem
from lola.chains.timeline import timeline
from lola.figures.picture import import_figure, lettering
from lola.problem import span

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST_NAME = 32
# Sending is drawn thinner than computing, and what goes back lighter than what goes on.
_LOOKS = {
    "forward": ("forward", "#35618f", 0.8),
    "hop": ("activations to the next", "#e8a33d", 0.4),
    "ring": ("answer to the first", "#7a5195", 0.4),
    "backward": ("backward", "#a9c1da", 0.8),
    "return": ("gradients to the one before", "#f3d3a2", 0.4),
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
    for activity, (label, color, height) in _LOOKS.items():
        bars = [bar for bar in spans if bar.activity == activity]
        if bars:
            gantt.barh(
                [bar.stage for bar in bars],
                [bar.end_s - bar.begin_s for bar in bars],
                left=[bar.begin_s for bar in bars],
                height=height,
                color=color,
                edgecolor="white" if chain.micro_batches > 1 else color,
                linewidth=0.5,
                label=label,
            )
    gantt.axvline(chain.latency_s, color="black", linewidth=1, linestyle="--")
    names, fonts = lettering([problem.clients.label(client) for client, _ in chain.stages], _LONGEST_NAME)
    modules = [f"module{'s' * (len(run) > 1)} {span(run)}" for _, run in chain.stages]
    labels = [f"{name} · {taken}" for name, taken in zip(names, modules, strict=True)]
    gantt.set_yticks(range(len(labels)), labels, fontfamily=fonts)
    gantt.invert_yaxis()
    gantt.set_xlim(0, max(chain.latency_s, spans[-1].end_s) * 1.02)
    gantt.set_xlabel("seconds into the batch")
    parts = f" in {chain.micro_batches} parts" if chain.micro_batches > 1 else ""
    gantt.set_title(f"a batch of {problem.stages.batch_size}{parts} takes {chain.latency_s:.4g} s", loc="left")
    figure.legend(loc="outside lower left", ncols=5, frameon=False)
    gantt.spines[["top", "right"]].set_visible(False)
    gantt.grid(axis="x", alpha=0.3)
    gantt.set_axisbelow(True)
    return figure
