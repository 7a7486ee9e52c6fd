"""What a depth costs: the profile of a model on the reference device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from lola.formats import expect
from lola.solvers.checks import BoolArray, FloatArray, IntArray, per_block, positive_integer, vector

Array = TypeVar("Array", FloatArray, IntArray, BoolArray)


@dataclass(frozen=True)
class Provenance:
    """Where a profile's numbers come from.

    Parameters
    ----------
    model, dtype, hardware : str
        For example ``"roberta-base"``, ``"float16"``, and the device that was measured or assumed.
    batch_size, sequence_length : int
        Shape of the batch that one local iteration works on.
    source : {"measured", "estimated"}
        Whether the hardware ran it.
    note : str, optional
        How to read the numbers.
    """

    model: str
    batch_size: int
    sequence_length: int
    dtype: str
    source: Literal["measured", "estimated"]
    hardware: str
    note: str = ""

    def __post_init__(self) -> None:
        for field in ("model", "dtype", "hardware", "note"):
            if not isinstance(getattr(self, field), str):
                raise TypeError(f"{field} must be text, got {getattr(self, field)!r}")
        positive_integer("batch_size", self.batch_size)
        positive_integer("sequence_length", self.sequence_length)
        if self.source not in ("measured", "estimated"):
            raise ValueError(f'source must be "measured" or "estimated", got {self.source!r}')

    def __str__(self) -> str:
        shape = f"batch {self.batch_size}, sequence {self.sequence_length}, {self.dtype}"
        return f"{self.model}, {shape}: {self.source}, {self.hardware}"


@dataclass(frozen=True, eq=False, init=False)
class Profile:
    """Memory, latency and upload of each depth, on the reference device (speed 1).

    Parameters
    ----------
    memory_bytes : (L,) array_like
        b(l): peak bytes a device needs to get the gradient of depth l. Must not fall with depth.
    latency_s : (L,) array_like
        d(l) = a + c(l): seconds of one local iteration at depth l. Must not fall with depth.
    upload_bits : float or (L,) array_like
        S_l: bits of the block's gradient. Stored as one number per block.
    provenance : Provenance, optional
        Where the numbers come from.

    Raises
    ------
    TypeError, ValueError
        If the vectors are not finite, of one length and non-negative (uploads positive), or memory or latency falls.

    Notes
    -----
    Depth counts from the output: entry 0 is depth 1, the last transformer block. Arrays are read-only copies.
    """

    memory_bytes: FloatArray
    latency_s: FloatArray
    upload_bits: FloatArray
    provenance: Provenance | None

    def __init__(
        self,
        memory_bytes: ArrayLike,
        latency_s: ArrayLike,
        upload_bits: ArrayLike,
        provenance: Provenance | None = None,
    ) -> None:
        latency = _rising("latency_s", vector("latency_s", latency_s, positive=False))
        per_depth = ("latency_s", latency)
        memory = _rising("memory_bytes", vector("memory_bytes", memory_bytes, per_depth, positive=False))
        bits = vector("upload_bits", per_block("upload_bits", upload_bits, latency.shape[0]), per_depth)
        if provenance is not None:
            expect("provenance", provenance, Provenance)
        object.__setattr__(self, "memory_bytes", frozen(memory))
        object.__setattr__(self, "latency_s", frozen(latency))
        object.__setattr__(self, "upload_bits", frozen(bits))
        object.__setattr__(self, "provenance", provenance)

    @property
    def n_blocks(self) -> int:
        """Number of blocks, L."""
        return int(self.latency_s.shape[0])

    def __repr__(self) -> str:
        return f"<Profile of {self.n_blocks} blocks: {self.provenance or 'no provenance'}>"


def frozen(array: Array) -> Array:
    """Return a read-only copy, so that a result cannot drift from the inputs it was proven for."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _rising(name: str, array: FloatArray) -> FloatArray:
    falls = np.flatnonzero(np.diff(array) < 0)
    if falls.size:
        depth = int(falls[0]) + 1
        raise ValueError(
            f"{name} must not fall with depth, got {array[depth - 1]} at depth {depth} and {array[depth]} at depth "
            f"{depth + 1}; entry 0 is the block nearest the output, so a profile in model order must be reversed"
        )
    return array
