"""A session whose devices are elsewhere: they need plan and update alone, and nothing they answer is trusted."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from cooperative import tiny_columns, tiny_depths, tiny_problem, tiny_session, weights_of

import lola
from lola.adapters import (
    BlockGradient,
    BlockTask,
    CooperativeSession,
    ModelUpdate,
    Setting,
    ShardedData,
    SimulatedDevices,
    block_gradient,
    iid_shards,
)


def tiny_data():
    """The data that a tiny session has."""
    return ShardedData(tiny_columns("bert", 90, seed=1), iid_shards(90, 7, seed=2), batch_size=4, seed=5)


class Elsewhere:
    """Devices with one model of their own, which only bytes reach; some of their answers may get lost or forged."""

    def __init__(self, server, own, spoil=lambda answers: answers):
        self.server, self.own, self.spoil, self.data = server, own, spoil, tiny_data()

    def answers(self, plan):
        update = ModelUpdate.from_depths(self.server, plan.version).to_bytes()
        yield from self.spoil([self.answer(update, task.to_bytes()) for task in reversed(plan.tasks)])

    def answer(self, update, task):
        ModelUpdate.from_bytes(update, self.own).apply_to(self.own)
        task = BlockTask.from_bytes(task, self.own)
        batches = self.data.batches(task.device, task.version)
        sent = block_gradient(self.own, task, batches).to_bytes()
        return BlockGradient.from_bytes(sent, self.server)


def elsewhere(folder, spoil=lambda answers: answers, **options):
    """Return a session without dropout, and its devices."""
    (folder / "own").mkdir(exist_ok=True)
    session = tiny_session(folder, devices=Elsewhere(None, tiny_depths(folder / "own"), spoil), **options)
    session.devices.server = session.depths
    for depths in (session.depths, session.devices.own):
        depths.model.eval()
    return session


def test_devices_elsewhere_train_as_simulated_ones_do(tmp_path):
    """Though they answer in another order."""
    here = tiny_session(tmp_path, keep=False)
    here.depths.model.eval()
    there = elsewhere(tmp_path, keep=False)
    assert repr(list(there.run(5))) == repr(list(here.run(5)))
    assert all(torch.equal(a, b) for a, b in zip(weights_of(here), weights_of(there), strict=True))


def test_what_is_not_used_of_their_answers_does_not_count(tmp_path):
    def spoil(answers):
        three, two, one = answers
        forged = replace(one, device=two.device, loss=1e9)
        return [None, forged, one, replace(one, loss=1e6), replace(two, loss=float("nan")), replace(three, version=7)]

    (record,) = elsewhere(tmp_path, spoil, keep=False).run(1)
    (usual,) = elsewhere(tmp_path, lambda answers: answers[2:], keep=False).run(1)
    assert (record.applied, record.missing, record.loss) == (1, 2, usual.loss)
    reasons = ("answered depth 1, was asked for", "answered already", "the loss is not finite", "is of version 7")
    for why in reasons:
        assert why in record.refused


def test_no_answer_at_all_changes_nothing(tmp_path):
    session = elsewhere(tmp_path, lambda answers: [], keep=False)
    before = weights_of(session)
    (record,) = session.run(1)
    assert (record.applied, record.missing) == (0, 3)
    assert np.isnan(record.loss)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(session), strict=True))


def test_a_run_with_devices_elsewhere_goes_on(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = elsewhere(tmp_path / "whole")
    records = list(whole.run(5))
    list(elsewhere(tmp_path).run(3))
    session = elsewhere(tmp_path)
    assert session.version == 3
    list(session.run(5))
    assert repr(session.records) == repr(records)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(session), strict=True))
    with pytest.raises(lola.FormatError, match="the checkpoint is of another run"):
        tiny_session(tmp_path)


@dataclass
class Nobody:
    """Devices that differ by a setting."""

    patience_s: float

    def answers(self, plan):
        return ()


def test_devices_with_other_settings_are_another_run(tmp_path):
    list(tiny_session(tmp_path, devices=Nobody(1.0)).run(1))
    assert tiny_session(tmp_path, devices=Nobody(1.0)).version == 1
    with pytest.raises(lola.FormatError, match="the checkpoint is of another run"):
        tiny_session(tmp_path, devices=Nobody(2.0))


def test_data_belongs_to_simulated_devices_or_to_the_others(tmp_path):
    depths = tiny_depths(tmp_path)
    optimizer, problem = torch.optim.Adam(depths.all_parameters()), tiny_problem(3)
    with pytest.raises(ValueError, match="simulated devices need data, got None; give a shard for each, or devices"):
        CooperativeSession(depths, optimizer, problem, None)
    for data, options in (
        (tiny_data(), {}),
        (None, {"loss": lambda model, batch: model(**batch).loss}),
        (None, {"setting": Setting(failure=0.1)}),
    ):
        with pytest.raises(ValueError, match="devices have data, loss and failures of their own, got some beside them"):
            CooperativeSession(depths, optimizer, problem, data, devices=Nobody(1.0), **options)
    few = ShardedData(tiny_data().columns, [[0]], batch_size=1, seed=0)
    with pytest.raises(ValueError, match="data must have a shard for each of 7 devices, got 1"):
        SimulatedDevices(depths, problem, few, Setting())
