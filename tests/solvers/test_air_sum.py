"""Sums over the air: against a grid and bounded searches, against simulated channels, and by their own proof."""

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import binom, norm

from lola.solvers import InfeasibleError, air_sum

FAMILIES = ("uniform", "ties", "fading", "faint", "deep", "spread", "aligned", "one", "silent")


def instance(rng, family):
    """Draw the arguments of `air_sum`."""
    n = 1 if family == "one" else int(rng.integers(2, 13))
    gain, power, weight = rng.rayleigh(size=n) + 1e-3, rng.uniform(0.5, 2.0, n), rng.uniform(0.1, 1.0, n)
    noise = 10 ** rng.uniform(-4, 2)
    if family == "ties":
        gain, power, weight = (np.ceil(2 * values) for values in (gain, power, weight))
    elif family == "faint":  # far more noise than signal
        noise *= 1e12
    elif family == "deep":  # hardly any
        noise *= 1e-12
    elif family == "spread":
        gain, power = gain * 10 ** rng.uniform(-6, 6, n), power * 10 ** rng.uniform(-6, 6, n)
    elif family == "aligned":  # all reach their weight at once, but for roundings
        weight = gain * np.sqrt(power) * (1 + 1e-9 * rng.random(n))
    elif family == "silent":
        gain[rng.random(n) < 0.3], weight[rng.random(n) < 0.3] = 0.0, 0.0
    if rng.random() < 0.5:
        gain = gain * np.exp(2j * np.pi * rng.random(n))
    return gain, power, weight, noise


def error(scale, gain, power, weight, noise):
    """The MSE at some scales, every device doing its best."""
    reach = np.abs(gain) * np.sqrt(power)
    return (np.maximum(weight - np.multiply.outer(scale, reach), 0.0) ** 2).sum(axis=-1) + noise * scale**2


def test_never_beaten_by_a_grid_and_a_bounded_search(instances):
    rng = np.random.default_rng(40)
    for number in range(instances(250)):
        given = instance(rng, FAMILIES[number % len(FAMILIES)])
        total = air_sum(*given)
        total.verify(*given)
        reach = np.abs(given[0]) * np.sqrt(given[1])
        heard = (reach > 0) & (given[2] > 0)
        most = (given[2][heard] / reach[heard]).max(initial=1.0)  # nobody needs more
        grid = np.concatenate([[0.0], np.geomspace(1e-20 * most, most, 300), np.linspace(0.0, most, 100)])
        grid.sort()
        errors = error(grid, *given)
        best = int(np.argmin(errors))
        around = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
        near = {"xatol": 1e-9 * around[1]}
        search = minimize_scalar(error, bounds=around, args=given, method="bounded", options=near)
        rival = min(errors.min(), search.fun)
        assert total.mse <= rival * (1 + 1e-12)
        assert total.mse >= rival * (1 - 1e-6)
        assert error(total.scale, *given) == pytest.approx(total.mse, rel=1e-11)


def test_never_beaten_by_a_search_over_all_amplitudes(instances):
    """That each device does its best at a common scale is not taken for granted."""
    rng = np.random.default_rng(41)
    for _ in range(instances(10)):
        gain, power, weight, noise = given = instance(rng, "uniform")
        gain = np.abs(gain)

        def with_best_scale(amplitude, gain=gain, weight=weight, noise=noise):
            arriving = gain * amplitude
            scale = (weight @ arriving) / (arriving @ arriving + noise)
            return ((weight - scale * arriving) ** 2).sum() + noise * scale**2

        bounds = [(0.0, most) for most in np.sqrt(power)]
        rivals = [minimize(with_best_scale, rng.random(gain.size) * np.sqrt(power), bounds=bounds) for _ in range(3)]
        best = min(rival.fun for rival in rivals)
        assert best * (1 - 1e-4) <= air_sum(*given).mse <= best * (1 + 1e-12)


def transmitted(rng, total, given, symbols):
    """What a receiver makes of symbols (K, n) sent over the complex channel with complex noise."""
    gain, _, _, noise = given
    sent = (total.amplitude * np.exp(-1j * np.angle(gain)))[:, None] * symbols
    shape = (2, symbols.shape[1])
    received = gain @ sent + np.sqrt(noise / 2) * np.array([1, 1j]) @ rng.normal(size=shape)
    return total.scale * received


def outside(squares, mse):
    """Whether a mean of squares lies outside of the 99 % interval around what it should be."""
    return abs(squares.mean() - mse) > norm.ppf(0.995) * squares.std() / np.sqrt(squares.size)


@pytest.mark.parametrize("unbiased", [False, True])
def test_the_error_is_that_of_simulated_channels(instances, unbiased):
    rng = np.random.default_rng(42)
    count, n, astray = instances(40), 4000, 0
    for _ in range(count):
        given = instance(rng, "fading")
        total = air_sum(*given, unbiased=unbiased)
        symbols = np.array([1, 1j]) @ rng.normal(size=(given[0].size, 2, n)) / np.sqrt(2)
        missed = transmitted(rng, total, given, symbols) - given[2] @ symbols
        astray += outside(np.abs(missed) ** 2, total.mse)
    assert astray <= binom.ppf(0.999, count, 0.01)


@pytest.mark.parametrize("packed", [True, False])
def test_real_values_have_the_symbols_error(packed):
    """Two in a symbol, or one of which the real part is kept; of the latter only half of the noise matters."""
    rng = np.random.default_rng(43)
    n = 100_000
    gain, power, weight, noise = given = instance(rng, "fading")
    values = rng.normal(size=(2, gain.size, n)) if packed else rng.normal(size=(1, gain.size, n))
    total = air_sum(gain, power, weight, noise if packed else noise / 2)
    if packed:
        symbols = (values[0] + 1j * values[1]) / np.sqrt(2)
        estimate = np.sqrt(2) * transmitted(rng, total, given, symbols)
        missed = np.stack([estimate.real - weight @ values[0], estimate.imag - weight @ values[1]])
    else:
        missed = transmitted(rng, total, given, values[0]).real - weight @ values[0]
    assert not outside(missed.ravel() ** 2, total.mse)


def test_bias_and_variance_of_fixed_values():
    rng = np.random.default_rng(44)
    given = instance(rng, "fading")
    total = air_sum(*given)
    x, n = rng.normal(size=given[0].size), 200_000
    missed = transmitted(rng, total, given, np.repeat(x[:, None], n, axis=1)) - given[2] @ x
    assert total.shortfall.max() > 0.01
    assert abs(missed.mean() + total.shortfall @ x) < 4 * np.sqrt(total.noise_variance / n)
    assert missed.var() == pytest.approx(total.noise_variance, rel=0.02)
    assert total.mse == pytest.approx((total.shortfall**2).sum() + total.noise_variance, rel=1e-14)
    arriving = total.scale * np.abs(given[0]) * total.amplitude
    np.testing.assert_allclose(total.shortfall, given[2] - arriving, rtol=0, atol=1e-15)


def test_one_device_is_the_wiener_filter():
    rng = np.random.default_rng(45)
    for _ in range(50):
        gain, power, weight, noise = given = instance(rng, "one")
        total, reach = air_sum(*given), np.abs(gain) * np.sqrt(power)
        assert total.scale == pytest.approx((weight * reach / (reach**2 + noise))[0], rel=1e-14)
        assert total.mse == pytest.approx((weight**2 * noise / (reach**2 + noise))[0], rel=1e-14)
        assert total.amplitude == pytest.approx(np.sqrt(power), rel=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
def test_scales_with_what_it_is_given(family):
    """Twelve orders of magnitude and more, as far as roundings agree; by powers of four to the bit."""
    rng = np.random.default_rng(46)
    gain, power, weight, noise = given = instance(rng, family)
    total = air_sum(*given)
    for factor in (*10.0 ** np.array([-12, -6, 6, 12]), 4.0**-20, 4.0**20):
        louder = air_sum(gain * factor, power, weight, noise * factor**2)
        heavier = air_sum(gain, power, weight * factor, noise)
        stronger = air_sum(gain, power * factor, weight, noise * factor)
        near = 0.0 if factor in (4.0**-20, 4.0**20) else 1e-9 if family in ("deep", "aligned") else 1e-12
        for changed, scale, mse, amplitude in (
            (louder, 1 / factor, 1.0, 1.0),
            (heavier, factor, factor**2, 1.0),
            (stronger, 1 / np.sqrt(factor), 1.0, np.sqrt(factor)),
        ):
            assert changed.scale == pytest.approx(total.scale * scale, rel=near, abs=0)
            assert changed.mse == pytest.approx(total.mse * mse, rel=near, abs=0)
            np.testing.assert_allclose(changed.amplitude, total.amplitude * amplitude, rtol=max(near, 1e-15))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_order_of_devices_changes_no_bit(family, instances):
    rng = np.random.default_rng(47)
    for _ in range(instances(20)):
        *devices, noise = instance(rng, family)
        order = rng.permutation(devices[0].size)
        total, permuted = air_sum(*devices, noise), air_sum(*(values[order] for values in devices), noise)
        assert (permuted.scale, permuted.mse) == (total.scale, total.mse)
        assert permuted.amplitude.tolist() == total.amplitude[order].tolist()
        assert permuted.shortfall.tolist() == total.shortfall[order].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_power_never_hurts_nor_noise_helps(family, instances):
    rng = np.random.default_rng(48)
    for _ in range(instances(20)):
        gain, power, weight, noise = given = instance(rng, family)
        least = air_sum(*given).mse * (1 + 1e-13)
        assert air_sum(gain, power * rng.uniform(1, 3, power.size), weight, noise).mse <= least
        assert air_sum(gain, power, weight, noise * rng.random()).mse <= least
        if (np.abs(gain) > 0).all():
            assert air_sum(*given, unbiased=True).mse * (1 + 1e-13) >= air_sum(*given).mse


def test_unbiased_loses_nothing(instances):
    rng = np.random.default_rng(49)
    for _ in range(instances(50)):
        gain, power, weight, noise = given = instance(rng, rng.choice(FAMILIES[:-1]))
        total = air_sum(*given, unbiased=True)
        total.verify(*given)
        assert total.unbiased
        assert not total.shortfall.any()
        np.testing.assert_allclose(total.scale * np.abs(gain) * total.amplitude, weight, rtol=1e-14)
        assert total.scale == pytest.approx((weight / (np.abs(gain) * np.sqrt(power))).max(), rel=1e-14)
        assert total.mse == total.noise_variance == pytest.approx(noise * total.scale**2, rel=1e-14)


def test_unbiased_needs_to_hear_everyone_with_a_weight():
    line = r"device\(s\) 0, 2 have a weight and channel gain 0, so nothing of them arrives; leave them out"
    with pytest.raises(InfeasibleError, match=line) as error:
        air_sum([0.0, 1.0, 0.0], [1.0] * 3, [1.0] * 3, 0.1, unbiased=True)
    assert error.value.violator == (0, 2)
    total = air_sum([0.0, 1.0], [1.0, 1.0], [0.0, 0.5], 0.1, unbiased=True)
    assert (total.scale, total.amplitude.tolist(), total.shortfall.tolist()) == (0.5, [0.0, 1.0], [0.0, 0.0])


def test_without_noise_nothing_that_is_heard_is_lost():
    """The least scale that loses nothing is taken."""
    given = [2.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.25], 0.0
    total = air_sum(*given)
    total.verify(*given)
    assert (total.scale, total.mse, total.noise_variance) == (1.0, 0.0625, 0.0)
    assert total.amplitude.tolist() == [0.5, 1.0, 0.0]
    assert total.shortfall.tolist() == [0.0, 0.0, 0.25]
    rng = np.random.default_rng(50)
    for _ in range(50):
        gain, power, weight, _ = instance(rng, "uniform")
        total = air_sum(gain, power, weight, 0)
        total.verify(gain, power, weight, 0)
        assert total.mse == 0.0
        assert total.scale == pytest.approx((weight / (np.abs(gain) * np.sqrt(power))).max(), rel=1e-14)


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("gain, weight, mse", [([0.0, 0.0], [3.0, 4.0], 25.0), ([1.0, 2.0], [0.0, 0.0], 0.0)])
def test_nobody_heard_or_nothing_to_say(gain, weight, mse, noise):
    total = air_sum(gain, [1.0, 1.0], weight, noise)
    total.verify(gain, [1.0, 1.0], weight, noise)
    assert (total.scale, total.mse, total.amplitude.tolist()) == (0.0, mse, [0.0, 0.0])
    assert total.shortfall.tolist() == weight if mse else not total.shortfall.any()
    if not mse:
        unbiased = air_sum(gain, [1.0, 1.0], weight, noise, unbiased=True)
        unbiased.verify(gain, [1.0, 1.0], weight, noise)
        assert (unbiased.scale, unbiased.mse, unbiased.amplitude.tolist()) == (0.0, 0.0, [0.0, 0.0])


@pytest.mark.parametrize("noise", [0.0, 1e-50, 1.0, 1e50])
def test_the_largest_and_the_smallest_numbers(noise):
    sizes = np.array([1e-50, 1.0, 1e50])
    gain, power, weight = (axis.ravel() for axis in np.meshgrid(sizes, sizes, sizes))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for given in ((gain, power, weight), *zip(gain[:, None], power[:, None], weight[:, None], strict=True)):
            air_sum(*given, noise).verify(*given, noise)
            air_sum(*given, noise, unbiased=True).verify(*given, noise)


def test_a_strong_device_keeps_the_digits_of_a_faint_loss():
    """Its own loss, 1e-16 of its weight, is the sum's F'(a) = 0; the difference of two numbers has no digit of it."""
    given = [1e8, 1.0], [1.0, 1.0], [1e8, 1.0 + 1e-10], 1.0
    total = air_sum(*given)
    total.verify(*given)
    assert total.shortfall[0] == pytest.approx(1e-8, rel=1e-6)


def test_equally_strong_devices_lose_by_their_weights():
    given = [1.0, 1.0, 1.0, 0.5], [1.0] * 4, [0.9, 1.0, 0.8, 0.1], 0.5
    total = air_sum(*given)
    total.verify(*given)
    assert total.scale == pytest.approx(2.7 / 3.5, rel=1e-15)
    np.testing.assert_allclose(total.shortfall, np.array([0.9, 1.0, 0.8, 2.7 / 3.5]) - 2.7 / 3.5, rtol=1e-13)


@pytest.mark.parametrize(
    "change, kind, line",
    [
        ({"channel_gain": [1.0, -0.5]}, ValueError, "channel_gain must be finite and >= 0, got -0.5 at index 1"),
        ({"channel_gain": [1.0, np.nan]}, ValueError, "channel_gain must be finite and >= 0, got nan at index 1"),
        ({"channel_gain": [1.0, np.inf * 1j]}, ValueError, "channel_gain must be finite"),
        ({"channel_gain": [1.0, 1e-60j]}, ValueError, r"zero or from 1e-50 to 1e50\), got 1e-60"),
        ({"channel_gain": [[1j, 1.0]]}, ValueError, r"channel_gain must have 1 axis\(es\), got shape \(1, 2\)"),
        ({"channel_gain": ["1", "2"]}, TypeError, "channel_gain must hold real or complex numbers, got dtype"),
        ({"channel_gain": [[1.0], [1.0, 2.0]]}, TypeError, "channel_gain must be a rectangular array"),
        ({"channel_gain": np.ma.array([1j, 2j], mask=[0, 1])}, TypeError, "channel_gain is a masked array"),
        ({"power": [1.0, 0.0]}, ValueError, "power must be finite and > 0, got 0.0 at index 1"),
        ({"power": [1.0]}, ValueError, "power must have 2 entries, as many as channel_gain; got 1"),
        ({"power": [1.0, 1j]}, TypeError, "power must hold real numbers, got dtype complex128"),
        ({"weight": [0.5, -0.5]}, ValueError, "weight must be finite and >= 0, got -0.5 at index 1"),
        ({"noise_power": -1.0}, ValueError, "noise_power must be finite and >= 0, got -1.0"),
        ({"noise_power": 1e-60}, ValueError, "noise_power must lie between 1e-50 and 1e50, got 1e-60"),
        ({"noise_power": [0.1]}, TypeError, "noise_power must be a number, got list"),
        ({"unbiased": 1}, TypeError, "unbiased must be True or False, got 1"),
    ],
)
def test_bad_inputs(change, kind, line):
    given = {"channel_gain": [1.0, 0.5], "power": [1.0, 1.0], "weight": [0.5, 0.5], "noise_power": 0.1} | change
    with pytest.raises(kind, match=line):
        air_sum(**given)
