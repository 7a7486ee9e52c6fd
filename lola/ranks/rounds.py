"""A round in which ranks are chosen: what devices take for its blocks, and when it must have ended."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from lola.problem import Problem
from lola.ranks.importance import Importance
from lola.solvers.checks import FloatArray, expect, positive_number
from lola.solvers.errors import LolaValueError


class RoundArguments(TypedDict):
    """What `lola.solvers.deadline_ranks` takes of a round, by keyword."""

    compute_s: FloatArray
    rank_bits: FloatArray
    fixed_bits: FloatArray
    spectral_efficiency: FloatArray
    bandwidth_hz: float
    deadline_s: float


def round_arguments(importance: Importance, problem: Problem, deadline_s: float) -> RoundArguments:
    """Return what a round allows: seconds of each block on each device, (L, K), and what follows the broadcast.

    Raises
    ------
    TypeError, ValueError
        If the problem is none of these blocks, or asks for what ranks by a deadline cannot heed.
    """
    expect("problem", problem, Problem)
    deadline = positive_number("deadline_s", deadline_s)
    if problem.n_blocks != importance.n_blocks:
        raise LolaValueError(
            f"a profile of {importance.n_blocks} blocks was wanted, as many as the importance has; got "
            f"{problem.n_blocks}; give that of the same model (--profile, from lola profile)"
        )
    if problem.max_blocks != 1 or problem.subcarrier_hz is not None or problem.pinned or problem.forbidden:
        raise LolaValueError(
            "ranks by a deadline are of one block a device, without whole subcarriers, pinned and forbidden pairs; "
            "got a problem with some of these; leave them out"
        )
    if deadline <= problem.broadcast_s:
        raise LolaValueError(
            f"deadline_s must leave time after the broadcast of {problem.broadcast_s:g} s, got {deadline:g}; give more"
        )
    profile, fleet = problem.profile, problem.fleet
    compute = problem.local_steps * profile.latency_s[:, None] / fleet.speed
    return {
        "compute_s": np.where(fleet.usable_memory_bytes < profile.memory_bytes[:, None], np.inf, compute),
        "rank_bits": importance.rank_bits,
        "fixed_bits": importance.fixed_bits,
        "spectral_efficiency": fleet.spectral_efficiency,
        "bandwidth_hz": problem.bandwidth_hz,
        "deadline_s": deadline - problem.broadcast_s,
    }
