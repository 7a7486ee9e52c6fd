"""Rounds as in the paper, by the solvers' keywords, for the scripts on segments."""

from __future__ import annotations

import numpy as np

import lola
from lola.channel import rayleigh_efficiency
from lola.files.problems import builtin_scenario

FLEET = ("speed", "memory_bytes", "spectral_efficiency")


def scenario() -> dict:
    """The built-in scenario's costs, by the solvers' keywords, with those of one more block."""
    problem = builtin_scenario()
    profile = problem.profile
    return {
        "latency_s": profile.latency_s,
        "depth_memory_bytes": profile.memory_bytes,
        "upload_bits": profile.upload_bits,
        "bandwidth_hz": problem.bandwidth_hz,
        "local_steps": problem.local_steps,
        "extra_latency_s": profile.extra_latency_s,
        "extra_memory_bytes": profile.extra_memory_bytes,
    }


def fleets(n_devices: int, count: int) -> dict:
    """Fleets as in the paper, one a row."""
    sampled = [lola.Fleet.sample(n_devices, seed=seed) for seed in range(count)]
    return {name: np.array([getattr(fleet, name) for fleet in sampled]) for name in FLEET}


def one_of(rows: dict, index: int) -> dict:
    return {name: values[index] for name, values in rows.items()}


def single(arguments: dict) -> dict:
    """What `joint_allocation` takes of what `segment_allocation` takes."""
    return {name: value for name, value in arguments.items() if not name.startswith("extra_")}


def off(answer: float, wanted: float) -> float:
    """Return the relative difference; none where both say that there is no round."""
    return 0.0 if answer == wanted else abs(answer / wanted - 1)


def like_the_paper(rng: np.random.Generator, most_blocks: int) -> dict:
    """Draw a fleet as in the paper, and a number of blocks whose costs follow the built-in profile's."""
    n_blocks = int(rng.integers(2, most_blocks + 1))
    depth = np.linspace(0.0, 1.0, n_blocks)
    costs = scenario()
    for name in ("latency_s", "depth_memory_bytes", "upload_bits", "extra_latency_s", "extra_memory_bytes"):
        costs[name] = np.interp(depth, np.linspace(0.0, 1.0, len(costs[name])), costs[name])
    fleet = lola.Fleet.sample(int(rng.integers(5, 51)), seed=rng)
    return costs | {name: getattr(fleet, name) for name in FLEET}


def unequal(rng: np.random.Generator, most_blocks: int) -> dict:
    """Draw a round in which every block has its own upload and extra, few devices the memory, and segments a limit."""
    n_blocks, n_devices = int(rng.integers(2, most_blocks + 1)), int(rng.integers(2, 51))
    return {
        "latency_s": np.sort(rng.uniform(0.5, 2.0, n_blocks)),
        "depth_memory_bytes": np.linspace(1e9, 4e9, n_blocks),
        "upload_bits": 8e5 * rng.lognormal(0.0, 1.0, n_blocks),
        "speed": rng.uniform(0.05, 1.0, n_devices),
        "memory_bytes": rng.uniform(1e9, 6e9, n_devices),
        "spectral_efficiency": rayleigh_efficiency(n_devices, seed=rng),
        "bandwidth_hz": 10.0 ** rng.uniform(7.0, 9.0),
        "local_steps": int(rng.integers(1, 11)),
        "extra_latency_s": rng.uniform(0.0, 0.5, n_blocks),
        "extra_memory_bytes": rng.uniform(0.0, 5e8, n_blocks),
        "max_blocks": int(rng.integers(1, n_blocks + 1)),
    }
