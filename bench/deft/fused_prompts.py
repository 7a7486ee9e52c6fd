"""Fig. 6 of the DEFT article on a real model: prompts of eight devices, fused digitally or over the air, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from glue_rows import batches_of, cache, drawn, encode, encoder_of_pairs, load_encoder
from part_file import PartFile

from lola.adapters import ShardedData
from lola.adapters.shards import trim_padding
from lola.air import AirUplink, DigitalUplink
from lola.deft import (
    FederatedSession,
    FederatedSetting,
    FusionScheme,
    PromptAttention,
    PromptedClassifier,
    draw_prompt,
    train_prompt,
    with_prompt,
)
from lola.tasks import read_glue
from lola.tasks.glue import GLUE

TARGET, TOKENS, SNR_DB, BANDWIDTH_HZ, BITS = "mrpc", 8, 20.0, 20e6, 8
# Eight source devices, each with rows of its own; where two have one task, the second has other rows.
SOURCES = ("qqp", "qqp", "mnli", "qnli", "rte", "sst2", "sst2", "cola")
SCALE = {"seeds": 3, "rows": 256, "batch_size": 8, "epochs": 5, "source_rows": 320, "learning_rate": 3e-3}
DIGITAL, AIR, SCRATCH = "digital", "AirComp", "from scratch"

Record = dict[str, Any]


def run(file: Path, folder: str, glue: str) -> Record:
    """Train the target's prompt by each scheme on the same batches of each seed."""
    encoder = encoder_of_pairs(folder, glue)
    sources = source_prompts(encoder, glue)
    corpus = read_glue(TARGET, glue)
    train, dev = encode(encoder, corpus.train), encode(encoder, corpus.dev)
    uplinks = {
        DIGITAL: DigitalUplink(bits=BITS, snr_db=SNR_DB, bandwidth_hz=BANDWIDTH_HZ),
        AIR: AirUplink(snr_db=SNR_DB, bandwidth_hz=BANDWIDTH_HZ),
    }
    settings = {
        "scale": SCALE,
        "target": TARGET,
        "sources": SOURCES,
        "tokens": TOKENS,
        "values": sources[0].numel(),
        "snr_db": SNR_DB,
        "iterations": SCALE["rows"] // SCALE["batch_size"],
        "dev_rows": len(corpus.dev),
        "majority": float(np.bincount(corpus.dev.labels).max() / len(corpus.dev)),
    }
    part = PartFile(file, settings)
    for seed in range(SCALE["seeds"]):
        rows = drawn(train, SCALE["rows"], seed)
        for arm in (DIGITAL, AIR, SCRATCH):
            if not part.lacks(seed=seed, arm=arm):
                continue
            classifier = PromptedClassifier(load_encoder(encoder, 2, seed))
            own = draw_prompt(classifier.model, tokens=TOKENS, seed=seed)
            data = ShardedData(
                rows, [np.arange(SCALE["rows"])], batch_size=SCALE["batch_size"], seed=seed, collate=trim_padding
            )
            if arm in uplinks:
                told = fused(classifier, sources, own, data, dev, seed, uplinks[arm])
            else:
                told = from_scratch(classifier, own, data, dev)
            part.add({"seed": seed, "arm": arm} | told)
    return part.record


def source_prompts(encoder: Path, glue: str) -> list[torch.Tensor]:
    """Train a prompt for each source, with a head that it keeps to itself; kept for the next run."""
    prompts = []
    for number, task in enumerate(SOURCES):
        file = cache() / f"source-{number}-{task}.pt"
        if not file.exists():
            examples = read_glue(task, glue).train
            order = np.random.default_rng(0).permutation(len(examples))
            first = SOURCES[:number].count(task) * SCALE["source_rows"]
            rows = encode(encoder, examples.take(order[first : first + SCALE["source_rows"]]))
            classifier = PromptedClassifier(load_encoder(encoder, GLUE[task].n_labels, number))
            begun = draw_prompt(classifier.model, tokens=TOKENS, seed=number)
            batches = list(batches_of(rows, number, 1))
            steps, rate = len(batches), SCALE["learning_rate"]
            prompt, loss = train_prompt(classifier, begun, batches, steps=steps, learning_rate=rate)
            print(f"source {number}, {task}: loss {loss:.3f} in the mean", flush=True)
            torch.save(prompt, file)
        prompts.append(torch.load(file, weights_only=True))
    return prompts


def fused(
    classifier: PromptedClassifier,
    sources: list[torch.Tensor],
    own: torch.Tensor,
    data: ShardedData,
    dev: Record,
    seed: int,
    uplink: DigitalUplink | AirUplink,
) -> Record:
    """Learn from the sources' prompts as they arrive, and return accuracy and the air's seconds by epoch."""
    scheme = FusionScheme(classifier, sources, own, attention=PromptAttention(own.shape[1], seed=seed))
    optimizer = torch.optim.Adam(scheme.tunables.all_parameters(), lr=SCALE["learning_rate"])
    epoch = SCALE["rows"] // SCALE["batch_size"]
    session = FederatedSession(
        scheme,
        optimizer,
        data,
        setting=FederatedSetting(seed=seed, evaluate_every=epoch),
        uplink=uplink,
        evaluate=lambda: {"accuracy": accuracy(classifier, scheme.prompt(), dev)},
    )
    began = accuracy(classifier, scheme.prompt(), dev)
    records = list(session.run(epoch * SCALE["epochs"]))
    of_epochs = records[epoch - 1 :: epoch]
    return {
        "accuracy": [began, *(record.scores["accuracy"] for record in of_epochs)],
        "clock_s": [0.0, *(record.clock_s for record in of_epochs)],
        "loss": by_epoch([record.loss for record in records]),
        "mse": float(np.mean([record.uplink_mse for record in records])),
        "weights": records[-1].numbers,
    }


def from_scratch(classifier: PromptedClassifier, own: torch.Tensor, data: ShardedData, dev: Record) -> Record:
    """Train the prompt alone, on the batches that the rounds of a session draw."""
    prompt = own.clone().requires_grad_()
    optimizer = torch.optim.Adam([prompt, *classifier.head], lr=SCALE["learning_rate"])
    scores, losses, epoch = [accuracy(classifier, own, dev)], [], SCALE["rows"] // SCALE["batch_size"]
    for iteration in range(epoch * SCALE["epochs"]):
        optimizer.zero_grad()
        loss = with_prompt(classifier.model, prompt, next(data.batches(0, iteration))).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if (iteration + 1) % epoch == 0:
            scores.append(accuracy(classifier, prompt.detach(), dev))
    return {"accuracy": scores, "loss": by_epoch(losses)}


def by_epoch(losses: list[float]) -> list[float]:
    """Return the mean of each epoch."""
    return np.reshape(losses, (SCALE["epochs"], -1)).mean(axis=1).tolist()


def accuracy(classifier: PromptedClassifier, prompt: torch.Tensor, dev: Record) -> float:
    """Return the share of rows that a prompt gets right."""
    return float(np.mean(classifier.predict(prompt, dev) == dev["labels"].numpy()))
