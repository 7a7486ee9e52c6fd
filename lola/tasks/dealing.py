"""The rows that a run trains on, and who of its devices gets which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lola.adapters.shards import dirichlet_shards, iid_shards
from lola.solvers.checks import IntArray
from lola.solvers.errors import LolaValueError
from lola.tasks.glue import Examples, GlueData, read_glue
from lola.tasks.settings import TrainingSettings

_LARGE_BATCH = 1024  # larger ones only where there are as many rows
_SUBSET = 4  # what a random generator is for; shards and the dev split have the numbers before it


def training_data(settings: TrainingSettings) -> GlueData:
    """Read a task's data, with as many rows to train on as settings say.

    Raises
    ------
    FormatError, ValueError, OSError
        If they cannot be read, or there are fewer.
    """
    data = read_glue(settings.task, settings.data, seed=settings.seed)
    if settings.train_rows is not None:
        data = replace(data, train=_some(data.train, settings.train_rows, settings.seed))
    if settings.batch > (most := max(len(data.train), _LARGE_BATCH)):
        raise LolaValueError(
            f"batch must be at most {most} for {len(data.train)} rows, got {settings.batch}; 32 is usual"
        )
    return data


def deal(settings: TrainingSettings, train: Examples, n_devices: int) -> list[IntArray]:
    """Deal rows out to devices, as settings say.

    Raises
    ------
    ValueError
        If there are fewer rows than devices.
    """
    if settings.alpha is None:
        return iid_shards(len(train), n_devices, seed=settings.seed)
    return dirichlet_shards(train.labels.astype(np.int64), n_devices, alpha=settings.alpha, seed=settings.seed)


def _some(train: Examples, n_rows: int, seed: int) -> Examples:
    if n_rows > len(train):
        raise LolaValueError(f"train_rows asks for {n_rows} rows, but there are {len(train)}")
    return train.take(np.sort(np.random.default_rng([seed, _SUBSET]).permutation(len(train))[:n_rows]))
