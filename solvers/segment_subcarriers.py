"""(P3) in whole subcarriers: the same descent over selections, with counts for costs."""

from __future__ import annotations

import numpy as np

from lola.solvers._inputs import Inputs
from lola.solvers.checks import IntArray
from lola.solvers.errors import undecided_segments
from lola.solvers.segment_descent import SegmentOptimum
from lola.solvers.segment_paths import COSTS_MORE, FITS, decide
from lola.solvers.subcarriers import available_subcarriers, deal_out, least_counts


def descend_whole(first: IntArray, last: IntArray, inputs: Inputs, width: float) -> SegmentOptimum:
    """Solve (P3) over all devices given with bandwidths in multiples of `width` hertz; `inputs` is of the segments.

    At a deadline T a segment needs the least whole n with ``J + S/(n·Δ)/r < T``. The cheapest selection at these counts
    either fits the spectrum, and then finishes strictly before T, or proves that nothing does. Potentials and prices
    come back in hertz.

    Raises
    ------
    LolaValueError
        If the spectrum holds no subcarrier, or too many; or if a decision takes more states than fit into memory.
    """
    available = available_subcarriers(inputs.bandwidth, width, 1)
    possible = inputs.memory[:, None] >= inputs.need
    if inputs.mask is not None:
        possible &= inputs.mask
    compute = np.where(possible, inputs.work / inputs.speed[:, None], np.inf)
    efficiency = inputs.efficiency[:, None]
    members, price = np.ones(inputs.n_devices, np.int64), np.zeros(inputs.n_devices)
    arc, device, counts = (np.zeros(0, np.int64) for _ in range(3))
    # With a subcarrier each, every possible pair is done by then.
    latency, deadline = np.inf, 2.0 * float((compute + inputs.bits / width / efficiency)[possible].max(initial=0.0))
    steps = 0
    while True:
        cost = least_counts(compute, inputs.bits, efficiency, deadline, width, available)
        steps += 1
        # Costs are whole numbers, so what costs more than there are costs more than a half beyond.
        answer = decide(first, last, cost, members, available + 0.5, price)
        if answer.verdict == COSTS_MORE:
            break
        if answer.verdict != FITS:
            raise undecided_segments()
        pairs = answer.kind, answer.arc
        own, bits, rate = compute[pairs], inputs.bits[answer.arc], inputs.efficiency[answer.kind]
        for count in (deal_out(own, bits / rate, width, available), cost[pairs].astype(np.int64)):
            finish = float((own + bits / (count * width) / rate).max())
            if finish < latency:
                latency, arc, device, counts = finish, answer.arc, answer.kind, count
        deadline = latency
    group = np.full(inputs.n_devices, -1)
    group[answer.critical] = np.arange(answer.critical.size)
    share, potential = np.multiply(counts, width, dtype=np.float64), answer.potential * width
    return SegmentOptimum(arc, device, share, latency, min(latency, deadline), potential, price * width, group, steps)
