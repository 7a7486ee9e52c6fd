"""Ranks by importance beside one rank for all blocks, with as many parameters."""

from __future__ import annotations

from typing import Any

import torch
from glue_rows import batches_of, correct, drawn, encode, encoder_of_pairs, load_encoder

import lola
from lola.models import attach_lora
from lola.profiling import measure_importance
from lola.tasks import read_glue

TASKS = {"sst2": {"rows": 640, "epochs": 2}, "mrpc": {"rows": 640, "epochs": 2}}
UNIFORM, MEASURES = "uniform", ("singular", "sensitivity")
SCALE = {"seeds": 3, "uniform_rank": 2, "max_rank": 8, "measured_steps": 20, "learning_rate": 1e-3}

Record = dict[str, Any]


def run(folder: str, glue: str) -> Record:
    """Train each arm on the same batches of each seed, from the same first weights of the encoder and the head."""
    encoder, runs = encoder_of_pairs(folder, glue), []
    for task, scale in TASKS.items():
        corpus = read_glue(task, glue)
        train, dev = encode(encoder, corpus.train), encode(encoder, corpus.dev)
        for seed in range(SCALE["seeds"]):
            rows = drawn(train, scale["rows"], seed)
            ranks = {measure: ranks_by(measure, encoder, rows, seed) for measure in MEASURES}
            ranks[UNIFORM] = [SCALE["uniform_rank"]] * len(ranks[MEASURES[0]])
            for arm, rank in ranks.items():
                accuracy = trained(encoder, rank, rows, dev, seed, scale["epochs"])
                runs.append({"task": task, "seed": seed, "arm": arm, "rank": rank, "accuracy": accuracy})
                print(runs[-1], flush=True)
    dev_rows = {task: len(read_glue(task, glue).dev) for task in TASKS}
    return {"scale": SCALE, "tasks": TASKS, "dev_rows": dev_rows, "runs": runs}


def ranks_by(measure: str, encoder: Any, rows: Record, seed: int) -> list[int]:
    """Measure what ranks are worth on the training rows, and spend what the uniform rank would."""
    importance = measure_importance(
        load_encoder(encoder, 2, seed),
        list(batches_of(rows, seed, 1))[: SCALE["measured_steps"]],
        measure=measure,
        max_rank=SCALE["max_rank"],
        steps=SCALE["measured_steps"],
        learning_rate=SCALE["learning_rate"],
        seed=seed,
    )
    budget = SCALE["uniform_rank"] * int(importance.cost.sum())
    return lola.allocate_ranks(importance, budget=budget, min_rank=0).rank.tolist()


def trained(encoder: Any, rank: list[int], rows: Record, dev: Record, seed: int, epochs: int) -> float:
    """Train LoRA of these ranks and the head, and return the accuracy."""
    model = load_encoder(encoder, 2, seed)
    depths = attach_lora(model, rank=rank, seed=seed)
    depths.select_all()
    optimizer = torch.optim.AdamW(depths.all_parameters(), lr=SCALE["learning_rate"])
    for batch in batches_of(rows, seed, epochs):
        depths.model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return correct(depths.model, dev)
