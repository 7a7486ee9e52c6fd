"""The radio channel: Shannon efficiency, path loss and Rayleigh fading, once or round by round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.checks import (
    FloatArray,
    frozen,
    generator,
    positive_integer,
    positive_number,
    real_array,
    seed_number,
    shown,
    vector,
)
from lola.solvers.errors import LolaValueError

# channel(round, clock_s) gives the spectral efficiency of every device in a round, (K,) in bit/s/Hz; 0 is an outage.
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
# Beyond these decibels of received SNR an efficiency is no number that the solvers take.
MOST_DB = 490.0
# Of the LoLa-DEFT paper, section VI-A.
TRANSMIT_SNR_DB, PATH_LOSS = 10.0, 1e-3
# Keeps the fading apart from what else a round draws from the same seed.
_FADING = int.from_bytes(b"fading")


def from_decibel(value_db: ArrayLike) -> FloatArray:
    """Convert decibels of power into a ratio."""
    return np.asarray(10.0 ** (_real("value_db", value_db) / 10.0))


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

    Raises
    ------
    TypeError, ValueError
        If it holds what is no number.
    """
    decibels = _real("snr_db", snr_db)
    if np.isnan(decibels).any():
        raise LolaValueError(
            f"snr_db must be a ratio in decibels, got {shown(snr_db)}; leave out what was not measured"
        )
    return shannon(from_decibel(decibels))


def shannon(snr: ArrayLike) -> FloatArray:
    """Shannon efficiency ``log2(1 + snr)`` in bit/s/Hz of a signal-to-noise ratio: a ratio of powers, no decibels."""
    ratio = _real("snr", snr)
    if not (ratio >= 0).all():
        raise LolaValueError(
            f"snr must be a ratio of powers, >= 0, got {shown(snr)}; decibels go into lola.channel.spectral_efficiency"
        )
    return np.asarray(np.log1p(ratio) / np.log(2.0))


def _real(name: str, value: ArrayLike) -> FloatArray:
    """Cast to float64, whatever the shape, or say what came instead."""
    try:
        shape = np.shape(value)
    except ValueError:  # rows of unequal length, which the next line words
        shape = ()
    return real_array(name, value, len(shape)).reshape(shape)


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
    transmit_snr_db: float = TRANSMIT_SNR_DB,
    path_loss: float = PATH_LOSS,
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
    transmit_snr_db: float = TRANSMIT_SNR_DB
    path_loss: float = PATH_LOSS
    seed: int = 0

    def __post_init__(self) -> None:
        positive_integer("n_devices", self.n_devices)
        if not -1000 < self.transmit_snr_db < 1000:
            raise LolaValueError(f"transmit_snr_db must be a ratio in decibels, got {self.transmit_snr_db}")
        positive_number("path_loss", self.path_loss)
        seed_number("seed", self.seed)

    def __str__(self) -> str:
        return in_words([self])

    @property
    def mean_snr_db(self) -> float:
        """Mean received signal-to-noise ratio in dB, the same for every device."""
        return self.transmit_snr_db + 10.0 * math.log10(self.path_loss)

    def __call__(self, round_index: int, clock_s: float) -> FloatArray:
        """Return the spectral efficiency of every device in a round, (K,) in bit/s/Hz; the clock has no say."""
        return rayleigh_efficiency(
            self.n_devices,
            transmit_snr_db=self.transmit_snr_db,
            path_loss=self.path_loss,
            seed=np.random.default_rng([self.seed, round_index, _FADING]),
        )


@dataclass(frozen=True, eq=False)
class FadingAround:
    """A channel with block fading around each device's own mean: constant within a round, drawn anew for the next.

    Parameters
    ----------
    spectral_efficiency : (K,) array_like
        bit/s/Hz of each device at its mean SNR, such as ``Fleet.spectral_efficiency``.
    seed : int

    Raises
    ------
    TypeError, ValueError
        If the vector or the seed is not as described.

    Notes
    -----
    The SNR is exponential around its mean. A draw depends on the seed and the round alone, as in `RayleighFading`.
    """

    spectral_efficiency: FloatArray
    seed: int = 0

    def __post_init__(self) -> None:
        efficiency = frozen(vector("spectral_efficiency", self.spectral_efficiency))
        object.__setattr__(self, "spectral_efficiency", efficiency)
        seed_number("seed", self.seed)

    @property
    def mean_snr(self) -> FloatArray:
        """Mean signal-to-noise ratio of each device, (K,)."""
        return np.asarray(np.expm1(self.spectral_efficiency * np.log(2.0)))

    def __str__(self) -> str:
        snr_db = 10.0 * np.log10(self.mean_snr)
        return f"Rayleigh fading around each device's own mean SNR, {snr_db.min():.1f} to {snr_db.max():.1f} dB"

    def __call__(self, round_index: int, clock_s: float) -> FloatArray:
        """Return the spectral efficiency of every device in a round, (K,) in bit/s/Hz; the clock has no say."""
        power = rayleigh_power(self.spectral_efficiency.size, np.random.default_rng([self.seed, round_index, _FADING]))
        return shannon(self.mean_snr * power)


def fading(
    n_devices: int,
    seed: int,
    *,
    around: FloatArray | None = None,
    transmit_snr_db: float | None = None,
    path_loss: float | None = None,
) -> FadingAround | RayleighFading:
    """Fade around each device's own mean SNR, where it is known and no other is asked for; else as `RayleighFading`.

    Parameters
    ----------
    n_devices, seed : int
    around : (K,) array, optional
        bit/s/Hz of each device at its mean SNR; None where the fleet is drawn, or the paper's.
    transmit_snr_db, path_loss : float, optional
        See `RayleighFading`, whose defaults they have.

    Returns
    -------
    FadingAround or RayleighFading

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    """
    given = {"transmit_snr_db": transmit_snr_db, "path_loss": path_loss}
    asked = {name: value for name, value in given.items() if value is not None}
    if around is not None and not asked:
        return FadingAround(around, seed)
    return RayleighFading(n_devices, **asked, seed=seed)


def in_words(channels: Sequence[Channel]) -> str:
    """Say in a line what was drawn at the points of a sweep, which differ in the transmit SNR at most."""
    fading = [channel for channel in channels if isinstance(channel, RayleighFading)]
    if not fading:
        return str(channels[-1])
    means = ", ".join(dict.fromkeys(f"{channel.mean_snr_db:.4g}" for channel in fading))
    return (
        f"Rayleigh fading around the same mean SNR for every device, path loss {fading[0].path_loss:g}: "
        f"mean received SNR {means} dB"
    )
