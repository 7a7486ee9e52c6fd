"""Fine-tune or serve: against enumeration, against value iteration in plain Python, and the paper's Table V."""

import itertools
import math

import numpy as np
import pytest

import lola
from lola.solvers import horizon_plan, horizon_profit

# Table V of the paper: three models, ten rounds; serving pays 50, an upgrade costs 50 and adds 25.
DEMAND = [0, 0, 1, 2, 2, 2, 2, 2, 2, 2]
PAYS = 50.0 + 25.0 * np.arange(8)


def paper(levels):
    return {"reward": np.tile(PAYS[:levels], (3, 1)), "upgrade_cost": 50.0, "demand": DEMAND}


def instance(rng, rounds):
    """Models with differing levels, whose pays may fall; some ties, some zeros."""
    n_models = int(rng.integers(1, 4))
    reward = rng.integers(0, 9, (n_models, int(rng.integers(1, 5)))) * rng.choice([1.0, 0.37])
    for model in range(n_models):
        reward[model, int(rng.integers(1, reward.shape[1] + 1)) :] = np.nan
    return reward, rng.integers(0, 6, n_models) * 1.0, rng.integers(0, n_models, rounds)


def chain(rng, n_models):
    transition = rng.random((n_models, n_models)) * (rng.random((n_models, n_models)) < 0.8) + np.eye(n_models) * 0.1
    initial = rng.random(n_models)
    return transition / transition.sum(axis=1, keepdims=True), initial / initial.sum()


def best_of_all(reward, cost, demand):
    """Every sequence of actions that the levels allow."""
    last = (~np.isnan(reward)).sum(axis=1) - 1
    best = -math.inf
    for actions in itertools.product(range(-1, len(cost)), repeat=len(demand)):
        levels, profit = [0] * len(cost), 0.0
        for model, action in zip(demand, actions, strict=True):
            if action < 0:
                profit += reward[model, levels[model]]
            elif levels[action] < last[action]:
                levels[action] += 1
                profit -= cost[action]
            else:
                break
        else:
            best = max(best, profit)
    return best


def value_iteration(reward, cost, transition, initial, rounds):
    """Plain Python over dictionaries, one state after the other."""
    last = (~np.isnan(reward)).sum(axis=1) - 1
    models = range(len(cost))
    states = list(itertools.product(*(range(n + 1) for n in last)))
    values = {(levels, model): 0.0 for levels in states for model in models}
    for _ in range(rounds):
        before = values
        values = {}
        for levels, model in itertools.product(states, models):
            ways = [(reward[model, levels[model]], levels)]
            ways += [(-cost[m], (*levels[:m], levels[m] + 1, *levels[m + 1 :])) for m in models if levels[m] < last[m]]
            values[levels, model] = max(
                profit + sum(transition[model, n] * before[after, n] for n in models) for profit, after in ways
            )
    return values, sum(initial[m] * values[(0,) * len(cost), m] for m in models)


def test_the_papers_table():
    """Two upgrades of a model at most: the paper's 650. Its random policy makes three, and with those it is 725."""
    plan = horizon_plan(**paper(3))
    assert plan.objective == 650.0
    assert plan.upgraded.tolist() == [-1, 2, 2, -1, -1, -1, -1, -1, -1, -1]
    assert plan.served.tolist() == [0, -1, -1, 2, 2, 2, 2, 2, 2, 2]
    for levels in (4, 8):
        plan = horizon_plan(**paper(levels))
        assert plan.objective == 725.0
        assert plan.upgraded.tolist() == [2, 2, 2, -1, -1, -1, -1, -1, -1, -1]
    immediate = horizon_profit(**paper(3), upgraded=[-1] * 10)
    assert immediate.profit.tolist() == [50.0] * 10
    random = horizon_profit(**paper(8), upgraded=[0, 1, 0, -1, 1, -1, 0, -1, 2, -1])
    assert random.profit.tolist() == [-50.0, -50.0, -50.0, 50.0, -50.0, 50.0, -50.0, 50.0, -50.0, 75.0]
    assert random.profit.sum() == -75.0
    with pytest.raises(lola.LolaError, match="raise model 0 to level 2 at most, its last in reward; round 7 would"):
        horizon_profit(**paper(3), upgraded=[0, 1, 0, -1, 1, -1, 0, -1, 2, -1])


def test_optimal_against_enumeration(instances):
    rng = np.random.default_rng(40)
    rounds_of = [1, 2, 3, 4, 4, 5, 5, 6]
    raised = 0
    n_instances = instances(500)
    for number in range(n_instances):
        reward, cost, demand = instance(rng, 8 if number % 80 == 0 else int(rng.choice(rounds_of)))
        plan = horizon_plan(reward, cost, demand)
        assert plan.objective == pytest.approx(best_of_all(reward, cost, demand), rel=1e-12, abs=1e-12)
        run = plan.follow(demand)
        assert math.fsum(run.profit) == plan.objective
        np.testing.assert_array_equal(run.upgraded, plan.upgraded)
        np.testing.assert_array_equal(plan.served, np.where(plan.upgraded < 0, demand, -1))
        lola.HorizonProblem(reward, cost, demand).verify(plan)
        raised += (plan.upgraded >= 0).any()
    assert raised > n_instances // 10


def test_a_markov_chain_against_value_iteration(instances):
    rng = np.random.default_rng(41)
    for _ in range(instances(40)):
        rounds = int(rng.integers(1, 8))
        reward, cost, demand = instance(rng, rounds)
        transition, initial = chain(rng, len(cost))
        plan = horizon_plan(reward, cost, transition=transition, initial=initial, horizon=rounds)
        values, objective = value_iteration(reward, cost, transition, initial, rounds)
        assert plan.objective == pytest.approx(objective, rel=1e-12, abs=1e-12)
        for (levels, model), value in values.items():
            assert plan.values[(0, *levels, model)] == pytest.approx(value, rel=1e-12, abs=1e-12)
        assert plan.served is None
        assert plan.upgraded is None
        run = plan.follow(demand)
        np.testing.assert_array_equal(run.profit, horizon_profit(reward, cost, demand, run.upgraded).profit)
        lola.HorizonProblem(reward, cost, transition=transition, initial=initial, horizon=rounds).verify(plan)


def test_a_chain_without_chance_is_a_sequence():
    rng = np.random.default_rng(42)
    reward, cost, _ = instance(rng, 1)
    n_models = len(cost)
    demand = [t % n_models for t in range(9)]
    turn = np.roll(np.eye(n_models), 1, axis=1)
    plan = horizon_plan(reward, cost, transition=turn, initial=np.eye(n_models)[0], horizon=9)
    sequence = horizon_plan(reward, cost, demand)
    assert plan.objective == pytest.approx(sequence.objective, rel=1e-13)
    assert math.fsum(plan.follow(demand).profit) == pytest.approx(sequence.objective, rel=1e-13)


def test_the_mean_of_many_demands_is_what_the_policy_is_expected_to_earn():
    rng = np.random.default_rng(43)
    transition, initial = chain(rng, 3)
    arguments = {"transition": transition, "initial": initial, "horizon": 12}
    problem = lola.HorizonProblem(paper(4)["reward"], 50.0, **arguments)
    plan = problem.plan()
    profits = [plan.follow(problem.draw_demand(seed)).profit.sum() for seed in range(2000)]
    assert np.mean(profits) == pytest.approx(plan.objective, abs=5 * np.std(profits) / math.sqrt(2000))
    greedy = [problem.immediate(problem.draw_demand(seed)).profit.sum() for seed in range(100)]
    assert greedy == [600.0] * 100
    assert plan.objective > 600.0


def test_of_equal_actions_it_serves_and_then_takes_the_first_model():
    assert horizon_plan([[5.0, 10.0]], 5.0, [0, 0]).upgraded.tolist() == [-1, -1]
    assert horizon_plan([[1.0, 9.0], [1.0, 9.0], [0.0, 0.0]], 0.0, [2, 2, 0, 1]).upgraded.tolist() == [0, 1, -1, -1]


def test_many_models_of_one_level_have_one_joint_level():
    plan = horizon_plan(np.ones((60, 1)), 1.0, np.arange(60))
    assert plan.objective == 60.0
    assert plan.values.size == 61


NAN = math.nan


@pytest.mark.parametrize(
    "change, message",
    [
        ({"reward": [50.0]}, r"reward must have 2 axis\(es\)"),
        ({"reward": np.zeros((0, 3))}, r"reward is empty, shape \(0, 3\); at least one model with one level"),
        ({"reward": np.ones((61, 1))}, "reward may be of at most 60 models, got 61; leave some out"),
        ({"reward": [[1.0], [NAN]]}, "NaN only beyond a model's last level, got .* for model 1; fill the gap"),
        ({"reward": [[1.0, NAN, 2.0], [1.0, 1.0, 1.0]]}, "NaN only beyond a model's last level, .* for model 0"),
        ({"reward": [[1.0], [-2.0]]}, "reward must be >= 0 .*, so that serving never loses; got -2.0 for model 1 at"),
        ({"reward": [[1.0], [math.inf]]}, "reward must be >= 0 .* got inf for model 1 at level 0; correct it"),
        ({"upgrade_cost": [1.0]}, "upgrade_cost must have 2 entries, as many as reward; got 1"),
        ({"upgrade_cost": -1.0}, "upgrade_cost must be finite and >= 0"),
        ({"demand": [0.0]}, "demand must hold indices of models, got dtype float64; give integers"),
        ({"demand": []}, r"demand must hold at least one round, and one entry for each; got shape \(0,\); list"),
        ({"demand": [[0]]}, r"demand must hold at least one round, and one entry for each; got shape \(1, 1\)"),
        ({"demand": [0, 2]}, "demand must hold models from 0 to 1, got 2 in round 2; correct it"),
        ({"horizon": 3}, "demand is a sequence or a Markov chain, got both: drop demand, or horizon, which is of a"),
        ({"demand": None}, "by transition, initial and horizon; missing: demand"),
        ({"demand": None, "horizon": 3, "initial": [1, 0]}, "initial and horizon; missing: transition"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    asked = {"reward": [[1.0, 2.0], [1.0, 2.0]], "upgrade_cost": 1.0, "demand": [0, 1]} | change
    with pytest.raises(lola.LolaError, match=message):
        horizon_plan(**asked)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"transition": np.eye(3)}, r"transition must have shape \(2, 2\), from model to model; got \(3, 3\)"),
        ({"transition": [[1, 0], [0.5, 0.4]]}, r"transition\[1\] must be probabilities, .* got the sum 0.9; correct"),
        ({"transition": [[1.5, -0.5], [0, 1]]}, r"transition\[0\] must be probabilities, >= 0 with the sum 1"),
        ({"transition": [[NAN, 1], [0, 1]]}, r"transition\[0\] must be probabilities, .* got the sum nan"),
        ({"initial": [1.0]}, "initial must have 2 entries, one a model; got 1"),
        ({"initial": [1.0, 1.0]}, "initial must be probabilities, >= 0 with the sum 1, got the sum 2"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
    ],
)
def test_bad_chains_are_refused(change, message):
    asked = {"transition": np.eye(2), "initial": [1.0, 0.0], "horizon": 3} | change
    with pytest.raises(lola.LolaError, match=message):
        horizon_plan([[1.0, 2.0], [1.0, 2.0]], 1.0, **asked)


def test_what_fits_no_memory_is_refused_before_it_is_tried():
    message = "values of 1000000000 joint levels over 10 rounds may take at most 2.15 GB, got 90 GB; plan fewer"
    with pytest.raises(lola.LolaError, match=message):
        horizon_plan(np.ones((9, 10)), 1.0, [0] * 10)


def test_bad_actions_and_demands_to_follow_are_refused():
    plan = horizon_plan([[1.0, 2.0]], 1.0, [0, 0])
    with pytest.raises(lola.LolaError, match="demand must be of 2 rounds, as many as were planned, got 1; plan for"):
        plan.follow([0])
    with pytest.raises(lola.LolaError, match="demand must hold models from 0 to 0, got 1 in round 2"):
        plan.follow([0, 1])
    with pytest.raises(lola.LolaError, match="upgraded must have 2 rounds, as many as demand; got 1"):
        horizon_profit([[1.0, 2.0]], 1.0, [0, 0], [0])
    with pytest.raises(lola.LolaError, match="upgraded must hold models from -1 to 0, got -2 in round 1"):
        horizon_profit([[1.0, 2.0]], 1.0, [0, 0], [-2, 0])


def test_probabilities_that_miss_1_by_a_rounding_earn_no_more():
    for miss in (9e-10, -9e-10):
        plan = horizon_plan([[1.0]], 0.0, transition=[[1 + miss]], initial=[1 + miss], horizon=1000)
        assert plan.objective == 1000.0
