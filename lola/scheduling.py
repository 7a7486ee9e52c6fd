"""From a problem to a schedule, by any of the methods."""

import numpy as np

from lola.formats import expect
from lola.problem import Problem
from lola.profile import frozen
from lola.solution import HallProof, PriceProof, Schedule
from lola.solvers.checks import IntArray
from lola.solvers.errors import InfeasibleError

# Optimal for the problem they solve, with a proof.
EXACT_METHODS = ("jbba", "ba")
# The paper's benchmarks: they ignore memory and split the bandwidth equally.
BASELINES = ("computation-aware", "communication-aware", "random")
METHODS = EXACT_METHODS + BASELINES


def schedule(problem: Problem, method: str = "jbba", *, seed: int | np.random.Generator | None = None) -> Schedule:
    """Decide which device takes which block, and with how much bandwidth.

    Parameters
    ----------
    problem : Problem
        The round.
    method : str
        ``"jbba"``: blocks and bandwidth together, optimal (P2, Theorem 2).
        ``"ba"``: blocks under an equal split of the bandwidth, optimal (P1, Theorem 1).
        ``"computation-aware"``: the L fastest devices, the deepest block to the fastest.
        ``"communication-aware"``: the L devices with the best channels, the deepest block to the best.
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
        From ``"jbba"`` and ``"ba"``, if too few devices have the memory; it names a set of depths that proves it.
    TypeError, ValueError
        If an argument is not as described, or a baseline is asked to heed pinned or forbidden pairs.
    """
    expect("problem", problem, Problem)
    if method in EXACT_METHODS:
        try:
            return _jointly(problem) if method == "jbba" else _equally(problem)
        except InfeasibleError as error:
            if not problem.fleet.headroom.any():
                raise
            message = f"{error} The fleet's headroom is kept free; lowering it frees memory too."
            raise InfeasibleError(message, error.violator, error.partners, error.bytes_needed) from None
    if method not in BASELINES:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if problem.allowed is not None:
        raise ValueError(f"{method!r} knows no pinned or forbidden pairs; use 'jbba' or 'ba', or drop the pairs")
    devices = _baseline_devices(problem, method, seed)
    bandwidth = np.full(problem.n_blocks, problem.bandwidth_hz / problem.n_blocks)
    return _finish(problem, method, devices, bandwidth, np.nan, None, 0)


def _jointly(problem: Problem) -> Schedule:
    from lola.solvers import joint_allocation

    result = joint_allocation(**problem.solver_arguments())
    proof = PriceProof(frozen(result.block_price_hz), frozen(result.device_price_hz))
    return _finish(
        problem, "jbba", result.device_of_block, result.bandwidth_hz, result.lower_bound, proof, result.iterations
    )


def _equally(problem: Problem) -> Schedule:
    from lola.solvers import block_allocation

    result = block_allocation(**problem.solver_arguments())
    proof = HallProof(frozen(result.hall_violator))
    return _finish(
        problem, "ba", result.device_of_block, result.bandwidth_hz, result.objective, proof, result.iterations
    )


def _baseline_devices(problem: Problem, method: str, seed: int | np.random.Generator | None) -> IntArray:
    """Choose L devices, the one meant for depth 1 first."""
    fleet, n_blocks = problem.fleet, problem.n_blocks
    if method == "random":
        return np.random.default_rng(seed).permutation(fleet.n_devices)[:n_blocks]
    merit = fleet.speed if method == "computation-aware" else fleet.spectral_efficiency
    best_first = np.argsort(-merit, kind="stable")[:n_blocks]
    return best_first[::-1]


def _finish(
    problem: Problem,
    method: str,
    devices: IntArray,
    bandwidth: np.ndarray,
    lower_bound_s: float,
    proof: HallProof | PriceProof | None,
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
