"""What the README and docs claim is what happens."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from cooperative import tiny_columns, tiny_problem
from tiny_models import save_config
from torch.utils.data import DataLoader, Dataset, Subset

import lola
from lola.cli.main import main
from lola.profiling import Workload
from lola.profiling.building import build

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def fenced(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_the_table_is_what_the_command_prints(capsys):
    assert main(["schedule"]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed == fenced("text")[0].splitlines()


def test_the_python_example_runs(capsys):
    exec(compile(fenced("python")[0], "README.md", "exec"), {})
    devices = capsys.readouterr().out
    assert re.search(r"\[[\d\s]+\] \d+\.\d+ \d\.\d+e-1\d", devices)


def test_the_training_loop_runs_on_a_model_of_ones_own(tmp_path, capsys):
    example = fenced("python")[1]
    loop = example[example.index("depths =") :]
    assert len([line for line in loop.splitlines() if line]) <= 10
    problem = tiny_problem(3)
    columns = tiny_columns("bert", 56, seed=0)
    loaders = [
        DataLoader(Subset(Rows(columns), range(8 * device, 8 * device + 8)), batch_size=4) for device in range(7)
    ]
    model, _ = build(Workload(save_config(tmp_path / "m", "bert"), batch_size=2), "cpu")
    exec(
        compile(example, "README.md", "exec"),
        {"lola": lola, "torch": torch, "model": model, "problem": problem, "loaders": loaders, "rounds": 3},
    )
    assert capsys.readouterr().out.splitlines() == [f"version {n}: depths 1, 2, 3 applied" for n in (1, 2, 3)]


class Rows(Dataset):
    def __init__(self, columns):
        self.columns = columns

    def __len__(self):
        return len(self.columns["labels"])

    def __getitem__(self, row):
        return {name: column[row] for name, column in self.columns.items()}


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


@pytest.mark.parametrize("page", ["README.md", "docs/theory.md", "docs/fine-tuning.md"])
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
