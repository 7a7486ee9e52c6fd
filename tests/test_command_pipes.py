"""The command among others: data into pipes, what it says aside, options in errors, completion."""

import csv
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from scenario import small_problem
from test_cli import run

import lola
from lola.cli.common import EXTRAS, Exit, laid_out, need_extras
from lola.cli.main import main
from lola.cli.tables import percent, profile_table, round_table

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def scenario(tmp_path):
    problem = small_problem()
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    (tmp_path / "s.toml").write_text('fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = 1e6\n')
    return tmp_path / "s.toml"


def test_a_pipe_gets_the_schedule_alone(tmp_path):
    lines = "".join(f"手机{i},1,4e9,{i}\n" for i in range(12))
    (tmp_path / "f.csv").write_text(f"name,speed,memory_bytes,snr_db\n{lines}", encoding="utf-8")
    options = ["schedule", "--fleet", "f.csv", "--json"]
    done = run(*options, "-", cwd=tmp_path, PYTHONIOENCODING="ascii:backslashreplace")
    assert done.returncode == 0, done.stderr
    assert "optimal: no schedule is faster than" in done.stderr
    (tmp_path / "piped.json").write_bytes(done.stdout.encode())
    assert run(*options, "s.json", cwd=tmp_path).returncode == 0
    assert (tmp_path / "piped.json").read_bytes() == (tmp_path / "s.json").read_bytes()
    schedule, problem = lola.load_schedule(tmp_path / "piped.json")
    schedule.verify(problem)
    assert problem.fleet.name[0] == "手机0"
    assert not (tmp_path / "-").exists()


def test_a_pipe_gets_the_simulation_alone(scenario, capsys):
    assert main(["simulate", str(scenario), "--rounds", "5", "--methods", "jbba,ba", "--csv", "-"]) == 0
    out, said = capsys.readouterr()
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["method"] for row in rows] == ["jbba", "ba"]
    assert "Rayleigh fading" in said


def test_a_reader_of_data_who_has_seen_enough_gets_no_error(tmp_path):
    command = f"{sys.executable} -m lola schedule --json - 2> said | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "141"
    assert "lola:" not in (tmp_path / "said").read_text()


def test_a_figure_goes_into_no_pipe(capsys):
    assert main(["schedule", "--figure", "-"]) == Exit.BAD_INPUT
    assert "--figure must be a file, got '-'; name one, such as out.png" in capsys.readouterr().err


def test_what_is_done_is_said_aside(scenario, tmp_path, capsys):
    out = tmp_path / "s.json"
    assert main(["schedule", str(scenario), "--json", str(out)]) == 0
    quiet = capsys.readouterr()
    assert quiet.err == ""
    assert main(["schedule", str(scenario), "--json", str(out), "-v"]) == 0
    loud = capsys.readouterr()
    assert loud.out == quiet.out
    for line in (f"read {scenario}", "jbba: 5 devices for 3 blocks", "solved in", "verified jbba: 3 ", f"wrote {out}"):
        assert re.search(rf"^lola: \d+ ms: .*{re.escape(line)}", loud.err, re.MULTILINE), line
    assert main(["verify", str(scenario), "--verbose"]) == Exit.BAD_INPUT
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert said.splitlines()[-1].startswith(f"lola: {scenario}: not valid JSON")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["simulate", "--rounds", "1"], "--rounds must be at least 2, for an interval; got 1"),
        (["simulate", "--seed", "-1"], "--seed must be at least 0, got -1; take any whole number from 0 on"),
        (["simulate", "--methods", "ba,ba"], "--methods must be different methods"),
        (["simulate", "--local-steps", "0"], "--local-steps must be at least 1, got 0"),
        (["simulate", "--bandwidth-hz", "-1"], "--bandwidth-hz must be finite and > 0"),
        (["simulate", "--snr-db", "0,0"], "--snr-db must hold different values"),
        (["simulate", "--snr-db", "0,1", "--devices", "20,30"], "got several values for --snr-db and --devices"),
        (
            ["simulate", "--devices", "30", "--redraw", "channel"],
            "--devices can differ from the fleet's 20 only where the fleet is redrawn; leave it out, or let --redraw",
        ),
        (["schedule", "--seed", "-1"], "--seed must be at least 0, got -1"),
        (["schedule", "--subcarrier-hz", "0"], "--subcarrier-hz must be finite and > 0"),
    ],
)
def test_errors_name_options(arguments, message, capsys):
    assert main(arguments) == Exit.BAD_INPUT
    assert message in capsys.readouterr().err


def test_errors_of_a_file_name_its_keys(scenario, capsys):
    scenario.write_text('fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = -1\n')
    assert main(["schedule", str(scenario), "--local-steps", "2"]) == Exit.BAD_INPUT
    assert f"{scenario}: bandwidth_hz must be finite and > 0" in capsys.readouterr().err


def test_a_fleet_that_is_too_small_is_named_itself(scenario, tmp_path, capsys):
    assert main(["schedule", "--fleet", str(tmp_path / "f.csv")]) == Exit.BAD_INPUT
    said = capsys.readouterr().err
    needed = "at least as many devices as blocks are needed, 12 for the built-in profile (--profile names yours), "
    assert said.startswith(f"lola: {tmp_path / 'f.csv'}: {needed}")
    assert said.endswith(
        "; got 5; add devices, take a profile of fewer blocks, or let a device take several (max_blocks; --max-blocks "
        "all)\n"
    )


def test_the_units_of_a_fleet_that_is_too_small_are_doubted_all_the_same(tmp_path, capsys):
    fleet = tmp_path / "phones.csv"
    fleet.write_text("name,speed,memory_bytes,snr_db\n" + "".join(f"p{k},{50 + k},6000,10\n" for k in range(8)))
    assert main(["schedule", "--fleet", str(fleet)]) == Exit.BAD_INPUT
    *notes, error = capsys.readouterr().err.splitlines()
    assert any(
        re.match(r"lola: note: memory_bytes of the largest device is 6000, .* megabytes", note) for note in notes
    )
    assert any(re.match(r"lola: note: the slowest device's speed is 50, .* in percent", note) for note in notes)
    assert "at least as many devices as blocks" in error


def test_a_file_of_another_kind_is_told_where_it_belongs(scenario, tmp_path, capsys):
    for arguments, hint in (
        (["schedule", str(tmp_path / "f.csv")], "A scenario was wanted; is it a fleet, which --fleet takes, or traces"),
        (["schedule", str(tmp_path / "p.json")], "A scenario was wanted; is it a profile, which --profile takes, or a"),
        (["verify", str(scenario)], "A lola schedule was wanted; is it a scenario, which lola schedule takes?"),
        (["schedule", "--profile", str(tmp_path / "f.csv")], "A lola profile was wanted; is it a fleet, which --fleet"),
    ):
        assert main(arguments) == Exit.BAD_INPUT
        assert hint in capsys.readouterr().err
    (tmp_path / "s.json").write_text("{")
    assert main(["verify", str(tmp_path / "s.json")]) == Exit.BAD_INPUT
    assert "wanted" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["schedule", "--compair"], "lola schedule: unrecognized arguments: --compair. Did you mean '--compare'?"),
        (["verify", "s.json", "t.json"], "lola verify: unrecognized arguments: t.json"),
        (
            ["schedule", "--bandwidth-hz", "20MHz"],
            "argument --bandwidth-hz: a plain number was wanted, got '20MHz'; write hertz, such as 20e6 for 20 MHz, "
            "without the unit",
        ),
        (
            ["simulate", "--snr-db", "3dB"],
            "numbers separated by commas were wanted, got '3dB'; write decibels, without",
        ),
        (["schedule", "--local-steps", "2.5"], "argument --local-steps: a whole number was wanted, got '2.5'"),
    ],
)
def test_bad_usage_is_answered_by_the_command_that_was_called(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == Exit.BAD_INPUT
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith(f"usage: lola {arguments[0]} ")


def test_tables_of_tiny_models_have_small_units():
    problem = small_problem()
    tiny = lola.Profile(memory_bytes=[9.56e6, 2e7, 3e7], latency_s=[1e-4, 2e-4, 4e-4], upload_bits=8)
    problem = replace(problem, profile=tiny)
    schedule = lola.schedule(problem)
    text = laid_out(round_table(schedule, problem))
    heads = text.splitlines()[:2]
    assert heads[1].split() == ["depth", "block", "device", "MB", "MB", "MHz", "ms", "ms", "ms"]
    assert "9.56" in text.splitlines()[2].split()
    assert laid_out(profile_table(tiny)).splitlines()[1].split() == ["depth", "MB", "ms", "Mbit"]
    usual = laid_out(profile_table(small_problem().profile))
    assert usual.splitlines()[1].split() == ["depth", "GB", "s", "Mbit"]


@pytest.mark.parametrize("share, text", [(6.5e-16, "less than 0.01 %"), (2.8e-4, "0.028 %"), (0.02, "2 %")])
def test_rounding_is_not_given_in_digits(share, text):
    assert percent(share) == text


def test_what_cannot_run_is_said_first(tmp_path, capsys):
    fleet = lola.Fleet(speed=[1.0] * 3, memory_bytes=[2e9, 1e9, 1e9], spectral_efficiency=[1.0] * 3)
    problem = small_problem(fleet=fleet)
    lola.save_schedule(lola.schedule(problem, "random", seed=0), problem, tmp_path / "s.json")
    assert main(["verify", str(tmp_path / "s.json")]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert re.search(r"s.json: cannot run, \d device\(s\) lack the memory for their block; its numbers hold, ", first)
    assert "the schedule holds" not in first


@pytest.mark.parametrize(
    "arguments, missing, extras",
    [
        (
            ["train", "--model", "m", "--task", "rte", "--data", "d", "--out", "o"],
            ("torch", "peft", "sklearn"),
            "train",
        ),
        (["profile", "--model", "minilm-l6", "--figure", "f.png"], ("peft", "matplotlib"), "torch,plot"),
        (["profile", "--model", "minilm-l6"], ("transformers",), "torch"),
    ],
)
def test_all_that_is_missing_is_named_at_once(arguments, missing, extras, monkeypatch, capsys):
    for name in ("torch", "peft", "sklearn", "matplotlib", "transformers"):
        if name in missing:
            monkeypatch.setitem(sys.modules, name, None)
    assert main(arguments) == Exit.BAD_INPUT
    named = ", ".join(missing)
    assert capsys.readouterr().err == (
        f"lola: this needs packages that are missing, {named}: install lola-deft[{extras}]\n"
    )


def test_extras_are_those_of_the_package():
    need_extras(*EXTRAS)  # all of them are here
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, modules in EXTRAS.items():
        packages = {re.match(r"[\w-]+", entry)[0] for entry in declared[extra] if not entry.startswith("lola-deft")}
        if extra in ("train", "devices"):
            packages |= set(EXTRAS["torch"])
        imported = {"scikit-learn": "sklearn", "paho-mqtt": "paho.mqtt"}
        assert {imported.get(name, name) for name in packages} == set(modules)


def completions(line, folder):
    answer = folder / "answer"
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = [sys.executable, "-c", "from lola.cli import start; start()"]
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True, timeout=60)
    return answer.read_text().split("\n")


def test_a_shell_is_told_what_could_come_next(tmp_path):
    (tmp_path / "fleet.csv").touch()
    assert {name.strip() for name in completions("lola s", tmp_path)} == {"schedule", "serve", "simulate", "split"}
    assert {name.strip() for name in completions("lola schedule --fi", tmp_path)} == {"--figure"}
    assert {name.strip() for name in completions("lola schedule --fleet fl", tmp_path)} == {"fleet.csv"}
    assert {name.strip() for name in completions("lola verify --oracle mi", tmp_path)} == {"milp", "misocp"}


def test_ctrl_c_while_the_command_is_imported_is_a_line(tmp_path):
    code = """
import sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "lola.cli.simulate":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from lola.cli import start
sys.exit(start())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (Exit.INTERRUPTED, "", "lola: interrupted\n")
