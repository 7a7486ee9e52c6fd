"""Latencies in closed form: Fig. 6's ratio, the limits of Fig. 5's curves, and refusals."""

import math

import numpy as np
import pytest
import torch

import lola.air
from lola.solvers.errors import LolaTypeError, LolaValueError

RATIOS = [(8, 8, 20.0), (1, 1, 0.0), (32, 3, -5.0), (4, 100, 47.3)]


@pytest.mark.parametrize(("bits", "devices", "snr_db"), RATIOS)
@pytest.mark.parametrize("values", [1, 115 * 2_000_000])
def test_frequency_division_takes_as_many_times_as_long_whatever_is_sent(bits, devices, snr_db, values):
    wanted = bits * devices / math.log2(1 + 10 ** (snr_db / 10))
    for bandwidth_hz in (20e6, 3.0):
        digital = lola.air.frequency_division_s(values, devices, snr_db=snr_db, bandwidth_hz=bandwidth_hz, bits=bits)
        analog = lola.air.air_computation_s(values, bandwidth_hz=bandwidth_hz)
        assert digital / analog == pytest.approx(wanted, rel=1e-9)


def test_the_ratio_of_the_article_is_961():
    digital = lola.air.frequency_division_s(1000, 8, snr_db=20, bandwidth_hz=20e6)
    assert digital / lola.air.air_computation_s(1000, bandwidth_hz=20e6) == pytest.approx(9.612, abs=5e-4)


@pytest.mark.parametrize("values", [1, 3072])
def test_uplinks_take_what_the_closed_forms_say(values):
    sent = [{"a": torch.randn(values), "b": torch.randn(2, values)} for _ in range(8)]
    rng, band = np.random.default_rng(0), {"snr_db": 20.0, "bandwidth_hz": 20e6}
    digital = lola.air.DigitalUplink(bits=8, **band).receive(sent, [1 / 8] * 8, rng).latency_s
    analog = lola.air.AirUplink(**band).receive(sent, [1 / 8] * 8, rng).latency_s
    assert digital == pytest.approx(8 * 8 * 3 * values / (20e6 * math.log2(101)), rel=1e-12)
    assert analog == pytest.approx(3 * values / 20e6, rel=1e-12)
    assert digital / analog == pytest.approx(8 * 8 / math.log2(101), rel=1e-9)


def test_one_device_levels_off_where_it_computes_and_the_server_where_it_computes():
    snr_db = np.linspace(-5.0, 400.0, 50)
    common = {"iterations": 455, "server_s": 1e-3, "bandwidth_hz": 20e6}
    tuned = lola.air.one_device_s(snr_db, upload_bits=2e5, device_s=4e-3, **common)
    central = lola.air.centralised_s(snr_db, raw_bits=1e9, **common)
    assert tuned.shape == central.shape == snr_db.shape
    for seconds in (tuned, central):
        assert (np.diff(seconds) < 0).all()
    sent = 455 * 2e5 / 20e6 / np.log2(1 + 10 ** (snr_db / 10))
    np.testing.assert_allclose(tuned, 455 * 5e-3 + sent, rtol=1e-12)
    np.testing.assert_allclose(central, 455 * 1e-3 + sent * 1e9 / (455 * 2e5), rtol=1e-12)


def test_nothing_arrives_without_a_signal():
    assert np.isinf(lola.air.upload_s(1.0, -np.inf, 1.0))
    assert np.isinf(lola.air.frequency_division_s(1, 1, snr_db=-np.inf, bandwidth_hz=1.0))


REFUSED = [
    ("upload_s", (0, 1.0, 1.0), {}, "bits must be finite and > 0, got 0.0"),
    ("upload_s", (1, 1.0, -3), {}, "bandwidth_hz must be finite and > 0, got -3.0"),
    ("upload_s", (1, math.nan, 1.0), {}, "snr_db must be a ratio in decibels, got nan; leave out"),
    ("upload_s", (1, [10.0, -4000], 1.0), {}, "snr_db must be a ratio in decibels, -490 to 490, .* got -4000"),
    ("frequency_division_s", (1, 1), {"snr_db": math.inf, "bandwidth_hz": 1}, "-490 to 490, .* got inf"),
    ("upload_s", (1, "strong", 1.0), {}, "snr_db must hold real numbers"),
    ("frequency_division_s", (1, 0), {"snr_db": 1, "bandwidth_hz": 1}, "n_devices must be at least 1, got 0"),
    ("frequency_division_s", (2.5, 1), {"snr_db": 1, "bandwidth_hz": 1}, "n_values must be an integer, got float"),
    ("frequency_division_s", (1, 1), {"snr_db": 1, "bandwidth_hz": 1, "bits": 0}, "bits must be at least 1, got 0"),
    ("air_computation_s", (0,), {"bandwidth_hz": 1}, "n_values must be at least 1, got 0"),
    ("air_computation_s", (1,), {"bandwidth_hz": "20 MHz"}, "bandwidth_hz must be a number, got str: '20 MHz'"),
]
ONE = {"iterations": 1, "upload_bits": 1, "device_s": 1, "server_s": 1, "bandwidth_hz": 1}
CENTRAL = {"iterations": 1, "raw_bits": 1, "server_s": 1, "bandwidth_hz": 1}
REFUSED += [
    ("one_device_s", (4000,), ONE, "-490 to 490, .* got 4000"),
    ("centralised_s", (490.1,), CENTRAL, "-490 to 490, .* got 490.1"),
    ("one_device_s", (10,), ONE | {"iterations": 0.5}, "iterations must be an integer, got float"),
    ("one_device_s", (10,), ONE | {"upload_bits": 0}, "upload_bits must be finite and > 0, got 0.0"),
    ("one_device_s", (10,), ONE | {"device_s": -1}, "device_s must be finite and >= 0, got -1.0"),
    ("one_device_s", (10,), ONE | {"server_s": math.inf}, "server_s must be finite and >= 0, got inf"),
    ("centralised_s", (10,), CENTRAL | {"raw_bits": math.nan}, "raw_bits must be finite and > 0, got nan"),
    ("centralised_s", (10,), CENTRAL | {"iterations": 0}, "iterations must be at least 1, got 0"),
]


@pytest.mark.parametrize(("function", "arguments", "named", "message"), REFUSED)
def test_what_is_no_such_number_is_refused(function, arguments, named, message):
    with pytest.raises((LolaValueError, LolaTypeError), match=message):
        getattr(lola.air, function)(*arguments, **named)
