"""The one decorator that compiles every kernel."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from platformdirs import user_cache_dir

_OPTIONS: Any = {"fastmath": False, "error_model": "numpy", "nogil": True}
_CONFIG: Any = numba.config

Function = TypeVar("Function", bound=Callable[..., Any])


def _cache_folder() -> str | None:
    """Where compiled code is kept: numba's own setting, or the user's cache folder; None to compile in every process.

    In numba's usual place, beside the source, files would outlive an uninstalled lola and shadow an editable one.
    """
    if os.environ.get("LOLA_NUMBA_CACHE") == "0":
        return None
    folder: str = _CONFIG.CACHE_DIR or user_cache_dir("lola", appauthor=False)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


_FOLDER = _cache_folder()


# What compiled code was made from: a kernel may call those of any other file here, and read their constants.
_SOURCES = tuple(
    (path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(Path(__file__).parent.glob("*.py"))
)


class _Cache(FunctionCache):
    """numba's cache, but it sees all files of this folder, and compiles again what it cannot read.

    A full disk or a lost machine may leave a part of a file.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _SOURCES  # numba would look at the kernel's own file alone

    def load_overload(self, *arguments: Any) -> Any:
        """Load compiled code; None where there is none, or none that can be read."""
        try:
            return super().load_overload(*arguments)
        except Exception:  # a damaged pickle may raise anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, *arguments: Any) -> None:
        """Save compiled code, unless the disk is full: the answer needs no cache."""
        with suppress(OSError):
            super().save_overload(*arguments)


def kernel(function: Function) -> Function:
    """Compile `function` for raw C-contiguous arrays.

    ``fastmath`` stays off: with it ``isinf(inf)`` is false, and infinity means *forbidden* here. The numpy error model
    makes a division by zero yield infinity, which also lets the compiler vectorise it.
    """
    compiled: Any = numba.njit(**_OPTIONS)(function)
    if _FOLDER is not None and not _CONFIG.DISABLE_JIT:
        theirs, _CONFIG.CACHE_DIR = _CONFIG.CACHE_DIR, _FOLDER  # read while the cache is made
        try:
            compiled._cache = _Cache(function)
        finally:
            _CONFIG.CACHE_DIR = theirs
    return cast(Function, compiled)


def machine_code(function: Function, *types: Any) -> Function:
    """Compile a kernel for arguments of these numba types, and spare each call the 0.1 µs of numba's look at them.

    So nobody looks at them: whoever calls must have checked that they are such arrays.
    """
    return function if _CONFIG.DISABLE_JIT else cast(Function, cast(Any, function).compile(types))
