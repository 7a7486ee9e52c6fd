"""Rounds in a row: who takes part, what is recorded, and a run that goes on as if it had never stopped."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cooperative import tiny_columns, tiny_problem, tiny_session, weights_of

import lola
from lola.adapters import Setting, ShardedData, dirichlet_shards, iid_shards, trim_padding


def test_training_learns_and_the_clock_is_the_schedule(tmp_path):
    session = tiny_session(tmp_path, keep=False, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-2))
    session.depths.model.eval()  # without dropout
    records = list(session.run(40))
    assert [record.version for record in records] == list(range(1, 41))
    assert np.mean([r.loss for r in records[-5:]]) < 0.8 * np.mean([r.loss for r in records[:5]])
    latency = lola.schedule(session.problem).latency_s
    assert [record.latency_s for record in records] == [latency] * 40
    assert records[-1].clock_s == pytest.approx(40 * latency)
    assert {(r.participants, r.applied, r.missing, r.memory_wall, r.refused) for r in records} == {(7, 3, 0, 0, "")}


def test_sessions_and_depths_are_written_in_a_line(tmp_path):
    session = tiny_session(tmp_path)
    list(session.run(2))
    assert repr(session) == (
        f"<CooperativeSession of 7 devices and 3 blocks, jbba: 2 rounds, {session.clock_s:.6g} s simulated, "
        f"in {str(tmp_path / 'run')!r}>"
    )
    assert "simulated>" in repr(tiny_session(tmp_path, keep=False))
    assert repr(session.depths) == (
        "<Depths of BertForSequenceClassification: 3 blocks, LoRA of rank 2 in query, value, head trained>"
    )


def test_the_channel_of_each_round_is_scheduled(tmp_path):
    asked = []

    def channel(version, clock_s):
        asked.append((version, clock_s))
        return np.random.default_rng(version).uniform(0.5, 3.0, 7)

    session = tiny_session(tmp_path, keep=False, channel=channel)
    records = list(session.run(3))
    assert [version for version, _ in asked] == [0, 1, 2]
    assert [clock for _, clock in asked] == [0.0, records[0].clock_s, records[1].clock_s]
    for version, record in enumerate(records):
        fleet = session.problem.fleet
        now = lola.Fleet(speed=fleet.speed, memory_bytes=fleet.memory_bytes, spectral_efficiency=channel(version, 0.0))
        assert record.latency_s == lola.schedule(tiny_problem(3, fleet=now)).latency_s


def test_devices_that_stay_away_or_never_answer(tmp_path):
    session = tiny_session(tmp_path, keep=False, setting=Setting(participation=0.7, failure=0.3))
    records = list(session.run(30))
    assert len({record.participants for record in records}) > 2
    assert min(record.participants for record in records) >= 3
    assert {record.applied + record.missing for record in records} == {3}
    assert 10 < sum(record.missing for record in records) < 45  # of 90 at 0.3
    alone = tiny_session(tmp_path, keep=False, setting=Setting(failure=0.999999))
    (record,) = alone.run(1)
    before = weights_of(tiny_session(tmp_path, keep=False))
    assert (record.applied, record.missing) == (0, 3)
    assert np.isnan(record.loss)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(alone), strict=True))


def test_where_those_present_cannot_hold_the_model_everybody_is_called_in(tmp_path):
    fleet = lola.Fleet(
        speed=np.ones(7), memory_bytes=[2e9, 2e9, 2e9] + [6e8] * 4, spectral_efficiency=np.ones(7)
    )  # depths 2 and 3 need the first three
    problem = tiny_problem(3, fleet=fleet)
    records = list(tiny_session(tmp_path, keep=False, problem=problem, setting=Setting(participation=0.5)).run(20))
    assert {record.missing for record in records} == {0}
    assert 7 in {record.participants for record in records}
    hopeless = tiny_problem(
        3, fleet=lola.Fleet(speed=np.ones(7), memory_bytes=np.full(7, 6e8), spectral_efficiency=np.ones(7))
    )
    with pytest.raises(lola.InfeasibleError, match="depth"):
        next(tiny_session(tmp_path, keep=False, problem=hopeless).run(1))


def test_a_baseline_that_ignores_memory_gets_no_gradient_from_those_without(tmp_path):
    poor = lola.Fleet(
        speed=np.ones(7), memory_bytes=[6e8, 6e8, 6e8, 3e9, 3e9, 3e9, 3e9], spectral_efficiency=[3, 3, 3, 1, 1, 1, 1]
    )
    setting = Setting(method="communication-aware")
    (record,) = tiny_session(tmp_path, keep=False, problem=tiny_problem(3, fleet=poor), setting=setting).run(1)
    assert record.memory_wall == record.missing == 2
    assert record.applied == 1
    assert np.isnan(record.lower_bound_s)


def test_a_device_that_diverges_is_refused_and_the_record_says_why(tmp_path):
    def loss(model, batch):
        value = model(**batch).loss
        return value * float("nan") if session.version == 1 else value

    session = tiny_session(tmp_path, loss=loss)
    first, second, third = session.run(3)
    assert (first.refused, third.refused) == ("", "")
    assert (second.applied, second.missing) == (0, 3)
    assert "at depth 3: the loss is not finite" in second.refused
    assert second.refused in (tmp_path / "run" / "metrics.csv").read_text().replace('"', "")


def test_scores_are_taken_now_and_then_without_gradients(tmp_path):
    seen = []

    def evaluate():
        seen.append((torch.is_grad_enabled(), session.depths.model.training))
        return {"accuracy": len(seen) / 10, "matthews": float("nan")}

    session = tiny_session(tmp_path, evaluate=evaluate, setting=Setting(evaluate_every=3, checkpoint_every=2))
    records = list(session.run(7))
    assert seen == [(False, False)] * 3
    assert session.depths.model.training
    assert [r.version for r in records if r.scores] == [3, 6, 7]
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["accuracy"] for row in rows] == ["", "", "0.1", "", "", "0.2", "0.3"]
    assert [row["matthews"] for row in rows] == [""] * 7
    assert [float(row["clock_s"]) for row in rows] == [record.clock_s for record in records]
    resumed = tiny_session(tmp_path, evaluate=evaluate, setting=Setting(evaluate_every=3, checkpoint_every=2))
    assert repr(resumed.records) == repr(records)  # NaN differs from itself
    assert list(resumed.run(7)) == []


@pytest.mark.parametrize("name", ["loss", "device_of_block"])
def test_a_score_named_as_something_else_that_is_recorded_is_refused(tmp_path, name):
    session = tiny_session(tmp_path, evaluate=lambda: {"accuracy": 0.5, name: 7.0})
    with pytest.raises(ValueError, match=f"scores must have names of their own in metrics.csv, got {name} a second"):
        next(session.run(1))


def test_tensorboard_gets_every_round_once_whatever_was_interrupted(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    setting = Setting(evaluate_every=2, checkpoint_every=2)
    rounds = tiny_session(tmp_path, setting=setting, evaluate=lambda: {"accuracy": 0.5}).run(5)
    for _ in range(3):  # the third is in no checkpoint
        next(rounds)
    rounds.close()
    session = tiny_session(tmp_path, setting=setting, evaluate=lambda: {"accuracy": 0.5})
    list(session.run(5))
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    assert [event.step for event in found.Scalars("loss")] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([event.value for event in found.Scalars("loss")], [r.loss for r in session.records])
    assert [event.step for event in found.Scalars("accuracy")] == [2, 4, 5]


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
        lambda parameters: torch.optim.Adagrad(parameters, lr=1e-2),
    ],
)
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, optimizer):
    setting = Setting(method="random", participation=0.8, failure=0.2, checkpoint_every=4)
    (tmp_path / "whole").mkdir()
    whole = tiny_session(tmp_path / "whole", setting=setting, optimizer=optimizer)
    records = list(whole.run(13))
    for rounds in (6, 9, 13):  # 6 and 9 are no multiples of 4: a run that ends is kept
        session = tiny_session(tmp_path, setting=setting, optimizer=optimizer)
        list(session.run(rounds))
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(session), strict=True))
    assert repr(session.records) == repr(records)
    ours, theirs = (
        {path.relative_to(folder): path.read_bytes() for path in sorted((folder / "run").rglob("*")) if path.is_file()}
        for folder in (tmp_path, tmp_path / "whole")
    )
    assert theirs.pop(Path("run/round-000012/state.json"))  # kept before the last; here that was round 9
    for name in ("run/round-000013/weights.safetensors", "run/round-000013/optimizer.safetensors", "run/metrics.csv"):
        assert ours[Path(name)] == theirs[Path(name)]


def test_killed_at_twenty_random_moments(tmp_path):
    script = Path(__file__).with_name("killed.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(script.parents[1]), *sys.path])}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed 20 times, the same to the last bit" in done.stdout


def test_a_draft_that_a_kill_left_behind_is_cleared(tmp_path):
    session = tiny_session(tmp_path)
    draft = tmp_path / "run" / ".draft-round-000001"
    draft.mkdir(parents=True)
    (draft / "weights.safetensors").write_bytes(b"half")
    (tmp_path / "run" / ".metrics.csv.x7").write_text("version,cl")
    list(session.run(1))
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == [".lock", "metrics.csv", "round-000001", "tensorboard"]


def test_a_run_of_something_else_is_refused(tmp_path):
    list(tiny_session(tmp_path).run(2))
    for changes in (
        {"setting": Setting(seed=1)},
        {"seed": 6},
        {"columns_seed": 9},
        {"channel": lola.RayleighFading(7)},
        {"problem": tiny_problem(3, local_steps=1)},
        {"model_seed": 1},
    ):
        with pytest.raises(lola.FormatError, match=r"round-000002: the checkpoint is of another run .*another folder"):
            tiny_session(tmp_path, **changes)
    for make in (torch.optim.SGD, torch.optim.AdamW):
        with pytest.raises(lola.FormatError, match=f"of another optimizer, Adam; got {make.__name__}"):
            tiny_session(tmp_path, optimizer=lambda parameters, make=make: make(parameters, lr=0.1))
    with pytest.raises(lola.FormatError, match="the checkpoint is of another optimizer: loaded state dict"):
        tiny_session(tmp_path, optimizer=lambda parameters: torch.optim.Adam(parameters[:2], lr=0.1))
    assert tiny_session(tmp_path).version == 2


def test_bad_arguments_are_told(tmp_path):
    with pytest.raises(TypeError, match=r"participation must be a number, got str: 'x'"):
        Setting(participation="x")
    with pytest.raises(TypeError, match="failure must be a number, got NoneType"):
        Setting(failure=None)
    with pytest.raises(ValueError, match=r"participation must be a chance in \(0, 1\], got 0"):
        Setting(participation=0)
    with pytest.raises(ValueError, match=r"failure must be a chance in \[0, 1\), got 1"):
        Setting(failure=1)
    with pytest.raises(ValueError, match="checkpoint_every must be"):
        Setting(checkpoint_every=0)
    with pytest.raises(ValueError, match="method must be one of"):
        Setting(method="best")
    with pytest.raises(ValueError, match="seed must be"):
        Setting(seed=-1)
    with pytest.raises(ValueError, match="the profile must have as many blocks as the model, 3; got 4"):
        tiny_session(tmp_path, problem=tiny_problem(4))
    with pytest.raises(ValueError, match="pinned and forbidden pairs are of one round"):
        tiny_session(tmp_path, problem=tiny_problem(3, pinned=[(0, 1)]))
    with pytest.raises(ValueError, match="no folder to save to"):
        tiny_session(tmp_path, keep=False).save()
    with pytest.raises(ValueError, match="rounds must be"):
        next(tiny_session(tmp_path, keep=False).run(0))
    session = tiny_session(tmp_path, keep=False, channel=lambda *_: np.ones(3))
    with pytest.raises(ValueError, match=r"channel must give an efficiency for each of 7 devices, got shape \(3,\)"):
        next(session.run(1))


def test_shards_hold_every_row_once():
    for shards in (iid_shards(103, 10, seed=1), dirichlet_shards(np.arange(103) % 3, 10, alpha=0.1, seed=1)):
        assert sorted(np.concatenate(shards).tolist()) == list(range(103))
        assert min(map(len, shards)) >= 1
    assert {len(shard) for shard in iid_shards(103, 10, seed=1)} == {10, 11}
    with pytest.raises(ValueError, match="3 rows cannot be dealt to 4 devices"):
        iid_shards(3, 4, seed=0)
    with pytest.raises(ValueError, match="alpha"):
        dirichlet_shards([0, 1], 2, alpha=0.0, seed=0)


def test_a_small_alpha_skews_labels_and_a_large_one_does_not():
    labels = np.arange(4000) % 2

    def imbalance(alpha):
        shards = dirichlet_shards(labels, 10, alpha=alpha, seed=1)
        return np.mean([abs(labels[shard].mean() - 0.5) for shard in shards])

    assert imbalance(0.1) > 0.3
    assert imbalance(1000.0) < 0.05


def test_batches_follow_from_seed_device_and_round_alone():
    columns = tiny_columns("bert", 30, seed=0)
    data = ShardedData(columns, iid_shards(30, 3, seed=0), batch_size=4, seed=7)

    def drawn(device, version, count=5):
        batches = data.batches(device, version)
        return torch.cat([next(batches)["input_ids"] for _ in range(count)])

    assert torch.equal(drawn(0, 0), drawn(0, 0))
    assert not torch.equal(drawn(0, 0), drawn(0, 1))
    own = {tuple(row) for row in columns["input_ids"][data.shards[1]].tolist()}
    assert {tuple(row) for row in drawn(1, 3).tolist()} == own  # 20 draws of a shard of 10: everybody twice
    with pytest.raises(ValueError, match=r"the shard of device 1 must hold rows in 0…29"):
        ShardedData(columns, [[0], [30]], batch_size=1, seed=0)
    with pytest.raises(ValueError, match="columns must be equally long"):
        ShardedData({**columns, "labels": columns["labels"][:3]}, [[0]], batch_size=1, seed=0)
    with pytest.raises(TypeError, match=r"columns must be tensors, got list for labels; give torch.tensor\(…\) of it"):
        ShardedData({**columns, "labels": columns["labels"].tolist()}, [[0]], batch_size=1, seed=0)
    with pytest.raises(TypeError, match=r"row numbers for each device, got int: 3; iid_shards\(n_rows, n_devices"):
        ShardedData(columns, 3, batch_size=1, seed=0)


def test_padding_that_nobody_needs_is_cut():
    batch = {
        "input_ids": torch.arange(12).reshape(2, 6),
        "attention_mask": torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]]),
        "labels": torch.tensor([0, 1]),
    }
    cut = trim_padding(batch)
    assert cut["input_ids"].tolist() == [[0, 1, 2, 3], [6, 7, 8, 9]]
    assert cut["attention_mask"].shape == (2, 4)
    assert cut["labels"] is batch["labels"]
    with pytest.raises(ValueError, match="padded on the right, got padding on the left; set padding_side='right'"):
        trim_padding({**batch, "attention_mask": batch["attention_mask"].flip(1)})
    data = ShardedData(batch, [[0], [1]], batch_size=1, seed=0, collate=trim_padding)
    assert next(data.batches(0, 0))["input_ids"].tolist() == [[0, 1]]


def test_a_state_file_is_json_that_any_reader_takes(tmp_path):
    list(tiny_session(tmp_path, setting=Setting(method="random", failure=0.99)).run(3))
    state = json.loads((tmp_path / "run" / "round-000003" / "state.json").read_text(), parse_constant=pytest.fail)
    assert state["session"]["version"] == 3
