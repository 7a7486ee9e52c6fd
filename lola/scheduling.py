"""From a problem to a schedule, by any of the methods."""

import logging
import textwrap
from collections.abc import Sequence

import numpy as np

from lola.methods import BY_NAME, listed_methods, method_named
from lola.methods.method import Method, Seed
from lola.problem import Problem, bound_after_broadcast, round_latency_s
from lola.solution import Schedule
from lola.solvers.checks import expect, frozen, seed_number, shown
from lola.solvers.errors import InfeasibleError, LolaValueError

_log = logging.getLogger(__name__)


def schedule(problem: Problem, method: str = "jbba", *, seed: Seed = None) -> Schedule:
    """Decide which device takes which block, and with how much bandwidth.

    Parameters
    ----------
    problem : Problem
        The round.
    method : str
        One of `lola.METHODS`:

        {methods}

        What ignores memory are the benchmarks of the LoLa-DEFT paper, section VI-A: ``Schedule.hits_memory_wall`` tells
        which devices could not do what they are given.
    seed : int or numpy.random.Generator, optional
        For ``"random"`` alone.

    Returns
    -------
    Schedule

    Raises
    ------
    InfeasibleError
        From what heeds memory, if too few devices have enough; it names a set of depths that proves it.
    TypeError, ValueError
        If an argument is not as described, or the method cannot heed what the problem asks for: several blocks a
        device, pinned or forbidden pairs, subcarriers, uploads that differ.

    Examples
    --------
    >>> import lola
    >>> profile = lola.Profile(memory_bytes=[1e9, 2e9], latency_s=[0.8, 1.2], upload_bits=8e5)
    >>> problem = lola.Problem(profile, lola.Fleet.sample(5, seed=1), bandwidth_hz=20e6)
    >>> print(lola.schedule(problem))
    jbba: 2 blocks in 5.33056 s, proven to within 2.6e-13
    >>> print(lola.schedule(problem, "random", seed=0))
    random: 2 blocks in 28.4379 s, no bound claimed, 1 device(s) hit the memory wall
    """
    expect("problem", problem, Problem)
    if seed is not None and not isinstance(seed, np.random.Generator):
        seed_number("seed", seed)
    chosen = suited_method(method, problem)
    _log.info("%s: %d devices for %d blocks", method, problem.n_devices, problem.n_blocks)
    try:
        answer = chosen.solve(problem, seed)
    except InfeasibleError as error:
        hints = [_short_of_memory(problem, device, depth) for device, depth in problem.pinned]
        if problem.fleet.headroom.any():
            hints.append("The fleet's headroom is kept free; lowering it frees memory too.")
        message = " ".join([str(error), *filter(None, hints)])
        raise InfeasibleError(message, error.violator, error.partners, error.bytes_needed) from None
    devices, bandwidth = answer.device_of_block, answer.bandwidth_hz
    compute, upload = problem.compute_s(devices), problem.upload_s(devices, bandwidth)
    wall = problem.fleet.usable_memory_bytes[devices] < problem.memory_bytes_of(devices)
    _log.info("%s: solved in %d iteration(s)", method, answer.iterations)
    return Schedule(
        method=method,
        device_of_block=frozen(devices.astype(np.int64)),
        bandwidth_hz=frozen(bandwidth),
        compute_s=frozen(compute),
        upload_s=frozen(upload),
        latency_s=problem.broadcast_s + float(round_latency_s(compute, upload)),
        lower_bound_s=bound_after_broadcast(problem.broadcast_s, answer.lower_bound_s),
        hits_memory_wall=frozen(wall),
        proof=answer.proof,
        iterations=answer.iterations,
        local_steps=problem.local_steps,
        name=problem.fleet.names_of(devices),
    )


def compare(problem: Problem, methods: Sequence[str] | None = None, *, seed: Seed = None) -> dict[str, Schedule | str]:
    """Schedule a round by several methods, and verify each answer.

    Parameters
    ----------
    problem : Problem
        The round.
    methods : sequence of str, optional
        Some of `lola.METHODS`; all if left out.
    seed : int or numpy.random.Generator, optional
        For ``"random"`` alone.

    Returns
    -------
    dict
        By method, its verified schedule; or, in a few words, why it has none: what it cannot heed, or ``"infeasible"``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import lola
    >>> profile = lola.Profile(memory_bytes=[1e9, 2e9], latency_s=[0.8, 1.2], upload_bits=8e5)
    >>> problem = lola.Problem(profile, lola.Fleet.sample(5, seed=1), bandwidth_hz=20e6)
    >>> for answer in lola.compare(problem, ["jbba", "ba"]).values():
    ...     print(answer)
    jbba: 2 blocks in 5.33056 s, proven to within 2.6e-13
    ba: 2 blocks in 6.17243 s, proven to within 0
    """
    expect("problem", problem, Problem)
    chosen = BY_NAME.values() if methods is None else listed_methods(methods)
    return {method.name: _attempt(problem, method, seed) for method in chosen}


def suited_method(name: object, problem: Problem, otherwise: str = "") -> Method:
    """Return a method of the table that can heed all that a problem asks for.

    Raises
    ------
    LolaValueError
        If there is none of that name, or it cannot; then the message names those that can, and ends with `otherwise`.
    """
    method = method_named(name)
    if reason := method.unsuited(problem):
        *others, last = (repr(other.name) for other in BY_NAME.values() if not other.unsuited(problem))
        use = f"{', '.join(others)} or {last}" if others else last
        raise LolaValueError(f"{shown(name)} {reason}; use {use}{otherwise}")
    return method


def _attempt(problem: Problem, method: Method, seed: Seed) -> Schedule | str:
    if reason := method.unsuited(problem):
        return reason
    try:
        answer = schedule(problem, method.name, seed=seed)
    except InfeasibleError:
        return "infeasible"
    answer.verify(problem)
    return answer


def _short_of_memory(problem: Problem, device: int, depth: int) -> str:
    """Say of a pinned pair that the device lacks the memory, if it does."""
    needed, offered = problem.profile.memory_bytes[depth - 1], problem.fleet.usable_memory_bytes[device]
    if offered >= needed:
        return ""
    return f"{problem.fleet.label(device)} is pinned to depth {depth}, but offers {offered:.6g} of {needed:.6g} bytes."


def _listing(indent: str) -> str:
    entries = [f"* ``{method.name!r}``: {method.summary}" for method in BY_NAME.values()]
    return f"\n{indent}".join(line for entry in entries for line in textwrap.wrap(entry, 100, subsequent_indent="  "))


schedule.__doc__ = (schedule.__doc__ or "").replace("{methods}", _listing(" " * 8))
