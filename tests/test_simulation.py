"""Latency over many rounds, held against a plain loop over `lola.schedule`."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from scenario import hungry_profile, rich_problem, small_problem

import lola
from lola.cli.main import main
from lola.files.problems import builtin_scenario
from lola.rounds import draw_rounds
from lola.simulation import DEFAULT_METHODS

METHODS = (*DEFAULT_METHODS, "ba-crunch")


def plainly(problem, methods, rounds, seed, point, redraw="fleet", channel=None):
    """Latency and devices at the memory wall, (methods, R), by one call of `lola.schedule` each; NaN if infeasible."""
    latency, wall = np.full((len(methods), rounds), np.nan), np.zeros((len(methods), rounds), int)
    channel = channel or lola.RayleighFading(point.n_devices, point.transmit_snr_db, 1e-3, seed)
    for r in range(rounds):
        fleet = problem.fleet
        if redraw == "fleet":
            fleet = lola.Fleet.sample(point.n_devices, seed=np.random.default_rng([seed, r, 0]))
        efficiency = channel(r, np.random.default_rng([seed, r, 1]).uniform(0, 1e6))
        fleet = lola.Fleet(
            speed=fleet.speed,
            memory_bytes=fleet.memory_bytes,
            spectral_efficiency=efficiency,
            headroom=problem.fleet.headroom[0],
        )
        one = lola.Problem(problem.profile, fleet, point.bandwidth_hz, point.local_steps)
        try:
            lola.schedule(one, "ba")
        except lola.InfeasibleError:
            continue
        for m, method in enumerate(methods):
            found = lola.schedule(one, method, seed=np.random.default_rng([seed, r, 2]))
            latency[m, r], wall[m, r] = found.latency_s, found.hits_memory_wall.sum()
    return latency, wall


@pytest.mark.parametrize(
    "sweep",
    [
        {"transmit_snr_db": [0.0, 10.0, 30.0]},
        {"bandwidth_hz": [1e5, 1e7]},
        {"n_devices": [4, 5, 9]},
        {"local_steps": [1, 20]},
        {},
    ],
    ids=lambda sweep: next(iter(sweep), "one point"),
)
@pytest.mark.parametrize("headroom", [0.0, 0.1])
def test_numbers_are_those_of_a_loop_over_schedule(sweep, headroom):
    fleet = lola.Fleet(
        speed=np.ones(5), memory_bytes=np.full(5, 5e9), spectral_efficiency=np.ones(5), headroom=headroom
    )
    problem = lola.Problem(hungry_profile(), fleet, 1e6, 2)
    simulation = lola.simulate(problem, METHODS, rounds=20, seed=3, **sweep, redraw="fleet")
    assert simulation.axis == next(iter(sweep), None)
    assert len(simulation.points) == len(next(iter(sweep.values()), [0]))
    for p, point in enumerate(simulation.points):
        latency, wall = plainly(problem, METHODS, 20, 3, point)
        np.testing.assert_allclose(simulation.latency_s[p], latency, rtol=1e-12)
        np.testing.assert_array_equal(simulation.wall[p], wall)


def test_dual_ascent_is_there_for_who_asks():
    problem = rich_problem()
    simulation = lola.simulate(problem, ("jbba-dual-ascent", "jbba"), rounds=3, redraw="fleet")
    latency, _ = plainly(problem, simulation.methods, 3, 0, simulation.points[0])
    np.testing.assert_allclose(simulation.latency_s[0], latency, rtol=1e-12)


def test_a_fleet_that_stays_meets_a_new_channel_each_round():
    problem = rich_problem()
    simulation = lola.simulate(problem, rounds=20, redraw="channel", local_steps=[1, 3])
    for p, point in enumerate(simulation.points):
        channel = lola.FadingAround(problem.fleet.spectral_efficiency, 0)
        latency, wall = plainly(problem, DEFAULT_METHODS, 20, 0, point, "channel", channel)
        np.testing.assert_allclose(simulation.latency_s[p], latency, rtol=1e-12)
        np.testing.assert_array_equal(simulation.wall[p], wall)


def test_a_fleet_of_ones_own_stays_and_the_built_in_one_is_redrawn_by_one_rule(tmp_path, capsys):
    problem, builtin = rich_problem(), builtin_scenario()
    for one, redraw, text in (
        (problem, "channel", "each draws the channel anew"),
        (builtin, "fleet", "each draws speed, memory and channel anew"),
        (replace(builtin, bandwidth_hz=2e7), "fleet", "each draws speed"),
        (replace(builtin, fleet=lola.Fleet.sample(20, seed=5)), "channel", "each draws the channel"),
    ):
        simulation, chosen = (lola.simulate(one, ["ba"], rounds=5, redraw=redraw) for redraw in (None, redraw))
        np.testing.assert_array_equal(simulation.latency_s, chosen.latency_s)
        assert simulation.redraw == chosen.redraw == redraw
        assert text in repr(simulation)
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    scenario = tmp_path / "s.toml"
    scenario.write_text(f'fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = {problem.bandwidth_hz}\n')
    assert main(["simulate", str(scenario), "--rounds", "5", "--methods", "ba", "--csv", str(tmp_path / "o.csv")]) == 0
    assert "each round draws the channel anew" in capsys.readouterr().out
    alike = lola.simulate(lola.load_scenario(scenario), ["ba"], rounds=5)
    with (tmp_path / "o.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["mean_s"]) == alike.mean_s[0, 0]


@pytest.mark.parametrize("redraw", ["fleet", "channel"])
def test_traces_are_replayed_at_random_moments(redraw):
    problem = rich_problem()
    traces = {"a": np.linspace(0.1, 2.0, 50), "b": np.linspace(3.0, 1.0, 70)}
    simulation = lola.simulate(problem, rounds=30, redraw=redraw, traces=traces, seed=4)
    channel = lola.TraceReplay(traces, problem.n_devices, 4)
    latency, _ = plainly(problem, DEFAULT_METHODS, 30, 4, simulation.points[0], redraw, channel)
    np.testing.assert_allclose(simulation.latency_s[0], latency, rtol=1e-12)
    assert math.isnan(simulation.points[0].transmit_snr_db)


def test_the_batch_is_the_single_path_to_the_last_digits():
    problem = rich_problem()
    simulation = lola.simulate(problem, ("jbba",), rounds=300, seed=5, redraw="fleet")
    fading = lola.RayleighFading(5, seed=5)
    drawn = draw_rounds(problem, 5, fading, 300, 5, "fleet")
    for r in np.flatnonzero(simulation.feasible[0]):
        one = lola.Problem(problem.profile, drawn.fleet(r), problem.bandwidth_hz, problem.local_steps)
        assert simulation.latency_s[0, 0, r] == pytest.approx(lola.schedule(one).latency_s, rel=1e-12)


def test_points_and_numbers_of_rounds_share_their_luck():
    problem = rich_problem()
    few = lola.simulate(problem, rounds=10, seed=6, redraw="fleet")
    many = lola.simulate(problem, rounds=50, seed=6, local_steps=[problem.local_steps, 9], redraw="fleet")
    np.testing.assert_array_equal(few.latency_s[0], many.latency_s[0, :, :10])
    other = lola.simulate(problem, rounds=10, seed=7, redraw="fleet")
    assert (few.latency_s != other.latency_s).all()
    order = [DEFAULT_METHODS.index(method) for method in ("jbba", "ba")]
    jbba, ba = many.latency_s[:, order, :].swapaxes(0, 1)
    assert (jbba[many.feasible] <= ba[many.feasible] * (1 + 1e-12)).all()


def test_the_interval_is_the_one_computed_by_hand():
    latency = np.array([[[1.0, np.nan, 3.0, 8.0]], [[2.0, 2.0, 2.0, 2.0]]])
    wall = np.array([[[0, 0, 2, 1]], [[0, 0, 0, 0]]])
    point = lola.simulate(rich_problem(), rounds=2, redraw="fleet").points[0]
    simulation = lola.Simulation((point, point), "local_steps", ("random",), 4, latency, wall, "", np.zeros((2, 4)))
    # mean 4, variance (9 + 1 + 16)/2 = 13, standard error √(13/3)
    assert simulation.mean_s[0, 0] == pytest.approx(4.0)
    assert simulation.half_width_s[0, 0] == pytest.approx(1.959963984540054 * math.sqrt(13 / 3), rel=1e-12)
    assert simulation.half_width_s[1, 0] == 0.0
    assert simulation.median_s[0, 0] == 3.0
    assert simulation.wall_rounds[0, 0] == pytest.approx(2 / 3)
    assert simulation.wall_devices[0, 0] == pytest.approx(3 / 12)
    assert simulation.feasible.tolist() == [[True, False, True, True], [True] * 4]


def test_the_interval_covers_the_mean_as_often_as_it_says():
    problem = rich_problem()
    truth = lola.simulate(problem, ("ba",), rounds=5000, seed=10_000, redraw="fleet").mean_s[0, 0]
    inside = 0
    for seed in range(200):
        simulation = lola.simulate(problem, ("ba",), rounds=50, seed=seed, redraw="fleet")
        inside += abs(simulation.mean_s[0, 0] - truth) <= simulation.half_width_s[0, 0]
    assert 0.88 <= inside / 200 <= 0.99


def test_infeasible_rounds_are_left_out_for_all_and_counted():
    problem = lola.Problem(hungry_profile(), lola.Fleet.sample(5, seed=1), 1e6)
    simulation = lola.simulate(problem, rounds=200, redraw="fleet")
    assert 20 < (~simulation.feasible).sum() < 180
    assert (np.isnan(simulation.latency_s).all(axis=1) == np.isnan(simulation.latency_s).any(axis=1)).all()
    assert simulation.rows()[0]["rounds"] + simulation.rows()[0]["infeasible_rounds"] == 200
    impossible = lola.Problem(
        lola.Profile(memory_bytes=[1e9, 7e9], latency_s=1.0 + np.arange(2), upload_bits=8e5), problem.fleet, 1e6
    )
    with pytest.raises(lola.InfeasibleError, match=r"0 of 9 rounds of 5 devices .* In round 0, no schedule exists"):
        lola.simulate(impossible, rounds=9, redraw="fleet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounds": 1}, "rounds must be at least 2"),
        ({"rounds": 0}, "rounds must be at least 2, for an interval; got 0"),
        ({"rounds": "9"}, "rounds must be an integer, got str: '9'"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"methods": ()}, r"methods must be different methods, at least one; got \(\)"),
        ({"methods": "ba"}, r"methods must be different methods in a list, such as \['ba'\]; got one text"),
        ({"methods": 3}, r"methods must be a list of methods, such as \['jbba'\]; got 3"),
        ({"methods": ("ba", "ba")}, "methods must be different methods"),
        ({"methods": ("best",)}, "a method must be one of jbba, .* got 'best'"),
        ({"redraw": "all"}, "redraw must be one of fleet, channel; got 'all'"),
        ({"redraw": "channel", "n_devices": 7}, "n_devices can differ from the fleet's 5 only where the fleet is"),
        ({"local_steps": [1, 2], "n_devices": [5, 6]}, "one parameter .* several values for n_devices and local_steps"),
        ({"local_steps": []}, r"local_steps must hold different values, at least one; got \[\]"),
        ({"local_steps": [3, 3]}, "local_steps must hold different values"),
        ({"local_steps": 0}, "local_steps must be at least 1"),
        ({"bandwidth_hz": [1e6, -1.0]}, "bandwidth_hz must be finite and > 0"),
        ({"transmit_snr_db": 1e6}, "transmit_snr_db must be a ratio in decibels"),
        ({"n_devices": 2}, "at least as many devices as blocks are needed, got 2 devices for 3 blocks"),
        ({"traces": {"a": [1.0]}, "transmit_snr_db": 3.0}, "transmit_snr_db has no say over traces"),
        ({"traces": {}}, "traces is empty"),
        (
            {"traces": "x.csv"},
            "traces must be a mapping of names to samples, got 'x.csv'; lola.load_traces reads a file",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        lola.simulate(rich_problem(), **{"rounds": 3, "redraw": "fleet"} | arguments)


def test_what_is_of_one_round_is_refused():
    for keys, changes in (
        ("forbidden", {"forbidden": [(0, 1)]}),
        ("pinned and subcarrier_hz", {"pinned": [(0, 1)], "subcarrier_hz": 1e5}),
    ):
        with pytest.raises(ValueError, match=f"^{keys}: many rounds heed no pairs or subcarriers, .* leave them out"):
            lola.simulate(rich_problem(**changes), ("jbba",), rounds=3, redraw="fleet")
    unequal = lola.Profile(memory_bytes=[1e9, 1e9], latency_s=[1.0, 1.0], upload_bits=[1.0, 2.0])
    with pytest.raises(ValueError, match="'jbba-dual-ascent' wants the same upload for every block; leave it out"):
        lola.simulate(rich_problem(profile=unequal), ("jbba-dual-ascent",), rounds=3, redraw="fleet")
    fleet = lola.Fleet(speed=[1.0] * 3, memory_bytes=[5e9] * 3, spectral_efficiency=[1.0] * 3, headroom=[0.0, 0.1, 0.2])
    with pytest.raises(ValueError, match="headroom must be the same for every device where the fleet is redrawn"):
        lola.simulate(small_problem(fleet=fleet), rounds=3, redraw="fleet")
    lola.simulate(small_problem(fleet=fleet), rounds=3, redraw="channel")
    with pytest.raises(TypeError, match="problem must be a lola.Problem, got str"):
        lola.simulate("scenario.toml")
