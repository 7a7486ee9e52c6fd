"""The one decorator that compiles every kernel."""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

# Set LOLA_NUMBA_CACHE=0 to compile afresh in every process.
_CACHE = os.environ.get("LOLA_NUMBA_CACHE", "1") != "0"

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile `function` for raw C-contiguous arrays.

    ``fastmath`` stays off: with it ``isinf(inf)`` is false, and infinity means *forbidden* here. The numpy error model
    makes a division by zero yield infinity, which also lets the compiler vectorise it. numba's cache sees the kernel's
    own file alone, so whatever a kernel calls stands in the same file.
    """
    options: Any = {"fastmath": False, "error_model": "numpy", "nogil": True}
    try:
        return cast(Function, njit(cache=_CACHE, **options)(function))
    except RuntimeError:  # no folder that a cache could be written to
        return cast(Function, njit(**options)(function))
