"""Federated rounds, whatever the scheme: who is asked, who is lost, what is refused, recorded and gone on with."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from chained import InPairs, chain_session
from cooperative import random_state, tiny_depths, weights_of
from federated import DEVICES, Growing, adam, assisted_session, federated_data, federated_session

import lola
from lola.adapters import ChainSetting, ClusterPlan
from lola.adapters.checkpoint import load_weights
from lola.air import DigitalUplink
from lola.deft import (
    EmulatorScheme,
    FederatedRecord,
    FederatedSession,
    FederatedSetting,
    PlainScheme,
)

UPLINK = DigitalUplink(bits=8, snr_db=20.0, bandwidth_hz=1e6)


def alone(version, clients):
    return [ClusterPlan((int(client),) * 5) for client in clients]


def emulator(depths):
    return EmulatorScheme(depths, [1, 3])


def growing_session(folder, **others):
    scheme = Growing()
    return FederatedSession(
        scheme, torch.optim.SGD(scheme.all_parameters(), lr=0.1), federated_data(), folder=folder / "run", **others
    )


def test_gradients_of_the_whole_model_are_what_chains_of_one_client_average_to_the_last_bit(tmp_path):
    chains = chain_session(
        tmp_path, plan=alone, starts=(0, 1, 2), n_clients=3, setting=ChainSetting(local_steps=2, seed=4)
    )
    depths = tiny_depths(tmp_path)
    depths.model.train()
    setting = FederatedSetting(local_steps=2, seed=4)
    plain = FederatedSession(PlainScheme(depths), adam(depths.all_parameters()), chains.data, setting=setting)
    wanted, records = list(chains.run(6)), list(plain.run(6))
    assert [record.loss for record in records] == [record.loss for record in wanted]
    assert all(torch.equal(a, b) for a, b in zip(weights_of(chains), depths.all_parameters(), strict=True))
    assert {record.uploaded_values * 4 for record in records} == {record.uploaded_bytes for record in wanted}
    assert {record.delivered_bits for record in records} == {record.delivered_bytes * 8 for record in wanted}
    assert {(r.clock_s, r.uplink_s, r.uplink_mse, r.asked, r.applied) for r in records} == {(0, 0, 0, 3, 3)}


MAKERS = {
    "plain": lambda folder, **options: federated_session(folder, **options),
    "emulator": lambda folder, **options: federated_session(folder, emulator, name="roberta", **options),
    "assisted": lambda folder, **options: assisted_session(folder, optimizer=adam, **options),
    "growing": lambda folder, keep, **options: growing_session(folder, **options),
}


@pytest.mark.parametrize("scheme", ["emulator", "assisted", "growing"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(scheme, tmp_path):
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    setting = FederatedSetting(local_steps=2, participation=0.7, failure=0.2, checkpoint_every=2, evaluate_every=4)

    def session(name):
        return MAKERS[scheme](
            tmp_path / name,
            keep=True,
            setting=setting,
            uplink=UPLINK,
            compute_s=[0.5] * (5 if scheme == "growing" else DEVICES),
            evaluate=lambda: {"score": 1.0},
        )

    whole = session("whole")
    list(whole.run(9))
    state = random_state()
    for until in (3, 4, 7):
        rounds = session("stopped").run(9)
        while next(rounds).version < until:
            torch.rand(1)
        rounds.close()
    stopped = session("stopped")
    assert stopped.version == 6
    list(stopped.run(9))
    torch.set_rng_state(torch.tensor(state[0], dtype=torch.uint8))
    weights, others = (one.tunables.all_named_parameters() for one in (whole, stopped))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())
    assert repr(stopped.records) == repr(whole.records)
    assert whole.scheme.kept() == stopped.scheme.kept()
    for name in ("round-000009/weights.safetensors", "round-000009/optimizer.safetensors", "metrics.csv"):
        ours, theirs = (tmp_path / folder / "run" / name for folder in ("stopped", "whole"))
        assert ours.read_bytes() == theirs.read_bytes(), name
    rows = list(csv.DictReader(io.StringIO((tmp_path / "whole" / "run" / "metrics.csv").read_text())))
    assert [row["score"] for row in rows] == ["", "", "", "1.0", "", "", "", "1.0", "1.0"]
    assert rows[0]["devices_used"] == " ".join(map(str, whole.records[0].devices_used))
    assert ("size" in rows[0]) == (scheme == "growing")
    record = whole.records[3]
    assert repr(FederatedRecord.from_json(json.loads(json.dumps(record.to_json())))) == repr(record)


def test_who_takes_part_and_who_drops_out_follow_the_seed(tmp_path):
    setting = FederatedSetting(participation=0.5, failure=0.4, seed=3)
    session = growing_session(tmp_path, setting=setting, compute_s=np.arange(5.0), uplink=UPLINK)
    records = list(session.run(12))
    for version, record in enumerate(records):
        present = np.flatnonzero(setting.rng(version, 3).random(5) < 0.5)
        present = present if present.size else np.arange(5)
        asked = present[present % 2 == version % 2]
        lost = asked[setting.rng(version, 1).random(5)[asked] < 0.4]
        used = np.setdiff1d(asked, lost)
        assert (record.participants, record.asked, record.applied) == (len(present), len(asked), len(used))
        assert (record.devices_used, record.lost_devices) == (tuple(used), tuple(lost))
        assert record.delivered_bits == 7 * len(asked)
        assert record.uploaded_values == 2 * len(used)
        # The round waits for the slowest it asked, lost or not, and for every transmission.
        sent_s = len(used) * 2 * 8 / (1e6 * np.log2(101))
        assert record.uplink_s == pytest.approx(sent_s, rel=1e-12)
        assert record.latency_s == pytest.approx(max([*asked, 0]) + sent_s, rel=1e-12)
        assert record.loss == 0.25 if len(used) else np.isnan(record.loss)
    assert records[-1].clock_s == pytest.approx(sum(record.latency_s for record in records))
    assert {record.applied == 0 for record in records} == {True, False}
    assert any(record.lost_devices for record in records)


def test_a_device_computes_the_same_whoever_else_was_asked(tmp_path):
    """What a lost device would have drawn changes nothing of the others, dropout among it."""
    session = federated_session(tmp_path, setting=FederatedSetting(failure=0.5, seed=2))
    before = [weight.detach().clone() for weight in session.tunables.all_parameters()]
    (record,) = session.run(1)
    assert record.lost_devices
    assert record.devices_used
    alone_of = federated_session(tmp_path, setting=FederatedSetting(seed=2))
    alone_of.scheme.asked = lambda work: list(record.devices_used)
    (fewer,) = alone_of.run(1)
    assert fewer.loss == record.loss
    after = session.tunables.all_parameters()
    assert all(torch.equal(a, b) for a, b in zip(after, alone_of.tunables.all_parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


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


@pytest.mark.parametrize("scheme", ["plain", "assisted"])
def test_a_step_that_would_not_stay_finite_is_taken_back(scheme, tmp_path):
    session = MAKERS[scheme](tmp_path)
    before = [weight.detach().clone() for weight in session.tunables.all_parameters()]
    for group in session.optimizer.param_groups:
        group["lr"] = float("inf")
    (record,) = session.run(1)
    assert "would make" in record.refused
    assert record.applied == 0
    assert np.isnan(record.loss) == (scheme == "plain")
    now = session.tunables.all_parameters()
    assert all(torch.equal(a, b) for a, b in zip(now, before, strict=True))


@pytest.mark.parametrize("make", [federated_session, assisted_session])
def test_labels_that_the_head_has_not_are_named(tmp_path, make):
    session = make(tmp_path)
    session.data.columns["labels"] = session.data.columns["labels"] - 1
    with pytest.raises(lola.models.ModelError, match="has 2 classes, labels 0 to 1, and got labels from -1 to"):
        next(session.run(1))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    list(federated_session(tmp_path, emulator, keep=True).run(1))
    others = (
        {"setting": FederatedSetting(local_steps=2)},
        {"uplink": UPLINK},
        {"compute_s": 1.0},
        {"data": federated_data(seed=6)},
        {"scheme": lambda depths: EmulatorScheme(depths, [2, 3])},
        {"scheme": PlainScheme},
    )
    for other in others:
        with pytest.raises(lola.FormatError, match=r"another run \(scheme, setting, uplink, compute_s, data or frozen"):
            federated_session(tmp_path, **{"scheme": emulator, "keep": True, **other})
    with pytest.raises(lola.FormatError, match=r"another run \(setting, plan, starts, uplink, data or frozen"):
        chain_session(tmp_path, plan=InPairs(), keep=True)
    again = federated_session(tmp_path, emulator, keep=True, setting=FederatedSetting(checkpoint_every=1))
    assert again.version == 1


def test_a_checkpoint_whose_scheme_kept_something_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Growing, "kept", lambda self: {"other": 1})
    list(growing_session(tmp_path).run(1))
    monkeypatch.undo()
    with pytest.raises(lola.FormatError, match="must hold what Growing keeps, got KeyError"):
        growing_session(tmp_path)


def test_weights_of_a_checkpoint_go_into_another_model(tmp_path):
    session = federated_session(tmp_path, keep=True)
    list(session.run(1))
    fresh = tiny_depths(tmp_path, zero_init=False)
    state = load_weights(tmp_path / "run" / "round-000001", fresh)
    assert (state["scheme"], state["kept"]) == ("federated", {})
    assert all(
        torch.equal(a, b) for a, b in zip(session.tunables.all_parameters(), fresh.all_parameters(), strict=True)
    )


def bad(**arguments):
    def make(folder):
        depths = tiny_depths(folder)
        usual = {"scheme": PlainScheme(depths), "optimizer": adam(depths.all_parameters()), "data": federated_data()}
        return FederatedSession(**(usual | arguments))

    return make


@pytest.mark.parametrize(
    "make, error, message",
    [
        (bad(scheme=3), TypeError, "scheme must be a Scheme, such as"),
        (bad(data=[1, 2]), TypeError, "data must be a ShardedData"),
        (bad(setting=ChainSetting()), TypeError, "setting must be a lola.deft.FederatedSetting, got ChainSetting"),
        (bad(uplink=3), TypeError, "uplink must have receive"),
        (bad(compute_s=[1.0, 2.0]), ValueError, "compute_s must be one number, or one for each of 3 devices; got 2"),
        (bad(compute_s=-1.0), ValueError, "compute_s must be finite and >= 0, got -1.0 at index 0"),
        (bad(compute_s="1 s"), TypeError, "compute_s must hold real numbers"),
        (bad(optimizer=adam([torch.nn.Parameter(torch.ones(1))])), ValueError, "the optimizer must hold all that is"),
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


def test_it_shows_itself_in_a_line(tmp_path):
    session = federated_session(tmp_path, keep=True)
    wanted = f"<FederatedSession of 3 devices, PlainScheme: 0 rounds, 0 s simulated, in {str(tmp_path / 'run')!r}>"
    assert repr(session) == wanted
