"""(P3), segments of blocks on devices, and bandwidth, together: optimal by Theorem 5, for a cell or a city."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import Inputs, allocation_inputs, checked
from lola.solvers.checks import FloatArray, IntArray, per_block, positive_integer, positive_number, subcarriers_in
from lola.solvers.errors import LolaError, LolaValueError, infeasible_segments, undecided_segments
from lola.solvers.joint import joint_allocation
from lola.solvers.newton import AFTER_BOUND
from lola.solvers.segment_descent import SegmentOptimum, by_block, descend, divided
from lola.solvers.segment_subcarriers import descend_whole
from lola.solvers.selection import candidate_devices, devices_that_undercut, fastest

# Up to this many pairs of device and segment the whole fleet enters; beyond, devices are priced in as they are needed.
_DENSE_PAIRS = 1 << 14


@dataclass(frozen=True, eq=False)
class SegmentAllocation:
    """An optimal allocation of segments and bandwidth, and its proof.

    Attributes
    ----------
    objective : float
        Latency of the round in seconds.
    device_of_block : (L,) int64 array
        In depth order: entry 0 serves depth 1. A device stands at each block of its segment.
    bandwidth_hz : (L,) float64 array
        By block; sums to at most the bandwidth given. A segment's share is divided in proportion to its blocks' bits.
    iterations : int
        Selections of segments tried.
    lower_bound : float
        Seconds; no allocation is faster. A fraction 2.6e-13 below `objective`, more where rounding asks for it, or
        where a decision took more paths or states than are allowed: then compare the two.
    potential_hz : (N, L + 1) float64 array
        By state and position: what it costs at least to serve the first blocks by `lower_bound`. Where the linear
        program over all segments is tight there is one state, and the differences are prices of the blocks.
    device_price_hz : (K,) float64 array
        At most 0. Over a segment, the potential rises by at most the bandwidth that the device needs to finish it by
        `lower_bound`, less the device's price; the least potential at the end, and all devices' prices, together exceed
        the bandwidth given.
    counter_of_device : (K,) int64 array
        −1 for most. The states count how many segments the devices of each counter have taken; no path lets them have
        more than they are. The first counter runs fastest: one of n devices has n + 1 values.
    """

    objective: float
    device_of_block: IntArray
    bandwidth_hz: FloatArray
    iterations: int
    lower_bound: float
    potential_hz: FloatArray
    device_price_hz: FloatArray
    counter_of_device: IntArray


class Arcs(NamedTuple):
    """All segments of at most so many blocks, sorted by their first block."""

    first: IntArray  # (A,) index of the shallowest block
    last: IntArray  # (A,) one beyond the deepest
    inputs: Inputs  # of an allocation whose "blocks" are the segments
    longest: int  # blocks in a segment, at most


def segment_allocation(
    latency_s: ArrayLike,
    depth_memory_bytes: ArrayLike,
    upload_bits: ArrayLike,
    speed: ArrayLike,
    memory_bytes: ArrayLike,
    spectral_efficiency: ArrayLike,
    *,
    bandwidth_hz: float,
    local_steps: int = 1,
    extra_latency_s: ArrayLike = 0.0,
    extra_memory_bytes: ArrayLike = 0.0,
    max_blocks: int | None = None,
    allowed: ArrayLike | None = None,
    subcarrier_hz: float | None = None,
) -> SegmentAllocation:
    """Give devices segments of consecutive blocks, and shares of the spectrum, so that the slowest ends soonest.

    A device that trains depths i+1 … j computes for ``local_steps·(latency_s[j] + Σ extra_latency_s[i+1 … j−1])/speed``
    seconds, needs ``depth_memory_bytes[j] + Σ extra_memory_bytes[i+1 … j−1]`` bytes, and uploads its blocks' bits.

    Parameters
    ----------
    latency_s : (L,) array_like
        Seconds of one local iteration at each depth alone on the reference device, ≥ 0.
    depth_memory_bytes : (L,) array_like
        Bytes a device needs at each depth alone, ≥ 0.
    upload_bits : float or (L,) array_like
        Size of each block's gradient in bits, > 0.
    speed, memory_bytes, spectral_efficiency : (K,) array_like
        The fleet: speed relative to the reference device (> 0), bytes offered (≥ 0), bit/s/Hz (> 0). K may be below L.
    bandwidth_hz : float
        Uplink spectrum, > 0.
    local_steps : int
        Local iterations in a round, ≥ 1.
    extra_latency_s, extra_memory_bytes : float or (L,) array_like
        What it costs to train a block as well whose depth backward passes anyway: seconds of one local iteration on
        the reference device, and bytes, ≥ 0.
    max_blocks : int, optional
        The longest segment; 1 is `joint_allocation`. No limit if left out.
    allowed : (K, L) array_like of bool, optional
        False forbids a pair, and each segment with it.
    subcarrier_hz : float, optional
        Devices get whole multiples of this; any real number without it.

    Returns
    -------
    SegmentAllocation
        The optimum, and potentials that prove it. With subcarriers, `lower_bound` is `objective`, and the potentials
        refer to the whole subcarriers with which a device finishes a segment strictly before it.

    Raises
    ------
    InfeasibleError
        If memory (or `allowed`) leaves no selection of segments with a device each.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    (P3) of ``lola docs theory``, by Theorem 5: a descent over paths in which no device stands twice. In a large fleet
    only devices that the potentials call for enter; each pass over the others costs O(K·L·max_blocks) time and
    memory for 256 devices a segment, and the last one completes the proof. Tried with up to 80 blocks.

    Examples
    --------
    >>> from lola.solvers import segment_allocation
    >>> fleet = {"speed": [0.5, 1.0], "memory_bytes": [1e9, 4e9], "spectral_efficiency": [4.0, 2.0]}
    >>> allocation = segment_allocation([0.8, 1.0, 1.2], [1e9, 2e9, 3e9], 8e5, **fleet, bandwidth_hz=1e6)
    >>> allocation.device_of_block, round(allocation.objective, 3)
    (array([0, 1, 1]), 2.312)
    """
    inputs = allocation_inputs(
        latency_s,
        depth_memory_bytes,
        upload_bits,
        speed,
        memory_bytes,
        spectral_efficiency,
        bandwidth_hz=bandwidth_hz,
        local_steps=local_steps,
        allowed=allowed,
        fewer_devices=True,
    )
    n_blocks, n_devices = inputs.n_blocks, inputs.n_devices
    arcs = segments_of(inputs, extra_latency_s, extra_memory_bytes, max_blocks, local_steps)
    if arcs.longest == 1 and n_devices >= n_blocks:
        return _of_one_block(inputs, subcarrier_hz)
    everyone = n_devices * arcs.first.size <= _DENSE_PAIRS or n_devices <= n_blocks
    candidates = np.arange(n_devices) if everyone else _likely(arcs, n_blocks)
    width = None if subcarrier_hz is None else positive_number("subcarrier_hz", subcarrier_hz)
    steps = 0
    while True:
        best = _best_of(arcs, candidates, width)
        steps += best.steps
        if best.arc.size == 0:
            raise _why_none(arcs, candidates, width, best.bound)
        if everyone:
            break
        rise = (best.potential[arcs.last] - best.potential[arcs.first]).max(axis=1)
        if width is None:
            newcomers = devices_that_undercut(arcs.inputs, rise, best.bound * AFTER_BOUND, candidates)
        else:  # a device outside matters only if fewer subcarriers would do
            fewer = (np.ceil(rise / width * (1 - 1e-12)) - 1) * width
            newcomers = devices_that_undercut(arcs.inputs, fewer, best.bound, candidates)
        if newcomers.shape[0] == 0:
            break
        candidates = np.union1d(candidates, newcomers)
    selection = best.arc, candidates[best.device], best.share, arcs.first, arcs.last
    if width is None:
        device, share, latency = divided(
            *selection, arcs.inputs.work, arcs.inputs.bits, inputs.bits, inputs.speed, inputs.efficiency
        )
    else:
        (device, share), latency = by_block(*selection, arcs.inputs.bits, inputs.bits), best.latency
    price, counter = np.zeros(n_devices), np.full(n_devices, -1)
    price[candidates], counter[candidates] = best.device_price, best.group
    return SegmentAllocation(
        latency, device, share, steps, best.bound, np.ascontiguousarray(best.potential.T), price, counter
    )


def _best_of(arcs: Arcs, candidates: IntArray, width: float | None) -> SegmentOptimum:
    """Solve (P3) over some of the devices."""
    inputs = arcs.inputs
    some = inputs._replace(
        speed=inputs.speed[candidates],
        memory=inputs.memory[candidates],
        efficiency=inputs.efficiency[candidates],
        allowed=inputs.allowed[candidates] if inputs.allowed.size else inputs.allowed,
    )
    if width is not None:
        return descend_whole(arcs.first, arcs.last, some, width)
    best: SegmentOptimum = descend(arcs.first, arcs.last, *some)
    return best


def segments_of(
    inputs: Inputs,
    extra_latency_s: ArrayLike,
    extra_memory_bytes: ArrayLike,
    max_blocks: int | None,
    local_steps: int,
) -> Arcs:
    """Check what an allocation of segments takes beyond other allocations, and list the segments with their costs."""
    n_blocks = inputs.n_blocks
    longest = n_blocks if max_blocks is None else min(positive_integer("max_blocks", max_blocks), n_blocks)
    extra_s, extra_bytes = (
        checked(name, per_block(name, value, n_blocks), ("latency_s", inputs.work), positive=False)
        for name, value in (("extra_latency_s", extra_latency_s), ("extra_memory_bytes", extra_memory_bytes))
    )
    pairs = [(i, j) for i in range(n_blocks) for j in range(i + 1, min(i + longest, n_blocks) + 1)]
    first, last = np.array(pairs).T.copy()
    # Each sum begins at its own segment: differences of sums over all blocks would lose the small ones.
    work = inputs.work[last - 1] + local_steps * np.array([extra_s[i : j - 1].sum() for i, j in pairs])
    need = inputs.need[last - 1] + np.array([extra_bytes[i : j - 1].sum() for i, j in pairs])
    bits = np.array([inputs.bits[i:j].sum() for i, j in pairs])
    allowed = inputs.allowed
    if allowed.size:
        allowed = np.stack([allowed[:, i:j].all(axis=1) for i, j in pairs], axis=1)
    return Arcs(first, last, inputs._replace(work=work, need=need, bits=bits, allowed=allowed), longest)


def _of_one_block(inputs: Inputs, subcarrier_hz: float | None) -> SegmentAllocation:
    """Leave (P2) to its own solver: paths know no quicker way to an assignment."""
    one = joint_allocation(
        inputs.work,
        inputs.need,
        inputs.bits,
        inputs.speed,
        inputs.memory,
        inputs.efficiency,
        bandwidth_hz=inputs.bandwidth,
        allowed=inputs.mask,
        subcarrier_hz=subcarrier_hz,
    )
    potential = np.cumsum([0.0, *one.block_price_hz])[None]
    counter = np.full(inputs.n_devices, -1)
    return SegmentAllocation(
        one.objective,
        one.device_of_block,
        one.bandwidth_hz,
        one.iterations,
        one.lower_bound,
        potential,
        one.device_price_hz,
        counter,
    )


def _likely(arcs: Arcs, n_blocks: int) -> IntArray:
    """Find the L devices that are fastest for each segment with an L-th of the spectrum: they decide feasibility."""
    load = arcs.inputs.bits / (arcs.inputs.bandwidth / n_blocks)
    _, device = fastest(arcs.inputs, load, np.full(arcs.first.size, n_blocks))
    return candidate_devices(device)


def _why_none(arcs: Arcs, candidates: IntArray, width: float | None, bound: float) -> LolaError:
    """Word why there is no selection, as well as can be said in a line."""
    inputs, n_blocks = arcs.inputs, int(arcs.last[-1])
    if bound < 0.0:
        return undecided_segments()
    if width is not None and _best_of(arcs, candidates, None).arc.size:
        return LolaValueError(
            f"bandwidth_hz holds {subcarriers_in(inputs.bandwidth, width)} subcarriers of {width:g} Hz, fewer than the "
            "devices that it takes to hold all blocks; widen the spectrum or narrow the subcarriers"
        )
    most = np.zeros(inputs.n_devices, np.int64)  # blocks of the longest segment that each could take
    held = np.zeros(n_blocks, np.bool_)
    for a, (i, j) in enumerate(zip(arcs.first, arcs.last, strict=True)):
        able = inputs.memory >= inputs.need[a]
        if inputs.allowed.size:
            able = able & inputs.allowed[:, a]
        np.maximum(most, (j - i) * able, out=most)
        held[i:j] |= able.any()
    return infeasible_segments(held, most, arcs.longest, bool(inputs.allowed.size))
