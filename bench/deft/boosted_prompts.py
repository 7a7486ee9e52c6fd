"""FlyBoosting: rounds until the ensemble of prompts satisfies every device, by who is scheduled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from glue_rows import encode, encoder_of_pairs, load_encoder
from part_file import PartFile

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
)
from lola.tasks import read_glue

TASK, TOKENS = "qqp", 8
SCHEDULERS = ("exact", "score", "channel")
SPLIT = 77  # seed of the split of the rows into those that the settings were settled on, and those of the runs
SCALE = {
    "seeds": 8,
    "devices": 6,
    "rows": 24,
    "batch_size": 8,
    "held_out": 32,
    "threshold": 0.65,
    "rounds": 12,
    "local_steps": 6,
    "learning_rate": 5e-3,
    "first_prompts": 3,
    "limit": 32,
    "least_positive": 0.35,
    "most_positive": 0.65,
    "bandwidth_hz": 1.5e6,
    "deadline_s": 10e-3,
    "mean_snr_db": 10.0,
}

Record = dict[str, Any]


class Remembering(PromptedClassifier):
    """One that answers for a prompt and texts once: the schedulers' runs of a seed have prompts in common."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model, train_head=False)
        self._known: dict[tuple[bytes, bytes], torch.Tensor] = {}

    def probabilities(self, prompt: torch.Tensor, columns: Record, *, batch_size: int = 64) -> torch.Tensor:
        key = prompt.detach().numpy().tobytes(), columns["input_ids"].numpy().tobytes()
        if key not in self._known:
            self._known[key] = super().probabilities(prompt, columns, batch_size=batch_size)
        return self._known[key]


def run(file: Path, folder: str, glue: str) -> Record:
    """Boost from the same ensemble, over the same channel, with each scheduler."""
    encoder = encoder_of_pairs(folder, glue)
    classifier = Remembering(load_encoder(encoder, 2, None))
    columns = encode(encoder, read_glue(TASK, glue).dev)  # what the encoder was not tuned on
    part = PartFile(file, {"scale": SCALE, "task": TASK})
    _, unseen = halves(len(columns["labels"]))
    for seed in range(SCALE["seeds"]):
        shards, held_out = dealt(columns["labels"].numpy(), unseen, seed)
        for scheduler in SCHEDULERS:
            if part.lacks(seed=seed, scheduler=scheduler):
                told = boosted(classifier, columns, shards, held_out, scheduler, seed)
                part.add({"seed": seed, "scheduler": scheduler} | told)
    return part.record


def halves(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows on which the settings were settled, and those of the runs."""
    order = np.random.default_rng(SPLIT).permutation(rows)
    return order[: rows // 2], order[rows // 2 :]


def dealt(labels: np.ndarray, among: np.ndarray, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Deal rows to devices, each with a share of paraphrases of its own: what to train on, and what to test on."""
    rng = np.random.default_rng(seed)
    left = [rng.permutation(among[labels[among] == label]) for label in (0, 1)]
    each, shards, held_out = SCALE["rows"] + SCALE["held_out"], [], []
    for share in np.linspace(SCALE["least_positive"], SCALE["most_positive"], SCALE["devices"]):
        positive = round(share * each)
        rows = rng.permutation(np.concatenate([left[0][: each - positive], left[1][:positive]]))
        left = [left[0][each - positive :], left[1][positive:]]
        shards.append(rows[: SCALE["rows"]])
        held_out.append(rows[SCALE["rows"] :])
    return shards, held_out


def boosted(
    classifier: PromptedClassifier,
    columns: Record,
    shards: list[np.ndarray],
    held_out: list[np.ndarray],
    scheduler: str,
    seed: int,
) -> Record:
    """Run rounds until all devices are satisfied, or there have been enough."""
    numbers = range(seed * SCALE["first_prompts"], (seed + 1) * SCALE["first_prompts"])
    first = [draw_prompt(classifier.model, tokens=TOKENS, seed=number) for number in numbers]
    ensemble = PromptEnsemble(classifier, first, limit=SCALE["limit"])
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
        ShardedData(columns, shards, batch_size=SCALE["batch_size"], seed=seed, collate=trim_padding),
        setting=FederatedSetting(seed=seed, local_steps=SCALE["local_steps"]),
        uplink=DigitalUplink(bits=8, snr_db=SCALE["mean_snr_db"], bandwidth_hz=SCALE["bandwidth_hz"]),
    )
    records: list[Any] = []
    for record in session.run(SCALE["rounds"] + 1):  # a round's test comes before its new prompts
        records.append(record)
        if not record.numbers["candidates"]:
            break
    named = ("prompts", "satisfied", "candidates", "wrong", "needed_hz")
    return {name: [record.numbers[name] for record in records] for name in named}
