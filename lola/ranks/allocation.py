"""Ranks for all blocks, worth the most of those that fit a budget of parameters or end a round by a deadline."""

from __future__ import annotations

import logging

import numpy as np

from lola.problem import Problem
from lola.ranks.importance import Importance
from lola.ranks.plan import RankPlan
from lola.ranks.rounds import round_arguments
from lola.ranks.verification import uniform_budget_rank
from lola.solvers import deadline_ranks, rank_allocation
from lola.solvers.checks import LARGEST, expect, real_number
from lola.solvers.deadline_uniform import uniform_deadline_rank
from lola.solvers.errors import LolaValueError
from lola.solvers.rank_gains import least_rank

_log = logging.getLogger(__name__)


def allocate_ranks(
    importance: Importance,
    *,
    budget: float | None = None,
    deadline_s: float | None = None,
    problem: Problem | None = None,
    min_rank: int = 1,
    equal_bandwidth: bool = False,
) -> RankPlan:
    """Choose the rank of each block: those worth most under a budget of parameters, or by a deadline of the round.

    Parameters
    ----------
    importance : Importance
        What each rank is worth and takes; from `lola.profiling.measure_importance`.
    budget : float, optional
        Parameters that LoRA may have in all blocks together, heads apart. Either this or a deadline.
    deadline_s : float, optional
        Seconds in which a round of `problem` must end, its broadcast included.
    problem : Problem, optional
        Profile, fleet and bandwidth of the round; a deadline needs it. What the profile says of uploads is not looked
        at: ranks decide them.
    min_rank : int
        What every block gets at least. At 0 a block may be left out.
    equal_bandwidth : bool
        By a deadline: split the spectrum equally over all L blocks, instead of choosing shares with the ranks.

    Returns
    -------
    RankPlan
        Verified, with the proof of its bound and the best that one rank for all blocks can do.

    Raises
    ------
    InfeasibleError
        If no ranks end the round by the deadline.
    TypeError, ValueError
        If an argument is not as described, both or neither of budget and deadline are given, or the budget is less than
        `min_rank` takes.

    Examples
    --------
    >>> import lola
    >>> importance = lola.Importance([[9.0, 4.0, 2.0], [3.0, 1.0, 0.5]], cost=[100, 100])
    >>> plan = lola.allocate_ranks(importance, budget=400)
    >>> plan.rank.tolist(), plan.objective, plan.uniform_rank, plan.uniform_objective
    ([3, 1], 18.0, 2, 17.0)
    """
    expect("importance", importance, Importance)
    least = least_rank(min_rank, importance.max_rank)
    if (budget is None) == (deadline_s is None):
        neither_or_both = "neither" if budget is None else "both"
        raise LolaValueError(f"either budget or deadline_s must be given, got {neither_or_both}; give one")
    if (problem is None) != (deadline_s is None):
        raise LolaValueError(
            f"problem goes with deadline_s, got {'deadline_s' if problem is None else 'problem'} without the other; "
            "give both, or a budget of parameters alone"
        )
    if budget is not None:
        if equal_bandwidth:
            raise LolaValueError("equal_bandwidth is of rounds by a deadline, got it with a budget; leave it out")
        plan = _under_budget(importance, budget, least)
    else:
        assert problem is not None
        assert deadline_s is not None
        plan = _by_deadline(importance, problem, deadline_s, least, equal_bandwidth)
    plan.verify(importance, problem)
    _log.info("chose %s", plan)
    return plan


def _under_budget(importance: Importance, budget: float, min_rank: int) -> RankPlan:
    """Give every block what it gets at least, and the rest of the budget to what is worth most."""
    total = real_number("budget", budget)
    first = np.full(importance.n_blocks, min_rank)
    least = int(importance.parameters(first).sum())
    if not least <= total <= LARGEST:
        raise LolaValueError(
            f"budget must be finite and at least {least} parameters, {min_rank} rank(s) of every block, got {total:g}; "
            "raise it, or lower min_rank"
        )
    rank, upper_bound, price = first, importance.worth(first), 0.0
    if min_rank < importance.max_rank:
        rest = rank_allocation(importance.gain[:, min_rank:], importance.cost, total - least)
        rank, upper_bound, price = first + rest.rank, upper_bound + rest.upper_bound, rest.price
    alike = uniform_budget_rank(importance, total)
    if importance.worth(np.full_like(rank, alike)) > importance.worth(rank):  # where a search was stopped
        rank = np.full_like(rank, alike)
    return RankPlan.of_ranks(importance, rank, upper_bound, min_rank, alike, budget=total, price=price)


def _by_deadline(
    importance: Importance, problem: Problem, deadline_s: float, min_rank: int, equal_bandwidth: bool
) -> RankPlan:
    arguments = round_arguments(importance, problem, deadline_s)
    best = deadline_ranks(importance.gain, **arguments, min_rank=min_rank, equal_bandwidth=equal_bandwidth)
    alike = uniform_deadline_rank(importance.gain, **arguments, equal_bandwidth=equal_bandwidth)
    return RankPlan.of_ranks(
        importance,
        best.rank,
        best.upper_bound,
        min_rank,
        alike,
        deadline_s=float(deadline_s),
        equal_bandwidth=bool(equal_bandwidth),
        device_of_block=best.device_of_block,
        bandwidth_hz=best.bandwidth_hz,
        latency_s=best.latency_s,
        proof=best.proof,
    )
