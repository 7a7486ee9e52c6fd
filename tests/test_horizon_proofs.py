"""A plan of fine-tuning and serving that was tampered with is told, whatever of it was changed."""

from dataclasses import replace

import numpy as np
import pytest

import lola

PAYS = np.tile([50.0, 75.0, 100.0], (3, 1))
DEMAND = [0, 0, 1, 2, 2, 2, 2, 2, 2, 2]
CHAIN = {"transition": [[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.05, 0.05, 0.9]], "initial": [1, 0, 0], "horizon": 10}


@pytest.fixture(params=["sequence", "chain"])
def problem(request):
    return lola.HorizonProblem(PAYS, 50.0, **({"demand": DEMAND} if request.param == "sequence" else CHAIN))


def changed(array, place, value):
    copy = array.copy()
    copy[place] = value
    return copy


def refused(problem, plan, message, **change):
    with pytest.raises(lola.VerificationError, match=message):
        problem.verify(replace(plan, **change))


def test_a_value_that_is_too_low_is_told_wherever_it_stands(problem):
    plan = problem.plan()
    problem.verify(plan)
    rng = np.random.default_rng(44)
    for flat in rng.choice(plan.values.size, 60, replace=False):
        place = np.unravel_index(flat, plan.values.shape)
        lowered = changed(plan.values, place, plan.values[place] - 1e-6)
        what = "a value after the last round is below 0" if place[0] == 10 else "no plan is shown to earn more than"
        refused(problem, plan, f"proof: {what}", values=lowered)


def test_a_bound_or_a_profit_that_is_not_met_is_told(problem):
    plan = problem.plan()
    refused(problem, plan, "proof: no plan is shown to earn more than", upper_bound=plan.objective)
    refused(problem, plan, "bound: the profit .* is not the bound", upper_bound=plan.upper_bound + 1.0)
    refused(problem, plan, "profit: the policy earns", objective=plan.objective + 1e-6)
    refused(problem, plan, "shape: objective must be a finite float", objective=np.nan)
    refused(problem, plan, "shape: upper_bound must be a finite float", upper_bound=700)
    first = (0,) * plan.values.ndim
    higher = changed(plan.values, first, plan.values[first] + 1.0)
    refused(problem, plan, "proof: no plan is shown to earn more", values=higher)
    refused(problem, plan, "proof: a value is not finite", values=changed(plan.values, first, np.nan))


def test_a_policy_that_earns_less_or_that_nobody_can_follow_is_told(problem):
    plan = problem.plan()
    refused(problem, plan, "profit: the policy earns", policy=np.full_like(plan.policy, -1))
    top = (4, 0, 0, 2) if plan.policy.ndim == 4 else (4, 0, 0, 2, 2)
    refused(problem, plan, "policy: round 5 raises a model that has no", policy=changed(plan.policy, top, 2))
    refused(problem, plan, "policy: round 5 raises a model that has no", policy=changed(plan.policy, top, 9))
    refused(problem, plan, "shape: policy has shape", policy=plan.policy[1:])
    refused(problem, plan, "shape: policy must be of int8", policy=plan.policy.astype(np.int64))
    refused(problem, plan, "shape: values has shape", values=plan.values[1:])


def test_actions_that_are_not_those_of_the_profit_are_told():
    problem = lola.HorizonProblem(PAYS, 50.0, DEMAND)
    plan = problem.plan()
    others, nobody = changed(plan.served, 4, 1), changed(plan.served, 4, -1)
    refused(problem, plan, "actions: round 5 serves what nobody asks for", served=others)
    refused(problem, plan, "actions: round 5 raises model -1, which has no next level", served=nobody)
    thrice = changed(plan.upgraded, 4, 2)
    refused(problem, plan, "actions: round 5 raises model 2, which has no", served=nobody, upgraded=thrice)
    fewer = {"served": changed(plan.served, 1, 0), "upgraded": changed(plan.upgraded, 1, -1)}
    refused(problem, plan, "profit: the rounds earn 575, the plan says 650", **fewer)
    refused(problem, plan, "shape: served must be an array, got NoneType", served=None)
    chain = lola.HorizonProblem(PAYS, 50.0, **CHAIN)
    refused(chain, chain.plan(), "shape: served and upgraded are of a sequence", served=plan.served)


@pytest.mark.parametrize("cost, brings", [(1e9, 75.0), (1e12, 75.0), (1e40, 75.0), (1e40, 1e15)])
def test_an_upgrade_that_is_never_taken_hides_nothing(cost, brings):
    """Nor does what it would bring."""
    demand = {"demand": [0] * 10}, {"transition": np.eye(2), "initial": [1.0, 0.0], "horizon": 10}
    for asked in demand:
        problem = lola.HorizonProblem([[50.0, 75.0], [50.0, brings]], [50.0, cost], **asked)
        plan = problem.plan()
        problem.verify(plan)
        assert plan.objective == 625.0
        assert plan.objective <= plan.upper_bound <= 625.0 + 1e-9


@pytest.mark.parametrize("unit", [1e-40, 1e-12, 1.0, 1e40])
def test_a_worse_plan_is_told_in_any_unit(unit):
    problem = lola.HorizonProblem([[unit, 5 * unit]], 0.0, [0] * 5)
    plan = problem.plan()
    problem.verify(plan)
    assert plan.objective == pytest.approx(20 * unit, rel=1e-12)
    worse = {"served": np.zeros(5, np.int64), "upgraded": np.full(5, -1), "policy": np.full_like(plan.policy, -1)}
    refused(problem, plan, "bound: the profit", objective=5 * unit, **worse)
    refused(problem, plan, "proof: no plan is shown", objective=5 * unit, upper_bound=5 * unit, **worse)
    refused(problem, plan, "profit: the policy earns", objective=plan.objective * (1 + 1e-9))


def test_profits_that_nearly_cancel_verify():
    problem = lola.HorizonProblem([[0.0, 1e8 / 3]], 1e8 - 0.01, [0] * 4)
    plan = problem.plan()
    problem.verify(plan)
    assert plan.objective == pytest.approx(0.01, rel=1e-5)


@pytest.mark.parametrize("pays", [[0.0, 1.0], [0.0, 1e-12]])
def test_an_upgrade_that_pays_just_what_it_costs_verifies(pays):
    problem = lola.HorizonProblem([pays], pays[1], [0, 0])
    plan = problem.plan()
    problem.verify(plan)
    assert plan.objective == 0.0


def test_values_far_below_0_prove_nothing(problem):
    plan = problem.plan()
    lowered = changed(plan.values, 0, -1e100)
    refused(problem, plan, "proof: no plan is shown", values=lowered)


def test_a_plan_of_another_problem_is_told(problem):
    plan = problem.plan()
    dearer = lola.HorizonProblem(PAYS, 60.0, **({"demand": DEMAND} if problem.demand is not None else CHAIN))
    refused(dearer, plan, "problem: the plan's upgrade_cost is of another problem")
    refused(dearer, plan, "profit: the policy earns", upgrade_cost=dearer.inputs.cost)
    poorer = lola.HorizonProblem(PAYS - 1, 50.0, **({"demand": DEMAND} if problem.demand is not None else CHAIN))
    refused(poorer, plan, "problem: the plan's reward is of another problem")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": ["a", "a", "b"]}, "model names must differ, got 'a' twice"),
        ({"name": ["a"]}, "name must have 3 entries, got 1"),
        ({"demand": ["a"]}, "demand must name models, got 'a'; they have no names"),
        ({"demand": ["c"], "name": ["a", "b", "d"]}, "demand must name models, got 'c'; known are 'a', 'b', 'd'"),
        ({"reward": [50.0, 60.0, [70.0, -1.0]]}, "got -1.0 for model 2 at level 1"),
        ({"demand": [0.5]}, "demand must hold indices of models, got dtype float64"),
    ],
)
def test_a_problem_that_cannot_be_is_refused(change, message):
    with pytest.raises(lola.LolaError, match=message):
        lola.HorizonProblem(**({"reward": PAYS, "upgrade_cost": 1.0, "demand": DEMAND} | change))


def test_draws_follow_from_their_seeds(problem):
    demand = problem.draw_demand(3)
    np.testing.assert_array_equal(demand, problem.draw_demand(3))
    runs = [problem.random(demand, seed) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0].upgraded, runs[1].upgraded)
    assert (runs[0].upgraded != runs[2].upgraded).any()
    with pytest.raises(lola.LolaError, match="seed must be at least 0, got -1"):
        problem.random(demand, -1)
