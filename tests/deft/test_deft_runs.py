"""The training behind the page of DEFT, on a tiny model and a few rows: every part runs, twice to the same end."""

import json

import boosted_prompts
import deft
import deft_plots
import deft_runs_page
import fused_prompts
import glue_rows
import kept_blocks
import numpy as np
import pytest
import rank_budgets
from tiny_models import save_checkpoint

from lola.deft import PromptedClassifier, draw_prompt
from lola.tasks import read_glue
from lola.tasks.glue import GLUE

ROWS = 60


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Save a model and tasks, a word of each text telling its class, and make every run small."""
    for task in ("sst2", "mrpc", "qqp", "mnli"):
        folder = tmp_path / "glue" / GLUE[task].folder
        folder.mkdir(parents=True)
        labels = [GLUE[task].labels[n % GLUE[task].n_labels] for n in range(ROWS)]
        pair = "w3" if len(GLUE[task].hub_columns) == 2 else ""
        lines = [f"{n}\tw{n % 7} w{n % GLUE[task].n_labels}\t{pair}\t{label}" for n, label in enumerate(labels)]
        for split in ("train", "dev"):
            (folder / f"{split}.tsv").write_text("idx\tsentence1\tsentence2\tlabel\n" + "\n".join(lines) + "\n")
    monkeypatch.setenv("LOLA_DEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(glue_rows, "LENGTH", 12)
    monkeypatch.setitem(glue_rows.PAIRS, "rows", 32)
    for module, changes in (
        (fused_prompts, {"seeds": 2, "rows": 32, "epochs": 2, "source_rows": 16}),
        (rank_budgets, {"seeds": 2, "measured_steps": 2, "max_rank": 3}),
        (kept_blocks, {"seeds": 2, "rows": 8, "batch_size": 4, "rounds": 2, "measured_batches": 1}),
        (boosted_prompts, {"seeds": 2, "devices": 2, "rows": 8, "held_out": 4}),
    ):
        for name, value in changes.items():
            monkeypatch.setitem(module.SCALE, name, value)
    monkeypatch.setitem(boosted_prompts.SCALE, "rounds", 2)
    monkeypatch.setattr(fused_prompts, "SOURCES", ("qqp", "qqp", "mnli"))
    monkeypatch.setattr(rank_budgets, "READ", 60)
    monkeypatch.setattr(rank_budgets, "TASKS", {"sst2": {"rows": 32, "epochs": 1}})
    return save_checkpoint(tmp_path / "model"), str(tmp_path / "glue")


def test_prompts_are_fused_over_either_uplink_or_trained_alone(folders, tmp_path):
    told = fused_prompts.run(tmp_path / "first.json", *folders)
    assert [run["arm"] for run in told["runs"]] == 2 * [fused_prompts.DIGITAL, fused_prompts.AIR, fused_prompts.SCRATCH]
    digital, analog = told["runs"][:2]
    assert digital["clock_s"][-1] / analog["clock_s"][-1] == pytest.approx(3 * 8 / np.log2(101), rel=1e-9)
    assert all(len(run["accuracy"]) == 1 + len(run["loss"]) == 3 for run in told["runs"])
    assert digital["loss"] != analog["loss"]
    assert digital["loss"][0] == pytest.approx(analog["loss"][0], rel=0.2)
    assert "FusionScheme" in deft_runs_page.many_devices(told)
    assert "by transfer" in deft_runs_page.fusion(told)
    assert fused_prompts.run(tmp_path / "again.json", *folders)["runs"] == told["runs"]  # sources from the cache now


def test_ranks_are_spent_as_the_uniform_ones(folders, tmp_path):
    told = rank_budgets.run(tmp_path / "ranks.json", *folders)
    assert {run["arm"] for run in told["runs"]} == {rank_budgets.UNIFORM, *rank_budgets.MEASURES}
    assert {sum(run["rank"]) for run in told["runs"]} == {3 * rank_budgets.SCALE["uniform_rank"]}
    assert "SST-2" in deft_runs_page.ranks(told)
    assert deft_plots.draw_ranks(told)


def test_fewer_blocks_are_kept_and_all(folders, tmp_path):
    told = kept_blocks.run(tmp_path / "emulator.json", *folders)
    assert [run["n_kept"] for run in told["runs"]] == [2, 3, 2, 3]
    two, three = told["runs"][:2]
    assert two["emulator_bits"] < three["emulator_bits"]
    assert (three["kept"], three["distortion"]) == ([1, 2, 3], 0)
    assert three["accuracy"] == three["emulator_accuracy"]
    assert "Emulator" in deft_runs_page.emulator(told)


def test_prompts_are_boosted_by_each_scheduler(folders, tmp_path):
    told = boosted_prompts.run(tmp_path / "boosting.json", *folders)
    assert [run["scheduler"] for run in told["runs"]] == 2 * [*boosted_prompts.SCHEDULERS]
    for run in told["runs"]:
        assert 1 <= len(run["prompts"]) <= 3
        assert all(sum(pair) == 2 for pair in zip(run["satisfied"], run["candidates"], strict=True))
    assert "FlyBoosting" in deft_runs_page.boosting(told)


def test_boosting_takes_rows_that_its_trials_did_not(folders):
    labels = np.arange(60) % 2
    seen, unseen = boosted_prompts.halves(len(labels))
    assert sorted([*seen, *unseen]) == list(range(60))
    shards, held_out = boosted_prompts.dealt(labels, unseen, seed=0)
    dealt = np.concatenate([*shards, *held_out])
    assert {*dealt} <= {*unseen}
    assert len({*dealt}) == len(dealt) == 2 * (8 + 4)
    of_devices = [labels[[*shard, *rows]].mean() for shard, rows in zip(shards, held_out, strict=True)]
    assert of_devices == pytest.approx([0.35, 0.65], abs=0.5 / 12)


def test_boosting_remembers_what_the_classifier_answered(folders):
    model = glue_rows.load_encoder(folders[0], 2, seed=0)
    columns = glue_rows.encode(folders[0], read_glue("qqp", folders[1]).dev.take(np.arange(6)))
    prompts = [draw_prompt(model, tokens=2, seed=seed) for seed in (0, 1)]
    remembering, plain = boosted_prompts.Remembering(model), PromptedClassifier(model, train_head=False)
    for some in (slice(0, 3), slice(3, 6)):
        rows = {name: column[some] for name, column in columns.items()}
        for prompt in prompts:
            first = remembering.probabilities(prompt, rows)
            assert first.equal(plain.probabilities(prompt, rows))
            assert remembering.probabilities(prompt.clone(), rows) is first


class StoppedError(Exception):
    pass


def test_a_stopped_part_goes_on_from_its_runs(folders, tmp_path, monkeypatch):
    file, made = tmp_path / "ranks.json", []

    def trained(folder, task, rank, rows, dev, seed):
        if len(made) == 4:
            raise StoppedError
        made.append((task, seed))
        return 0.5

    monkeypatch.setattr(rank_budgets, "trained", trained)
    with pytest.raises(StoppedError):
        rank_budgets.run(file, *folders)
    before = json.loads(file.read_text())
    assert made == [("sst2", 0)] * 3 + [("sst2", 1)] == [(run["task"], run["seed"]) for run in before["runs"]]
    assert {run["seed"] for run in deft.read_results(tmp_path)["ranks"]["runs"]} == {0}  # the one with all its runs
    monkeypatch.setattr(rank_budgets, "trained", lambda *_: 0.75)
    monkeypatch.setitem(rank_budgets.SCALE, "seeds", 3)
    rank_budgets.TASKS["mrpc"] = {"rows": 16, "epochs": 1}
    after = rank_budgets.run(file, *folders)
    assert after == json.loads(file.read_text())
    assert after["runs"][:4] == before["runs"]
    assert [run["accuracy"] for run in after["runs"]] == [0.5] * 4 + [0.75] * 14
    assert len({(run["task"], run["seed"], run["arm"]) for run in after["runs"]}) == 2 * 3 * 3
    assert after["seconds"] > before["seconds"]


def test_runs_of_another_setting_are_made_again(folders, tmp_path, monkeypatch):
    file = tmp_path / "ranks.json"
    monkeypatch.setattr(rank_budgets, "trained", lambda *_: 0.5)
    rank_budgets.run(file, *folders)
    monkeypatch.setattr(rank_budgets, "trained", lambda *_: 0.75)
    monkeypatch.setitem(rank_budgets.SCALE, "max_rank", 4)
    assert {run["accuracy"] for run in rank_budgets.run(file, *folders)["runs"]} == {0.75}


def test_runs_of_another_task_are_made_again(folders, tmp_path, monkeypatch):
    file = tmp_path / "boosting.json"
    monkeypatch.setattr(boosted_prompts, "boosted", lambda *_: {"candidates": [0]})
    boosted_prompts.run(file, *folders)
    monkeypatch.setattr(boosted_prompts, "boosted", lambda *_: {"candidates": [1]})
    monkeypatch.setattr(boosted_prompts, "TASK", "mrpc")
    runs = boosted_prompts.run(file, *folders)["runs"]
    assert [run["candidates"] for run in runs] == [[1]] * 6
