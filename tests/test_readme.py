"""What the README and docs claim is what happens."""

import re
import shutil
from pathlib import Path

import pytest

import lola
from lola.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def fenced(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_the_table_is_what_the_command_prints(capsys):
    assert main(["schedule"]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed == fenced("text")[0].splitlines()


def test_the_python_example_runs(capsys):
    (example,) = fenced("python")
    exec(compile(example, "README.md", "exec"), {})
    devices = capsys.readouterr().out
    assert re.search(r"\[[\d\s]+\] \d+\.\d+ \d\.\d+e-1\d", devices)


def test_the_scenario_example_loads(tmp_path):
    (example,) = fenced("toml")
    shutil.copytree(ROOT / "lola" / "data", tmp_path / "data")
    (tmp_path / "data" / "mine.toml").write_text(example)
    problem = lola.load_scenario(tmp_path / "data" / "mine.toml")
    assert (problem.pinned, problem.forbidden) == (((2, 12),), ((3, 1),))


def test_ci_runs_the_readme_test_command():
    commands = [line for block in fenced("sh") for line in block.splitlines()]
    (test_command,) = [line for line in commands if "pytest" in line]
    assert test_command in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("page", ["README.md", "docs/theory.md"])
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
