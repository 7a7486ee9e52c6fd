"""What a round of a session did, by its scheme."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, Self

# Fields that list devices.
_DEVICE_LISTS = ("device_of_block", "devices_used")


class Record(Protocol):
    """What every scheme's record has; its other fields are numbers, texts and tuples of whole numbers."""

    # What is drawn round by round, beside the scores.
    LOGGED: ClassVar[tuple[str, ...]]

    @property
    def version(self) -> int:
        """Of the model after the round."""
        ...

    @property
    def clock_s(self) -> float:
        """Seconds since the start, after the round."""
        ...

    @property
    def scores(self) -> dict[str, float]:
        """What `evaluate` returned, in rounds where it was called."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON can keep it, with None for NaN and text for infinities."""
        ...

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Make a record of what `to_json` returned."""
        ...


@dataclass(frozen=True)
class RoundRecord:
    """What a round did; one line of the metrics.

    Attributes
    ----------
    version : int
        Of the model after the round.
    clock_s : float
        Simulated seconds since the start.
    latency_s, lower_bound_s : float
        Of the schedule, and what the round waited before it for devices in outage.
    loss : float
        Mean over the blocks that were stepped; NaN if there were none.
    participants, applied, missing, memory_wall : int
        Devices that could be asked; blocks stepped; blocks without a gradient; devices that were given a block they
        have no memory for, and so never answered.
    refused : str
        Which answers were not used, and why; empty if all were.
    scores : dict of str to float
        What `evaluate` returned, in rounds where it was called.
    device_of_block : tuple of int
        The device that was asked for each block, depth 1 first; empty in records of versions that did not note it.
    devices_used : tuple of int
        The devices whose gradients were applied, in rising order; empty, too, in records that did not note it.
    """

    LOGGED: ClassVar[tuple[str, ...]] = ("loss", "clock_s", "latency_s", "missing", "memory_wall")

    version: int
    clock_s: float
    latency_s: float
    lower_bound_s: float
    loss: float
    participants: int
    applied: int
    missing: int
    memory_wall: int
    refused: str
    scores: dict[str, float] = field(default_factory=dict)
    device_of_block: tuple[int, ...] = ()
    devices_used: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON can keep it, with None for NaN and text for infinities."""
        flat = asdict(self)
        scores = flat.pop("scores")
        lists = {name: list(flat[name]) for name in _DEVICE_LISTS}
        return {**_without_nan(flat), "scores": _without_nan(scores), **lists}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RoundRecord:
        """Make a record of what `to_json` returned."""
        flat = dict(data)
        scores = _with_nan(flat.pop("scores"))
        flat |= {name: tuple(flat.get(name, ())) for name in _DEVICE_LISTS}
        return cls(**_with_nan(flat), scores=scores)


@dataclass(frozen=True)
class ChainRecord:
    """What a round over chains did; one line of the metrics.

    Attributes
    ----------
    version : int
        Of the model after the round.
    clock_s : float
        Simulated seconds since the start.
    latency_s, lower_bound_s : float
        Of the slowest planned chain, for all local batches one after the other; the largest bound that is known, NaN if
        none is.
    loss : float
        Mean over the clusters that were used, by their weights; NaN if there were none.
    participants, clusters, applied : int
        Clients that could be planned with; chains planned; chains whose answer went into the step or the average.
    forward_bytes, return_bytes : int
        Hidden states and their gradients, sent from client to client.
    beside_bytes : int
        Masks and labels that went along.
    delivered_bytes, uploaded_bytes : int
        Tunable modules, from the server to the clients, and what came back of all clusters that answered, refused ones
        among them.
    full_delivery_bytes : int
        What the delivery would have been with the whole model's weights.
    refused : str
        Whose answers were not used, and why; empty if all were.
    scores : dict of str to float
        What `evaluate` returned, in rounds where it was called.
    client_of_module : tuple of tuple of int
        The chains: which client had each module, the embedding first.
    lost_clients : tuple of int
        Who dropped out, in rising order: they are not planned with in the next round.
    """

    LOGGED: ClassVar[tuple[str, ...]] = (
        "loss",
        "clock_s",
        "latency_s",
        "clusters",
        "applied",
        "forward_bytes",
        "return_bytes",
    )

    version: int
    clock_s: float
    latency_s: float
    lower_bound_s: float
    loss: float
    participants: int
    clusters: int
    applied: int
    forward_bytes: int
    return_bytes: int
    beside_bytes: int
    delivered_bytes: int
    uploaded_bytes: int
    full_delivery_bytes: int
    refused: str
    scores: dict[str, float] = field(default_factory=dict)
    client_of_module: tuple[tuple[int, ...], ...] = ()
    lost_clients: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON can keep it, with None for NaN and text for infinities."""
        flat = asdict(self)
        scores = flat.pop("scores")
        chains = [list(chain) for chain in flat.pop("client_of_module")]
        lost = list(flat.pop("lost_clients"))
        return {**_without_nan(flat), "scores": _without_nan(scores), "client_of_module": chains, "lost_clients": lost}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ChainRecord:
        """Make a record of what `to_json` returned."""
        flat = dict(data)
        scores = _with_nan(flat.pop("scores"))
        chains = tuple(map(tuple, flat.pop("client_of_module")))
        lost = tuple(flat.pop("lost_clients"))
        return cls(**_with_nan(flat), scores=scores, client_of_module=chains, lost_clients=lost)


@dataclass(frozen=True)
class FederatedRecord:
    """What a federated round did; one line of the metrics.

    Attributes
    ----------
    version : int
        Of what is trained, after the round.
    clock_s : float
        Simulated seconds since the start.
    latency_s : float
        Of the slowest device that was asked, and of every transmission of the round.
    loss : float
        As the scheme says; NaN if nothing was applied.
    participants, asked, applied : int
        Devices that could be asked; that were; whose answers were applied. Of those asked, some may have dropped out.
    delivered_bits : float
        What the server sent to devices: each value once for each device that it went to, in as many bits as its dtype
        has. Nothing is counted as broadcast.
    uploaded_values : int
        Real numbers that devices sent, those of refused answers too.
    uplink_s : float
        Of `latency_s`, the transmissions.
    uplink_mse : float
        Expected squared error of a received number, the largest of the round's transmissions; 0 on a perfect uplink.
    refused : str
        Whose answers were not used, and why; empty if all were.
    scores : dict of str to float
        What `evaluate` returned, in rounds where it was called.
    numbers : dict of str to float
        What the scheme counts beside all this, by name; see there.
    devices_used : tuple of int
        The devices whose answers were applied, in rising order.
    lost_devices : tuple of int
        Who was asked and did not answer, in rising order.
    """

    LOGGED: ClassVar[tuple[str, ...]] = (
        "loss",
        "clock_s",
        "latency_s",
        "asked",
        "applied",
        "uploaded_values",
        "uplink_mse",
    )

    version: int
    clock_s: float
    latency_s: float
    loss: float
    participants: int
    asked: int
    applied: int
    delivered_bits: float
    uploaded_values: int
    uplink_s: float
    uplink_mse: float
    refused: str
    scores: dict[str, float] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    devices_used: tuple[int, ...] = ()
    lost_devices: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON can keep it, with None for NaN and text for infinities."""
        flat = asdict(self)
        by_name = {name: _without_nan(flat.pop(name)) for name in ("scores", "numbers")}
        lists = {name: list(flat.pop(name)) for name in ("devices_used", "lost_devices")}
        return {**_without_nan(flat), **by_name, **lists}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FederatedRecord:
        """Make a record of what `to_json` returned."""
        flat = dict(data)
        scores, numbers = (_with_nan(flat.pop(name)) for name in ("scores", "numbers"))
        used, lost = (tuple(flat.pop(name)) for name in ("devices_used", "lost_devices"))
        return cls(**_with_nan(flat), scores=scores, numbers=numbers, devices_used=used, lost_devices=lost)


class Kept(NamedTuple):
    """What checkpoints of a scheme's session hold: records, and what beside all that every session keeps."""

    record: type[Record]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


# By the scheme that a checkpoint names; one that names none is of the first.
KEPT_OF_SCHEME = {
    "cooperative": Kept(RoundRecord, ("norms",), ("refusals",)),
    "chains": Kept(ChainRecord),
    "federated": Kept(FederatedRecord, ("kept",)),
}


def count_devices_used(records: Iterable[RoundRecord]) -> int | None:
    """Count the devices whose gradients were applied in any round; None where a record did not note them."""
    used: set[int] = set()
    for record in records:
        if record.applied and not record.devices_used:
            return None
        used.update(record.devices_used)
    return len(used)


# JSON has none of these.
_AS_JSON = {math.inf: "inf", -math.inf: "-inf"}
_AS_NUMBER = {None: math.nan, "inf": math.inf, "-inf": -math.inf}


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value != value else _AS_JSON.get(value, value) for name, value in values.items()}


def _with_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _AS_NUMBER.get(value, value) for name, value in values.items()}
