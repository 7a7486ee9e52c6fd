"""Several blocks on one device: one backward for all, an answer that is whole or not there, a run that goes on."""

import copy
import csv
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from cooperative import n_blocks_of, tiny_columns, tiny_depths, tiny_problem, tiny_session, weights_of
from tiny_models import every_model
from travelling import plan_of

import lola
from lola.adapters import BlockGradient, BlockTask, NormBound, RoundPlan, Setting, apply_round, block_gradient
from lola.adapters.record import count_devices_used


@every_model
def test_the_gradients_of_a_range_are_those_of_its_depths_alone(tmp_path, name):
    depths, n_blocks = tiny_depths(tmp_path, name, zero_init=False, dtype=torch.float64), n_blocks_of(name)
    depths.model.eval()
    batches = [tiny_columns(name, 3, seed=seed, dtype=torch.float64) for seed in (4, 5)]
    alone = {depth: block_gradient(depths, BlockTask(0, 0, depth, 1e6, 2), batches) for depth in range(1, n_blocks + 1)}
    for first in range(1, n_blocks + 1):
        for last in range(first, n_blocks + 1):
            answer = block_gradient(depths, BlockTask(0, 0, range(first, last + 1), 1e6, 2), batches)
            wanted = {k: g for depth in range(first, last + 1) for k, g in alone[depth].gradients.items()}
            assert list(answer.gradients) == list(wanted)
            assert answer.loss == pytest.approx(alone[1].loss, rel=1e-10)
            for parameter, gradient in wanted.items():
                assert gradient.abs().max() > 0
                torch.testing.assert_close(answer.gradients[parameter], gradient, rtol=1e-10, atol=1e-12)


def test_a_range_takes_one_backward_that_stops_at_its_deepest(tmp_path):
    depths, losses = tiny_depths(tmp_path), []
    requires = {}
    for depth, block in enumerate(depths.blocks, start=1):
        block.register_forward_hook(
            lambda _, __, output, depth=depth: requires.update(
                {depth: (output[0] if isinstance(output, tuple) else output).requires_grad}
            )
        )

    def loss(model, batch):
        losses.append(model(**batch).loss)
        return losses[-1]

    batches = [tiny_columns("bert", 4, seed=0)] * 2
    answer = block_gradient(depths, BlockTask(0, 0, range(1, 3), 1e6, 2), batches, loss=loss)
    assert len(losses) == 2
    assert requires == {1: True, 2: True, 3: False}
    assert (answer.depths, answer.depth) == (range(1, 3), 2)


def test_a_plan_has_a_task_for_each_segment_with_the_bandwidth_of_its_blocks():
    schedule = lola.schedule(tiny_problem(4))
    long = replace(schedule, device_of_block=np.array([5, 5, 0, 3]))
    tasks = RoundPlan.from_schedule(long, 2, np.arange(7) + 10).tasks
    assert [(task.device, task.depths) for task in tasks] == [(15, range(1, 3)), (10, range(3, 4)), (13, range(4, 5))]
    hertz = schedule.bandwidth_hz.tolist()
    assert [task.bandwidth_hz for task in tasks] == [hertz[0] + hertz[1], hertz[2], hertz[3]]
    assert RoundPlan.from_schedule(long, 2).device_of_block == (5, 5, 0, 3)


@pytest.mark.parametrize(
    "taken, message",
    [
        ([(4, 1), (6, 3)], "one from depth 2 on was wanted, got one for depth 3; give a task to each"),
        ([(4, range(2, 4))], "each depth in one of them: one from depth 1 on was wanted, got one for depths 2 to 3"),
        ([(4, range(1, 3)), (6, range(2, 4))], "one from depth 3 on was wanted, got one for depths 2 to 3"),
        ([(6, 2), (4, 1)], "one from depth 1 on was wanted, got one for depth 2"),
        ([(4, 1), (6, 2), (4, 3)], "tasks must be one a device, got two for device 4; give it one with the range of"),
    ],
)
def test_a_plan_in_which_a_depth_is_missing_or_a_device_stands_twice_is_refused(taken, message):
    with pytest.raises(lola.LolaError, match=message):
        plan_of(taken)


def test_a_schedule_whose_device_takes_blocks_apart_is_no_plan():
    apart = replace(lola.schedule(tiny_problem(4)), device_of_block=np.array([5, 0, 5, 3]))
    with pytest.raises(ValueError, match="tasks must be one a device, got two for device 5"):
        RoundPlan.from_schedule(apart, 0)


@pytest.mark.parametrize(
    "depths, error, message",
    [
        (range(2, 2), ValueError, r"depths must be neighbours from 1 on, such as range\(1, 4\); got range\(2, 2\)"),
        (range(3, 1), ValueError, r"got range\(3, 1\)"),
        (range(3, 0, -1), ValueError, r"got range\(3, 0, -1\)"),
        (range(1, 4, 2), ValueError, r"got range\(1, 4, 2\)"),
        (range(3), ValueError, r"got range\(0, 3\)"),
        (0, ValueError, r"got range\(0, 1\)"),
        ((1, 2), TypeError, r"depths must be a depth or a range of them, got \(1, 2\); give range\(1, 3\)"),
        ((2, 3), TypeError, r"got \(2, 3\); give range\(2, 4\)$"),
        ([4, 3, 2], TypeError, r"got \[4, 3, 2\]; give range\(2, 5\)$"),
        ((1, 3), TypeError, r"got \(1, 3\); give range\(1, 4\)$"),
        ("2-3", TypeError, r"got '2-3'; give range\(1, 4\)$"),
        (True, TypeError, "got True"),
        (2.0, TypeError, "got 2.0"),
    ],
)
def test_what_is_no_range_of_depths_is_no_task(depths, error, message):
    with pytest.raises(error, match=message):
        BlockTask(0, 0, depths, 1e6)


def test_a_depth_stands_for_the_range_of_it_alone(tmp_path):
    assert BlockTask(0, 1, np.int64(2), 1e6) == BlockTask(0, 1, range(2, 3), 1e6)
    assert BlockGradient(0, 1, 2, {}, 0.5).depths == range(2, 3)
    with pytest.raises(ValueError, match=r"depths must be neighbours between 1 and 3, .*; got range\(2, 5\)"):
        block_gradient(tiny_depths(tmp_path), BlockTask(0, 0, range(2, 5), 1e6), [])


SEGMENTS = [(4, range(1, 2)), (6, range(2, 4))]


class Served:
    """A model of three blocks and its server after a first round, with answers of two devices to the second."""

    def __init__(self, folder):
        self.depths = tiny_depths(folder, zero_init=False)
        self.depths.model.eval()
        self.server = torch.optim.AdamW(self.depths.all_parameters(), lr=1e-2, weight_decay=0.1)
        batch = tiny_columns("bert", 6, seed=4)
        for version in (0, 1):
            self.plan = plan_of(SEGMENTS, version)
            self.answers = [block_gradient(self.depths, task, [batch]) for task in self.plan.tasks]
            if version == 0:
                self.apply(self.answers)

    def apply(self, answers, **options):
        return apply_round(self.server, self.depths, self.plan, answers, **options)

    def everything(self):
        state = self.server.state_dict()["state"]
        moments = {
            (i, name): torch.as_tensor(v).tolist() for i, entries in state.items() for name, v in entries.items()
        }
        return [weight.tolist() for weight in weights_of(self.depths)], moments


def part(answer, depths, named):
    """Keep some depths of an answer."""
    names = [name for depth in depths for name in named.named_parameters(depth)]
    return replace(answer, depths=depths, gradients={name: answer.gradients[name] for name in names})


def spoilt(answer, value):
    """Spoil one value of the deeper block alone."""
    name = list(answer.gradients)[-1]
    return replace(answer, gradients={**answer.gradients, name: torch.full_like(answer.gradients[name], value)})


MISFITS = {
    "some of its depths": (
        lambda one, two, named: part(two, range(2, 3), named),
        "^answered depth 2 only, was asked for depths 2 to 3$",
    ),
    "more": (
        lambda one, two, named: replace(two, depths=range(1, 4), gradients={**one.gradients, **two.gradients}),
        "^answered depths 1 to 3, was asked for depths 2 to 3$",
    ),
    "another's": (
        lambda one, two, named: replace(two, device=4),
        "^answered depths 2 to 3, was asked for depth 1$",
    ),
    "whole, but short of a block": (
        lambda one, two, named: replace(part(two, range(2, 3), named), depths=range(2, 4)),
        "the gradients must be by name, those of .* and no others",
    ),
    "one block not finite": (lambda one, two, named: spoilt(two, np.nan), "has a value that is not finite"),
    "one block that would overflow": (lambda one, two, named: spoilt(two, 1e38), "its step would make the optimizer's"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_refused_whole(tmp_path, misfit):
    spoil, why = MISFITS[misfit]
    ours, without = Served(tmp_path), Served(tmp_path)
    without.apply(without.answers[:1])
    report = ours.apply([ours.answers[0], spoil(*ours.answers, ours.depths)])
    assert (report.applied, report.missing) == ((1,), (2, 3))
    ((_, depth, said),) = report.refused
    assert depth == (2 if misfit == "some of its depths" else 3)
    assert re.search(why, said)
    assert ours.everything() == without.everything()


def test_the_blocks_of_a_device_are_stepped_together_once(tmp_path):
    ours = Served(tmp_path)
    one, two = ours.answers
    report = ours.apply([replace(one, loss=3.0), replace(two, loss=0.0), two])
    assert (report.applied, report.missing, report.loss) == ((1, 2, 3), (), 1.0)
    assert report.refused == ((6, 3, "these depths were answered already"),)


def test_norms_are_bounded_block_by_block(tmp_path):
    ours, bound = Served(tmp_path), NormBound(10)
    for _ in range(5):
        assert ours.apply(ours.answers, bound=bound).applied == (1, 2, 3)
    norms = {depth: [float(norm) for norm in norms] for depth, norms in bound.recent.items()}
    gradients = {k: g for answer in ours.answers for k, g in answer.gradients.items()}
    for depth in (1, 2, 3):
        flat = torch.cat([gradients[name].flatten() for name in ours.depths.named_parameters(depth)])
        assert norms[depth] == pytest.approx([float(flat.norm())] * 5)
    report = ours.apply([ours.answers[0], spoilt(ours.answers[1], 100.0)], bound=bound)
    assert (report.applied, report.missing) == ((1,), (2, 3))
    assert "is more than 10 times" in report.refused[0][2]
    assert [len(bound.recent[depth]) for depth in (1, 2, 3)] == [6, 5, 5]


def few_devices(**changes):
    """Two devices for three blocks."""
    return tiny_problem(3, n_devices=2, max_blocks=None, memory_bytes=(6e9, 7e9), **changes)


def test_fewer_devices_than_blocks_train_and_the_metrics_say_who(tmp_path):
    session = tiny_session(tmp_path, problem=few_devices(), setting=Setting(failure=0.5))
    records, schedule = list(session.run(12)), lola.schedule(session.problem)
    segments = {device: schedule.device_of_block.tolist().count(device) for device in schedule.device_of_block.tolist()}
    assert {record.device_of_block for record in records} == {tuple(schedule.device_of_block.tolist())}
    assert {record.latency_s for record in records} == {schedule.latency_s}
    possible = {0, 3} | set(segments.values())
    assert {record.missing for record in records} <= possible
    assert {record.missing + record.applied for record in records} == {3}
    assert len({record.missing for record in records}) > 1
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["device_of_block"] for row in rows} == {" ".join(map(str, schedule.device_of_block))}


def test_a_round_waits_for_nobody_whose_blocks_another_can_take(tmp_path):
    """Where one device may take all blocks, an outage of the other is no reason to wait; of both, it is."""

    def channel(version, clock_s):
        return np.array([0.0 if version == 1 or (version == 2 and clock_s < back_s) else 2.0, float(version != 2)])

    back_s = np.inf
    session = tiny_session(tmp_path, keep=False, problem=few_devices(), channel=channel)
    rounds = session.run(3)
    both, one = next(rounds), next(rounds)
    back_s = one.clock_s + 6.5
    late = next(rounds)
    assert (both.participants, one.participants, late.participants) == (2, 1, 1)
    assert (one.device_of_block, late.device_of_block) == ((1, 1, 1), (0, 0, 0))
    alone = session.problem.fleet.with_channel(np.array([2.0, 1.0]))
    for record, device, waited_s in ((one, [1], 0.0), (late, [0], 7.0)):
        fleet = alone.with_channel(alone.spectral_efficiency, np.array(device))
        latency = lola.schedule(replace(session.problem, fleet=fleet)).latency_s
        assert record.latency_s == pytest.approx(waited_s + latency)


def test_a_device_without_the_memory_for_its_whole_segment_never_answers(tmp_path):
    """Each of its blocks alone would fit."""
    session = tiny_session(tmp_path, keep=False, problem=few_devices())
    need = session.problem.memory_bytes_of(np.array([1, 1, 0]))
    assert need[0] == need[1] > session.problem.profile.memory_bytes[:2].max()
    plan = plan_of([(1, range(1, 3)), (0, range(3, 4))])
    for memory, answering in ((need[0], {0, 1}), (np.nextafter(need[0], 0.0), {0})):
        fleet = session.problem.fleet
        roomy = replace(fleet, memory_bytes=[7e9, memory])
        session.devices.problem = replace(session.problem, fleet=roomy)
        assert {answer.device for answer in session.devices.answers(plan)} == answering


def test_a_resumed_run_of_segments_ends_with_the_same_bits(tmp_path):
    def session(folder):
        folder.mkdir(exist_ok=True)
        setting = Setting(participation=0.7, failure=0.3, refuse_above=20.0, checkpoint_every=4)
        channel = lola.RayleighFading(4, seed=1)
        problem = tiny_problem(3, n_devices=4, max_blocks=2)
        return tiny_session(folder, problem=problem, setting=setting, channel=channel)

    whole = session(tmp_path / "whole")
    records = list(whole.run(13))
    assert len({record.device_of_block for record in records}) > 2
    assert any(record.missing for record in records)
    assert min(record.participants for record in records) == 2  # fewer than blocks are enough
    for rounds in (6, 9, 13):
        resumed = session(tmp_path / "resumed")
        list(resumed.run(rounds))
    assert repr(resumed.records) == repr(records)
    for name in ("round-000013/weights.safetensors", "round-000013/optimizer.safetensors", "metrics.csv"):
        assert (tmp_path / "resumed/run" / name).read_bytes() == (tmp_path / "whole/run" / name).read_bytes()


def test_a_run_goes_on_with_as_many_blocks_a_device_only(tmp_path):
    problem = tiny_problem(3)
    list(tiny_session(tmp_path, problem=problem).run(1))
    for longest in (2, None):
        with pytest.raises(lola.FormatError, match="the checkpoint is of another run"):
            tiny_session(tmp_path, problem=replace(problem, max_blocks=longest))
    free = replace(problem.profile, extra_latency_s=None, extra_memory_bytes=None)
    assert tiny_session(tmp_path, problem=replace(problem, profile=free)).version == 1  # as before they were known


def test_a_record_of_before_goes_on_without_who_was_asked(tmp_path):
    (record,) = tiny_session(tmp_path, keep=False).run(1)
    older = copy.deepcopy(record.to_json())
    assert type(record).from_json(record.to_json()) == record
    del older["device_of_block"], older["devices_used"]
    assert type(record).from_json(older) == replace(record, device_of_block=(), devices_used=())
    assert (count_devices_used([record]), count_devices_used([record, type(record).from_json(older)])) == (3, None)
