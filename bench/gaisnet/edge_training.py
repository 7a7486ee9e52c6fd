"""What the paper asks about accuracy, of a pretrained encoder and GLUE: classes seen, clusters, pretraining, adapters.

One thread, one seed, few rows: the paper's fine-tuning is few-shot, too.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from encoder import PooledClassifier, loss_of, trim
from transformers import BertModel

from lola.adapters import ChainSession, ChainSetting, ClusterPlan, ShardedData
from lola.models import attach_lora
from lola.models.depths import Depths
from lola.tasks import read_glue
from lola.tasks.glue import GLUE, Examples

SEED = 0
SCALE = {"batch_size": 16, "sequence_length": 32, "lora_rank": 8, "learning_rate": 1e-3, "full_learning_rate": 1e-4}
PRETRAINING = {"task": "sst2", "rows": 320, "dev_rows": 300, "epochs": 5}
CLASSES = {"task": "mnli", "rows": 480, "dev_rows": 600, "epochs": 2}
CLUSTERS = {"most": 5, "rows": 64, "batch_size": 8, "rounds": 30, "dev_rows": {"sst2": 872, "mnli": 600}}
CLIENTS = 3  # of a cluster; how the modules are dealt among them changes nothing that is learnt
ADAPTERS, EVERYTHING = "adapters", "everything"

Record = dict[str, Any]


def make_model(folder: str, task: str, pretrained: bool = True) -> PooledClassifier:
    """Make an encoder with a head, pretrained or drawn at random with the same sizes."""
    torch.manual_seed(SEED)
    model = PooledClassifier(folder, GLUE[task].n_labels, len(GLUE[task].hub_columns))
    if not pretrained:
        model.encoder = BertModel(model.encoder.config)
    return model


def with_adapters(model: PooledClassifier) -> Depths:
    depths = attach_lora(model, rank=SCALE["lora_rank"], blocks=model.encoder.encoder.layer)
    depths.select_all()
    return depths


def drawn(examples: Examples, rows: int, classes: int) -> Examples:
    """Draw rows of the first classes, of each as many, shuffled."""
    rng = np.random.default_rng(SEED)
    each = [rng.permutation(np.flatnonzero(examples.labels == label))[: rows // classes] for label in range(classes)]
    return examples.take(rng.permutation(np.concatenate(each)))


def held_out(model: PooledClassifier, dev: Examples) -> Record:
    """Encode the rows that accuracy is of, the shortest first, so that little padding is computed."""
    columns = model.encode(dev, SCALE["sequence_length"])
    order = columns["attention_mask"].sum(dim=(1, 2)).argsort()
    return {name: column[order] for name, column in columns.items()}


def accuracy(model: PooledClassifier, columns: Record) -> float:
    training = model.training
    model.eval()
    right = float(np.mean(model.predict(columns) == columns["labels"].numpy()))
    model.train(training)
    return right


def session_of(model: PooledClassifier, shards: list[np.ndarray], train: Examples, dev: Record, **how: int) -> Any:
    """Make a session of as many clusters as shards, gradients averaged over them."""
    depths = with_adapters(model)
    near, far = len(depths) // 3, len(depths) - len(depths) // 3
    cut = [0] * (near + 1) + [1] * (far - near) + [2] * (len(depths) - far + 1)

    def plan(version: int, clients: np.ndarray) -> list[ClusterPlan]:
        return [ClusterPlan(tuple(CLIENTS * cluster + place for place in cut)) for cluster in range(len(shards))]

    columns = model.encode(train, SCALE["sequence_length"])
    return ChainSession(
        depths,
        torch.optim.AdamW(depths.all_parameters(), lr=SCALE["learning_rate"]),
        plan,
        ShardedData(columns, shards, batch_size=how["batch_size"], seed=SEED, collate=trim),
        starts=[CLIENTS * cluster for cluster in range(len(shards))],
        n_clients=CLIENTS * len(shards),
        setting=ChainSetting(seed=SEED, evaluate_every=how["evaluate_every"]),
        evaluate=lambda: {"accuracy": accuracy(model, dev)},
        loss=loss_of,
    )


def classes_seen(folder: str, glue: str) -> Record:
    """Fine-tune one cluster on rows of one class, of two …: Table III."""
    task, rows = CLASSES["task"], CLASSES["rows"]
    corpus, n_classes = read_glue(task, glue), GLUE[task].n_labels
    epoch, runs = rows // SCALE["batch_size"], []
    for seen in range(1, n_classes + 1):
        model, train = make_model(folder, task), drawn(corpus.train, rows, seen)
        dev = held_out(model, drawn(corpus.dev, CLASSES["dev_rows"], n_classes))
        session = session_of(model, [np.arange(rows)], train, dev, batch_size=SCALE["batch_size"], evaluate_every=epoch)
        scores = [record.scores["accuracy"] for record in session.run(epoch * CLASSES["epochs"]) if record.scores]
        runs.append({"seen": seen, "accuracy": scores})
        print(runs[-1], flush=True)
    return {"scale": {**SCALE, **CLASSES}, "n_classes": n_classes, "runs": runs}


def clusters(folder: str, glue: str, task: str) -> Record:
    """Fine-tune one cluster, two …, each with rows of its own: Table IV."""
    corpus, rows, most = read_glue(task, glue), CLUSTERS["rows"], CLUSTERS["most"]
    n_classes, dev_rows = GLUE[task].n_labels, CLUSTERS["dev_rows"][task]
    train, runs = drawn(corpus.train, most * rows + n_classes, n_classes), []
    for count in range(1, most + 1):
        model = make_model(folder, task)
        dev = held_out(model, drawn(corpus.dev, dev_rows, n_classes) if dev_rows < len(corpus.dev) else corpus.dev)
        shards = [np.arange(rows * cluster, rows * (cluster + 1)) for cluster in range(count)]
        how = {"batch_size": CLUSTERS["batch_size"], "evaluate_every": CLUSTERS["rounds"]}
        *_, last = session_of(model, shards, train, dev, **how).run(CLUSTERS["rounds"])
        runs.append(
            {
                "clusters": count,
                "accuracy": last.scores["accuracy"],
                "delivered_bytes": last.delivered_bytes,
                "full_delivery_bytes": last.full_delivery_bytes,
            }
        )
        print(runs[-1], flush=True)
    scale = {**SCALE, **CLUSTERS, "dev_rows": len(dev["labels"])}
    return {"scale": scale, "n_classes": n_classes, "runs": runs}


def pretraining(folder: str, glue: str) -> Record:
    """Fine-tune adapters or everything, of pretrained and of random weights: Figs. 6 and 7."""
    task, rows = PRETRAINING["task"], PRETRAINING["rows"]
    corpus, runs = read_glue(task, glue), []
    for pretrained in (True, False):
        for tuned in (ADAPTERS, EVERYTHING):
            model = make_model(folder, task, pretrained)
            dev = held_out(model, drawn(corpus.dev, PRETRAINING["dev_rows"], GLUE[task].n_labels))
            train = model.encode(drawn(corpus.train, rows, GLUE[task].n_labels), SCALE["sequence_length"])
            runs.append({"pretrained": pretrained, "tuned": tuned, **epochs(model, tuned, train, dev)})
            print(runs[-1], flush=True)
    return {"scale": {**SCALE, **PRETRAINING}, "runs": runs}


def epochs(model: PooledClassifier, tuned: str, train: Record, dev: Record) -> Record:
    """Train, and return the accuracy after each epoch and the processor's seconds of each."""
    whole = sum(parameter.numel() for parameter in model.parameters())
    if tuned == ADAPTERS:
        parameters, rate = with_adapters(model).all_parameters(), SCALE["learning_rate"]
    else:
        parameters, rate = list(model.parameters()), SCALE["full_learning_rate"]
    optimizer = torch.optim.AdamW(parameters, lr=rate)
    batch_size = SCALE["batch_size"]
    shard = np.arange(len(train["labels"]))
    data = ShardedData(train, [shard], batch_size=batch_size, seed=SEED, collate=trim)
    model.train()
    scores, seconds = [accuracy(model, dev)], []
    for epoch in range(PRETRAINING["epochs"]):
        begun, batches = time.process_time(), data.batches(0, epoch)
        for _ in range(len(shard) // batch_size):
            loss_of(model, next(batches)).backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(time.process_time() - begun)
        scores.append(accuracy(model, dev))
    counted = {"tunable": sum(parameter.numel() for parameter in parameters), "whole": whole}
    return {"accuracy": scores, "epoch_s": seconds, **counted}
