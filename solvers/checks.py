"""Checks of numbers and arrays that everything in lola shares; numpy alone."""

import math
import reprlib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lola.solvers.errors import LolaTypeError, LolaValueError, VerificationError

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Array = TypeVar("Array", FloatArray, IntArray, BoolArray)

# Of numbers between these, no latency and no share of the spectrum overflows or loses digits to underflow, even where
# the smallest upload ends with the latest computation. So inside the solvers infinity means forbidden and nothing else.
SMALLEST, LARGEST = 1e-50, 1e50
# An entry of a cost matrix, such as a latency made of such numbers, may be as large as this.
LARGEST_COST = 1e200


class _Short(reprlib.Repr):
    """Python's own shortening, save that it has room for a name and never writes out thousands of digits."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() <= 512 else f"an integer of {x.bit_length()} bits"


_SHORT = _Short()


def shown(value: object) -> str:
    """Write a value from outside as an error may echo it: escaped, so that no terminal obeys it, and cut short."""
    return _SHORT.repr(value)


def meant(value: object, known: Iterable[str]) -> str:
    """Guess which of the known names was meant; nothing if none is near."""
    close = get_close_matches(str(value)[:100], known, n=1, cutoff=0.6)
    return f". Did you mean {close[0]!r}?" if close else ""


def expect(name: str, value: object, kind: type) -> None:
    """Refuse an argument of another type, such as a path where the thing to save belongs."""
    if not isinstance(value, kind):
        raise LolaTypeError(f"{name} must be a lola.{kind.__name__}, got {type(value).__name__}")


def require(holds: object, line: str, detail: str) -> None:
    """Raise `VerificationError` where something does not hold: the line of the check, then what is wrong."""
    if not holds:
        raise VerificationError(f"{line}: {detail}")


def check_array(line: str, name: str, value: object, dtype: type, size: int | tuple[int, ...] | None) -> None:
    """Require an array of a type, and of a length or shape where one is given; a vector where none is."""
    require(isinstance(value, np.ndarray), line, f"{name} must be an array, got {type(value).__name__}")
    assert isinstance(value, np.ndarray)
    require(value.dtype == dtype, line, f"{name} must be of {dtype.__name__}, got {value.dtype}")
    shape = size if isinstance(size, tuple) else (value.size if size is None else size,)
    require(value.shape == shape, line, f"{name} has shape {value.shape}, wanted {shape}")


def check_price(price: object) -> None:
    """Require a price that can be multiplied and added up."""
    sane = isinstance(price, int | float | np.floating) and 0 <= price <= LARGEST_COST
    require(sane, "price", f"must be finite and >= 0, got {price}; beyond {LARGEST_COST:g} it proves nothing")


def check_number(line: str, value: object) -> None:
    """Require a finite number where a certificate claims one."""
    sane = isinstance(value, int | float | np.integer | np.floating) and -np.inf < value < np.inf
    require(sane, line, f"a finite number was wanted, got {shown(value)}")


def frozen(array: Array) -> Array:
    """Return a read-only copy, so that a result cannot drift from the inputs it was proven for."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def real_array(name: str, value: ArrayLike, ndim: int) -> FloatArray:
    """Cast to a C-contiguous float64 array of `ndim` axes, or say what came instead."""
    if isinstance(value, np.ma.MaskedArray):
        raise LolaTypeError(
            f"{name} is a masked array; fill it first, with inf where a pair of a cost matrix is forbidden"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise LolaTypeError(f"{name} must be a rectangular array of real numbers; numpy says: {error}") from None
    if array.dtype.kind not in "iuf":
        raise LolaTypeError(f"{name} must hold real numbers, got dtype {array.dtype}; convert it to float64")
    if array.ndim != ndim:
        raise LolaValueError(f"{name} must have {ndim} axis(es), got shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float64)


def real_or_complex(name: str, value: ArrayLike, ndim: int) -> FloatArray | ComplexArray:
    """Cast to a C-contiguous float64 or complex128 array of `ndim` axes, or say what came instead."""
    try:
        dtype = np.asarray(value).dtype
    except ValueError:  # ragged, as `real_array` will say
        return real_array(name, value, ndim)
    if dtype.kind not in "iufc":
        raise LolaTypeError(
            f"{name} must hold real or complex numbers, got dtype {dtype}; convert it to float64 or complex128"
        )
    if dtype.kind != "c":
        return real_array(name, value, ndim)
    for part in (np.real(value), np.imag(value)):
        real_array(name, part, ndim)
    return np.ascontiguousarray(value, dtype=np.complex128)


def sized(name: str, value: ArrayLike, like: tuple[str, FloatArray] | None) -> FloatArray:
    """Cast to a non-empty float64 vector, as long as the named one where one is given."""
    array = real_array(name, value, 1)
    if like is not None and array.shape != like[1].shape:
        raise LolaValueError(f"{name} must have {like[1].shape[0]} entries, as many as {like[0]}; got {array.shape[0]}")
    if array.shape[0] == 0:
        raise LolaValueError(f"{name} is empty; at least one entry is needed")
    return array


def vector(
    name: str, value: ArrayLike, like: tuple[str, FloatArray] | None = None, *, positive: bool = True
) -> FloatArray:
    """Cast to a finite float64 vector that is > 0 (or ≥ 0), as long as the named one where one is given."""
    array = sized(name, value, like)
    inside = (array >= SMALLEST) & (array <= LARGEST)
    if not positive:
        inside |= array == 0
    if not inside.all():
        first = int(np.argmin(inside))
        wanted = "> 0" if positive else ">= 0"
        strange = " (zero or from 1e-50 to 1e50)" if not positive else " (from 1e-50 to 1e50)"
        raise LolaValueError(
            f"{name} must be finite and {wanted}{strange if 0 < array[first] < np.inf else ''}, got {array[first]} at "
            f"index {first} ({int((~inside).sum())} such in all); correct or leave out that entry"
        )
    return array


def per_block(name: str, value: ArrayLike, n_blocks: int) -> ArrayLike:
    """Repeat a single number for every block; leave anything else for `vector` to judge."""
    is_number = not isinstance(value, Sequence) and np.ndim(value) == 0
    return np.full(n_blocks, real_array(name, value, 0)) if is_number else value


def subcarriers_in(bandwidth: float, subcarrier: float) -> int:
    """Whole subcarriers that fit into the spectrum, forgiving the rounding of the quotient."""
    return math.floor(bandwidth / subcarrier * (1 + 1e-13))


def real_number(name: str, value: object) -> float:
    """Return `value` as a float, or say what came in a number's place."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise LolaTypeError(f"{name} must be a number, got {type(value).__name__}: {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        return np.inf


def positive_number(name: str, value: object) -> float:
    """Return `value` as a float, or say why it is not a finite positive number."""
    number = real_number(name, value)
    if not (0 < number < np.inf):
        raise LolaValueError(f"{name} must be finite and > 0, got {number}")
    if not SMALLEST <= number <= LARGEST:
        raise LolaValueError(f"{name} must lie between 1e-50 and 1e50, got {number}; use another unit")
    return number


def nonnegative_number(name: str, value: object) -> float:
    """Return `value` as a float, or say why it is neither zero nor a positive number of usual size."""
    number = real_number(name, value)
    if not 0 <= number < np.inf:
        raise LolaValueError(f"{name} must be finite and >= 0, got {number}")
    return positive_number(name, number) if number else 0.0


def positive_integer(name: str, value: object) -> int:
    """Return `value` as an int ≥ 1, or say why it is not one."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise LolaTypeError(f"{name} must be an integer, got {type(value).__name__}: {shown(value)}")
    if value < 1:
        raise LolaValueError(f"{name} must be at least 1, got {value if value > -(2**63) else 'far less'}")
    if value > 2**53:  # beyond this a float64 skips integers; Python even refuses to print very long ones
        raise LolaValueError(f"{name} must be at most 2**53, got one of {int(value).bit_length()} bits")
    return int(value)


def seed_number(name: str, value: object) -> int:
    """Return `value` as an int ≥ 0 that seeds a random generator, or say why it cannot."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise LolaTypeError(f"{name} must be an integer, got {type(value).__name__}: {shown(value)}")
    if value < 0:
        raise LolaValueError(f"{name} must be at least 0, got {shown(value)}; take any whole number from 0 on")
    return int(value)


def generator(name: str, seed: object) -> np.random.Generator:
    """Return the random generator that `seed` is, or the one that an integer seeds; without, a new one each time."""
    if seed is None or isinstance(seed, np.random.Generator):
        return np.random.default_rng(seed)
    return np.random.default_rng(seed_number(name, seed))
