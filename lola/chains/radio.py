"""Links between clients where they stand: path loss, noise, and Shannon's rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.channel import from_decibel, shannon
from lola.solvers.checks import FloatArray, per_block, positive_number, real_array, shown, sized
from lola.solvers.errors import LolaValueError

# Path loss in dB: the larger of these a + b·log10(d/m) + c·log10(f/GHz), as 3GPP TR 38.901, table 7.4.1-1, has it of
# InH-Office and UMi-Street-Canyon without line of sight, the antennas 1.5 m above ground.
PLACES = {
    "indoor": ((32.4, 17.3, 20.0), (17.3, 38.3, 24.9)),
    "outdoor": ((32.4, 21.0, 20.0), (22.4, 35.3, 21.3)),
}
# Boltzmann's constant at 290 K, the temperature that noise figures are of.
_NOISE_W_PER_HZ = 1.380649e-23 * 290.0
# The models hold from here on.
_NEAREST_M = 1.0
# Beyond these decibels no radio sends, and none is as bad.
_MOST_DBM, _MOST_NOISE_DB = 100.0, 100.0


@dataclass(frozen=True)
class Radio:
    """The radio by which clients reach each other: Wi-Fi's channel 40 in a house, unless told otherwise.

    Parameters
    ----------
    place : {"indoor", "outdoor"}
        Which of 3GPP's models of path loss (TR 38.901, table 7.4.1-1, no line of sight): in an office (InH), or in a
        street (UMi), both with antennas at 1.5 m.
    bandwidth_hz, carrier_hz : float
        Of a link, which has the whole band while it sends.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    A link's rate is B·log2(1 + P·10^(−PL(d)/10)/(k·290 K·B·F)): no fading, no interference, no overhead. ``lola docs
    chains`` has PL(d).

    Examples
    --------
    >>> import lola
    >>> radio = lola.Radio(place="outdoor", bandwidth_hz=10e6)
    >>> bool(radio.path_loss_db(100.0) > radio.path_loss_db(10.0))
    True
    """

    place: str = "indoor"
    bandwidth_hz: float = 20e6
    carrier_hz: float = 5.2e9

    def __post_init__(self) -> None:
        if not isinstance(self.place, str) or self.place not in PLACES:
            raise LolaValueError(f"place must be one of {', '.join(PLACES)}; got {shown(self.place)}")
        positive_number("bandwidth_hz", self.bandwidth_hz)
        positive_number("carrier_hz", self.carrier_hz)

    def path_loss_db(self, distance_m: ArrayLike) -> FloatArray:
        """Return the path loss in dB over distances in metres; one that is below a metre counts as a metre."""
        distance = np.maximum(np.asarray(distance_m, dtype=np.float64), _NEAREST_M)
        decades, frequency = np.log10(distance), np.log10(self.carrier_hz / 1e9)
        lines = [fixed + slope * decades + rise * frequency for fixed, slope, rise in PLACES[self.place]]
        return np.asarray(np.maximum.reduce(lines))

    def rate_bps(
        self, position_m: ArrayLike, transmit_dbm: ArrayLike = 15.0, noise_figure_db: ArrayLike = 9.0
    ) -> FloatArray:
        """Return the rate of every link, (K, K) in bit/s from row to column; 0 on the diagonal.

        Parameters
        ----------
        position_m : (K, 2) or (K, 3) array_like
            Where the clients are, in metres.
        transmit_dbm, noise_figure_db : float or (K,) array_like
            What each radiates, in dB over a milliwatt, and the noise figure of its receiver, in dB. Where they differ,
            so do the two directions of a link.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        position = positions("position_m", position_m)
        count = position.shape[0]
        radiated = _decibels("transmit_dbm", transmit_dbm, count, -_MOST_DBM, _MOST_DBM)
        figure = _decibels("noise_figure_db", noise_figure_db, count, 0.0, _MOST_NOISE_DB)
        distance = np.sqrt(((position[:, None] - position[None]) ** 2).sum(axis=2))
        received_w = 1e-3 * from_decibel(radiated[:, None] - self.path_loss_db(distance))
        noise_w = _NOISE_W_PER_HZ * self.bandwidth_hz * from_decibel(figure)
        rate = self.bandwidth_hz * shannon(received_w / noise_w)
        np.fill_diagonal(rate, 0.0)
        return rate


def positions(name: str, value: ArrayLike) -> FloatArray:
    """Cast to positions in a plane or in space, one a client, or say what came instead."""
    position = real_array(name, value, 2)
    if position.shape[0] == 0 or position.shape[1] not in (2, 3) or not (np.abs(position) <= 1e6).all():
        raise LolaValueError(
            f"{name} must hold two or three finite coordinates in metres for each client, none beyond 1e6; got shape "
            f"{position.shape} and values {shown(np.unique(position)[-3:].tolist())}; leave out who is elsewhere"
        )
    return position


def _decibels(name: str, value: ArrayLike, count: int, least: float, most: float) -> FloatArray:
    decibels = sized(name, per_block(name, value, count), ("position_m", np.zeros(count)))
    if not ((decibels >= least) & (decibels <= most)).all():
        raise LolaValueError(
            f"{name} must lie in {least:g} … {most:g} dB, got {shown(decibels.tolist())}; is it in watts?"
        )
    return decibels
