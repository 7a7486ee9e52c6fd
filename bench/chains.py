"""What chains cost, how near to proven they are, and whether a batch takes as long as predicted; writes CHAINS.md.

python bench/chains.py                # minutes on one core; needs lola-deft[torch]
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
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
CLIENT_OF_MODULE = (0, 0, 1, 1, 1, 2, 2, 3)  # embedding, six blocks, head
TURNS, BATCHES = 8, 5
SIZES = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}
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
    }


def measured(n_clients: int, needed: tuple[float, ...], cases: int, connection: Any) -> None:
    """Send seconds and gaps by objective and memory needed, and the peak of the process's memory."""
    chain_allocation(**draw(np.random.default_rng(1), n_clients, MODULES, 0.02))  # compiles
    lines = []
    for objective in OBJECTIVES:
        batches = 8 if objective == "pipeline" else 1
        for share in needed:
            rng = np.random.default_rng(7)
            line: dict[str, Any] = {"objective": objective, "needed": share, "solve": [], "check": [], "gap": []}
            line["critical"] = 0
            while len(line["gap"]) < cases:
                arguments = draw(rng, n_clients, MODULES, share) | {"objective": objective, "micro_batches": batches}
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


def batch_times(connection: Any) -> None:
    """Send seconds of each stage, (turns, stages), predicted from its modules and measured in the chain, in turns."""
    import torch

    from lola.adapters import ModelChain
    from lola.profiling import Workload, measure_stages
    from lola.profiling.building import adapted, build, make_batch
    from lola.profiling.machine import keep_freed_memory

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], **SIZES}
        (Path(folder) / "config.json").write_text(json.dumps(config))
        workload = Workload(folder, batch_size=16, sequence_length=64)
        depths = adapted(workload, build(workload, "cpu")[0])
        batch = make_batch(workload, depths.model.config)
        chain = ModelChain(depths, CLIENT_OF_MODULE)
        depths.select_all()
        predicted, measured = [], []
        for turn in range(TURNS + 1):
            stages = measure_stages(workload, threads=1, repeats=BATCHES)
            with keep_freed_memory():
                passes = [chain.backward(batch) for _ in range(BATCHES)]
            if turn > 0:  # the first warms up
                seconds = stages.forward_s + stages.backward_s
                predicted.append([float(seconds[modules.start : modules.stop].sum()) for modules in chain.modules])
                measured.append(np.median([np.add(one.forward_s, one.backward_s) for one in passes], 0).tolist())
    connection.send((predicted, measured))


def in_a_process(work: Callable[..., None], *arguments: Any) -> Any:
    """Measure in a process of its own, whose peak of memory is nobody else's."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(*arguments, theirs))
    process.start()
    theirs.close()  # so that a process that fails ends the wait
    values = ours.recv()
    process.join()
    return values


def middle_and_most(values: list[float]) -> list[str]:
    return [f"{np.median(values):.2f}", f"{max(values):.2f}"]


def main() -> None:
    predicted, measured_s = (np.median(seconds, 0) for seconds in in_a_process(batch_times))
    exact, exact_peak = in_a_process(measured, EXACT, (0.1, 0.4, 0.8), EXACT_CASES)
    many, many_peak = in_a_process(measured, MANY, (0.03,), MANY_CASES)
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
        say(
            "times",
            turns=TURNS,
            batches=BATCHES,
            rows=rows(
                [name, f"{1e3 * one:.1f}", f"{1e3 * other:.1f}", f"{other / one:.3f}"]
                for name, one, other in [
                    *zip(
                        ("embedding, block 1", "blocks 2 to 4", "blocks 5, 6", "head"),
                        predicted,
                        measured_s,
                        strict=True,
                    ),
                    ("in all", predicted.sum(), measured_s.sum()),
                ]
            ),
            verdict=say("within" if abs(measured_s.sum() / predicted.sum() - 1) <= 0.1 else "not within"),
        ),
    ]
    write_page(Path(__file__).resolve().parent / "CHAINS.md", blocks)


if __name__ == "__main__":
    main()
