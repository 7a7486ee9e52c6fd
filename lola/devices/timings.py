"""What a round was to take and what it took, by block: the file ``timings.csv`` of a run."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lola.devices.exchange import Exchange
from lola.files.formats import read_text, write_atomically
from lola.solution import Schedule

FILE = "timings.csv"


@dataclass(frozen=True)
class BlockTiming:
    """What one block of a round was to take, and what it took, in seconds by the server's clock.

    Attributes
    ----------
    version : int
        Of the model after the round.
    depth : int
    device : str
        Its name.
    compute_s, upload_s, round_s : float
        As scheduled; ``round_s`` is the same for all blocks of a round.
    was_compute_s, was_upload_s, was_round_s : float
        As measured, and NaN where word of it never came. A round is measured from the publication of its tasks to the
        last answer.
    """

    version: int
    depth: int
    device: str
    compute_s: float
    was_compute_s: float
    upload_s: float
    was_upload_s: float
    round_s: float
    was_round_s: float


def timings_of(version: int, schedule: Schedule, exchanges: Iterable[Exchange]) -> list[BlockTiming]:
    """Put what was scheduled beside what was measured, in the order of the depths."""
    done = list(exchanges)
    finished = [math.nan if one.answered_s is None else one.answered_s for one in done]
    rows = [
        BlockTiming(
            version,
            depth,
            one.name,
            float(schedule.compute_s[depth - 1]),
            _between(one.computing_s, one.uploading_s),
            float(schedule.upload_s[depth - 1]),
            _between(one.uploading_s, one.answered_s),
            schedule.latency_s,
            max(finished) if all(end == end for end in finished) else math.nan,
        )
        for one in done
        for depth in one.task.depths
    ]
    return sorted(rows, key=lambda row: row.depth)


def _between(start_s: float | None, end_s: float | None) -> float:
    return math.nan if start_s is None or end_s is None else end_s - start_s


class TimingsFile:
    """The file ``timings.csv`` of a run, one line a block and round; it goes on where the run does.

    Parameters
    ----------
    folder : Path
    version : int
        What the run goes on from: lines of later rounds, which will be run again, are left out, and so is one that was
        cut off.
    """

    def __init__(self, folder: Path, version: int) -> None:
        self._path = folder / FILE
        names = [field.name for field in fields(BlockTiming)]
        kept = []
        if self._path.is_file():
            rows = csv.reader(read_text(self._path).splitlines()[1:])
            kept = [row for row in rows if len(row) == len(names) and row[0].isdigit() and int(row[0]) <= version]
        write_atomically(self._path, "".join(f"{','.join(row)}\n" for row in [names, *kept]))

    def append(self, timings: Iterable[BlockTiming]) -> None:
        """Write the blocks of one round."""
        with self._path.open("a", encoding="utf-8", newline="") as file:
            for timing in timings:
                values = ("" if value != value else value for value in asdict(timing).values())
                csv.writer(file, lineterminator="\n").writerow(values)

    def measured_s(self) -> float:
        """Return how long all rounds took whose every answer came."""
        rows = csv.DictReader(read_text(self._path).splitlines())
        return sum({row["version"]: float(row["was_round_s"] or 0) for row in rows}.values())
