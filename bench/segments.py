"""Segments of blocks against one block a device: how quickly they are found, what they gain, and what they cost.

    python bench/segments.py              # everything; leave the machine alone meanwhile
    python bench/segments.py --timings    # the timings alone, in four minutes; everything else stays
    python bench/segments.py --quick      # small sizes, to try the script; writes nothing

Writes segments.json, SEGMENTS.md and its plots. Contenders of a case are timed in turn; a time is the least of the
repetitions, and only ratios within one run are claimed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from page import write_page
from report import machine
from segments_cases import fleets, like_the_paper, off, scenario, unequal
from segments_page import blocks
from segments_plots import draw_all
from segments_timings import timings

import lola
from lola.channel import RayleighFading
from lola.solvers import oracle, segment_allocation, segment_allocation_batch

HERE = Path(__file__).resolve().parent
STATE = HERE / "segments.json"
QUARTILES = (0.25, 0.5, 0.75)
DEVICES = (5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)
UPLOADS = tuple(float(f"{factor:.3g}") for factor in np.geomspace(0.1, 10.0, 9))  # two decades
EXTRAS = {"nothing": 0.0, "as measured": None, "10 % of d(1)": 0.1, "50 % of d(1)": 0.5}
PROVEN = (oracle.Status.OPTIMAL, oracle.Status.INFEASIBLE)
LONGEST = (1, 2, 3, 4, 6, None)


# -- exactness --------------------------------------------------------------------------------------------------------


def exactness(quick: bool) -> dict:
    """How often the linear program alone proves the optimum, and whether the MILP agrees."""
    count, held = (30, 3) if quick else (10_000, 500)
    families = {}
    for name, draw in (("as in the paper", like_the_paper), ("all unequal", unequal)):
        rng = np.random.default_rng(12)
        critical, states, differences, infeasible = [], [], [], 0
        for index in range(count // 2):
            arguments = draw(rng, 5 if quick else 16)
            try:
                allocation = segment_allocation(**arguments)
            except lola.InfeasibleError:
                infeasible += 1
                objective = np.inf
            else:
                critical.append(int((allocation.counter_of_device >= 0).sum()))
                states.append(allocation.potential_hz.shape[0])
                objective = allocation.objective
            if index < held // 2:
                answer = oracle.segment_milp(**arguments, tolerance=1e-7, time_limit_s=600.0)
                differences.append(off(answer.objective, objective) if answer.status in PROVEN else np.inf)
        families[name] = {
            "instances": count // 2,
            "infeasible": infeasible,
            "critical": np.bincount(critical).tolist(),
            "most_states": max(states),
            "held": len(differences),
            "largest_difference": max(differences),
        }
        print("exactness", name, families[name], flush=True)
    return families


# -- what segments gain -----------------------------------------------------------------------------------------------


def gains(quick: bool) -> dict:
    """What segments gain over one block a device: quartiles over fleets as in the paper."""
    count = 10 if quick else 400
    costs = scenario()
    first = costs["latency_s"][0]
    many = {n_devices: fleets(n_devices, count) for n_devices in DEVICES}
    return {
        "fleets": count,
        "blocks": len(costs["latency_s"]),
        "measured_extra": [
            float(np.mean(costs["extra_latency_s"]) / first),
            float(np.mean(costs["extra_memory_bytes"])),
        ],
        "devices": [{"devices": k, **compared(costs | rows)} for k, rows in many.items()],
        "upload": [
            {"factor": factor, **compared(costs | many[20] | {"upload_bits": factor * costs["upload_bits"]})}
            for factor in UPLOADS
        ],
        "extra": [
            {
                "devices": k,
                "extra": name,
                **compared(costs | many[k] | ({} if e is None else {"extra_latency_s": e * first})),
            }
            for k in (12, 20, 50)
            for name, e in EXTRAS.items()
        ],
        "longest": [
            {"devices": k, "longest": longest, **compared(costs | many[k], longest)}
            for k in (8, 12, 20, 50)
            for longest in LONGEST
        ],
    }


def compared(arguments: dict, longest: int | None = None) -> dict:
    """Solve every fleet with one block a device and with segments of at most so many."""
    one = segment_allocation_batch(**arguments, max_blocks=1)
    some = segment_allocation_batch(**arguments, max_blocks=longest)
    both = one.feasible & some.feasible
    device = one.device_of_block[one.feasible]
    compute = (
        arguments["local_steps"]
        * arguments["latency_s"]
        / np.take_along_axis(arguments["speed"][one.feasible], device, axis=1)
    )
    upload = one.objective[one.feasible, None] - compute  # all devices finish together
    return {
        "one_feasible": float(one.feasible.mean()),
        "feasible": float(some.feasible.mean()),
        "one_s": quartiles(one.objective[one.feasible]),
        "seconds": quartiles(some.objective[some.feasible]),
        "ratio": quartiles(some.objective[both] / one.objective[both]),
        "taking_part": quartiles(taking_part(some.device_of_block[some.feasible])),
        "compute_to_upload": quartiles(compute.sum(axis=1) / upload.sum(axis=1)),
    }


def quartiles(values: NDArray) -> list[float] | None:
    """Return the quartiles over the fleets, or None of none."""
    return np.quantile(values, QUARTILES).tolist() if values.size else None


def taking_part(device_of_block: NDArray) -> NDArray:
    """Devices in each round, (R,): a segment's blocks are neighbours."""
    return 1 + (np.diff(device_of_block, axis=1) != 0).sum(axis=1)


# -- what segments cost -----------------------------------------------------------------------------------------------


def participation(quick: bool) -> dict:
    """How often each device of one fleet takes part while its channels fade."""
    n_devices, n_rounds = 20, 50 if quick else 2000
    fleet = lola.Fleet.sample(n_devices, seed=0)
    channel = RayleighFading(n_devices, seed=0)
    arguments = scenario() | {
        "speed": fleet.speed,
        "memory_bytes": fleet.memory_bytes,
        "spectral_efficiency": np.array([channel(version, 0.0) for version in range(n_rounds)]),
    }
    answer: dict = {"rounds": n_rounds, "speed": fleet.speed, "memory_bytes": fleet.memory_bytes}
    for name, longest in (("one block", 1), ("segments", None)):
        rounds = segment_allocation_batch(**arguments, max_blocks=longest)
        taken = rounds.device_of_block[rounds.feasible]
        answer[name] = {
            "feasible": float(rounds.feasible.mean()),
            "mean_s": float(rounds.objective[rounds.feasible].mean()),
            "share": [float((taken == k).any(axis=1).mean()) for k in range(n_devices)],
            "devices": np.bincount(taking_part(taken), minlength=13).tolist(),
        }
    return answer


SECTIONS = {"timings": timings, "exactness": exactness, "gains": gains, "participation": participation}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timings", action="store_true", help="measure the timings again, and nothing else")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script; writes nothing")
    options = parser.parse_args()
    state = json.loads(STATE.read_text()) if STATE.exists() else {}
    for name in ["timings"] if options.timings else SECTIONS:
        start = time.monotonic()
        state[name] = SECTIONS[name](options.quick) | {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
        if not options.quick:
            STATE.write_text(json.dumps(state, indent=1, default=lambda array: array.tolist()) + "\n")
    if not options.quick:
        write_page(HERE / "SEGMENTS.md", blocks(state))
        if not options.timings:
            draw_all(state, HERE / "plots")


if __name__ == "__main__":
    main()
