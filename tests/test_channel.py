"""The radio channel and the sampled fleet."""

import numpy as np
import pytest

import lola
from lola import channel


def test_shannon_efficiency_in_decibels():
    assert channel.spectral_efficiency(0.0) == pytest.approx(1.0)
    np.testing.assert_allclose(channel.spectral_efficiency([10 * np.log10(3), -np.inf]), [2.0, 0.0])
    assert channel.spectral_efficiency(-200.0) == pytest.approx(1e-20 / np.log(2), rel=1e-12)


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
