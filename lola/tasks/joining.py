"""A training run on machines of their own: what a device needs to take part."""

from __future__ import annotations

import hashlib
import logging
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lola.adapters.compute import block_gradient
from lola.adapters.messages import BlockTask
from lola.adapters.shards import ShardedData, trim_padding
from lola.devices.status import model_identity
from lola.files.formats import FormatError, numbers, read_json, write_json
from lola.models.depths import Depths
from lola.models.seeding import seeded
from lola.profile import Profile
from lola.solvers.errors import LolaValueError
from lola.tasks.announcement import RunAnnouncement
from lola.tasks.dealing import deal, training_data
from lola.tasks.training import adapted_classifier

if TYPE_CHECKING:
    import torch

    Batch = dict[str, torch.Tensor]

_log = logging.getLogger(__name__)
_TIMED = 5  # iterations of each depth, after one that is not counted
_SPEED_FORMAT = "lola-device-speed"


@dataclass(frozen=True, eq=False)
class Member:
    """What a device takes part with.

    Attributes
    ----------
    depths : lola.models.Depths
        The run's model, adapted as the server's is.
    batches : callable
        ``batches(device, version)``; see `lola.devices.EdgeDevice`.
    rows, tokens : int
        Of its data.
    source : str
        Where they come from.
    """

    depths: Depths
    batches: Callable[[int, int], Iterable[Batch]]
    rows: int
    tokens: int
    source: str


def prepare_member(
    announcement: RunAnnouncement, model: str, data: str, *, shard: tuple[int, int] | None = None
) -> Member:
    """Load the model, adapt it as the server does, and read what the device has to train on.

    Parameters
    ----------
    announcement : RunAnnouncement
        What the server says of the run.
    model : str
        Folder or hub name of the run's model, here.
    data : str
        See `lola.tasks.read_glue`; the training split is the device's.
    shard : (int, int), optional
        ``(i, n)``: of the data, only what a session with n simulated devices deals to the i-th, from 1 on.

    Returns
    -------
    Member

    Raises
    ------
    ValueError, FormatError, OSError
        If the model is not the run's, or something cannot be read.
    """
    settings = announcement.settings_for(model, data)
    if shard is None:
        settings = replace(settings, train_rows=None)
    glue = training_data(settings)
    train, source = glue.train, glue.source
    if shard is not None:
        number, n_devices = shard
        if not 1 <= number <= n_devices:
            raise LolaValueError(f"shard must be one of n, such as 1/4, got {number}/{n_devices}; count from 1")
        train = train.take(deal(settings, train, n_devices)[number - 1])
        source = f"{source}, shard {number} of {n_devices}"
    classifier, depths = adapted_classifier(settings)
    if model_identity(depths) != announcement.identity:
        raise LolaValueError(
            f"{model}: the run's model, {announcement.settings.model}, was wanted, with the server's very weights, got "
            "another; take the folder or the revision that the server has"
        )
    depths.model.train()
    columns = classifier.encode(train, settings.seq)
    rows = np.arange(len(train))
    own = ShardedData(columns, [rows], batch_size=settings.batch, seed=settings.seed, collate=trim_padding)
    tokens = int(columns["attention_mask"].sum())
    return Member(depths, lambda device, version: own.batches_of(rows, device, version), len(train), tokens, source)


def measured_speed(member: Member, profile: Profile, *, folder: Path, of: str) -> float:
    """Return how fast this machine is, relative to the profile's: from iterations at the first and the last depth.

    Parameters
    ----------
    member : Member
    profile : Profile
    folder : Path
        Where the seconds are remembered.
    of : str
        What they depend on beside the member's model and data: batch, threads, processor.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the profile's depths take no time.
    """
    ends = (1, len(member.depths))
    reference_s = float(sum(profile.latency_s[depth - 1] for depth in ends))
    if not reference_s > 0:
        raise LolaValueError("the server's profile must say how long a depth takes, got 0 s; say this device's speed")
    key = repr((model_identity(member.depths), member.rows, member.tokens, of))
    path = folder / f"device-speed-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    remembered = _remembered_s(path)
    if remembered is not None:
        return reference_s / remembered
    taken_s = float(sum(_iteration_s(member, depth) for depth in ends))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, _SPEED_FORMAT, {"seconds": [taken_s]})
    except OSError as error:
        _log.warning("the speed cannot be remembered: %s", error)
    return reference_s / taken_s


def _remembered_s(path: Path) -> float | None:
    if not path.is_file():
        return None
    try:
        (seconds,) = numbers(str(path), read_json(path, _SPEED_FORMAT).get("seconds"))
    except (FormatError, OSError, ValueError) as error:
        _log.warning("the speed is measured again: %s", error)
        return None
    return seconds if seconds > 0 else None


def _iteration_s(member: Member, depth: int) -> float:
    """Median seconds of a local iteration at a depth, on the device's own batches."""
    task, batches, times = BlockTask(0, 0, depth, 1.0), iter(member.batches(0, 0)), []
    with seeded(0):
        for _ in range(1 + _TIMED):
            started = time.perf_counter()
            block_gradient(member.depths, task, batches)
            times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def available_memory_bytes() -> float:
    """Return what this machine has free for another process.

    Raises
    ------
    ValueError
        If it does not say.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        raise LolaValueError("the memory to offer must be given, for this machine does not say what is free") from None
    return 1024.0 * int(kilobytes)
