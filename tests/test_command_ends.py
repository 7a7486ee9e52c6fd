"""How a command ends: interrupted anywhere, on what a user can mend, and on a bug."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from scenario import small_problem
from test_cli import run
from tiny_models import save_checkpoint

import lola
from lola.cli.common import Exit, heeded_interruption
from lola.cli.main import main

# The parent's handler may be "ignore", which a child inherits.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from lola.cli.main import main
print("entered", flush=True)
sys.exit(main())
"""


def interrupted(arguments, said, seconds, limit_s=5.0):
    """Send Ctrl-C so many seconds after the command has said something; return what it says, notes on toys aside."""
    child = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert any(line.startswith(said) for line in child.stdout), child.stderr.read()
        time.sleep(seconds)
        child.send_signal(signal.SIGINT)
        sent = time.perf_counter()
        _, errors = child.communicate(timeout=120)
        assert time.perf_counter() - sent < limit_s
    assert child.returncode == Exit.INTERRUPTED, errors
    (error,) = (line for line in errors.splitlines() if not line.startswith("lola: note: "))
    return error


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    path = tmp_path_factory.mktemp("many") / "fleet.csv"
    rows = "".join(f"p{i},1.{i},4e9,{i % 30}\n" for i in range(300_000))
    path.write_text(f"name,speed,memory_bytes,snr_db\n{rows}")
    return path


@pytest.mark.parametrize("seconds", [0.0, 0.2, 1.0])
def test_a_schedule_is_interrupted_while_it_imports_reads_and_solves(many, seconds):
    assert interrupted(["schedule", "--fleet", many], "entered", seconds) == "lola: interrupted"


def test_a_simulation_is_interrupted(tmp_path):
    out = tmp_path / "s.csv"
    assert interrupted(["simulate", "--rounds", 200_000, "--csv", out], "entered", 2.0) == (
        "lola: interrupted; no file was written"
    )
    assert not out.exists()


@pytest.mark.parametrize("oracle", ["milp", "misocp"])
def test_an_oracle_is_interrupted(tmp_path, oracle):
    """SCIP, which both run, would catch the signal itself and call it a result."""
    n_devices, n_blocks = 300, 40
    profile = lola.Profile(
        memory_bytes=np.linspace(1e9, 2e9, n_blocks), latency_s=np.linspace(0.8, 1.5, n_blocks), upload_bits=7e5
    )
    problem = lola.Problem(profile, lola.Fleet.sample(n_devices, seed=1), 100e6, 10)
    lola.save_schedule(lola.schedule(problem), problem, tmp_path / "s.json")
    arguments = ["verify", tmp_path / "s.json", "--oracle", oracle]
    assert interrupted(arguments, "optimal: ", 1.5) == "lola: interrupted"


@pytest.mark.parametrize("said, seconds", [("entered", 2.0), ("profile: ", 0.5)])
def test_training_is_interrupted(tmp_path, said, seconds):
    save_checkpoint(tmp_path / "model")
    rows = "".join(f"{i}\tw{i % 40}\tw{i % 7}\t{i % 2}\n" for i in range(40))
    for split in ("train", "dev"):
        (tmp_path / f"{split}.tsv").write_text(f"idx\tsentence1\tsentence2\tlabel\n{rows}")
    options = ["--model", tmp_path / "model", "--task", "mrpc", "--data", tmp_path, "--out", tmp_path / "out"]
    lola.save_fleet(lola.Fleet.sample(5, seed=0), tmp_path / "f.csv")
    options += ["--fleet", tmp_path / "f.csv", "--seq", 16, "--batch", 4, "--rounds", 100_000]
    error = interrupted(["train", *options], said, seconds)
    assert error.startswith("lola: interrupted; the same command goes on from ")
    assert error.endswith(f" of {tmp_path / 'out'}")


def test_an_interruption_that_a_library_swallows_is_raised_again():
    with heeded_interruption() as heed:
        heed()
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            heed()


@pytest.mark.parametrize("bug", [TypeError, ValueError, KeyError])
def test_a_bug_is_a_traceback(monkeypatch, bug):
    def fail(*_, **__):
        raise bug("a bug")

    monkeypatch.setattr("lola.scheduling.schedule", fail)
    with pytest.raises(bug, match="a bug"):
        main(["schedule"])


@pytest.mark.parametrize("error", [lola.LolaError("mend it"), OSError("mend it"), ImportError("mend it")])
def test_what_a_user_can_mend_is_a_line(monkeypatch, capsys, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("lola.scheduling.schedule", fail)
    assert main(["schedule"]) == Exit.BAD_INPUT == 64
    assert capsys.readouterr().err == "lola: mend it\n"


def test_letters_that_the_output_cannot_show_are_escaped(tmp_path):
    (tmp_path / "f.csv").write_text(
        "name,speed,memory_bytes,snr_db\n" + "".join(f"手机{i},1,4e9,{i}\n" for i in range(12)), encoding="utf-8"
    )
    done = run("schedule", "--fleet", "f.csv", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "\\u624b\\u673a11" in done.stdout


def test_every_table_is_wide_enough_for_a_pipe(tmp_path, monkeypatch, capsys):
    """Rich would cut the columns of a table to 80."""
    from rich.table import Table

    from lola.cli.common import laid_out

    monkeypatch.setenv("COLUMNS", "40")
    table = Table("a" * 45, "b" * 45, box=None)
    text = laid_out(table, table)
    assert text.count(f"{'a' * 45}  {'b' * 45}") == 2
    assert "\n\n" in text


@pytest.mark.parametrize("command", ["schedule", "simulate", "profile"])
def test_a_figure_that_cannot_be_drawn_is_refused_before_anything_is_computed(command, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise AssertionError

    for name in ("scheduling.schedule", "simulation.simulate", "profiling.measurement.measure"):
        monkeypatch.setattr(f"lola.{name}", fail)
    more = ["--model", "minilm-l6"] if command == "profile" else []
    assert main([command, *more, "--figure", str(tmp_path / "s.xyz")]) == Exit.BAD_INPUT
    assert "s.xyz: a figure must end in one of " in capsys.readouterr().err


def test_a_figure_that_matplotlib_cannot_write_is_refused(tmp_path):
    from matplotlib.figure import Figure

    from lola.figures.picture import save_figure

    with pytest.raises(lola.LolaError, match=r"f.png: matplotlib cannot write it: Image size .* too large.*; try png"):
        save_figure(Figure(figsize=(1, 1e5)), tmp_path / "f.png")
    with pytest.raises(lola.LolaError, match=r"f.xyz: a figure must end in one of png, .*; got 'xyz'"):
        save_figure(Figure(), tmp_path / "f.xyz")


def test_an_oracle_bears_any_time_limit(tmp_path, capsys):
    problem = small_problem()
    lola.save_schedule(lola.schedule(problem), problem, tmp_path / "s.json")
    for oracle in ("milp", "misocp"):
        assert main(["verify", str(tmp_path / "s.json"), "--oracle", oracle, "--time-limit-s", "1e30"]) == 0
        assert f"oracle {oracle}: " in capsys.readouterr().out
