"""FlyBoosting: rounds until the ensemble of prompts satisfies every device, by who is scheduled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from glue_rows import BATCH_SIZE, cache, drawn, encode, encoder_of_pairs, load_encoder

from lola.adapters import ShardedData
from lola.adapters.shards import trim_padding
from lola.air import DigitalUplink
from lola.channel import RayleighFading
from lola.deft import (
    BoostingScheme,
    FederatedSession,
    FederatedSetting,
    PromptedClassifier,
    PromptEnsemble,
    draw_prompt,
    train_prompt,
)
from lola.tasks import read_glue

TASK, TOKENS = "sst2", 8
SCHEDULERS = ("exact", "ratio", "score", "channel")
SCALE = {
    "seeds": 3,
    "devices": 8,
    "rows": 96,
    "held_out": 64,
    "threshold": 0.75,
    "rounds": 8,
    "local_steps": 12,
    "learning_rate": 5e-3,
    "limit": 12,
    "bandwidth_hz": 2e6,
    "deadline_s": 10e-3,
    "mean_snr_db": 10.0,
}

Record = dict[str, Any]


def run(folder: str, glue: str) -> Record:
    """Boost from the same ensemble, over the same channel, with each scheduler."""
    encoder, runs = encoder_of_pairs(folder, glue), []
    columns = encode(encoder, read_glue(TASK, glue).train)
    classifier = general_classifier(encoder, columns)
    for seed in range(SCALE["seeds"]):
        for scheduler in SCHEDULERS:
            runs.append({"seed": seed, "scheduler": scheduler} | boosted(classifier, columns, scheduler, seed))
            print(runs[-1], flush=True)
    return {"scale": SCALE, "task": TASK, "runs": runs}
