"""Ranks by importance beside one rank for all blocks, with as many parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoder import loss_of
from glue_rows import batches_of, correct, drawn, encode_texts, load_pooled
from part_file import PartFile

import lola
from lola.models import attach_lora
from lola.profiling import measure_importance
from lola.tasks import read_glue

TASKS = {"sst2": {"rows": 320, "epochs": 2}, "mrpc": {"rows": 240, "epochs": 2}}
READ = 3_600  # rows that are drawn from
UNIFORM, MEASURES = "uniform", ("singular", "sensitivity")
SCALE = {"seeds": 3, "uniform_rank": 2, "max_rank": 8, "measured_steps": 10, "learning_rate": 2e-3}

Record = dict[str, Any]


def run(file: Path, folder: str, glue: str) -> Record:
    """Train each arm on the same batches of each seed, from the same first weights of the encoder and the head."""
    corpora = {task: read_glue(task, glue) for task in TASKS}
    train = {task: encode_texts(folder, task, corpus.train.take(np.arange(READ))) for task, corpus in corpora.items()}
    dev = {task: encode_texts(folder, task, corpus.dev) for task, corpus in corpora.items()}
    dev_rows = {task: len(corpus.dev) for task, corpus in corpora.items()}
    majority = {task: float(np.bincount(of.dev.labels).max() / len(of.dev)) for task, of in corpora.items()}
    part = PartFile(file, {"scale": SCALE, "tasks": TASKS, "dev_rows": dev_rows, "majority": majority})
    for task, scale in TASKS.items():
        for seed in range(SCALE["seeds"]):
            rows = drawn(train[task], scale["rows"], seed)
            for arm in (UNIFORM, *MEASURES):
                if part.lacks(task=task, seed=seed, arm=arm):
                    rank = ranks_by(arm, folder, task, rows, seed)
                    accuracy = trained(folder, task, rank, rows, dev[task], seed)
                    part.add({"task": task, "seed": seed, "arm": arm, "rank": rank, "accuracy": accuracy})
    return part.record


def ranks_by(measure: str, folder: str, task: str, rows: Record, seed: int) -> list[int]:
    """Measure what ranks are worth on the training rows, and spend what the uniform rank would."""
    model = load_pooled(folder, task, seed)
    if measure == UNIFORM:
        return [SCALE["uniform_rank"]] * model.encoder.config.num_hidden_layers
    importance = measure_importance(
        model,
        list(batches_of(rows, seed, 1))[: SCALE["measured_steps"]],
        measure=measure,
        max_rank=SCALE["max_rank"],
        steps=SCALE["measured_steps"],
        learning_rate=SCALE["learning_rate"],
        blocks="encoder.encoder.layer",
        loss=loss_of,
        seed=seed,
    )
    budget = SCALE["uniform_rank"] * int(importance.cost.sum())
    return lola.allocate_ranks(importance, budget=budget, min_rank=0).rank.tolist()


def trained(folder: str, task: str, rank: list[int], rows: Record, dev: Record, seed: int) -> float:
    """Train LoRA of these ranks and the head, and return the accuracy."""
    model = load_pooled(folder, task, seed)
    depths = attach_lora(model, rank=rank, blocks="encoder.encoder.layer", seed=seed)
    depths.select_all()
    optimizer = torch.optim.AdamW(depths.all_parameters(), lr=SCALE["learning_rate"])
    for batch in batches_of(rows, seed, TASKS[task]["epochs"]):
        loss_of(depths.model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    return correct(model, dev)
