"""The broadcast that begins a round: a constant that every latency and bound has, and no decision or proof changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from cooperative import tiny_problem, tiny_session
from scenario import random_problem, small_problem

import lola
from lola.cli.main import main
from lola.cli.oracle import ask
from lola.figures.round import draw_round


@pytest.mark.parametrize("broadcast_s", [1e-30, 1e-9, 0.1, 1 / 3, 77.7, 1e5, 1e12])
@pytest.mark.parametrize("method", lola.METHODS)
def test_every_round_is_longer_by_the_broadcast_and_still_proven(method, broadcast_s):
    for seed in range(5):
        problem = random_problem(seed, equal_uploads=True)
        longer = replace(problem, broadcast_s=broadcast_s)
        plain, answer = lola.schedule(problem, method, seed=seed), lola.schedule(longer, method, seed=seed)
        answer.verify(longer)
        assert answer.latency_s == broadcast_s + plain.latency_s
        assert (answer.device_of_block == plain.device_of_block).all()
        if answer.proof is not None:
            assert answer.lower_bound_s == pytest.approx(broadcast_s + plain.lower_bound_s, rel=1e-15)
            # What is left of the bound without the broadcast is never more than was proven.
            assert answer.lower_bound_s - broadcast_s <= plain.lower_bound_s


def test_a_round_of_another_broadcast_does_not_verify():
    problem = small_problem(broadcast_s=2.0)
    answer = lola.schedule(problem)
    with pytest.raises(lola.VerificationError, match="latency_s: is .*, but the slowest device ends after"):
        answer.verify(replace(problem, broadcast_s=1.0))
    with pytest.raises(lola.VerificationError, match="bound: 1.0 is below the broadcast alone"):
        replace(answer, lower_bound_s=1.0).verify(problem)
    # A long broadcast hides no schedule that is not optimal, nor a bound that is not proven.
    long = replace(problem, broadcast_s=1e9)
    slow = replace(lola.schedule(long, "ba"), method="jbba", proof=lola.schedule(long).proof)
    assert slow.latency_s - lola.schedule(long).latency_s > 0.1
    with pytest.raises(lola.VerificationError, match="optimality"):
        replace(slow, lower_bound_s=lola.schedule(long).lower_bound_s).verify(long)
    with pytest.raises(lola.VerificationError, match="proof"):
        replace(slow, lower_bound_s=slow.latency_s).verify(long)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, 1e-60])
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(ValueError, match="broadcast_s must"):
        small_problem(broadcast_s=value)
    with pytest.raises(TypeError, match="broadcast_s must be a number, got str: 'half'"):
        small_problem(broadcast_s="half")


def test_files_keep_it_and_older_files_have_none(tmp_path):
    problem = small_problem(broadcast_s=0.5)
    path = tmp_path / "s.json"
    lola.save_schedule(lola.schedule(problem), problem, path)
    schedule, again = lola.load_schedule(path)
    schedule.verify(again)
    assert again.broadcast_s == 0.5
    data = json.loads(path.read_text())
    data["problem"]["broadcast_s"] = 0.25
    path.write_text(json.dumps(data))
    with pytest.raises(lola.VerificationError, match="digest: the problem in the file is not the one that was solved"):
        lola.load_schedule(path)
    lola.save_schedule(lola.schedule(small_problem()), small_problem(), path)
    data = json.loads(path.read_text())
    del data["problem"]["broadcast_s"]  # as files were before, whose digests are as they were
    path.write_text(json.dumps(data))
    schedule, again = lola.load_schedule(path)
    schedule.verify(again)
    assert again.broadcast_s == 0.0
    assert (
        again.digest() == small_problem().digest() == "34b2b78116241812fe118805c1938655f48631aeb117b37802a86dffa585c776"
    )


def test_the_command_shows_it(tmp_path, capsys):
    problem = small_problem()
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    scenario = tmp_path / "s.toml"
    scenario.write_text('fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = 1e6\nlocal_steps = 2\nbroadcast_s = 0.5\n')
    latency = lola.schedule(problem).latency_s
    for options, broadcast in (([], 0.5), (["--broadcast-s", "3"], 3.0)):
        assert main(["schedule", str(scenario), *options]) == 0
        said = capsys.readouterr().out
        assert f"round: {latency + broadcast:.6f} s" in said
        assert f"\nbroadcast: {broadcast:.6f} s of it, from the server to all devices before they begin\n" in said
        assert f"optimal: no schedule is faster than {latency + broadcast:.6f} s, verified" in said
    assert main(["simulate", str(scenario), "--rounds", "5"]) == 0
    assert "broadcast 0.500000 s; each round" in capsys.readouterr().out
    scenario.write_text(scenario.read_text().replace("0.5", '"half"'))
    assert main(["schedule", str(scenario)]) == 64
    assert "s.toml, broadcast_s: a plain number was wanted" in capsys.readouterr().err


def test_simulations_sessions_oracles_and_figures_have_it(tmp_path):
    problem, longer = small_problem(), small_problem(broadcast_s=0.5)
    plain, shown = (lola.simulate(one, lola.METHODS, rounds=10, redraw="channel") for one in (problem, longer))
    np.testing.assert_array_equal(shown.latency_s, 0.5 + plain.latency_s)
    tiny = tiny_problem(3, broadcast_s=2.0)
    (record,) = tiny_session(tmp_path, problem=tiny, keep=False).run(1)
    assert record.clock_s == record.latency_s == lola.schedule(tiny).latency_s > 2.0
    assert ask("milp", lola.schedule(longer), longer, 60.0).startswith("oracle milp: ")
    long = small_problem(broadcast_s=1e9)  # which hides nothing from the oracle
    joint, equal = lola.schedule(long), lola.schedule(long, "ba")
    with pytest.raises(lola.VerificationError, match="milp found .*, below the bound"):
        ask("milp", replace(equal, method="jbba", lower_bound_s=equal.latency_s), long, 60.0)
    with pytest.raises(lola.VerificationError, match="milp says that nothing is below"):
        ask("milp", replace(joint, method="ba", lower_bound_s=1e9), long, 60.0)
    assert "e-" in ask("milp", joint, long, 60.0)
    figure = draw_round(lola.schedule(longer), longer)
    assert [bar.get_x() for bar in figure.axes[0].patches if bar.get_width() == 0.5] == [0.0]
