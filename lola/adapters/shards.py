"""Who holds which data: shards of a dataset, and the batches a device draws in a round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lola.models.running import expect_tensors
from lola.solvers.checks import IntArray, positive_integer, positive_number, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch

    Batch = dict[str, torch.Tensor]


def iid_shards(n_rows: int, n_devices: int, *, seed: int) -> list[IntArray]:
    """Deal the rows of a dataset out at random, as evenly as possible.

    Parameters
    ----------
    n_rows, n_devices : int
        At least one row a device.
    seed : int

    Returns
    -------
    list of int64 arrays
        Row numbers of each device; every row is somebody's.

    Raises
    ------
    ValueError
        If there are fewer rows than devices.
    """
    _check_counts(n_rows, n_devices)
    order = np.random.default_rng([seed, 0]).permutation(n_rows)
    return [np.sort(part) for part in np.array_split(order, n_devices)]


def dirichlet_shards(labels: ArrayLike, n_devices: int, *, alpha: float, seed: int) -> list[IntArray]:
    """Deal the rows out with skewed labels: how a label spreads over devices follows a Dirichlet distribution.

    Parameters
    ----------
    labels : (n,) array_like
        Classes. For a regression, bins of the target.
    n_devices : int
    alpha : float
        Small is skewed, large is even.
    seed : int

    Returns
    -------
    list of int64 arrays
        Row numbers of each device; every row is somebody's, and everybody has one at least: a device that drew none
        gets one from the device that has most.

    Raises
    ------
    ValueError
        If there are fewer rows than devices, or `alpha` is not positive.
    """
    values = np.asarray(labels)
    _check_counts(values.shape[0], n_devices)
    positive_number("alpha", alpha)
    rng = np.random.default_rng([seed, 1])
    owner = np.empty(values.shape[0], dtype=np.int64)
    for label in np.unique(values):
        rows = rng.permutation(np.flatnonzero(values == label))
        cuts = np.cumsum(rng.dirichlet(np.full(n_devices, alpha)))[:-1] * rows.shape[0]
        for device, part in enumerate(np.split(rows, np.round(cuts).astype(int))):
            owner[part] = device
    for device in range(n_devices):
        if not (owner == device).any():
            richest = np.bincount(owner, minlength=n_devices).argmax()
            owner[rng.choice(np.flatnonzero(owner == richest))] = device
    return [np.flatnonzero(owner == device) for device in range(n_devices)]


def _check_counts(n_rows: int, n_devices: int) -> None:
    if positive_integer("n_devices", n_devices) > n_rows:
        raise LolaValueError(f"{n_rows} rows cannot be dealt to {n_devices} devices; each needs one at least")


class ShardedData:
    """A dataset dealt to devices, and the batches that each draws.

    What a device draws depends on the seed, the device and the round alone, so a training run that was killed goes on
    with the very batches it would have drawn.

    Parameters
    ----------
    columns : mapping of str to torch.Tensor
        What the model takes, by name, ``labels`` among them; equally long. A batch is a selection of rows.
    shards : sequence of int arrays
        Row numbers of each device.
    batch_size : int
    seed : int
    collate : callable, optional
        Called with each batch; what it returns is used. `trim_padding` is one.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, columns differ in length, or a shard is empty or has rows that are not
        there.
    """

    def __init__(
        self,
        columns: Mapping[str, torch.Tensor],
        shards: Sequence[ArrayLike],
        *,
        batch_size: int,
        seed: int,
        collate: Callable[[Batch], Batch] | None = None,
    ) -> None:
        expect_tensors("columns", columns)
        if isinstance(shards, str) or not isinstance(shards, Iterable):
            raise LolaTypeError(
                f"shards must be a list of row numbers for each device, got {type(shards).__name__}: {shown(shards)}; "
                "iid_shards(n_rows, n_devices, seed=0) makes them"
            )
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise LolaValueError(f"columns must be equally long and at least one, got {lengths}")
        self.columns = dict(columns)
        self.shards = [np.asarray(shard, dtype=np.int64) for shard in shards]
        rows = next(iter(lengths.values()))
        for device, shard in enumerate(self.shards):
            if shard.size == 0 or shard.min() < 0 or shard.max() >= rows:
                raise LolaValueError(f"the shard of device {device} must hold rows in 0…{rows - 1}, at least one")
        self.batch_size = positive_integer("batch_size", batch_size)
        self.seed, self.collate = seed, collate

    def batches(self, device: int, version: int) -> Iterator[Batch]:
        """Yield the batches of a device in a round, without end: its shard shuffled, again and again."""
        return self.batches_of(self.shards[device], device, version)

    def batches_of(self, shard: IntArray, device: int, version: int) -> Iterator[Batch]:
        """Yield what a device would draw in a round if this were its shard."""
        import torch

        rng, pending = np.random.default_rng([self.seed, 2, device, version]), np.empty(0, np.int64)
        while True:
            while pending.size < self.batch_size:
                pending = np.concatenate((pending, rng.permutation(shard)))
            chosen, pending = torch.from_numpy(pending[: self.batch_size]), pending[self.batch_size :]
            batch = {name: column[chosen] for name, column in self.columns.items()}
            yield batch if self.collate is None else self.collate(batch)


def trim_padding(batch: Batch) -> Batch:
    """Cut a batch of texts, padded on the right, to its longest: nothing is computed for columns that nobody has.

    Parameters
    ----------
    batch : dict of str to torch.Tensor
        With ``attention_mask``, (batch, sequence); every other two-dimensional tensor as wide is cut with it.

    Raises
    ------
    ValueError
        If a text is padded on the left.
    """
    mask = batch["attention_mask"]
    width = max(int(mask.sum(dim=1).max()), 1)
    if mask[:, width:].any():
        raise LolaValueError("texts must be padded on the right, got padding on the left; set padding_side='right'")
    return {
        name: tensor[:, :width] if tensor.ndim == 2 and tensor.shape[1] == mask.shape[1] else tensor
        for name, tensor in batch.items()
    }
