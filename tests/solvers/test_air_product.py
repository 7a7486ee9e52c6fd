"""Products over the air: against restarted BFGS, against simulated channels, and by their own proof."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.stats import binom, norm

import lola
from lola.solvers import air_product

FAMILIES = ("real", "complex", "tall", "wide", "deficient", "ties", "faint", "clear")


def gaussian(rng, shape, is_complex):
    return rng.normal(size=shape) + (1j * rng.normal(size=shape) if is_complex else 0.0)


def instance(rng, family, largest=4):
    """Draw the arguments of `air_product`."""
    m, n, r, t = (int(size) for size in rng.integers(1, largest + 1, 4))
    if family in ("tall", "wide"):
        m, n, r, t = (largest, 1, 1, largest) if family == "tall" else (1, largest, largest, 1)
    matrix, channel = (gaussian(rng, shape, family in ("complex", "clear")) for shape in ((m, n), (r, t)))
    if family == "deficient":
        matrix[:, -1] = matrix[:, 0]
        channel[-1] = 2 * channel[0]
    elif family == "ties":
        matrix, channel = 2.0 * np.eye(m, n), 3.0 * np.eye(r, t)
    noise = 10 ** rng.uniform(-2, 1) * {"faint": 1e12, "clear": 1e-4}.get(family, 1.0)
    return matrix, channel, float(rng.uniform(0.5, 20)), float(noise)


def filtered(precoder, matrix, channel, noise):
    """The textbook's linear MMSE filter of what arrives, and its MSE."""
    through = channel @ precoder
    covariance = through @ through.conj().T + noise * np.eye(channel.shape[0])
    equaliser = np.linalg.solve(covariance, through @ matrix.conj().T).conj().T
    return equaliser, np.linalg.norm(matrix - equaliser @ through) ** 2 + noise * np.linalg.norm(equaliser) ** 2


def searched(rng, matrix, channel, power, noise, restarts):
    """The least MSE that BFGS finds over precoders of full power, with the best filter each."""
    shape = channel.shape[1], matrix.shape[1]
    listened, wanted = channel.conj().T @ channel / noise, matrix.conj().T @ matrix

    def error(flat):
        free = (flat[: flat.size // 2] + 1j * flat[flat.size // 2 :]).reshape(shape)
        size = np.linalg.norm(free)
        precoder = np.sqrt(power) / size * free
        inverse = np.linalg.inv(np.eye(shape[1]) + precoder.conj().T @ listened @ precoder)
        slope = -2.0 * listened @ precoder @ inverse @ wanted @ inverse
        along = np.vdot(free, slope).real / size**2
        slope = np.sqrt(power) / size * (slope - along * free)
        return np.trace(wanted @ inverse).real, np.concatenate([slope.real.ravel(), slope.imag.ravel()])

    starts = rng.normal(size=(restarts, 2 * shape[0] * shape[1]))
    return min(minimize(error, start, jac=True, method="BFGS", options={"gtol": 1e-9}).fun for start in starts)


def test_never_beaten_by_restarted_searches(instances):
    rng = np.random.default_rng(60)
    near = 0
    for number in range(count := instances(20)):
        given = instance(rng, FAMILIES[number % len(FAMILIES)])
        product = air_product(*given)
        product.verify(*given)
        rival = searched(rng, *given, restarts=6)
        assert product.mse <= rival * (1 + 1e-6)
        near += product.mse >= rival * (1 - 1e-6)
    assert near >= 0.9 * count  # the search does find it


def test_its_equaliser_is_the_best_for_its_precoder(instances):
    rng = np.random.default_rng(61)
    for number in range(instances(40)):
        matrix, channel, power, noise = given = instance(rng, FAMILIES[number % 7], largest=9)
        product = air_product(*given)
        product.verify(*given)
        equaliser, mse = filtered(product.precoder, matrix, channel, noise)
        size = np.abs(equaliser).max()
        np.testing.assert_allclose(product.equaliser, equaliser, atol=1e-10 * size)
        assert product.mse == pytest.approx(mse, rel=1e-10)
        assert np.linalg.norm(product.precoder) ** 2 == pytest.approx(power, rel=1e-13)
        assert product.precoder.dtype == product.equaliser.dtype == np.result_type(matrix, channel)


def test_power_is_poured_as_by_bisection(instances):
    rng = np.random.default_rng(62)
    for number in range(instances(40)):
        matrix, channel, power, noise = given = instance(rng, FAMILIES[number % 6], largest=9)
        product = air_product(*given)
        modes = min(np.linalg.matrix_rank(matrix), np.linalg.matrix_rank(channel))
        omega, gains = (np.linalg.svd(of, compute_uv=False)[:modes] for of in (matrix, channel))

        def poured(level, omega=omega, gains=gains, noise=noise):
            return np.maximum(level * omega / gains - noise / gains**2, 0.0)

        most = (power + (noise / gains**2).sum()) / (omega / gains).min()
        level = brentq(lambda level, poured=poured, power=power: poured(level).sum() - power, 0.0, 2 * most, xtol=1e-14)
        np.testing.assert_allclose(product.mode_power, poured(level), atol=1e-8 * power)
        assert product.mode_power.sum() == pytest.approx(power, rel=1e-14)
        assert product.water_level == pytest.approx(level, rel=1e-8)


def test_the_level_tells_what_more_power_brings():
    rng = np.random.default_rng(63)
    for _ in range(20):
        matrix, channel, power, noise = instance(rng, "complex")
        more, less = (air_product(matrix, channel, power * (1 + step), noise).mse for step in (1e-5, -1e-5))
        level = air_product(matrix, channel, power, noise).water_level
        assert (less - more) / (2e-5 * power) == pytest.approx(noise / level**2, rel=1e-4)


@pytest.mark.parametrize("family", ["real", "complex"])
def test_the_error_is_that_of_simulated_channels(instances, family):
    rng = np.random.default_rng(64)
    count, samples, astray = instances(40), 4000, 0
    spread = np.sqrt(0.5) if family == "complex" else 1.0
    for _ in range(count):
        matrix, channel, _, noise = given = instance(rng, family)
        product = air_product(*given)
        x = spread * gaussian(rng, (matrix.shape[1], samples), family == "complex")
        n = spread * np.sqrt(noise) * gaussian(rng, (channel.shape[0], samples), family == "complex")
        estimate = product.equaliser @ (channel @ (product.precoder @ x) + n)
        squares = (np.abs(estimate - matrix @ x) ** 2).sum(axis=0)
        astray += abs(squares.mean() - product.mse) > norm.ppf(0.995) * squares.std() / np.sqrt(samples)
    assert astray <= binom.ppf(0.999, count, 0.01)


def test_one_antenna_is_the_wiener_filter():
    product = air_product([[2.0]], [[3.0j]], 5.0, 0.5)
    assert product.mse == pytest.approx(4.0 / (1 + 9 * 5 / 0.5), rel=1e-15)
    assert product.equaliser * 3j * product.precoder == pytest.approx(2.0 * 45 / 45.5, rel=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
def test_scales_with_what_it_is_given(family):
    rng = np.random.default_rng(65)
    matrix, channel, power, noise = given = instance(rng, family)
    product = air_product(*given)
    for factor in 10.0 ** np.array([-12, -6, 6, 12]):
        for changed, mse in (
            ((matrix * factor, channel, power, noise), factor**2),
            ((matrix, channel * factor, power, noise * factor**2), 1.0),
            ((matrix, channel, power * factor, noise * factor), 1.0),
        ):
            other = air_product(*changed)
            other.verify(*changed)
            assert other.mse == pytest.approx(product.mse * mse, rel=1e-9, abs=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_rotations_change_nothing_and_power_never_hurts(family, instances):
    rng = np.random.default_rng(66)
    for _ in range(instances(10)):
        matrix, channel, power, noise = given = instance(rng, family)
        mse = air_product(*given).mse
        turned = []
        for of in (matrix, channel):
            left, right = (np.linalg.qr(gaussian(rng, (size, size), True))[0] for size in of.shape)
            turned.append(left @ of @ right)
        assert air_product(*turned, power, noise).mse == pytest.approx(mse, rel=1e-9)
        assert air_product(matrix, channel, power * rng.uniform(1, 3), noise).mse <= mse * (1 + 1e-13)
        assert air_product(matrix, channel, power, noise * rng.random()).mse <= mse * (1 + 1e-13)


def test_what_the_channel_cannot_carry_is_lost():
    """More outputs than antennas: of W the largest singular values get through, also without noise."""
    matrix, channel = np.diag([3.0, 2.0, 1.0]), np.diag([0.5, 4.0])
    product = air_product(matrix, channel, 1.0, 0.0)
    product.verify(matrix, channel, 1.0, 0.0)
    assert (product.mse, product.water_level) == (1.0, pytest.approx(1 / 4.75, rel=1e-14))
    np.testing.assert_allclose(product.equaliser @ channel @ product.precoder, np.diag([3.0, 2.0, 0.0]), atol=1e-14)
    np.testing.assert_allclose(product.mode_power, np.array([0.75, 4.0]) / 4.75, rtol=1e-14)
    lost = 1.0
    for noise in (1.0, 1e-4, 1e-8):
        lost = air_product(matrix, channel, 1.0, noise).mse
    assert lost == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("matrix, channel, mse", [([[0, 0]], [[1]], 0.0), ([[3], [4]], [[0, 0], [0, 0]], 25.0)])
def test_nothing_to_say_or_nothing_heard(matrix, channel, mse, noise):
    product = air_product(matrix, channel, 1.0, noise)
    product.verify(matrix, channel, 1.0, noise)
    assert product.mse == pytest.approx(mse, rel=1e-15)
    assert not product.precoder.any()
    assert not product.equaliser.any()
    assert (product.mode_power.size, product.water_level) == (0, np.inf)


def test_numbers_far_apart_prove_themselves(instances):
    rng = np.random.default_rng(68)
    for _ in range(instances(100)):
        matrix, channel, _, _ = instance(rng, rng.choice(FAMILIES))
        matrix, channel = (of * 10 ** rng.uniform(-6, 6, of.shape[1]) for of in (matrix, channel))
        power, noise = 10 ** rng.uniform(-12, 12), rng.choice([0.0, 10 ** rng.uniform(-20, 20)])
        air_product(matrix, channel, power, noise).verify(matrix, channel, power, noise)


@pytest.mark.parametrize("power", [1e-50, 1e50])
@pytest.mark.parametrize("noise", [0.0, 1e-50, 1e50])
@pytest.mark.parametrize("sizes", [(1e-50, 1e50), (1e50, 1e-50), (1e50, 1e50), (1e-50, 1e-50)])
def test_the_largest_and_the_smallest_numbers(power, noise, sizes):
    rng = np.random.default_rng(67)
    matrix, channel = (size * rng.uniform(0.1, 1.0, (3, 3)) for size in sizes)
    matrix[0, 0], channel[0, 0] = sizes
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        air_product(matrix, channel, power, noise).verify(matrix, channel, power, noise)


def test_little_power_over_much_noise_is_split_between_equals():
    """The level agrees with its thresholds in all digits, and still all of the power is given away."""
    product = air_product(np.eye(3), np.diag([1.0, 1.0, 0.5]), 1e-9, 1e12)
    assert product.mode_power.tolist() == pytest.approx([5e-10, 5e-10, 0.0], rel=1e-14)


MATRIX, CHANNEL = [[0.0, 2.0], [1.0, 0.0]], [[3.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    "change, line",
    [
        ({"mse": 0.3}, "mse: is 0.3, the error is 0.304"),
        ({"water_level": 5.5}, "mse: is 0.30.*, but only 0.30.* is proven"),
        ({"water_level": 0.0}, "water_level: must be > 0, is 0.0"),
        ({"water_level": np.nan}, "water_level: must be > 0, is nan"),
        ({"matrix_values": np.array([2.0, 1.1])}, "matrix_values: are not the singular values"),
        ({"matrix_values": np.array([2.0])}, "matrix_values: are not the singular values"),
        ({"channel_values": np.array([1.0, 3.0])}, "channel_values: are not the singular values"),
        ({"precoder": np.array([[0.0, -2.0], [-2.1, 0.0]])}, "precoder: has power 8.41.*, not 8.0"),
        ({"precoder": np.zeros((2, 1))}, "precoder, equaliser: wanted"),
        ({"equaliser": np.zeros((2, 2))}, "mse: is 0.304.*, the error is 5.0"),
        ({"mode_power": np.array([4.0, 4.0])}, r"mode_power: is \[4.0, 4.0\], but the precoder sends otherwise"),
        ({"mode_power": np.array([8.0])}, "mode_power: must hold 2 numbers >= 0"),
        ({"mse": None}, "mse: a finite number was wanted, got None"),
        ({"mse": -0.3}, "mse: must be >= 0, is -0.3"),
        ({"water_level": None}, "water_level: must be > 0, is None"),
        ({"mode_power": [4.0, 4.0]}, "mode_power: it must be an array, got list"),
        ({"channel_values": None}, "channel_values: it must be an array, got NoneType"),
        ({"precoder": [[1.0]]}, "precoder: it must be an array, got list"),
        ({"equaliser": np.eye(2, dtype=int)}, "equaliser: it must be of float64, got int64"),
        ({"mode_power": np.array([np.nan, 1.0])}, "mode_power: must hold 2 numbers >= 0"),
    ],
)
def test_what_is_not_so_is_not_verified(change, line):
    product = air_product(MATRIX, CHANNEL, 8.0, 1.0)
    with pytest.raises(lola.VerificationError, match=line):
        replace(product, **change).verify(MATRIX, CHANNEL, 8.0, 1.0)


@pytest.mark.parametrize("noise", [1e-10, 1e-20, 1e-30])
def test_little_noise_hides_no_lie(noise):
    """All of the error is less than roundings of the matrices; and so is that of a price that proves less."""
    given = np.eye(2), np.eye(2), 1.0, noise
    product = air_product(*given)
    product.verify(*given)
    for mse in (0.0, product.mse / 2, product.mse * (1 - 1e-9)):
        with pytest.raises(lola.VerificationError, match="mse: is .*(the error is|but these modes leave)"):
            replace(product, mse=mse).verify(*given)
    level, price = 2 * product.water_level, np.sqrt(noise) / (2 * product.water_level)
    proven = 4 * price * np.sqrt(noise) - price**2
    with pytest.raises(lola.VerificationError, match="mse: is .*(the error is|but these modes leave)"):
        replace(product, water_level=level, mse=proven).verify(*given)


def test_powers_of_the_wrong_modes_are_not_verified():
    """Also where two modes have one matrix's singular value in common, and only the other's tells them apart."""
    for given in ((MATRIX, CHANNEL, 8.0, 1.0), (MATRIX, np.eye(2), 8.0, 1.0), (np.eye(2), CHANNEL, 8.0, 1.0)):
        product = air_product(*given)
        product.verify(*given)
        with pytest.raises(lola.VerificationError, match="mode_power: .* the precoder sends otherwise"):
            replace(product, mode_power=product.mode_power[::-1]).verify(*given)
        assert not product.precoder.flags.writeable


def test_worse_products_are_not_verified():
    """Zero forcing with equal powers keeps to its own numbers, and is not the least."""
    product = air_product(MATRIX, CHANNEL, 8.0, 1.0)
    precoder = np.array([[0.0, 2.0], [2.0, 0.0]])
    equaliser, mse = filtered(precoder, np.array(MATRIX), np.array(CHANNEL), 1.0)
    with pytest.raises(lola.VerificationError, match=rf"mse: is {mse:.4f}\d*, but only 0.30487\d* is proven"):
        replace(product, precoder=precoder, equaliser=equaliser, mse=mse).verify(MATRIX, CHANNEL, 8.0, 1.0)
    with pytest.raises(lola.VerificationError, match="channel_values: "):
        product.verify(MATRIX, np.array(CHANNEL) * 1.01, 8.0, 1.0)
    with pytest.raises(lola.VerificationError, match="precoder: has power"):
        product.verify(MATRIX, CHANNEL, 7.9, 1.0)
    with pytest.raises(lola.VerificationError, match="mse: "):
        product.verify(MATRIX, CHANNEL, 8.0, 1.1)


@pytest.mark.parametrize(
    "change, kind, line",
    [
        ({"matrix": [1.0, 2.0]}, ValueError, r"matrix must have 2 axis\(es\), got shape \(2,\)"),
        ({"matrix": [[1.0, 2.0], [3.0]]}, TypeError, "matrix must be a rectangular array"),
        (
            {"matrix": [["1"]]},
            TypeError,
            "matrix must hold real or complex numbers, got dtype <U1; convert it to float64 or c",
        ),
        ({"matrix": [[True]]}, TypeError, "matrix must hold real or complex numbers, got dtype bool"),
        ({"matrix": np.ones((0, 3))}, ValueError, r"matrix is empty, of shape \(0, 3\)"),
        ({"matrix": [[1.0, np.nan]]}, ValueError, r"matrix must hold finite numbers .* got nan at \(0, 1\) \(1 such"),
        ({"matrix": [[1.0, np.inf], [np.nan, 1.0]]}, ValueError, r"matrix must .* got inf at \(0, 1\) \(2 such in all"),
        ({"matrix": [[1.0], [1e51]]}, ValueError, r"matrix must hold finite numbers up to 1e50 .* 1e\+51 at \(1, 0\)"),
        ({"matrix": [[1e-60, 0.0]]}, ValueError, "matrix has no entry above 1e-50 in magnitude, 1e-60 at most"),
        ({"channel": [[1.0, complex(0, np.inf)]]}, ValueError, r"channel must hold finite numbers .* at \(0, 1\)"),
        ({"channel": [[[1j]]]}, ValueError, r"channel must have 2 axis\(es\), got shape \(1, 1, 1\)"),
        ({"channel": np.ones((2, 0))}, ValueError, r"channel is empty, of shape \(2, 0\)"),
        ({"channel": np.ma.array([[1j]], mask=[[True]])}, TypeError, "channel is a masked array"),
        ({"power": 0.0}, ValueError, "power must be finite and > 0, got 0.0"),
        ({"power": np.inf}, ValueError, "power must be finite and > 0, got inf"),
        ({"power": "1"}, TypeError, "power must be a number, got str: '1'"),
        ({"power": 1j}, TypeError, "power must be a number, got complex"),
        ({"noise_power": -0.1}, ValueError, "noise_power must be finite and >= 0, got -0.1"),
        ({"noise_power": 1e60}, ValueError, "noise_power must lie between 1e-50 and 1e50, got 1e\\+60"),
        ({"noise_power": True}, TypeError, "noise_power must be a number, got bool"),
    ],
)
def test_bad_inputs(change, kind, line):
    with pytest.raises(kind, match=line):
        air_product(**({"matrix": MATRIX, "channel": CHANNEL, "power": 8.0, "noise_power": 1.0} | change))
