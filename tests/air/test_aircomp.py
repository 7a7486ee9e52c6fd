"""Sums over the air: what arrives of several senders, against closed forms and a channel of complex numbers."""

import math

import numpy as np
import pytest
import torch

import lola
from lola.air import AirUplink, DigitalUplink
from lola.solvers import air_sum


def senders(k, *, seed=0, sizes=(60, 9)):
    rng = np.random.default_rng(seed)
    return [
        {
            f"of {size}": torch.from_numpy(rng.normal(rng.normal(), 10.0 ** rng.uniform(-3, 3), size).reshape(3, -1))
            for size in sizes
        }
        for _ in range(k)
    ]


def receive(uplink, sent, weight, seed=0):
    return uplink.receive(sent, weight, np.random.default_rng(seed))


def error_of(received, sent, weight, name):
    wanted = sum(share * tensors[name] for share, tensors in zip(weight, sent, strict=True))
    return (received.tensors[name] - wanted).numpy().ravel()


def mean_error(received, sent, weight, name):
    """The closed form's mean of a tensor's error."""
    missing = received.shortfall[name]
    return -sum(
        share * part * (tensors[name] - tensors[name].mean()).numpy().ravel()
        for share, part, tensors in zip(weight, missing, sent, strict=True)
    )


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("fading", [False, True])
@pytest.mark.parametrize("snr_db", [-10.0, 25.0])
def test_a_gradient_s_error_has_the_mean_and_the_variance_of_the_closed_form(snr_db, fading, unbiased):
    """Over 1,000 rounds, within 99.9 % intervals, and every value by itself within one for all of them."""
    rounds, weight = 1000, [0.1, 0.4, -0.2, 0.3]
    uplink, sent = AirUplink(snr_db, 1e6, unbiased=unbiased, fading=fading), senders(4)
    receptions = [receive(uplink, sent, weight, seed) for seed in range(rounds)]
    for name in sent[0]:
        errors = np.stack([error_of(one, sent, weight, name) for one in receptions])
        means = np.stack([mean_error(one, sent, weight, name) for one in receptions])
        deviations = np.sqrt([one.noise_variance[name] for one in receptions])
        normal = (errors - means) / deviations[:, np.newaxis]
        assert abs(normal.mean()) < 3.29 / math.sqrt(normal.size)
        assert abs(normal.var() - 1) < 3.29 * math.sqrt(2 / normal.size)
        assert np.abs(normal.mean(axis=0)).max() < 4.4 / math.sqrt(rounds)
        if unbiased:
            assert all((one.shortfall[name] == 0).all() for one in receptions)
        else:
            assert any((one.shortfall[name] > 0).any() for one in receptions)
    squares = np.mean(
        [np.concatenate([error_of(o, sent, weight, n) for n in sent[0]]) ** 2 for o in receptions], axis=1
    )
    surprise = squares / [one.mse for one in receptions] - 1
    assert abs(surprise.mean()) < 3.29 * surprise.std() / math.sqrt(rounds)


def test_one_sender_is_scaled_down_as_much_as_the_noise_s_real_part_wants():
    (sent,) = senders(1, sizes=(60,))
    noise = 10.0 ** (-7 / 10) / 2
    received = receive(AirUplink(7.0, 1e6), [sent], [3.0])
    power = 9 * float(sent["of 60"].var(correction=0))
    assert received.shortfall["of 60"] == pytest.approx([noise / (1 + noise)], rel=1e-12)
    assert received.noise_variance["of 60"] == pytest.approx(power * noise / (1 + noise) ** 2, rel=1e-12)
    assert received.mse == pytest.approx(power * noise / (1 + noise), rel=1e-12)
    assert received.latency_s == 60 / 1e6


def test_the_real_part_of_a_complex_channel_has_this_error():
    """A plain twin with phases and complex noise: senders turn their phase back, the receiver keeps the real part."""
    rng, k, n, snr_db = np.random.default_rng(3), 3, 200_000, 10.0
    channel = (rng.standard_normal(k) + 1j * rng.standard_normal(k)) / math.sqrt(2)
    symbols, weight = rng.standard_normal((k, n)), np.array([0.2, 0.5, 0.3])
    symbols = (symbols - symbols.mean(axis=1)[:, None]) / symbols.std(axis=1)[:, None]
    power = 10 ** (snr_db / 10)  # with noise of power 1
    plan = air_sum(np.abs(channel), np.full(k, power), weight, 0.5)
    sent = plan.amplitude * np.conj(channel) / np.abs(channel)
    noise = (rng.standard_normal(n) + 1j * rng.standard_normal(n)) / math.sqrt(2)
    estimate = plan.scale * ((channel * sent) @ symbols + noise).real
    squares = np.square(estimate - weight @ symbols)
    assert abs(squares.mean() - plan.mse) < 3.29 * squares.std() / math.sqrt(n) + 0.02 * plan.mse  # chance correlation

    class Fixed(np.random.Generator):
        def exponential(self, size):
            return np.abs(channel) ** 2

    tensors = [{"x": torch.from_numpy(row)} for row in symbols]
    received = AirUplink(snr_db, fading=True).receive(tensors, weight.tolist(), Fixed(np.random.PCG64(1)))
    assert received.noise_variance["x"] == pytest.approx(plan.noise_variance, rel=1e-9)
    assert received.shortfall["x"] * weight == pytest.approx(plan.shortfall, rel=1e-9)


def test_uncorrelated_senders_have_the_solver_s_error():
    rows = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) * np.array([[0.5], [20.0], [3.0]])
    sent, weight = [{"x": torch.from_numpy(row + 7)} for row in rows], [0.5, 0.3, -0.2]
    for uplink in (AirUplink(3.0), AirUplink(30.0), AirUplink(3.0, unbiased=True)):
        share = np.abs(weight) * [0.5, 20.0, 3.0]
        plan = air_sum(np.ones(3), np.ones(3), share, 10 ** (-uplink.snr_db / 10) / 2, unbiased=uplink.unbiased)
        assert receive(uplink, sent, weight).mse == pytest.approx(plan.mse, rel=1e-12)


def test_senders_that_have_nothing_to_say_are_silent():
    sent = [*senders(2), {name: torch.zeros_like(tensor) for name, tensor in senders(1)[0].items()}]
    two, three = receive(AirUplink(), sent[:2], [0.7, 0.3]), receive(AirUplink(), sent, [0.7, 0.3, 5.0])
    none = receive(AirUplink(), sent[::-1], [0.0, 0.3, 0.7])
    for name in sent[0]:
        assert torch.equal(two.tensors[name], three.tensors[name])
        assert torch.allclose(two.tensors[name], none.tensors[name], rtol=1e-12)
        assert (three.shortfall[name][2], none.shortfall[name][0]) == (0, 0)
    silence = receive(AirUplink(), sent[2:], [1.0])
    assert (silence.mse, silence.noise_variance) == (0.0, dict.fromkeys(sent[0], 0.0))
    assert not any(tensor.any() for tensor in silence.tensors.values())
    alone = receive(AirUplink(-20.0), [{"bias": torch.tensor([3.25])}], [2.0])
    assert (alone.tensors["bias"].tolist(), alone.mse) == ([6.5], 0.0)


def test_scaling_what_is_sent_scales_what_arrives_and_shifting_it_costs_nothing():
    sent, weight = senders(3), [0.5, 0.25, 1.0]
    usual = receive(AirUplink(fading=True), sent, weight)
    for factor in (2.0**-60, 2.0**60):
        scaled = [{name: tensor * factor for name, tensor in tensors.items()} for tensors in sent]
        received = receive(AirUplink(fading=True), scaled, weight)
        assert all(torch.equal(received.tensors[name], usual.tensors[name] * factor) for name in usual.tensors)
        assert received.mse == pytest.approx(usual.mse * factor**2, rel=1e-12, abs=0)
    shifted = [{name: tensor + 1000 for name, tensor in tensors.items()} for tensors in sent]
    assert receive(AirUplink(fading=True), shifted, weight).mse == pytest.approx(usual.mse, rel=1e-6)


def test_noise_falls_with_snr_and_more_senders_take_no_longer():
    sent = senders(8)
    shares = [1 / 8] * 8
    mse = [receive(AirUplink(snr_db), sent, shares).mse for snr_db in range(-20, 61, 5)]
    assert (np.diff(mse) < 0).all()
    assert mse[-2] / mse[-1] == pytest.approx(10**0.5, rel=1e-2)
    digital, analog = receive(DigitalUplink(8), sent, shares), receive(AirUplink(), sent, shares)
    assert digital.latency_s / analog.latency_s == pytest.approx(8 * 8 / math.log2(101), rel=1e-12)
    assert analog.latency_s == receive(AirUplink(), sent[:1], [1.0]).latency_s == 69 / 20e6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AirUplink(snr_db=math.inf), "snr_db must be a ratio in decibels, -490 to 490; got inf"),
        (lambda: AirUplink(bandwidth_hz=-1.0), "bandwidth_hz must be finite and > 0, got -1.0"),
        (lambda: AirUplink(fading="rayleigh"), "fading must be True or False, got 'rayleigh'"),
        (lambda: AirUplink(unbiased=1), "unbiased must be True or False, got 1"),
        (
            lambda: receive(AirUplink(), [{"a": torch.tensor([1.0, -math.inf])}], [1.0]),
            "a of sender 0 must be finite to be sent, got a value that is not",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(lola.LolaError, match=message):
        make()
