"""How long DEFT takes over the air, in closed form: one device beside its server, many devices beside each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lola.channel import MOST_DB, spectral_efficiency
from lola.solvers.checks import FloatArray, nonnegative_number, positive_integer, positive_number
from lola.solvers.errors import LolaValueError


def upload_s(bits: float, snr_db: ArrayLike, bandwidth_hz: float) -> FloatArray:
    """Seconds that an upload takes at the channel's capacity, ``bits / (B log2(1 + SNR))``.

    Parameters
    ----------
    bits : float
    snr_db : array_like
        Received signal-to-noise ratio in dB, any shape.
    bandwidth_hz : float

    Returns
    -------
    float64 array of the shape of `snr_db`
        Infinite where the signal is nothing, at -inf dB. The rate of the DEFT article (arXiv 2310.18602), section 6.1.

    Raises
    ------
    TypeError, ValueError
        If an argument is no such number.

    Examples
    --------
    >>> import lola.air
    >>> print(f"{lola.air.upload_s(1e9, 10.0, 20e6):.2f} s")
    14.45 s
    """
    with np.errstate(over="ignore"):
        efficiency, decibels = spectral_efficiency(snr_db), np.asarray(snr_db, dtype=np.float64)
    beyond = (np.abs(decibels) > MOST_DB) & (decibels != -np.inf)
    if beyond.any():
        raise LolaValueError(
            f"snr_db must be a ratio in decibels, {-MOST_DB:g} to {MOST_DB:g}, or -inf where nothing arrives; got "
            f"{decibels[beyond][0]:g}"
        )
    with np.errstate(divide="ignore"):
        return np.asarray(positive_number("bits", bits) / (positive_number("bandwidth_hz", bandwidth_hz) * efficiency))


def one_device_s(
    snr_db: ArrayLike, *, iterations: int, upload_bits: float, device_s: float, server_s: float, bandwidth_hz: float
) -> FloatArray:
    """Seconds of one device's DEFT: in each iteration it computes and uploads, then the server computes.

    Parameters
    ----------
    snr_db : array_like
        Any shape.
    iterations : int
        Of all epochs.
    upload_bits : float
        Of the prompt's embeddings, in each iteration.
    device_s, server_s : float
        What each computes in an iteration, >= 0.
    bandwidth_hz : float

    Returns
    -------
    float64 array of the shape of `snr_db`
        It falls to ``iterations * (device_s + server_s)`` as the SNR rises. Section 6.2 of the DEFT article, Fig. 5.

    Raises
    ------
    TypeError, ValueError
        If an argument is no such number.

    Examples
    --------
    >>> import lola.air
    >>> of = {"upload_bits": 221184, "device_s": 3e-3, "server_s": 0.0}
    >>> print(f"{lola.air.one_device_s(10.0, iterations=455, bandwidth_hz=20e6, **of):.2f} s")
    2.82 s
    """
    sent_bits = positive_number("upload_bits", upload_bits)
    computed_s = nonnegative_number("device_s", device_s) + nonnegative_number("server_s", server_s)
    return np.asarray(
        positive_integer("iterations", iterations) * (computed_s + upload_s(sent_bits, snr_db, bandwidth_hz))
    )


def centralised_s(
    snr_db: ArrayLike, *, iterations: int, raw_bits: float, server_s: float, bandwidth_hz: float
) -> FloatArray:
    """Seconds of fine-tuning at the server alone, once the device has uploaded its raw data.

    Parameters
    ----------
    snr_db : array_like
        Any shape.
    iterations : int
        Of all epochs.
    raw_bits : float
        Of the whole data set, uploaded once.
    server_s : float
        What the server computes in an iteration, the device's part included, >= 0.
    bandwidth_hz : float

    Returns
    -------
    float64 array of the shape of `snr_db`
        The benchmark in section 6.2 of the DEFT article, Fig. 5.

    Raises
    ------
    TypeError, ValueError
        If an argument is no such number.

    Examples
    --------
    >>> import lola.air
    >>> print(f"{lola.air.centralised_s(10.0, iterations=455, raw_bits=1e9, server_s=1e-4, bandwidth_hz=20e6):.2f} s")
    14.50 s
    """
    computed_s = positive_integer("iterations", iterations) * nonnegative_number("server_s", server_s)
    return np.asarray(computed_s + upload_s(positive_number("raw_bits", raw_bits), snr_db, bandwidth_hz))


def frequency_division_s(
    n_values: int, n_devices: int, *, snr_db: ArrayLike, bandwidth_hz: float, bits: int = 8
) -> FloatArray:
    """Seconds until each of many devices has uploaded its quantised values in its own share of the band.

    Parameters
    ----------
    n_values : int
        That each device sends.
    n_devices : int
        K, each with a K-th of the band.
    snr_db : array_like
        In every share, any shape; where shares differ, the lowest tells when the last device ends.
    bandwidth_hz : float
        Of all shares together.
    bits : int
        Of a value.

    Returns
    -------
    float64 array of the shape of `snr_db`
        ``K · bits · n / (B log2(1 + SNR))``: section 6.1 of the DEFT article, and Fig. 6. It is ``bits · K / log2(1 +
        SNR)`` times what `air_computation_s` is.

    Raises
    ------
    TypeError, ValueError
        If an argument is no such number.

    Examples
    --------
    >>> import lola.air
    >>> print(f"{1e3 * lola.air.frequency_division_s(1000, 8, snr_db=20, bandwidth_hz=20e6):.3f} ms")
    0.481 ms
    """
    values = positive_integer("n_values", n_values) * positive_integer("bits", bits)
    return upload_s(float(positive_integer("n_devices", n_devices) * values), snr_db, bandwidth_hz)


def air_computation_s(n_values: int, *, bandwidth_hz: float) -> float:
    """Seconds until the sum of many devices' values has been received, all sent at once, a real value a symbol.

    Parameters
    ----------
    n_values : int
        That each device sends.
    bandwidth_hz : float
        As many symbols a second.

    Returns
    -------
    float
        ``n / B``, whatever the number of devices and the SNR: section 6.1 of the DEFT article, and Fig. 6.

    Raises
    ------
    TypeError, ValueError
        If an argument is no such number.

    Examples
    --------
    >>> import lola.air
    >>> print(f"{1e3 * lola.air.air_computation_s(1000, bandwidth_hz=20e6):.3f} ms")
    0.050 ms
    """
    return positive_integer("n_values", n_values) / positive_number("bandwidth_hz", bandwidth_hz)
