"""What the commands share. Only the standard library is imported before one of them runs."""

import os
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields
from enum import IntEnum
from importlib.util import find_spec
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.table import Table

    from lola.files.formats import StrPath

_Settings = TypeVar("_Settings")
Progress = Callable[[str, int, int], None]
# What SCIP proves in a minute, as measured: the README's costs.
MISOCP_SIZE = "18 devices and 9 blocks"
# Narrower terminals than this would break the tables; pipes and files get it too.
_MIN_WIDTH = 100
# What the extras of commands bring, by the names under which it is imported.
_TORCH = ("torch", "transformers", "peft", "huggingface_hub", "safetensors", "filelock", "scipy")
EXTRAS = {"plot": ("matplotlib",), "torch": _TORCH, "train": (*_TORCH, "sklearn")}
STANDARD_OUTPUT = "-"


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


def add_max_blocks(parser: ArgumentParser, default: int | None = None) -> None:
    """Declare the option that lets a device take several blocks; without a default, the scenario has it."""
    usual = "the scenario's, which is 1 unless it says otherwise" if default is None else default
    parser.add_argument(
        "--max-blocks",
        type=_block_limit,
        default=default,
        metavar="N|all",
        help=f"let a device take up to N consecutive blocks, or any number of them (default: {usual})",
    )


def _block_limit(text: str) -> "int | Literal['all']":
    if text == "all":
        return "all"
    if text.isascii() and text.isdigit() and int(text):
        return int(text)
    from lola.solvers.checks import shown

    raise ArgumentTypeError(f'a whole number from 1 on was wanted, or "all", got {shown(text)}')


def wait_quietly() -> None:
    """Let threads of torch sleep while they wait; call this before it is imported.

    Those that spin lose the processor to whatever else runs, just when they need it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def set_up_torch(threads: int | None) -> None:
    """Fix the threads, and let transformers keep to itself what it has to say of a new head: it is no news here."""
    from lola.models.loading import import_transformers
    from lola.profiling.machine import thread_count

    transformers = import_transformers()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if threads is not None:
        import torch

        torch.set_num_threads(thread_count(threads))


def need_extras(*extras: str) -> None:
    """Refuse to begin where packages of these extras are missing, and name them all at once.

    Raises
    ------
    ImportError
        Naming the packages, and what to install.
    """
    needed = [name for extra in extras for name in EXTRAS[extra]]
    missing = [name for name in needed if not _is_there(name)]
    if missing:
        raise ImportError(
            f"this needs packages that are missing, {', '.join(missing)}: install lola-deft[{','.join(extras)}]"
        )


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ImportError:
        return False


@contextmanager
def naming_options(*same: str, **other: str) -> Iterator[None]:
    """Let errors name the option where the library names the argument that it became.

    Parameters
    ----------
    same : str
        Arguments whose option has the same name, written with dashes.
    other : str
        The option of each other argument.
    """
    from lola.solvers.errors import LolaTypeError, LolaValueError

    option_of = {name: f"--{name.replace('_', '-')}" for name in same} | other
    try:
        yield
    except (LolaValueError, LolaTypeError) as error:
        if type(error) not in (LolaValueError, LolaTypeError):  # of a file, which has keys of its own
            raise
        text = str(error)
        for name, option in option_of.items():
            text = re.sub(rf"(?<![\w-]){name}\b", option, text, count=1)
        raise type(error)(text) from error


@contextmanager
def data_output(path: str | None) -> "Iterator[StrPath | TextIO | None]":
    """Give the file for the data; where that is standard output, what is printed goes to standard error meanwhile."""
    if path != STANDARD_OUTPUT:
        yield path
        return
    stdout = sys.stdout
    if isinstance(stdout, TextIOWrapper):
        stdout.reconfigure(encoding="utf-8", newline="\n")  # as in a file
    with redirect_stdout(sys.stderr):
        yield stdout


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

    check_outputs([None if data == STANDARD_OUTPUT else data, figure], inputs)
    if figure:
        from lola.figures.picture import figure_format

        if figure == STANDARD_OUTPUT:
            from lola.solvers.errors import LolaValueError

            raise LolaValueError("--figure must be a file, got '-'; name one, such as out.png")
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
