"""The radio channel: Shannon efficiency, path loss and Rayleigh fading, once or round by round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.checks import FloatArray, generator, positive_integer, positive_number, seed_number
from lola.solvers.errors import LolaValueError

# channel(round, clock_s) gives the spectral efficiency of every device in a round, (K,) in bit/s/Hz.
Channel = Callable[[int, float], FloatArray]
# bit/s/Hz of the fifteen channel quality indicators that LTE radios report (3GPP TS 36.213, table 7.2.3-1).
CQI_EFFICIENCY: FloatArray = np.array(
    [
        0.1523,
        0.2344,
        0.3770,
        0.6016,
        0.8770,
        1.1758,
        1.4766,
        1.9141,
        2.4063,
        2.7305,
        3.3223,
        3.9023,
        4.5234,
        5.1152,
        5.5547,
    ]
)
CQI_EFFICIENCY.setflags(write=False)
# Keeps the fading apart from what else a round draws from the same seed.
_FADING = int.from_bytes(b"fading")


def from_decibel(value_db: ArrayLike) -> FloatArray:
    """Convert decibels of power into a ratio."""
    return np.asarray(10.0 ** (np.asarray(value_db, dtype=np.float64) / 10.0))


def spectral_efficiency(snr_db: ArrayLike) -> FloatArray:
    """Shannon efficiency ``log2(1 + SNR)`` in bit/s/Hz of a received signal-to-noise ratio in dB.

    Parameters
    ----------
    snr_db : array_like
        Any shape.

    Returns
    -------
    float64 array of the same shape
        Eq. (4) of the LoLa-DEFT paper. Exact for weak signals too (``log1p``).
    """
    return shannon(from_decibel(snr_db))


def shannon(snr: ArrayLike) -> FloatArray:
    """Shannon efficiency ``log2(1 + snr)`` in bit/s/Hz of a signal-to-noise ratio."""
    return np.asarray(np.log1p(np.asarray(snr, dtype=np.float64)) / np.log(2.0))


def rayleigh_power(shape: int | tuple[int, ...], seed: int | np.random.Generator | None = None) -> FloatArray:
    """Draw channel powers |h|² under Rayleigh fading: exponential with mean 1.

    Parameters
    ----------
    shape : int or tuple of int
    seed : int or numpy.random.Generator, optional
        An integer gives the same draw every time.
    """
    return np.asarray(generator("seed", seed).exponential(size=shape))


def rayleigh_efficiency(
    shape: int | tuple[int, ...],
    *,
    transmit_snr_db: float = 10.0,
    path_loss: float = 1e-3,
    seed: int | np.random.Generator | None = None,
) -> FloatArray:
    """Draw spectral efficiencies ``log2(1 + p·H/N0)`` under path loss and Rayleigh fading.

    Parameters
    ----------
    shape : int or tuple of int
    transmit_snr_db : float
        p/N0 in dB.
    path_loss : float
        Mean of the channel power H, as a ratio.
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    float64 array of `shape`
        bit/s/Hz. The defaults are those of the LoLa-DEFT paper, section VI-A.
    """
    return shannon(from_decibel(transmit_snr_db) * path_loss * rayleigh_power(shape, seed))


@dataclass(frozen=True)
class RayleighFading:
    """A channel with block fading: constant within a round, drawn anew for the next.

    Parameters
    ----------
    n_devices : int
    transmit_snr_db : float
        p/N0 in dB.
    path_loss : float
        Mean of the channel power H, as a ratio.
    seed : int

    Raises
    ------
    TypeError, ValueError
        If a number is not as described.

    Notes
    -----
    A draw depends on the seed and the round alone, so that a run that goes on after a stop meets the same channel. The
    first devices of a larger fleet fade as those of a smaller one. The defaults are those of the LoLa-DEFT paper,
    section VI-A.
    """

    n_devices: int
    transmit_snr_db: float = 10.0
    path_loss: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        positive_integer("n_devices", self.n_devices)
        if not -1000 < self.transmit_snr_db < 1000:
            raise LolaValueError(f"transmit_snr_db must be a ratio in decibels, got {self.transmit_snr_db}")
        positive_number("path_loss", self.path_loss)
        seed_number("seed", self.seed)

    def __call__(self, round_index: int, clock_s: float) -> FloatArray:
        """Return the spectral efficiency of every device in a round, (K,) in bit/s/Hz; the clock has no say."""
        return rayleigh_efficiency(
            self.n_devices,
            transmit_snr_db=self.transmit_snr_db,
            path_loss=self.path_loss,
            seed=np.random.default_rng([self.seed, round_index, _FADING]),
        )
