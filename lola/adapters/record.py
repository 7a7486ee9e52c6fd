"""What a round of a session did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


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
    """

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

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON can keep it, with None for NaN."""
        flat = asdict(self)
        scores = flat.pop("scores")
        return {**_without_nan(flat), "scores": _without_nan(scores), "device_of_block": list(self.device_of_block)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RoundRecord:
        """Make a record of what `to_json` returned."""
        flat = dict(data)
        scores, devices = _with_nan(flat.pop("scores")), tuple(flat.pop("device_of_block", ()))
        return cls(**_with_nan(flat), scores=scores, device_of_block=devices)


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in values.items()}


def _with_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {name: float("nan") if value is None else value for name, value in values.items()}
