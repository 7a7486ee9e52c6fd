"""A training run as a library prepares it, and what of it is kept."""

import json
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
import torch
from cooperative import random_state
from tiny_models import save_checkpoint

import lola
from lola.cli.main import main
from lola.models.seeding import seeded
from lola.profiling import attach_lora
from lola.tasks import TrainingSettings, load_classifier, prepare_training


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    save_checkpoint(folder / "model")
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("dev", 10)):
        rows = "".join(f"{i}\tw{rng.integers(40)}\tw{rng.integers(40)}\t{i % 2}\n" for i in range(count))
        (folder / f"{split}.tsv").write_text(f"idx\tsentence1\tsentence2\tlabel\n{rows}")
    lola.save_fleet(lola.Fleet.sample(5, seed=0), folder / "fleet.csv")
    fleet = str(folder / "fleet.csv")
    return TrainingSettings(str(folder / "model"), "mrpc", str(folder), fleet=fleet, batch=4, seq=16, rank=4, seed=3)


def test_it_prepares_the_session_that_follows_from_the_settings(settings, capsys):
    pytest.importorskip("sklearn.metrics")  # which draws a number when it is imported
    before = random_state()
    training = prepare_training(replace(settings, train_rows=20, alpha=0.5, optimizer="sgd", local_steps=2, lr=0.5))
    assert random_state() == before
    assert capsys.readouterr().out == ""
    assert training.notes[0].startswith("data: train.tsv and dev.tsv of ")
    assert training.notes[1] == "20 rows to train on, dealt by Dirichlet(0.5) to 5 devices; 10 to score"
    assert training.notes[2].startswith("profile: model, batch 4, sequence 16, float32: estimated")
    assert training.notes[3] == "channel: static, as the fleet has it"
    session = training.session
    assert (session.version, session.problem.local_steps, session.problem.n_devices) == (0, 2, 5)
    assert type(session.optimizer) is torch.optim.SGD
    assert session.optimizer.param_groups[0]["lr"] == 0.5
    assert sum(map(len, session.data.shards)) == len(session.data.columns["labels"]) == 20
    assert session.depths.model.training
    assert (session.depths.rank, session.depths.alpha) == (4, 8.0)
    assert session.evaluate().keys() == {"accuracy", "f1"}


def test_a_profile_of_something_else_is_noted_in_what_differs(settings, tmp_path):
    session = prepare_training(settings).session
    profile, path = session.problem.profile, tmp_path / "p.json"

    def noted(profile):
        lola.save_profile(profile, path)
        notes = prepare_training(replace(settings, profile=str(path))).notes
        return [note for note in notes if note.startswith("note: the clock is of another workload")]

    assert noted(profile) == []
    other = replace(profile.provenance, model="someone/qwen", lora_rank=16, batch_size=8)
    (note,) = noted(replace(profile, provenance=other, upload_bits=2 * profile.upload_bits))
    assert note.startswith(
        "note: the clock is of another workload: model qwen, trained is model; rank 16, trained is 4; batch 8, trained "
        "is 4; uploads of "
    )
    bits = session.depths.upload_bits(1)
    assert note.endswith(f"uploads of {2 * bits:,.0f} bits at depth 1, trained are {bits:,.0f}")


def test_model_and_adapters_are_drawn_from_one_seed(settings):
    prepared = prepare_training(settings).session.depths
    with seeded(3):
        wanted = attach_lora(load_classifier(settings.model, 2, seed=None).model, rank=4)
    ours, theirs = prepared.all_parameters(), wanted.all_parameters()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"task": "wnli"}, ValueError, "task must be one of cola"),
        ({"model": 3}, TypeError, "model must be text, got 3"),
        ({"fleet": 3}, TypeError, "fleet must be text, got 3"),
        ({"method": "best"}, ValueError, "method must be one of jbba"),
        ({"optimizer": "lion"}, ValueError, "optimizer must be one of adam, adamw, sgd; got 'lion'"),
        ({"lr": 0.0}, ValueError, "lr must be finite and > 0"),
        ({"alpha": -1.0}, ValueError, "alpha must be finite and > 0"),
        ({"lora_alpha": 0.0}, ValueError, "lora_alpha must be finite and > 0, got 0.0"),
        ({"bandwidth_hz": "wide"}, TypeError, "bandwidth_hz must be a number, got str: 'wide'"),
        ({"batch": 0}, ValueError, "batch must be at least 1, got 0"),
        ({"max_blocks": 0}, ValueError, 'max_blocks: a whole number from 1 on was wanted, or "all", got 0'),
        ({"max_blocks": None}, ValueError, 'max_blocks: a whole number from 1 on was wanted, or "all", got None'),
        ({"train_rows": 0}, ValueError, "train_rows must be at least 1, got 0"),
        ({"participation": 0.0}, ValueError, r"participation must be a chance in \(0, 1\]"),
        ({"eval_every": 0}, ValueError, "evaluate_every must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": 2**64}, ValueError, r"seed must lie between -2\*\*63 and 2\*\*64 - 1"),
    ],
)
def test_bad_settings_are_refused(settings, change, error, message):
    with pytest.raises(error, match=message):
        replace(settings, **change)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train_rows": 31}, "train_rows asks for 31 rows, but there are 30"),
        ({"train_rows": 4}, "4 rows cannot be dealt to 5 devices"),
        ({"channel": "fog"}, "channel must be static, rayleigh, or a file of traces; got 'fog', which is no file"),
        ({"bandwidth_hz": 1e-49, "seq": 99}, "has 24 positions; shorten the sequence from 99"),
    ],
)
def test_what_does_not_fit_is_refused(settings, change, message):
    with pytest.raises(ValueError, match=message):
        prepare_training(replace(settings, **change))


def test_settings_are_frozen_and_know_loras_alpha(settings):
    with pytest.raises(FrozenInstanceError):
        settings.lr = 1.0
    assert settings.lora_alpha == 8.0
    assert prepare_training(replace(settings, lora_alpha=3)).session.depths.alpha == 3.0
    kept = settings.recorded()
    assert kept.keys() == {field.name for field in fields(settings)} - {"eval_every", "checkpoint_every"}
    assert (kept["lora_alpha"], kept["lr"], kept["profile"]) == (8.0, 1e-3, None)
    assert json.loads(json.dumps(kept)) == kept


def test_the_command_records_loras_alpha_and_goes_on_with_runs_that_did_not(settings, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--model", settings.model, "--task", "mrpc", "--data", settings.data, "--fleet", settings.fleet]
    options += ["--out", str(out), "--batch", "4", "--seq", "16", "--rank", "4", "--threads", "1"]
    assert main(["train", *options, "--rounds", "1"]) == 0
    there = json.loads((out / "settings.json").read_text())
    assert there["lora_alpha"] == json.loads((out / "summary.json").read_text())["settings"]["lora_alpha"] == 8.0
    del there["lora_alpha"]
    (out / "settings.json").write_text(json.dumps(there))
    assert main(["train", *options, "--rounds", "2", "--lora-alpha", "16"]) == 64
    assert "which differs in lora_alpha (8.0, now 16.0); name a new folder" in capsys.readouterr().err
    assert main(["train", *options, "--rounds", "2", "--lora-alpha", "8"]) == 0
    assert "goes on from round 1" in capsys.readouterr().out
    assert main(["train", *options, "--rounds", "3", "--threads", "100000"]) == 64
    assert "threads must be at most 1024, got 100000; one a core is usual" in capsys.readouterr().err
