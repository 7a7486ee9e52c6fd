"""The MILP over all segments: by two solvers, against brute force, and as a judge of schedules."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from segment_rounds import brute_force, instance

import lola
from lola.cli.main import main
from lola.cli.oracle import ask
from lola.solvers import InfeasibleError, oracle, segment_allocation
from lola.solvers.oracle import Status

SOLVERS = ("highs", "ortools")


def roomy(rng, n_devices, n_blocks):
    """Draw a round in which most segments fit somebody."""
    given = instance(rng, n_devices, n_blocks)
    given["memory_bytes"] += 2e9
    given["extra_memory_bytes"] = given["extra_memory_bytes"] * 1e-3
    return given | {"max_blocks": int(rng.integers(max(2, -(-n_blocks // n_devices)), n_blocks + 2))}


def test_both_solvers_agree_with_brute_force(instances):
    """On the optimum and on who can serve at all, also with pairs that are forbidden, and too few devices."""
    rng = np.random.default_rng(50)
    counts = dict.fromkeys(Status, 0)
    for _ in range(instances(60)):
        given = instance(rng, int(rng.integers(1, 7)), int(rng.integers(1, 7)))
        if rng.random() < 0.3:
            given["allowed"] = rng.random((given["speed"].size, given["latency_s"].size)) < 0.85
        best = brute_force(given)
        for solver in SOLVERS:
            answer = oracle.segment_milp(**given, solver=solver)
            assert answer.status is (Status.OPTIMAL if best < np.inf else Status.INFEASIBLE)
            assert answer.objective == pytest.approx(best, rel=2e-9, abs=0)
            assert (answer.assignment is None) == (best == np.inf)
            counts[answer.status] += 1
    assert min(counts[Status.OPTIMAL], counts[Status.INFEASIBLE]) > 20


def test_the_assignment_is_that_of_the_objective(instances):
    """Devices that may take nothing else leave brute force the same optimum."""
    rng = np.random.default_rng(51)
    for _ in range(instances(5)):
        given = roomy(rng, 5, 5)
        for solver in SOLVERS:
            answer = oracle.segment_milp(**given, solver=solver)
            only = answer.assignment == np.arange(5)[:, None]
            assert brute_force(given | {"allowed": only}) == pytest.approx(answer.objective, rel=1e-12)


def test_whole_subcarriers(instances):
    """As the allocation, which is held against brute force, also where there are fewer subcarriers than blocks."""
    rng = np.random.default_rng(52)
    counts = dict.fromkeys(Status, 0)
    for _ in range(instances(15)):
        given = instance(rng, int(rng.integers(1, 9)), int(rng.integers(1, 8)))
        given["memory_bytes"] += 1e9
        given["subcarrier_hz"] = given["bandwidth_hz"] / (int(rng.integers(1, 40)) + 0.5)
        try:
            best = segment_allocation(**given).objective
        except (InfeasibleError, ValueError):
            best = np.inf
        for solver in SOLVERS:
            answer = oracle.segment_milp(**given, solver=solver)
            assert answer.status is (Status.OPTIMAL if best < np.inf else Status.INFEASIBLE)
            assert answer.objective == pytest.approx(best, rel=2e-9, abs=0)
            counts[answer.status] += 1
    assert min(counts[Status.OPTIMAL], counts[Status.INFEASIBLE]) > 3


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_spectrum_without_a_subcarrier_serves_nobody(solver):
    given = roomy(np.random.default_rng(58), 4, 3)
    answer = oracle.segment_milp(**given, subcarrier_hz=2 * given["bandwidth_hz"], solver=solver)
    assert answer.status is Status.INFEASIBLE


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_units_do_not_matter(solver, scale):
    """The solvers' tolerances are absolute, the costs that they see are not."""
    given = roomy(np.random.default_rng(53), 8, 5)
    seconds = given | {name: given[name] * scale for name in ("latency_s", "extra_latency_s")}
    seconds["bandwidth_hz"] = given["bandwidth_hz"] / scale
    answer = oracle.segment_milp(**seconds, solver=solver)
    assert answer.objective == pytest.approx(segment_allocation(**given).objective * scale, rel=2e-9, abs=0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_out_of_time(solver):
    given = roomy(np.random.default_rng(54), 40, 16)
    answer = oracle.segment_milp(**given, solver=solver, time_limit_s=0.02)
    assert answer.status is Status.TIME_LIMIT
    assert answer.seconds < 5.0


def test_a_tolerance_below_rounding_ends():
    given = roomy(np.random.default_rng(55), 5, 4)
    answer = oracle.segment_milp(**given, tolerance=1e-30)
    assert answer.status is Status.OPTIMAL
    assert answer.objective == pytest.approx(segment_allocation(**given).objective, rel=1e-11)


def test_bad_calls_are_refused(monkeypatch):
    given = roomy(np.random.default_rng(56), 5, 4)
    for change, message in (
        ({"solver": "cplex"}, "solver must be 'highs' or 'ortools', got 'cplex'; choose one of them"),
        ({"tolerance": 0.0}, "tolerance must be finite and > 0"),
        ({"time_limit_s": -1.0}, "time_limit_s must be finite and > 0"),
        ({"subcarrier_hz": np.nan}, "subcarrier_hz must be finite and > 0"),
        ({"max_blocks": 0}, "max_blocks must be at least 1, got 0"),
        ({"extra_latency_s": [1.0]}, "extra_latency_s must have 4 entries"),
        ({"extra_memory_bytes": -1.0}, "extra_memory_bytes must be finite and >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            oracle.segment_milp(**given | change)
    for solver, module in (("highs", "scipy.optimize"), ("ortools", "ortools.linear_solver.pywraplp")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=f"this oracle needs {module.split('.')[0]}: install lola-deft"):
            oracle.segment_milp(**given, solver=solver)


def segment_problem(**changes):
    """Five devices for six blocks, two of which are pinned or forbidden."""
    profile = lola.Profile(
        memory_bytes=np.linspace(1e9, 2e9, 6),
        latency_s=np.linspace(0.8, 1.8, 6),
        upload_bits=[8e5, 1e6, 8e5, 7e5, 8e5, 9e5],
        extra_latency_s=np.full(6, 0.05),
        extra_memory_bytes=np.full(6, 1e7),
    )
    arguments = {"bandwidth_hz": 5e6, "max_blocks": 3, "pinned": [(1, 2)], "forbidden": [(0, 6)]}
    return lola.Problem(profile, lola.Fleet.sample(5, seed=3), **(arguments | changes))


@pytest.mark.parametrize("changes", [{}, {"subcarrier_hz": 1e5}, {"max_blocks": None, "broadcast_s": 2.0}])
def test_a_corrupted_schedule_is_caught(changes):
    """The oracle passes the honest one, and tells one ten-thousandth in either direction."""
    problem = segment_problem(**changes)
    honest = lola.schedule(problem)
    assert ask("milp", honest, problem, 60.0).startswith("oracle milp: ")
    rest = honest.latency_s - problem.broadcast_s
    for factor, message in ((1 + 1e-4, "oracle: .* below the bound"), (1 - 1e-4, "oracle: .* nothing is below")):
        latency = problem.broadcast_s + rest * factor
        with pytest.raises(lola.VerificationError, match=message):
            ask("milp", replace(honest, latency_s=latency, lower_bound_s=latency), problem, 60.0)


def test_from_the_command_line(tmp_path, capsys):
    problem, out = segment_problem(), str(tmp_path / "s.json")
    lola.save_schedule(lola.schedule(problem), problem, out)
    assert main(["verify", out, "--oracle", "milp"]) == 0
    assert "oracle milp: " in capsys.readouterr().out
    assert main(["verify", out, "--oracle", "misocp"]) == 64
    said = "the oracle 'misocp' gives a device one block, not several (max_blocks); use 'milp'"
    assert said in capsys.readouterr().err


INTERRUPTED = """
import sys, signal, threading, time
sys.path.insert(0, sys.argv[2])
import numpy as np
from test_segment_oracle import roomy
from lola.solvers import oracle
given = roomy(np.random.default_rng(57), 200, 40) | {"max_blocks": None}
oracle.segment_milp(**roomy(np.random.default_rng(57), 3, 3), solver=sys.argv[1])
threading.Timer(1.5, signal.raise_signal, [signal.SIGINT]).start()
try:
    oracle.segment_milp(**given, solver=sys.argv[1])
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("solver", SOLVERS)
def test_ctrl_c_ends_it(solver):
    """At once, and the process then ends with its usual code, though HiGHS may still be at it."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, solver, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == "interrupted\n"
    assert time.perf_counter() - start < 45.0
