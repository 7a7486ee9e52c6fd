"""What stands behind a profile's numbers, depth by depth."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lola.solvers.checks import FloatArray, vector
from lola.solvers.errors import LolaValueError


@dataclass(frozen=True, eq=False, init=False)
class Evidence:
    """Spread, repeats, and the kinds of memory and work at each depth; None where it was not taken.

    Parameters
    ----------
    latency_iqr_s : (L,) array_like, optional
        Interquartile range of the repeats, on the same device as the profile's latency.
    repeats : (L,) array_like, optional
        Timed iterations. 0 at a depth that was not run: all about it lies on the line between the depths beside it.
    raw_latency_s : (L,) array_like, optional
        Medians before isotonic regression made them rise; only where it changed them.
    saved_bytes : (L,) array_like, optional
        Tensors that the forward pass saves for backward, each storage once, without weights.
    peak_bytes : (L,) array_like, optional
        Largest sum of live tensors within an iteration, without weights.
    reserved_bytes : (L,) array_like, optional
        What CUDA's caching allocator held at its peak, weights included.
    process_peak_bytes : (L,) array_like, optional
        Growth of a child process's resident memory over the idle model, plus the weights.
    flops : (L,) array_like, optional
        Floating-point operations of one local iteration; a multiplication and an addition count as two.
    segment_latency_s, segment_latency_iqr_s, segment_repeats, segment_saved_bytes, segment_peak_bytes, segment_flops
        The same of training depths l … L at once, (L,) array_like, optional. The last entry is depth L alone.

    Notes
    -----
    Depth counts from the output, as in `lola.Profile`. Arrays are read-only copies.
    """

    latency_iqr_s: FloatArray | None
    repeats: FloatArray | None
    raw_latency_s: FloatArray | None
    saved_bytes: FloatArray | None
    peak_bytes: FloatArray | None
    reserved_bytes: FloatArray | None
    process_peak_bytes: FloatArray | None
    flops: FloatArray | None
    segment_latency_s: FloatArray | None
    segment_latency_iqr_s: FloatArray | None
    segment_repeats: FloatArray | None
    segment_saved_bytes: FloatArray | None
    segment_peak_bytes: FloatArray | None
    segment_flops: FloatArray | None

    def __init__(
        self,
        latency_iqr_s: ArrayLike | None = None,
        repeats: ArrayLike | None = None,
        raw_latency_s: ArrayLike | None = None,
        saved_bytes: ArrayLike | None = None,
        peak_bytes: ArrayLike | None = None,
        reserved_bytes: ArrayLike | None = None,
        process_peak_bytes: ArrayLike | None = None,
        flops: ArrayLike | None = None,
        segment_latency_s: ArrayLike | None = None,
        segment_latency_iqr_s: ArrayLike | None = None,
        segment_repeats: ArrayLike | None = None,
        segment_saved_bytes: ArrayLike | None = None,
        segment_peak_bytes: ArrayLike | None = None,
        segment_flops: ArrayLike | None = None,
    ) -> None:
        arguments = locals()
        first: tuple[str, FloatArray] | None = None
        for field in fields(self):
            value: ArrayLike | None = arguments[field.name]
            array = None
            if value is not None:
                array = vector(field.name, value, first, positive=False).copy()
                array.flags.writeable = False
                first = first or (field.name, array)
            object.__setattr__(self, field.name, array)

    @property
    def measured(self) -> NDArray[np.intp] | None:
        """Depths that were run, (n,); None where it is not known how often any was."""
        return None if self.repeats is None else np.flatnonzero(self.repeats > 0) + 1

    def check_length(self, n_blocks: int) -> None:
        """Refuse evidence about another number of depths.

        Raises
        ------
        ValueError
            If a field has not `n_blocks` entries.
        """
        for name, array in self.to_dict().items():
            if array.shape[0] != n_blocks:
                raise LolaValueError(f"{name} must have {n_blocks} entries, as many as latency_s; got {array.shape[0]}")

    def to_dict(self) -> dict[str, FloatArray]:
        """Return the fields that were taken, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    def scaled(self, factor: float) -> Evidence:
        """Return the same evidence with everything in seconds multiplied."""
        arrays = self.to_dict()
        return Evidence(**{name: np.multiply(a, factor) if name.endswith("_s") else a for name, a in arrays.items()})
