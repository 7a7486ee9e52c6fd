"""``lola ranks``: importance read or measured, ranks by a budget or a deadline, and training with them."""

import json
import re
from pathlib import Path

import pytest
import torch
from scenario import small_problem
from tiny_models import save_checkpoint

import lola
from lola.cli.common import Exit
from lola.cli.main import main
from lola.tasks.folder import read_settings

SMALL = ["--batch=4", "--seq=12", "--threads=1"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def task(here):
    """A tiny model and a task of GLUE."""
    save_checkpoint(here / "model")
    (here / "GLUE" / "MRPC").mkdir(parents=True)
    for split in ("train", "dev"):
        rows = [f"{i}\tw{i % 40}\tw{i % 7}\t{i % 2}" for i in range(30)]
        (here / "GLUE" / "MRPC" / f"{split}.tsv").write_text("\n".join(["idx\tsentence1\tsentence2\tlabel", *rows]))
    return ["--model=model", "--task=mrpc", "--data=GLUE"]


def test_without_arguments_it_is_the_built_in_case(capsys):
    assert main(["ranks", "--json", "ranks.json", "--figure", "ranks.png"]) == Exit.OK
    out = capsys.readouterr().out
    assert "ranks: 73,728 parameters of LoRA; a round uploads 2.384 Mbit, with the head" in out
    assert "rank 8 in every block 117.325, 0.342 % more" in out
    assert "proof: by a price of a parameter, no ranks that fit are worth more than 117.726 (gap 0)" in out
    assert "measured: sst2, after 100 steps of Adam at 0.001 on 100 batches" in out
    plan, importance, problem = lola.load_ranks("ranks.json")
    plan.verify(importance, problem)
    row = next(line.split() for line in out.splitlines() if "layer.0" in line)
    assert row[:2] == ["6", "bert.encoder.layer.0"]
    assert row[4:6] == [str(plan.rank[5]), f"{plan.parameters[5]:,}"]
    assert main(["verify", "ranks.json"]) == Exit.OK
    assert "ranks.json: the ranks hold, 73,728 parameters worth 117.726" in capsys.readouterr().out
    assert main(["verify", "ranks.json", "--oracle", "milp"]) == Exit.BAD_INPUT
    assert "--oracle needs a schedule, got ranks, ranks.json; leave it out" in capsys.readouterr().err
    data = json.loads(Path("ranks.json").read_text())
    data["plan"]["price"] = 0.0
    Path("ranks.json").write_text(json.dumps(data))
    assert main(["verify", "ranks.json"]) == Exit.NOT_VERIFIED
    assert "the price only shows" in capsys.readouterr().err


def test_a_budget_and_the_same_as_a_uniform_rank(capsys):
    said = []
    for limit in (["--budget", "36864"], ["--uniform-rank", "4"]):
        assert main(["ranks", *limit, "--min-rank", "0", "--json", "-"]) == Exit.OK
        said.append(json.loads(capsys.readouterr().out)["plan"])
    assert said[0] == said[1]


def test_a_deadline_of_a_scenario(here, capsys):
    problem = small_problem()
    lola.save_importance(lola.Importance([[3, 2], [3, 1], [2, 1]], [100] * 3, [1e5] * 3), "importance.json")
    lola.save_profile(problem.profile, "profile.json")
    lola.save_fleet(problem.fleet, "fleet.csv")
    files = ["--profile=profile.json", "--fleet=fleet.csv", "--bandwidth-hz=1e6", "--local-steps=2"]
    limit = ["ranks", "importance.json", *files, "--deadline-s"]
    assert main([*limit, "4.2", "--json", "ranks.json"]) == Exit.OK
    out = capsys.readouterr().out
    plan, importance, round_of = lola.load_ranks("ranks.json")
    plan.verify(importance, round_of)
    assert f"deadline: 4.200000 s; the round ends after {plan.latency_s:.6f} s" in out
    assert "proof: by prices of bandwidth in " in out
    assert problem.fleet.label(int(plan.device_of_block[0])) in out
    assert main(["verify", "ranks.json"]) == Exit.OK
    assert main([*limit, "4.2", "--equal-bandwidth", "--min-rank=0"]) == Exit.OK
    assert main([*limit, "0.1"]) == Exit.INFEASIBLE
    said = capsys.readouterr().err
    assert "no ranks fit" in said
    assert re.search(r"a --deadline-s of [\d.]+ would do; or add bandwidth or devices, or lower --min-rank$", said)


@pytest.mark.parametrize("measure", ["singular", "sensitivity"])
def test_it_measures_and_what_it_saved_is_trained_with(task, capsys, measure):
    asked = [*task, *SMALL, "--steps=2", "--max-rank=3", f"--measure={measure}", "--out=importance.json"]
    assert main(["ranks", *asked, "--budget=448", "--json=ranks.json"]) == Exit.OK
    assert "measured: mrpc, after 2 steps of Adam at 0.001 on 2 batches" in capsys.readouterr().out
    importance = lola.load_importance("importance.json")
    assert (importance.measure, importance.gain.shape, importance.cost.tolist()) == (measure, (3, 3), [64] * 3)
    plan, _, _ = lola.load_ranks("ranks.json")
    assert plan.rank.sum() == 7  # so they differ
    if measure == "singular":
        rounds = ["train", *task, *SMALL, "--out=RUN", "--ranks=ranks.json"]
        assert main([*rounds, "--rounds=2"]) == Exit.OK
        assert main([*rounds, "--rounds=3"]) == Exit.OK  # it goes on
        settings = read_settings(Path("RUN"))
        assert settings.rank == tuple(plan.rank)
        capsys.readouterr()
        assert main(["train", *task, *SMALL, "--rounds=3", "--out=RUN"]) == Exit.BAD_INPUT
        assert "RUN: holds another run, which differs in lora_alpha" in capsys.readouterr().err
        assert main(["export", "RUN", "--out=MERGED", "--merged"]) == Exit.OK


@pytest.mark.parametrize(
    "options, message",
    [
        (["--budget=1"], "--budget must be finite and at least 9216 parameters, 1 rank(s) of every block, got 1"),
        (["--uniform-rank=0"], "--uniform-rank must be at least 1, got 0"),
        (["--uniform-rank=17"], "--uniform-rank must be at most 16, as many as were measured, got 17; lower"),
        (
            ["--uniform-rank=4", "--min-rank=5"],
            "--min-rank must be at most 4, the rank in every block that the budget is of, got 5; lower it, or raise "
            "--uniform-rank",
        ),
        (["--min-rank=12"], "--min-rank must be at most 8, the rank in every block that the budget is of, got 12; low"),
        (["--min-rank=12"], "got 12; lower it, or give --uniform-rank"),
        (["--min-rank=17"], "--min-rank must lie between 0 and 16, the ranks that gain has columns for; got 17"),
        (["--deadline-s=0", "--profile=p.json"], "p.json: No such file"),
        (["--deadline-s=5"], "a profile of 6 blocks was wanted, as many as the importance has; got 12"),
        (["--fleet=f.csv"], "--fleet is of a round by --deadline-s, got it without one"),
        (["--equal-bandwidth"], "--equal-bandwidth is of a round by --deadline-s"),
        (["--model=model"], "--model, --task and --data go together, and --task, --data is missing"),
        *(
            ([option], f"lola: {option.partition('=')[0]} is of a measurement, and nothing is measured: give --model")
            for option in ("--measure=singular", "--max-rank=8", "--steps=50", "--lr=1e-3", "--batch=32", "--seq=128")
        ),
        (
            ["missing.json", "--freeze-head", "--seed=0", "--threads=1"],
            "--freeze-head, --seed, --threads is of a measur",
        ),
        (["--out=i.json"], "--out saves what is measured, and nothing is"),
        (
            ["a.json", "--model=m", "--task=mrpc", "--data=d"],
            "either a file or a model was wanted, got a.json and --model",
        ),
        (["--model=m", "--task=mrpc", "--data=d", "--max-rank=0"], "--max-rank must be at least 1, got 0"),
        (["--model=m", "--task=news", "--data=d"], "task must be one of"),
        (["missing.json"], "missing.json: No such file"),
        (["--json=nowhere/r.json"], "nowhere/r.json: the folder to write into does not exist"),
        (["--figure=r.txt"], "r.txt: a figure must end in one of"),
        (["--budget=1", "--uniform-rank=2"], "argument --uniform-rank: not allowed with argument --budget"),
    ],
)
def test_what_it_cannot_do_it_says(options, message, capsys):
    assert _code(["ranks", *options]) == Exit.BAD_INPUT
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "serve"])
@pytest.mark.parametrize("rank", ["8", "4"])
def test_one_rank_and_a_rank_of_each_block_are_not_both_heeded(command, rank, capsys):
    setting = ["--model=m", "--task=mrpc", "--data=d", "--out=RUN", "--ranks=r.json", "--rank", rank]
    assert _code([command, *setting]) == Exit.BAD_INPUT
    assert "argument --rank: not allowed with argument --ranks" in capsys.readouterr().err


def test_training_says_when_its_round_is_not_the_one_of_the_deadline(task, capsys):
    problem = small_problem()
    lola.save_importance(lola.Importance([[3, 2], [3, 1], [2, 1]], [100] * 3, [1e5] * 3), "importance.json")
    lola.save_profile(problem.profile, "profile.json")
    lola.save_fleet(problem.fleet, "fleet.csv")
    files = ["--profile=profile.json", "--fleet=fleet.csv", "--bandwidth-hz=1e6"]
    assert main(["ranks", "importance.json", *files, "--local-steps=2", "--deadline-s=4.2", "--json=r.json"]) == Exit.OK
    train = ["train", *task, *SMALL, "--ranks=r.json", "--rounds=1", "--freeze-head"]
    for out, options, told in (
        ("A", [], "by 4.2 s with another bandwidth_hz 1e+06 (here 1e+08), local_steps 2 (here 1), profile, fleet; for"),
        ("B", files, "with another local_steps 2 (here 1); for that round, give"),
        ("C", [*files, "--local-steps=2"], None),
    ):
        capsys.readouterr()
        assert main([*train, f"--out={out}", *options]) == Exit.OK
        said = capsys.readouterr().out
        assert told in said if told else "with another" not in said


def test_a_file_of_another_kind_is_told_who_takes_it(tmp_path, capsys):
    importance = lola.Importance([[9.0, 4.0], [3.0, 1.0]], cost=[100, 100])
    lola.save_importance(importance, tmp_path / "i.json")
    lola.save_ranks(lola.allocate_ranks(importance, budget=300), importance, tmp_path / "r.json")
    train = ["train", "--model=m", "--task=mrpc", "--data=d", "--out=RUN", f"--ranks={tmp_path / 'i.json'}"]
    for arguments, message in (
        (["verify", str(tmp_path / "i.json")], "lola-horizon, lola-ranks, got 'lola-importance'; lola ranks takes it"),
        (["ranks", str(tmp_path / "r.json")], "got 'lola-ranks'; lola verify and lola train --ranks take it"),
        (train, '"format" must be "lola-ranks", got \'lola-importance\'; lola ranks takes it'),
    ):
        assert _code(arguments) == Exit.BAD_INPUT
        assert message in capsys.readouterr().err


def _code(arguments):
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code
