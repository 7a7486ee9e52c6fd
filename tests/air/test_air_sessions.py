"""Sessions over an uplink: today's bits over a perfect one, rounds as long as what is sent, and runs that go on."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from chained import InPairs, chain_session
from cooperative import tiny_problem, tiny_session, weights_of
from federated import federated_session

import lola
from lola.adapters import ChainSetting, Setting
from lola.air import AirUplink, DigitalUplink, PerfectUplink

LOSSLESS = [PerfectUplink(), DigitalUplink(bits=32)]
FEDERATED = ChainSetting(averaging="tunables", local_steps=2)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def several(problem, **changes):
    return lola.Problem(problem.profile, problem.fleet, problem.bandwidth_hz, local_steps=2, max_blocks=2, **changes)


@pytest.mark.parametrize("uplink", LOSSLESS, ids=repr)
def test_a_lossless_uplink_gives_the_cooperative_session_s_bits(uplink, tmp_path):
    settings = {"setting": Setting(failure=0.2, participation=0.9), "problem": several(tiny_problem(3))}
    plain = tiny_session(tmp_path, keep=False, **settings)
    records = list(plain.run(6))
    assert list(tiny_session(tmp_path, uplink=uplink, **settings).run(3)) == records[:3]
    over = tiny_session(tmp_path, uplink=uplink, **settings)  # goes on
    assert list(over.run(6)) == records[3:]
    assert same_weights(plain, over)


@pytest.mark.parametrize("setting", [ChainSetting(failure=0.1), FEDERATED], ids=["gradients", "tunables"])
@pytest.mark.parametrize("uplink", LOSSLESS, ids=repr)
def test_a_lossless_uplink_gives_the_chain_session_s_bits(uplink, setting, tmp_path):
    def plain_sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    plain = chain_session(tmp_path, optimizer=plain_sgd, setting=setting)
    records = list(plain.run(6))
    for rounds in (3, 6):
        over = chain_session(tmp_path, optimizer=plain_sgd, setting=setting, keep=True, uplink=uplink)
        list(over.run(rounds))
    assert same_weights(plain, over)
    n_values = sum(parameter.numel() for parameter in over.depths.all_parameters())
    per_cluster_s = 0.0 if uplink == PerfectUplink() else n_values * 32 / (20e6 * np.log2(101))
    for record, alone in zip(over.records, records, strict=True):
        upload_s = record.applied * per_cluster_s
        assert (record.loss, record.applied) == (alone.loss, alone.applied)
        assert record.latency_s == pytest.approx(alone.latency_s + upload_s, rel=1e-14)
        assert record.lower_bound_s == pytest.approx(alone.lower_bound_s + upload_s, rel=1e-14)
    assert over.clock_s == pytest.approx(sum(record.latency_s for record in over.records))


@pytest.mark.parametrize("uplink", [DigitalUplink(bits=6), AirUplink(10.0, fading=True)], ids=["digital", "air"])
def test_a_lossy_run_that_goes_on_has_the_same_bits_and_others_than_a_perfect_one(uplink, tmp_path):
    for name, make in (("cooperative", tiny_session), ("chains", chain_session)):
        folder = tmp_path / name
        folder.mkdir()
        whole, perfect = make(folder, keep=False, uplink=uplink), make(folder, keep=False)
        list(whole.run(5))
        list(perfect.run(5))
        for rounds in (2, 5):
            list(make(folder, keep=True, uplink=uplink).run(rounds))
        assert same_weights(whole, make(folder, keep=True, uplink=uplink)), name
        assert not same_weights(whole, perfect), name


def test_what_a_device_s_answer_becomes_does_not_depend_on_who_answers_before(tmp_path):
    sessions = [tiny_session(tmp_path, keep=False, uplink=DigitalUplink(bits=3)) for _ in range(2)]
    turned = sessions[1].devices

    class Turned:
        def answers(self, plan):
            return reversed(list(turned.answers(plan)))

    sessions[1].devices = Turned()
    for session in sessions:
        list(session.run(2))
    assert same_weights(*sessions)


class Odd:
    """An uplink of somebody's own, which does something to what arrives."""

    def __init__(self, change):
        self.change = change

    def receive(self, sent, weight, rng):
        return self.change(PerfectUplink().receive(sent, weight, rng))

    def as_sent(self, problem):
        return problem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.tensors, "receive of Odd must return a lola.air.Reception, got {"),
        (
            lambda one: replace(one, tensors={}),
            "a tensor of every name that was sent, .* and nothing returned",
        ),
        (
            lambda one: replace(one, tensors={name: tensor.numpy() for name, tensor in one.tensors.items()}),
            "of its shape and dtype; of .* was sent and ndarray returned",
        ),
        (
            lambda one: replace(one, tensors={name: tensor.sum() for name, tensor in one.tensors.items()}),
            r"was sent and \(torch.Size\(\[\]\), torch.float32\) returned",
        ),
        (lambda one: replace(one, latency_s=-1.0), "latency_s that receive of Odd returned must be >= 0, got -1.0"),
        (lambda one: replace(one, mse=float("nan")), "mse that receive of Odd returned must be >= 0, got nan"),
    ],
)
def test_what_an_uplink_returns_is_checked(change, message, tmp_path):
    for make in (tiny_session, chain_session, federated_session):
        with pytest.raises(lola.LolaError, match=message):
            next(make(tmp_path, keep=False, uplink=Odd(change)).run(1))


def test_what_does_not_arrive_finite_is_not_the_device_s_fault(tmp_path):
    def spoil(one):
        return replace(one, tensors={name: tensor * float("nan") for name, tensor in one.tensors.items()})

    settings = {"setting": Setting(quarantine_after=1), "keep": False}
    session = tiny_session(tmp_path, uplink=Odd(spoil), **settings)
    before = weights_of(session)
    for record in session.run(2):
        assert record.applied == 0
        assert record.participants == 7
        assert all(why.split(": ")[1] == "what arrived" for why in record.refused.split("; "))
        assert "quarantine" not in record.refused
    assert session._quarantine.refusals == {}
    assert all(torch.equal(one, other) for one, other in zip(before, weights_of(session), strict=True))


def test_an_uplink_without_a_repr_is_told_by_its_class(tmp_path):
    def kept(uplink):
        return tiny_session(tmp_path, uplink=uplink)

    list(kept(Odd(lambda one: one)).run(1))
    assert kept(Odd(lambda one: replace(one))).version == 1
    with pytest.raises(lola.FormatError, match="the checkpoint is of another run"):
        kept(type("Even", (Odd,), {})(lambda one: one))


def test_rounds_are_scheduled_with_the_bits_that_are_sent(tmp_path):
    problem = tiny_problem(3, bandwidth_hz=1e4)
    (record,) = tiny_session(tmp_path, keep=False, problem=problem, uplink=DigitalUplink(bits=8)).run(1)
    quarter = lola.Profile(
        memory_bytes=problem.profile.memory_bytes, latency_s=problem.profile.latency_s, upload_bits=2e5
    )
    alone = lola.schedule(lola.Problem(quarter, problem.fleet, 1e4, local_steps=2))
    assert (record.latency_s, record.lower_bound_s) == (alone.latency_s, alone.lower_bound_s)
    (whole,) = tiny_session(tmp_path, keep=False, problem=problem).run(1)
    assert record.latency_s < 0.5 * whole.latency_s


def test_over_the_air_a_round_takes_a_symbol_a_value(tmp_path):
    problem = tiny_problem(3, bandwidth_hz=1e4)
    (record,) = tiny_session(tmp_path, keep=False, problem=problem, uplink=AirUplink(0.0)).run(1)
    symbols = lola.Profile(
        memory_bytes=problem.profile.memory_bytes, latency_s=problem.profile.latency_s, upload_bits=8e5 / 32
    )
    alike = lola.Fleet(
        speed=problem.fleet.speed, memory_bytes=problem.fleet.memory_bytes, spectral_efficiency=np.ones(7)
    )
    assert record.latency_s == lola.schedule(lola.Problem(symbols, alike, 1e4, local_steps=2)).latency_s
    session = chain_session(tmp_path, uplink=AirUplink(bandwidth_hz=1e6))
    (record,) = session.run(1)
    n_values = sum(parameter.numel() for parameter in session.depths.all_parameters())
    assert record.applied == 3
    assert record.latency_s == pytest.approx(1.5 * 5 + n_values / 1e6, rel=1e-12)


def test_an_uplink_makes_another_run_and_none_leaves_it(tmp_path):
    for name, make in (("cooperative", tiny_session), ("chains", chain_session)):
        folder = tmp_path / name
        folder.mkdir()
        list(make(folder, keep=True, uplink=DigitalUplink(bits=8)).run(1))
        assert make(folder, keep=True, uplink=DigitalUplink()).version == 1
        for other in (None, PerfectUplink(), DigitalUplink(bits=9), DigitalUplink(snr_db=19.0)):
            with pytest.raises(lola.FormatError, match=r"another run \(.*, uplink, data or frozen weights differ\)"):
                make(folder, keep=True, uplink=other)


@dataclass
class Cut:
    """An uplink of one's own, of one method."""

    def receive(self, sent, weight, rng):
        return PerfectUplink().receive(sent, weight, rng)


class Live:
    """Devices that say who they are, and so are elsewhere."""

    def answers(self, plan):
        return []

    def roster(self, problem, after):
        raise AssertionError("nobody is asked")


def test_uplinks_that_cannot_be_are_refused(tmp_path):
    list(chain_session(tmp_path, plan=InPairs(), uplink=Cut()).run(1))
    with pytest.raises(lola.LolaError, match=r"uplink must have receive\(sent, weight, rng\), as a .* got 8"):
        chain_session(tmp_path, uplink=8)
    with pytest.raises(lola.LolaError, match=r"uplink must have receive.* as_sent\(problem\), as a .* got Cut\(\)"):
        tiny_session(tmp_path, keep=False, uplink=Cut())
    with pytest.raises(lola.LolaError, match=r"uplink must have receive.*; got <class .*DigitalUplink'>"):
        tiny_session(tmp_path, keep=False, uplink=DigitalUplink)
    with pytest.raises(lola.LolaError, match="live devices send over a real uplink, got another beside them"):
        tiny_session(tmp_path, keep=False, devices=Live(), uplink=PerfectUplink())
