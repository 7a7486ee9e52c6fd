"""Federated fine-tuning on an emulator: accuracy of the whole model by the share of blocks that the emulator keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from glue_rows import batches_of, correct, drawn, encode, encoder_of_pairs, load_encoder

from lola.adapters import ShardedData
from lola.adapters.shards import trim_padding
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
    "rounds": 30,
    "lora_rank": 4,
    "learning_rate": 2e-3,
    "measured_batches": 8,
}

Record = dict[str, Any]


def run(folder: str, glue: str) -> Record:
    """Fine-tune with two blocks kept, with three … with all."""
    encoder, corpus, runs = encoder_of_pairs(folder, glue), read_glue(TASK, glue), []
    blocks = load_encoder(encoder, 2, 0).config.num_hidden_layers
    train, dev = encode(encoder, corpus.train), encode(encoder, corpus.dev)
    for seed in range(SCALE["seeds"]):
        rows = drawn(train, SCALE["devices"] * SCALE["rows"], seed)
        for n_kept in range(2, blocks + 1):
            runs.append({"seed": seed, "n_kept": n_kept} | tuned(encoder, rows, dev, n_kept, seed))
            print(runs[-1], flush=True)
    majority = float(np.bincount(corpus.dev.labels).max() / len(corpus.dev))
    return {
        "scale": SCALE,
        "task": TASK,
        "blocks": blocks,
        "dev_rows": len(corpus.dev),
        "majority": majority,
        "runs": runs,
    }


def tuned(encoder: Any, rows: Record, dev: Record, n_kept: int, seed: int) -> Record:
    """Choose the blocks by measured distortion, let devices compute on them, and score the whole model and the rest."""
    model = load_encoder(encoder, 2, seed)
    depths = attach_lora(model, rank=SCALE["lora_rank"], seed=seed)
    distortion = measure_distortion(depths, list(batches_of(rows, seed, 1))[: SCALE["measured_batches"]])
    chosen = emulator_layers(distortion, n_kept)
    scheme = EmulatorScheme(depths, chosen.kept)
    shards = np.split(np.arange(len(rows["labels"])), SCALE["devices"])
    session = FederatedSession(
        scheme,
        torch.optim.AdamW(depths.all_parameters(), lr=SCALE["learning_rate"]),
        ShardedData(rows, shards, batch_size=SCALE["batch_size"], seed=seed, collate=trim_padding),
        setting=FederatedSetting(seed=seed, evaluate_every=SCALE["rounds"]),
    )
    for _ in session.run(SCALE["rounds"]):
        pass
    whole = correct(depths.model, dev)
    with without_blocks(depths, scheme.kept_blocks):
        emulator = correct(depths.model, dev)
    return {
        "kept": chosen.kept.tolist(),
        "distortion": float(chosen.objective),
        "emulator_bits": scheme.emulator_bits,
        "accuracy": whole,
        "emulator_accuracy": emulator,
    }
