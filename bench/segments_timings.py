"""How quickly segments are found: one call, a thousand devices, a city, a batch. Run by segments.py."""

from __future__ import annotations

import functools
import os

import numpy as np
import table
from report import extra_bytes, times
from segments_cases import FLEET, fleets, off, one_of, scenario, single

from lola.channel import rayleigh_efficiency
from lola.solvers import (
    joint_allocation,
    joint_allocation_batch,
    oracle,
    segment_allocation,
    segment_allocation_batch,
)


def timings(quick: bool) -> dict:
    return {"cell": cell(quick), "thousand": thousand(quick), "city": city(quick), "batch": batch(quick)}


def cell(quick: bool) -> list[dict]:
    """One call, K = 20 and L = 12, by fleet."""
    n_devices, count = (6, 2) if quick else (20, 20)
    costs, rows = scenario(), fleets(n_devices, count)
    if quick:
        costs = {name: value[:4] if np.ndim(value) else value for name, value in costs.items()}
    cases = []
    for index in range(count):
        arguments = costs | one_of(rows, index)
        contenders = {
            "segment_allocation": functools.partial(segment_allocation, **arguments),
            "joint_allocation": functools.partial(joint_allocation, **single(arguments)),
            "MILP": functools.partial(oracle.segment_milp, **arguments),
        }
        ours, milp = (contenders[name]().objective for name in ("segment_allocation", "MILP"))
        cases.append(
            {
                "devices": n_devices,
                "blocks": len(arguments["latency_s"]),
                "difference": off(milp, ours),
                "seconds": times(contenders, 0.05 if quick else 1.0, summary=min),
            }
        )
    return cases


def thousand(quick: bool) -> dict:
    n_devices = 100 if quick else 1000
    arguments = table.segment_arguments(n_devices, 24)
    contenders = {
        "segment_allocation": functools.partial(segment_allocation, **arguments),
        "joint_allocation": functools.partial(joint_allocation, **single(arguments)),
    }
    return {"devices": n_devices, "seconds": times(contenders, 0.1 if quick else 5.0, summary=min)}


def city(quick: bool) -> dict:
    """A million devices: time in units of reading the fleet once, and extra memory."""
    n_devices = 10_000 if quick else 1_000_000
    rows = {
        kind: table.segment_arguments(n_devices, 24, quantised=kind == "quantised")
        for kind in ("continuous", "quantised")
    }
    vectors = [rows["continuous"][name] for name in FLEET]
    contenders = {
        f"{solve.__name__}, {kind}": functools.partial(solve, **(arguments if segments else single(arguments)))
        for solve, segments in ((segment_allocation, True), (joint_allocation, False))
        for kind, arguments in rows.items()
    }
    measured = times(
        {"read": lambda: [np.sum(vector) for vector in vectors]} | contenders, 0.5 if quick else 30.0, summary=min
    )
    return {
        "devices": n_devices,
        "seconds": measured,
        "extra_bytes": {name: extra_bytes(solve) for name, solve in contenders.items()},
        "fleet_bytes": sum(vector.nbytes for vector in vectors),
    }


def batch(quick: bool) -> dict:
    """Many rounds of Rayleigh fading, K = 20 and L = 12, over all cores."""
    n_rounds = 200 if quick else 20_000
    fleet = one_of(fleets(20, 1), 0) | {"spectral_efficiency": rayleigh_efficiency((n_rounds, 20), seed=7)}
    arguments = scenario() | fleet
    measured = times(
        {
            "segment_allocation_batch": lambda: segment_allocation_batch(**arguments),
            "segment_allocation_batch, one thread": lambda: segment_allocation_batch(**arguments, threads=1),
            "joint_allocation_batch": lambda: joint_allocation_batch(**single(arguments)),
        },
        0.2 if quick else 20.0,
        summary=min,
    )
    each = {name: seconds / n_rounds for name, seconds in measured.items()}
    return {"rounds": n_rounds, "threads": os.cpu_count(), "seconds_each": each}
