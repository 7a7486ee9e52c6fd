"""Simulated devices: what is random about each, what a session schedules, and what it refuses of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cooperative import tiny_columns, tiny_depths, tiny_problem, tiny_session, weights_of

import lola
from lola.adapters import BlockTask, Setting, ShardedData, block_gradient
from lola.profiling import ProfilingError


class Noting(ShardedData):
    """Notes which device draws batches in which round: those that answer."""

    def __init__(self, data):
        super().__init__(data.columns, data.shards, batch_size=data.batch_size, seed=data.seed)
        self.drawn = {}

    def batches(self, device, version):
        self.drawn.setdefault(version, []).append(device)
        return super().batches(device, version)


def noting_session(folder, **options):
    session = tiny_session(folder, keep=False, **options)
    session.data = session.devices.data = Noting(session.data)
    return session


def test_headroom_and_subcarriers_are_those_of_the_problem(tmp_path):
    fleet = lola.Fleet.sample(7, seed=3, memory_bytes=(2e9, 6e9))
    roomy = lola.Fleet(
        speed=fleet.speed,
        memory_bytes=fleet.memory_bytes,
        spectral_efficiency=fleet.spectral_efficiency,
        headroom=[0.6, *[0.7] * 5, 0.2],
    )
    plain, wanted = tiny_problem(3), tiny_problem(3, fleet=roomy, subcarrier_hz=2e6)
    latencies = {
        lola.schedule(problem).latency_s
        for problem in (plain, wanted, tiny_problem(3, fleet=roomy), tiny_problem(3, subcarrier_hz=2e6))
    }
    assert len(latencies) == 4
    (record,) = tiny_session(tmp_path, keep=False, problem=wanted).run(1)
    assert record.latency_s == lola.schedule(wanted).latency_s


def test_dropout_follows_from_seed_round_and_device_alone(tmp_path):
    def seeds(setting, rounds=4):
        found = {}

        def loss(model, batch):
            found.setdefault((session.version, session.data.drawn[session.version][-1]), torch.initial_seed())
            return model(**batch).loss

        session = noting_session(tmp_path, setting=setting, loss=loss)
        list(session.run(rounds))
        assert len(set(found.values())) == len(found)  # every round and device its own
        return found

    alone, troubled = seeds(Setting()), seeds(Setting(method="random", failure=0.4))
    common = alone.keys() & troubled.keys()
    assert len(alone) == 12
    assert len(common) >= 3
    assert all(alone[key] == troubled[key] for key in common)  # whoever else answers, and at whatever depth
    assert not set(alone.values()) & set(seeds(Setting(seed=1)).values())


def test_a_round_leaves_the_random_numbers_of_others_alone(tmp_path):
    session = tiny_session(tmp_path, keep=False)
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    list(session.run(2))
    assert torch.equal(torch.rand(3), wanted)


def test_who_never_answers_is_drawn_by_device_not_by_depth(tmp_path):
    """The same devices fail in a round whatever they were asked for."""
    problem, rounds = tiny_problem(3, memory_bytes=(6e9, 7e9)), 30
    sessions = [
        noting_session(tmp_path, problem=problem, setting=Setting(method=method, failure=0.5))
        for method in ("random", "jbba", "computation-aware")
    ]
    asked = [{} for _ in sessions]
    for session, found in zip(sessions, asked, strict=True):
        schedule = session._schedule

        def noting(session=session, found=found, schedule=schedule):
            chosen, present, waited_s = schedule()
            found[session.version] = [present[device] for device in chosen.device_of_block]
            return chosen, present, waited_s

        session._schedule = noting
        list(session.run(rounds))
    fates = {}
    for session, found in zip(sessions, asked, strict=True):
        for version, devices in found.items():
            for device in devices:
                fates.setdefault((version, device), []).append(device in session.data.drawn.get(version, ()))
    judged = [fate for fate in fates.values() if len(fate) > 1]
    assert len(judged) > 30
    assert {fate[0] for fate in judged} == {True, False}
    assert all(len(set(fate)) == 1 for fate in judged)


def test_an_input_of_the_block_that_requires_a_gradient_is_refused_as_it_comes(tmp_path):
    """What no look at the parameters can tell: something below makes its output require one."""
    depths = tiny_depths(tmp_path)
    depths.model.get_input_embeddings().register_forward_hook(lambda _, __, output: output.requires_grad_())
    task, batch = BlockTask(0, 0, 2, 1e6), tiny_columns("bert", 4, seed=0)
    with pytest.raises(ProfilingError, match="depth 2: the input of its block requires a gradient, so backward would"):
        block_gradient(depths, task, [batch], 1)


def session_with_outliers(folder, **options):
    """All gradients of the eighth round are a thousand times as large."""

    def loss(model, batch):
        value = model(**batch).loss
        return value * 1000 if session.version == 7 else value

    session = tiny_session(folder, loss=loss, **options)
    return session


def test_norms_are_kept_in_checkpoints_so_that_a_resumed_run_refuses_the_same(tmp_path):
    setting = Setting(refuse_above=20.0, checkpoint_every=3)
    (tmp_path / "whole").mkdir()
    whole = session_with_outliers(tmp_path / "whole", setting=setting)
    records = list(whole.run(10))
    assert [record.version for record in records if record.refused] == [8]
    assert (records[7].applied, records[7].missing) == (0, 3)
    assert "is more than 20 times" in records[7].refused
    for rounds in (6, 7, 8, 10):
        session = session_with_outliers(tmp_path, setting=setting)
        list(session.run(rounds))
    assert repr(session.records) == repr(records)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(session), strict=True))
    last = "run/round-000010"
    for name in ("weights.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS"):
        assert (tmp_path / last / name).read_bytes() == (tmp_path / "whole" / last / name).read_bytes()
    with pytest.raises(lola.FormatError, match="the checkpoint is of another run"):
        tiny_session(tmp_path, setting=replace(setting, refuse_above=None))


def test_without_the_option_an_outlier_is_taken_and_one_that_overflows_is_not(tmp_path):
    session = session_with_outliers(tmp_path, keep=False)
    assert {record.refused for record in session.run(10)} == {""}
    vast = tiny_session(tmp_path, keep=False, loss=lambda model, batch: model(**batch).loss * 1e30)
    (record,) = vast.run(1)
    assert (record.applied, record.missing) == (0, 3)
    assert "its step would make the optimizer's" in record.refused
    assert np.isnan(record.loss)
    with pytest.raises(ValueError, match="refuse_above must be more than 1, or usual gradients are refused; got 0.5"):
        Setting(refuse_above=0.5)
