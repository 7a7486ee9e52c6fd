"""``lola simulate``: what it prints, saves, draws and refuses."""

import csv

import pytest
from scenario import hungry_profile, rich_problem

import lola
from lola.cli.main import main
from lola.files.problems import builtin_scenario
from lola.simulation import DEFAULT_METHODS


def test_the_command_prints_saves_and_draws(tmp_path, capsys):
    out, picture = tmp_path / "out.csv", tmp_path / "out.png"
    options = ["--rounds", "30", "--seed", "2", "--csv", str(out), "--figure", str(picture)]
    assert main(["simulate", "--snr-db", "0,10", *options]) == 0
    said = capsys.readouterr().out
    for text in ("transmit SNR", "dB", "wall, %", "communication-aware", "bandwidth 100 MHz, devices K 20, local"):
        assert text in said
    assert "wall: % of rounds in which a chosen device lacks the memory" in said
    assert "; each round draws speed, memory and channel anew (seed 2)" in said
    mean = "mean received SNR -30, -20 dB"
    assert f"channel: Rayleigh fading around the same mean SNR for every device, path loss 0.001: {mean}\n" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    simulation = lola.simulate(builtin_scenario(), rounds=30, seed=2, transmit_snr_db=[0.0, 10.0])
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(float(row["transmit_snr_db"]), row["method"]) for row in rows] == [
        (snr, method) for snr in (0.0, 10.0) for method in DEFAULT_METHODS
    ]
    for row, wanted in zip(rows, simulation.rows(), strict=True):
        assert {name: type(wanted[name])(text) for name, text in row.items()} == wanted


def test_the_command_at_one_point_of_a_scenario_and_over_traces(tmp_path, capsys):
    problem = rich_problem(profile=hungry_profile())
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    (tmp_path / "s.toml").write_text('fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = 1e6\n')
    (tmp_path / "t.csv").write_text("trace,SNR\n" + "".join(f"a,{db}\n" for db in range(20)))
    picture = tmp_path / "out.png"
    scenario = ["simulate", str(tmp_path / "s.toml"), "--rounds", "50", "--methods", "jbba,ba"]
    assert main(scenario) == 0
    said = capsys.readouterr().out
    assert "each round draws the channel anew" in said  # the devices of a scenario are its own
    assert "channel: Rayleigh fading around each device's own mean SNR, -" in said
    assert "transmit SNR" not in said
    assert main([*scenario, "--redraw", "fleet", "--figure", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "of 50 rounds at a point lack the memory for the model" in said
    assert "random" not in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*scenario, "--trace", str(tmp_path / "t.csv"), "--bandwidth-hz", "1e5,1e6"]) == 0
    said = capsys.readouterr().out
    assert f"channel: {tmp_path / 't.csv'}, 1 trace(s) replayed; no sample of 20 is an outage\n" in said
    assert "SNR" not in said


def test_the_command_says_that_devices_may_take_several_blocks(capsys):
    command = ["simulate", "--rounds", "4", "--methods", "jbba"]
    for more, said in (([], None), (["--max-blocks", "all"], "any number of"), (["--max-blocks", "3"], "up to 3")):
        assert main([*command, *more]) == 0
        out = capsys.readouterr().out
        assert (f"segments: each device may take {said} consecutive blocks\n" in out) == (said is not None)
        assert ("segments" in out) == (said is not None)


def test_the_command_names_the_file_and_key_of_what_is_of_one_round(tmp_path, capsys):
    problem = rich_problem()
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    path = tmp_path / "s.toml"
    for key, value in (("pinned", "[{device = 0, depth = 1}]"), ("subcarrier_hz", "15e3")):
        path.write_text(f'fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = 1e6\n{key} = {value}\n')
        assert main(["simulate", str(path), "--rounds", "3"]) == 64
        assert capsys.readouterr().err.startswith(f"lola: {path}, {key}: many rounds heed no pairs or subcarriers")


def test_a_list_may_begin_with_a_negative_number(capsys):
    simulation = ["simulate", "--rounds", "5", "--methods", "ba"]
    printed = []
    for values in (["--snr-db", "-5,0"], ["--snr-db=-5,0"], ["--snr-db", "-.5e1,0"]):
        assert main([*simulation, *values]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]
    with pytest.raises(SystemExit):
        main([*simulation, "--snr-db", "--seed", "1"])
    assert "--snr-db: expected one argument" in capsys.readouterr().err


def test_the_command_refuses_before_anything_is_simulated(tmp_path, capsys):
    trace = tmp_path / "t.csv"
    trace.write_text("trace,SNR\na,1\n")
    for arguments, message in (
        (["--csv", str(tmp_path / "no" / "out.csv")], "the folder to write into does not exist"),
        (["--trace", str(trace), "--csv", str(trace)], "is an input; write to another file"),
        (["--trace", str(tmp_path / "none.csv")], "none.csv: No such file or directory"),
        (["--trace", str(trace), "--snr-db", "-3,3"], "--snr-db has no say over traces"),
        (["--trace", str(trace), "--trace-bandwidth-hz", "0"], "--trace-bandwidth-hz must be finite and > 0"),
        (["--snr-db", "0,10", "--devices", "20,30"], "one parameter can be swept at a time"),
        (["--devices", "11"], "at least as many devices as blocks are needed"),
        (["--methods", "jbba,best"], "a method must be one of"),
    ):
        assert main(["simulate", "--rounds", "3", *arguments]) == 64
        error = capsys.readouterr().err
        assert error.startswith("lola: ")
        assert message in error
    for arguments, message in (
        (["--snr-db", "0,loud"], "numbers separated by commas were wanted, got '0,loud'"),
        (["--devices", "20.5"], "integers separated by commas were wanted, got '20.5'"),
        (["--redraw", "all"], "invalid choice: 'all'"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["simulate", *arguments])
        assert caught.value.code == 64
        assert message in capsys.readouterr().err


def test_an_interrupted_simulation_writes_nothing(tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lola.simulation.draw_rounds", interrupt)
    assert main(["simulate", "--csv", str(tmp_path / "out.csv")]) == 130
    assert "interrupted; no file was written" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
