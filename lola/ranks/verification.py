"""An independent check of ranks: limits, numbers and the proof, by comparisons and sums."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from lola.problem import Problem
from lola.proofs.checks import ROUNDING
from lola.ranks.importance import Importance
from lola.ranks.rounds import round_arguments
from lola.solvers.checks import check_array, check_number, expect, require, shown
from lola.solvers.deadline_boxes import DeadlineRanks
from lola.solvers.deadline_proof import RankProof
from lola.solvers.deadline_uniform import uniform_deadline_rank
from lola.solvers.errors import LolaValueError
from lola.solvers.multiple_choice_knapsack import RankAllocation

if TYPE_CHECKING:
    from lola.ranks.plan import RankPlan

# What a plan by a deadline has besides; one under a budget has none of it.
_OF_DEADLINE = ("equal_bandwidth", "device_of_block", "bandwidth_hz", "latency_s", "proof")


def verify(plan: RankPlan, importance: Importance, problem: Problem | None) -> None:
    """Check a plan against an importance, and one by a deadline against its round.

    Raises
    ------
    VerificationError
        Naming the first line that fails.
    TypeError, ValueError
        If the importance or the problem is none, or of another number of blocks.
    """
    expect("importance", importance, Importance)
    check_array("shape", "rank", plan.rank, np.int64, None)
    if plan.rank.size != importance.n_blocks:
        raise LolaValueError(
            f"an importance of {plan.rank.size} blocks was wanted, as many as the plan has ranks; got one of "
            f"{importance.n_blocks}; give the plan's own"
        )
    if (problem is None) != (plan.deadline_s is None):
        wanted = (
            "the problem of its round was wanted, got none" if problem is None else "no problem was wanted, got one"
        )
        raise LolaValueError(f"a plan by a deadline is checked with its problem, one under a budget without: {wanted}")
    _check_numbers(plan, importance)
    if problem is None:
        _check_budget(plan, importance)
    else:
        _check_deadline(plan, importance, problem)


def uniform_budget_rank(importance: Importance, budget: float) -> int:
    """Return the largest rank that all blocks can have alike within a budget of parameters."""
    alike = Fraction(budget) // sum(importance.cost.tolist())
    return min(int(alike), importance.max_rank)


def _check_uniform(plan: RankPlan, largest: int) -> None:
    holds = type(plan.uniform_rank) is int and plan.uniform_rank == largest
    require(holds, "uniform_rank", f"the largest that fits is {largest}, not {plan.uniform_rank!r}")


def _check_numbers(plan: RankPlan, importance: Importance) -> None:
    for name, dtype in (("rank", np.int64), ("parameters", np.int64), ("upload_bits", np.float64)):
        check_array("shape", name, getattr(plan, name), dtype, importance.n_blocks)
    numbers = {"objective": plan.objective, "bound": plan.upper_bound, "uniform": plan.uniform_objective}
    for line, number in (numbers | {"uniform_rank": plan.uniform_rank}).items():
        check_number(line, number)
    least = plan.min_rank
    require(type(least) is int and least >= 0, "min_rank", f"a whole number >= 0 was wanted, got {shown(least)}")
    most = importance.max_rank
    inside = (plan.rank >= plan.min_rank) & (plan.rank <= most)
    require(inside.all(), "rank", f"must lie between {plan.min_rank} and {most}, got {plan.rank[~inside][:1]}")
    right = (plan.parameters == importance.parameters(plan.rank)).all()
    require(right, "parameters", "are not cost·rank; is this the importance that was asked?")
    bits = importance.upload_bits(plan.rank)
    right = (np.abs(plan.upload_bits - bits) <= ROUNDING * bits).all()
    require(right, "upload_bits", "are not fixed_bits + rank_bits·rank; is this the importance that was asked?")
    require(0 <= plan.uniform_rank <= most, "uniform_rank", f"must lie between 0 and {most}, got {plan.uniform_rank}")
    require(plan.name == importance.name, "name", "the blocks are not called as the importance calls them")
    alike = np.full_like(plan.rank, plan.uniform_rank)
    for line, worth, rank in (("objective", plan.objective, plan.rank), ("uniform", plan.uniform_objective, alike)):
        exact = importance.worth(rank)
        require(worth == exact, line, f"is {worth!r}, but the ranks are worth {exact!r}")
    require(plan.objective <= plan.upper_bound, "bound", f"{plan.upper_bound!r} is below the objective")


def _check_budget(plan: RankPlan, importance: Importance) -> None:
    budget, price, least = plan.budget, plan.price, plan.min_rank
    require(budget is not None and price is not None, "budget", "it and a price were wanted, got none")
    assert budget is not None
    assert price is not None
    stray = [name for name in _OF_DEADLINE if getattr(plan, name) is not None and getattr(plan, name) is not False]
    require(not stray, "budget", f"a plan under one has no {', '.join(stray)}")
    check_number("budget", budget)
    first = np.full_like(plan.rank, least)
    beyond = budget - int(importance.parameters(first).sum())
    require(beyond >= 0, "budget", f"not even rank {least} of every block fits {budget:.17g} parameters")
    _check_uniform(plan, uniform_budget_rank(importance, budget))
    if least == importance.max_rank:
        return
    sure = importance.worth(first)  # what is chosen lies beyond it
    chosen = np.arange(importance.max_rank) < plan.rank[:, None]
    chosen[:, :least] = False
    worth = math.fsum(importance.gain[chosen])
    RankAllocation(
        rank=plan.rank - least,
        objective=worth,
        price=price,
        upper_bound=max(plan.upper_bound - sure + ROUNDING * abs(sure), worth),  # a difference, rounded
    ).verify(importance.gain[:, least:], importance.cost, beyond)


def _check_deadline(plan: RankPlan, importance: Importance, problem: Problem) -> None:
    deadline_s, devices, shares, proof = plan.deadline_s, plan.device_of_block, plan.bandwidth_hz, plan.proof
    check_array("shape", "device_of_block", devices, np.int64, importance.n_blocks)
    check_array("shape", "bandwidth_hz", shares, np.float64, importance.n_blocks)
    require(plan.budget is None and plan.price is None, "deadline", "a plan by one has no budget and no price")
    require(isinstance(plan.equal_bandwidth, bool), "equal_bandwidth", f"is {plan.equal_bandwidth!r}")
    known = deadline_s is not None and plan.latency_s is not None and type(proof) is RankProof
    require(known, "deadline", "it, a latency and a proof were wanted, got none")
    assert deadline_s is not None
    assert devices is not None
    assert shares is not None
    assert plan.latency_s is not None
    assert proof is not None
    check_number("deadline", deadline_s)
    arguments = round_arguments(importance, problem, deadline_s)
    alike = uniform_deadline_rank(importance.gain, **arguments, equal_bandwidth=plan.equal_bandwidth)
    _check_uniform(plan, alike)
    DeadlineRanks(
        objective=plan.objective,
        rank=plan.rank,
        device_of_block=devices,
        bandwidth_hz=shares,
        latency_s=plan.latency_s,
        upper_bound=plan.upper_bound,
        proof=proof,
    ).verify(
        importance.gain,
        **arguments,
        min_rank=plan.min_rank,
        equal_bandwidth=plan.equal_bandwidth,
    )
