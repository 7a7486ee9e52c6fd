"""What a federated session refuses: arguments, answers, what arrives, and steps that do not stay finite."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cooperative import tiny_depths
from federated import MAKERS, UPLINK, Growing, adam, federated_data, federated_session

import lola
from lola.adapters import ChainSetting
from lola.air import put_over_the_air, rayleigh_channel
from lola.deft import FederatedSession, FederatedSetting, Outcome, PlainScheme, Scheme


def test_an_answer_that_is_not_finite_is_refused_and_the_others_are_used(tmp_path):
    spoiled = next(federated_data().batches(1, 0))["input_ids"]

    def loss(model, batch):
        return model(**batch).loss * (float("nan") if torch.equal(batch["input_ids"], spoiled) else 1.0)

    session = federated_session(tmp_path, lambda depths: PlainScheme(depths, loss=loss))
    record, following = session.run(2)
    assert record.refused == "device 1: the loss is not finite"
    assert (record.applied, record.devices_used, record.asked) == (2, (0, 2), 3)
    assert np.isfinite(record.loss)
    assert (following.refused, following.applied) == ("", 3)
    assert all(weight.isfinite().all() for weight in session.tunables.all_parameters())


def test_a_device_whose_vectors_are_not_finite_is_refused_over_the_air_too(tmp_path):
    spoiled = next(federated_data().batches(1, 0))["input_ids"]

    def scheme(depths):
        put_over_the_air(depths, 2, rayleigh_channel(4, 4, seed=3))
        words = depths.model.get_input_embeddings()
        words.register_forward_hook(lambda _, args, out: out * float("inf" if torch.equal(args[0], spoiled) else 1))
        return PlainScheme(depths)

    record, following = federated_session(tmp_path, scheme).run(2)
    assert (record.refused, record.devices_used) == ("device 1: the loss is not finite", (0, 2))
    assert (following.refused, following.applied) == ("", 3)


@pytest.mark.parametrize("scheme", ["plain", "assisted"])
def test_a_step_that_would_not_stay_finite_is_taken_back(scheme, tmp_path):
    session = MAKERS[scheme](tmp_path)
    before = [weight.detach().clone() for weight in session.tunables.all_parameters()]
    for group in session.optimizer.param_groups:
        group["lr"] = float("inf")
    (record,) = session.run(1)
    assert "would make" in record.refused
    assert record.applied == 0
    assert np.isnan(record.loss)
    now = session.tunables.all_parameters()
    assert all(torch.equal(a, b) for a, b in zip(now, before, strict=True))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_an_answer_that_weighs_nothing_that_can_be_averaged_is_refused(weight, tmp_path):
    session = federated_session(tmp_path)
    answer = session.scheme.answer
    session.scheme.answer = lambda work, device: replace(answer(work, device), weight=weight if device == 1 else 4)
    (record,) = session.run(1)
    assert record.refused == f"device 1: its weight is not positive and finite, but {weight}"
    assert record.devices_used == (0, 2)
    tunable = sum(one.numel() for one in session.tunables.all_parameters())
    assert record.uploaded_values == 3 * tunable  # it did send, as a cluster does whose answer is refused
    session.scheme.answer = lambda work, device: replace(answer(work, device), weight=0)
    *_, record = session.run(2)
    assert (record.applied, record.lost_devices) == (0, ())


class Lossy:
    """An uplink on which everything arrives as infinity."""

    def receive(self, sent, weight, rng):
        received = UPLINK.receive(sent, weight, rng)
        broken = {name: tensor + float("inf") for name, tensor in received.tensors.items()}
        return replace(received, tensors=broken)


@pytest.mark.parametrize("scheme", ["plain", "emulator", "assisted", "growing"])
def test_what_does_not_arrive_finite_changes_nothing(scheme, tmp_path):
    session = MAKERS[scheme](tmp_path, keep=False, uplink=Lossy())
    before = [weight.detach().clone() for weight in session.tunables.all_named_parameters().values()]
    (record,) = session.run(1)
    assert record.refused.startswith("what arrived: ")
    assert record.refused.endswith(" is not finite")
    assert (record.applied, record.devices_used) == (0, ())
    assert np.isnan(record.loss)
    assert record.uplink_s > 0
    assert record.uploaded_values > 0
    now = session.tunables.all_named_parameters().values()
    assert all(torch.equal(one, other) for one, other in zip(now, before, strict=True))


@pytest.mark.parametrize("asked", [[2, 0], [0, 0, 1], [0, 3], [-1]])
def test_a_scheme_asks_devices_that_take_part_each_once(asked, tmp_path):
    session = federated_session(tmp_path)
    session.scheme.asked = lambda work: asked
    with pytest.raises(ValueError, match=r"asked must name some of the devices that take part, \[0, 1, 2\], ascending"):
        next(session.run(1))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"answer": lambda *_: {}}, TypeError, r"answer of PlainScheme must return a lola.deft.Answer, got \{\}"),
        (
            {"apply": lambda *_: None},
            TypeError,
            "the Outcome of PlainScheme must be a lola.deft.Outcome, got None",
        ),
        (
            {"apply": lambda *_: Outcome(1.0, (7,))},
            ValueError,
            r"name devices that answered, \[0, 1, 2\], .* \[7\]",
        ),
        ({"apply": lambda *_: Outcome(1.0, (1, 0))}, ValueError, r"ascending and each once; got \[1, 0\]"),
        (
            {"apply": lambda *_: Outcome(1.0, (), numbers={"clock_s": 2.0})},
            ValueError,
            "numbers of the Outcome of PlainScheme must have names of their own in metrics.csv, got clock_s a second",
        ),
    ],
)
def test_what_a_scheme_returns_is_checked(changes, error, message, tmp_path):
    session = federated_session(tmp_path)
    for name, method in changes.items():
        setattr(session.scheme, name, method)
    with pytest.raises(error, match=message):
        next(session.run(1))
    assert session.version == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tunables", torch.nn.Linear(1, 1), r"tunables of Odd must say what is trained, as a lola.adapters.Trained\("),
        ("identity", 3, r"identity of Odd must be a tuple of what a run that goes on must have .* got 3; \(\) for"),
    ],
)
def test_what_a_scheme_says_of_itself_is_checked(name, value, message):
    class Odd(Growing):
        pass

    setattr(Odd, name, value)
    with pytest.raises(TypeError, match=message):
        FederatedSession(Odd(), adam([torch.nn.Parameter(torch.ones(1))]), federated_data())


def test_a_scheme_that_lacks_a_member_is_told_which():
    class Silent(Scheme):
        tunables = identity = property(lambda self: ())

    with pytest.raises(TypeError, match="abstract methods .*answer.*apply"):
        Silent()


def test_a_session_without_anything_to_train_is_refused():
    scheme = Growing()
    scheme.all_parameters = list
    with pytest.raises(ValueError, match="a session must have something to train, got no parameter; attach"):
        FederatedSession(scheme, adam([torch.nn.Parameter(torch.ones(1))]), federated_data())


def bad(**arguments):
    def make(folder):
        depths = tiny_depths(folder)
        usual = {"scheme": PlainScheme(depths), "optimizer": adam(depths.all_parameters()), "data": federated_data()}
        return FederatedSession(**(usual | arguments))

    return make


@pytest.mark.parametrize(
    "make, error, message",
    [
        (
            bad(scheme=3),
            TypeError,
            "scheme must be a Scheme, such as .* got int; let a class of yours inherit from lola",
        ),
        (bad(data=[1, 2]), TypeError, "data must be a ShardedData"),
        (bad(setting=ChainSetting()), TypeError, "setting must be a lola.deft.FederatedSetting, got ChainSetting"),
        (bad(uplink=3), TypeError, "uplink must have receive"),
        (bad(compute_s=[1.0, 2.0]), ValueError, "compute_s must be one number, or one for each of 3 devices; got 2"),
        (bad(compute_s=-1.0), ValueError, "compute_s must be finite and >= 0, got -1.0 at index 0"),
        (bad(compute_s="1 s"), TypeError, "compute_s must hold real numbers"),
        (
            bad(optimizer=adam([torch.nn.Parameter(torch.ones(1))])),
            ValueError,
            "does not hold .*, which is trained; make it",
        ),
        (lambda folder: FederatedSetting(local_steps=0), ValueError, "local_steps must be at least 1"),
        (lambda folder: FederatedSetting(participation=0.0), ValueError, "participation must be a chance in"),
        (lambda folder: FederatedSetting(failure=1.0), ValueError, "failure must be a chance in"),
        (lambda folder: PlainScheme(torch.nn.Linear(1, 1)), TypeError, "depths must be a Depths, got Linear"),
    ],
)
def test_what_is_wrong_with_an_argument_is_said(make, error, message, tmp_path):
    with pytest.raises(error, match=message) as refusal:
        make(tmp_path)
    assert isinstance(refusal.value, lola.LolaError)


def test_a_loss_that_depends_on_nothing_trained_is_refused(tmp_path):
    session = federated_session(tmp_path, lambda depths: PlainScheme(depths, loss=lambda model, batch: torch.ones(())))
    with pytest.raises(ValueError, match="the loss depends on nothing that is trained"):
        list(session.run(1))
