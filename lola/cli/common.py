"""What the commands share. Only the standard library is imported before one of them runs."""

import os
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.table import Table

    from lola.files.formats import StrPath

_Settings = TypeVar("_Settings")
Progress = Callable[[str, int, int], None]
# What SCIP proves in a minute, as measured: the README's costs.
MISOCP_SIZE = "18 devices and 9 blocks"
# Narrower terminals than this would break the tables; pipes and files get it too.
_MIN_WIDTH = 100


class Exit(IntEnum):
    """How a command ends."""

    OK = 0
    NOT_VERIFIED = 1
    INFEASIBLE = 2
    TIME_LIMIT = 3
    BAD_INPUT = 64
    INTERRUPTED = 130
    PIPE_CLOSED = 141


def settings_of(kind: type[_Settings], options: Namespace) -> _Settings:
    """Return a settings dataclass whose fields are the options of the same names."""
    values: dict[str, Any] = {field.name: getattr(options, field.name) for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**values)


def wait_quietly() -> None:
    """Let threads of torch sleep while they wait; call this before it is imported.

    Those that spin lose the processor to whatever else runs, just when they need it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def laid_out(*tables: "Table") -> str:
    """Return tables as text for this terminal, an empty line between two."""
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, _MIN_WIDTH)
    with console.capture() as text:
        for number, table in enumerate(tables):
            if number:
                console.print()
            console.print(table)
    return text.get()


def check_files(data: str | None, figure: str | None, inputs: "Iterable[StrPath | None]") -> None:
    """Refuse, before anything is computed, outputs that could not be written, or would overwrite something."""
    from lola.files.formats import check_outputs

    check_outputs([data, figure], inputs)
    if figure:
        from lola.figures.picture import figure_format

        figure_format(figure)


@contextmanager
def heeded_interruption() -> Iterator[Callable[[], None]]:
    """Give a function that raises Ctrl-C again where a library has swallowed it, in a callback or an import."""
    import signal

    heard = []

    def hear(number: int, _: object) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    def heed() -> None:
        if heard:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield heed
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress_bar(stage: str) -> Iterator[Progress]:
    """Show on a terminal how far a computation is whose files are written after it; Ctrl-C says that none was."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    try:
        with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(stage)

            def report(stage: str, done: int, total: int) -> None:
                bar.update(task, description=stage, completed=done, total=total)

            yield report
    except KeyboardInterrupt:
        raise KeyboardInterrupt("no file was written") from None
