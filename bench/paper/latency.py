"""Figures 4, 5, 6 and 8 of the paper: what a depth costs, and the latency of a round. Run by reproduce.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from parameters import PARAMETERS, PROFILE, faster, fit, problem, published, ratios, residual, rounds_of

import lola
from lola.figures.picture import save_figure
from lola.figures.profile import draw_alone, draw_profile
from lola.figures.simulation import draw_simulation
from lola.files.problems import builtin_scenario

PLOTS = Path(__file__).parent / "plots"
ROUNDS = 10_000
SWEEPS: Mapping[str, dict[str, list]] = {
    "5": {"transmit_snr_db": [0.0, 2.5, 5.0, 7.5, 10.0, 12.5, 15.0, 17.5, 20.0]},
    "6": {"bandwidth_hz": [25e6, 50e6, 75e6, 100e6, 125e6, 150e6, 175e6, 200e6]},
    "8": {"n_devices": [15, 20, 25, 30, 35, 40, 45, 50]},
}
BASELINE = "communication-aware"
METHODS = ("jbba", "ba", BASELINE)
# What `variations` varies, where the page has more to say of it than its numbers.
NO_LACK = "no device lacks memory"
FLOAT32 = "memory as measured in float32"
FOUR_GB = "depth 12 needs 4 GB, a third of 12 GB"
SPLIT_20, SPLIT_50 = (f"equal split over {count} devices, chosen or not" for count in (20, 50))


def steps_label(steps: int) -> str:
    return f"M = {steps}"


def run() -> dict:
    """Compute every number, and draw every plot."""
    PLOTS.mkdir(exist_ok=True)
    results: dict = {"parameters": PARAMETERS, "rounds": ROUNDS, "published": published().tolist()}
    results["fit"] = {"shallowest": fit(), "deepest": fit(deepest=True)}
    results["fit"]["chosen"] = ratios(
        problem().profile, PARAMETERS["local_steps"], rounds_of(PARAMETERS["n_devices"], ROUNDS)
    ).tolist()
    results["4"] = costs()
    for figure, sweep in SWEEPS.items():
        simulation = lola.simulate(problem(), METHODS, rounds=ROUNDS, redraw="fleet", **PARAMETERS | sweep)
        save_figure(draw_simulation(simulation), PLOTS / f"figure-{figure}.png")
        results[figure] = simulation.rows()
        print(f"figure {figure} done", flush=True)
    everything = ("jbba", "jbba-dual-ascent", "ba", "computation-aware", "communication-aware", "random")
    point = lola.simulate(problem(), everything, rounds=2000, redraw="fleet", **PARAMETERS)
    save_figure(draw_simulation(point), PLOTS / "schemes.png")
    results["schemes"] = point.rows()
    results["why"] = variations()
    fifty, profile = rounds_of(50, 1000), problem().profile
    at_fifty = np.array([ratios(profile, factor, fifty) for factor in np.geomspace(1.0, 400.0, 25)])
    results["least at 50"] = [at_fifty[:, 1].min(), at_fifty.prod(axis=1).min()]
    return results


def costs() -> dict:
    """Fig. 4: what each depth costs, and what one device alone needs."""
    from costs import alone_parts, frozen_roberta

    from lola.profiling import alone, estimate

    profile = lola.load_profile(PROFILE)
    short, long = (frozen_roberta("float16", length) for length in (profile.provenance.sequence_length, 512))
    parts = alone_parts(alone(short, allocator="cuda"))
    save_figure(draw_profile(profile), PLOTS / "figure-4a.png")
    save_figure(draw_alone(profile, parts), PLOTS / "figure-4b.png")
    return {
        "memory_bytes": profile.memory_bytes.tolist(),
        "latency_s": profile.latency_s.tolist(),
        "alone_bytes": {name: float(value) for name, value in parts.items()},
        "sequence 512": {
            "alone_bytes": float(alone(long, allocator="cuda").total_bytes),
            "memory_bytes": estimate(long, allocator="cuda").memory_bytes.tolist(),
        },
    }


def variations() -> list[dict]:
    """What decides the ratios: M, and readings of the paper that its text leaves open."""
    profile = lola.load_profile(PROFILE)
    few, many = rounds_of(20, 2000), rounds_of(50, 2000)
    measured = builtin_scenario().profile.memory_bytes
    rows = []

    def add(name: str, factor: float, memory_scale: np.ndarray | float = 1.0, **changes) -> None:
        low = changes.pop("slowest", 0.5)
        at = {"path_loss": changes.pop("path_loss")} if "path_loss" in changes else {}
        fleets = [rounds_of(20, 2000, **at), rounds_of(50, 2000, **at)] if at else [few, many]
        fleets = [faster(rounds, low) for rounds in fleets] if low != 0.5 else fleets
        costs = replace(profile, memory_bytes=profile.memory_bytes * memory_scale)
        small, large = (ratios(costs, factor, rounds, **changes) for rounds in fleets)
        rows.append(
            {
                "what": name,
                "factor": factor,
                "small": small.tolist(),
                "large": large.tolist(),
                "residual": residual(small, published()),
            }
        )

    m = PARAMETERS["local_steps"]
    for steps in (1, 4, m, 64, 256):
        add(steps_label(steps), steps)
    for steps in (m, 54):
        add(f"{steps_label(steps)}, best channel deepest", steps, deepest=True)
    add(NO_LACK, m, 0.0)
    add(FLOAT32, m, measured / profile.memory_bytes)
    add(FOUR_GB, m, 4e9 / profile.memory_bytes[-1])
    add("10 dB received (no path loss)", m, path_loss=1.0)
    add("speeds from U(0.3, 1)", m, slowest=0.3)
    add(SPLIT_20, m, split=20)
    add(SPLIT_50, m, split=50)
    return rows
