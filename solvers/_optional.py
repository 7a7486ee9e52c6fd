"""Solvers that somebody else wrote: packages of the extra ``oracle``, imported when they are used."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from types import ModuleType
from typing import TypeVar

Result = TypeVar("Result")


def interruptible(solve: Callable[[], Result], stop: Callable[[], object]) -> Result:
    """Run a solver so that Ctrl-C ends it: SCIP's own handler would take the signal, and call what it has a result."""
    with ThreadPoolExecutor(1) as beside:
        outcome = beside.submit(solve)
        try:
            return outcome.result()
        except KeyboardInterrupt:
            while not outcome.done():  # it may not have begun when it is told to stop
                stop()
                wait([outcome], timeout=0.1)
            raise


def optional(name: str) -> ModuleType:
    """Import an optional package, or say which extra brings it."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise ImportError(
            f"this oracle needs {name.split('.')[0]}: install lola-deft with its extra 'oracle'"
        ) from None
