"""A part's JSON file, written after every run: a command that was stopped loses one, and goes on from the others."""

from __future__ import annotations

import json
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from report import machine

from lola.files.formats import write_atomically

PACKAGES = ("lola-deft", "torch", "transformers", "peft", "numpy")

Record = dict[str, Any]


def where() -> Record:
    """Return what numbers may hang on beside the settings."""
    versions = {name: version(name) for name in PACKAGES}
    return {"machine": machine(), "versions": versions, "date": time.strftime("%Y-%m-%d")}


def write(file: Path, record: Record) -> None:
    write_atomically(file, json.dumps(record, indent=1) + "\n")


class PartFile:
    """The runs of a part: those that the file has for these settings, and those that are added."""

    def __init__(self, file: Path, settings: Record) -> None:
        settings = json.loads(json.dumps(settings))
        before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        kept = before if before and agree(before, settings) else {"runs": [], "seconds": 0.0}
        self.file, self.record = file, kept | settings
        self._since = time.process_time()

    def lacks(self, **key: object) -> bool:
        """Whether no run is of this seed, task, arm …"""
        return not any(all(run[name] == value for name, value in key.items()) for run in self.record["runs"])

    def add(self, run: Record) -> None:
        """Write a run to the file, and the seconds of the processor that went by since the last."""
        now = time.process_time()
        self.record["runs"].append(run)
        self.record["seconds"] += now - self._since
        self._since = now
        self.record |= where()
        write(self.file, self.record)
        print(run, flush=True)


def agree(before: Record, now: Record) -> bool:
    """Whether runs of one setting are also those of the other: more seeds, or another task, only add runs."""

    def alike(old: Any, new: Any) -> bool:
        if isinstance(old, dict) and isinstance(new, dict):
            return all(alike(old[name], new[name]) for name in old.keys() & new.keys() - {"seeds"})
        return bool(old == new)

    return before["scale"].keys() == now["scale"].keys() and alike(before, now)


def whole_seeds(record: Record, kinds: int) -> Record:
    """Return a part without the seeds of a task of which not all kinds were run, and without tasks that have none."""
    counts = Counter((run.get("task"), run["seed"]) for run in record["runs"])
    runs = [run for run in record["runs"] if counts[run.get("task"), run["seed"]] == kinds]
    there = {run.get("task") for run in runs}
    tasks = {task: of for task, of in record.get("tasks", {}).items() if task in there}
    return record | {"runs": runs} | ({"tasks": tasks} if tasks else {})
