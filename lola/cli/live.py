"""What a round that is on looks like: a table that follows it on a terminal, and lines elsewhere."""

import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lola.cli.tables import seconds
from lola.devices import BlockTiming, KnownDevice, timings_of
from lola.files.formats import plain

if TYPE_CHECKING:
    from lola.adapters import CooperativeSession, RoundRecord
    from lola.devices import ServedDevices

_PER_SECOND = 4


class RoundsShown:
    """The rounds of a session, as they go on.

    Parameters
    ----------
    session : CooperativeSession
    devices : ServedDevices
        The session's.
    rounds : int
        Until which it runs.
    console : rich.console.Console, optional
        Standard error if left out.
    """

    def __init__(
        self, session: "CooperativeSession", devices: "ServedDevices", rounds: int, console: Console | None = None
    ) -> None:
        self.session, self.devices, self.rounds = session, devices, rounds
        self._console = Console(stderr=True) if console is None else console
        self._last = ""

    @contextmanager
    def following(self) -> Iterator[None]:
        """Keep the table up to date meanwhile, on a terminal."""
        if not self._console.is_terminal:
            yield
            return
        to_terminal = sys.stdout.isatty()  # then lines go above the table, else where they were sent
        with Live(
            console=self._console,
            get_renderable=self._table,
            refresh_per_second=_PER_SECOND,
            redirect_stdout=to_terminal,
        ):
            yield

    def ended(self, record: "RoundRecord", timings: list[BlockTiming]) -> None:
        """Say what a round was to take, and what it took."""
        scores = "".join(f", {name} {value:.4f}" for name, value in record.scores.items())
        took_s = timings[0].was_round_s if timings else math.nan
        self._last = f"loss {record.loss:.4f}{scores}; {_pair(record.latency_s, took_s)}"
        line = f"round {record.version}: {self._last}"
        if record.refused:
            line += f"; {record.missing} blocks missing: {record.refused}"
        print(plain(line), flush=True)
        if self._console.is_terminal:
            return
        for name, blocks in _by_device(timings).items():
            one = blocks[0]
            depths = ", ".join(str(block.depth) for block in blocks)
            compute, upload = _pair(one.compute_s, one.was_compute_s), _pair(one.upload_s, one.was_upload_s)
            print(plain(f"  {name}, depth {depths}: compute {compute}; upload {upload}"), flush=True)

    def _table(self) -> Table:
        schedule = self.session.schedule
        timings = [] if schedule is None else timings_of(self.session.version + 1, schedule, self.devices.progress)
        title = f"round {min(self.session.version + 1, self.rounds)} of {self.rounds}"
        if schedule is not None:
            title += f", {seconds(schedule.latency_s)} scheduled"
        if self._last:
            title += f"; the last: {self._last}"
        table = Table(box=None, pad_edge=False, header_style="bold", title=Text(title), title_justify="left")
        table.add_column("device", overflow="fold")
        table.add_column("state")
        for heading in ("depth", "compute\ns", "was", "upload\ns", "was"):
            table.add_column(heading, justify="right", no_wrap=True)
        by_device = _by_device(timings)
        for known in self.devices.devices():
            blocks = by_device.get(known.name, [])
            cells = [", ".join(str(block.depth) for block in blocks) or "-", *["-"] * 4]
            if blocks:
                one = blocks[0]
                values = (one.compute_s, one.was_compute_s, one.upload_s, one.was_upload_s)
                cells[1:] = ["-" if value != value else f"{value:.3f}" for value in values]
            table.add_row(Text(known.name), _state(known), *cells)
        return table


def _by_device(timings: Iterable[BlockTiming]) -> dict[str, list[BlockTiming]]:
    """Group the blocks of a round by who had them."""
    by_device: dict[str, list[BlockTiming]] = {}
    for timing in timings:
        by_device.setdefault(timing.device, []).append(timing)
    return by_device


def _state(known: KnownDevice) -> Text:
    state = known.status.state.value
    if known.gone:
        return Text(state, style="dim")
    if known.resting_until_s is not None:
        return Text(f"{state}, rests", style="yellow")
    return Text(f"{state}, not heard of" if known.suspect else state, style="yellow" if known.suspect else "")


def _pair(scheduled_s: float, was_s: float) -> str:
    """Write what was scheduled beside what was measured."""
    return f"{seconds(scheduled_s)}, {'not measured' if was_s != was_s else f'was {seconds(was_s)}'}"
