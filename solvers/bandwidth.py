"""The fastest split of the spectrum once everyone knows their block."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from lola.solvers._inputs import checked
from lola.solvers.checks import FloatArray, per_block, positive_number
from lola.solvers.newton import split_bandwidth


@dataclass(frozen=True, eq=False)
class BandwidthSplit:
    """The fastest split of the spectrum over devices with known computing times.

    Attributes
    ----------
    objective : float
        Seconds at which all of them finish.
    bandwidth_hz : (n,) float64 array
        Sums to at most the bandwidth given.
    iterations : int
        Newton steps.
    """

    objective: float
    bandwidth_hz: FloatArray
    iterations: int


def bandwidth_split(
    compute_s: ArrayLike, upload_bits: ArrayLike, spectral_efficiency: ArrayLike, *, bandwidth_hz: float
) -> BandwidthSplit:
    """Split the spectrum so that devices with given computing times all finish at once, as early as possible.

    Parameters
    ----------
    compute_s : (n,) array_like
        Seconds before each upload starts, ≥ 0.
    upload_bits : float or (n,) array_like
        Bits each uploads, > 0.
    spectral_efficiency : (n,) array_like
        bit/s/Hz of each, > 0.
    bandwidth_hz : float
        Uplink spectrum, > 0.

    Returns
    -------
    BandwidthSplit
        The common finish: the T with ``Σ upload_bits/(spectral_efficiency·(T − compute_s)) = bandwidth_hz``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Newton's method on the reciprocal of that sum, which is concave in T, so that every step is short of the root
    (``lola docs theory``, "The split of the bandwidth"). O(n) a step; four to eight steps are usual.

    Examples
    --------
    >>> from lola.solvers import bandwidth_split
    >>> split = bandwidth_split([1.0, 2.0], 8e5, [2.0, 1.0], bandwidth_hz=1e6)
    >>> round(split.objective, 6), split.bandwidth_hz.round().tolist()
    (3.0, [200000.0, 800000.0])
    """
    compute = checked("compute_s", compute_s, positive=False)
    n = compute.shape[0]
    bits = checked("upload_bits", per_block("upload_bits", upload_bits, n), ("compute_s", compute))
    efficiency = checked("spectral_efficiency", spectral_efficiency, ("compute_s", compute))
    spectrum = positive_number("bandwidth_hz", bandwidth_hz)
    bandwidth, latency, steps = split_bandwidth(compute, bits, efficiency, spectrum)
    return BandwidthSplit(latency, bandwidth, steps)
