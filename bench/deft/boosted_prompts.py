"""FlyBoosting: rounds until the ensemble of prompts satisfies every device, by who is scheduled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from glue_rows import BATCH_SIZE, batches_of, encode, encoder_of_pairs, load_encoder

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
SCHEDULERS = ("exact", "score", "channel")
SCALE = {
    "seeds": 3,
    "devices": 8,
    "read": 8_000,
    "rows": 96,
    "held_out": 48,
    "threshold": 0.75,
    "rounds": 6,
    "local_steps": 10,
    "learning_rate": 5e-3,
    "limit": 16,
    "general_rows": 320,
    "general_epochs": 2,
    "least_positive": 0.2,
    "bandwidth_hz": 2e6,
    "deadline_s": 10e-3,
    "mean_snr_db": 10.0,
}

Record = dict[str, Any]


def run(folder: str, glue: str) -> Record:
    """Boost from the same ensemble, over the same channel, with each scheduler."""
    encoder, runs = encoder_of_pairs(folder, glue), []
    columns = encode(encoder, read_glue(TASK, glue).train.take(np.arange(SCALE["read"])))
    classifier = general_classifier(encoder, columns)
    for seed in range(SCALE["seeds"]):
        for scheduler in SCHEDULERS:
            runs.append({"seed": seed, "scheduler": scheduler} | boosted(classifier, columns, scheduler, seed))
            print(runs[-1], flush=True)
    return {"scale": SCALE, "task": TASK, "runs": runs}


def general_classifier(encoder: Path, columns: Record) -> PromptedClassifier:
    """Train a head with a prompt, on rows that no device has, and freeze it: prompts of an ensemble share a head."""
    model = load_encoder(encoder, 2, 0)
    rows = {name: column[-SCALE["general_rows"] :] for name, column in columns.items()}
    batches = list(batches_of(rows, 0, SCALE["general_epochs"]))
    learner = PromptedClassifier(model)
    train_prompt(learner, first_prompt(learner), batches, steps=len(batches), learning_rate=SCALE["learning_rate"])
    return PromptedClassifier(model, train_head=False)


def first_prompt(classifier: PromptedClassifier) -> torch.Tensor:
    return draw_prompt(classifier.model, tokens=TOKENS, seed=0)


def dealt(columns: Record, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Deal rows to devices, each with a share of positive texts of its own: what to train on, and what to test on."""
    rng = np.random.default_rng(seed)
    labels = columns["labels"].numpy()[: -SCALE["general_rows"]]
    of_class = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
    each, shards, held_out = SCALE["rows"] + SCALE["held_out"], [], []
    for share in np.linspace(SCALE["least_positive"], 1 - SCALE["least_positive"], SCALE["devices"]):
        positive = round(share * each)
        rows = rng.permutation(np.concatenate([of_class[1][:positive], of_class[0][: each - positive]]))
        of_class = [of_class[0][each - positive :], of_class[1][positive:]]
        shards.append(rows[: SCALE["rows"]])
        held_out.append(rows[SCALE["rows"] :])
    return shards, held_out


def boosted(classifier: PromptedClassifier, columns: Record, scheduler: str, seed: int) -> Record:
    """Run rounds until all devices are satisfied, or there have been enough."""
    shards, held_out = dealt(columns, seed)
    ensemble = PromptEnsemble(classifier, [first_prompt(classifier)], limit=SCALE["limit"])
    scheme = BoostingScheme(
        ensemble,
        held_out,
        RayleighFading(SCALE["devices"], transmit_snr_db=SCALE["mean_snr_db"], path_loss=1.0, seed=seed),
        bandwidth_hz=SCALE["bandwidth_hz"],
        deadline_s=SCALE["deadline_s"],
        threshold=SCALE["threshold"],
        scheduler=scheduler,
        learning_rate=SCALE["learning_rate"],
    )
    session = FederatedSession(
        scheme,
        torch.optim.SGD(ensemble.all_parameters(), lr=1.0),
        ShardedData(columns, shards, batch_size=BATCH_SIZE, seed=seed, collate=trim_padding),
        setting=FederatedSetting(seed=seed, local_steps=SCALE["local_steps"]),
        uplink=DigitalUplink(snr_db=SCALE["mean_snr_db"], bandwidth_hz=SCALE["bandwidth_hz"]),
    )
    records: list[Any] = []
    for record in session.run(SCALE["rounds"] + 1):  # a round's test comes before its new prompts
        records.append(record)
        if not record.numbers["candidates"]:
            break
    named = ("prompts", "satisfied", "candidates", "wrong", "needed_hz")
    return {name: [record.numbers[name] for record in records] for name in named}
