"""The radio channel and the sampled fleet."""

import numpy as np
import pytest

import lola
from lola import channel


def test_shannon_efficiency_in_decibels():
    assert channel.spectral_efficiency(0.0) == pytest.approx(1.0)
    np.testing.assert_allclose(channel.spectral_efficiency([10 * np.log10(3), -np.inf]), [2.0, 0.0])
    assert channel.spectral_efficiency(-200.0) == pytest.approx(1e-20 / np.log(2), rel=1e-12)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_efficiencies_have_the_shape_of_what_came(shape):
    assert channel.shannon(np.full(shape, 3.0)).shape == channel.spectral_efficiency(np.zeros(shape)).shape == shape


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        ("shannon", -1, "snr must be a ratio of powers, >= 0, got -1; decibels go into lola.channel.spectral_efficie"),
        ("shannon", [1.0, np.nan], "snr must be a ratio of powers"),
        ("shannon", "3", "snr must hold real numbers, got dtype <U1"),
        ("spectral_efficiency", "3", "snr_db must hold real numbers, got dtype <U1"),
        ("spectral_efficiency", [[1.0], [1.0, 2.0]], "snr_db must be a rectangular array of real numbers"),
        ("spectral_efficiency", np.nan, "snr_db must be a ratio in decibels, got nan; leave out what was not measured"),
        ("from_decibel", None, "value_db must hold real numbers, got dtype object"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_ratio_is_refused(function, value, message):
    with pytest.raises(lola.LolaError, match=message):
        getattr(channel, function)(value)


def test_rayleigh_fading_is_seeded_and_has_unit_mean():
    power = channel.rayleigh_power(200_000, seed=1)
    assert power.mean() == pytest.approx(1.0, abs=0.01)
    assert power.var() == pytest.approx(1.0, abs=0.05)
    assert (power == channel.rayleigh_power(200_000, seed=1)).all()
    assert (power[:10] != channel.rayleigh_power(10, seed=2)).all()
    efficiency = channel.rayleigh_efficiency((1000, 5), transmit_snr_db=20.0, path_loss=0.01, seed=3)
    np.testing.assert_allclose(efficiency, np.log2(1 + channel.rayleigh_power((1000, 5), seed=3)))


def test_the_sampled_fleet_is_the_papers():
    fleet = lola.Fleet.sample(100_000, seed=4)
    assert fleet.speed.min() >= 0.5
    assert fleet.speed.max() <= 1.0
    assert fleet.memory_bytes.min() >= 1e9
    assert fleet.memory_bytes.max() <= 6e9
    snr = 2**fleet.spectral_efficiency - 1
    assert snr.mean() == pytest.approx(10 * 1e-3, rel=0.02)
    again = lola.Fleet.sample(100_000, seed=4)
    assert (again.speed == fleet.speed).all()
    assert (again.spectral_efficiency == fleet.spectral_efficiency).all()


def test_a_fleet_takes_decibels_as_its_file_does():
    devices = {"speed": [1.0, 0.5], "memory_bytes": [1e9, 2e9]}
    fleet = lola.Fleet(**devices, snr_db=[3.0, 20.0])
    np.testing.assert_array_equal(fleet.spectral_efficiency, channel.spectral_efficiency([3.0, 20.0]))
    with pytest.raises(TypeError, match=r"spectral_efficiency .* or snr_db \(received, in dB\) is needed"):
        lola.Fleet(**devices)
    with pytest.raises(TypeError, match="one of spectral_efficiency and snr_db was wanted, got both"):
        lola.Fleet(**devices, snr_db=[3.0, 20.0], spectral_efficiency=[1.0, 2.0])
    with pytest.raises(lola.LolaError, match="snr_db must hold real numbers"):
        lola.Fleet(**devices, snr_db=["3 dB", "20 dB"])


def test_a_fleet_under_another_channel_is_the_same_fleet():
    fleet = lola.Fleet(
        speed=[1.0, 2.0, 3.0],
        memory_bytes=[4.0, 5.0, 6.0],
        spectral_efficiency=[7.0, 8.0, 9.0],
        name=["ann", "bob", "cid"],
        headroom=[0.1, 0.2, 0.3],
    )
    faded = fleet.with_channel([0.7, 0.8, 0.9])
    assert faded.spectral_efficiency.tolist() == [0.7, 0.8, 0.9]
    assert faded.name == fleet.name
    for field in ("speed", "memory_bytes", "headroom"):
        assert (getattr(faded, field) == getattr(fleet, field)).all()
    fewer = fleet.with_channel([0.7, 0.8, 0.9], [2, 0])
    assert (fewer.name, fewer.speed.tolist(), fewer.memory_bytes.tolist()) == (("cid", "ann"), [3.0, 1.0], [6.0, 4.0])
    assert (fewer.spectral_efficiency.tolist(), fewer.headroom.tolist()) == ([0.9, 0.7], [0.3, 0.1])
    nameless = lola.Fleet.sample(3, seed=1).with_channel([0.7, 0.8, 0.9], np.array([1]))
    assert (nameless.name, nameless.spectral_efficiency.tolist()) == (None, [0.8])


@pytest.mark.parametrize(
    "efficiency, devices, message",
    [
        ([1.0, 2.0], None, "spectral_efficiency must have 3 entries, as many as speed; got 2"),
        ([1.0, 2.0], [0], "spectral_efficiency must have 3 entries, as many as speed; got 2"),
        ([1.0, 0.0, 1.0], None, "spectral_efficiency must be finite and > 0, got 0.0 at index 1"),
        ([1.0] * 3, [0, 3], r"devices must be distinct .* from 0 to 2, got \[0, 3\]; leave it out to keep everybody"),
        ([1.0] * 3, [-1], "devices must be distinct indices from 0 to 2"),
        ([1.0] * 3, [1, 1], "devices must be distinct indices from 0 to 2"),
        ([1.0] * 3, [True, False, True], "devices must be distinct indices from 0 to 2"),
        ([1.0] * 3, [[0, 1]], "devices must be distinct indices from 0 to 2"),
    ],
)
def test_another_channel_that_fits_no_device_is_refused(efficiency, devices, message):
    with pytest.raises(lola.LolaError, match=message):
        lola.Fleet.sample(3, seed=1).with_channel(efficiency, devices)
