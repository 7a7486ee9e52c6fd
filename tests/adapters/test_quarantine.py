"""Who was refused again and again gets no work, until its refusals have aged."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from cooperative import tiny_problem, tiny_session, weights_of

import lola
from lola.adapters import Quarantine, Refusal, Setting, SimulatedDevices


def test_a_device_is_held_while_as_many_refusals_are_recent():
    quarantine = Quarantine(3, 10)
    assert [quarantine.note(4, version) for version in (0, 0, 5)] == ["", "", ""]  # a round counts once
    assert quarantine.refusals == {4: [0, 5]}
    assert quarantine.note(4, 9) == "; refused in 3 of the last 10 rounds, it gets no work before version 10"
    assert [quarantine.holds(4, version) for version in (9, 10, 14)] == [True, False, False]
    assert quarantine.note(4, 14) == "; refused in 3 of the last 10 rounds, it gets no work before version 15"
    assert quarantine.note(4, 24) == ""
    assert quarantine.refusals == {4: [24]}


def test_nobody_else_is_held_and_little_is_kept():
    quarantine = Quarantine(2, 1000)
    for version in range(500):
        quarantine.note(1, version)
    assert quarantine.refusals == {1: [498, 499]}
    assert quarantine.free(np.array([0, 1, 2]), 500).tolist() == [0, 2]
    assert quarantine.free(np.array([1]), 500).tolist() == []
    assert quarantine.free(np.array([1]), 1498).tolist() == [1]


@pytest.mark.parametrize("name", ["quarantine_after", "quarantine_rounds"])
def test_what_is_no_number_of_rounds_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        Setting(**{name: 0})
    with pytest.raises(TypeError, match=f"{name} must be"):
        Setting(**{"quarantine_after": 1, name: 1.5})


class SomeLie(SimulatedDevices):
    """Devices of which some send values that are not finite, or whatever stands for an answer."""

    def __init__(self, session, liars, lie):
        super().__init__(session.depths, session.problem, session.devices.data, session.setting)
        self.liars, self.lie = liars, lie

    def answers(self, plan):
        for answer in super().answers(plan):
            yield self.lie(answer) if answer.device in self.liars else answer


def not_finite(answer):
    return replace(answer, gradients={name: g * float("nan") for name, g in answer.gradients.items()})


def lying(folder, liars, lie=not_finite, **options):
    session = tiny_session(folder, **options)
    session.devices = SomeLie(session, liars, lie)
    return session


QUARANTINE = Setting(quarantine_after=2, quarantine_rounds=6, checkpoint_every=1)


def first_chosen(folder):
    """The device that the first round gives depth 1 to."""
    (record,) = tiny_session(folder, keep=False).run(1)
    return record.device_of_block[0]


def test_a_liar_gets_no_work_for_as_long_as_is_said(tmp_path):
    liar = first_chosen(tmp_path)
    session = lying(tmp_path, {liar}, keep=False, setting=QUARANTINE)
    records = list(session.run(14))
    asked = [record.version - 1 for record in records if liar in record.device_of_block]
    assert asked == [0, 1, 6, 7, 12, 13]
    assert [record.version - 1 for record in records if record.refused] == asked
    assert all(record.applied == 3 for record in records if not record.refused)
    assert "not finite; refused in 2 of the last 6 rounds, it gets no work before version 6" in records[1].refused


def test_without_the_option_a_liar_is_asked_every_time(tmp_path):
    liar = first_chosen(tmp_path)
    session = lying(tmp_path, {liar}, keep=False)
    assert all(liar in record.device_of_block and record.missing for record in session.run(6))


@pytest.mark.parametrize("answered", [False, True])
def test_an_answer_that_did_not_come_counts_not(tmp_path, answered):
    liar = first_chosen(tmp_path)

    def lost(answer):
        return Refusal(answer.device, answer.depths[-1], "the cat", answered)

    session = lying(tmp_path, {liar}, lost, keep=False, setting=QUARANTINE)
    records = list(session.run(6))
    assert [liar in record.device_of_block for record in records] == [True, True, *[not answered] * 4]
    end = "; refused in 2 of the last 6 rounds, it gets no work before version 6" if answered else ""
    assert re.fullmatch(rf"device {liar} at depth \d: the cat{end}", records[1].refused)


def test_who_was_not_asked_is_not_counted(tmp_path):
    """Else a stranger could have a device held, or numbers kept without end."""
    liar = first_chosen(tmp_path)

    def another(answer):
        return replace(not_finite(answer), device=10**6 + answer.version)

    session = lying(tmp_path, {liar}, another, keep=False, setting=QUARANTINE)
    assert all(record.missing for record in session.run(4))
    assert session._quarantine.refusals == {}


def test_a_quarantine_outlives_a_restart(tmp_path):
    liar = first_chosen(tmp_path)
    (tmp_path / "whole").mkdir()
    whole = lying(tmp_path / "whole", {liar}, setting=QUARANTINE)
    records = list(whole.run(9))
    for rounds in (1, 2, 4, 9):
        session = lying(tmp_path, {liar}, setting=QUARANTINE)
        list(session.run(rounds))
    assert repr(session.records) == repr(records)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(session), strict=True))
    state = (tmp_path / "run/round-000009/state.json").read_bytes()
    assert state == (tmp_path / "whole/run/round-000009/state.json").read_bytes()
    assert b'"refusals"' in state
    with pytest.raises(lola.FormatError, match="the checkpoint is of another run"):
        tiny_session(tmp_path, setting=replace(QUARANTINE, quarantine_rounds=7))


def test_a_checkpoint_of_a_run_without_knows_nothing_of_it(tmp_path):
    list(tiny_session(tmp_path).run(1))
    assert b'"refusals"' not in (tmp_path / "run/round-000001/state.json").read_bytes()
    list(tiny_session(tmp_path, setting=Setting(quarantine_rounds=7)).run(2))  # it says nothing without the other


def test_where_the_others_cannot_hold_the_model_everybody_is_called_in_and_it_is_said(tmp_path, caplog):
    problem = tiny_problem(3, n_devices=3)
    session = lying(tmp_path, {0, 2}, keep=False, setting=QUARANTINE, problem=problem)
    records = list(session.run(4))
    assert all(record.participants == 3 for record in records)
    assert [record.applied for record in records] == [1, 1, 1, 1]
    told = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert told == [
        f"version {version}: devices 0, 2 are in quarantine and called in all the same, for the others cannot hold the "
        "model"
        for version in (2, 3)
    ]
