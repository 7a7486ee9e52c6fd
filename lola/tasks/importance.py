"""What ranks are worth to a classifier of texts, measured on a task of GLUE."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lola.adapters.shards import trim_padding
from lola.models.seeding import seeded
from lola.profiling.importance import Progress, measure_importance
from lola.ranks.importance import SINGULAR, Importance
from lola.tasks.dealing import training_data
from lola.tasks.glue import glue_task
from lola.tasks.settings import TrainingSettings
from lola.tasks.texts import load_classifier

_BATCHES = 6  # what a random generator is for; a task's data, shards and subsets have the numbers before it


def measure_task_importance(
    settings: TrainingSettings, *, measure: str = SINGULAR, steps: int = 50, progress: Progress | None = None
) -> Importance:
    """Load a model and a task's data, and measure what each rank is worth.

    Parameters
    ----------
    settings : TrainingSettings
        Model, task, data, rows, batch, length, learning rate, head and seed; its rank is the most that is measured.
    measure : {"singular", "sensitivity"}
        See `lola.profiling.measure_importance`.
    steps : int
        Of training, each on a batch of its own while there are rows left.
    progress : callable, optional
        Called with what is done, how many of it, and how many there are.

    Returns
    -------
    Importance
        Its provenance's note names the task.

    Raises
    ------
    FormatError, ModelError, ValueError, OSError
        If the model or the data cannot be used.
    """
    task = glue_task(settings.task)
    train = training_data(settings).train
    with seeded(settings.seed):
        classifier = load_classifier(settings.model, task.n_labels, seed=None)
    order = np.random.default_rng([settings.seed, _BATCHES]).permutation(len(train))
    whole = max(len(train) // settings.batch, 1)
    rows = np.array_split(order[: whole * settings.batch], whole)[:steps]
    columns = classifier.encode(train.take(np.concatenate(rows)), settings.seq)
    ends = np.cumsum([len(some) for some in rows])
    batches = [
        trim_padding({name: column[end - len(some) : end] for name, column in columns.items()})
        for some, end in zip(rows, ends.tolist(), strict=True)
    ]
    importance = measure_importance(
        classifier.model,
        batches,
        measure=measure,
        max_rank=settings.largest_rank,
        steps=steps,
        learning_rate=settings.lr,
        train_head=not settings.freeze_head,
        seed=settings.seed,
        progress=progress,
    )
    origin = importance.provenance
    assert origin is not None
    return replace(importance, provenance=replace(origin, note=f"{task.name}, {origin.note}"))
