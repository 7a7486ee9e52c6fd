"""Sums over the air: what their proof does not let pass."""

from dataclasses import replace

import numpy as np
import pytest

import lola
from lola.solvers import air_sum


@pytest.mark.parametrize(
    "change, line",
    [
        ({"mse": 0.124}, "mse: is 0.124, the error is"),
        ({"scale": 0.51}, "mse: is 0.125, the error is 0.12"),
        ({"amplitude": np.array([0.5, 1.001])}, r"amplitude: exceeds the power of device\(s\) \[1\]"),
        ({"amplitude": np.array([0.5, 0.9])}, "mse: is 0.125, the error is 0.13"),
        ({"amplitude": np.array([-0.5, 1.0])}, "amplitude: must hold a number >= 0 for each device"),
        ({"amplitude": np.array([0.5])}, "amplitude: must hold a number >= 0 for each device"),
        ({"shortfall": np.array([0.0, np.nan])}, "shortfall: must hold a number >= 0 for each device"),
        ({"shortfall": np.array([0.25, 0.25])}, "mse: is 0.125, but only .* is proven"),
        ({"shortfall": np.array([0.0, 0.0])}, "mse: is 0.125, but only 0.0 is proven"),
        ({"unbiased": True}, "unbiased: a weight comes out wrong"),
        ({"noise_variance": 0.06}, "noise_variance: is 0.06, the noise's is 0.0625"),
        ({"noise_variance": np.nan}, "noise_variance: a finite number was wanted, got nan"),
        ({"mse": -1.0}, "mse: must be >= 0, is -1.0"),
        ({"mse": "1"}, "mse: a finite number was wanted, got '1'"),
        ({"scale": None}, "scale: a finite number was wanted, got None"),
        ({"noise_variance": None}, "noise_variance: a finite number was wanted, got None"),
        ({"unbiased": None}, "unbiased: True or False was wanted, got None"),
        ({"amplitude": [0.5, 1.0]}, "amplitude: it must be an array, got list"),
        ({"amplitude": np.array([1, 1])}, "amplitude: it must be of float64, got int64"),
        ({"shortfall": None}, "shortfall: it must be an array, got NoneType"),
        ({"shortfall": np.array([0.0, np.inf])}, "shortfall: must hold a number >= 0 for each device"),
        ({"shortfall": np.array([0.0, 0.5])}, r"shortfall: is \[0.0, 0.5\], but \[0.0, 0.25\] is missing"),
    ],
)
def test_what_is_not_so_is_not_verified(change, line):
    given = [2.0, 0.5j], [1.0, 1.0], [0.5, 0.5], 0.25
    with pytest.raises(lola.VerificationError, match=line):
        replace(air_sum(*given), **change).verify(*given)


@pytest.mark.parametrize("noise", [1e-12, 1e-20, 1e-26])
def test_little_noise_hides_no_lie(noise):
    """All of the error is less than roundings of the weights."""
    given = [1.0, 0.5], [1.0, 1.0], [1.0, 0.3], noise
    biased, unbiased = air_sum(*given), air_sum(*given, unbiased=True)
    for total in (biased, unbiased):
        total.verify(*given)
        for mse in (0.0, total.mse / 2, total.mse * (1 - 1e-9)):
            with pytest.raises(lola.VerificationError, match="mse: "):
                replace(total, mse=mse).verify(*given)
    with pytest.raises(lola.VerificationError, match="unbiased: a weight|shortfall: .* must be 0 where the sum is"):
        replace(biased, unbiased=True, mse=unbiased.mse).verify(*given)
    with pytest.raises(lola.VerificationError, match="mse: .*, but only 0.0 is proven"):
        replace(unbiased, unbiased=False).verify(*given)


def test_a_large_weight_hides_no_shortfall_of_a_small_one():
    given = [1e9, 1.0], [1.0, 1.0], [1e6, 1.0], 1e-7
    total = air_sum(*given)
    total.verify(*given)
    with pytest.raises(lola.VerificationError, match="mse: is .*, shortfall and noise make"):
        replace(total, shortfall=total.shortfall / 2).verify(*given)
    less = replace(total, shortfall=total.shortfall / 2, mse=total.mse - 0.75 * (total.shortfall**2).sum())
    with pytest.raises(lola.VerificationError, match="mse: is .*, and no error is below"):
        less.verify(*given)


def test_worse_sums_are_not_verified():
    """What keeps to its own numbers but is not the least."""
    given = [2.0, 0.5j], [1.0, 1.0], [0.5, 0.5], 0.25
    unbiased = air_sum(*given, unbiased=True)
    with pytest.raises(lola.VerificationError, match="mse: is 0.25, but only 0.0 is proven"):
        replace(unbiased, unbiased=False).verify(*given)
    with pytest.raises(lola.VerificationError, match=r"shortfall: is \[0.0, 0.25\], but \[0.0, 0.0\] is missing"):
        replace(unbiased, shortfall=np.array([0.0, 0.25])).verify(*given)
    louder = replace(unbiased, scale=2.0, amplitude=unbiased.amplitude / 2, mse=1.0, noise_variance=1.0)
    with pytest.raises(lola.VerificationError, match="mse: is 1.0, but only 0.25 is proven"):
        louder.verify(*given)
    for other in ([2.1, 0.5j], *given[1:]), (*given[:3], 0.26):
        with pytest.raises(lola.VerificationError, match="mse: "):
            air_sum(*given).verify(*other)


def test_who_adds_next_to_nothing_is_missing_all_the_same(instances):
    """A weight that the sums of the others drown comes out too small, too, and the answer says by how much."""
    round_ = ([1e-10, 1e5], [4.0, 1e-8], [1e-6, 4e5], 3e23)
    total = air_sum(*round_)
    total.verify(*round_)
    assert total.shortfall.tolist() == [1e-6, 4e5]
    rng = np.random.default_rng(61)
    for _ in range(instances(100)):
        n = int(rng.integers(1, 8))
        gain, power, weight = (10 ** rng.uniform(-spread, spread, n) for spread in (12, 12, 6))
        noise = float(10 ** rng.uniform(-26, 26))
        total = air_sum(gain, power, weight, noise)
        total.verify(gain, power, weight, noise)
