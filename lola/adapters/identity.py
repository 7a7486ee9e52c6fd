"""What tells one run from another, and one model's frozen weights from another's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING

import numpy as np

from lola.air.placement import over_the_air
from lola.fleet import Fleet
from lola.problem import Problem, of_a_round

if TYPE_CHECKING:
    import torch

    from lola.adapters.setting import ChainSetting, FederatedSetting, Setting
    from lola.adapters.shards import ShardedData
    from lola.adapters.tunables import Tunables
    from lola.models import Depths


def run_identity(
    problem: Problem,
    setting: Setting,
    depths: Depths,
    devices: object,
    channel: object,
    data: ShardedData | None,
    uplink: object,
) -> tuple[str, str]:
    """Digests of what a run that goes on must have in common with the one that was stopped, and of frozen weights.

    Channels and devices that are no dataclass, an evaluation or a loss cannot be compared; of an uplink see `told`.
    """
    unused = () if setting.quarantine_after else ("quarantine_after", "quarantine_rounds")  # older runs know neither
    kept = {name: value for name, value in _kept(setting).items() if name not in unused}
    of_channel, of_devices = (told(one) if is_dataclass(one) else "" for one in (channel, devices))
    of_data = (of_devices,) if data is None else (data.seed, data.batch_size)
    of_ranks = () if isinstance(depths.rank, int) else (depths.rank,)  # older runs have one for all
    said = repr((sorted(kept.items()), *of_data, of_channel, depths.alpha, *of_ranks))
    return _digests(problem.digest() + said + _radio(uplink, depths), depths, data)


def chain_identity(
    plan: object,
    starts: tuple[int, ...],
    n_clients: int,
    setting: ChainSetting,
    depths: Depths,
    data: ShardedData,
    uplink: object,
) -> tuple[str, str]:
    """Digests, as `run_identity` gives them, of a run over chains.

    Plans that are no dataclass, an evaluation or a loss cannot be compared; of an uplink see `told`.
    """
    of_plan = told(plan) if is_dataclass(plan) else ""
    of_data = (starts, n_clients, data.seed, data.batch_size)
    said = repr(("chains", sorted(_kept(setting).items()), *of_data, of_plan, repr(depths), depths.alpha))
    return _digests(said + _radio(uplink, depths), depths, data)


def _radio(uplink: object, tunables: Tunables) -> str:
    """Tell an uplink, and layers over the air; nothing where there are none, for older runs know of none."""
    layers = [(name, one.snr_db, one.bandwidth_hz, one.channel) for name, one in over_the_air(tunables.model)]
    of_uplink = "" if uplink is None else f"uplink {told(uplink)}"
    return of_uplink + (f"over the air {told(layers)}" if layers else "")


def federated_identity(
    scheme: Sequence[object], uplink: object, setting: FederatedSetting, tunables: Tunables, data: ShardedData
) -> tuple[str, str]:
    """Digests, as `run_identity` gives them, of a federated run, whose scheme says what tells it from another.

    An evaluation cannot be compared; of an uplink, and of what a scheme names, see `told`.
    """
    of_data = (data.seed, data.batch_size)
    said = repr(("federated", sorted(_kept(setting).items()), *of_data, [told(one) for one in scheme]))
    return _digests(said + _radio(uplink, tunables), tunables, data)


def _kept(setting: Setting | ChainSetting | FederatedSetting) -> dict[str, object]:
    """Return what of a setting may not change where a run goes on."""
    return {name: value for name, value in asdict(setting).items() if not name.endswith("_every")}


def _digests(said: str, tunables: Tunables, data: ShardedData | None) -> tuple[str, str]:
    state, frozen = hashlib.sha256(said.encode()), hashlib.sha256()
    if data is not None:
        for shard in data.shards:
            state.update(shard.tobytes())
        for name, column in sorted(data.columns.items()):
            state.update(name.encode() + tensor_bytes(column))
    for part in frozen_parts(tunables):
        state.update(part)
        frozen.update(part)
    return state.hexdigest(), frozen.hexdigest()


def without_fleet(problem: Problem) -> Problem:
    """Return a problem whose fleet is always the same: who was there when a run began does not matter to it later."""
    one = np.ones(problem.n_blocks)
    return of_a_round(problem, Fleet(speed=one, memory_bytes=one, spectral_efficiency=one))


def told(value: object) -> str:
    """Tell a value as its repr does, without addresses, but arrays by all their bytes, and dataclasses by their fields.

    So an object with the usual repr is told by its class alone, and a function by its name.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return f"tensor({value.dtype}, {tuple(value.shape)}, {hashlib.sha256(tensor_bytes(value)).hexdigest()})"
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"array({value.dtype.str}, {value.shape}, {digest})"
    if is_dataclass(value) and not isinstance(value, type):
        inner = ", ".join(f"{field.name}={told(getattr(value, field.name))}" for field in fields(value) if field.repr)
        return f"{type(value).__qualname__}({inner})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {told(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, list | tuple):
        inner = ", ".join(map(told, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(value))


def frozen_parts(tunables: Tunables) -> Iterator[bytes]:
    """Give what is not trained of a model, each with its name."""
    trained = {id(parameter) for parameter in tunables.all_parameters()}
    for name, parameter in tunables.model.named_parameters():
        if id(parameter) not in trained:
            yield name.encode() + tensor_bytes(parameter)


def frozen_digest(tunables: Tunables) -> str:
    """SHA-256 of what is not trained of a model, in hexadecimal."""
    state = hashlib.sha256()
    for part in frozen_parts(tunables):
        state.update(part)
    return state.hexdigest()


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """Return a tensor's values as they lie in memory."""
    import torch

    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
