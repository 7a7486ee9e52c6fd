"""Run all benchmarks and write RESULTS.md, its plots, and the README's lines on costs.

    python bench/report.py [--quick] [section …]

Contenders of a case are timed in turn, so that a change of the machine's speed meets all of them; a figure is the
median of the repetitions, and only ratios within one run are claimed.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import readme_costs
import table
from numpy.typing import NDArray
from results_page import SCIP_LIMIT_S, SCIP_MOST_BLOCKS, write_results

from lola.channel import rayleigh_efficiency
from lola.solvers import (
    block_allocation,
    dual_ascent,
    joint_allocation,
    joint_allocation_batch,
    lagrangian_bound,
    oracle,
)

HERE = Path(__file__).resolve().parent
PLOTS = HERE / "plots"
STATE = HERE / "results.json"  # sections measured in earlier runs, each whole


def times(
    contenders: dict[str, Callable[[], object]],
    budget_s: float,
    most: int = 200,
    summary: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Median (or other `summary`) of the seconds of each contender, all run in turn until the budget is spent.

    Three rounds at least, after one to warm up; one where a round takes more than ten seconds.
    """
    inner, spent = {}, {name: [] for name in contenders}
    for name, run in contenders.items():
        start = time.perf_counter()
        run()  # compiles, fills caches
        if time.perf_counter() - start < 1.0:
            start = time.perf_counter()
            run()
        inner[name] = max(1, min(1000, int(2e-4 / max(time.perf_counter() - start, 1e-9))))
    begin = time.perf_counter()
    rounds = 0
    while (
        rounds < 1
        or (rounds < 3 and time.perf_counter() - begin < 20)
        or (time.perf_counter() - begin < budget_s and rounds < most)
    ):
        for name, run in contenders.items():
            start = time.perf_counter()
            for _ in range(inner[name]):
                run()
            spent[name].append((time.perf_counter() - start) / inner[name])
        rounds += 1
    return {name: summary(values) for name, values in spent.items()}


def grid(quick: bool) -> dict:
    """`linear_assignment` against every peer, cell by cell."""
    cells = []
    for shape in (*table.SQUARE, *table.WIDE):
        if quick and shape[0] * shape[1] > 100_000:
            continue
        for family in table.FAMILIES:
            case = table.assignment_case(family, shape)
            measured = times(case.contenders, 0.2 if quick else 2.0)
            ours = measured.pop("lola")
            peer = min(measured, key=measured.get)
            cells.append(
                {
                    "family": family,
                    "shape": shape,
                    "ours": ours,
                    "peer": peer,
                    "peer_s": measured[peer],
                    "all": measured,
                }
            )
            print(f"grid {case.name}: {ours / measured[peer]:.2f} × {peer}", flush=True)
    return {"cells": cells}


def growth(quick: bool) -> dict:
    """Time of every P1 and P2 algorithm against K and against L."""
    devices = [24, 34, 50, 70, 100, 200, 400, 1000, 3000, 10_000, 100_000, 1_000_000]
    blocks = [4, 8, 16, 32, 64]
    series: dict[str, dict[str, list]] = {}
    for problem in ("P1", "P2"):
        for axis, sizes in (
            ("K", [(k, 24) for k in devices[: 4 if quick else None]]),
            ("L", [(200, n) for n in blocks[: 3 if quick else None]]),
        ):
            points: dict[str, list] = {}
            for k, n in sizes:
                for name, seconds in _growth_point(problem, k, n, 0.1 if quick else 0.6).items():
                    points.setdefault(name, []).append([k if axis == "K" else n, seconds])
                print(f"growth {problem} {k}×{n}", flush=True)
            series[f"{problem} {axis}"] = points
    return series


def _growth_point(problem: str, k: int, n: int, budget_s: float) -> dict[str, float]:
    if problem == "P2":
        case = table.joint_case(k, n, ascent=k <= 3000)
        if k > 10_000:
            case.contenders.pop("numpy + scipy Newton")
    else:
        case = table.block_case(k, n, slow=k <= 70 and n <= 32)
        if k > 1000:
            case.contenders.pop("CRUNCH")
        if k > 10_000:
            case.contenders.pop("Hopcroft–Karp threshold")
            case.contenders.pop("0/1 scipy threshold")
    return times(case.contenders, budget_s, 20)


def city(quick: bool) -> dict:
    """A million devices: time in units of reading the fleet once, and extra memory."""
    n_devices = 100_000 if quick else 1_000_000
    fleets = {
        "continuous": table.allocation(n_devices, 24),
        "quantised": table.allocation(n_devices, 24, quantised=True),
    }
    solvers = {
        "block_allocation": block_allocation,
        "joint_allocation": joint_allocation,
        "joint_allocation, subcarriers": functools.partial(joint_allocation, subcarrier_hz=180e3),
    }
    vectors = [fleets["continuous"][name] for name in ("speed", "memory_bytes", "spectral_efficiency")]
    contenders = {
        f"{solver}, {fleet}": functools.partial(solve, **arguments)
        for solver, solve in solvers.items()
        for fleet, arguments in fleets.items()
    }
    measured = times({"read": lambda: [np.sum(vector) for vector in vectors]} | contenders, 20.0)
    return {
        "devices": n_devices,
        "solvers": list(solvers),
        "seconds": measured,
        "extra_bytes": {name: extra_bytes(solve) for name, solve in contenders.items()},
        "fleet_bytes": sum(vector.nbytes for vector in vectors),
    }


def extra_bytes(solve: Callable[[], object]) -> int:
    """Most that numpy allocates at once during a call, which is all but the kernels' work space of O(L²)."""
    tracemalloc.start()
    solve()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def batch(quick: bool) -> dict:
    """Rounds a second, K = 20 and L = 12, against a Python loop over scipy."""
    n_rounds = 2000 if quick else 20_000
    arguments = next(table.paper_rounds(20, 1))
    fading = rayleigh_efficiency((n_rounds, 20), seed=7)
    sample = fading[:200]
    keep = arguments | {"spectral_efficiency": fading}

    def loop() -> list[float]:
        return [table.newton_with_scipy(**(arguments | {"spectral_efficiency": r})) for r in sample]

    def one_by_one() -> list[float]:
        return [joint_allocation(**(arguments | {"spectral_efficiency": r})).objective for r in sample]

    batched = joint_allocation_batch(**keep).objective
    error = float(np.abs(np.array(loop()) / batched[: sample.shape[0]] - 1).max())
    measured = times(
        {
            "batch": lambda: joint_allocation_batch(**keep),
            "batch, one thread": lambda: joint_allocation_batch(**keep, threads=1),
            "joint_allocation, one by one": one_by_one,
            "numpy + scipy Newton": loop,
        },
        8.0,
    )
    each = {
        name: seconds / (n_rounds if name.startswith("batch") else sample.shape[0])
        for name, seconds in measured.items()
    }
    return {"rounds": n_rounds, "seconds_each": each, "largest_difference": error, "threads": os.cpu_count()}


def scip(quick: bool) -> dict:
    """The largest case that SCIP finishes within a minute."""
    finished = []
    for n in range(3, SCIP_MOST_BLOCKS + 1):
        k = 2 * n
        arguments = table.allocation(k, n)
        answer = oracle.joint_misocp(**arguments, time_limit_s=5.0 if quick else SCIP_LIMIT_S)
        if answer.status is not oracle.Status.OPTIMAL:
            break
        ours = times({"joint_allocation": lambda a=arguments: joint_allocation(**a)}, 0.5)["joint_allocation"]
        difference = abs(answer.objective / joint_allocation(**arguments).objective - 1)
        finished.append({"size": [k, n], "scip_s": answer.seconds, "ours_s": ours, "difference": difference})
        print("scip", finished[-1], flush=True)
    return {"cases": finished}


def ascent(quick: bool) -> dict:
    """Dual ascent on paper-like rounds: how far its schedule and its bound stay from the optimum."""
    result = {}
    for n_devices in (20, 50):
        primal, bound, curves, crunched, reached = [], [], [], [], []
        for i, arguments in enumerate(table.paper_rounds(n_devices, 10 if quick else 100)):
            optimum = joint_allocation(**arguments).objective
            ascended = dual_ascent(**arguments)
            crunched.append(dual_ascent(**arguments, crunched=True).objective / optimum - 1)
            if i < 10:
                reached.append(ascended.lower_bound / lagrangian_bound(**arguments))
            primal.append(ascended.objective / optimum - 1)
            bound.append(1 - ascended.lower_bound / optimum)
            best = np.minimum.accumulate(ascended.primal_s) / optimum - 1
            curves.append(np.pad(best, (0, 1000 - best.size), mode="edge"))
        result[str(n_devices)] = {
            "primal": primal,
            "bound": bound,
            "crunched": crunched,
            "bound_reached": reached,
            "iterations": np.quantile(curves, [0.1, 0.5, 0.9], axis=0).tolist(),
        }
        print("ascent", n_devices, statistics.median(primal), statistics.median(bound), flush=True)
    return result


SECTIONS = {"grid": grid, "growth": growth, "city": city, "batch": batch, "scip": scip, "ascent": ascent}


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            cpu = line.split(":")[1].strip()
            break
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all without")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script; writes nothing")
    options = parser.parse_args()
    state = json.loads(STATE.read_text()) if STATE.exists() else {}
    for name in options.sections or SECTIONS:
        state[name] = SECTIONS[name](options.quick) | {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
        if not options.quick:
            STATE.write_text(json.dumps(state, indent=1, default=_plain) + "\n")
    if not options.quick:
        write_results(state, HERE / "RESULTS.md", PLOTS)
        readme = HERE.parent / "README.md"
        readme.write_text(readme_costs.filled(readme.read_text(), state))


def _plain(value: NDArray | np.generic) -> object:
    return value.tolist()


if __name__ == "__main__":
    main()
