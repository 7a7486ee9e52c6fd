"""(P2) for many rounds at once: the same profile and devices, another channel each time."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import allocation_inputs, checked
from lola.solvers._jit import kernel
from lola.solvers.checks import BoolArray, FloatArray, IntArray, positive_integer, real_array
from lola.solvers.errors import LolaValueError
from lola.solvers.newton import newton

# Rounds a thread takes at a time: long enough to hide the hand-over, short enough that all threads end together. The
# first of them starts afresh whatever the threads, so it must not depend on their number.
_CHUNK = 128


@dataclass(frozen=True, eq=False)
class JointAllocationBatch:
    """Optimal joint allocations of R rounds, and their proofs; the fields of `JointAllocation` with an axis in front.

    Attributes
    ----------
    feasible : (R,) bool array
        False where too few devices have the memory; the other fields then hold inf, −1, 0 and 0.
    objective, lower_bound : (R,) float64 arrays
        Seconds.
    device_of_block : (R, L) int64 array
    bandwidth_hz : (R, L) float64 array
    iterations : (R,) int64 array
        Assignments solved.
    block_price_hz, device_price_hz : (R, L), (R, K) float64 arrays
    """

    feasible: BoolArray
    objective: FloatArray
    lower_bound: FloatArray
    device_of_block: IntArray
    bandwidth_hz: FloatArray
    iterations: IntArray
    block_price_hz: FloatArray
    device_price_hz: FloatArray


def joint_allocation_batch(
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
    threads: int | None = None,
) -> JointAllocationBatch:
    """Solve (P2) for every round, in parallel over the cores and without Python between rounds.

    Parameters
    ----------
    latency_s, depth_memory_bytes, upload_bits, bandwidth_hz, local_steps, allowed
        As for `joint_allocation`; the same in every round.
    speed, memory_bytes : (K,), (1, K) or (R, K) array_like
        The fleet, the same in every round or one row a round.
    spectral_efficiency : (R, K) array_like
        bit/s/Hz of each device in each round.
    threads : int, optional
        As many as there are cores by default. The answers do not depend on it, to the last bit.

    Returns
    -------
    JointAllocationBatch
        A round without enough memory is marked in `feasible` and raises nothing.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Theorem 2 of ``lola docs theory``, every device in every assignment. Where the channel has hardly changed since the
    round before, Newton's method starts from its devices; so of several optimal allocations, a round may get another
    one than from `joint_allocation`. For a fleet of many thousands, call
    `joint_allocation` round by round, which lets only the devices in that can matter.

    Examples
    --------
    >>> from lola.solvers import joint_allocation_batch
    >>> fleet = {"speed": [0.5, 1.0, 0.8], "memory_bytes": [3e9, 2e9, 1e9]}
    >>> fleet["spectral_efficiency"] = [[4.0, 2.0, 1.0], [0.5, 3.0, 2.0]]  # a row a round
    >>> allocation = joint_allocation_batch([0.8, 1.2], [1e9, 2e9], 8e5, **fleet, bandwidth_hz=1e6)
    >>> allocation.device_of_block.tolist(), allocation.objective.round(3).tolist()
    ([[0, 1], [2, 1]], [2.0, 1.762])
    """
    rows = fleet_rows(speed, memory_bytes, spectral_efficiency)
    n_rounds, n_devices = rows.efficiency.shape
    inputs = allocation_inputs(
        latency_s,
        depth_memory_bytes,
        upload_bits,
        rows.speed[0],
        rows.memory[0],
        rows.efficiency[0],
        bandwidth_hz=bandwidth_hz,
        local_steps=local_steps,
        allowed=allowed,
    )
    n_blocks = inputs.n_blocks
    latency, bound = np.full(n_rounds, np.inf), np.full(n_rounds, np.inf)
    device = np.full((n_rounds, n_blocks), -1, dtype=np.int64)
    share, price = np.zeros((n_rounds, n_blocks)), np.zeros((n_rounds, n_blocks))
    device_price = np.zeros((n_rounds, n_devices))
    solved = np.zeros(n_rounds, dtype=np.int64)

    def solve(first: int, last: int) -> None:
        _solve_rounds(
            first,
            last,
            inputs.work,
            inputs.need,
            inputs.bits,
            rows.speed,
            rows.memory,
            rows.efficiency,
            inputs.allowed,
            inputs.bandwidth,
            latency,
            bound,
            device,
            share,
            price,
            device_price,
            solved,
        )

    in_threads(solve, n_rounds, threads)
    return JointAllocationBatch(
        feasible=solved >= 0,
        objective=latency,
        lower_bound=bound,
        device_of_block=device,
        bandwidth_hz=share,
        iterations=np.maximum(solved, 0),
        block_price_hz=price,
        device_price_hz=device_price,
    )


class FleetRows(NamedTuple):
    """The fleets of R rounds, checked; one row where all rounds have the same."""

    speed: FloatArray  # (1, K) or (R, K)
    memory: FloatArray  # (1, K) or (R, K) bytes
    efficiency: FloatArray  # (R, K) bit/s/Hz


def fleet_rows(speed: ArrayLike, memory_bytes: ArrayLike, spectral_efficiency: ArrayLike) -> FleetRows:
    """Validate and cast what differs between the rounds of a batch."""
    efficiency = real_array("spectral_efficiency", spectral_efficiency, 2)
    n_rounds, n_devices = efficiency.shape
    if n_rounds == 0:
        raise LolaValueError("spectral_efficiency must have at least one row, a round; got none")
    checked("spectral_efficiency (flattened)", efficiency.ravel())
    fleet = []
    for name, value, positive in (("speed", speed, True), ("memory_bytes", memory_bytes, False)):
        try:
            rows = real_array(name, value, 2)
        except ValueError:
            rows = real_array(name, value, 1)[None]
        if rows.shape not in ((1, n_devices), (n_rounds, n_devices)):
            raise LolaValueError(
                f"{name} must have shape ({n_devices},) or {efficiency.shape}, as spectral_efficiency; "
                f"got {rows.shape if rows.shape[0] > 1 else rows.shape[1:]}"
            )
        checked(f"{name} (flattened)", rows.ravel(), positive=positive)
        fleet.append(rows)
    return FleetRows(fleet[0], fleet[1], efficiency)


def in_threads(solve: Callable[[int, int], None], n_rounds: int, threads: int | None) -> None:
    """Call ``solve(first, last)`` for chunks of the rounds, side by side on as many cores as there are.

    Compiled kernels let go of the interpreter's lock, so threads run side by side, each on rounds of its own.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(positive_integer("threads", cores if threads is None else threads))
    try:
        chunks = range(0, n_rounds, _CHUNK)
        for done in [pool.submit(solve, first, min(first + _CHUNK, n_rounds)) for first in chunks]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the chunks at work, not for those in the queue


@kernel
def _solve_rounds(
    first, last, work, need, bits, speed, memory, efficiency, allowed, bandwidth,
    latency, bound, device, share, price, device_price, solved,
):  # fmt: skip
    """Solve rounds `first` to `last` − 1: rows of `efficiency`, and of `speed` and `memory` where they have several.

    The last seven arrays, one row a round, are modified in place; `solved` is −1 where a round has no allocation.
    Each round but the first may start from the one before.
    """
    devices, reached = np.zeros(work.size, np.int64), 0.0
    for r in range(first, last):
        quick, room = speed[r if speed.shape[0] > 1 else 0], memory[r if memory.shape[0] > 1 else 0]
        one = newton(work, need, bits, quick, room, efficiency[r], allowed, bandwidth, devices, reached)
        devices, reached, solved[r] = one.device, one.latency, one.solved
        if one.solved < 0:
            reached = 0.0
            continue
        latency[r] = one.latency
        bound[r] = one.bound
        device[r, :] = one.device
        share[r, :] = one.share
        price[r, :] = one.price
        device_price[r, :] = one.device_price
