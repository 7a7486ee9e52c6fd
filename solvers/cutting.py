"""(P1) as published: the CRUNCH algorithm, and the conventional search that it replaced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import Inputs, allocation_inputs
from lola.solvers._jit import kernel
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.errors import LolaValueError, infeasible_allocation


@dataclass(frozen=True, eq=False)
class CutAllocation:
    """An optimal allocation under equal bandwidth, found by cutting the largest latency again and again.

    Attributes
    ----------
    objective : float
        Latency of the round in seconds: the cut that broke feasibility.
    device_of_block : (L,) int64 array
        In depth order: entry 0 serves depth 1.
    bandwidth_hz : (L,) float64 array
        The equal split.
    iterations : int
        Cuts made, the last one included.
    cut_s : (iterations,) float64 array
        The latencies that were cut, in falling order; the last is `objective`.
    hall_violator : int64 array
        Blocks of which fewer devices than blocks can serve any in less than `objective` seconds.
    """

    objective: float
    device_of_block: IntArray
    bandwidth_hz: FloatArray
    iterations: int
    cut_s: FloatArray
    hall_violator: IntArray


def crunch(
    latency_s: ArrayLike,
    depth_memory_bytes: ArrayLike,
    upload_bits: ArrayLike,
    speed: ArrayLike,
    memory_bytes: ArrayLike,
    spectral_efficiency: ArrayLike,
    *,
    bandwidth_hz: float,
    local_steps: int = 1,
) -> CutAllocation:
    """Solve (P1) by Algorithm 2 of the LoLa-DEFT paper: cutting, recounting, checking.

    For comparison and teaching: `block_allocation` gives the same optimum in one pass over the fleet.

    Parameters
    ----------
    latency_s, depth_memory_bytes, upload_bits, speed, memory_bytes, spectral_efficiency, bandwidth_hz, local_steps
        As for `block_allocation`. Latency, memory and upload must not fall with depth.

    Returns
    -------
    CutAllocation
        The optimum, and the trace of the cuts.

    Raises
    ------
    InfeasibleError
        If memory leaves some blocks too few devices.
    TypeError, ValueError
        If an argument is not as described, or falls with depth.

    Notes
    -----
    Section IV-C: cut the largest latency left in the matrix Q of eq. (9), which stands at the right end of some row;
    recount that row; check Proposition 1. O(K²L) time, O(K·L) memory. The bottleneck is the element whose removal broke
    feasibility, and the placement follows the counts before it (``lola docs theory``). Of devices with equal counts the
    earlier one is preferred.

    Examples
    --------
    >>> from lola.solvers import crunch
    >>> fleet = {"speed": [0.5, 1.0, 0.8], "memory_bytes": [3e9, 2e9, 1e9], "spectral_efficiency": [4.0, 2.0, 1.0]}
    >>> allocation = crunch([0.8, 1.2], [1e9, 2e9], 8e5, **fleet, bandwidth_hz=1e6)
    >>> round(allocation.objective, 3), allocation.cut_s.round(3).tolist()
    (2.0, [2.8, 2.6, 2.0])
    """
    inputs, latency = _monotone(
        allocation_inputs(
            latency_s,
            depth_memory_bytes,
            upload_bits,
            speed,
            memory_bytes,
            spectral_efficiency,
            bandwidth_hz=bandwidth_hz,
            local_steps=local_steps,
        )
    )
    cuts, count, failed = _crunch(latency)
    if cuts.size == 0:
        raise infeasible_allocation(np.arange(failed, inputs.n_blocks), inputs.need, inputs.memory, None)
    # Depth l goes to the l-th smallest of the L largest counts.
    largest = np.argsort(-count, kind="stable")[: inputs.n_blocks][::-1]
    bandwidth = np.full(inputs.n_blocks, inputs.bandwidth / inputs.n_blocks)
    violator = np.arange(failed, inputs.n_blocks)
    return CutAllocation(float(cuts[-1]), largest, bandwidth, cuts.size, cuts, violator)


def conventional_allocation(
    latency_s: ArrayLike,
    depth_memory_bytes: ArrayLike,
    upload_bits: ArrayLike,
    speed: ArrayLike,
    memory_bytes: ArrayLike,
    spectral_efficiency: ArrayLike,
    *,
    bandwidth_hz: float,
    local_steps: int = 1,
) -> CutAllocation:
    """Solve (P1) by the conventional search of section IV-A: one Hungarian feasibility check per latency.

    For comparison only: O(KL·max(K, L)³) at worst. The thresholds are tried from the largest down, as its step 3
    asks (it goes on while a solution exists), not from the smallest up, as its indices would have it. Arguments, result
    and errors are those of `crunch`.

    Examples
    --------
    >>> from lola.solvers import conventional_allocation
    >>> fleet = {"speed": [0.5, 1.0, 0.8], "memory_bytes": [3e9, 2e9, 1e9], "spectral_efficiency": [4.0, 2.0, 1.0]}
    >>> allocation = conventional_allocation([0.8, 1.2], [1e9, 2e9], 8e5, **fleet, bandwidth_hz=1e6)
    >>> round(allocation.objective, 3), allocation.iterations
    (2.0, 3)
    """
    inputs, latency = _monotone(
        allocation_inputs(
            latency_s,
            depth_memory_bytes,
            upload_bits,
            speed,
            memory_bytes,
            spectral_efficiency,
            bandwidth_hz=bandwidth_hz,
            local_steps=local_steps,
        )
    )
    thresholds = np.sort(latency[latency < np.inf])[::-1]
    cuts, device, reached = _search_linearly(latency, thresholds)
    if cuts == 0:
        raise infeasible_allocation(np.flatnonzero(reached), inputs.need, inputs.memory, None)
    bandwidth = np.full(inputs.n_blocks, inputs.bandwidth / inputs.n_blocks)
    objective = float(thresholds[cuts - 1])
    return CutAllocation(objective, device, bandwidth, cuts, thresholds[:cuts], np.flatnonzero(reached))


def _monotone(inputs: Inputs) -> tuple[Inputs, FloatArray]:
    """Return the inputs and the matrix T_kl, (K, L) with inf where memory falls short, if its rows rise."""
    for name, values in (
        ("latency_s", inputs.work),
        ("depth_memory_bytes", inputs.need),
        ("upload_bits", inputs.bits),
    ):
        if (np.diff(values) < 0).any():
            raise LolaValueError(f"{name} must not fall with depth; where it does, use lola.solvers.block_allocation")
    load = inputs.bits / (inputs.bandwidth / inputs.n_blocks)
    latency = inputs.work / inputs.speed[:, None] + load / inputs.efficiency[:, None]
    return inputs, np.where(inputs.memory[:, None] >= inputs.need, latency, np.inf)


@kernel
def _crunch(latency):
    """Return the cuts, the counts before the last of them, and the first block that then has too few devices.

    No cut is returned where even the whole matrix has too few.
    """
    n_devices, n_blocks = latency.shape
    count = np.zeros(n_devices, np.int64)  # s_k: entries left in each row
    able = np.zeros(n_blocks, np.int64)  # devices with s_k > block
    cuts = np.empty(n_devices * n_blocks)
    for k in range(n_devices):
        for block in range(n_blocks):
            if latency[k, block] < np.inf:
                count[k] += 1
                able[block] += 1
    for block in range(n_blocks):
        if able[block] < n_blocks - block:
            return cuts[:0], count, block
    for cut in range(n_devices * n_blocks):
        largest = 0
        value = -1.0
        for k in range(n_devices):
            if count[k] > 0 and latency[k, count[k] - 1] >= value:  # rows rise: the right end is a row's largest
                value = latency[k, count[k] - 1]
                largest = k
        cuts[cut] = value
        block = count[largest] - 1
        able[block] -= 1
        if able[block] < n_blocks - block:
            return cuts[: cut + 1], count, block
        count[largest] -= 1
    return cuts, count, 0


@kernel
def _search_linearly(latency, thresholds):
    """Return how many thresholds were tried until one failed, the last assignment, and a Hall violator of blocks."""
    n_devices, n_blocks = latency.shape
    device = np.full(n_blocks, -1, np.int64)
    reached = np.zeros(n_blocks, np.bool_)
    square = np.zeros((n_devices, n_devices))  # rows past the blocks are dummies that any device serves
    matched = np.empty(n_devices, np.int64)
    # The first check asks for memory alone, each further one for less than the last threshold.
    for tried in range(thresholds.size + 1):
        for block in range(n_blocks):
            for k in range(n_devices):
                allowed = latency[k, block] < np.inf if tried == 0 else latency[k, block] < thresholds[tried - 1]
                square[block, k] = 0.0 if allowed else 1.0
        u, cost = _hungarian(square, matched)
        if cost > 0.0:
            for block in range(n_blocks):
                reached[block] = u[block] > 0.0
            return tried, device, reached
        device[:] = matched[:n_blocks]
    return thresholds.size, device, reached


@kernel
def _hungarian(cost, column_of_row):
    """Min-cost assignment of a square matrix in O(n³); returns the row duals and the cost.

    `column_of_row` is modified in place. Row by row, with potentials, as Kuhn's method is commonly programmed.
    """
    n = cost.shape[0]
    u = np.zeros(n + 1)
    v = np.zeros(n + 1)
    row_of = np.zeros(n + 1, np.int64)
    way = np.zeros(n + 1, np.int64)
    for i in range(1, n + 1):
        row_of[0] = i
        j0 = 0
        slack = np.full(n + 1, np.inf)
        used = np.zeros(n + 1, np.bool_)
        while True:
            used[j0] = True
            i0, delta, j1 = row_of[j0], np.inf, 0
            for j in range(1, n + 1):
                if not used[j]:
                    reduced = cost[i0 - 1, j - 1] - u[i0] - v[j]
                    if reduced < slack[j]:
                        slack[j] = reduced
                        way[j] = j0
                    if slack[j] < delta:
                        delta = slack[j]
                        j1 = j
            for j in range(n + 1):
                if used[j]:
                    u[row_of[j]] += delta
                    v[j] -= delta
                else:
                    slack[j] -= delta
            j0 = j1
            if row_of[j0] == 0:
                break
        while j0 != 0:
            j1 = way[j0]
            row_of[j0] = row_of[j1]
            j0 = j1
    total = 0.0
    for j in range(1, n + 1):
        column_of_row[row_of[j] - 1] = j - 1
        total += cost[row_of[j] - 1, j - 1]
    return u[1:], total
