"""One pass over a fleet that keeps, for each block, the few devices that can matter to it."""

import numpy as np

from lola.solvers._inputs import Inputs
from lola.solvers._jit import kernel
from lola.solvers.checks import FloatArray, IntArray

# An approximate latency this much below a limit may in truth lie below it: a few roundings, generously.
_SLACK = 1.0 + 1e-14
# Devices looked at together, so that the compiler can compare eight at a time within the first-level cache.
_CHUNK = 256
NOBODY = np.zeros(0, np.int64)
# Of each block, found in one pass; who else undercuts is found in the next.
_MOST_NEWCOMERS = 256


def candidate_devices(device: IntArray) -> IntArray:
    """Sorted devices that appear for any block in what a selection found."""
    return np.unique(device[device >= 0])


def equal_split_candidates(inputs: Inputs) -> IntArray:
    """Find the L devices that are fastest for each block under an equal split: they decide feasibility (Lemma 3)."""
    n_blocks = inputs.n_blocks
    _, device = fastest(inputs, inputs.bits / (inputs.bandwidth / n_blocks), np.full(n_blocks, n_blocks))
    candidates = candidate_devices(device)
    # With fewer than L candidates, no allocation exists; padding lets the solver find out why.
    return candidates if candidates.shape[0] >= n_blocks else np.union1d(candidates, np.arange(n_blocks))


def devices_that_undercut(inputs: Inputs, offer_hz: FloatArray, deadline: float, known: IntArray) -> IntArray:
    """Find devices outside `known` that would finish a block before a deadline with the bandwidth offered for it.

    Of each block (or segment) no more than the 256 fastest, and none only if there are none.
    """
    load = np.divide(inputs.bits, offer_hz, out=np.full(inputs.n_blocks, np.inf), where=offer_hz > 0)
    keep = np.full(inputs.n_blocks, min(inputs.n_blocks, _MOST_NEWCOMERS))
    _, device = fastest(inputs, load, keep, deadline, known)
    return candidate_devices(device)


def fastest(
    inputs: Inputs, load: FloatArray, keep: IntArray, deadline: float = np.inf, known: IntArray = NOBODY
) -> tuple[FloatArray, IntArray]:
    """Run `fastest_per_block`, which says what comes back, over the devices of an allocation."""
    latency, device = fastest_per_block(
        inputs.work,
        load,
        inputs.need,
        inputs.speed,
        inputs.memory,
        inputs.efficiency,
        inputs.allowed,
        keep,
        deadline,
        known,
    )
    return latency, device


@kernel
def fastest_per_block(work, load, need, speed, memory, efficiency, allowed, keep, deadline, known):
    """Find, for each block l, the `keep[l]` devices with the smallest ``work[l]/speed + load[l]/efficiency``.

    Only what lies below the deadline counts, and the devices `known` are passed over.

    Parameters
    ----------
    work, load, need : (L,) float64
        Seconds at unit speed, seconds at unit efficiency, bytes.
    speed, memory, efficiency : (K,) float64
    allowed : (K, L) or (0, 0) bool
    keep : (L,) int64
    deadline : float
        Seconds; ``inf`` for none.
    known : (n,) int64
        In rising order.

    Returns
    -------
    latency : (L, largest of `keep`) float64
        Row l is a max-heap of the `keep[l]` smallest latencies; `deadline` where fewer devices can take the block.
    device : (L, largest of `keep`) int64
        The devices, −1 where there is none. Of equal latencies the earlier device stays.

    Notes
    -----
    O(K·L) with two divisions a device: the inner loop only compares a rounded latency with the block's limit at the
    chunk's start, and the rare device that passes is measured exactly.
    """
    n_devices, n_blocks = speed.size, work.size
    latency = np.full((n_blocks, keep.max()), deadline)
    device = np.full((n_blocks, keep.max()), -1, np.int64)
    limit = np.full(n_blocks, deadline * _SLACK)
    passed = 0
    slowness, hardness, hit = np.empty(_CHUNK), np.empty(_CHUNK), np.empty(_CHUNK, np.bool_)
    for first in range(0, n_devices, _CHUNK):
        size = min(_CHUNK, n_devices - first)
        offered = memory[first : first + size]
        for p in range(size):
            slowness[p], hardness[p], hit[p] = 1.0 / speed[first + p], 1.0 / efficiency[first + p], False
        for block in range(n_blocks):
            for p in range(size):
                soon = work[block] * slowness[p] + load[block] * hardness[p] < limit[block]
                hit[p] |= soon & (need[block] <= offered[p])
        for p in range(size):
            if not hit[p]:
                continue
            k = first + p
            while passed < known.size and known[passed] < k:
                passed += 1
            if passed < known.size and known[passed] == k:
                continue
            for block in range(n_blocks):
                if need[block] > memory[k] or (allowed.size > 0 and not allowed[k, block]):
                    continue
                exact = work[block] / speed[k] + load[block] / efficiency[k]
                if exact < latency[block, 0]:
                    _replace_largest(latency[block], device[block], keep[block], exact, k)
                    limit[block] = latency[block, 0] * _SLACK
    return latency, device


@kernel
def _replace_largest(values, devices, size, value, device):
    """Put a pair in place of the root of the max-heap in the first `size` entries. The heap is modified in place."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        if child + 1 < size and values[child + 1] > values[child]:
            child += 1
        if values[child] <= value:
            break
        values[parent] = values[child]
        devices[parent] = devices[child]
        parent = child
    values[parent] = value
    devices[parent] = device
