"""What each block may do by a deadline: with which rank, on which device, for how much of the spectrum."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.checks import (
    LARGEST,
    SMALLEST,
    FloatArray,
    IntArray,
    per_block,
    positive_number,
    real_array,
    shown,
    vector,
)
from lola.solvers.errors import LolaTypeError, LolaValueError
from lola.solvers.rank_gains import gain_table, least_rank, sums_of_gains

_EPSILON = float(np.finfo(np.float64).eps)


class DeadlineInputs(NamedTuple):
    """The validated arguments of `deadline_ranks`."""

    worth: FloatArray  # (L, R + 1): of a block with rank 0 … R
    bits: FloatArray  # (L, R + 1): what it uploads
    compute: FloatArray  # (L, K) seconds, inf where the device cannot
    efficiency: FloatArray  # (K,)
    bandwidth: float
    deadline: float
    min_rank: int
    equal: bool

    @property
    def share(self) -> float:
        """The bandwidth of every block, in hertz, where it is split equally."""
        return self.bandwidth / int(self.worth.shape[0])


class Options(NamedTuple):
    """All that a block may do, by block; a device K stands for nobody, who serves a block that uploads nothing."""

    block: IntArray
    device: IntArray
    rank: IntArray
    worth: FloatArray
    need: FloatArray  # hertz; 0 where the spectrum is split equally
    n_blocks: int
    n_devices: int
    bandwidth: float


def deadline_inputs(
    gain: ArrayLike,
    compute_s: ArrayLike,
    rank_bits: ArrayLike,
    fixed_bits: ArrayLike,
    spectral_efficiency: ArrayLike,
    bandwidth_hz: float,
    deadline_s: float,
    min_rank: int,
    equal_bandwidth: bool,
) -> DeadlineInputs:
    """Validate and cast what `deadline_ranks` is given."""
    gains = gain_table(gain)
    n_blocks, most = gains.shape
    efficiency = vector("spectral_efficiency", spectral_efficiency)
    compute = real_array("compute_s", compute_s, 2)
    if compute.shape != (n_blocks, efficiency.shape[0]):
        raise LolaValueError(
            f"compute_s must have shape ({n_blocks}, {efficiency.shape[0]}), blocks of gain by devices of "
            f"spectral_efficiency; got {compute.shape}"
        )
    bad = ~((compute == 0) | ((compute >= SMALLEST) & (compute <= LARGEST)) | (compute == np.inf))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise LolaValueError(
            f"compute_s must be >= 0 (zero or from 1e-50 to 1e50), or inf where a device cannot take a block; got "
            f"{compute[row, column]} at row {row}, column {column}"
        )
    per_rank = vector("rank_bits", per_block("rank_bits", rank_bits, n_blocks), ("gain", gains[:, 0]))
    fixed = vector("fixed_bits", per_block("fixed_bits", fixed_bits, n_blocks), ("gain", gains[:, 0]), positive=False)
    lowest = least_rank(min_rank, most)
    if not isinstance(equal_bandwidth, bool | np.bool_):
        raise LolaTypeError(
            f"equal_bandwidth must be True or False, got {type(equal_bandwidth).__name__}: {shown(equal_bandwidth)}"
        )
    ranks = np.arange(most + 1)
    return DeadlineInputs(
        worth=sums_of_gains(gains),
        bits=fixed[:, None] + ranks * per_rank[:, None],
        compute=compute,
        efficiency=efficiency,
        bandwidth=positive_number("bandwidth_hz", bandwidth_hz),
        deadline=positive_number("deadline_s", deadline_s),
        min_rank=lowest,
        equal=bool(equal_bandwidth),
    )


def options_of(inputs: DeadlineInputs) -> Options:
    """List what fits by the deadline, without ranks that are worth no more than a lower one of their block."""
    (n_blocks, n_devices), lowest = inputs.compute.shape, inputs.min_rank
    best_below = np.maximum.accumulate(inputs.worth[:, lowest:], axis=1)[:, :-1]
    better = np.full(inputs.worth.shape, False)
    better[:, lowest] = True
    better[:, lowest + 1 :] = inputs.worth[:, lowest + 1 :] > best_below
    uploads = inputs.bits > 0
    block, device, rank = np.nonzero((better & uploads)[:, None, :] & (inputs.compute < inputs.deadline)[:, :, None])
    compute, bits, efficiency = inputs.compute[block, device], inputs.bits[block, rank], inputs.efficiency[device]
    if inputs.equal:
        fits = compute + bits / inputs.share / efficiency <= inputs.deadline
        need = np.zeros(block.size)
    else:
        need = least_bandwidth(compute, bits, efficiency, inputs.deadline)
        fits = need <= inputs.bandwidth
    idle, _ = np.nonzero((better & ~uploads)[:, :1])
    block = np.concatenate((idle, block[fits]))
    device = np.concatenate((np.full(idle.size, n_devices), device[fits]))
    rank = np.concatenate((np.zeros(idle.size, np.int64), rank[fits]))
    need = np.concatenate((np.zeros(idle.size), need[fits]))
    order = np.argsort(block, kind="stable")
    block, device, rank, need = block[order], device[order], rank[order], need[order]
    return Options(block, device, rank, inputs.worth[block, rank], need, n_blocks, n_devices, inputs.bandwidth)


def least_bandwidth(compute: FloatArray, bits: FloatArray, efficiency: FloatArray, deadline: float) -> FloatArray:
    """Return the least floating-point bandwidths with which a pair ends by the deadline, as latencies are computed.

    Floats of one sign are ordered as the integers of their bits are. So the last bits are found by bisection between
    the quotient less what the sum's rounding may hide, and the quotient with a few roundings on top.
    """
    left = deadline - compute
    load = bits / efficiency
    shortest = (load / (left + np.spacing(deadline)) * (1 - 8 * _EPSILON)).view(np.int64)
    enough = (load / left * (1 + 8 * _EPSILON)).view(np.int64)
    while (enough - shortest > 1).any():
        between = shortest + (enough - shortest) // 2
        fits = compute + bits / between.view(np.float64) / efficiency <= deadline
        enough, shortest = np.where(fits, between, enough), np.where(fits, shortest, between)
    return enough.view(np.float64)


def total(numbers: FloatArray) -> float:
    """Add up without roundings but the last."""
    return math.fsum(numbers.tolist())
