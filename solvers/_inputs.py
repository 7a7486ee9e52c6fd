"""What the allocations check once, before their kernels trust the arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._jit import kernel
from lola.solvers.checks import (
    LARGEST,
    SMALLEST,
    BoolArray,
    FloatArray,
    per_block,
    positive_integer,
    positive_number,
    sized,
    vector,
)
from lola.solvers.errors import LolaValueError

_NO_MASK = np.zeros((0, 0), dtype=np.bool_)


@kernel
def _count_outside(values, zero_allowed):
    bad = 0
    for value in values:
        # Written so that NaN, which fails every comparison, counts as outside.
        bad += not (((value >= SMALLEST) & (value <= LARGEST)) | (zero_allowed & (value == 0.0)))
    return bad


def checked(
    name: str, value: ArrayLike, like: tuple[str, FloatArray] | None = None, *, positive: bool = True
) -> FloatArray:
    """`lola.solvers.checks.vector`, in one pass over a large fleet and without numpy's overhead on a small one."""
    array = sized(name, value, like)
    if _count_outside(array, not positive):
        vector(name, array, positive=positive)  # finds the offender and says so
    return array


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
    *,
    bandwidth_hz: float,
    local_steps: int = 1,
    allowed: ArrayLike | None = None,
    fewer_devices: bool = False,
) -> Inputs:
    """Validate and cast the arguments that all allocations share; not all of them can do with fewer devices."""
    latency = checked("latency_s", latency_s, positive=False)
    n_blocks = latency.shape[0]
    per_depth = ("latency_s", latency)
    need = checked("depth_memory_bytes", depth_memory_bytes, per_depth, positive=False)
    bits = checked("upload_bits", per_block("upload_bits", upload_bits, n_blocks), per_depth)
    fleet_speed = checked("speed", speed)
    n_devices = fleet_speed.shape[0]
    per_device = ("speed", fleet_speed)
    memory = checked("memory_bytes", memory_bytes, per_device, positive=False)
    efficiency = checked("spectral_efficiency", spectral_efficiency, per_device)
    if n_devices < n_blocks and not fewer_devices:
        raise LolaValueError(
            f"at least as many devices as blocks are needed, got {n_devices} devices for {n_blocks} blocks; "
            "add devices or join blocks"
        )
    mask = _NO_MASK
    if allowed is not None:
        mask = np.ascontiguousarray(allowed)
        if mask.dtype != np.bool_ or mask.shape != (n_devices, n_blocks):
            raise LolaValueError(
                f"allowed must be a boolean array of shape ({n_devices}, {n_blocks}), devices by blocks, "
                f"got {mask.dtype} of shape {mask.shape}"
            )
    bandwidth = positive_number("bandwidth_hz", bandwidth_hz)
    work = latency * positive_integer("local_steps", local_steps)
    return Inputs(work, need, bits, fleet_speed, memory, efficiency, mask, bandwidth)
