"""What ranks of blocks are worth: the checks and sums of gains that a budget and a deadline share."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.checks import LARGEST, FloatArray, IntArray, real_array, shown
from lola.solvers.errors import LolaTypeError, LolaValueError


def gain_table(gain: ArrayLike) -> FloatArray:
    """Cast what each further rank of a block is worth to (L, R) finite numbers, or say which is none."""
    gains = real_array("gain", gain, 2)
    if gains.size == 0:
        raise LolaValueError(f"gain is empty, shape {gains.shape}; at least one block with one rank is needed")
    inside = np.abs(gains) <= LARGEST
    if not inside.all():
        block, column = np.argwhere(~inside)[0]
        raise LolaValueError(
            f"gain must be finite, at most 1e50 in size, got {gains[block, column]} for rank "
            f"{column + 1} of block {block}; correct it, or rescale all gains"
        )
    return gains


def least_rank(min_rank: object, most: int) -> int:
    """Return the least rank of each block as an int from 0 to the most that gains are known of."""
    if isinstance(min_rank, bool | np.bool_) or not isinstance(min_rank, int | np.integer):
        raise LolaTypeError(f"min_rank must be an integer, got {type(min_rank).__name__}: {shown(min_rank)}")
    if not 0 <= min_rank <= most:
        raise LolaValueError(
            f"min_rank must lie between 0 and {most}, the ranks that gain has columns for; got {shown(min_rank)}; "
            "choose one of these, or measure more ranks"
        )
    return int(min_rank)


def worth_of_ranks(gain: FloatArray, rank: IntArray) -> float:
    """Return what ranks of all blocks, (L,), are worth together, rounded once."""
    return math.fsum(gain[np.arange(gain.shape[1]) < rank[:, None]])


def sums_of_gains(gain: FloatArray) -> FloatArray:
    """Return the sums of the first gains of rows, (L, R + 1), as if rounded once: gains may cancel out."""
    sums, total, lost = np.zeros((gain.shape[0], gain.shape[1] + 1)), np.zeros(gain.shape[0]), np.zeros(gain.shape[0])
    for i, more in enumerate(gain.T):
        after = total + more
        part = after - total
        lost += (total - (after - part)) + (more - part)
        total = after
        sums[:, i + 1] = total + lost
    return sums
