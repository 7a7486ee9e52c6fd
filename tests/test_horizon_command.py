"""``lola horizon``: the paper's case, cases from files, plans saved and proven again, and files that it refuses."""

import json
import re

import numpy as np
import pytest

import lola
from lola.cli.common import Exit
from lola.cli.main import main
from lola.figures.horizon import draw_horizon

CASE = """
demand = ["chat", "code", "code"]
[[models]]
name = "chat"
reward = [50, 75]
upgrade_cost = 50
[[models]]
name = "code"
reward = [20]
upgrade_cost = 0
"""
CHAIN = CASE.replace(
    'demand = ["chat", "code", "code"]', "transition = [[0.9, 0.1], [0.5, 0.5]]\ninitial = [1, 0]\nhorizon = 12"
)


@pytest.fixture
def case(tmp_path):
    (tmp_path / "h.toml").write_text(CASE)
    return tmp_path / "h.toml"


def test_the_built_in_case_is_the_papers_table(capsys):
    assert main(["horizon"]) == 0
    out = capsys.readouterr().out
    actions = [line.split()[2:4] for line in out.splitlines()[1:11]]
    assert actions == [["serve", "50"], *[["fine-tune", "C"]] * 2, *[["serve", "100"]] * 7]
    assert re.search(r"^profit: 650 optimal, 500 immediate, -?\d+ random \(seed 0\)$", out, re.MULTILINE)
    assert out.endswith("optimal: no plan earns more than 650, verified\n")
    assert main(["horizon", "--seed", "7"]) == 0
    assert "500 immediate, " in (other := capsys.readouterr().out)
    assert other != out


@pytest.mark.parametrize("text", [CASE, CHAIN], ids=["sequence", "chain"])
def test_a_plan_is_saved_drawn_and_proven_again(text, case, tmp_path, capsys):
    case.write_text(text)
    out, picture = tmp_path / "plan.json", tmp_path / "plan.png"
    assert main(["horizon", str(case), "--json", str(out), "--figure", str(picture)]) == 0
    said = capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    plan, problem = lola.load_horizon_plan(out)
    problem.verify(plan)
    again = lola.load_horizon(case).plan()
    for name in ("objective", "upper_bound", "served", "upgraded", "values", "policy"):
        np.testing.assert_array_equal(getattr(plan, name), getattr(again, name), err_msg=name)
    assert main(["horizon", str(case), "--json", "-"]) == 0
    piped, aside = capsys.readouterr()
    assert piped == out.read_text()
    assert aside == said
    what = "plan earns" if problem.demand is not None else "policy is expected to earn"
    assert f"optimal: no {what} more than {plan.objective:.6g}, verified" in said
    assert main(["verify", str(out)]) == 0
    holds, proven = capsys.readouterr().out.splitlines()
    assert holds == f"{out}: the plan holds, profit {plan.objective:.6g} in {problem.inputs.rounds} rounds"
    assert proven == said.splitlines()[-1]
    assert main(["verify", str(out), "--oracle", "milp"]) == Exit.BAD_INPUT
    assert "--oracle needs a schedule, got a plan" in capsys.readouterr().err
    assert ("over all demands; the rounds above are of one that was drawn" in said) == (problem.demand is None)


def test_the_figure_shows_what_each_way_has_earned(case):
    problem = lola.load_horizon(case)
    plan = problem.plan()
    runs = {"optimal": plan.follow(problem.demand), "other": problem.random(problem.demand, seed=1)}
    (axes,) = draw_horizon(problem, problem.demand, runs).axes
    lines = [line for line in axes.get_lines() if line.get_label().partition(":")[0] in runs]
    assert [line.get_label().partition(":")[0] for line in lines] == list(runs)
    for line, run in zip(lines, runs.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), [0.0, *np.cumsum(run.profit)])
        assert line.get_label().endswith(f": {run.profit.sum():.6g}")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1\nchat", "2\ncode", "3\ncode"]
    long = problem.random(np.zeros(60, np.int64), seed=1)
    (axes,) = draw_horizon(problem, np.zeros(60, np.int64), {"random": long}).axes
    assert axes.get_xlabel() == "round"


def test_a_plan_that_was_changed_is_not_what_was_proven(case, tmp_path, capsys):
    problem = lola.load_horizon(case)
    lola.save_horizon_plan(problem.plan(), problem, tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_text()
    data = json.loads(text)
    data["problem"]["models"][0]["reward"][0] = 60.0
    (tmp_path / "plan.json").write_text(json.dumps(data))
    plan, other = lola.load_horizon_plan(tmp_path / "plan.json")
    with pytest.raises(lola.VerificationError, match="profit: the policy earns 100, the plan says 90"):
        other.verify(plan)
    assert main(["verify", str(tmp_path / "plan.json")]) == Exit.NOT_VERIFIED
    assert capsys.readouterr().err == "lola: not verified: profit: the policy earns 100, the plan says 90\n"
    with pytest.raises(lola.VerificationError):
        lola.save_horizon_plan(problem.plan(), other, tmp_path / "again.json")
    assert not (tmp_path / "again.json").exists()


@pytest.mark.parametrize(
    "old, new, message",
    [
        (
            "[[models]]",
            "[[model]]",
            r"unknown key .model.\. Did you mean .models.\? Known are models, demand,",
        ),
        ("upgrade_cost = 0", "cost = 0", r"models\[1\]: unknown key 'cost'"),
        ("upgrade_cost = 0", "", r"models\[1\]: 'upgrade_cost' is missing"),
        ("reward = [20]", "reward = 20", r"models\[1\], reward: a list of numbers was wanted, got 20"),
        ("reward = [20]", "reward = []", "reward must begin with level 0 .* for model 1; fill the gap"),
        ("reward = [20]", 'reward = ["20"]', r"models\[1\], reward\[0\]: a plain number was wanted"),
        ("reward = [20]", "reward = [nan]", r"models\[1\], reward\[0\]: must be finite, got nan"),
        ("reward = [20]", "reward = [-20]", "reward must be >= 0 .* got -20.0 for model 1 at level 0; correct it"),
        ("upgrade_cost = 50", "upgrade_cost = -1", "upgrade_cost must be finite and >= 0, got -1.0 at index 0"),
        (
            "upgrade_cost = 50",
            "upgrade_cost = true",
            r"models\[0\], upgrade_cost: a plain number was wanted .* True",
        ),
        ('name = "code"', 'name = "chat"', "model names must differ, got 'chat' twice; rename one of them"),
        ('name = "code"', "name = 3", "a model's name must be printable text without space around it, got 3"),
        ('"chat", "code", "code"', '"chat", "cod"', "demand must name models, got 'cod'; known are 'chat', 'code'"),
        (
            '["chat", "code", "code"]',
            "[0, 1]",
            r"demand: a list of names of models was wanted, one a round, got \[0",
        ),
        ('["chat", "code", "code"]', "[]", "demand must hold at least one round"),
        ('["chat", "code", "code"]', '"chat"', "demand: a list of names of models was wanted, one a round, got 'chat'"),
        ('demand = ["chat", "code", "code"]', "", "by transition, initial and horizon; missing: demand"),
        ('demand = ["chat"', 'horizon = 3\ndemand = ["chat"', "a Markov chain, got both: drop demand, or horizon"),
        (
            'demand = ["chat", "code", "code"]',
            "models = 3\n[more]",
            "not valid TOML|models: a table a model was wanted",
        ),
        ('demand = ["chat"', 'demand = "chat"', "not valid TOML"),
    ],
)
def test_cases_that_cannot_be_are_refused(old, new, message, case, capsys):
    assert old in CASE
    case.write_text(CASE.replace(old, new))
    with pytest.raises(lola.FormatError, match=message):
        lola.load_horizon(case)
    assert main(["horizon", str(case)]) == Exit.BAD_INPUT
    assert capsys.readouterr().err.startswith(f"lola: {case}")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("[[0.9, 0.1], [0.5, 0.5]]", "0.9", "transition: a list of rows was wanted, got 0.9"),
        ("[[0.9, 0.1], [0.5, 0.5]]", "[0.9]", r"transition\[0\]: a list of numbers was wanted, got 0.9"),
        ("[[0.9, 0.1], [0.5, 0.5]]", "[[0.9], [0.5, 0.5]]", "transition must be a rectangular array of real numbers"),
        ("[0.5, 0.5]", "[0.5, 0.6]", r"transition\[1\] must be probabilities, >= 0 with the sum 1, got the sum 1.1"),
        ("[1, 0]", "[1, 1]", "initial must be probabilities, >= 0 with the sum 1, got the sum 2"),
        ("[1, 0]", "1", "initial: a list of numbers was wanted, got 1"),
        ("horizon = 12", "horizon = 1.5", "horizon: an integer was wanted, got 1.5"),
        ("horizon = 12", "horizon = 0", "horizon must be at least 1, got 0"),
        ("horizon = 12", "", "by transition, initial and horizon; missing: horizon"),
        ("horizon = 12", "horizon = 90000000", "may take at most 2.15 GB, got 3.24 GB; plan fewer models, levels or"),
    ],
)
def test_chains_that_cannot_be_are_refused(old, new, message, case, capsys):
    assert old in CHAIN
    case.write_text(CHAIN.replace(old, new))
    assert main(["horizon", str(case)]) == Exit.BAD_INPUT
    assert re.search(message, capsys.readouterr().err)


def test_options_that_cannot_be_are_refused(case, tmp_path, capsys):
    for options, message in (
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--json", str(case)], "is an input; write to another file"),
        (["--figure", "-"], "--figure must be a file, got '-'; name one, such as out.png"),
        (["--figure", str(tmp_path / "no" / "f.png")], "the folder to write into does not exist"),
    ):
        assert main(["horizon", str(case), *options]) == Exit.BAD_INPUT
        assert message in capsys.readouterr().err
    assert main(["horizon", str(tmp_path / "none.toml")]) == Exit.BAD_INPUT
    assert "none.toml: No such file or directory" in capsys.readouterr().err
    (tmp_path / "f.csv").write_text("name,speed\n")
    assert main(["horizon", str(tmp_path / "f.csv")]) == Exit.BAD_INPUT
    assert "A horizon was wanted; is it a fleet, which --fleet takes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("plan", "values"), [1.0], "values and policy must have an entry for each round and joint level .* cut short"),
        (("plan", "policy", 0), 7, "plan, policy: must hold −1 or an index of a model; is it another problem's"),
        (("plan", "served"), "all", "plan, served: a list of integers was wanted, got 'all'"),
        (("plan", "objective"), None, "plan, objective: a plain number was wanted"),
        (("plan",), 3, r"plan: a table \(keys with values\) was wanted, got 3"),
        (("problem", "models"), [], r"problem, models: a table a model was wanted, \[\[models\]\], got \[\]"),
        (("problem", "models", 0), 3, r"problem, models\[0\]: a table \(keys with values\) was wanted, got 3"),
        (("problem", "demand", 0), "zzz", "problem: demand must name models, got 'zzz'"),
    ],
)
def test_saved_plans_that_cannot_be_are_refused(place, value, message, case, tmp_path):
    problem = lola.load_horizon(case)
    lola.save_horizon_plan(problem.plan(), problem, tmp_path / "plan.json")
    data = json.loads((tmp_path / "plan.json").read_text())
    *path, last = place
    part = data
    for key in path:
        part = part[key]
    part[last] = value
    (tmp_path / "plan.json").write_text(json.dumps(data))
    with pytest.raises(lola.FormatError, match=message):
        lola.load_horizon_plan(tmp_path / "plan.json")
