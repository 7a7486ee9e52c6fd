"""Layers that the radio computes: products and gradients against closed forms, whatever is sent."""

import math

import numpy as np
import pytest
import torch

import lola
from lola.air import OverTheAirLinear, rayleigh_channel


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix_of(kind):
    return {
        "square": gaussian(6, 6),
        "wide": gaussian(4, 9),
        "tall": gaussian(9, 4),
        "of rank 2": gaussian(7, 2) @ gaussian(2, 8, seed=1),
        "spread": torch.diag(torch.tensor([1e3, 1.0, 1e-3], dtype=torch.float64)),
    }[kind]


def radio_of(matrix, snr_db, antennas=(2, 3), seed=5):
    noise = torch.Generator().manual_seed(seed)
    return OverTheAirLinear(matrix, rayleigh_channel(*antennas, seed=1), snr_db=snr_db, bandwidth_hz=1e6, noise=noise)


def within(squares, expected):
    """Whether the mean of squared errors lies in its 99.9 % interval."""
    return abs(squares.mean() - expected) < 3.29 * squares.std() / math.sqrt(squares.numel())


@pytest.mark.parametrize("snr_db", [0.0, 20.0, 60.0])
@pytest.mark.parametrize("kind", ["square", "wide", "tall", "of rank 2", "spread"])
def test_products_and_gradients_have_the_closed_form_s_error(kind, snr_db):
    matrix = matrix_of(kind)
    radio = radio_of(matrix, snr_db)
    shape = torch.linspace(0.2, 4.0, matrix.shape[1], dtype=torch.float64)
    vectors = (gaussian(5, matrix.shape[1], seed=2) * shape + 1).requires_grad_()  # neither white nor of mean 0
    arriving = gaussian(5, matrix.shape[0], seed=3) * 7
    many = vectors.expand(1000, -1, -1)  # as loud as one
    product = radio(many)
    (gradient,) = torch.autograd.grad(product, many, arriving.expand(1000, -1, -1))
    products = (product - vectors @ matrix.T).detach().square().mean(dim=(1, 2))
    gradients = (gradient - arriving @ matrix).square().mean(dim=(1, 2))
    assert within(products, radio.expected_squared_error(vectors))
    assert within(gradients, radio.expected_squared_error_back(arriving))


@pytest.mark.parametrize("antennas", [(1, 1), (2, 3), (8, 8)])
def test_white_vectors_have_the_solver_s_error_whatever_the_antennas(antennas):
    radio = radio_of(matrix_of("square"), 15.0, antennas)
    vectors = gaussian(40_000, 6, seed=4)
    squares = (radio(vectors) - vectors @ matrix_of("square").T).square().mean(dim=1)
    assert squares.mean() == pytest.approx(radio.mse, rel=0.03)
    assert radio.expected_squared_error(vectors) == pytest.approx(radio.mse, rel=0.02)
    assert radio.forward_symbols == radio.backward_symbols == {1: 3, 2: 2, 8: 1}[min(antennas)]
    assert (radio.symbols, radio.latency_s) == (radio.forward_symbols * 40_000, radio.symbols / 1e6)


def test_no_message_exceeds_the_power_of_its_symbols():
    radio = radio_of(matrix_of("spread"), 20.0)
    path = radio._there
    assert np.square(path.precoder).sum() == pytest.approx(path.uses, rel=1e-12)
    for vectors in (gaussian(50, 3), torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64), 1e9 * gaussian(2, 3)):
        signal = vectors @ torch.tensor(path.precoder).T
        power = (signal / path._spread(vectors, signal)).square().sum(dim=1).mean() / path.uses
        assert power <= 1 + 1e-12


def test_the_error_scales_with_the_message_and_nothing_sends_nothing():
    for factor in (2.0**-60, 2.0**60):
        one, other = radio_of(matrix_of("wide"), 10.0), radio_of(matrix_of("wide"), 10.0)
        vectors = gaussian(3, 9)
        assert torch.equal(one(vectors) * factor, other(vectors * factor))
        error = other.expected_squared_error(vectors * factor)
        assert error == pytest.approx(one.expected_squared_error(vectors) * factor**2, rel=1e-12, abs=0)
    assert torch.equal(one(torch.zeros(3, 9)), torch.zeros(3, 4))
    assert one(torch.zeros(3, 9).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("dtype", "exponents"),
    [(torch.float32, (-110, -60, 60, 110, 124)), (torch.float64, (-1000, -500, 500, 1000))],
)
def test_whatever_is_finite_arrives(dtype, exponents):
    """The squares of most of these do not fit their dtype."""
    vectors, arriving = gaussian(3, 9).to(dtype), gaussian(3, 4).to(dtype)

    def both_ways(factor):
        radio, sent = radio_of(matrix_of("wide") / 16, 10.0), (factor * vectors).requires_grad_()
        product = radio(sent)
        return product.detach(), torch.autograd.grad(product, sent, factor * arriving)[0]

    usual = both_ways(1.0)
    assert not torch.equal(usual[0], vectors @ matrix_of("wide").to(dtype).T / 16)
    for exponent in exponents:
        for got, one in zip(both_ways(2.0**exponent), usual, strict=True):
            assert torch.equal(got / 2.0**exponent, one)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_arrives_as_nothing_that_is(value):
    """As of a digital layer: the loss is not finite then, and who computed it is refused."""
    radio = radio_of(gaussian(3, 2), 20.0)
    vectors = torch.tensor([[1.0, 2.0], [3.0, value]], requires_grad=True)
    product = radio(vectors)
    assert product.shape == (2, 3)
    assert product.isnan().all()
    (gradient,) = torch.autograd.grad(radio(vectors[:1]), vectors, torch.full((1, 3), value))
    assert gradient[0].isnan().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rayleigh_channel(0, 2), "n_receive must be at least 1, got 0"),
        (lambda: OverTheAirLinear(np.eye(2), np.zeros((2, 2))), "channel must carry something, got zeros; draw one"),
        (lambda: OverTheAirLinear(np.eye(2), np.ones(2)), r"channel must have 2 axis\(es\), got shape \(2,\)"),
        (lambda: OverTheAirLinear(np.eye(2), [[math.nan]]), "channel must hold finite numbers, at least one; got"),
        (lambda: OverTheAirLinear(np.ones((0, 3)), np.eye(2)), r"matrix must hold finite .* got shape \(0, 3\)"),
        (lambda: OverTheAirLinear(1j * np.eye(2), np.eye(2)), "matrix must be real, as what torch multiplies"),
        (lambda: OverTheAirLinear(np.eye(2), np.eye(2), snr_db=1000), "snr_db must be a ratio in decibels"),
        (lambda: OverTheAirLinear(np.eye(2), np.eye(2), bandwidth_hz=0), "bandwidth_hz must be finite and > 0"),
        (
            lambda: OverTheAirLinear(np.eye(2), np.eye(2))(torch.ones(5, 3)),
            r"vectors must be real, of 2 values each, .* got torch.float32 of shape \(5, 3\)",
        ),
        (lambda: OverTheAirLinear(np.eye(2), np.eye(2))([[1.0, 2.0]]), "vectors must be a torch.Tensor, got list"),
        (
            lambda: OverTheAirLinear(np.eye(2), np.eye(2), noise=0),
            "noise must be a torch.Generator, .*, got 0; leave",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(lola.LolaError, match=message):
        make()
