"""The one decorator that compiles every kernel."""

import os
from collections.abc import Callable
from typing import Any

from numba import njit

# Set LOLA_NUMBA_CACHE=0 to compile afresh in every process.
_CACHE = os.environ.get("LOLA_NUMBA_CACHE", "1") != "0"


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` for raw C-contiguous arrays.

    ``fastmath`` stays off: with it ``isinf(inf)`` is false, and infinity means *forbidden* here. The numpy error model
    makes a division by zero yield infinity, which also lets the compiler vectorise it. numba's cache sees the kernel's
    own file alone, so whatever a kernel calls stands in the same file.
    """
    options = {"fastmath": False, "error_model": "numpy", "nogil": True}
    try:
        return njit(cache=_CACHE, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder that a cache could be written to
        return njit(**options)(function)  # type: ignore[no-any-return]
