"""(P2) in whole subcarriers: the same descent over assignments, with counts for costs."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from lola.solvers._inputs import Inputs
from lola.solvers.checks import FloatArray, IntArray, positive_number, subcarriers_in
from lola.solvers.errors import LolaValueError, infeasible_allocation
from lola.solvers.newton import assign_blocks
from lola.solvers.selection import devices_that_undercut

_MOST = 10**6


class WholeAllocation(NamedTuple):
    """An optimal allocation of whole subcarriers; prices are in subcarriers, integers held in float64."""

    latency: float
    device: IntArray
    counts: IntArray
    solved: int
    block_price: FloatArray
    device_price: FloatArray


def allocate_whole(inputs: Inputs, subcarrier_hz: float, candidates: IntArray) -> WholeAllocation:
    """Solve (P2) with bandwidths in multiples of `subcarrier_hz`, starting from some devices.

    At a deadline T a pair needs the least whole n with ``J + S/(n·Δ)/r < T``; the minimum-cost assignment of these
    counts either fits the spectrum, and then finishes strictly before T, or proves that nothing does. Latencies only
    take the finitely many values ``J + S/(n·Δ)/r``, so the descent ends at the optimum (Theorem 2, ``lola docs
    theory``).
    """
    width = positive_number("subcarrier_hz", subcarrier_hz)
    available = available_subcarriers(inputs.bandwidth, width, inputs.n_blocks)
    solved = 0
    while True:
        answer, price, device_price, tried = _descend(inputs, width, available, candidates)
        solved += tried
        # A device outside matters only if it could do with fewer subcarriers than a block's price.
        newcomers = devices_that_undercut(inputs, (price - 1) * width, answer.latency, candidates)
        if newcomers.shape[0] == 0:
            break
        candidates = np.union1d(candidates, newcomers)
    prices = np.zeros(inputs.n_devices)
    prices[candidates] = device_price
    return WholeAllocation(answer.latency, candidates[answer.device], answer.counts, solved, price, prices)


def available_subcarriers(bandwidth: float, width: float, wanted: int) -> int:
    """Count the subcarriers of a spectrum; refuse fewer than are wanted, and more than counting is good for."""
    available = subcarriers_in(bandwidth, width)
    if available < wanted:
        raise LolaValueError(
            f"bandwidth_hz holds {available} subcarriers of {width:g} Hz, but {wanted} blocks need one each; "
            "widen the spectrum or narrow the subcarriers"
        )
    if available > _MOST:
        raise LolaValueError(
            f"bandwidth_hz holds {available:.3g} subcarriers of {width:g} Hz, more than {_MOST}; leave "
            "subcarrier_hz out: bandwidth is as good as divisible then"
        )
    return available


class _Round(NamedTuple):
    latency: float
    device: IntArray
    counts: IntArray


def _descend(
    inputs: Inputs, width: float, available: int, candidates: IntArray
) -> tuple[_Round, FloatArray, FloatArray, int]:
    """Return the optimum over the candidates, prices of blocks and devices, and the assignments solved."""
    possible = inputs.memory[candidates] >= inputs.need[:, None]
    if inputs.mask is not None:
        possible &= inputs.mask[candidates].T
    compute = np.where(possible, inputs.work[:, None] / inputs.speed[candidates], np.inf)
    bits, efficiency = inputs.bits[:, None], inputs.efficiency[candidates]

    blocks = np.arange(inputs.n_blocks)
    device, device_price = np.zeros(inputs.n_blocks, np.int64), np.zeros(candidates.shape[0])
    violator = np.zeros(inputs.n_blocks, np.bool_)
    equal = compute + bits / (inputs.bandwidth / inputs.n_blocks) / efficiency
    if not assign_blocks(equal, device, device_price, violator):
        raise infeasible_allocation(np.flatnonzero(violator), inputs.need, inputs.memory, inputs.mask)
    solved = 1
    best, enough = _Round(np.inf, device, np.ones(inputs.n_blocks, np.int64)), None
    while True:
        chosen_compute, load = compute[blocks, device], inputs.bits / efficiency[device]
        for count in (deal_out(chosen_compute, load, width, available), enough):
            if count is not None:
                latency = float((chosen_compute + inputs.bits / (count * width) / efficiency[device]).max())
                if latency < best.latency:  # dealing out ties by a rounding; the counts that just sufficed do not
                    best = _Round(latency, device.copy(), count)
        latency = best.latency
        need = least_counts(compute, bits, efficiency, latency, width, available)
        assign_blocks(need, device, device_price, violator)
        solved += 1
        if need[blocks, device].sum() > available:
            price = (need - device_price).min(axis=1)
            return best, price, device_price, solved
        enough = need[blocks, device].astype(np.int64)


def least_counts(
    compute: FloatArray, bits: FloatArray, efficiency: FloatArray, deadline: float, width: float, available: int
) -> FloatArray:
    """Count the subcarriers with which each pair finishes strictly before a deadline.

    One more than there are stands for all that is too much.
    """
    too_few, need = np.zeros(compute.shape), np.full(compute.shape, available + 1.0)
    while (need - too_few > 1).any():
        middle = np.floor((too_few + need) / 2)
        with np.errstate(divide="ignore"):
            early = compute + bits / (middle * width) / efficiency < deadline
        too_few, need = np.where(early, too_few, middle), np.where(early, middle, need)
    return need


def deal_out(compute: FloatArray, load: FloatArray, width: float, available: int) -> IntArray:
    """Give every device a subcarrier, then each further one to whoever finishes last: the best whole split.

    Most are dealt at once: what each needs at an attainable latency, it needs at the optimum too.
    """
    n = compute.shape[0]

    def least(deadline: float) -> FloatArray:
        left = np.maximum(deadline - compute, load / width / (available + 2))  # less calls for too many anyway
        return np.clip(np.ceil(load / width / left * (1 - 1e-9)), 1, available + 1)

    low, high = float(compute.max()), float((compute + load / width).max())
    for _ in range(60):
        middle = (low + high) / 2
        if least(middle).sum() <= available - n:
            high = middle
        else:
            low = middle
    enough = least(high)
    count = (enough if enough.sum() <= available else np.ones(n)).astype(np.int64)
    last = [(-(c + s / (k * width)), i) for i, (c, s, k) in enumerate(zip(compute, load, count, strict=True))]
    heapq.heapify(last)
    for _ in range(available - int(count.sum())):
        i = last[0][1]
        count[i] += 1
        heapq.heapreplace(last, (-(compute[i] + load[i] / (count[i] * width)), i))
    return count
