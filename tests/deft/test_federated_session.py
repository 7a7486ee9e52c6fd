"""Federated rounds, whatever the scheme: who is asked, who is lost, what is refused, recorded and gone on with."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from chained import InPairs, chain_session
from cooperative import random_state, tiny_depths, weights_of
from federated import (
    DEVICES,
    MAKERS,
    UPLINK,
    Growing,
    adam,
    assisted_session,
    emulator,
    federated_data,
    federated_session,
    growing_session,
)

import lola
from lola.adapters import ChainSetting, ClusterPlan
from lola.adapters.checkpoint import load_weights
from lola.deft import (
    EmulatorScheme,
    FederatedRecord,
    FederatedSession,
    FederatedSetting,
    PlainScheme,
)


def alone(version, clients):
    return [ClusterPlan((int(client),) * 5) for client in clients]


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


def test_an_evaluation_leaves_every_part_in_its_mode_and_runs_go_on_to_the_same_bits(tmp_path):
    """A classifier in eval mode, as it is loaded, beside encoders that train."""
    setting = FederatedSetting(evaluate_every=2, checkpoint_every=1)

    def session(name, rounds):
        (tmp_path / name).mkdir(exist_ok=True)
        run = assisted_session(
            tmp_path / name, optimizer=adam, setting=setting, evaluate=lambda: {"drawn": torch.rand(())}, keep=True
        )
        run.scheme.classifier.model.eval()
        list(run.run(rounds))
        assert not any(module.training for module in run.scheme.classifier.model.modules())
        assert all(encoder.training for encoder in run.scheme.encoders)
        return run

    session("stopped", 3)
    torch.rand(1)
    whole, stopped = session("whole", 5), session("stopped", 5)
    assert [record.loss for record in stopped.records] == [record.loss for record in whole.records]
    assert stopped.records[2].scores  # as the last one, of the run that ended there
    drawn = [record.scores for record in stopped.records[3:]]
    assert drawn == [record.scores for record in whole.records[3:]]
    assert drawn[0] != drawn[1]
    weights, others = (one.tunables.all_parameters() for one in (whole, stopped))
    assert all(torch.equal(one, other) for one, other in zip(weights, others, strict=True))


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


def test_it_shows_itself_in_a_line(tmp_path):
    session = federated_session(tmp_path, keep=True)
    wanted = f"<FederatedSession of 3 devices, PlainScheme: 0 rounds, 0 s simulated, in {str(tmp_path / 'run')!r}>"
    assert repr(session) == wanted
