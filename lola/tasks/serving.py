"""A training run whose devices are machines of their own: the server's side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from lola.devices.address import BrokerAddress
from lola.devices.register import Register
from lola.devices.serving import ServedDevices
from lola.files.formats import FormatError, block_limit, check_keys, read_json, write_json
from lola.fleet import Fleet
from lola.models.loading import import_transformers
from lola.problem import Problem
from lola.tasks.announcement import RunAnnouncement
from lola.tasks.dealing import training_data
from lola.tasks.glue import score
from lola.tasks.settings import TrainingSettings
from lola.tasks.training import Training, adapted_classifier, as_trained, check_method, make_session, profile_of

_DEVICES, _DEVICES_FORMAT = "devices.json", "lola-devices"


def prepare_serving(
    settings: TrainingSettings,
    address: BrokerAddress,
    run: str,
    *,
    folder: Path,
    say: Callable[[str], None],
    names: Iterable[str] = (),
    slack: float = 1.5,
    patience_s: float = 600.0,
    longest_s: float = 3600.0,
) -> Training:
    """Read, load, adapt, and say what devices must know; `ServedDevices` answer the session's plans.

    Parameters
    ----------
    settings : TrainingSettings
        Its fleet, channel and failure are not looked at: devices say what they are. Its data are what is scored.
    address : BrokerAddress
    run : str
    folder : Path
        The run's. The run there, if any, goes on, and its devices keep their numbers.
    say : callable
        See `ServedDevices`.
    names : iterable of str
        Devices that the first round waits for; they are numbered in this order.
    slack, patience_s, longest_s : float
        See `MqttDevices`.

    Returns
    -------
    Training

    Raises
    ------
    FormatError, ValueError, OSError
        If a file, the model, the data or a certificate cannot be used, or they do not fit each other.
    ImportError
        If a package of the extras ``train`` and ``devices`` is missing.
    """
    needed, recorded = list(names), recorded_devices(folder)
    numbered = [*recorded, *(name for name in needed if name not in recorded)]
    Register(numbered, "")  # what is wrong with names is better said before a model is read
    import_transformers()
    score(settings.task, [0], [0])  # a missing package is better missed now than at the first evaluation
    data = training_data(settings)
    classifier, depths = adapted_classifier(settings)
    profile = as_trained(profile_of(settings, classifier), settings, depths)
    longest = block_limit("max_blocks", settings.max_blocks)
    nobody_yet = Fleet.sample(profile.n_blocks, seed=0)  # each round's fleet is of those who are there
    problem = Problem(profile, nobody_yet, settings.bandwidth_hz, settings.local_steps, max_blocks=longest)
    check_method(settings, problem)
    devices = ServedDevices(
        depths,
        address,
        run,
        lambda identity: RunAnnouncement.of_run(identity, settings, profile).to_bytes(),
        say,
        names=numbered,
        needed=needed,
        slack=slack,
        patience_s=patience_s,
        longest_s=longest_s,
    )
    session = make_session(settings, depths, classifier, data, problem, devices=devices, folder=folder)
    notes = [
        f"data: {data.source}; {len(data.dev)} rows to score",
        f"profile: {profile.provenance or 'of unknown provenance'}",
    ]
    if session.version:
        notes.append(f"goes on from round {session.version} in {folder}")
    return Training(session, tuple(notes), classifier)


def recorded_devices(folder: Path) -> list[str]:
    """Return the names of a run's devices, by their numbers; none if there is no such run.

    Raises
    ------
    FormatError, OSError
        If they cannot be read.
    """
    path = folder / _DEVICES
    if not path.is_file():
        return []
    there = read_json(path, _DEVICES_FORMAT)
    check_keys(str(path), there, ["names"])
    names = there["names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError(f"{path}: names must be a list of the devices' names; take it from a copy of the run")
    return names


def record_devices(folder: Path, names: Iterable[str]) -> None:
    """Note which device has which number: its batches follow from it, when the run goes on, too."""
    write_json(folder / _DEVICES, _DEVICES_FORMAT, {"names": list(names)})
