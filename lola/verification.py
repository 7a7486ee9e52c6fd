"""An independent check of a schedule: comparisons and sums, no solver."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from lola.methods import method_named
from lola.methods.method import Method
from lola.problem import Problem, round_latency_s, segments
from lola.proofs.checks import ROUNDING
from lola.solvers.checks import FloatArray, IntArray, check_array, expect, require
from lola.solvers.errors import LolaValueError, VerificationError

if TYPE_CHECKING:
    from lola.solution import Schedule

_log = logging.getLogger(__name__)
# An exact method must meet its own bound this closely.
_OPTIMAL_GAP = 1e-9


def verify(schedule: Schedule, problem: Problem) -> None:
    """Check a schedule against a problem, constraint by constraint and then the proof.

    Raises
    ------
    VerificationError
        Naming the first line that fails.
    TypeError
        If `problem` is none.

    Notes
    -----
    ``lola docs theory``, "What each certificate proves". O(K·L).
    """
    expect("problem", problem, Problem)
    method = _method_of(schedule)
    _check_shapes(schedule, problem)
    _check_constraints(schedule, problem, method)
    _check_latencies(schedule, problem)
    _check_bound(schedule, problem, method)
    _log.info("verified %s", schedule)


def _method_of(schedule: Schedule) -> Method:
    try:
        return method_named(schedule.method)
    except LolaValueError as error:
        raise VerificationError(f"method: {error}") from None


def _check_shapes(schedule: Schedule, problem: Problem) -> None:
    types = {"device_of_block": np.int64, "bandwidth_hz": np.float64, "compute_s": np.float64, "upload_s": np.float64}
    for name, dtype in (types | {"hits_memory_wall": np.bool_}).items():
        check_array("shape", name, getattr(schedule, name), dtype, problem.n_blocks)
    for name in ("latency_s", "lower_bound_s"):
        value = getattr(schedule, name)
        require(isinstance(value, float), "shape", f"{name} must be a float, got {type(value).__name__}")


def _check_constraints(schedule: Schedule, problem: Problem, method: Method) -> None:
    devices, bandwidth = schedule.device_of_block, schedule.bandwidth_hz
    inside = (devices >= 0) & (devices < problem.n_devices)
    require(inside.all(), "C1, every block has a device", f"no device has index {devices[~inside][:1]}")
    _check_segments(devices, problem)
    needed, offered = problem.memory_bytes_of(devices), problem.fleet.usable_memory_bytes[devices]
    short = offered < needed
    if not method.heeds_memory:
        require((schedule.hits_memory_wall == short).all(), "C3, memory", "hits_memory_wall marks others than lack it")
    else:
        depth = int(np.argmax(short)) + 1
        require(not (schedule.hits_memory_wall & ~short).any(), "C3, memory", "hits_memory_wall marks who has enough")
        require(
            not short.any(),
            "C3, memory",
            f"depth {depth} needs {needed[depth - 1]:.6g} bytes, its device offers {offered[depth - 1]:.6g}",
        )
    if problem.allowed is not None:
        wrong = ~problem.allowed[devices, np.arange(problem.n_blocks)]
        require(not wrong.any(), "pairs", f"depth {int(np.argmax(wrong)) + 1} goes against a pinned or forbidden pair")
    require((np.isfinite(bandwidth) & (bandwidth > 0)).all(), "bandwidth", "every block needs a positive share")
    require(
        bandwidth.sum() <= problem.bandwidth_hz * (1 + ROUNDING),
        "bandwidth",
        f"the shares sum to {bandwidth.sum():.17g} Hz, more than {problem.bandwidth_hz:.17g} Hz",
    )
    if problem.subcarrier_hz is not None:
        depths = segments(devices)
        shares = np.array([bandwidth[s.start - 1 : s.stop - 1].sum() for s in depths]) / problem.subcarrier_hz
        whole = np.abs(shares - np.round(shares)) <= ROUNDING * shares
        first = depths[int(np.argmin(whole))].start
        require(whole.all(), "bandwidth", f"block {first} from the output has no whole subcarriers")
    if not method.joint:
        equal = problem.bandwidth_hz / problem.n_blocks
        require(_close(bandwidth, equal), "bandwidth", f"{schedule.method} splits equally, {equal:.17g} Hz a block")


def _check_segments(devices: IntArray, problem: Problem) -> None:
    if problem.max_blocks == 1:
        distinct, count = np.unique(devices, return_counts=True)
        require((count == 1).all(), "C2, one block a device", f"device {distinct[count > 1][:1]} has more than one")
        return
    line, depths = "C2, one segment a device", segments(devices)
    distinct, count = np.unique([devices[s.start - 1] for s in depths], return_counts=True)
    require((count == 1).all(), line, f"the blocks of device {distinct[count > 1][:1]} are no neighbours")
    longest, most = max(map(len, depths)), problem.longest
    require(longest <= most, line, f"a device has {longest} blocks, max_blocks is {most}")


def _check_latencies(schedule: Schedule, problem: Problem) -> None:
    require(
        schedule.local_steps in (None, problem.local_steps),
        "local_steps",
        f"is {schedule.local_steps!r}, but the problem has {problem.local_steps}; is this the problem that was solved?",
    )
    compute = problem.compute_s(schedule.device_of_block)
    upload = problem.upload_s(schedule.device_of_block, schedule.bandwidth_hz)
    require(
        _close(schedule.compute_s, compute),
        "compute_s",
        "is not local_steps·latency_s/speed; is this the problem that was solved?",
    )
    require(
        _close(schedule.upload_s, upload),
        "upload_s",
        "is not upload_bits/bandwidth_hz/spectral_efficiency; is this the problem that was solved?",
    )
    slowest = problem.broadcast_s + float(round_latency_s(compute, upload))
    require(
        _close(np.float64(schedule.latency_s), slowest),
        "latency_s",
        f"is {schedule.latency_s:.17g}, but the slowest device ends after {slowest:.17g}",
    )


def _check_bound(schedule: Schedule, problem: Problem, method: Method) -> None:
    bound, proof = schedule.lower_bound_s, schedule.proof
    if method.proof is None:
        require(proof is None and np.isnan(bound), "bound", f"{method.name} can claim none")
        return
    require(not np.isnan(bound), "bound", f"{method.name} must state one, got none")
    require(0 <= bound <= schedule.latency_s * (1 + ROUNDING), "bound", f"{bound!r} is above the latency it bounds")
    # Of this very class: a subclass could bring a check of its own.
    if proof is None or type(proof) is not method.proof_for(problem):
        reason = "none is given" if proof is None else f"{type(proof).__name__} proves another problem's bound"
        raise VerificationError(f"proof: {method.name} needs a proof of its bound; {reason}")
    # No schedule changes the broadcast: what is proven, and optimal, is what follows it.
    after = bound - problem.broadcast_s
    require(after >= 0, "bound", f"{bound!r} is below the broadcast alone")
    proof.check(problem, after)
    if method.exact:
        most = bound + _OPTIMAL_GAP * after + ROUNDING * problem.broadcast_s
        require(schedule.latency_s <= most, "optimality", f"the gap to it is {schedule.gap:.3g}")


def _close(value: FloatArray | np.float64, wanted: FloatArray | float) -> bool:
    return bool((np.abs(value - wanted) <= ROUNDING * np.abs(wanted)).all())
