"""(P2), joint bandwidth-and-block allocation: Newton's method over assignments, Theorem 2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from lola.solvers._inputs import allocation_inputs
from lola.solvers._jit import kernel
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.errors import infeasible_allocation
from lola.solvers.selection import devices_below_price, equal_split_candidates
from numpy.typing import ArrayLike

# Up to this many pairs the whole fleet goes into the assignment; beyond, devices are priced in as they are needed.
_DENSE_PAIRS = 8192
# The first proof tried says that nothing is faster by more than this fraction; rounding may call for a wider one.
_FIRST_GAP = 2.5e-13
# No pair that wants this many times the whole spectrum is ever chosen, so its price need not be told from a higher one.
_CAP = 2.0


@dataclass(frozen=True, eq=False)
class JointAllocation:
    """An optimal joint allocation of blocks and bandwidth, and its proof.

    Attributes
    ----------
    objective : float
        Latency of the round in seconds.
    device_of_block : (L,) int64 array
        In depth order: entry 0 serves depth 1.
    bandwidth_hz : (L,) float64 array
        By block; sums to at most the bandwidth given.
    iterations : int
        Assignments solved.
    lower_bound : float
        Seconds; no allocation is faster. A fraction 2.5e-13 below `objective`, more where rounding asks for it.
    block_price_hz, device_price_hz : (L,), (K,) float64 arrays
        Duals of the assignment at `lower_bound`: their sum over a pair is at most the bandwidth that the pair needs to
        finish by then, device prices are ≤ 0, and all prices together exceed the bandwidth given.
    """

    objective: float
    device_of_block: IntArray
    bandwidth_hz: FloatArray
    iterations: int
    lower_bound: float
    block_price_hz: FloatArray
    device_price_hz: FloatArray


def joint_allocation(
    latency_s: ArrayLike,
    depth_memory_bytes: ArrayLike,
    upload_bits: ArrayLike,
    speed: ArrayLike,
    memory_bytes: ArrayLike,
    spectral_efficiency: ArrayLike,
    *,
    bandwidth_hz: float,
    local_steps: int = 1,
    allowed: ArrayLike | None = None,
) -> JointAllocation:
    """Give each block a device and a share of the spectrum so that the slowest is as fast as possible.

    Block l on device k with bandwidth b takes ``local_steps·latency_s[l]/speed[k] + upload_bits[l]/b/
    spectral_efficiency[k]`` seconds, and is possible where ``memory_bytes[k] >= depth_memory_bytes[l]``.

    Parameters
    ----------
    latency_s : (L,) array_like
        Seconds of one local iteration at each depth on the reference device, ≥ 0.
    depth_memory_bytes : (L,) array_like
        Bytes a device needs at each depth, ≥ 0.
    upload_bits : float or (L,) array_like
        Size of each block's gradient in bits, > 0.
    speed, memory_bytes, spectral_efficiency : (K,) array_like
        The fleet: speed relative to the reference device (> 0), bytes offered (≥ 0), bit/s/Hz (> 0). K ≥ L.
    bandwidth_hz : float
        Uplink spectrum, > 0.
    local_steps : int
        Local iterations in a round, ≥ 1.
    allowed : (K, L) array_like of bool, optional
        False forbids a pair.

    Returns
    -------
    JointAllocation
        The optimum, and prices that prove it.

    Raises
    ------
    InfeasibleError
        If memory (or `allowed`) leaves some blocks too few devices.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    (P2) of the LoLa-DEFT paper, by Theorem 2 of ``docs/theory.md``: two to five assignments of L blocks are usual. In a
    large fleet only devices that the prices call for enter the assignment; each pass over the others costs O(K·L) time
    and no memory, and the last one completes the proof.
    """
    inputs = allocation_inputs(
        latency_s,
        depth_memory_bytes,
        upload_bits,
        speed,
        memory_bytes,
        spectral_efficiency,
        bandwidth_hz,
        local_steps,
        allowed,
    )
    n_devices, n_blocks = inputs.n_devices, inputs.n_blocks
    everyone = n_devices * n_blocks <= _DENSE_PAIRS or n_devices == n_blocks
    candidates = np.arange(n_devices) if everyone else equal_split_candidates(inputs)
    iterations = 0
    while True:
        chosen, bandwidth, latency, bound, price, device_price, violator, solved = _newton(
            inputs.work,
            inputs.need,
            inputs.bits,
            inputs.speed[candidates],
            inputs.memory[candidates],
            inputs.efficiency[candidates],
            inputs.allowed[candidates] if inputs.allowed.size else inputs.allowed,
            inputs.bandwidth,
        )
        if solved < 0:
            raise infeasible_allocation(np.flatnonzero(violator), inputs.need, inputs.memory, inputs.mask)
        iterations += solved
        if everyone:
            break
        newcomers = devices_below_price(inputs, bound, price, candidates)
        if newcomers.shape[0] == 0:
            break
        candidates = np.union1d(candidates, newcomers)
    prices = np.zeros(n_devices)
    prices[candidates] = device_price
    return JointAllocation(latency, candidates[chosen], bandwidth, iterations, bound, price, prices)


@kernel
def _newton(work, need, bits, speed, memory, efficiency, allowed, bandwidth):
    """Solve (P2) over all the devices given. Assignments solved is −1 where none exists.

    Returns devices, bandwidths, latency, its lower bound, prices of blocks and devices in hertz, Hall violator, and the
    number of assignments solved.
    """
    n_blocks, n_devices = work.size, speed.size
    compute = np.empty((n_blocks, n_devices))
    cost = np.empty((n_blocks, n_devices))
    for block in range(n_blocks):
        for k in range(n_devices):
            possible = need[block] <= memory[k] and (allowed.size == 0 or allowed[k, block])
            compute[block, k] = work[block] / speed[k] if possible else np.inf
            cost[block, k] = compute[block, k] + bits[block] / (bandwidth / n_blocks) / efficiency[k]
    violator = np.zeros(n_blocks, np.bool_)
    price = np.zeros(n_blocks)
    device_price = np.zeros(n_devices)
    chosen = np.zeros(n_blocks, np.int64)
    best = np.zeros(n_blocks, np.int64)
    share = np.zeros(n_blocks)
    chosen_compute = np.empty(n_blocks)
    chosen_efficiency = np.empty(n_blocks)
    # The least total latency under an equal split: any finite assignment would do as a start, this one is near.
    if not assign_blocks(cost, chosen, device_price, violator):
        return best, share, np.inf, np.inf, price, device_price, violator, -1
    solved = 1
    latency, bound, gap = np.inf, 0.0, _FIRST_GAP
    while True:
        for block in range(n_blocks):
            chosen_compute[block] = compute[block, chosen[block]]
            chosen_efficiency[block] = efficiency[chosen[block]]
        split, reached, _ = split_bandwidth(chosen_compute, bits, chosen_efficiency, bandwidth)
        if reached < latency:
            latency = reached
            best[:] = chosen
            share[:] = split
        else:
            gap *= 4.0  # the faster assignment was an illusion of rounding: prove a little less
        bound = latency * (1.0 - gap)
        for block in range(n_blocks):
            for k in range(n_devices):
                left = bound - compute[block, k]
                needed = bits[block] / efficiency[k] / left / bandwidth if left > 0.0 else _CAP
                cost[block, k] = min(needed, _CAP)
        assign_blocks(cost, chosen, device_price, violator)
        solved += 1
        # Prices as high as the bandwidth needed by any pair permits; rounding in the paths' duals drops out here.
        total, magnitude = 0.0, 0.0
        for k in range(n_devices):
            total += device_price[k]
        magnitude -= total
        for block in range(n_blocks):
            highest = np.inf
            for k in range(n_devices):
                highest = min(highest, cost[block, k] - device_price[k])
            price[block] = highest
            total += highest
            magnitude += highest
        if total > 1.0 + 6e-16 * (8 + n_blocks) * magnitude or gap > 0.5:
            break
    for block in range(n_blocks):
        price[block] *= bandwidth
    for k in range(n_devices):
        device_price[k] *= bandwidth
    return best, share, latency, bound, price, device_price, violator, solved


@kernel
def split_bandwidth(compute, bits, efficiency, bandwidth):
    """Return the bandwidths, the common finish and the Newton steps.

    The unknown is x = T − max(compute), so that a short upload after a long computation keeps its digits.
    """
    n = compute.size
    longest = compute.max()
    share = np.empty(n)
    x = 0.0
    for i in range(n):
        # Alone with the whole spectrum nobody could finish sooner.
        x = max(x, bits[i] / efficiency[i] / bandwidth - (longest - compute[i]))
    steps = 0
    while steps < 100:
        steps += 1
        total, slope = 0.0, 0.0
        for i in range(n):
            left = x + (longest - compute[i])
            needed = bits[i] / efficiency[i] / left / bandwidth
            total += needed
            slope += needed / left
        # Newton on 1/total − 1.
        step = (total - 1.0) * total / slope
        if not x + step > x:
            break
        x += step
    total = 0.0
    for i in range(n):
        share[i] = bits[i] / efficiency[i] / (x + (longest - compute[i]))
        total += share[i]
    # Whatever the order in which a user adds them up, the shares stay within the bandwidth.
    scale = bandwidth / total * (1.0 - 2.3e-16 * (n + 1))
    latency = 0.0
    for i in range(n):
        share[i] *= min(scale, 1.0)
        latency = max(latency, compute[i] + bits[i] / share[i] / efficiency[i])
    return share, latency, steps


@kernel
def assign_blocks(cost, column_of_row, v, violator):
    """Min-sum assignment of a small wide matrix; False, with a Hall violator, if there is none.

    `column_of_row`, the column duals `v` and `violator` are modified in place. Every row starts at its cheapest
    column; Dijkstra's shortest augmenting paths resolve the clashes. For a dozen rows this is quicker than what
    `linear_assignment` does, and no dual exceeds the optimum, so prices keep their digits however the costs spread.
    """
    n, m = cost.shape
    row_of_column = np.full(m, -1, np.int64)
    distance = np.empty(m)
    came_from = np.empty(m, np.int64)
    done = np.empty(m, np.bool_)
    for j in range(m):
        v[j] = 0.0
    for i in range(n):
        column_of_row[i] = -1
        cheapest = 0
        for j in range(1, m):
            if cost[i, j] < cost[i, cheapest]:
                cheapest = j
        if cost[i, cheapest] < np.inf and row_of_column[cheapest] < 0:
            row_of_column[cheapest] = i
            column_of_row[i] = cheapest
    for start in range(n):
        if column_of_row[start] >= 0:
            continue
        for j in range(m):
            distance[j] = cost[start, j] - v[j]
            came_from[j] = start
            done[j] = False
        while True:
            end = -1
            nearest = np.inf
            for j in range(m):
                if not done[j] and (distance[j] < nearest or (distance[j] == nearest and row_of_column[j] < 0)):
                    nearest = distance[j]
                    end = j
            if nearest == np.inf:
                violator[start] = True
                for j in range(m):
                    if done[j]:
                        violator[row_of_column[j]] = True
                return False
            if row_of_column[end] < 0:
                break
            done[end] = True
            i = row_of_column[end]
            offset = nearest - (cost[i, end] - v[end])
            for j in range(m):
                if not done[j] and cost[i, j] - v[j] + offset < distance[j]:
                    distance[j] = cost[i, j] - v[j] + offset
                    came_from[j] = i
        for j in range(m):
            if done[j]:
                v[j] += min(distance[j] - nearest, 0.0)  # rounding may bring it a hair above
        while True:
            i = came_from[end]
            row_of_column[end] = i
            end, column_of_row[i] = column_of_row[i], end
            if i == start:
                break
    return True
