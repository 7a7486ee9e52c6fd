"""Uplinks by themselves: what arrives, how long it takes, and how far off it is."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from scenario import small_problem

import lola
from lola.air import AirUplink, DigitalUplink, PerfectUplink, Reception


def senders(k=3, *, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "wide": (100 * torch.randn((7, 5), generator=generator)).to(dtype),
            "narrow": (1e-3 * torch.randn(11, generator=generator) + 2).to(dtype),
        }
        for _ in range(k)
    ]


def receive(uplink, sent, weight, seed=0) -> Reception:
    return uplink.receive(sent, weight, np.random.default_rng(seed))


def joined(tensors):
    return torch.cat([tensor.double().flatten() for tensor in tensors.values()])


def wanted(sent, weight):
    return sum(share * joined(tensors) for share, tensors in zip(weight, sent, strict=True))


def test_the_perfect_one_is_the_sum_in_order():
    sent, weight = senders(), [0.25, 0.5, -3.0]
    received = receive(PerfectUplink(), sent, weight)
    assert (received.latency_s, received.mse) == (0.0, 0.0)
    for name, tensor in received.tensors.items():
        assert torch.equal(tensor, sent[0][name] * 0.25 + sent[1][name] * 0.5 + sent[2][name] * -3.0)
        assert tensor.dtype == torch.float32
    assert torch.equal(sent[0]["wide"], senders()[0]["wide"])  # what was sent is left as it was


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_32_bits_are_the_values_themselves(dtype):
    sent = senders(dtype=dtype)
    received = receive(DigitalUplink(bits=32), sent, [0.2, 0.3, 0.5])
    exact = receive(PerfectUplink(), sent, [0.2, 0.3, 0.5]).tensors
    assert all(torch.equal(received.tensors[name], exact[name]) for name in exact)
    assert received.mse == 0.0
    assert received.latency_s == pytest.approx(3 * 46 * 32 / (20e6 * math.log2(101)), rel=1e-12)


def test_32_bits_of_double_precision_lose_what_single_has_not():
    sent = [{name: tensor / 3 for name, tensor in senders(1, dtype=torch.float64)[0].items()}]
    received = receive(DigitalUplink(bits=32), sent, [2.0])
    error = joined(received.tensors) - wanted(sent, [2.0])
    assert 0 < received.mse == pytest.approx(float(error.square().mean()), rel=1e-9)


@pytest.mark.parametrize("bits", [1, 2, 5, 8, 12])
def test_quantised_values_are_levels_of_the_range_nearest_the_value(bits):
    (tensors,) = senders(1, dtype=torch.float64)
    received = receive(DigitalUplink(bits=bits), [tensors], [1.0]).tensors
    for name, tensor in tensors.items():
        step = (tensor.max() - tensor.min()) / (2**bits - 1)
        place = (received[name] - tensor.min()) / step
        assert (place - place.round()).abs().max() < 1e-6
        assert ((received[name] - tensor).abs() <= step).all()
        assert {0, 2**bits - 1} <= {*place.round().flatten().tolist()}


def test_quantisation_is_unbiased_with_the_closed_form_s_error():
    """Over 1,000 transmissions: the mean of each value, and the mean squared error, lie in 99.9 % intervals."""
    sent, weight, uplink = senders(), [0.2, 0.3, -0.5], DigitalUplink(bits=4)
    receptions = [receive(uplink, sent, weight, seed) for seed in range(1000)]
    errors = torch.stack([joined(reception.tensors) for reception in receptions]) - wanted(sent, weight)
    spread = errors.std(dim=0)
    assert (errors.mean(dim=0).abs() < 4.3 * spread / math.sqrt(1000) + 1e-6).all()  # 46 values together
    squares = errors.square().mean(dim=1)
    assert abs(squares.mean() - receptions[0].mse) < 3.29 * squares.std() / math.sqrt(1000)
    assert {reception.mse for reception in receptions} == {receptions[0].mse}


def test_values_that_are_all_the_same_arrive_as_they_are():
    sent = [{"zero": torch.zeros(5), "one": torch.tensor([3.25]), "two": torch.full((2, 2), -1e30)}]
    received = receive(DigitalUplink(bits=1), sent, [1.0])
    assert received.mse == 0.0
    assert all(torch.equal(received.tensors[name], sent[0][name]) for name in sent[0])


def test_scaling_what_is_sent_scales_what_arrives():
    sent = senders()
    for factor in (2.0**-40, 2.0**40):
        scaled = [{name: tensor.double() * factor for name, tensor in tensors.items()} for tensors in sent]
        alike = [{name: tensor.double() for name, tensor in tensors.items()} for tensors in sent]
        for uplink in (PerfectUplink(), DigitalUplink(bits=6)):
            one, other = (receive(uplink, tensors, [0.5, 0.25, 1.0]) for tensors in (alike, scaled))
            assert torch.equal(joined(one.tensors) * factor, joined(other.tensors))
            assert other.mse == pytest.approx(one.mse * factor**2, rel=1e-9, abs=0)


def test_a_round_sends_what_its_uplink_sends():
    """Bits of every 32, on the devices' channels; or a symbol a value, which takes everybody the same time."""
    problem = small_problem(pinned=[(4, 1)])
    assert PerfectUplink().as_sent(problem) is problem
    digital, analog = DigitalUplink(bits=4).as_sent(problem), AirUplink().as_sent(problem)
    assert digital.profile.upload_bits.tolist() == [1e5] * 3
    assert digital.fleet is problem.fleet
    assert analog.profile.upload_bits.tolist() == [25_000.0] * 3
    assert analog.fleet.spectral_efficiency.tolist() == [1.0] * 5
    for other in (digital, analog):
        assert (other.bandwidth_hz, other.local_steps, other.pinned) == (1e6, 2, problem.pinned)
        assert other.fleet.speed.tolist() == problem.fleet.speed.tolist()
        assert other.profile.latency_s.tolist() == problem.profile.latency_s.tolist()


def test_uplinks_of_the_same_numbers_are_one():
    """A run that goes on knows its uplink again, and so no number of it may change."""
    for kind in (PerfectUplink, DigitalUplink, AirUplink):
        assert len({kind(), kind()}) == 1
        with pytest.raises(FrozenInstanceError):
            kind().snr_db = 3.0
    assert DigitalUplink() == DigitalUplink(bits=8, snr_db=20.0, bandwidth_hz=20e6)
    assert AirUplink() == AirUplink(snr_db=20.0, bandwidth_hz=20e6, unbiased=False, fading=False)
    assert len({Reception({}, 0.0, 0.0), Reception({}, 0.0, 0.0)}) == 2  # what arrived is itself


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DigitalUplink(bits=0), "bits must be at least 1, got 0"),
        (lambda: DigitalUplink(bits=33), r"bits must lie in 1…32, got 33; 32 is float32 itself"),
        (lambda: DigitalUplink(bits=8.0), "bits must be an integer, got float"),
        (lambda: DigitalUplink(snr_db=float("nan")), "snr_db must be a ratio in decibels, -490 to 490; got nan"),
        (lambda: DigitalUplink(snr_db="20 dB"), "snr_db must be a number, got str: '20 dB'"),
        (lambda: DigitalUplink(bandwidth_hz=0), "bandwidth_hz must be finite and > 0, got 0"),
        (lambda: receive(PerfectUplink(), senders(1)[0], [1.0]), "sent must be a sequence of mappings, name to tensor"),
        (lambda: receive(PerfectUplink(), [], []), "sent must be a sequence of mappings.*got list of"),
        (lambda: receive(PerfectUplink(), [{}], [1.0]), "sent must hold a tensor at least, got none"),
        (lambda: receive(PerfectUplink(), senders(), [1.0]), "weight must have one entry for each of 3 senders, got 1"),
        (lambda: receive(PerfectUplink(), senders(1), ["1"]), "weight must be a number, got str"),
        (lambda: receive(PerfectUplink(), senders(1), [math.inf]), r"weight must be finite, got \[inf\]; leave out"),
        (
            lambda: receive(DigitalUplink(), [*senders(1), {"wide": torch.ones(7, 5)}], [1.0, 1.0]),
            r"the same names of every sender, \['narrow', 'wide'\] of the first; got \['wide'\] of sender 1",
        ),
        (
            lambda: receive(DigitalUplink(), [{"a": torch.ones(2)}, {"a": torch.ones(3)}], [1.0, 1.0]),
            r"a of sender 1 must be as of the first, torch.float32 of shape \(2,\), with values; got torch.float32 of",
        ),
        (
            lambda: receive(DigitalUplink(), [{"a": torch.ones(0)}], [1.0]),
            r"a of sender 0 must be as .*, with values; got torch.float32 of shape \(0,\)",
        ),
        (
            lambda: receive(DigitalUplink(), [{"a": torch.ones(2, dtype=torch.int64)}], [1.0]),
            "a of sender 0 must be a tensor of real numbers, got torch.int64",
        ),
        (
            lambda: receive(DigitalUplink(), [{"a": np.ones(2)}], [1.0]),
            "a of sender 0 must be a tensor of real numbers, got ndarray",
        ),
        (
            lambda: receive(PerfectUplink(), senders(1), 1.0),
            "weight must be a list of numbers, one for each .* got 1.0",
        ),
        (lambda: receive(PerfectUplink(), senders(1), np.array(1.0)), "weight must be a list of numbers"),
        (lambda: DigitalUplink().receive(senders(1), [1.0], 0), "rng must be a numpy.random.Generator, got 0; numpy"),
        (lambda: AirUplink().receive(senders(1), [1.0], None), "rng must be a numpy.random.Generator, got None"),
        (lambda: receive(AirUplink(), senders(1), [1e39]), r"weight must be at most 3.40282e\+38 in .* scale what is"),
        (
            lambda: receive(DigitalUplink(), [{"a": torch.tensor([1.7e308, -1.7e308], dtype=torch.float64)}], [1.0]),
            r"a of sender 0 must hold numbers that a float32 has, up to 3.40282e\+38 in .* got 1.7e\+308; scale it",
        ),
        (
            lambda: receive(DigitalUplink(), [{"a": torch.tensor([1.0, math.nan])}], [1.0]),
            "a of sender 0 must be finite to be sent, got a value that is not",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(lola.LolaError, match=message):
        make()
