"""The command ``lola``: its parser, and how it ends. Only the standard library is imported before a command runs."""

import argparse
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

from lola.cli import (
    certificates,
    device,
    docs,
    export,
    horizon,
    profile,
    ranks,
    schedule,
    serve,
    simulate,
    split,
    train,
    verify,
)
from lola.cli.common import Exit

_COMMANDS = {
    "schedule": (schedule, "decide who takes which block, with how much bandwidth"),
    "split": (split, "cut a model over a chain of clients: who takes which modules, in which order"),
    "horizon": (horizon, "decide round by round whether to fine-tune a model or to serve with it"),
    "verify": (verify, "prove what was saved again, from the file alone: a schedule, a chain, a plan or ranks"),
    "profile": (profile, "measure or estimate what each depth of a model costs"),
    "ranks": (ranks, "decide how many ranks of LoRA each block gets, by a budget or a deadline"),
    "simulate": (simulate, "compare methods over many random rounds; nothing is trained"),
    "train": (train, "fine-tune a text classifier over a simulated fleet (needs lola-deft[train])"),
    "serve": (serve, "fine-tune over real devices, behind an MQTT broker (needs lola-deft[train,devices])"),
    "device": (device, "take part in a run that lola serve serves (needs lola-deft[train,devices])"),
    "certificates": (certificates, "say who may take part: an authority, certificates, a broker's configuration"),
    "export": (export, "take a trained model home, for PEFT or for transformers alone"),
    "docs": (docs, "read the pages that docstrings cite"),
}


# argparse takes these for options.
# In words, as argparse is not; and what the ends of options' names say of units.
_PLAIN = {"float": "plain number", "int": "whole number"}
_UNITS = {"hz": "hertz, such as 20e6 for 20 MHz", "s": "seconds", "db": "decibels"}
_WITH_UNIT = re.compile(r"argument --[\w-]+-(hz|s|db): .*wanted, got ")
_NEGATIVE_LIST = re.compile(r"-[\d.][\d.eE+,-]*")


class _Parser(argparse.ArgumentParser):
    """argparse, but bad usage ends with 64, because 2 says that a problem is infeasible."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Let a list that begins with a negative number, as in ``--snr-db -5,0``, follow its option after a space."""
        joined: list[str] = []
        for argument in sys.argv[1:] if args is None else args:
            if _NEGATIVE_LIST.fullmatch(argument) and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
                joined[-1] += f"={argument}"
            else:
                joined.append(argument)
        options, unknown = super().parse_known_args(joined, namespace)
        if unknown and self._subparsers is None:  # of a command: its own usage helps, not that of all commands
            from lola.solvers.checks import meant

            hint = meant(unknown[0].split("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """Say how the command is called and what is wrong, a number's unit included."""
        message = re.sub(r"invalid (float|int) value: ", lambda m: f"a {_PLAIN[m[1]]} was wanted, got ", message)
        if unit := _WITH_UNIT.match(message):
            message += f"; write {_UNITS[unit[1]]}, without the unit"
        self.print_usage(sys.stderr)
        self.exit(Exit.BAD_INPUT, f"{self.prog}: {_plain(message)}\n")


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from lola import __version__

        print(f"lola {__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lola", description="Schedule rounds of cooperative fine-tuning, with proof of optimality.")
    parser.add_argument(
        "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="print lola's version and exit"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parser.set_defaults(verbose=False)
    for name, (command, summary) in _COMMANDS.items():
        subparser = commands.add_parser(name, help=summary)
        subparser.add_argument(
            "-v",
            "--verbose",
            action="store_true",
            default=argparse.SUPPRESS,
            help="say on standard error what is read, solved, verified and written, and when; give errors' tracebacks",
        )
        subparser.set_defaults(run=command.run)
        command.add_arguments(subparser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, one of `Exit`."""
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # what its encoding lacks, as standard error does
        parser = _parser()
        if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
            from argcomplete import autocomplete

            autocomplete(parser)
        options = parser.parse_args(arguments)
        level = "debug" if options.verbose else getattr(options, "log", None)
        with nullcontext() if level is None else _said_aside(level):
            return _run(options)
    except KeyboardInterrupt as stop:
        return _end(Exit.INTERRUPTED, "; ".join(["interrupted", *map(str, stop.args)]))


def _run(options: argparse.Namespace) -> Exit:
    """Run a command; what a user can mend becomes a line and a code, and anything else is a bug's traceback."""
    from lola.solvers.errors import InfeasibleError, LolaError, TimeLimitError, VerificationError

    try:
        try:
            with _notes_in_lines():
                options.run(options)
            sys.stdout.flush()
        except (LolaError, OSError, ImportError):
            if options.verbose:
                import logging

                logging.getLogger("lola").debug("stopped", exc_info=True)
            raise
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE_CLOSED
    except VerificationError as error:
        return _end(Exit.NOT_VERIFIED, f"not verified: {error}")
    except InfeasibleError as error:
        return _end(Exit.INFEASIBLE, f"infeasible: {error}")
    except TimeLimitError as error:
        return _end(Exit.TIME_LIMIT, f"out of time: {error}")
    except OSError as error:
        return _end(Exit.BAD_INPUT, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (LolaError, ImportError) as error:
        return _end(Exit.BAD_INPUT, str(error))
    return Exit.OK


@contextmanager
def _said_aside(level: str) -> Iterator[None]:
    """Write what lola logs, from a level on, to standard error."""
    import logging

    class Plain(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return _plain(super().format(record))

    class Aside(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(self.format(record), file=sys.stderr)  # whatever that is by then: a live table's, too

    handler = Aside()
    handler.setFormatter(Plain("lola: %(relativeCreated).0f ms: %(message)s"))
    logger = logging.getLogger("lola")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def _notes_in_lines() -> Iterator[None]:
    """Write what is not plausible in a line each, once, even where no solution follows."""
    from lola.plausibility import PlausibilityWarning

    said = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", PlausibilityWarning)
        show = warnings.showwarning

        def say(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, PlausibilityWarning):
                show(message, category, *where, **more)
            elif str(message) not in said:
                said.add(str(message))
                print(_plain(f"lola: note: {message}"), file=sys.stderr)

        warnings.showwarning = say
        yield


def _end(code: Exit, text: str) -> Exit:
    print(_plain(f"lola: {text}"), file=sys.stderr)
    return code


def _plain(text: str) -> str:
    from lola.files.formats import plain

    return plain(text)


if __name__ == "__main__":
    sys.exit(main())
