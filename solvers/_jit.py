"""The one decorator that compiles every kernel."""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from platformdirs import user_cache_dir

# Set LOLA_NUMBA_CACHE=0 to compile afresh in every process.
_CACHE = os.environ.get("LOLA_NUMBA_CACHE", "1") != "0"
_OPTIONS: Any = {"fastmath": False, "error_model": "numpy", "nogil": True}

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile `function` for raw C-contiguous arrays.

    ``fastmath`` stays off: with it ``isinf(inf)`` is false, and infinity means *forbidden* here. The numpy error model
    makes a division by zero yield infinity, which also lets the compiler vectorise it. numba's cache sees the kernel's
    own file alone, so whatever a kernel calls stands in the same file.
    """
    # In numba's usual place, beside the source, files would outlive an uninstalled lola and shadow an editable one.
    theirs = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = theirs or user_cache_dir("lola", appauthor=False)  # read while the decorator runs
    try:
        return cast(Function, numba.njit(cache=_CACHE, **_OPTIONS)(function))
    except (RuntimeError, OSError):  # nothing can be written there
        return cast(Function, numba.njit(**_OPTIONS)(function))
    finally:
        numba.config.CACHE_DIR = theirs
