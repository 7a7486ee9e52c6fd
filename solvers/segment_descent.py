"""(P3)'s descent over selections of segments, Theorem 5."""

from typing import NamedTuple

import numpy as np

from lola.solvers._jit import kernel
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.newton import CAP, CLEAR, FIRST_GAP, split_bandwidth
from lola.solvers.segment_paths import COSTS_MORE, FITS, decide

# Where a decision takes too many states, the bound claimed is at least this much wider.
_WIDE_GAP = 1e-6


class SegmentOptimum(NamedTuple):
    """What `descend` finds: the segments and who takes them, and potentials that prove them optimal."""

    arc: IntArray  # (Q,) deepest first; empty where no selection exists, or none was found
    device: IntArray  # (Q,)
    share: FloatArray  # (Q,) hertz
    latency: float  # s
    bound: float  # s; 0 where nothing is proven, −1 where not even that no selection exists
    potential: FloatArray  # (L + 1, states) hertz
    device_price: FloatArray  # (K,) hertz
    group: IntArray  # (K,) which counter of the states a device belongs to, −1 for none
    steps: int  # selections tried


@kernel
def descend(first, last, work, need, bits, speed, memory, efficiency, allowed, bandwidth):
    """Solve (P3) over all the devices given; arc a covers the blocks `first[a]` to `last[a]` − 1.

    `work`, `need` and `bits` are by arc, (A,), and `allowed` is (K, A) or (0, 0).
    """
    n_arcs, n_blocks = work.size, last[-1]
    kind, members, compute, upload = _kinds(work, need, bits, speed, memory, efficiency, allowed, bandwidth)
    n_kinds = members.size
    price, cost = np.zeros(n_kinds), np.empty((n_kinds, n_arcs))
    # By twice the time in which any possible pair would finish with an L-th of the spectrum, every selection fits.
    deadline = 0.0
    for t in range(n_kinds):
        for a in range(n_arcs):
            finish = compute[t, a] + n_blocks * upload[t, a]
            deadline = max(deadline, finish) if finish < np.inf else deadline
    deadline *= 2.0
    arc, chosen_kind = np.zeros(0, np.int64), np.zeros(0, np.int64)
    latency, gap, steps = np.inf, 0.0, 0
    while True:
        bound = deadline * (1.0 - gap)
        for t in range(n_kinds):
            for a in range(n_arcs):
                left = bound - compute[t, a]
                needed = upload[t, a] / left
                cost[t, a] = needed if (left > 0.0) & (needed < CAP) else CAP
        steps += 1
        answer = decide(first, last, cost, members, 1.0, price)
        if answer.verdict == COSTS_MORE:
            break
        if answer.verdict == FITS:
            n = answer.arc.size
            own, load, one = np.empty(n), np.empty(n), np.ones(n)
            for q in range(n):
                own[q], load[q] = compute[answer.kind[q], answer.arc[q]], upload[answer.kind[q], answer.arc[q]]
            _, finish, _ = split_bandwidth(own, load, one, 1.0)
            if finish < latency:
                latency, arc, chosen_kind = finish, answer.arc, answer.kind
                deadline, gap = latency, max(gap, FIRST_GAP)
                continue
        elif answer.potential.size == 0:
            gap = max(gap, _WIDE_GAP)
        gap *= 4.0  # what was faster was an illusion of rounding, or too hard to rule out: prove a little less
        if gap > 0.5 or latency == np.inf:
            bound = -1.0 if latency == np.inf else 0.0  # nothing is proven
            break
    n = arc.size
    device = _members_in_turn(chosen_kind, kind)
    own, load, rate = np.empty(n), np.empty(n), np.empty(n)
    for q in range(n):
        own[q], load[q], rate[q] = compute[chosen_kind[q], arc[q]], bits[arc[q]], efficiency[device[q]]
    share = np.empty(0)
    if n > 0:
        share, latency, _ = split_bandwidth(own, load, rate, bandwidth)
    group, device_price = np.full(kind.size, -1, np.int64), np.empty(kind.size)
    for k in range(kind.size):
        device_price[k] = price[kind[k]] * bandwidth
        for c in range(answer.critical.size):
            group[k] = c if answer.critical[c] == kind[k] else group[k]
    potential = answer.potential * bandwidth
    return SegmentOptimum(arc, device, share, latency, bound * (1.0 - CLEAR), potential, device_price, group, steps)


@kernel
def _kinds(work, need, bits, speed, memory, efficiency, allowed, bandwidth):
    """Put devices that are alike together: the kind of each, members of each kind, and by kind and arc what it takes.

    Seconds of computation are inf where a pair is impossible; those of the upload are with the whole spectrum.
    """
    n_devices, n_arcs = speed.size, work.size
    kind, alike = np.empty(n_devices, np.int64), np.empty(n_devices, np.int64)
    n_kinds = 0
    for k in range(n_devices):
        kind[k] = n_kinds
        for t in range(n_kinds):
            other = alike[t]
            same = (speed[k] == speed[other]) & (efficiency[k] == efficiency[other]) & (memory[k] == memory[other])
            if same and allowed.size > 0:
                for a in range(n_arcs):
                    same &= allowed[k, a] == allowed[other, a]
            if same:
                kind[k] = t
                break
        if kind[k] == n_kinds:
            alike[n_kinds] = k
            n_kinds += 1
    members = np.zeros(n_kinds, np.int64)
    for k in range(n_devices):
        members[kind[k]] += 1
    compute, upload = np.empty((n_kinds, n_arcs)), np.empty((n_kinds, n_arcs))
    for t in range(n_kinds):
        k = alike[t]
        for a in range(n_arcs):
            possible = need[a] <= memory[k] and (allowed.size == 0 or allowed[k, a])
            compute[t, a] = work[a] / speed[k] if possible else np.inf
            upload[t, a] = bits[a] / efficiency[k] / bandwidth
    return kind, members, compute, upload


@kernel
def _members_in_turn(chosen_kind, kind):
    """Return a device for each chosen kind: its members one after the other."""
    device, start = np.empty(chosen_kind.size, np.int64), np.zeros(kind.size, np.int64)
    for q in range(chosen_kind.size):
        k = start[chosen_kind[q]]
        while kind[k] != chosen_kind[q]:
            k += 1
        device[q] = k
        start[chosen_kind[q]] = k + 1
    return device


@kernel
def by_block(arc, device, share, first, last, bits, block_bits):
    """Write a selection down by block: a segment's share is divided in proportion to its blocks' bits."""
    device_of_block, bandwidth = np.empty(block_bits.size, np.int64), np.empty(block_bits.size)
    for q in range(arc.size):
        for block in range(first[arc[q]], last[arc[q]]):
            device_of_block[block] = device[q]
            bandwidth[block] = block_bits[block] / bits[arc[q]] * share[q]
    return device_of_block, bandwidth


@kernel
def divided(arc, device, share, first, last, work, bits, block_bits, speed, efficiency):
    """Write a selection down by block, with shares that fit in whatever order they are summed, and its latency."""
    device_of_block, bandwidth = by_block(arc, device, share, first, last, bits, block_bits)
    bandwidth *= 1.0 - 2.3e-16 * (block_bits.size + 2)
    latency = 0.0
    for q in range(arc.size):
        a, k = arc[q], device[q]
        for block in range(first[a], last[a]):
            latency = max(latency, work[a] / speed[k] + block_bits[block] / bandwidth[block] / efficiency[k])
    return device_of_block, bandwidth, latency
