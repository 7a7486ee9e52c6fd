"""The encoder of the training runs, and rows of GLUE for it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, BertForSequenceClassification

from lola.adapters import ShardedData
from lola.adapters.shards import trim_padding
from lola.tasks import read_glue
from lola.tasks.glue import GLUE, Examples

LENGTH, BATCH_SIZE = 64, 16
# all-MiniLM-L6-v2 has seen single texts only, and its first token, which a classifier reads, was not trained at all.
# T5, the article's, has: its pretraining had GLUE's tasks among others. So the encoder sees pairs once before.
PAIRS = {"task": "qqp", "rows": 8_992, "learning_rate": 1e-4}
NAMES = {"sst2": "SST-2", "mrpc": "MRPC", "qqp": "QQP", "qnli": "QNLI", "rte": "RTE", "mnli": "MNLI", "cola": "CoLA"}

Columns = dict[str, torch.Tensor]


def load_encoder(folder: str | Path, n_labels: int, seed: int | None) -> BertForSequenceClassification:
    """Load a BERT under a head of n classes that is drawn by the seed; without one, under the head that is there."""
    model = BertForSequenceClassification.from_pretrained(
        folder, use_safetensors=True, num_labels=n_labels, ignore_mismatched_sizes=True
    )
    if seed is not None:
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.classifier.weight, std=0.02)
        torch.nn.init.zeros_(model.classifier.bias)
    return model.eval()  # the rows are few and the tuned parameters fewer; dropout only adds noise


def cache() -> Path:
    """Return the folder for what is trained once and used by several parts."""
    folder = Path(os.environ.get("LOLA_DEFT_CACHE", Path(tempfile.gettempdir()) / "lola-deft"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def encoder_of_pairs(folder: str, glue: str) -> Path:
    """Return the folder of the encoder after one pass over pairs; made where it is not there."""
    target = cache() / "encoder-of-pairs"
    if not (target / "model.safetensors").exists():
        model = load_encoder(folder, GLUE[PAIRS["task"]].n_labels, seed=0)
        model.train()
        columns = encode(folder, read_glue(PAIRS["task"], glue).train.take(np.arange(PAIRS["rows"])))
        optimizer = torch.optim.AdamW(model.parameters(), lr=PAIRS["learning_rate"])
        for batch in batches_of(columns, seed=0, epochs=1):
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return target


def encode(folder: str | Path, examples: Examples) -> Columns:
    """Turn texts, or pairs of texts, into ids, mask, types and labels, (rows, tokens) or (rows,)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [list(text) for text in (examples.first, examples.second) if text is not None]
    tokens = tokenizer(*texts, truncation=True, max_length=LENGTH, padding="max_length", return_tensors="pt")
    return {**tokens, "labels": torch.as_tensor(examples.labels)}


def drawn(columns: Columns, rows: int, seed: int) -> Columns:
    """Draw some of the rows."""
    chosen = torch.as_tensor(np.random.default_rng(seed).permutation(len(columns["labels"]))[:rows])
    return {name: column[chosen] for name, column in columns.items()}


def batches_of(columns: Columns, seed: int, epochs: int) -> Any:
    """Yield shuffled batches of a few epochs."""
    rows = len(columns["labels"])
    data = ShardedData(columns, [np.arange(rows)], batch_size=BATCH_SIZE, seed=seed, collate=trim_padding)
    for epoch in range(epochs):
        drawn_batches = data.batches(0, epoch)
        for _ in range(rows // BATCH_SIZE):
            yield next(drawn_batches)


def correct(model: BertForSequenceClassification, columns: Columns) -> float:
    """Return the share of rows that a model without a prompt gets right."""
    order = columns["attention_mask"].sum(dim=1).argsort()
    right = 0
    with torch.no_grad():
        for some in order.split(64):
            batch = trim_padding({name: column[some] for name, column in columns.items()})
            labels = batch.pop("labels")
            right += int((model(**batch).logits.argmax(dim=1) == labels).sum())
    return right / len(order)


def standard_error(share: float, rows: int) -> float:
    """Return the standard error of a share of rows."""
    return float(np.sqrt(share * (1 - share) / rows))
