"""(P3) for many rounds at once: the same profile and devices, another channel each time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import allocation_inputs
from lola.solvers._jit import kernel
from lola.solvers.batch import fleet_rows, in_threads, joint_allocation_batch
from lola.solvers.checks import BoolArray, FloatArray, IntArray
from lola.solvers.errors import undecided_segments
from lola.solvers.segment_descent import descend, divided
from lola.solvers.segments import segments_of


@dataclass(frozen=True, eq=False)
class SegmentAllocationBatch:
    """Optimal allocations of segments of R rounds; the fields of `SegmentAllocation` with an axis in front.

    The potentials behind each bound are left out; `segment_allocation` gives those of any round.

    Attributes
    ----------
    feasible : (R,) bool array
        False where no selection of segments exists; the other fields then hold inf, −1 and 0.
    objective, lower_bound : (R,) float64 arrays
        Seconds.
    device_of_block : (R, L) int64 array
    bandwidth_hz : (R, L) float64 array
    iterations : (R,) int64 array
        Selections tried.
    """

    feasible: BoolArray
    objective: FloatArray
    lower_bound: FloatArray
    device_of_block: IntArray
    bandwidth_hz: FloatArray
    iterations: IntArray


def segment_allocation_batch(
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
    threads: int | None = None,
) -> SegmentAllocationBatch:
    """Solve (P3) for every round, in parallel over the cores and without Python between rounds.

    Parameters
    ----------
    latency_s, depth_memory_bytes, upload_bits, bandwidth_hz, local_steps, allowed
        As for `segment_allocation`; the same in every round.
    extra_latency_s, extra_memory_bytes, max_blocks
        The same.
    speed, memory_bytes : (K,), (1, K) or (R, K) array_like
        The fleet, the same in every round or one row a round.
    spectral_efficiency : (R, K) array_like
        bit/s/Hz of each device in each round.
    threads : int, optional
        As many as there are cores by default. The answers do not depend on it, to the last bit.

    Returns
    -------
    SegmentAllocationBatch
        A round that no selection of segments can serve is marked in `feasible` and raises nothing.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Theorem 5 of ``lola docs theory``, every device in every round; for a fleet of many thousands, call
    `segment_allocation` round by round, which lets only the devices in that can matter.

    Examples
    --------
    >>> from lola.solvers import segment_allocation_batch
    >>> fleet = {"speed": [0.5, 1.0], "memory_bytes": [1e9, 4e9]}
    >>> fleet["spectral_efficiency"] = [[4.0, 2.0], [0.5, 3.0]]  # a row a round
    >>> allocation = segment_allocation_batch([0.8, 1.0, 1.2], [1e9, 2e9, 3e9], 8e5, **fleet, bandwidth_hz=1e6)
    >>> allocation.device_of_block.tolist(), allocation.objective.round(3).tolist()
    ([[0, 1, 1], [1, 1, 1]], [2.312, 2.0])
    """
    rows = fleet_rows(speed, memory_bytes, spectral_efficiency)
    n_rounds = rows.efficiency.shape[0]
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
        fewer_devices=True,
    )
    arcs = segments_of(inputs, extra_latency_s, extra_memory_bytes, max_blocks, local_steps)
    if arcs.longest == 1 and inputs.n_devices >= inputs.n_blocks:  # an assignment, of which paths know nothing quicker
        one = joint_allocation_batch(
            inputs.work,
            inputs.need,
            inputs.bits,
            rows.speed,
            rows.memory,
            rows.efficiency,
            bandwidth_hz=inputs.bandwidth,
            allowed=inputs.mask,
            threads=threads,
        )
        return SegmentAllocationBatch(
            one.feasible, one.objective, one.lower_bound, one.device_of_block, one.bandwidth_hz, one.iterations
        )
    latency, bound = np.full(n_rounds, np.inf), np.full(n_rounds, np.inf)
    device = np.full((n_rounds, inputs.n_blocks), -1, dtype=np.int64)
    share = np.zeros((n_rounds, inputs.n_blocks))
    steps = np.zeros(n_rounds, dtype=np.int64)

    def solve(first: int, last: int) -> None:
        _solve_rounds(
            first,
            last,
            arcs.first,
            arcs.last,
            arcs.inputs.work,
            arcs.inputs.need,
            arcs.inputs.bits,
            inputs.bits,
            rows.speed,
            rows.memory,
            rows.efficiency,
            arcs.inputs.allowed,
            inputs.bandwidth,
            latency,
            bound,
            device,
            share,
            steps,
        )

    in_threads(solve, n_rounds, threads)
    if (bound < 0.0).any():
        raise undecided_segments()
    return SegmentAllocationBatch(latency < np.inf, latency, bound, device, share, steps)


@kernel
def _solve_rounds(
    begin, end, first, last, work, need, bits, block_bits, speed, memory, efficiency, allowed, bandwidth,
    latency, bound, device, share, steps,
):  # fmt: skip
    """Solve rounds `begin` to `end` − 1: rows of `efficiency`, and of `speed` and `memory` where they have several.

    The last five arrays, one row a round, are modified in place.
    """
    for r in range(begin, end):
        quick, room = speed[r if speed.shape[0] > 1 else 0], memory[r if memory.shape[0] > 1 else 0]
        best = descend(first, last, work, need, bits, quick, room, efficiency[r], allowed, bandwidth)
        steps[r] = best.steps
        if best.arc.size == 0 and best.bound >= 0.0:
            continue
        bound[r] = best.bound
        if best.arc.size == 0:
            continue
        device[r, :], share[r, :], latency[r] = divided(
            best.arc, best.device, best.share, first, last, work, bits, block_bits, quick, efficiency[r]
        )
