"""Checks of numbers and arrays that everything in lola shares; numpy alone."""

from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def real_array(name: str, value: ArrayLike, ndim: int) -> FloatArray:
    """Cast to a C-contiguous float64 array of `ndim` axes, or say what came instead."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill it first, with inf where a pair of a cost matrix is forbidden")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} must be a rectangular array of real numbers; numpy says: {error}") from None
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}; convert it to float64")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axis(es), got shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float64)


def sized(name: str, value: ArrayLike, like: tuple[str, FloatArray] | None) -> FloatArray:
    """Cast to a non-empty float64 vector, as long as the named one where one is given."""
    array = real_array(name, value, 1)
    if like is not None and array.shape != like[1].shape:
        raise ValueError(f"{name} must have {like[1].shape[0]} entries, as many as {like[0]}; got {array.shape[0]}")
    if array.shape[0] == 0:
        raise ValueError(f"{name} is empty; at least one entry is needed")
    return array


def refuse(name: str, array: FloatArray, bad: BoolArray, wanted: str) -> NoReturn:
    """Raise the error that names the first bad entry."""
    first = int(np.argmax(bad))
    raise ValueError(
        f"{name} must be finite and {wanted}, got {array[first]} at index {first} ({int(bad.sum())} such in all); "
        "correct or leave out that entry"
    )


def vector(
    name: str, value: ArrayLike, like: tuple[str, FloatArray] | None = None, *, positive: bool = True
) -> FloatArray:
    """Cast to a finite float64 vector that is > 0 (or ≥ 0), as long as the named one where one is given."""
    array = sized(name, value, like)
    bad = ~(((array > 0) if positive else (array >= 0)) & (array < np.inf))
    if bad.any():
        refuse(name, array, bad, "> 0" if positive else ">= 0")
    return array


def per_block(name: str, value: ArrayLike, n_blocks: int) -> ArrayLike:
    """Repeat a single number for every block; leave anything else for `vector` to judge."""
    return np.full(n_blocks, real_array(name, value, 0)) if np.ndim(value) == 0 else value


def positive_number(name: str, value: object) -> float:
    """Return `value` as a float, or say why it is not a finite positive number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}: {value!r}")
    number = float(value)
    if not (0 < number < np.inf):
        raise ValueError(f"{name} must be finite and > 0, got {number}")
    return number


def positive_integer(name: str, value: object) -> int:
    """Return `value` as an int ≥ 1, or say why it is not one."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}: {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)
