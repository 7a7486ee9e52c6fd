"""From a problem to a schedule, by any of the methods."""

from typing import Any

import numpy as np

from lola.files.formats import expect
from lola.problem import Problem
from lola.profile import frozen
from lola.solution import HallProof, MultiplierProof, PriceProof, Proof, Schedule
from lola.solvers.checks import FloatArray, IntArray, seed_number, shown
from lola.solvers.errors import InfeasibleError, LolaValueError

# Optimal for the problem they solve, with a proof.
EXACT_METHODS = ("jbba", "ba", "ba-crunch")
# These choose the bandwidths; the others split the spectrum equally.
JOINT_METHODS = ("jbba", "jbba-dual-ascent")
# The paper's benchmarks: they ignore memory and split the bandwidth equally.
BASELINES = ("computation-aware", "communication-aware", "random")
METHODS = ("jbba", "jbba-dual-ascent", "ba", "ba-crunch", *BASELINES)


def schedule(problem: Problem, method: str = "jbba", *, seed: int | np.random.Generator | None = None) -> Schedule:
    """Decide which device takes which block, and with how much bandwidth.

    Parameters
    ----------
    problem : Problem
        The round.
    method : str
        ``"jbba"``: blocks and bandwidth together, optimal (P2, Theorem 2).
        ``"jbba-dual-ascent"``: the same as published, Algorithm 3: not optimal, and with a loose bound.
        ``"ba"``: blocks under an equal split of the bandwidth, optimal (P1, Theorem 1).
        ``"ba-crunch"``: the same as published, Algorithm 2: optimal, slower.
        ``"computation-aware"``: the L fastest devices, the deepest block to the fastest.
        ``"communication-aware"``: the L devices with the best channels, depth 1 to the best. The paper does not say
        which block the best channel serves; this order, unlike the other, meets its Table I.
        ``"random"``: any L devices.
        The last three ignore memory, as in the LoLa-DEFT paper, section VI-A: ``Schedule.hits_memory_wall`` tells which
        devices could not do what they are given.
    seed : int or numpy.random.Generator, optional
        For ``"random"`` alone.

    Returns
    -------
    Schedule

    Raises
    ------
    InfeasibleError
        From all but the baselines, if too few devices have the memory; it names a set of depths that proves it.
    TypeError, ValueError
        If an argument is not as described, or the method cannot heed what the problem asks for: pinned or forbidden
        pairs, subcarriers, uploads that differ.
    """
    expect("problem", problem, Problem)
    if seed is not None and not isinstance(seed, np.random.Generator):
        seed_number("seed", seed)
    if method not in METHODS:
        raise LolaValueError(f"method must be one of {', '.join(METHODS)}; got {shown(method)}")
    reason = unsuited(problem, method)
    if reason:
        raise LolaValueError(f"{shown(method)} {reason}; use 'jbba'")
    if method in BASELINES:
        fleet = problem.fleet
        devices = baseline_devices(method, fleet.speed, fleet.spectral_efficiency, problem.n_blocks, seed)
        bandwidth = np.full(problem.n_blocks, problem.bandwidth_hz / problem.n_blocks)
        return _finish(problem, method, devices, bandwidth, np.nan, None, 0)
    try:
        return _solve(problem, method)
    except InfeasibleError as error:
        if not problem.fleet.headroom.any():
            raise
        message = f"{error} The fleet's headroom is kept free; lowering it frees memory too."
        raise InfeasibleError(message, error.violator, error.partners, error.bytes_needed) from None


def unsuited(problem: Problem, method: str) -> str:
    """Say in a few words what of the problem a method cannot heed; nothing if it can heed all."""
    if method != "jbba" and problem.subcarrier_hz is not None:
        return "knows no whole subcarriers"
    if method in ("ba-crunch", *BASELINES) and problem.allowed is not None:
        return "knows no pinned or forbidden pairs"
    bits = problem.profile.upload_bits
    if method == "jbba-dual-ascent" and (bits != bits[0]).any():
        return "wants the same upload for every block"
    if method == "ba-crunch" and (np.diff(bits) < 0).any():
        return "wants uploads that do not fall with depth"
    return ""


def _solve(problem: Problem, method: str) -> Schedule:
    from lola import solvers

    arguments = problem.solver_arguments()
    result: solvers.JointAllocation | solvers.DualAscent | solvers.BlockAllocation | solvers.CutAllocation
    proof: Proof
    if method == "jbba":
        result = solvers.joint_allocation(**arguments, subcarrier_hz=problem.subcarrier_hz)
        bound, proof = result.lower_bound, PriceProof(frozen(result.block_price_hz), frozen(result.device_price_hz))
    elif method == "jbba-dual-ascent":
        result = solvers.dual_ascent(**arguments)
        bound = result.lower_bound
        proof = MultiplierProof(
            frozen(result.latency_multiplier),
            result.bandwidth_multiplier,
            frozen(result.involvement_multiplier),
            frozen(result.block_dual_s),
            frozen(result.device_dual_s),
        )
    else:
        if method == "ba":
            result = solvers.block_allocation(**arguments)
        else:
            unmasked: Any = {name: value for name, value in arguments.items() if name != "allowed"}
            result = solvers.crunch(**unmasked)
        bound, proof = result.objective, HallProof(frozen(result.hall_violator))
    return _finish(problem, method, result.device_of_block, result.bandwidth_hz, bound, proof, result.iterations)


def baseline_devices(
    method: str,
    speed: FloatArray,
    spectral_efficiency: FloatArray,
    n_blocks: int,
    seed: int | np.random.Generator | None,
) -> IntArray:
    """Choose L devices by a baseline, the one meant for depth 1 first."""
    if method == "random":
        return np.random.default_rng(seed).permutation(speed.size)[:n_blocks]
    if method == "computation-aware":
        return np.argsort(-speed, kind="stable")[:n_blocks][::-1]
    return np.argsort(-spectral_efficiency, kind="stable")[:n_blocks]


def _finish(
    problem: Problem,
    method: str,
    devices: IntArray,
    bandwidth: np.ndarray,
    lower_bound_s: float,
    proof: Proof | None,
    iterations: int,
) -> Schedule:
    compute, upload = problem.compute_s(devices), problem.upload_s(devices, bandwidth)
    wall = problem.fleet.usable_memory_bytes[devices] < problem.profile.memory_bytes
    return Schedule(
        method=method,
        device_of_block=frozen(devices.astype(np.int64)),
        bandwidth_hz=frozen(bandwidth),
        compute_s=frozen(compute),
        upload_s=frozen(upload),
        latency_s=float((compute + upload).max()),
        lower_bound_s=lower_bound_s,
        hits_memory_wall=frozen(wall),
        proof=proof,
        iterations=iterations,
    )
