"""An independent check of a schedule: comparisons and sums, no solver."""

import math
from collections.abc import Iterator

import numpy as np

from lola.problem import Problem
from lola.scheduling import BASELINES, EXACT_METHODS, JOINT_METHODS, METHODS
from lola.solution import HallProof, MultiplierProof, PriceProof, Schedule
from lola.solvers.checks import BoolArray, FloatArray, shown, subcarriers_in
from lola.solvers.errors import LolaError

# Numbers that are recomputed here by the formula they came from may differ by a few roundings.
_ROUNDING = 1e-12
# An exact method must meet its own bound this closely.
_OPTIMAL_GAP = 1e-9
# Prices and multipliers beyond this prove nothing that smaller ones do not, and could overflow when added up.
_LARGEST = 1e200
# Devices checked at a time, so that a city's fleet needs no K×L array.
_CHUNK = 1 << 15


class VerificationError(LolaError):
    """A schedule does not hold; the message names the first line that fails."""


def verify(schedule: Schedule, problem: Problem) -> None:
    """Check a schedule against a problem, constraint by constraint and then the proof.

    Raises
    ------
    VerificationError
        Naming the first line that fails.

    Notes
    -----
    ``lola docs theory``, "What each certificate proves". O(K·L).
    """
    _check_shapes(schedule, problem)
    _check_constraints(schedule, problem)
    _check_latencies(schedule, problem)
    _check_bound(schedule, problem)


def _require(holds: object, line: str, detail: str) -> None:
    if not holds:
        raise VerificationError(f"{line}: {detail}")


def _check_shapes(schedule: Schedule, problem: Problem) -> None:
    _require(schedule.method in METHODS, "method", f"{shown(schedule.method)} is not one of {', '.join(METHODS)}")
    types = {"device_of_block": np.int64, "bandwidth_hz": np.float64, "compute_s": np.float64, "upload_s": np.float64}
    for name, dtype in (types | {"hits_memory_wall": np.bool_}).items():
        _check_array("shape", name, getattr(schedule, name), dtype, problem.n_blocks)
    for name in ("latency_s", "lower_bound_s"):
        value = getattr(schedule, name)
        _require(isinstance(value, float), "shape", f"{name} must be a float, got {type(value).__name__}")
    if isinstance(schedule.proof, HallProof):
        _check_array("proof", "blocks", schedule.proof.blocks, np.int64, None)
    if isinstance(schedule.proof, PriceProof):
        _check_array("proof", "block_price_hz", schedule.proof.block_price_hz, np.float64, problem.n_blocks)
        _check_array("proof", "device_price_hz", schedule.proof.device_price_hz, np.float64, problem.n_devices)
    if isinstance(schedule.proof, MultiplierProof):
        _check_array("proof", "block_s", schedule.proof.block_s, np.float64, problem.n_blocks)
        for name in ("latency", "involvement_s", "device_s"):
            _check_array("proof", name, getattr(schedule.proof, name), np.float64, problem.n_devices)
        _require(isinstance(schedule.proof.bandwidth, float), "proof", "bandwidth must be a float")


def _check_array(line: str, name: str, value: object, dtype: type, length: int | None) -> None:
    _require(isinstance(value, np.ndarray), line, f"{name} must be an array, got {type(value).__name__}")
    assert isinstance(value, np.ndarray)
    _require(value.dtype == dtype, line, f"{name} must be of {dtype.__name__}, got {value.dtype}")
    shape = value.shape if length is None else (length,)
    _require(value.ndim == 1 and value.shape == shape, line, f"{name} has shape {value.shape}, wanted {shape}")


def _check_constraints(schedule: Schedule, problem: Problem) -> None:
    devices, bandwidth = schedule.device_of_block, schedule.bandwidth_hz
    inside = (devices >= 0) & (devices < problem.n_devices)
    _require(inside.all(), "C1, every block has a device", f"no device has index {devices[~inside][:1]}")
    distinct, count = np.unique(devices, return_counts=True)
    _require((count == 1).all(), "C2, one block a device", f"device {distinct[count > 1][:1]} has more than one")
    needed, offered = problem.profile.memory_bytes, problem.fleet.usable_memory_bytes[devices]
    short = offered < needed
    if schedule.method in BASELINES:
        _require((schedule.hits_memory_wall == short).all(), "C3, memory", "hits_memory_wall marks others than lack it")
    else:
        depth = int(np.argmax(short)) + 1
        _require(not (schedule.hits_memory_wall & ~short).any(), "C3, memory", "hits_memory_wall marks who has enough")
        _require(
            not short.any(),
            "C3, memory",
            f"depth {depth} needs {needed[depth - 1]:.6g} bytes, its device offers {offered[depth - 1]:.6g}",
        )
    if problem.allowed is not None:
        wrong = ~problem.allowed[devices, np.arange(problem.n_blocks)]
        _require(not wrong.any(), "pairs", f"depth {int(np.argmax(wrong)) + 1} goes against a pinned or forbidden pair")
    _require((np.isfinite(bandwidth) & (bandwidth > 0)).all(), "bandwidth", "every block needs a positive share")
    _require(
        bandwidth.sum() <= problem.bandwidth_hz * (1 + _ROUNDING),
        "bandwidth",
        f"the shares sum to {bandwidth.sum():.17g} Hz, more than {problem.bandwidth_hz:.17g} Hz",
    )
    if problem.subcarrier_hz is not None:
        shares = bandwidth / problem.subcarrier_hz
        whole = np.abs(shares - np.round(shares)) <= _ROUNDING * shares
        _require(
            whole.all(), "bandwidth", f"block {int(np.argmin(whole)) + 1} from the output has no whole subcarriers"
        )
    if schedule.method not in JOINT_METHODS:
        equal = problem.bandwidth_hz / problem.n_blocks
        _require(_close(bandwidth, equal), "bandwidth", f"{schedule.method} splits equally, {equal:.17g} Hz a block")


def _check_latencies(schedule: Schedule, problem: Problem) -> None:
    compute = problem.compute_s(schedule.device_of_block)
    upload = problem.upload_s(schedule.device_of_block, schedule.bandwidth_hz)
    _require(
        _close(schedule.compute_s, compute),
        "compute_s",
        "is not local_steps·latency_s/speed; is this the problem that was solved?",
    )
    _require(
        _close(schedule.upload_s, upload),
        "upload_s",
        "is not upload_bits/bandwidth_hz/spectral_efficiency; is this the problem that was solved?",
    )
    slowest = float((compute + upload).max())
    _require(
        _close(np.float64(schedule.latency_s), slowest),
        "latency_s",
        f"is {schedule.latency_s:.17g}, but the slowest device takes {slowest:.17g}",
    )


def _check_bound(schedule: Schedule, problem: Problem) -> None:
    bound, proof = schedule.lower_bound_s, schedule.proof
    if schedule.method in BASELINES:
        _require(proof is None and np.isnan(bound), "bound", f"{schedule.method} can claim none")
        return
    _require(not np.isnan(bound), "bound", f"{schedule.method} must state one, got none")
    _require(0 <= bound <= schedule.latency_s * (1 + _ROUNDING), "bound", f"{bound!r} is above the latency it bounds")
    if isinstance(proof, HallProof) and schedule.method in ("ba", "ba-crunch"):
        _check_hall(proof, bound, problem)
    elif isinstance(proof, PriceProof) and schedule.method == "jbba":
        _check_prices(proof, bound, problem)
    elif isinstance(proof, MultiplierProof) and schedule.method == "jbba-dual-ascent":
        _check_multipliers(proof, bound, problem)
    else:
        given = "none is given" if proof is None else f"{type(proof).__name__} proves another problem's bound"
        _require(False, "proof", f"{schedule.method} needs a proof of its bound; {given}")
    if schedule.method in EXACT_METHODS:
        _require(
            schedule.latency_s <= bound * (1 + _OPTIMAL_GAP),
            "optimality",
            f"the gap to it is {schedule.gap:.3g}",
        )


def _check_sane(what: str, *parts: FloatArray) -> None:
    """Refuse what cannot be added up: NaN, infinity, and numbers that would overflow."""
    sane = all((np.abs(part) <= _LARGEST).all() for part in parts)
    _require(sane, "proof", f"a {what} is not finite, or beyond {_LARGEST:g}")


def _check_hall(proof: HallProof, bound: float, problem: Problem) -> None:
    """Count the devices that can serve one of the blocks in less than the bound."""
    blocks = np.unique(proof.blocks)
    _require(
        blocks.size > 0 and blocks[0] >= 0 and blocks[-1] < problem.n_blocks, "proof", "names no blocks of the problem"
    )
    share = problem.bandwidth_hz / problem.n_blocks
    able = 0
    for compute, load, possible in _chunks(problem):
        quick = compute + load / share < bound * (1 - _ROUNDING)
        able += int((quick & possible)[:, blocks].any(axis=1).sum())
    _require(
        able < blocks.size,
        "proof",
        f"{able} devices can serve one of {blocks.size} blocks in less than {bound:.17g} s; want fewer",
    )


def _check_prices(proof: PriceProof, bound: float, problem: Problem) -> None:
    """Weak duality: any allocation that finishes by the bound needs at least all prices together, which is too much."""
    block, device = proof.block_price_hz, proof.device_price_hz
    _check_sane("price", block, device)
    _require((device <= 0).all(), "proof", "a device's price is above 0")
    if problem.subcarrier_hz is not None:
        _check_counts(block, device, bound, problem, problem.subcarrier_hz)
        return
    excess, first = 0.0, 0
    for compute, load, possible in _chunks(problem):
        last = first + compute.shape[0]
        left = bound - compute
        possible &= left > 0
        needed = np.divide(load, left, out=np.full_like(left, np.inf), where=possible)
        excess = max(excess, float((block + device[first:last, None] - needed).max()))
        first = last
    # Prices above what a pair needs, as far as rounding can hide it, are paid for, once per block.
    excess += 4.5e-16 * float(np.abs(block).max() + np.abs(device).max())
    total = math.fsum([*block.tolist(), *device[device < 0].tolist(), -problem.n_blocks * excess])
    _require(
        total > problem.bandwidth_hz,
        "proof",
        f"finishing by {bound:.17g} s is only shown to need {total:.17g} Hz, not more than {problem.bandwidth_hz:.17g}",
    )


def _check_counts(block: FloatArray, device: FloatArray, bound: float, problem: Problem, width: float) -> None:
    """Do the same in whole subcarriers, where prices are integers and sums are exact."""
    counts = []
    for price in (block, device):
        count = np.round(price / width)
        whole = np.abs(price / width - count) <= _ROUNDING * np.maximum(np.abs(count), 1.0)
        _require(whole.all() and (np.abs(count) < 2**52).all(), "proof", "a price is no whole number of subcarriers")
        counts.append(count.astype(np.int64))
    first = 0
    for compute, load, possible in _chunks(problem):
        last = first + compute.shape[0]
        fewer = (counts[0] + counts[1][first:last, None] - 1) * width
        first = last
        # With one subcarrier fewer than its price a pair must not finish before the bound.
        finish = compute + np.divide(load, fewer, out=np.full_like(load, np.inf), where=fewer > 0)
        quick = (finish < bound * (1 - _ROUNDING)) & possible
        _require(not quick.any(), "proof", "a price exceeds the subcarriers that a pair needs")
    total, available = sum(counts[0].tolist()) + sum(counts[1].tolist()), subcarriers_in(problem.bandwidth_hz, width)
    _require(
        total > available,
        "proof",
        f"finishing before {bound:.17g} s is only shown to need {total} subcarriers, not more than {available}",
    )


def _check_multipliers(proof: MultiplierProof, bound: float, problem: Problem) -> None:
    """Weak duality again: the Lagrangian at these multipliers is nowhere below the bound."""
    weight, sigma, block, device = proof.latency, proof.involvement_s, proof.block_s, proof.device_s
    _check_sane("multiplier", weight, sigma, block, device, np.array([proof.bandwidth]))
    _require((weight >= 0).all() and proof.bandwidth >= 0, "proof", "a multiplier is below 0")
    _require(math.fsum(weight) <= 1 + _ROUNDING, "proof", "the latency multipliers sum to more than 1")
    _require((device <= 0).all(), "proof", "a device's dual is above 0")
    excess, first = 0.0, 0
    for compute, _, possible in _chunks(problem):
        last = first + compute.shape[0]
        rows = slice(first, last)
        over = block + device[rows, None] - (weight[rows, None] * compute - sigma[rows, None])
        excess = max(excess, float(np.where(possible, over, -np.inf).max()))
        first = last
    # Lemma 1: the least any L devices contribute, each with the bandwidth that suits it best.
    bits, n_blocks = float(problem.profile.upload_bits.max()), problem.n_blocks
    _require((problem.profile.upload_bits == bits).all(), "proof", "holds for equal uploads only")
    part = 2.0 * np.sqrt(weight * bits * proof.bandwidth / problem.fleet.spectral_efficiency) + sigma
    involved = np.sort(part)[:n_blocks]
    excess += 4.5e-16 * float(np.abs(block).max() + np.abs(device).max() + np.abs(sigma).max() + np.abs(involved).max())
    spent = proof.bandwidth * problem.bandwidth_hz
    value = math.fsum([*block.tolist(), *device[device < 0].tolist(), *involved.tolist(), -spent, -n_blocks * excess])
    _require(
        value >= bound * (1 - _ROUNDING), "proof", f"the multipliers only show that no schedule is below {value:.17g} s"
    )


def _chunks(problem: Problem) -> Iterator[tuple[FloatArray, FloatArray, BoolArray]]:
    """Yield seconds of computation, bits over efficiency, and whether the pair is possible; devices by blocks."""
    profile, fleet = problem.profile, problem.fleet
    memory = fleet.usable_memory_bytes
    work = problem.local_steps * profile.latency_s
    for first in range(0, problem.n_devices, _CHUNK):
        chunk = slice(first, first + _CHUNK)
        possible = memory[chunk, None] >= profile.memory_bytes
        if problem.allowed is not None:
            possible &= problem.allowed[chunk]
        yield (
            work / fleet.speed[chunk, None],
            profile.upload_bits / fleet.spectral_efficiency[chunk, None],
            possible,
        )


def _close(value: FloatArray | np.float64, wanted: FloatArray | float) -> bool:
    return bool((np.abs(value - wanted) <= _ROUNDING * np.abs(wanted)).all())
