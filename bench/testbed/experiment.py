"""What a testbed is to run: a scenario file, checked."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lola.methods import METHODS

_Part = TypeVar("_Part", "Model", "Device", "Scheme")
_MOST_CORES = 0.85  # of this machine, for all quotas together: the broker, the server and the system need some, too


class ScenarioError(Exception):
    """A scenario file is not what a testbed can run."""


@dataclass(frozen=True)
class Model:
    """An encoder with random weights, what a device computes at once, and the adapters that it uploads."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    batch_size: int
    sequence_length: int
    lora_rank: int
    vocabulary: int = 500

    def config(self) -> dict[str, Any]:
        """Return it as transformers' configuration."""
        return {
            "model_type": "bert",
            "architectures": ["BertForSequenceClassification"],
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "max_position_embeddings": self.sequence_length,
        }

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config()), encoding="utf-8")


@dataclass(frozen=True)
class Device:
    """A device: its share of a core, bit/s/Hz on average, and the deepest block that its memory holds."""

    name: str
    speed: float
    efficiency: float
    holds: int


@dataclass(frozen=True)
class Scheme:
    """A method at work: with how many blocks a device, for how many rounds, within the memory limits or without."""

    name: str
    method: str
    rounds: int
    max_blocks: int | str = 1
    memory_limits: bool = True

    @property
    def most_blocks(self) -> int | None:
        """As `lola.Problem` takes it."""
        return None if self.max_blocks == "all" else int(self.max_blocks)


@dataclass(frozen=True)
class Experiment:
    """A scenario: the model, the devices, their channel and the schemes.

    Attributes
    ----------
    bandwidth_hz, local_steps : float, int
        B and M.
    fading : float
        Standard deviation of the logarithm of a device's efficiency from round to round.
    slack, message_s : float
        See `lola.devices.MqttDevices`.
    profile_s : float
        How long the profile is measured.
    """

    model: Model
    devices: tuple[Device, ...]
    schemes: tuple[Scheme, ...]
    bandwidth_hz: float
    local_steps: int
    seed: int
    fading: float
    slack: float
    message_s: float
    profile_s: float

    def efficiency(self, step: int) -> np.ndarray:
        """Bit/s/Hz of each device in a round, (K,): the same for every scheme."""
        mean = np.array([device.efficiency for device in self.devices])
        return mean * np.exp(self.fading * np.random.default_rng([self.seed, step]).standard_normal(len(mean)))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def load(path: Path) -> Experiment:
    """Read a scenario.

    Raises
    ------
    ScenarioError
        If it is none, or its quotas exceed this machine.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"{path}: a scenario in TOML was wanted: {error}; see bench/testbed/full.toml") from None
    return of_dict(data, str(path))


def of_dict(data: dict[str, Any], where: str = "the scenario") -> Experiment:
    """Make an experiment of what `tomllib` read, or of its own `to_dict`."""
    tables = {"model", "devices", "schemes"}
    wanted = {field.name for field in fields(Experiment)}
    _same_keys(where, data, wanted, wanted)
    model = _part(Model, f"{where}: [model]", data["model"])
    devices = tuple(_part(Device, f"{where}: [[devices]]", entry) for entry in _listed(where, data, "devices"))
    schemes = tuple(_part(Scheme, f"{where}: [[schemes]]", entry) for entry in _listed(where, data, "schemes"))
    rest = {name: data[name] for name in wanted - tables}
    for name, value in rest.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ScenarioError(f"{where}: {name} must be a number from 0 on, got {value!r}")
    experiment = Experiment(model=model, devices=devices, schemes=schemes, **rest)
    _check(where, experiment)
    return experiment


def check_cores(experiment: Experiment, cores: int) -> None:
    """Refuse quotas that a machine cannot keep."""
    together = sum(device.speed for device in experiment.devices)
    if together > _MOST_CORES * cores:
        raise ScenarioError(
            f"the devices' speeds must add up to at most {_MOST_CORES * cores:.3g} of this machine's {cores} cores, "
            f"got {together:.3g}; lower them, or nothing that is predicted can hold"
        )


def _check(where: str, experiment: Experiment) -> None:
    layers = experiment.model.layers
    names = [device.name for device in experiment.devices]
    if len(set(names)) != len(names) or not names:
        raise ScenarioError(f"{where}: [[devices]] must have different names, got {', '.join(names) or 'none'}")
    for device in experiment.devices:
        if not 0 < device.speed <= 1 or not device.efficiency > 0 or not 1 <= device.holds <= layers:
            raise ScenarioError(
                f"{where}: device {device.name} must have a speed in (0, 1], a positive efficiency and hold 1 to "
                f"{layers} blocks; got {device.speed}, {device.efficiency} and {device.holds}"
            )
    if len({scheme.name for scheme in experiment.schemes}) != len(experiment.schemes) or not experiment.schemes:
        raise ScenarioError(f"{where}: [[schemes]] must have different names, and there must be one")
    for scheme in experiment.schemes:
        if scheme.method not in METHODS:
            raise ScenarioError(
                f"{where}: scheme {scheme.name} must be of a method of {', '.join(METHODS)}; got {scheme.method!r}"
            )
        if scheme.max_blocks != "all" and (not isinstance(scheme.max_blocks, int) or scheme.max_blocks < 1):
            raise ScenarioError(
                f'{where}: max_blocks of scheme {scheme.name} must be from 1 on, or "all"; got {scheme.max_blocks!r}'
            )


def _part(kind: type[_Part], where: str, entry: Any) -> _Part:
    if not isinstance(entry, dict):
        raise ScenarioError(f"{where} must be a table, got {entry!r}")
    optional = {"vocabulary", "max_blocks", "memory_limits"}
    names = {field.name for field in fields(kind)}
    _same_keys(where, entry, names, names - optional)
    for field in fields(kind):
        if field.name in entry and field.name != "max_blocks":
            wanted = {"int": int, "float": (int, float), "str": str, "bool": bool}[str(field.type)]
            value = entry[field.name]
            if not isinstance(value, wanted) or (isinstance(value, bool) and field.type != "bool"):
                raise ScenarioError(f"{where}: {field.name} must be of type {field.type}, got {value!r}")
    return kind(**entry)


def _same_keys(where: str, table: dict[str, Any], known: set[str], needed: set[str]) -> None:
    if unknown := sorted(set(table) - known):
        raise ScenarioError(f"{where}: {unknown[0]} is no key; keys are {', '.join(sorted(known))}")
    if lacking := sorted(needed - set(table)):
        raise ScenarioError(f"{where}: {lacking[0]} is missing")


def _listed(where: str, data: dict[str, Any], name: str) -> list[Any]:
    if not isinstance(data[name], list | tuple):
        raise ScenarioError(f"{where}: {name} must be tables, such as [[{name}]]; got {data[name]!r}")
    return list(data[name])
