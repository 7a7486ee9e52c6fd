"""(P2), joint bandwidth-and-block allocation: optimal by Theorem 2, for a cell or a city."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import allocation_inputs
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.errors import infeasible_allocation
from lola.solvers.newton import AFTER_BOUND, newton
from lola.solvers.selection import NOBODY, devices_that_undercut, equal_split_candidates
from lola.solvers.subcarriers import allocate_whole

# Up to this many pairs the whole fleet goes into the assignment; beyond, devices are priced in as they are needed.
_DENSE_PAIRS = 8192


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
        Seconds; no allocation is faster. A fraction 2.6e-13 below `objective`, more where rounding asks for it.
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
    subcarrier_hz: float | None = None,
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
    subcarrier_hz : float, optional
        Bandwidths are whole multiples of this; any real number without it.

    Returns
    -------
    JointAllocation
        The optimum, and prices that prove it. With subcarriers, `lower_bound` is `objective`, and the prices refer to
        the whole subcarriers with which a pair finishes strictly before it.

    Raises
    ------
    InfeasibleError
        If memory (or `allowed`) leaves some blocks too few devices.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    (P2) of the LoLa-DEFT paper, by Theorem 2 of ``lola docs theory``: two to five assignments of L blocks are usual. In
    a large fleet only devices that the prices call for enter the assignment; each pass over the others costs O(K·L)
    time and no memory, and the last one completes the proof.

    Examples
    --------
    >>> from lola.solvers import joint_allocation
    >>> fleet = {"speed": [0.5, 1.0, 0.8], "memory_bytes": [3e9, 2e9, 1e9], "spectral_efficiency": [4.0, 2.0, 1.0]}
    >>> allocation = joint_allocation([0.8, 1.2], [1e9, 2e9], 8e5, **fleet, bandwidth_hz=1e6)
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
    n_devices, n_blocks = inputs.n_devices, inputs.n_blocks
    everyone = n_devices * n_blocks <= _DENSE_PAIRS or n_devices == n_blocks
    candidates = NOBODY if everyone else equal_split_candidates(inputs)
    if subcarrier_hz is not None:
        whole = allocate_whole(inputs, subcarrier_hz, np.arange(n_devices) if everyone else candidates)
        return JointAllocation(
            objective=whole.latency,
            device_of_block=whole.device,
            bandwidth_hz=whole.counts.astype(np.float64) * subcarrier_hz,
            iterations=whole.solved,
            lower_bound=whole.latency,
            block_price_hz=whole.block_price * subcarrier_hz,
            device_price_hz=whole.device_price * subcarrier_hz,
        )
    iterations = 0
    while True:
        best = newton(
            inputs.work,
            inputs.need,
            inputs.bits,
            inputs.speed if everyone else inputs.speed[candidates],
            inputs.memory if everyone else inputs.memory[candidates],
            inputs.efficiency if everyone else inputs.efficiency[candidates],
            inputs.allowed if everyone or not inputs.allowed.size else inputs.allowed[candidates],
            inputs.bandwidth,
            np.zeros(inputs.n_blocks, np.int64),
            0.0,
        )
        if best.solved < 0:
            raise infeasible_allocation(np.flatnonzero(best.violator), inputs.need, inputs.memory, inputs.mask)
        iterations += best.solved
        if everyone:
            device, prices = best.device, best.device_price
            break
        newcomers = devices_that_undercut(inputs, best.price, best.bound * AFTER_BOUND, candidates)
        if newcomers.shape[0] == 0:
            device, prices = candidates[best.device], np.zeros(n_devices)
            prices[candidates] = best.device_price
            break
        candidates = np.union1d(candidates, newcomers)
    return JointAllocation(best.latency, device, best.share, iterations, best.bound, best.price, prices)
