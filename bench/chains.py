"""What chains cost and how near to proven they are: draws, solves, checks, and writes CHAINS.md.

python bench/chains.py                # minutes on one core
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from page import Template, claim, rows, write_page
from report import machine

from lola.solvers import InfeasibleError, chain_allocation
from lola.solvers.chain_costs import OBJECTIVES

MODULES = 24
EXACT, EXACT_CASES = 14, 20
MANY, MANY_CASES = 200, 20
say = Template("chains")


def draw(rng: np.random.Generator, n_clients: int, n_modules: int, needed: float) -> dict[str, Any]:
    """Draw a model, clients and links; all modules need this share of all clients' memory."""
    memory = rng.uniform(0.5, 1.5, n_modules)
    offered = rng.uniform(0.5, 1.5, n_clients)
    return {
        "work_s": rng.lognormal(0.0, 0.3, n_modules),
        "memory_bytes": memory,
        "hop_bits": rng.lognormal(0.0, 0.5, n_modules - 1),
        "speed": rng.lognormal(0.0, 0.6, n_clients),
        "client_memory_bytes": offered * memory.sum() / (needed * offered.sum()),
        "rate_bps": rng.lognormal(1.0, 1.0, (n_clients, n_clients)) * (rng.random((n_clients, n_clients)) < 0.8),
        "return_bits": 0.3,
        "ring_bits": float(rng.choice([0.0, 0.3])),
        "start": 0 if rng.random() < 0.5 else None,
        "micro_batches": 8,
    }


def measured(n_clients: int, needed: tuple[float, ...], cases: int, connection: Any) -> None:
    """Send seconds and gaps by objective and memory needed, and the peak of the process's memory."""
    chain_allocation(**draw(np.random.default_rng(1), n_clients, MODULES, 0.02))  # compiles
    lines = []
    for objective in OBJECTIVES:
        for share in needed:
            rng = np.random.default_rng(7)
            line: dict[str, Any] = {"objective": objective, "needed": share, "solve": [], "check": [], "gap": []}
            line["critical"] = 0
            while len(line["gap"]) < cases:
                arguments = draw(rng, n_clients, MODULES, share) | {"objective": objective}
                begun = time.process_time()
                try:
                    chain = chain_allocation(**arguments)
                except InfeasibleError:
                    continue
                solved = time.process_time()
                chain.proof.check(chain.lower_bound, **arguments)
                line["solve"].append(solved - begun)
                line["check"].append(time.process_time() - solved)
                line["gap"].append(chain.gap)
                line["critical"] = max(line["critical"], *(p.critical.size for p in chain.proof.potentials), 0)
            lines.append(line)
            print(n_clients, objective, share, max(line["solve"]), max(line["gap"]), flush=True)
    connection.send((lines, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9))


def section(n_clients: int, needed: tuple[float, ...], cases: int) -> tuple[list[dict[str, Any]], float]:
    """Measure in a process of its own, whose peak of memory is nobody else's."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=measured, args=(n_clients, needed, cases, theirs))
    process.start()
    lines, peak = ours.recv()
    process.join()
    return lines, peak


def middle_and_most(values: list[float]) -> list[str]:
    return [f"{np.median(values):.2f}", f"{max(values):.2f}"]


def main() -> None:
    exact, exact_peak = section(EXACT, (0.1, 0.4, 0.8), EXACT_CASES)
    many, many_peak = section(MANY, (0.03,), MANY_CASES)
    claim(all(max(line["gap"]) == 0.0 for line in exact), "every chain of 14 clients is proven optimal")
    blocks = [
        say("head", modules=MODULES, machine=machine(), date=time.strftime("%Y-%m-%d")),
        say(
            "exact",
            clients=EXACT,
            cases=EXACT_CASES,
            rows=rows(
                [
                    line["objective"],
                    f"{line['needed']:.0%}",
                    *middle_and_most(line["solve"]),
                    *middle_and_most(line["check"]),
                    str(line["critical"]),
                ]
                for line in exact
            ),
            peak=exact_peak,
        ),
        say(
            "many",
            clients=MANY,
            cases=MANY_CASES,
            rows=rows(
                [
                    line["objective"],
                    f"{line['needed']:.0%}",
                    *middle_and_most(line["solve"]),
                    f"{np.mean(np.array(line['gap']) == 0.0):.0%}",
                    *(f"{value:.1%}" for value in (*np.quantile(line["gap"], [0.5, 0.9]), max(line["gap"]))),
                ]
                for line in many
            ),
            peak=many_peak,
        ),
    ]
    write_page(Path(__file__).resolve().parent / "CHAINS.md", blocks)


if __name__ == "__main__":
    main()
