"""lola against OR-Tools and SCIP, which share no code with it."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import ALLOCATION_FAMILIES, allocation, sizes
from scenario import random_problem, small_problem

import lola
from lola.cli.common import MISOCP_SIZE
from lola.cli.main import main
from lola.cli.oracle import ask
from lola.solvers import (
    InfeasibleError,
    block_allocation,
    bottleneck_assignment,
    conventional_allocation,
    crunch,
    joint_allocation,
    lagrangian_bound,
    oracle,
)
from lola.solvers.oracle import Status


def objective(solve, *arguments, **keywords):
    try:
        return solve(*arguments, **keywords).objective
    except InfeasibleError:
        return np.inf


def test_block_allocation_against_the_milp():
    """1,000 instances, feasible and not: OR-Tools and all four solvers of (P1) agree exactly."""
    rng = np.random.default_rng(41)
    infeasible = 0
    for number in range(1000):
        n_devices, n_blocks = sizes(rng, 5, 12)
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, ALLOCATION_FAMILIES[number % len(ALLOCATION_FAMILIES)])
        inputs["upload_bits"] = np.sort(inputs["upload_bits"])  # the published algorithms want rows that rise
        arguments = inputs | {"bandwidth_hz": bandwidth}
        matrix = oracle.equal_split_matrix(**arguments)
        answer = oracle.bottleneck_milp(matrix)
        infeasible += answer.status is Status.INFEASIBLE
        assert answer.status is (Status.OPTIMAL if answer.objective < np.inf else Status.INFEASIBLE)
        assert objective(block_allocation, **arguments) == answer.objective
        assert objective(bottleneck_assignment, matrix) == answer.objective
        assert objective(crunch, **arguments) == answer.objective
        assert objective(conventional_allocation, **arguments) == answer.objective
    assert infeasible > 50


def test_joint_allocation_against_scip_and_ortools():
    """200 instances up to K = 10, L = 5, equal and unequal uploads: three independent answers within 1e-6."""
    rng = np.random.default_rng(42)
    for number in range(200):
        n_devices, n_blocks = sizes(rng, 5, 10)
        family = ("uniform", "unequal uploads", "ties", "memory bound", "upload bound", "compute bound")[number % 6]
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, family)
        arguments = inputs | {"bandwidth_hz": bandwidth}
        wanted = objective(joint_allocation, **arguments)
        # SCIP takes seconds for a few of them, and more than its usual minute on a machine that is very busy.
        for answer in (oracle.joint_misocp(**arguments, time_limit_s=900.0), oracle.joint_bisection(**arguments)):
            assert answer.status is (Status.OPTIMAL if wanted < np.inf else Status.INFEASIBLE)
            assert answer.objective == pytest.approx(wanted, rel=1e-6, abs=0)


def test_whole_subcarriers_against_ortools():
    rng = np.random.default_rng(43)
    for number in range(200):
        n_devices, n_blocks = sizes(rng, 5, 10)
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, ALLOCATION_FAMILIES[number % len(ALLOCATION_FAMILIES)])
        arguments = inputs | {"bandwidth_hz": bandwidth, "subcarrier_hz": bandwidth / int(rng.integers(n_blocks, 60))}
        answer = oracle.joint_bisection(**arguments)
        wanted = objective(joint_allocation, **arguments)
        assert answer.status is (Status.OPTIMAL if wanted < np.inf else Status.INFEASIBLE)
        assert answer.objective == pytest.approx(wanted, rel=1e-6, abs=0)


@pytest.mark.parametrize("method, name", [("jbba", "milp"), ("jbba", "misocp"), ("ba", "milp"), ("ba-crunch", "milp")])
def test_a_corrupted_answer_is_caught(method, name):
    """An oracle passes the honest schedule, and tells both a worse and a better one than possible from it."""
    problem = random_problem(5, n_devices=7, n_blocks=4, equal_uploads=True)
    honest = lola.schedule(problem, method)
    assert f"oracle {name}: " in ask(name, honest, problem, 60.0)
    slow = replace(honest, latency_s=honest.latency_s * 1.01, lower_bound_s=honest.lower_bound_s * 1.01)
    with pytest.raises(lola.VerificationError, match="oracle: .* below the bound"):
        ask(name, slow, problem, 60.0)
    fast = replace(honest, latency_s=honest.latency_s * 0.99, lower_bound_s=honest.lower_bound_s * 0.99)
    with pytest.raises(lola.VerificationError, match="oracle: .* says that nothing is below"):
        ask(name, fast, problem, 60.0)


def test_oracles_from_the_command_line(tmp_path, capsys):
    out = str(tmp_path / "s.json")
    for method, problem in (
        ("jbba", small_problem()),
        ("jbba", small_problem(subcarrier_hz=1e5)),
        ("jbba-dual-ascent", small_problem()),
        ("ba", small_problem()),
    ):
        lola.save_schedule(lola.schedule(problem, method), problem, out)
        assert main(["verify", out, "--oracle", "milp"]) == 0
        assert "oracle milp: " in capsys.readouterr().out
    assert main(["verify", out, "--oracle", "misocp"]) == 64
    assert "the oracle 'misocp' solves (P2) with divisible bandwidth; use 'milp'" in capsys.readouterr().err
    lola.save_schedule(lola.schedule(problem, "random", seed=0), problem, out)
    assert main(["verify", out, "--oracle", "milp"]) == 64
    assert "random claims nothing that an oracle could check" in capsys.readouterr().err


def test_no_oracle_says_optimal_without_its_solvers_word():
    """A problem too large for the time given ends with a status that says so, and no claim."""
    rng = np.random.default_rng(44)
    inputs, bandwidth = allocation(rng, 30, 15, "uniform")
    answer = oracle.joint_misocp(**inputs, bandwidth_hz=bandwidth, time_limit_s=0.5)
    assert answer.status is Status.TIME_LIMIT
    assert "stopped at the time limit" in answer.status.value
    answer = oracle.joint_bisection(**inputs, bandwidth_hz=bandwidth, time_limit_s=0.002)
    assert answer.status is Status.TIME_LIMIT
    problem = random_problem(1, n_devices=30, n_blocks=15)
    with pytest.raises(ValueError, match="the oracle 'misocp' has no proven answer: the solver stopped"):
        ask("misocp", lola.schedule(problem), problem, 0.5)


def test_an_oracle_out_of_time_ends_with_a_code_of_its_own_and_says_what_size_it_can_do(tmp_path, capsys):
    out = str(tmp_path / "s.json")
    assert main(["schedule", "--json", out]) == 0
    size = "a minute is enough for about 18 devices and 9 blocks, and here are 20 and 12, or ask 'milp'"
    for name, said in (("misocp", size), ("milp", "give it more time (--time-limit-s)\n")):
        assert main(["verify", out, "--oracle", name, "--time-limit-s", "0.01"]) == 3
        error = capsys.readouterr().err
        assert error.startswith(f"lola: out of time: the oracle '{name}' has no proven answer: the solver stopped")
        assert said in error
    with pytest.raises(SystemExit):
        main(["verify", "--help"])
    assert "up to about 18 devices and 9 blocks in a minute" in " ".join(capsys.readouterr().out.split())


def test_the_size_that_scip_can_do_is_what_was_measured():
    (*_, largest) = json.loads((Path(__file__).parents[1] / "bench" / "results.json").read_text())["scip"]["cases"]
    devices, blocks = largest["size"]
    assert f"{devices} devices and {blocks} blocks" == MISOCP_SIZE
    page = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text()
    assert f"up to about {MISOCP_SIZE} in" in page


def test_dual_ascent_reaches_the_best_lagrangian_bound():
    """The bound is as good as its relaxation allows: within half a percent, and never above it."""
    for seed in range(6):
        problem = random_problem(seed, n_devices=12, n_blocks=5, equal_uploads=True)
        best = lagrangian_bound(**problem.solver_arguments())
        reached = lola.schedule(problem, "jbba-dual-ascent").lower_bound_s
        assert best * 0.995 <= reached <= best * (1 + 1e-6)
        assert best < lola.schedule(problem).latency_s


def test_bad_oracle_calls_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"at most as many rows as columns, got shape \(3, 2\); transpose it"):
        oracle.bottleneck_milp(np.ones((3, 2)))
    inputs, bandwidth = allocation(np.random.default_rng(0), 4, 2, "uniform")
    for change, message in (
        ({"subcarrier_hz": -1.0}, "subcarrier_hz must be finite and > 0"),
        ({"tolerance": np.nan}, "tolerance must be finite and > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            oracle.joint_bisection(**inputs, bandwidth_hz=bandwidth, **change)
    with pytest.raises(ValueError, match="upload_bits must be the same for every block, as in dual ascent"):
        lagrangian_bound(**(inputs | {"upload_bits": [1.0, 2.0]}), bandwidth_hz=bandwidth)
    with pytest.raises(ValueError, match="a block has no device with the memory it needs, so there is no bound"):
        lagrangian_bound(**(inputs | {"memory_bytes": np.zeros(4)}), bandwidth_hz=bandwidth)
    with pytest.raises(ValueError, match="time_limit_s must be finite and > 0"):
        oracle.bottleneck_milp(np.ones((2, 3)), time_limit_s=0.0)
    monkeypatch.setitem(sys.modules, "ortools.linear_solver.pywraplp", None)
    monkeypatch.setitem(sys.modules, "pyscipopt", None)
    with pytest.raises(ImportError, match="this oracle needs ortools: install lola-deft with its extra 'oracle'"):
        oracle.bottleneck_milp(np.ones((2, 3)))
    inputs, bandwidth = allocation(np.random.default_rng(0), 4, 2, "uniform")
    with pytest.raises(ImportError, match="this oracle needs pyscipopt"):
        oracle.joint_misocp(**inputs, bandwidth_hz=bandwidth)
    assert importlib.import_module("lola.solvers.oracle") is oracle
