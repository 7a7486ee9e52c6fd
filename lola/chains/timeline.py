"""Who does what when, as a batch goes through a chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lola.chains.chain import Chain
from lola.solvers.checks import FloatArray

Activity = Literal["forward", "hop", "ring", "backward", "return"]


@dataclass(frozen=True)
class Span:
    """What one client does with one micro-batch, from when to when.

    Attributes
    ----------
    stage : int
        Of the client that computes or sends, from 0.
    part : int
        Micro-batch, from 0.
    activity : {"forward", "hop", "ring", "backward", "return"}
        A hop sends activations on, the ring the answer back to the first client, a return gradients.
    begin_s, end_s : float
        Since the batch began.
    """

    stage: int
    part: int
    activity: Activity
    begin_s: float
    end_s: float


def timeline(chain: Chain) -> tuple[Span, ...]:
    """Follow a batch through a chain, forward with all micro-batches and then backward.

    Every client and every link does one thing at a time, the micro-batches in turn, each as soon as it can. Without
    micro-batches, and in inference, the last span ends at ``chain.latency_s``; of a pipeline in training, which counts
    both ways of a stage together, it may end later.
    """
    times, parts = chain.times, chain.micro_batches
    ahead: list[tuple[int, Activity, float]] = []
    for stage, seconds in enumerate(times.forward_s):
        ahead.append((stage, "forward", float(seconds)))
        if stage < times.hop_s.size:
            ahead.append((stage, "hop", float(times.hop_s[stage])))
    if times.ring_s:
        ahead.append((times.forward_s.size - 1, "ring", times.ring_s))
    spans = list(_in_turn(ahead, np.zeros(parts)))
    if times.backward_s.any():
        back: list[tuple[int, Activity, float]] = []
        for stage in reversed(range(times.backward_s.size)):
            back.append((stage, "backward", float(times.backward_s[stage])))
            if stage:
                back.append((stage, "return", float(times.return_s[stage - 1])))
        # The last client turns round once it has seen all parts; by then all others are done with forward.
        spans += _in_turn(back, np.full(parts, spans[-1].end_s if spans else 0.0))
    return tuple(spans)


def _in_turn(stations: list[tuple[int, Activity, float]], ready_s: FloatArray) -> Iterator[Span]:
    """Pass the micro-batches, each from when it is ready, through stations that serve one at a time."""
    ready = ready_s.copy()
    for stage, activity, seconds in stations:
        free = 0.0
        for part in range(ready.size):
            begin = max(free, float(ready[part]))
            free = ready[part] = begin + seconds
            if seconds:
                yield Span(stage, part, activity, begin, float(free))
