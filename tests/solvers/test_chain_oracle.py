"""CP-SAT's chains: against brute force, and as a judge of larger ones."""

import math

import numpy as np
import pytest
from chain_cases import brute_force, instance, objective

from lola.solvers import InfeasibleError, chain_allocation, oracle
from lola.solvers.chain_costs import chain_costs
from lola.solvers.oracle import Status
from lola.solvers.oracle.chains import plain_costs


def test_agrees_with_brute_force(instances):
    rng = np.random.default_rng(70)
    counts = dict.fromkeys(Status, 0)
    for _ in range(instances(20)):
        arguments = instance(rng, int(rng.integers(1, 5)), int(rng.integers(1, 6)))
        best = brute_force(arguments)
        answer = oracle.chain_cp(**arguments)
        counts[answer.status] += 1
        assert answer.status is (Status.INFEASIBLE if best == math.inf else Status.OPTIMAL)
        assert answer.objective == pytest.approx(best, rel=2e-8, abs=0)
        if answer.assignment is not None:
            assert objective(arguments, answer.assignment) == pytest.approx(answer.objective, rel=1e-12)
    assert min(counts[Status.OPTIMAL], counts[Status.INFEASIBLE]) > 1


def test_costs_written_down_apart_are_the_solvers(instances):
    rng = np.random.default_rng(73)
    for number in range(instances(20)):
        arguments = instance(rng, 5, 6)
        if number % 2:
            arguments |= {"order": [3, 1, 0, 4], "start": [1, 3]}
            arguments["memory_bytes"] = np.maximum.accumulate(rng.uniform(0.5, 3.0, (6, 6)), axis=1)
        members = np.array(arguments.get("order", range(5)))
        both = (costs(**arguments).among(members) for costs in (plain_costs, chain_costs))
        for own, theirs in zip(*both, strict=True):
            np.testing.assert_allclose(own, theirs, rtol=1e-12)


def test_larger_chains_are_optimal_to_somebody_elses_solver(instances):
    rng = np.random.default_rng(71)
    feasible = 0
    for _ in range(instances(4)):
        arguments = instance(rng, int(rng.integers(6, 11)), int(rng.integers(6, 13)))
        arguments["client_memory_bytes"] *= rng.choice([0.4, 1.0])
        answer = oracle.chain_cp(**arguments, time_limit_s=600.0)
        if answer.status is Status.INFEASIBLE:
            with pytest.raises(InfeasibleError):
                chain_allocation(**arguments)
            continue
        feasible += 1
        assert answer.status is Status.OPTIMAL
        assert chain_allocation(**arguments).objective == pytest.approx(answer.objective, rel=2e-8)
    assert feasible > 0


def test_a_limit_that_comes_first_is_said():
    rng = np.random.default_rng(72)
    arguments = instance(rng, 10, 12, "pipeline") | {"client_memory_bytes": np.full(10, 3.0)}
    assert oracle.chain_cp(**arguments, time_limit_s=1e-3).status is Status.TIME_LIMIT
