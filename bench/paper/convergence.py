"""Fig. 7 and Table I: a real pretrained encoder, really fine-tuned on GLUE, against the simulated clock.

Run by reproduce.py, in processes of one thread each. Every finished run goes into convergence.json at once, so that an
interrupted reproduction goes on.
"""

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from parameters import PARAMETERS, PROFILE

import lola
from lola.adapters import ShardedData
from lola.channel import RayleighFading
from lola.files.formats import write_atomically
from lola.tasks import TrainingSettings, make_session, read_glue, score
from lola.tasks.glue import GLUE, GlueData

RESULTS = Path(__file__).parent / "convergence.json"
CENTRALISED = "centralised"
METHODS = ("communication-aware", "ba", "jbba-dual-ascent", "jbba")
SEGMENTS = "segments"  # JBBA where a device may take several blocks: not the paper's, and beside it throughout
# Rounds are the server's steps, and the centralised run's. The first two tasks are run for every method and seed.
TASKS = {
    "sst2": {"rounds": 120, "seeds": [0, 1, 2], "dev_rows": 872, "evaluate_every": 10},
    "stsb": {"rounds": 30, "seeds": [0, 1, 2], "dev_rows": 200, "evaluate_every": 5},
    "mrpc": {"rounds": 30, "seeds": [0], "dev_rows": 200, "evaluate_every": 5},
    "qqp": {"rounds": 30, "seeds": [0], "dev_rows": 200, "evaluate_every": 5},
    "qnli": {"rounds": 30, "seeds": [0], "dev_rows": 200, "evaluate_every": 5},
    "rte": {"rounds": 30, "seeds": [0], "dev_rows": 200, "evaluate_every": 5},
    "mnli": {"rounds": 30, "seeds": [0], "dev_rows": 200, "evaluate_every": 5},
    "cola": {"rounds": 60, "seeds": [0], "dev_rows": 300, "evaluate_every": 10},
}
# What two cores can repeat in an hour.
SCALE = {
    "train_rows": 4000,
    "batch_size": 16,
    "sequence_length": 48,
    "lora_rank": 8,
    "learning_rate": 1e-3,
    **PARAMETERS,
}


def jobs():
    """Yield every (task, seed, method) that is trained, the first seed of every task first.

    Data are dealt at random, so who computes a block changes nothing in distribution: convergence_page.py times one run
    by every scheme's clock. So tasks with one seed are trained under JBBA alone.
    """
    for seed in sorted({seed for plan in TASKS.values() for seed in plan["seeds"]}):
        for task, plan in TASKS.items():
            if seed in plan["seeds"]:
                for method in (CENTRALISED, *((*METHODS, SEGMENTS) if len(plan["seeds"]) > 1 else ("jbba",))):
                    yield task, seed, method


def round_problem(seed, method="jbba"):
    """Return the paper's scenario for six blocks: each stands for two of RoBERTa-base's layers.

    Depth l of six costs the memory and the time of depth 2·l of twelve, and uploads the adapters of two layers; one
    more block of six costs what two more of twelve do. The local steps are in the latency, because one batch is what
    each device really computes here.
    """
    whole = lola.load_profile(PROFILE)
    profile = lola.Profile(
        memory_bytes=whole.memory_bytes[1::2],
        latency_s=SCALE["local_steps"] * whole.latency_s[1::2],
        upload_bits=whole.upload_bits[0::2] + whole.upload_bits[1::2],
        extra_latency_s=SCALE["local_steps"] * (whole.extra_latency_s[0::2] + whole.extra_latency_s[1::2]),
        extra_memory_bytes=whole.extra_memory_bytes[0::2] + whole.extra_memory_bytes[1::2],
    )
    fleet = lola.Fleet.sample(SCALE["n_devices"], seed=seed)
    return lola.Problem(profile, fleet, SCALE["bandwidth_hz"], max_blocks=None if method == SEGMENTS else 1)


def scheduled_by(method):
    """Return the method of `lola.schedule` behind a scheme."""
    return "jbba" if method in (CENTRALISED, SEGMENTS) else method


def channel_of(seed):
    """Return channels that fade from round to round."""
    return RayleighFading(SCALE["n_devices"], SCALE["transmit_snr_db"], seed=seed)


def run_job(task, seed, method, encoder, data):
    """Fine-tune once, and return the history of (round, simulated seconds, score)."""
    import torch
    from encoder import PooledClassifier, loss_of, trim

    from lola.models import attach_lora

    torch.set_num_threads(1)
    start = time.monotonic()
    corpus = read_glue(task, data)
    rows = np.random.default_rng([seed, 10]).permutation(len(corpus.train))[: SCALE["train_rows"]]
    held_out = np.random.default_rng(10).permutation(len(corpus.dev))[: TASKS[task]["dev_rows"]]
    examples = GlueData(corpus.train.take(rows), corpus.dev.take(held_out), corpus.source)
    dev = examples.dev
    settings = TrainingSettings(
        model=encoder,
        task=task,
        data=data,
        method=scheduled_by(method),
        batch=SCALE["batch_size"],
        seq=SCALE["sequence_length"],
        rank=SCALE["lora_rank"],
        lr=SCALE["learning_rate"],
        seed=seed,
        eval_every=TASKS[task]["evaluate_every"],
    )
    torch.manual_seed(seed)
    model = PooledClassifier(encoder, GLUE[task].n_labels, 1 if dev.second is None else 2)
    depths = attach_lora(model, rank=settings.rank, blocks=model.encoder.encoder.layer)
    problem, channel = round_problem(seed, method), channel_of(seed)
    session = make_session(settings, depths, model, examples, problem, channel=channel, loss=loss_of, collate=trim)
    result = {"task": task, "seed": seed, "method": method, "metric": GLUE[task].metrics[0]}
    result |= (centralised if method == CENTRALISED else cooperative)(session, TASKS[task])
    if GLUE[task].labels:
        majority = np.full(len(dev), np.bincount(dev.labels).argmax())
        result["majority"] = score(task, majority, dev.labels)[GLUE[task].metrics[0]]
    return result | {"wall_s": time.monotonic() - start}


def centralised(session, plan):
    """Train every block of a session's model at once, on one batch a step from all of its data."""
    import torch

    depths, optimizer, data = session.depths, session.optimizer, session.data
    rows = [np.arange(len(data.columns["labels"]))]
    everything = ShardedData(data.columns, rows, batch_size=data.batch_size, seed=data.seed, collate=data.collate)
    depths.select_all()
    torch.manual_seed(data.seed)
    history, losses = [], []
    for step in range(1, plan["rounds"] + 1):
        loss = session.devices.loss(depths.model, next(everything.batches(0, step)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % plan["evaluate_every"] == 0:
            depths.model.eval()
            history.append([step, None, session.evaluate()])
            depths.model.train()
    return {"history": history, "losses": losses}


def cooperative(session, plan):
    """Run rounds over a fleet with fading channels and shards dealt at random."""
    records = list(session.run(plan["rounds"]))
    return {
        "history": [[record.version, record.clock_s, record.scores] for record in records if record.scores],
        "losses": [record.loss for record in records],
        "latency_s": float(np.mean([record.latency_s for record in records])),
        "wall_rounds": float(np.mean([record.memory_wall > 0 for record in records])),
        "missing": float(np.mean([record.missing for record in records])) / session.problem.n_blocks,
    }


def run(encoder, data, workers=2):
    """Run what is not in the results yet, and save after every run."""
    scale = {**SCALE, "tasks": TASKS}
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"scale": scale, "runs": []}
    if results["scale"] != scale:
        raise ValueError(f"{RESULTS} is of another scale; move it away to begin anew")
    done = {(r["task"], r["seed"], r["method"]) for r in results["runs"]}
    wanted = [job for job in jobs() if job not in done]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, max_tasks_per_child=1) as pool:
        try:
            for future in as_completed([pool.submit(run_job, *job, encoder, data) for job in wanted]):
                result = future.result()
                results["runs"].append(result)
                write_atomically(RESULTS, json.dumps(results) + "\n")
                last, wall_s = result["history"][-1], result["wall_s"]
                print(f"{result['task']} {result['seed']} {result['method']}: {last}, {wall_s:.0f} s", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what runs already is let to its end
            raise
    return results
