"""The folder of a run of ``lola train``: what lies where, and whose run it is."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from lola.adapters.checkpoint import checkpoints
from lola.files.folders import check_replaceable
from lola.files.formats import FormatError, check_keys, check_outputs, read_json, write_json
from lola.tasks.settings import TrainingSettings

MODEL = "model"
_SETTINGS, _SETTINGS_FORMAT = "settings.json", "lola-training-settings"
_SUMMARY, _SUMMARY_FORMAT = "summary.json", "lola-training"


def check_folder(out: Path, settings: TrainingSettings) -> None:
    """Refuse a folder that holds another run, or something else.

    Raises
    ------
    FormatError, ValueError
        Naming the folder, and in what its run differs.
    OSError
        If the folder cannot be read.
    """
    check_outputs([out], [])
    if not (out / _SETTINGS).is_file():
        if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
            raise FormatError(f"{out}: holds something else than a run of lola train; name a new folder")
        return
    check_replaceable(out / MODEL)
    if not checkpoints(out):  # nothing of that run is left to protect
        return
    there, now = read_settings(out).recorded(), settings.recorded()
    differing = sorted(name for name in now if there[name] != now[name])
    if differing:
        changes = ", ".join(f"{name} ({there[name]}, now {now[name]})" for name in differing)
        raise FormatError(f"{out}: holds another run, which differs in {changes}; name a new folder")


def write_settings(out: Path, settings: TrainingSettings) -> None:
    """Note whose run a folder holds."""
    write_json(out / _SETTINGS, _SETTINGS_FORMAT, settings.recorded())


def read_settings(out: Path) -> TrainingSettings:
    """Return the settings of the run in a folder; those that an older one does not name are what is usual.

    Raises
    ------
    FormatError, ValueError, OSError
        If they cannot be read.
    """
    there = read_json(out / _SETTINGS, _SETTINGS_FORMAT)
    needed = [field.name for field in fields(TrainingSettings) if field.default is MISSING]
    check_keys(str(out / _SETTINGS), there, needed, [field.name for field in fields(TrainingSettings)])
    return TrainingSettings(**there)


def write_summary(out: Path, summary: dict[str, Any]) -> None:
    """Note how a run ended."""
    write_json(out / _SUMMARY, _SUMMARY_FORMAT, summary)


def recorded_profile(out: Path, settings: TrainingSettings) -> str:
    """Return in words where a run's profile comes from: as its summary says, if it has ended.

    Raises
    ------
    FormatError, OSError
        If there is a summary that cannot be read.
    """
    if (out / _SUMMARY).is_file():
        return str(read_json(out / _SUMMARY, _SUMMARY_FORMAT).get("profile"))
    return Path(settings.profile).name if settings.profile else "estimated for the model"
