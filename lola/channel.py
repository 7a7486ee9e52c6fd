"""The radio channel: Shannon efficiency, path loss and Rayleigh fading."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.checks import FloatArray


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
    return np.asarray(np.random.default_rng(seed).exponential(size=shape))


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
