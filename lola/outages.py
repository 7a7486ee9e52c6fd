"""Rounds whose devices are partly in outage: who can serve, and how long to wait for the others."""

from dataclasses import replace
from functools import cache

import numpy as np

from lola.channel import Channel
from lola.fleet import Fleet
from lola.problem import Problem, of_a_round
from lola.scheduling import schedule
from lola.solvers.checks import BoolArray, FloatArray
from lola.solvers.errors import InfeasibleError

# A round that waits for devices to come back looks again every second, this long.
_LONGEST_WAIT_S = 86_400


def can_hold(memory_bytes: FloatArray, efficiency: FloatArray, needed_bytes: FloatArray) -> BoolArray:
    """Whether the devices that are not in outage can hold all blocks, one each; devices along the last axis.

    Who can hold a block can hold every smaller one. So they can if and only if the largest can hold the largest block,
    the second largest the second largest, and so on.
    """
    n_blocks = needed_bytes.size
    if memory_bytes.shape[-1] < n_blocks:
        return np.zeros(memory_bytes.shape[:-1], dtype=np.bool_)
    largest = np.sort(np.where(efficiency > 0, memory_bytes, -1.0), axis=-1)[..., -n_blocks:]
    return np.asarray((largest >= np.sort(needed_bytes)).all(axis=-1))


def can_serve(problem: Problem, memory_bytes: FloatArray, efficiency: FloatArray) -> bool:
    """Whether the devices that are not in outage have the memory for all blocks, several each where allowed."""
    if can_hold(memory_bytes, efficiency, problem.profile.memory_bytes):
        return True
    return problem.max_blocks != 1 and _why_not(problem, memory_bytes, efficiency) is None


def _why_not(problem: Problem, memory_bytes: FloatArray, efficiency: FloatArray) -> InfeasibleError | None:
    """Say why the devices that are not in outage have no schedule, if they have none."""
    serving = efficiency > 0
    if not serving.any():
        return InfeasibleError("no device has a channel", range(problem.n_blocks), 0)
    ones = np.ones(int(serving.sum()))
    fleet = Fleet(speed=ones, memory_bytes=memory_bytes[serving], spectral_efficiency=ones)
    try:
        schedule(of_a_round(problem, fleet))
    except InfeasibleError as error:
        return error
    return None


def wait_for_devices(
    problem: Problem, channel: Channel, round_index: int, clock_s: float, memory_bytes: FloatArray
) -> tuple[FloatArray, float]:
    """Let a round wait, second by second, while too few devices for its blocks are out of outage.

    Parameters
    ----------
    problem : Problem
        What the blocks need, and how many of them one device may take.
    channel, round_index, clock_s
        See `Channel`.
    memory_bytes : (K,) array
        What devices offer. Where not even all devices have the memory, the round waits for as many as would do if they
        had.

    Returns
    -------
    efficiency, waited_s
        (K,) in bit/s/Hz, 0 in outage, at the first moment at which the others can serve; and how long that took.

    Raises
    ------
    InfeasibleError
        If a day does not suffice; it names blocks that too few devices could serve at its end.
    """
    efficiency = np.asarray(channel(round_index, clock_s))
    if not (efficiency == 0).any():
        return efficiency, 0.0
    if not can_serve(problem, memory_bytes, np.ones(memory_bytes.size)):
        problem = _of_no_memory(problem)

    @cache
    def suffices(serving: bytes) -> bool:
        return can_serve(problem, memory_bytes, np.frombuffer(serving, dtype=np.bool_).astype(np.float64))

    waited = 0
    while (efficiency == 0).any() and not suffices((efficiency > 0).tobytes()):
        if waited == _LONGEST_WAIT_S:
            raise _still_too_few(problem, round_index, clock_s, memory_bytes, efficiency)
        waited += 1
        efficiency = np.asarray(channel(round_index, clock_s + waited))
    return efficiency, float(waited)


def _of_no_memory(problem: Problem) -> Problem:
    """Return the problem with blocks that any device could hold."""
    nothing = np.zeros(problem.n_blocks)
    return of_a_round(
        problem, problem.fleet, profile=replace(problem.profile, memory_bytes=nothing, extra_memory_bytes=nothing)
    )


def _still_too_few(
    problem: Problem, round_index: int, clock_s: float, memory_bytes: FloatArray, efficiency: FloatArray
) -> InfeasibleError:
    """Word the error of a wait that was too long, with the fewest of the largest blocks that prove it."""
    serving = np.sort(memory_bytes[efficiency > 0])
    begin = (
        f"round {round_index} waited a day from second {clock_s:.0f} for devices that have a channel and the memory "
        f"for the model; then {serving.size} of {memory_bytes.size} had a channel, and"
    )
    end = "leave out traces that are all outage, or add devices"
    if problem.max_blocks != 1:
        error = _why_not(problem, memory_bytes, efficiency)
        assert error is not None, "the round would not wait"
        return InfeasibleError(f"{begin} {error}; {end}", error.violator, error.partners, error.bytes_needed)
    needed_bytes = problem.profile.memory_bytes
    order = np.argsort(-needed_bytes, kind="stable")
    able = serving.size - np.searchsorted(serving, needed_bytes[order])
    last = int(np.argmax(able <= np.arange(order.size)))
    violator, least = np.sort(order[: last + 1]), float(needed_bytes[order[last]])
    return InfeasibleError(
        f"{begin} depth(s) {', '.join(str(block + 1) for block in violator)} need {violator.size} device(s) of "
        f"{least:.6g} bytes, but {able[last]} offered them; {end}",
        violator.tolist(),
        int(able[last]),
        least,
    )
