"""Fig. 7 and Table I: a real pretrained encoder, really fine-tuned on GLUE, against the simulated clock.

    python bench/paper/convergence.py --encoder FOLDER --data FOLDER    # two processes of one thread each

ENCODER is a folder with all-MiniLM-L6-v2 (a BERT of 6 layers × 384); DATA one with the tasks of GLUE. Every finished run
goes into convergence.json at once, so a run that was stopped goes on. Needs lola-deft[plot,train].
"""

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

import lola
from lola.adapters import CooperativeSession, Setting, ShardedData, iid_shards, trim_padding
from lola.adapters.glue import GLUE, read_glue, score
from lola.adapters.text import load_classifier
from lola.channel import RayleighFading

HERE = Path(__file__).parent
RESULTS = HERE / "convergence.json"
CENTRALISED = "centralised"
METHODS = ("communication-aware", "ba", "jbba-dual-ascent", "jbba")
SEEDS = {"sst2": (0, 1, 2), "cola": (0, 1, 2)}  # every other task: seed 0
# What two cores can repeat in an hour. Rounds are the server's steps, and the centralised run's.
SCALE = {
    "train_rows": 4000,
    "dev_rows": 400,
    "batch_size": 16,
    "sequence_length": 64,
    "lora_rank": 8,
    "learning_rate": 1e-3,
    "rounds": 200,
    "evaluate_every": 10,
    "n_devices": 20,
    "bandwidth_hz": 100e6,
    "local_steps": 10,
}


def jobs():
    """Yield every (task, seed, method), the tasks with several seeds first."""
    for task in sorted(GLUE, key=lambda name: (-len(SEEDS.get(name, (0,))), name)):
        for seed in SEEDS.get(task, (0,)):
            for method in (CENTRALISED, *METHODS):
                yield task, seed, method


def round_problem(seed):
    """Return the paper's scenario for six blocks: each stands for two of RoBERTa-base's layers.

    Depth l of six costs the memory and the time of depth 2·l of twelve, and uploads the adapters of two layers. The local
    steps are in the latency, because one batch is what each device really computes here.
    """
    whole = lola.load_profile(Path(lola.__file__).parent / "data" / "profiles" / "roberta-base-snapdragon-8-gen-3.json")
    profile = lola.Profile(
        memory_bytes=whole.memory_bytes[1::2],
        latency_s=SCALE["local_steps"] * whole.latency_s[1::2],
        upload_bits=whole.upload_bits[0::2] + whole.upload_bits[1::2],
    )
    return lola.Problem(profile, lola.Fleet.sample(SCALE["n_devices"], seed=seed), SCALE["bandwidth_hz"])


def run_job(task, seed, method, encoder, data):
    """Fine-tune once, and return the history of (round, simulated seconds, score)."""
    import torch
    from lola.profiling import attach_lora

    torch.set_num_threads(1)
    start = time.monotonic()
    found = read_glue(task, data)
    rows = np.random.default_rng([seed, 10]).permutation(len(found.train))[: SCALE["train_rows"]]
    held_out = np.random.default_rng(10).permutation(len(found.dev))[: SCALE["dev_rows"]]
    classifier = load_classifier(encoder, GLUE[task].n_labels, seed=seed)
    depths = attach_lora(classifier.model, rank=SCALE["lora_rank"])
    classifier.model.train()
    columns = classifier.encode(found.train.take(rows), SCALE["sequence_length"])
    dev = found.dev.take(held_out)
    dev_columns = classifier.encode(dev, SCALE["sequence_length"])
    optimizer = torch.optim.Adam(depths.all_parameters(), lr=SCALE["learning_rate"])

    def evaluate():
        return score(task, classifier.predict(dev_columns), dev.labels)

    result = {"task": task, "seed": seed, "method": method, "metric": GLUE[task].metrics[0]}
    train = centralised if method == CENTRALISED else cooperative
    result |= train(depths, optimizer, columns, evaluate, seed, method)
    if GLUE[task].labels:
        result["majority"] = score(task, np.full(len(dev), np.bincount(dev.labels).argmax()), dev.labels)
    return result | {"wall_s": time.monotonic() - start}


def centralised(depths, optimizer, columns, evaluate, seed, _):
    """Train every block at once, on one batch a step from all of the data."""
    import torch

    everything = ShardedData(
        columns,
        [np.arange(len(columns["labels"]))],
        batch_size=SCALE["batch_size"],
        seed=seed,
        collate=trim_padding,
    )
    depths.select_all()
    torch.manual_seed(seed)
    history, losses = [], []
    for step in range(1, SCALE["rounds"] + 1):
        loss = depths.model(**next(everything.batches(0, step))).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % SCALE["evaluate_every"] == 0:
            depths.model.eval()
            history.append([step, None, evaluate()])
            depths.model.train()
    return {"history": history, "losses": losses}


def cooperative(depths, optimizer, columns, evaluate, seed, method):
    """Run rounds over a fleet with fading channels and shards dealt at random."""
    problem = round_problem(seed)
    shards = iid_shards(len(columns["labels"]), problem.n_devices, seed=seed)
    session = CooperativeSession(
        depths,
        optimizer,
        problem,
        ShardedData(columns, shards, batch_size=SCALE["batch_size"], seed=seed, collate=trim_padding),
        setting=Setting(method=method, seed=seed, evaluate_every=SCALE["evaluate_every"]),
        channel=RayleighFading(problem.n_devices, seed=seed),
        evaluate=evaluate,
    )
    records = list(session.run(SCALE["rounds"]))
    return {
        "history": [[record.version, record.clock_s, record.scores] for record in records if record.scores],
        "losses": [record.loss for record in records],
        "latency_s": float(np.mean([record.latency_s for record in records])),
        "wall_rounds": float(np.mean([record.memory_wall > 0 for record in records])),
        "missing": float(np.mean([record.missing for record in records])) / problem.n_blocks,
    }


def run(encoder, data, workers):
    """Run what is not in the results yet, and save after every run."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"scale": SCALE, "runs": []}
    if results["scale"] != SCALE:
        raise ValueError(f"{RESULTS} is of another scale; move it away to begin anew")
    done = {(r["task"], r["seed"], r["method"]) for r in results["runs"]}
    wanted = [job for job in jobs() if job not in done]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(run_job, *job, encoder, data) for job in wanted]):
            result = future.result()
            results["runs"].append(result)
            RESULTS.write_text(json.dumps(results) + "\n")
            last = result["history"][-1]
            print(f"{result['task']} {result['seed']} {result['method']}: {last}, {result['wall_s']:.0f} s", flush=True)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    run(options.encoder, options.data, options.workers)
