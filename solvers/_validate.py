"""What every public solver checks once, before its kernel trusts the arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lola.solvers._jit import kernel

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_NO_MASK = np.zeros((0, 0), dtype=np.bool_)


@kernel
def _count_outside(values, low, zero_allowed):  # type: ignore[no-untyped-def]
    bad = 0
    for value in values:
        # Written so that NaN, which fails every comparison, counts as outside.
        inside = (value > low) | (zero_allowed & (value == low))
        bad += not (inside & (value < np.inf))
    return bad


def real_array(name: str, value: ArrayLike, ndim: int) -> FloatArray:
    """Cast to a C-contiguous float64 array of `ndim` axes, or say what came instead."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} must be a rectangular array of real numbers; numpy says: {error}") from None
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}; convert it to float64")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axis(es), got shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float64)


def vector(name: str, value: ArrayLike, length: int | None = None, *, positive: bool = True) -> FloatArray:
    """Cast to a finite float64 vector that is > 0 (or ≥ 0), of `length` entries where one is given."""
    array = real_array(name, value, 1)
    if length is not None and array.shape[0] != length:
        raise ValueError(f"{name} must have {length} entries, got {array.shape[0]}")
    if array.shape[0] == 0:
        raise ValueError(f"{name} is empty; at least one entry is needed")
    if _count_outside(array, 0.0, not positive):
        wanted = "> 0" if positive else ">= 0"
        bad = ~(np.isfinite(array) & ((array > 0) if positive else (array >= 0)))
        first = int(np.argmax(bad))
        raise ValueError(
            f"{name} must be finite and {wanted}, got {array[first]} at index {first} "
            f"({int(bad.sum())} such in all); correct or leave out that entry"
        )
    return array


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


class Inputs(NamedTuple):
    """The validated arrays of an allocation; per block in depth order, then per device."""

    work: FloatArray  # (L,) seconds of one round's computation at unit speed: local_steps · latency_s
    need: FloatArray  # (L,) bytes
    bits: FloatArray  # (L,)
    speed: FloatArray  # (K,)
    memory: FloatArray  # (K,) bytes
    efficiency: FloatArray  # (K,) bit/s/Hz
    allowed: BoolArray  # (K, L), or (0, 0) where every pair is allowed
    bandwidth: float  # Hz

    @property
    def n_blocks(self) -> int:
        """Number of blocks, L."""
        return int(self.work.shape[0])

    @property
    def n_devices(self) -> int:
        """Number of devices, K."""
        return int(self.speed.shape[0])

    @property
    def mask(self) -> BoolArray | None:
        """The allowed pairs, or None where all are."""
        return self.allowed if self.allowed.size else None


def allocation_inputs(
    latency_s: ArrayLike,
    depth_memory_bytes: ArrayLike,
    upload_bits: ArrayLike,
    speed: ArrayLike,
    memory_bytes: ArrayLike,
    spectral_efficiency: ArrayLike,
    bandwidth_hz: float,
    local_steps: int,
    allowed: ArrayLike | None,
) -> Inputs:
    """Validate and cast the arguments that all allocations share."""
    latency = vector("latency_s", latency_s, positive=False)
    n_blocks = latency.shape[0]
    need = vector("depth_memory_bytes", depth_memory_bytes, n_blocks, positive=False)
    if np.ndim(upload_bits) == 0:
        upload_bits = np.full(n_blocks, real_array("upload_bits", upload_bits, 0))
    bits = vector("upload_bits", upload_bits, n_blocks)
    fleet_speed = vector("speed", speed)
    n_devices = fleet_speed.shape[0]
    memory = vector("memory_bytes", memory_bytes, n_devices, positive=False)
    efficiency = vector("spectral_efficiency", spectral_efficiency, n_devices)
    if n_devices < n_blocks:
        raise ValueError(
            f"at least as many devices as blocks are needed, got {n_devices} devices for {n_blocks} blocks; "
            "add devices or join blocks"
        )
    mask = _NO_MASK
    if allowed is not None:
        mask = np.ascontiguousarray(allowed)
        if mask.dtype != np.bool_ or mask.shape != (n_devices, n_blocks):
            raise ValueError(
                f"allowed must be a boolean array of shape ({n_devices}, {n_blocks}), devices by blocks, "
                f"got {mask.dtype} of shape {mask.shape}"
            )
    bandwidth = positive_number("bandwidth_hz", bandwidth_hz)
    work = latency * positive_integer("local_steps", local_steps)
    # Infinity means forbidden inside the kernels, so no finite input may overflow into it.
    slowest = work.max() / fleet_speed.min() + bits.max() / (bandwidth / n_blocks) / efficiency.min()
    if not slowest < np.inf:
        raise ValueError("the longest latency overflows float64; use larger units for latency_s, speed or upload_bits")
    return Inputs(work, need, bits, fleet_speed, memory, efficiency, mask, bandwidth)
