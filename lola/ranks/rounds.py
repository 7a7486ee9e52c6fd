"""A round in which ranks are chosen: what devices take for its blocks, and when it must have ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypedDict

import numpy as np

from lola.problem import Problem
from lola.profile import Profile
from lola.ranks.importance import Importance
from lola.solvers.checks import FloatArray, IntArray, expect, positive_number
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


def trained_profile(profile: Profile, rank: Iterable[int], trained: IntArray, upload_bits: FloatArray) -> Profile:
    """Return a profile of what is trained with a rank of each block: its `trained` depths, (n,), and what they upload.

    Raises
    ------
    ValueError
        If the profile has another number of blocks than there are ranks, or nothing is trained.
    """
    ranks = tuple(rank)
    if profile.n_blocks != len(ranks):
        raise LolaValueError(
            f"a profile of {len(ranks)} blocks was wanted, one for each rank; got one of {profile.n_blocks}; give that "
            "of the same model"
        )
    if not trained.size:
        raise LolaValueError(
            "ranks of something to train were wanted, got 0 at every depth; raise the budget or min_rank"
        )
    origin = profile.provenance
    if origin is not None:
        told = f"LoRA of ranks {', '.join(map(str, ranks))} by depth"
        origin = replace(origin, lora_rank=None, note="; ".join(filter(None, (origin.note, told))))
    kept = trained - 1
    extra_s, extra_bytes = profile.extra_latency_s, profile.extra_memory_bytes
    return Profile(
        memory_bytes=profile.memory_bytes[kept],
        latency_s=profile.latency_s[kept],
        upload_bits=upload_bits,
        provenance=origin,
        extra_latency_s=None if extra_s is None else extra_s[kept],
        extra_memory_bytes=None if extra_bytes is None else extra_bytes[kept],
    )
