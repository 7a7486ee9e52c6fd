"""Ranks under a budget: against brute force, HiGHS, Eckart and Young, and by their own bound."""

import math
from dataclasses import replace
from fractions import Fraction

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

import lola
from lola.solvers import multiple_choice_knapsack, rank_allocation

GAINS = ("falling", "any", "negative too", "ties", "huge", "tiny")
COSTS = ("equal", "integers", "tenths", "real", "wide")


def instance(rng, n_blocks, n_ranks, gains, costs):
    shape = (n_blocks, n_ranks)
    gain = {
        "falling": lambda: -np.sort(-rng.random(shape)),
        "any": lambda: rng.random(shape),
        "negative too": lambda: rng.normal(size=shape),
        "ties": lambda: rng.integers(-2, 5, shape) * 1.0,
        "huge": lambda: rng.normal(size=shape) * 1e45,
        "tiny": lambda: rng.random(shape) * 1e-45,
    }[gains]()
    cost = {
        "equal": lambda: np.full(n_blocks, rng.choice([1.0, 0.1, 3072.0, 1e45])),
        "integers": lambda: rng.integers(1, 7, n_blocks) * 1536.0,
        "tenths": lambda: rng.integers(1, 7, n_blocks) * 0.1,
        "real": lambda: rng.random(n_blocks) + 1e-3,
        "wide": lambda: 10.0 ** rng.integers(-6, 7, n_blocks),
    }[costs]()
    everything = float(cost.sum()) * n_ranks
    budget = rng.choice([0.0, rng.random() * everything, cost.max() * 2, cost[0] + cost[-1], everything])
    return gain, cost, float(budget)


def check(gain, cost, budget):
    """The ranks fit, are worth what is said, and the price bounds all in exact numbers."""
    ranks = rank_allocation(gain, cost, budget)
    ranks.verify(gain, cost, budget)
    assert ranks.rank.dtype == np.int64
    assert sum(Fraction(each) * int(rank) for each, rank in zip(cost.tolist(), ranks.rank, strict=True)) <= budget
    assert math.fsum(gain[np.arange(gain.shape[1]) < ranks.rank[:, None]]) == ranks.objective
    assert ranks.objective <= ranks.upper_bound
    assert naive.rank_bound(gain, cost, budget, ranks.price) <= Fraction(ranks.upper_bound) * (1 + Fraction(1, 10**12))
    return ranks


def test_optimal_against_brute_force(instances):
    """5,000 of them with LOLA_TEST_FACTOR=20."""
    rng = np.random.default_rng(50)
    proven = 0
    for _ in range(instances(250)):
        gains, costs = rng.choice(GAINS), rng.choice(COSTS)
        gain, cost, budget = instance(rng, int(rng.integers(1, 5)), int(rng.integers(1, 4)), gains, costs)
        ranks = check(gain, cost, budget)
        best = naive.most_worth(gain, cost, budget)
        assert ranks.objective == pytest.approx(best, rel=1e-12, abs=0), (gain, cost, budget)
        assert best <= ranks.upper_bound * (1 + 1e-12)
        proven += ranks.upper_bound == ranks.objective
        if costs == "equal" and gains in ("falling", "tiny") and (np.diff(gain) <= 0).all():
            assert ranks.upper_bound == ranks.objective
    assert proven > 5


def by_highs(gain, cost, budget):
    """The same over binaries, one for each number of ranks of a block."""
    n_blocks, n_ranks = gain.shape
    worth = np.cumsum(gain, axis=1)
    one_a_block = np.kron(np.eye(n_blocks), np.ones(n_ranks))
    weight = (cost[:, None] * np.arange(1, n_ranks + 1)).ravel()
    answer = milp(
        -worth.ravel(),
        constraints=[LinearConstraint(one_a_block, -np.inf, 1.0), LinearConstraint(weight[None], -np.inf, budget)],
        integrality=1,
        bounds=Bounds(0.0, 1.0),
        options={"mip_rel_gap": 0.0},
    )
    assert answer.status == 0
    return float(worth.ravel() @ np.round(answer.x))


def test_optimal_against_somebody_elses_solver(instances):
    """HiGHS heeds a budget to 1e-6 only; with integer costs, and half of one to spare, that is exact."""
    rng = np.random.default_rng(51)
    for number in range(instances(10)):
        n_blocks, n_ranks = int(rng.integers(5, 25)), int(rng.integers(2, 12))
        gain = rng.random((n_blocks, n_ranks)) if number % 2 else rng.normal(size=(n_blocks, n_ranks))
        cost = rng.integers(1, 40, n_blocks) * 1.0
        budget = float(rng.integers(1, int(cost.sum()) * n_ranks)) + 0.5
        assert check(gain, cost, budget).objective == pytest.approx(by_highs(gain, cost, budget), rel=1e-9)


def test_a_large_model_is_allocated_with_few_sums():
    """96 blocks of 64 ranks, costs in the millions or any real numbers: some thousand sums are looked at, not 65^96."""
    rng = np.random.default_rng(52)
    for cost in (rng.integers(10**6, 10**7, 96) * 1.0, rng.random(96) + 0.1, rng.choice([3072.0, 6144.0, 7680.0], 96)):
        for gain in (-np.sort(-(rng.random((96, 64)) ** 3)), rng.random((96, 64)), rng.normal(size=(96, 64))):
            ranks = check(gain, cost, float(cost.sum()) * 16.37)
            assert ranks.upper_bound - ranks.objective < 1e-3 * ranks.objective


def test_squared_singular_values_give_the_error_of_eckart_and_young():
    rng = np.random.default_rng(53)
    updates = [rng.normal(size=(int(rng.integers(6, 20)), 12)) * rng.choice([0.1, 1.0, 5.0]) for _ in range(6)]
    factors = [np.linalg.svd(update, full_matrices=False) for update in updates]
    gain = np.array([singular[:6] ** 2 for _, singular, _ in factors])
    total = sum((update**2).sum() for update in updates)
    error = {}
    for budget in (0, 1, 7, 20, 36):
        ranks = rank_allocation(gain, 1.0, budget)
        truncated = [(u[:, :r] * s[:r]) @ v[:r] for (u, s, v), r in zip(factors, ranks.rank, strict=True)]
        error[budget] = sum(((a - b) ** 2).sum() for a, b in zip(updates, truncated, strict=True))
        assert error[budget] == pytest.approx(total - ranks.objective, rel=1e-12)
        assert ranks.rank.sum() == budget
        assert ranks.upper_bound == ranks.objective
        assert np.sort(gain.ravel())[::-1][:budget].sum() == pytest.approx(ranks.objective, rel=1e-12)
    uniform = gain[:, :2].sum()
    assert rank_allocation(gain, 1.0, 12).objective > uniform


def test_the_price_lies_between_the_last_taken_and_the_first_left():
    ranks = rank_allocation([[9.0, 4.0, 1.0], [5.0, 3.0, 2.0]], 2.0, 9.0)
    assert ranks.rank.tolist() == [2, 2]
    assert 2.0 <= ranks.price * 2.0 <= 3.0
    assert rank_allocation([[9.0, -1.0]], 2.0, 9.0).price == 0.0  # nothing is left that is worth anything


def test_what_is_worth_nothing_or_less_is_not_bought():
    assert rank_allocation([[0.0, 0.0], [-1.0, -2.0]], 1.0, 4).rank.tolist() == [0, 0]
    assert rank_allocation([[-1.0, 3.0], [-3.0, 2.0]], 1.0, 4).rank.tolist() == [2, 0]
    assert rank_allocation([[1e-300, 0.0], [1e-310, 0.0]], 1e45, 1e45).rank.tolist() == [1, 0]  # nearly nothing


def test_gains_that_cancel_out_keep_their_digits():
    """A later rank may be worth what an earlier one hides: 1e30 − 1e30 + 1 is 1."""
    gain = [[1e30, -1e30, 1.0], [-1e30, 1e30, 2.0]]
    assert rank_allocation([gain[1]], 1.0, 3).objective == 2.0
    assert rank_allocation(gain, [1.0, 1.0], 4).rank.tolist() == [1, 3]
    for hidden in ([1.0, -1e30, 1e30, 0.5], [-1e30, 1.0, 0.5, 1e30]):  # a plain sum loses the 1
        assert rank_allocation([hidden], 1.0, 4).rank.tolist() == [4]


def test_costs_are_added_up_exactly():
    """Three of 0.1 are more than 0.3 in floating point; a budget that is their exact sum suffices."""
    assert rank_allocation([[1.0, 1.0, 1.0]], 0.1, 0.3).rank.tolist() == [2]
    assert rank_allocation([[1.0, 1.0, 1.0]], 0.1, np.nextafter(0.3, 1.0)).rank.tolist() == [3]
    assert rank_allocation([[1.0], [1.0]], [1.0, 2.0**-52], 1.0).rank.sum() == 1
    assert rank_allocation([[1.0], [1.0]], [1.0, 2.0**-52], 1.0 + 2.0**-52).rank.tolist() == [1, 1]


small = st.integers(0, 2**32 - 1).map(
    lambda seed: instance(
        np.random.default_rng(seed), 1 + seed % 6, 1 + seed % 4, GAINS[seed % 4], COSTS[seed // 4 % len(COSTS)]
    )
)


@settings(deadline=None, max_examples=60)
@given(small, st.randoms(use_true_random=False))
def test_permuting_blocks_changes_nothing(problem, random):
    gain, cost, budget = problem
    order = list(range(cost.size))
    random.shuffle(order)
    permuted = rank_allocation(gain[order], cost[order], budget)
    assert permuted.objective == pytest.approx(rank_allocation(gain, cost, budget).objective, rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(small, st.floats(1.0, 3.0))
def test_more_budget_never_hurts(problem, factor):
    gain, cost, budget = problem
    less = rank_allocation(gain, cost, budget).objective
    assert rank_allocation(gain, cost, budget * factor).objective >= less * (1 - 1e-12)


@settings(deadline=None, max_examples=60)
@given(small, st.integers(-40, 40), st.integers(-10, 10))
def test_scaling_scales(problem, of_gain, of_cost):
    """By powers of two, so that no cost is rounded."""
    gain, cost, budget = problem
    plain = rank_allocation(gain, cost, budget)
    scaled = rank_allocation(gain * 2.0**of_gain, cost * 2.0**of_cost, budget * 2.0**of_cost)
    assert scaled.rank.tolist() == plain.rank.tolist()
    assert scaled.objective == plain.objective * 2.0**of_gain
    assert scaled.price == plain.price * 2.0 ** (of_gain - of_cost)


def test_what_was_tampered_with_is_told():
    gain, cost = np.array([[9.0, 4.0, 1.0], [5.0, 3.0, 2.0]]), np.array([2.0, 3.0])
    ranks = rank_allocation(gain, cost, 8.0)
    assert (ranks.rank.tolist(), ranks.objective) == ([2, 1], 18.0)
    for message, change in (
        (r"rank: it has shape \(1,\), wanted \(2,\)", {"rank": np.array([2])}),
        ("rank: it must be an array, got list", {"rank": [2, 1]}),
        ("rank: it must be of int64, got float64", {"rank": np.array([1.5, 1.5]), "objective": 7.0}),
        (r"rank: 2 ranks from 0 to 3 are wanted, got \[ 4 -1\]", {"rank": np.array([4, -1])}),
        ("budget: the ranks cost 10, more than 8.0", {"rank": np.array([2, 2])}),
        ("objective: the ranks are worth 14, not 18", {"rank": np.array([3, 0])}),
        ("objective: the ranks are worth 18, not", {"objective": 18.0 + 1e-9}),
        ("price: must be finite and >= 0, got -1.0", {"price": -1.0}),
        ("price: must be finite and >= 0, got nan", {"price": np.nan}),
        ("proof: the price only shows .*, not", {"price": ranks.price * 2}),
        ("proof: the price only shows .*, not 18", {"upper_bound": 18.0}),
        ("price: must be finite and >= 0, got 1.7e.308; beyond 1e.200 it proves", {"price": 1.7e308}),
        ("price: must be finite and >= 0, got None", {"price": None}),
        ("proof: a finite number was wanted, got inf", {"upper_bound": np.inf, "objective": 1e300}),
        ("objective: a finite number was wanted, got None", {"objective": None}),
        ("objective: .* worth 18, not 1000000", {"objective": 1e6, "price": 1e20, "upper_bound": 1e21}),
    ):
        with pytest.raises(lola.VerificationError, match=message):
            replace(ranks, **change).verify(gain, cost, 8.0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"gain": [1.0]}, r"gain must have 2 axis\(es\), got shape \(1,\)"),
        ({"gain": [["a"]]}, "gain must hold real numbers, got dtype"),
        ({"gain": np.zeros((2, 0))}, r"gain is empty, shape \(2, 0\); at least one block with one rank is needed"),
        (
            {"gain": [[1.0], [np.nan]]},
            "gain must be finite, at most 1e50 in size, got nan for rank 1 of block 1; corr",
        ),
        (
            {"gain": [[1.0, -1e51], [1, 2]]},
            r"gain must be finite, at most 1e50 .*, got -1e\+51 for rank 2 of block 0; correct it",
        ),
        ({"cost": [1.0]}, "cost must have 2 entries, as many as gain; got 1"),
        ({"cost": [1.0, 0.0]}, "cost must be finite and > 0, got 0.0 at index 1 .*; correct or leave out that entry"),
        ({"cost": [[1.0], [1.0, 2.0]]}, "cost must be a rectangular array of real numbers; numpy says"),
        ({"cost": np.inf}, r"cost must be finite and > 0, got inf at index 0 \(2 such in all\)"),
        ({"budget": -1.0}, "budget must be finite and >= 0, got -1.0; at 0 no block gets a rank"),
        ({"budget": np.inf}, "budget must be finite and >= 0, got inf; at 0 no block"),
        ({"budget": np.nan}, "budget must be finite and >= 0, got nan"),
        ({"budget": "8"}, "budget must be a number, got str: '8'"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    asked = {"gain": [[1.0, 2.0], [3.0, 1.0]], "cost": 1.0, "budget": 2.0} | change
    with pytest.raises(lola.LolaError, match=message):
        rank_allocation(**asked)


def test_gains_that_the_budget_cannot_buy_hide_no_error():
    asked = [[1e14], [1.0]], [1000.0, 1.0], 5
    worse = replace(rank_allocation(*asked), rank=np.array([0, 0]), objective=0.0, upper_bound=0.0)
    with pytest.raises(lola.VerificationError, match="proof: the price only shows 1, not 0"):
        worse.verify(*asked)


def test_a_bound_must_not_lie_below_the_objective():
    ranks = rank_allocation([[9.0, 4.0, 1.0], [5.0, 3.0, 2.0]], 1.0, 4)
    with pytest.raises(lola.VerificationError, match="proof: 20.99999999999.* is below the objective, 21"):
        replace(ranks, upper_bound=np.nextafter(21.0, 0.0)).verify([[9.0, 4.0, 1.0], [5.0, 3.0, 2.0]], 1.0, 4)
    with pytest.raises(ValueError, match="read-only"):
        ranks.rank[0] = 3


def test_after_too_many_sums_the_best_that_is_known_is_the_answer(monkeypatch):
    """Gains proportional to costs that have no common unit: any sum may be the best, and none fills the budget."""
    monkeypatch.setattr(multiple_choice_knapsack, "MOST_SUMS", 40_000)
    rng = np.random.default_rng(54)
    cost = rng.random(40) + 0.5
    gain = np.repeat(cost[:, None], 3, axis=1)
    ranks = check(gain, cost, 30.3)
    assert 0.999 * ranks.upper_bound < ranks.objective < ranks.upper_bound
    rounded = np.ceil(cost * 8) / 8
    ranks = rank_allocation(gain, rounded, 30.3)
    assert (ranks.rank * rounded).sum() == 30.25
