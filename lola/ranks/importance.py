"""What ranks of LoRA are worth to each block, and what they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.profile import BITS_PER_VALUE, Provenance
from lola.solvers.checks import LARGEST, SMALLEST, FloatArray, IntArray, expect, frozen, real_array, shown, vector
from lola.solvers.errors import LolaTypeError, LolaValueError
from lola.solvers.rank_gains import worth_of_ranks

SINGULAR, SENSITIVITY = "singular", "sensitivity"
MEASURES = (SINGULAR, SENSITIVITY)
# All ranks together take as many parameters, and no more ranks are listed, than a file of them can be read in.
_MOST_PARAMETERS, _MOST_RANKS = 2**53, 2**16


@dataclass(frozen=True, eq=False, init=False)
class Importance:
    """What each rank of LoRA is worth in each block, and what it takes.

    Parameters
    ----------
    gain : (L, R) array_like
        The worth of a block's i-th rank in column i − 1. Finite; a row that `measure_importance` gives never rises.
    cost : (L,) int array_like
        Parameters of one rank of a block: those of its A and B, over all its targets.
    rank_bits : (L,) array_like, optional
        Bits that one rank adds to the block's upload; 32 a parameter if left out.
    fixed_bits : (L,) array_like, optional
        Bits that a block uploads whatever its rank, such as the head with depth 1; none if left out.
    name : sequence of str, optional
        The blocks, by their names in the model.
    measure : {"singular", "sensitivity"}
        Squared singular values of the update, or |w·∇w|.
    provenance : Provenance, optional
        What was measured; its `lora_rank` is R.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    **Depth counts from the output**, as in `lola.Profile`: entry 0, or row 0, is depth 1, the last transformer block.
    Arrays are read-only copies.

    Examples
    --------
    >>> import lola
    >>> importance = lola.Importance([[9.0, 4.0], [3.0, 1.0]], cost=[100, 100])
    >>> importance.n_blocks, importance.max_rank, importance.rank_bits.tolist()
    (2, 2, [3200.0, 3200.0])
    """

    gain: FloatArray
    cost: IntArray
    rank_bits: FloatArray
    fixed_bits: FloatArray
    name: tuple[str, ...] | None
    measure: str
    provenance: Provenance | None

    def __init__(
        self,
        gain: ArrayLike,
        cost: ArrayLike,
        rank_bits: ArrayLike | None = None,
        fixed_bits: ArrayLike | None = None,
        name: Sequence[str] | None = None,
        measure: str = SINGULAR,
        provenance: Provenance | None = None,
    ) -> None:
        gains = real_array("gain", gain, 2)
        if not gains.size or gains.shape[1] > _MOST_RANKS:
            raise LolaValueError(
                f"gain must have a row a block and 1 to {_MOST_RANKS} columns, one a rank; got shape {gains.shape}"
            )
        sane = (gains == 0) | ((np.abs(gains) >= SMALLEST) & (np.abs(gains) <= LARGEST))
        if not sane.all():
            row, column = np.argwhere(~sane)[0].tolist()
            raise LolaValueError(
                f"gain must be finite (zero, or from 1e-50 to 1e50 in size), got {gains[row, column]} for rank "
                f"{column + 1} of depth {row + 1}; measure it anew, or in another unit"
            )
        a_block = ("the rows of gain", gains[:, 0])
        parameters = vector("cost", cost, a_block)
        if (parameters != np.floor(parameters)).any() or (parameters > _MOST_PARAMETERS).any():
            raise LolaValueError(
                f"cost must be whole numbers of parameters up to 2**53, got {parameters.tolist()[:8]}; count those of "
                "one rank"
            )
        # Added up as Python's integers, so that no sum of the ranks' parameters ever exceeds 64 bits.
        everything = gains.shape[1] * sum(map(int, parameters))
        if everything > _MOST_PARAMETERS:
            raise LolaValueError(
                f"cost must let all ranks of all blocks have up to 2**53 parameters, got {everything} in all; count "
                "those of one rank, or list fewer ranks"
            )
        bits = BITS_PER_VALUE * parameters if rank_bits is None else vector("rank_bits", rank_bits, a_block)
        fixed = (
            np.zeros(len(gains)) if fixed_bits is None else vector("fixed_bits", fixed_bits, a_block, positive=False)
        )
        if measure not in MEASURES:
            raise LolaValueError(
                f"measure must be one of {', '.join(MEASURES)}; got {shown(measure)}; name what the gains are"
            )
        if provenance is not None:
            expect("provenance", provenance, Provenance)
        object.__setattr__(self, "gain", frozen(gains))
        object.__setattr__(self, "cost", frozen(parameters.astype(np.int64)))
        object.__setattr__(self, "rank_bits", frozen(bits))
        object.__setattr__(self, "fixed_bits", frozen(fixed))
        object.__setattr__(self, "name", _names(name, len(gains)))
        object.__setattr__(self, "measure", measure)
        object.__setattr__(self, "provenance", provenance)

    @property
    def n_blocks(self) -> int:
        """Number of blocks, L."""
        return int(self.gain.shape[0])

    @property
    def max_rank(self) -> int:
        """The most ranks that a block can have, R."""
        return int(self.gain.shape[1])

    def worth(self, rank: IntArray) -> float:
        """Return what ranks of all blocks, (L,), are worth together."""
        return worth_of_ranks(self.gain, rank)

    def parameters(self, rank: IntArray) -> IntArray:
        """Return how many parameters LoRA has in each block, (L,)."""
        return self.cost * rank

    def upload_bits(self, rank: IntArray) -> FloatArray:
        """Return what each block uploads, (L,), the head included."""
        return np.asarray(self.fixed_bits + self.rank_bits * rank)

    def label(self, depth: int) -> str:
        """Return what tables call the block of a depth."""
        return f"depth {depth}" if self.name is None else self.name[depth - 1]

    def __repr__(self) -> str:
        shape = f"{self.n_blocks} blocks, {self.max_rank} ranks of each"
        return f"<Importance of {shape}, {self.measure}: {self.provenance or 'no provenance'}>"


def _names(name: Sequence[str] | None, n_blocks: int) -> tuple[str, ...] | None:
    if name is None:
        return None
    if isinstance(name, str) or not isinstance(name, Sequence) or not all(isinstance(one, str) for one in name):
        raise LolaTypeError(f"name must be a list of texts, one a block, got {shown(name)}; give one, or leave it out")
    if len(name) != n_blocks:
        raise LolaValueError(f"name must have {n_blocks} entries, as many as gain has rows; got {len(name)}")
    for one in name:
        if not one or not one.isprintable():
            raise LolaValueError(f"name must hold printable texts in one line, got {shown(one)}")
    if len(set(name)) < n_blocks:
        raise LolaValueError(f"name must hold each name once, got {shown(list(name))}; call every block differently")
    return tuple(name)
