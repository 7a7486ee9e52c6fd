"""The command as a user runs it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scenario import small_problem

import lola
from lola.cli.main import main


def run(*arguments, cwd, timeout=120, **environment):
    return subprocess.run(
        [sys.executable, "-m", "lola.cli.main", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_bare_schedule_runs_the_builtin_scenario(capsys):
    assert main(["schedule"]) == 0
    out = capsys.readouterr().out
    assert out.count("phone-") == 12
    assert "optimal: no schedule is faster than" in out
    assert ", verified" in out
    assert "profile: roberta-base, batch 32, sequence 128, float32: measured, " in out
    assert "latency: as measured, × " in out


def test_compare_shows_all_methods(capsys):
    assert main(["schedule", "--method", "ba", "--compare"]) == 0
    out = capsys.readouterr().out
    assert "optimal: no schedule under an equal split of the bandwidth is faster" in out
    for method in lola.METHODS:
        assert f"\n{method} " in out
    assert "1.000 " in out


def test_real_phones_json_figure_and_verify(tmp_path, shared_data, capsys):
    out, picture = tmp_path / "s.json", tmp_path / "s.png"
    fleet = shared_data / "fleets" / "phones_20.csv"
    options = ["--fleet", fleet, "--bandwidth-hz", "20e6", "--json", out, "--figure", picture]
    assert main(["schedule", *map(str, options)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["verify", str(out)]) == 0
    assert "the schedule holds" in capsys.readouterr().out


def swap(data):
    devices = data["schedule"]["device_of_block"]
    devices[0], devices[1] = devices[1], devices[0]


def raise_bandwidth(data):
    data["schedule"]["bandwidth_hz"][0] *= 1.01


def lower_latency(data):
    data["schedule"]["latency_s"] *= 0.99


def raise_bound(data):
    data["schedule"]["lower_bound_s"] *= 1.01


def empty_proof(data):
    data["proof"] = None


def remove_proof(data):
    del data["proof"]


@pytest.mark.parametrize("method", ["jbba", "ba"])
@pytest.mark.parametrize("lie", [swap, raise_bandwidth, lower_latency, raise_bound, empty_proof, remove_proof])
def test_verify_rejects_every_lie(tmp_path, capsys, method, lie):
    problem, out = small_problem(), tmp_path / "s.json"
    lola.save_schedule(lola.schedule(problem, method), problem, out)
    data = json.loads(out.read_text())
    lie(data)
    out.write_text(json.dumps(data))
    assert main(["verify", str(out)]) == 1
    assert "lola: not verified: " in capsys.readouterr().err


def test_exit_codes_and_errors_without_a_traceback(tmp_path, capsys):
    poor = tmp_path / "poor.csv"
    poor.write_text("name,speed,memory_bytes,snr_db\n" + "".join(f"p{i},1,1e6,0\n" for i in range(12)))
    assert main(["schedule", "--fleet", str(poor)]) == 2
    assert "lola: infeasible: no schedule exists: depth" in capsys.readouterr().err
    assert main(["schedule", "--fleet", str(poor), "--method", "random"]) == 0
    assert "12 device(s) lack the memory for their block: p" in capsys.readouterr().out
    assert main(["schedule", "--fleet", str(poor), "--method", "random", "--compare"]) == 0
    assert capsys.readouterr().out.count("infeasible") == 5
    for arguments, message in (
        (["schedule", "--fleet", str(tmp_path / "none.csv")], "none.csv"),
        (["schedule", "--method", "best"], "method must be one of"),
        (["schedule", "--bandwidth-hz", "-1"], "--bandwidth-hz must be finite and > 0"),
        (["schedule", "--local-steps", "0"], "--local-steps must be at least 1"),
        (["schedule", "--json", str(tmp_path / "no" / "s.json")], "the folder to write into does not exist"),
        (["schedule", "--fleet", str(poor), "--json", str(poor)], "is an input; write to another file"),
        (["schedule", "--figure", str(tmp_path / "s.docx")], "docx"),
        (["verify", str(poor)], "not valid JSON"),
        (["schedule", str(poor)], "not valid TOML"),
    ):
        assert main(arguments) == 64
        error = capsys.readouterr().err
        assert error.startswith("lola: ")
        assert message in error
    for usage in ([], ["fly"], ["verify"], ["schedule", "--bandwidth-hz", "wide"]):
        with pytest.raises(SystemExit) as caught:
            main(usage)
        assert caught.value.code == 64
        assert "usage: lola" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["schedule", "simulate"])
def test_no_output_overwrites_what_a_scenario_reads(tmp_path, capsys, command):
    problem = small_problem()
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    scenario = tmp_path / "s.toml"
    scenario.write_text('fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = 1e6\n')
    (tmp_path / "link").symlink_to("f.csv")
    os.link(tmp_path / "p.json", tmp_path / "hard")
    names = ["f.csv", "p.json", "s.toml", "link", "hard"]
    before = {name: (tmp_path / name).read_bytes() for name in names}
    for option in ("--json" if command == "schedule" else "--csv", "--figure"):
        for name in names:
            assert main([command, str(scenario), option, str(tmp_path / name)]) == 64
            assert f"{name}: is an input; write to another file than {tmp_path}" in capsys.readouterr().err
    if command == "schedule":  # what stands in for the scenario's files is read, and these are still its own
        other = tmp_path / "other.csv"
        other.write_bytes(before["f.csv"])
        for name in ("other.csv", "f.csv"):
            arguments = ["--fleet", str(other), "--json", str(tmp_path / name)]
            assert main(["schedule", str(scenario), *arguments]) == 64
            assert f"{name}: is an input" in capsys.readouterr().err
    assert {name: (tmp_path / name).read_bytes() for name in names} == before


@pytest.fixture
def builtin_fleet():
    """The fleet that lola ships, put back if a command did overwrite it."""
    path = Path(lola.__file__).parent / "data" / "fleet.csv"
    before = path.read_bytes()
    yield path
    if path.read_bytes() != before:
        path.write_bytes(before)


def test_outputs_overwrite_neither_each_other_nor_the_builtin_scenario(tmp_path, capsys, monkeypatch, builtin_fleet):
    (tmp_path / "link.csv").symlink_to(builtin_fleet)
    monkeypatch.chdir(tmp_path)
    for command, option in (("schedule", "--json"), ("simulate", "--csv")):
        for output in (builtin_fleet, tmp_path / "link.csv"):
            assert main([command, option, str(output)]) == 64
            assert "is an input; write to another file than" in capsys.readouterr().err
        assert main([command, option, str(tmp_path / "one.png"), "--figure", "one.png"]) == 64
        assert "one.png: is named for two outputs; write each to a file of its own" in capsys.readouterr().err
        assert main([command, option, "/dev/null", *(["--rounds", "2"] if command == "simulate" else [])]) == 0
        capsys.readouterr()


def test_a_scenario_with_pins_compares_what_can_heed_them(tmp_path, capsys):
    problem = small_problem()
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    (tmp_path / "s.toml").write_text(
        'fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = 1e6\n[[pinned]]\ndevice = "ann"\ndepth = 1\n'
    )
    assert main(["schedule", str(tmp_path / "s.toml"), "--compare"]) == 0
    out = capsys.readouterr().out
    assert out.count("knows no pinned or forbidden pairs") == 4
    assert "ann" in out


def test_the_installed_command_is_quick(tmp_path):
    """--help in under 0.3 s; a schedule whose kernels are compiled in under 2 s (the best of a few runs)."""

    def best(*arguments):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            assert run(*arguments, cwd=tmp_path).returncode == 0
            times.append(time.perf_counter() - start)
        return min(times)

    assert best("--help") < 0.3
    assert best("schedule") < 2.0


def test_the_first_run_of_all_compiles_in_time(tmp_path):
    start = time.perf_counter()
    done = run("schedule", cwd=tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 20.0


def test_options_stand_in_for_what_a_scenario_lacks(tmp_path, capsys):
    problem = small_problem()
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    (tmp_path / "s.toml").write_text('profile = "gone.json"\nbandwidth_hz = 1e6\n')
    files = ["--fleet", str(tmp_path / "f.csv"), "--profile", str(tmp_path / "p.json")]
    assert main(["schedule", str(tmp_path / "s.toml"), *files]) == 0
    assert "toy, batch 8" in capsys.readouterr().out
    assert main(["schedule", str(tmp_path / "s.toml"), *files[:2]]) == 64
    assert "gone.json: No such file or directory" in capsys.readouterr().err
    assert main(["schedule", str(tmp_path / "s.toml"), *files[2:]]) == 64
    assert "'fleet' is missing" in capsys.readouterr().err


def test_version_and_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lola", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("usage: lola")


def test_a_reader_who_has_seen_enough_gets_no_error(tmp_path):
    command = f"{sys.executable} -m lola schedule | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "141"
    assert done.stderr == ""


def test_numbers_of_any_size_and_any_script_stay_readable(tmp_path, capsys):
    (tmp_path / "f.csv").write_text(
        "name,speed,memory_bytes,snr_db\n" + "".join(f"手机 {i},1,4e9,{i}\n" for i in range(12))
    )
    picture = tmp_path / "picture"
    options = ["--fleet", str(tmp_path / "f.csv"), "--figure", str(picture)]
    assert main(["schedule", *options, "--bandwidth-hz", "20"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["schedule", *options, "--bandwidth-hz", "1e-49"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 130


def test_narrow_terminals_keep_the_table(tmp_path):
    narrow = run("schedule", cwd=tmp_path, COLUMNS="40")
    assert narrow.returncode == 0
    assert max(map(len, narrow.stdout.splitlines())) <= 110
    assert "Traceback" not in narrow.stderr
