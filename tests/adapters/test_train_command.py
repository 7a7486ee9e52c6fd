"""``lola train`` as a user runs it, killed and resumed as well."""

import csv
import json
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from nonsense import arguments, make_place
from safetensors.torch import load_file

import lola
from lola.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"))


def test_a_run_leaves_metrics_a_summary_and_checkpoints(place, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(arguments(place, out, "--local-steps", "2", rounds=5)) == 0
    said = capsys.readouterr().out
    for text in (
        f"data: train.tsv and dev.tsv of {place / 'MRPC'}",
        "60 rows to train on, dealt evenly to 5 devices; 20 to score",
        "profile: model, batch 8, sequence 16, float32: estimated, snapdragon-8-gen-3 at 1.5 TFLOP/s",
        "accuracy",
        "rounds at the",
        f"written: {out}",
    ):
        assert text in said
    names = {path.name for path in out.iterdir()}
    assert {"metrics.csv", "settings.json", "summary.json", "round-000004", "round-000005"} <= names
    assert ("tensorboard" in names) == (find_spec("tensorboard") is not None)
    rows = metrics(out)
    assert [int(row["version"]) for row in rows] == [1, 2, 3, 4, 5]
    assert [bool(row["accuracy"]) for row in rows] == [False, True, False, True, True]
    assert {row["applied"] for row in rows} == {"3"}
    assert float(rows[-1]["clock_s"]) == pytest.approx(sum(float(row["latency_s"]) for row in rows))
    assert "devices whose gradients were used: 3 of 5\n" in said
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["devices_used"], summary["devices"]) == (3, 5)
    assert summary["headline"] == "accuracy"
    assert summary["scores"] == {name: float(rows[-1][name]) for name in ("accuracy", "f1")}
    assert (summary["rounds"], summary["blocks_missing"], summary["memory_wall_rounds"]) == (5, 0, 0)
    assert summary["simulated_s"] == float(rows[-1]["clock_s"])
    assert summary["settings"]["lr"] == 0.01
    assert summary["settings"]["model"] == str(place / "model")
    assert (
        main(arguments(place, out, "--local-steps", "2", rounds=5)) == 0
    )  # nothing left to do: the same is said again
    said = capsys.readouterr().out
    assert f"goes on from round 5 in {out}" in said
    assert json.loads((out / "summary.json").read_text()) == summary


def test_without_a_terminal_a_line_comes_before_the_first_score(place, tmp_path, capsys, monkeypatch):
    rare = ("--eval-every", "6")
    assert main(arguments(place, tmp_path / "one", *rare)) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("round ")]
    assert [line.split(":")[0] for line in lines] == ["round 6"]
    monkeypatch.setattr("lola.cli.train._LINE_EVERY_S", 0.0)
    assert main(arguments(place, tmp_path / "two", *rare)) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("round ")]
    assert [line.split(":")[0] for line in lines] == [f"round {at}" for at in range(1, 7)]
    assert "accuracy" in lines[-1]
    assert "accuracy" not in lines[0]


def test_it_learns(place, tmp_path):
    for task, name, least in (("mrpc", "accuracy", 0.9), ("stsb", "pearson", 0.8)):
        out = tmp_path / task
        assert main(arguments(place, out, "--lr", "0.03", task=task, rounds=40)) == 0
        assert json.loads((out / "summary.json").read_text())["scores"][name] > least


def test_trouble_is_counted(place, tmp_path, capsys):
    out = tmp_path / "out"
    profile = tmp_path / "p.json"
    lola.save_profile(lola.Profile(memory_bytes=[1e6, 1e6, 1e15], latency_s=[1.0, 2.0, 3.0], upload_bits=1e6), profile)
    more = ("--method", "random", "--failure", "0.3", "--participation", "0.9", "--alpha", "0.5", "--profile", profile)
    assert main(arguments(place, out, *more, "--train-rows", "40", "--optimizer", "adamw")) == 0
    assert "40 rows to train on, dealt by Dirichlet(0.5) to 5 devices" in capsys.readouterr().out
    rows = metrics(out)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["memory_wall_rounds"] == 6
    assert summary["blocks_missing"] == sum(int(row["missing"]) for row in rows) > 6
    assert summary["profile"] == "of unknown provenance"


def test_fewer_devices_than_blocks_train_if_they_may_take_several(place, tmp_path, capsys):
    straight, out, fleet = tmp_path / "straight", tmp_path / "out", tmp_path / "two.csv"
    lola.save_fleet(lola.Fleet.sample(2, seed=0), fleet)
    more = ("--fleet", fleet, "--failure", "0.3", "--max-blocks")
    assert main(arguments(place, straight, *more, "all")) == 0
    assert main(arguments(place, out, *more, "all", rounds=4)) == 0
    assert json.loads((out / "settings.json").read_text())["max_blocks"] == "all"
    assert "max_blocks | all" in (out / "model" / "README.md").read_text()
    capsys.readouterr()
    assert main(arguments(place, out, *more, "2")) == 64
    assert "holds another run, which differs in max_blocks (all, now 2); name a new folder" in capsys.readouterr().err
    assert main(arguments(place, out, *more, "all")) == 0
    assert "goes on from round 4" in capsys.readouterr().out
    assert weights(out, 6) == weights(straight, 6)
    assert (out / "metrics.csv").read_bytes() == (straight / "metrics.csv").read_bytes()
    asked = [row["device_of_block"].split() for row in metrics(out)]
    assert {len(devices) for devices in asked} == {3}
    assert {device for devices in asked for device in devices} <= {"0", "1"}
    assert all(int(row["applied"]) + int(row["missing"]) == 3 for row in metrics(out))
    for row in metrics(out):
        used = row["devices_used"].split()
        assert bool(used) == (row["applied"] != "0")
        assert set(used) <= set(row["device_of_block"].split())
        assert sum(row["device_of_block"].split().count(device) for device in used) == int(row["applied"])


def test_a_run_says_whose_gradients_it_used(place, tmp_path, capsys):
    out, fleet, profile = tmp_path / "out", tmp_path / "three.csv", tmp_path / "p.json"
    like = {"memory_bytes": [1e6] * 3, "latency_s": [1.0, 1.1, 1.2], "upload_bits": 1e6}
    lola.save_profile(lola.Profile(**like, extra_latency_s=0.01, extra_memory_bytes=1e3), profile)
    quick = lola.Fleet(speed=[1.0, 0.01, 0.01], memory_bytes=[1e9] * 3, spectral_efficiency=[8.0, 1.0, 1.0])
    lola.save_fleet(quick, fleet)
    assert main(arguments(place, out, "--fleet", fleet, "--profile", profile, "--max-blocks", "all", rounds=3)) == 0
    assert {row["device_of_block"] for row in metrics(out)} == {"0 0 0"}
    assert {row["participants"] for row in metrics(out)} == {"3"}
    assert "devices whose gradients were used: 1 of 3\n" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["devices_used"], summary["devices"]) == (1, 3)
    assert "Devices whose gradients were used: 1." in (out / "model" / "README.md").read_text()


def metrics(out):
    return list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))


def weights(out, rounds):
    return (out / f"round-{rounds:06d}" / "weights.safetensors").read_bytes()


HARD = (
    "--failure",
    "0.1",
    "--participation",
    "0.9",
    "--alpha",
    "1",
    "--channel",
    "rayleigh",
    "--checkpoint-every",
    "1",
)


def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bits(place, tmp_path):
    straight, out, rounds = tmp_path / "straight", tmp_path / "killed", 40
    assert main(arguments(place, straight, *HARD, rounds=rounds)) == 0
    rng = random.Random(1)
    latest = ""
    for _ in range(3):
        command = [sys.executable, "-m", "lola", *arguments(place, out, *HARD, rounds=rounds)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        before, limit = latest, time.monotonic() + 120
        while (latest := max((path.name for path in out.glob("round-*")), default="")) == before:
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.3))
        process.kill()
        process.wait()
        latest = max(path.name for path in out.glob("round-*"))
    assert "round-000002" < latest < f"round-{rounds:06d}"
    assert main(arguments(place, out, *HARD, rounds=rounds)) == 0
    assert weights(out, rounds) == weights(straight, rounds)
    for name in ("metrics.csv", "summary.json", "settings.json", f"round-{rounds:06d}/optimizer.safetensors"):
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name
    assert not list(out.glob(".draft*"))


def test_interrupted_it_says_where_it_goes_on(place, tmp_path, capsys, monkeypatch):
    from lola.adapters import CooperativeSession

    straight, out = tmp_path / "straight", tmp_path / "out"
    assert main(arguments(place, straight)) == 0
    whole = CooperativeSession._round

    def interrupt(session):
        if session.version == 3:
            raise KeyboardInterrupt
        return whole(session)

    with monkeypatch.context() as patch:
        patch.setattr(CooperativeSession, "_round", interrupt)
        assert main(arguments(place, out)) == 130
    assert f"lola: interrupted; the same command goes on from round-000002 of {out}" in capsys.readouterr().err
    assert not (out / "summary.json").exists()
    assert main(arguments(place, out)) == 0
    assert weights(out, 6) == weights(straight, 6)
    assert main(arguments(place, out, rounds=8)) == 0  # further than was asked for at first
    assert json.loads((out / "summary.json").read_text())["rounds"] == 8


def test_the_seed_decides(place, tmp_path):
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(arguments(place, tmp_path / out, "--seed", seed, rounds=2)) == 0
    assert weights(tmp_path / "a", 2) == weights(tmp_path / "b", 2) != weights(tmp_path / "c", 2)
    stored = load_file(tmp_path / "a" / "round-000002" / "weights.safetensors")
    assert sum("lora_" in name for name in stored) == 12
    assert {"classifier.weight", "classifier.bias"} <= stored.keys()


def test_what_is_wrong_is_said(place, tmp_path, capsys):
    out, other = tmp_path / "out", tmp_path / "other"
    assert main(arguments(place, out, rounds=1)) == 0
    (other / "photos").mkdir(parents=True)
    lola.save_profile(lola.Profile(memory_bytes=[1.0], latency_s=[1.0], upload_bits=1.0), tmp_path / "one.json")
    three = lola.Profile(memory_bytes=[1.0] * 3, latency_s=[1.0] * 3, upload_bits=1.0)
    lola.save_profile(three, tmp_path / "three.json")
    lola.save_fleet(lola.Fleet.sample(2, seed=0), tmp_path / "two.csv")
    capsys.readouterr()
    new = tmp_path / "new"
    for folder, more, message in (
        (out, ("--lr", "0.02"), "holds another run, which differs in lr (0.01, now 0.02); name a new folder"),
        (out, ("--task", "stsb"), "which differs in task (mrpc, now stsb)"),
        (other, (), "holds something else than a run of lola train; name a new folder"),
        (tmp_path / "one.json", (), "holds something else than a run"),
        (tmp_path / "no" / "out", (), "the folder to write into does not exist"),
        (new, ("--task", "wnli"), "task must be one of cola"),
        (new, ("--method", "best"), "method must be one of jbba"),
        (new, ("--seed", "-1"), "seed must be at least 0, got -1"),
        (new, ("--rounds", "0"), "rounds must be at least 1, got 0"),
        (new, ("--max-blocks", "2", "--method", "ba"), "'ba' gives each device one block (max_blocks 1)"),
        (
            new,
            ("--max-blocks", "2", "--profile", str(tmp_path / "three.json")),
            "several blocks a device (max_blocks) need a profile that",
        ),
        (new, ("--lr", "0"), "lr must be finite and > 0"),
        (new, ("--refuse-above", "1"), "refuse_above must be more than 1, or usual gradients are refused; got 1.0"),
        (new, ("--participation", "0"), "participation must be a chance in (0, 1]"),
        (
            new,
            ("--batch", str(10**15)),
            "batch must be at most 1024 for 60 rows, got 1000000000000000; 32 is usual",
        ),
        (
            new,
            ("--method", "jbba-dual-ascent"),
            "'jbba-dual-ascent' wants the same upload for every block; use 'jbba', 'ba', 'computation-aware', "
            "'communication-aware' or 'random'; or freeze the head (freeze_head, --freeze-head)",
        ),
        (new, ("--method", "ba-crunch"), "'ba-crunch' wants uploads that do not fall with depth; use 'jbba', 'ba', "),
        (new, ("--train-rows", "61"), "train_rows asks for 61 rows, but there are 60"),
        (new, ("--train-rows", "3"), "3 rows cannot be dealt to 5 devices"),
        (new, ("--seq", "99"), "has 24 positions; shorten the sequence from 99"),
        (new, ("--model", str(tmp_path)), "the folder has no config.json"),
        (new, ("--profile", str(tmp_path / "one.json")), "the profile must have as many blocks as the model, 3; got 1"),
        (new, ("--fleet", str(tmp_path / "two.csv")), "at least as many devices as blocks are needed, got 2 devices"),
        (new, ("--data", str(tmp_path)), "no data of mrpc; looked for train*.tsv"),
    ):
        assert main(arguments(place, folder, *more)) == 64, message
        error = capsys.readouterr().err
        assert error.startswith("lola: ")
        assert message in error
        assert not new.exists()


def test_a_folder_in_use_is_refused_and_one_that_was_damaged_goes_on(place, tmp_path, capsys):
    from filelock import FileLock

    out, straight = tmp_path / "out", tmp_path / "straight"
    bounded = ("--refuse-above", "50")
    assert main(arguments(place, straight, *bounded)) == 0
    assert json.loads((straight / "summary.json").read_text())["settings"]["refuse_above"] == 50
    assert main(arguments(place, out, *bounded, rounds=4)) == 0
    capsys.readouterr()
    with FileLock(out / ".lock"):
        assert main(arguments(place, out, *bounded)) == 64
    assert f"lola: {out}: a session must have its folder to itself" in capsys.readouterr().err
    (out / "round-000004" / "optimizer.safetensors").write_bytes(b"")
    (out / "round-²").mkdir()
    with pytest.warns(UserWarning, match="going on from round-000002.*round-000004: its files are not what was"):
        assert main(arguments(place, out, *bounded)) == 0
    assert "goes on from round 2" in capsys.readouterr().out
    assert weights(out, 6) == weights(straight, 6)


def test_a_run_that_never_began_leaves_its_folder_free(place, tmp_path, capsys, monkeypatch):
    out, profile = tmp_path / "out", tmp_path / "p.json"
    lola.save_profile(lola.Profile(memory_bytes=[1e15] * 3, latency_s=[1.0, 2.0, 3.0], upload_bits=1e6), profile)
    assert main(arguments(place, out, "--profile", profile)) == 2
    assert "lola: infeasible: " in capsys.readouterr().err
    assert main(arguments(place, out, rounds=1)) == 0
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(arguments(place, tmp_path / "new")) == 64
    assert "packages that are missing, sklearn: install lola-deft[train]\n" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
