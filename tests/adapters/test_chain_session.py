"""Rounds over chains: what clusters compute, how the server averages, who is lost, and what a run that goes on has."""

import copy
import csv
import io
import json
import logging

import numpy as np
import pytest
import torch
from chained import InPairs, chain_data, chain_session
from cooperative import random_state, tiny_session, weights_of

import lola
from lola.adapters import ChainSetting, ClusterPlan, ModelChain

FEDERATED = ChainSetting(averaging="tunables", local_steps=3)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.5)


def plain_sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def one_pair(version, clients):
    return [ClusterPlan((0, 0, 1, 1, 1), 2.0, 1.0)]


def centralised(session, optimizer, batches_of_round, rounds):
    """Train the model of a session as one machine with all data would."""
    model = session.depths.model
    session.depths.select_all()
    for version in range(rounds):
        batches = batches_of_round(version)
        for batch in batches:
            (model(**batch).loss / len(batches)).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_one_cluster_is_centralised_training_to_the_last_bit(tmp_path):
    session = chain_session(tmp_path, plan=one_pair, setting=ChainSetting(local_steps=2), dropout=False)
    records = list(session.run(50))
    alone = chain_session(tmp_path, dropout=False)

    def batches(version):
        drawn = alone.data.batches(0, version)
        return [next(drawn), next(drawn)]

    centralised(alone, alone.optimizer, batches, 50)
    assert same_weights(session, alone)
    assert np.mean([record.loss for record in records[-9:]]) < 0.95 * np.mean([record.loss for record in records[:9]])
    assert records[-1].clock_s == 50 * 2 * 2.0
    assert {(r.latency_s, r.lower_bound_s, r.clusters, r.applied, r.participants) for r in records} == {(4, 2, 1, 1, 6)}


def test_clusters_with_equal_batches_are_one_with_all_of_them(tmp_path):
    session = chain_session(tmp_path, optimizer=sgd, dtype=torch.float64, dropout=False)
    list(session.run(10))
    alone = chain_session(tmp_path, optimizer=sgd, dtype=torch.float64, dropout=False)

    def union(version):
        drawn = [next(alone.data.batches(shard, version)) for shard in range(3)]
        return [{name: torch.cat([batch[name] for batch in drawn]) for name in drawn[0]}]

    centralised(alone, alone.optimizer, union, 10)
    torch.testing.assert_close(weights_of(session), weights_of(alone), rtol=1e-10, atol=1e-14)


def test_batches_weigh_by_their_rows_within_a_cluster_as_across(tmp_path):
    def some(batch):
        kept = batch["input_ids"][:, 1] % 2 == 0
        kept[0] = True
        return {name: column[kept] for name, column in batch.items()}

    data = chain_data()
    data.collate = some
    settings = {"optimizer": sgd, "dtype": torch.float64, "dropout": False, "data": data}
    session = chain_session(tmp_path, setting=ChainSetting(local_steps=3), **settings)
    records = list(session.run(5))
    alone, losses, sizes = chain_session(tmp_path, **settings), [], set()

    def union(version):
        drawn = [batch for shard in range(3) for batch, _ in zip(data.batches(shard, version), range(3), strict=False)]
        sizes.update(len(batch["labels"]) for batch in drawn)
        whole = {name: torch.cat([batch[name] for batch in drawn]) for name in drawn[0]}
        losses.append(alone.depths.model(**whole).loss.item())
        return [whole]

    centralised(alone, alone.optimizer, union, 5)
    assert len(sizes) > 1
    torch.testing.assert_close(weights_of(session), weights_of(alone), rtol=1e-10, atol=1e-14)
    assert [record.loss for record in records] == pytest.approx(losses, rel=1e-10)


@pytest.mark.parametrize("bounds", [(1.0, np.nan), (np.nan, 1.0), (1.0, 0.5)])
def test_the_bound_of_a_round_is_the_largest_known(bounds, tmp_path):
    def plan(version, clients):
        return [
            ClusterPlan((at, at, at + 1, at + 1, at + 1), 2.0, bound) for at, bound in zip((0, 2), bounds, strict=True)
        ]

    (record,) = chain_session(tmp_path, plan=plan).run(1)
    assert record.lower_bound_s == 1.0


def test_averaged_tunables_are_fedavg(tmp_path):
    data = chain_data(sizes=[10, 20, 60])
    session = chain_session(tmp_path, optimizer=sgd, dtype=torch.float64, dropout=False, setting=FEDERATED, data=data)
    records = list(session.run(4))
    plain = chain_session(tmp_path, dtype=torch.float64, dropout=False, data=data)
    plain.depths.select_all()
    for version in range(4):
        clusters, losses = [], []
        for shard in range(3):
            own = copy.deepcopy(plain.depths)
            optimizer = sgd(own.all_parameters())
            for batch, _ in zip(data.batches(shard, version), range(3), strict=False):
                loss = own.model(**batch).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
            clusters.append(own.all_parameters())
        with torch.no_grad():
            for parameter, *three in zip(plain.depths.all_parameters(), *clusters, strict=True):
                parameter.copy_(sum(share * one for share, one in zip((1 / 9, 2 / 9, 6 / 9), three, strict=True)))
        mean = np.reshape(losses, (3, 3)).mean(axis=1) @ [1 / 9, 2 / 9, 6 / 9]
        assert records[version].loss == pytest.approx(mean, rel=1e-10)
    torch.testing.assert_close(weights_of(session), weights_of(plain), rtol=1e-10, atol=1e-14)
    assert not session.optimizer.state
    assert session.optimizer.param_groups[0]["lr"] == 0.1


def test_one_plain_step_each_is_the_same_either_way_and_more_are_not(tmp_path):
    def train(averaging, local_steps):
        setting = ChainSetting(averaging=averaging, local_steps=local_steps)
        plain = chain_session(
            tmp_path,
            optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
            dtype=torch.float64,
            dropout=False,
            setting=setting,
        )
        list(plain.run(5))
        return weights_of(plain)

    torch.testing.assert_close(train("gradients", 1), train("tunables", 1), rtol=1e-10, atol=1e-14)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(train("gradients", 2), train("tunables", 2), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("averaging", ["gradients", "tunables"])
def test_a_lost_client_costs_its_cluster_the_round_and_nothing_else(averaging, tmp_path):
    asked = []

    def plan(version, clients):
        asked.append(clients.tolist())
        return InPairs()(version, clients)

    # In the first round client 3 is the only one that is lost.
    seed = next(
        seed
        for seed in range(1000)
        if (ChainSetting(seed=seed).rng(0, 1).random(6) < 0.1).tolist() == [False] * 3 + [True] + [False] * 2
        and all((ChainSetting(seed=seed).rng(version, 1).random(6) >= 0.1).all() for version in (1, 2))
    )
    setting = {"averaging": averaging, "local_steps": 2, "seed": seed}
    session = chain_session(tmp_path, plan=plan, setting=ChainSetting(failure=0.1, **setting))
    before = weights_of(session)
    first, second, _ = session.run(3)

    def without_the_second(version, clients):
        return [chain for chain in InPairs()(version, clients) if version == 2 or chain.client_of_module[0] != 2]

    spared = chain_session(tmp_path, plan=without_the_second, setting=ChainSetting(**setting))
    fewer, *_ = spared.run(2)
    assert asked[:2] == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 4, 5]]
    assert asked[2] == [0, 1, 2, 3, 4, 5]
    assert (first.lost_clients, second.lost_clients) == ((3,), ())
    assert (first.clusters, first.applied, fewer.clusters, fewer.applied) == (3, 2, 2, 2)
    assert first.loss == fewer.loss
    assert first.latency_s == 2 * 1.5 * 5  # the server waits for the slowest that it expects
    assert (second.participants, second.clusters, second.applied) == (5, 2, 2)
    assert first.forward_bytes == 1.5 * fewer.forward_bytes  # the lost cluster's were sent all the same
    assert 1 < first.return_bytes / fewer.return_bytes < 1.5
    assert (first.uploaded_bytes, first.delivered_bytes) == (fewer.uploaded_bytes, 1.5 * fewer.delivered_bytes)
    assert any(not torch.equal(a, b) for a, b in zip(before, weights_of(session), strict=True))
    list(spared.run(3))
    assert same_weights(session, spared)


def test_where_all_clusters_are_lost_nothing_is_stepped_and_everybody_is_called_in(tmp_path, caplog):
    setting = ChainSetting(failure=0.999999, participation=0.5)
    session = chain_session(tmp_path, setting=setting)
    before = weights_of(session)
    with caplog.at_level(logging.WARNING, "lola"):
        first, second = session.run(2)
    assert np.isnan([first.loss, second.loss]).all()
    assert (second.applied, second.uploaded_bytes, second.participants) == (0, 0, 6)
    assert len(first.lost_clients) >= 2
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(session), strict=True))
    assert "do not suffice; they are called in again" in caplog.text


def test_who_takes_part_follows_the_seed(tmp_path):
    session = chain_session(tmp_path, setting=ChainSetting(participation=0.6, seed=3))
    records = list(session.run(8))
    for version, record in enumerate(records):
        draws = session.setting.rng(version, 3).random(6) < 0.6
        pairs = [start for start in (0, 2, 4) if draws[start : start + 2].all()] or [0, 2, 4]
        assert [chain[0] for chain in record.client_of_module] == pairs
        assert record.participants == (draws.sum() if len(pairs) < 3 or draws.all() else 6)
    assert len({record.participants for record in records}) > 1


def test_only_tunables_are_delivered(tmp_path):
    session = chain_session(tmp_path)
    (record,) = session.run(1)
    tunable = 4 * sum(parameter.numel() for parameter in session.depths.all_parameters())
    whole = sum(parameter.numel() * 4 for parameter in session.depths.model.parameters())
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in session.depths.model.buffers())
    assert record.delivered_bytes == record.uploaded_bytes == 3 * tunable
    assert record.full_delivery_bytes == 3 * (whole + buffers) > 10 * record.delivered_bytes
    hidden = 4 * 8 * 16 * 4
    assert (record.forward_bytes, record.return_bytes) == (3 * hidden, 3 * hidden)
    assert record.beside_bytes == 3 * (4 * 8 * 8 + 4 * 8)
    _, passed = ModelChain(session.depths, record.client_of_module[0]).infer(next(session.data.batches(0, 0)))
    assert (passed.hop_bytes, passed.result_bytes) == ((hidden,), 4 * 2 * 4)


@pytest.mark.parametrize("averaging", ["gradients", "tunables"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(averaging, tmp_path):
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    setting = ChainSetting(averaging, local_steps=2, participation=0.9, failure=0.1, checkpoint_every=2)

    def session(name):
        return chain_session(tmp_path / name, keep=True, setting=setting, evaluate=lambda: {"score": 1.0})

    whole = session("whole")
    list(whole.run(11))
    state = random_state()
    for until in (3, 6, 7):
        rounds = session("stopped").run(11)
        while next(rounds).version < until:
            pass
        rounds.close()
    stopped = session("stopped")
    assert stopped.version == 6
    list(stopped.run(11))
    assert random_state() == state
    assert any(record.lost_clients for record in whole.records)
    assert same_weights(whole, stopped)
    assert repr(stopped.records) == repr(whole.records)
    for name in ("round-000011/weights.safetensors", "round-000011/optimizer.safetensors", "metrics.csv"):
        ours, theirs = (tmp_path / folder / "run" / name for folder in ("stopped", "whole"))
        assert ours.read_bytes() == theirs.read_bytes(), name
    rows = list(csv.DictReader(io.StringIO((tmp_path / "whole" / "run" / "metrics.csv").read_text())))
    assert len(rows) == 11
    assert whole.records[0].client_of_module == ((0, 0, 1, 1, 1), (4, 4, 5, 5, 5))
    assert rows[0]["client_of_module"] == "0 0 1 1 1; 4 4 5 5 5"
    assert rows[0]["forward_bytes"] == str(whole.records[0].forward_bytes)
    assert (rows[8]["score"], rows[9]["score"]) == ("", "1.0")
    assert json.loads((tmp_path / "whole/run/round-000011/state.json").read_text())["session"]["scheme"] == "chains"


def test_a_checkpoint_of_another_run_or_scheme_is_refused(tmp_path):
    list(chain_session(tmp_path, keep=True).run(1))
    others = (
        {"setting": ChainSetting(local_steps=2)},
        {"plan": InPairs(latency_s=2.0)},
        {"starts": (0, 4, 2)},
        {"n_clients": 7},
        {"data": chain_data(seed=6)},
    )
    for other in others:
        with pytest.raises(lola.FormatError, match="the checkpoint is of another run"):
            chain_session(tmp_path, keep=True, **other)
    with pytest.raises(lola.FormatError, match="the checkpoint is of another run"):
        tiny_session(tmp_path)
    assert chain_session(tmp_path, keep=True, setting=ChainSetting(checkpoint_every=1)).version == 1


def test_it_shows_itself_in_a_line(tmp_path):
    session = chain_session(tmp_path, keep=True)
    assert repr(session) == (
        "<ChainSession of 6 clients, 3 of them with data, averaging gradients: 0 rounds, 0 s simulated, in "
        f"{str(tmp_path / 'run')!r}>"
    )
