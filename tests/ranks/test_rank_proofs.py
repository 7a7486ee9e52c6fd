"""What proves ranks: a plan that was changed does not hold."""

from dataclasses import replace

import numpy as np
import pytest
from rank_toys import toy
from scenario import small_problem

import lola

CHANGES = [
    ({"rank": np.array([3, 3, 1])}, "parameters: are not cost·rank"),
    ({"rank": np.array([4, 1, 1])}, r"rank: must lie between 1 and 3, got \[4\]"),
    ({"rank": np.array([2.0, 3.0, 1.0])}, "shape: rank must be of int64"),
    ({"parameters": np.array([1, 2, 3])}, "parameters: are not cost·rank"),
    ({"upload_bits": np.array([1.0, 2.0, 3.0])}, "upload_bits: are not fixed_bits"),
    ({"objective": 30.0}, "objective: is 30.0, but the ranks are worth 29.0"),
    ({"upper_bound": 28.0}, "bound: 28.0 is below the objective"),
    ({"uniform_rank": 3, "uniform_objective": 30.75}, "uniform_rank: the largest that fits is 2, not 3"),
    ({"uniform_rank": 0, "uniform_objective": 0.0}, "uniform_rank: the largest that fits is 2, not 0"),
    ({"uniform_rank": 2.0}, "uniform_rank: the largest that fits is 2, not 2.0"),
    ({"name": ("a", "b", "c")}, "name: the blocks are not called as the importance calls them"),
    ({"bandwidth_hz": np.ones(3)}, "budget: a plan under one has no bandwidth_hz"),
    ({"latency_s": 1.0}, "budget: a plan under one has no latency_s"),
    ({"equal_bandwidth": True}, "budget: a plan under one has no equal_bandwidth"),
    ({"budget": np.inf}, "budget: a finite number was wanted, got inf"),
    ({"uniform_rank": 5}, "uniform_rank: must lie between 0 and 3, got 5"),
    ({"uniform_rank": -1, "uniform_objective": 0.0}, "uniform_rank: must lie between 0 and 3, got -1"),
    ({"min_rank": -1}, "min_rank: a whole number >= 0 was wanted, got -1"),
    ({"uniform_objective": 1.0}, "uniform: is 1.0"),
    ({"budget": 500.0}, "uniform_rank: the largest that fits is 1, not 2"),
    ({"budget": 500.0, "uniform_rank": 1, "uniform_objective": 20.0}, "budget: the ranks cost 300, more than 200"),
    ({"budget": 200.0, "uniform_rank": 0, "uniform_objective": 0.0}, "budget: not even rank 1 of every block fits 200"),
    ({"price": -1.0}, "price: must be finite and >= 0, got -1"),
    ({"price": 0.0}, "proof: the price only shows"),
    ({"price": None}, "budget: it and a price were wanted, got none"),
    ({"price": "1"}, "price: must be finite and >= 0, got 1"),
    ({"budget": "600"}, "budget: a finite number was wanted, got '600'"),
    ({"rank": [3, 3, 1]}, "shape: rank must be an array, got list"),
    ({"rank": np.array([[2, 3, 1]])}, r"shape: rank has shape \(1, 3\), wanted \(3,\)"),
    ({"objective": None}, "objective: a finite number was wanted, got None"),
    ({"upper_bound": np.inf}, "bound: a finite number was wanted, got inf"),
    ({"uniform_objective": "17"}, "uniform: a finite number was wanted, got '17'"),
    ({"uniform_rank": None}, "uniform_rank: a finite number was wanted, got None"),
    ({"min_rank": None}, "min_rank: a whole number >= 0 was wanted, got None"),
    ({"min_rank": 0.5}, "min_rank: a whole number >= 0 was wanted, got 0.5"),
    ({"min_rank": -1}, "min_rank: a whole number >= 0 was wanted, got -1"),
]


@pytest.mark.parametrize("change, message", CHANGES)
def test_a_changed_plan_does_not_hold(change, message):
    importance = toy()
    plan = lola.allocate_ranks(importance, budget=600)
    with pytest.raises(lola.VerificationError, match=message):
        replace(plan, **change).verify(importance)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"rank": [0, 0], "parameters": [0, 0], "upload_bits": [0.0, 0.0], "objective": 0.0, "upper_bound": 0.0},
            "proof: the price only shows 1, not 0",
        ),
        ({"objective": 9.0, "upper_bound": 9.0}, "objective: is 9.0, but the ranks are worth 1.0"),
        ({"uniform_objective": 7.0}, "uniform: is 7.0, but the ranks are worth 0"),
        ({"upper_bound": 0.999}, "bound: 0.999 is below the objective"),
    ],
)
def test_a_gain_that_no_budget_buys_hides_no_lie(change, message):
    importance = lola.Importance([[1e14], [1.0]], cost=[1000, 1])
    plan = lola.allocate_ranks(importance, budget=5, min_rank=0)
    assert plan.rank.tolist() == [0, 1]
    arrays = {name: np.array(value) if isinstance(value, list) else value for name, value in change.items()}
    with pytest.raises(lola.VerificationError, match=message):
        replace(plan, **arrays).verify(importance)


def test_what_is_worth_little_beside_all_else_does_not_make_a_plan_refuse_itself():
    """Less the worth of rank 1, the bound may be a rounding below what the other ranks are worth."""
    plan = lola.allocate_ranks(lola.Importance([[6.369616873214543e-08, 0.99999998281562]], [1]), budget=2.0)
    assert plan.rank.tolist() == [2]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"device_of_block": np.array([0, 0, 1])}, "device_of_block"),
        ({"bandwidth_hz": np.array([1e6, 1e6, 1e6])}, "bandwidth_hz"),
        ({"bandwidth_hz": np.array([1.0, 1.0])}, "shape: bandwidth_hz has shape"),
        ({"latency_s": 1.0}, "latency_s"),
        ({"deadline_s": 4.15}, "latency_s"),
        ({"budget": 99.0}, "deadline: a plan by one has no budget and no price"),
        ({"uniform_rank": 0, "uniform_objective": 0.0}, "uniform_rank: the largest that fits is 1, not 0"),
        ({"equal_bandwidth": 1}, "equal_bandwidth: is 1"),
        ({"proof": None}, "deadline: it, a latency and a proof were wanted"),
        ({"upper_bound": 27.5, "objective": 27.5}, "objective"),
        ({"upper_bound": np.inf}, "bound: a finite number was wanted, got inf"),
        ({"latency_s": "1"}, "latency_s: a finite number was wanted, got '1'"),
        ({"deadline_s": "4.2"}, "deadline: a finite number was wanted, got '4.2'"),
        ({"device_of_block": [0, 1, 2]}, "shape: device_of_block must be an array, got list"),
    ],
)
def test_a_changed_plan_by_a_deadline_does_not_hold(change, message):
    importance, problem = toy(), small_problem()
    plan = lola.allocate_ranks(importance, deadline_s=4.2, problem=problem)
    with pytest.raises(lola.VerificationError, match=message):
        replace(plan, **change).verify(importance, problem)
