"""(P1), block allocation under an equal split of the bandwidth: the closed form of Theorem 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import Inputs, allocation_inputs
from lola.solvers._jit import kernel
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.errors import InfeasibleError, infeasible_allocation
from lola.solvers.hopcroft_karp import bottleneck_assignment
from lola.solvers.selection import candidate_devices, fastest


@dataclass(frozen=True, eq=False)
class BlockAllocation:
    """An optimal allocation of blocks under equal bandwidth, and its proof.

    Attributes
    ----------
    objective : float
        Latency of the round in seconds.
    device_of_block : (L,) int64 array
        In depth order: entry 0 serves depth 1.
    bandwidth_hz : (L,) float64 array
        The equal split.
    iterations : int
        Passes over the fleet (closed form), or thresholds tried (general algorithm).
    hall_violator : int64 array
        Blocks of which fewer devices than blocks can serve any in less than `objective` seconds. So no allocation
        is faster.
    """

    objective: float
    device_of_block: IntArray
    bandwidth_hz: FloatArray
    iterations: int
    hall_violator: IntArray


def block_allocation(
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
) -> BlockAllocation:
    """Give each block to one device so that the slowest is as fast as possible, bandwidth split equally.

    Block l on device k takes ``local_steps·latency_s[l]/speed[k] + upload_bits[l]/(bandwidth_hz/L)/
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
    BlockAllocation
        The optimum and a Hall violator that proves it.

    Raises
    ------
    InfeasibleError
        If memory (or `allowed`) leaves some blocks too few devices.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    (P1) of the LoLa-DEFT paper. Where latency, memory and upload do not fall with depth and nothing is forbidden,
    Theorem 1 of ``lola docs theory`` gives the optimum in one pass over the fleet, O(K·L) time and O(L²) extra memory.
    Elsewhere the L fastest devices of each block (Lemma 3) go to `bottleneck_assignment`.

    Examples
    --------
    >>> from lola.solvers import block_allocation
    >>> fleet = {"speed": [0.5, 1.0, 0.8], "memory_bytes": [3e9, 2e9, 1e9], "spectral_efficiency": [4.0, 2.0, 1.0]}
    >>> allocation = block_allocation([0.8, 1.2], [1e9, 2e9], 8e5, **fleet, bandwidth_hz=1e6)
    >>> allocation.device_of_block, round(allocation.objective, 3)
    (array([0, 1]), 2.0)
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
    )
    n_blocks = inputs.n_blocks
    share = inputs.bandwidth / n_blocks
    load = inputs.bits / share
    nested = inputs.mask is None and all(bool((np.diff(a) >= 0).all()) for a in (inputs.work, inputs.need, inputs.bits))
    keep = np.arange(n_blocks, 0, -1) if nested else np.full(n_blocks, n_blocks)
    latency, device = fastest(inputs, load, keep)
    bandwidth = np.full(n_blocks, share)
    if not nested:
        return _general(inputs, latency, device, bandwidth)
    bottleneck = int(np.argmax(latency[:, 0]))
    violator = np.arange(bottleneck, n_blocks)
    if latency[bottleneck, 0] == np.inf:
        # The deepest block that too few devices can take: its suffix is the shortest violator.
        violator = np.arange(np.flatnonzero(latency[:, 0] == np.inf)[-1], n_blocks)
        raise infeasible_allocation(violator, inputs.need, inputs.memory, inputs.mask)
    chosen, objective = _place_deepest_first(latency, device)
    return BlockAllocation(objective, chosen, bandwidth, 1, violator)


def _general(inputs: Inputs, latency: FloatArray, device: IntArray, bandwidth: FloatArray) -> BlockAllocation:
    """Solve over the L fastest devices of each block, which lose nothing (Lemma 3), whatever the rows look like."""
    n_blocks = inputs.n_blocks
    candidates = candidate_devices(device)
    cost = np.full((n_blocks, max(n_blocks, candidates.shape[0])), np.inf)
    block, place = np.nonzero(device >= 0)
    cost[block, np.searchsorted(candidates, device[block, place])] = latency[block, place]
    try:
        result = bottleneck_assignment(cost)
    except InfeasibleError as error:
        raise infeasible_allocation(np.array(error.violator), inputs.need, inputs.memory, inputs.mask) from None
    return BlockAllocation(
        result.objective, candidates[result.column_of_row], bandwidth, result.iterations, result.hall_violator
    )


@kernel
def _place_deepest_first(latency, device):
    """Give each block, deepest first, the fastest of its kept devices that is still free, and return the bottleneck.

    Block l keeps L−l+1 devices (l counted from 1) and L−l of them at most are taken by deeper blocks, so one is free.
    """
    n_blocks = latency.shape[0]
    chosen = np.full(n_blocks, -1, np.int64)
    objective = 0.0
    for block in range(n_blocks - 1, -1, -1):
        best = np.inf
        for p in range(n_blocks - block):
            if latency[block, p] < best:
                free = True
                for deeper in range(block + 1, n_blocks):
                    if chosen[deeper] == device[block, p]:
                        free = False
                if free:
                    best = latency[block, p]
                    chosen[block] = device[block, p]
        objective = max(objective, best)
    return chosen, objective
