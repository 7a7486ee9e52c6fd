"""Federated fine-tuning on an emulator: accuracy of the whole model by the share of blocks that the emulator keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoder import loss_of, trim
from glue_rows import batches_of, correct, drawn, encode_texts, load_pooled
from part_file import PartFile

from lola.adapters import ShardedData
from lola.deft import EmulatorScheme, FederatedSession, FederatedSetting
from lola.deft.emulator import without_blocks
from lola.models import attach_lora
from lola.profiling import measure_distortion
from lola.solvers import emulator_layers
from lola.tasks import read_glue

TASK = "sst2"
SCALE = {
    "seeds": 3,
    "devices": 4,
    "rows": 160,
    "batch_size": 8,
    "rounds": 20,
    "lora_rank": 4,
    "learning_rate": 2e-3,
    "measured_batches": 4,
}

Record = dict[str, Any]


def run(file: Path, folder: str, glue: str) -> Record:
    """Fine-tune with two blocks kept, with three … with all."""
    corpus = read_glue(TASK, glue)
    blocks = load_pooled(folder, TASK, 0).encoder.config.num_hidden_layers
    train, dev = (encode_texts(folder, TASK, examples) for examples in (corpus.train, corpus.dev))
    majority = float(np.bincount(corpus.dev.labels).max() / len(corpus.dev))
    settings = {"scale": SCALE, "task": TASK, "blocks": blocks, "dev_rows": len(corpus.dev), "majority": majority}
    part = PartFile(file, settings)
    for seed in range(SCALE["seeds"]):
        rows = drawn(train, SCALE["devices"] * SCALE["rows"], seed)
        for n_kept in range(2, blocks + 1):
            if part.lacks(seed=seed, n_kept=n_kept):
                part.add({"seed": seed, "n_kept": n_kept} | tuned(folder, rows, dev, n_kept, seed))
    return part.record


def tuned(folder: str, rows: Record, dev: Record, n_kept: int, seed: int) -> Record:
    """Choose the blocks by measured distortion, let devices compute on them, and score the whole model and the rest."""
    model = load_pooled(folder, TASK, seed)
    depths = attach_lora(model, rank=SCALE["lora_rank"], blocks="encoder.encoder.layer", seed=seed)
    texts = {name: column for name, column in rows.items() if name != "labels"}
    distortion = measure_distortion(depths, list(batches_of(texts, seed, 1))[: SCALE["measured_batches"]])
    chosen = emulator_layers(distortion, n_kept)
    scheme = EmulatorScheme(depths, chosen.kept, loss=loss_of)
    shards = np.split(np.arange(len(rows["labels"])), SCALE["devices"])
    session = FederatedSession(
        scheme,
        torch.optim.AdamW(depths.all_parameters(), lr=SCALE["learning_rate"]),
        ShardedData(rows, shards, batch_size=SCALE["batch_size"], seed=seed, collate=trim),
        setting=FederatedSetting(seed=seed, evaluate_every=SCALE["rounds"]),
    )
    for _ in session.run(SCALE["rounds"]):
        pass
    whole = correct(model, dev)
    with without_blocks(depths, scheme.kept_blocks):
        emulator = correct(model, dev)
    return {
        "kept": chosen.kept.tolist(),
        "distortion": float(chosen.objective),
        "emulator_bits": scheme.emulator_bits,
        "accuracy": whole,
        "emulator_accuracy": emulator,
    }
