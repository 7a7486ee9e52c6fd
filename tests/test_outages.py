"""Whose channel is drawn: a fleet's own, and traces with outages, which a round goes around or waits for."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
from cooperative import tiny_problem, tiny_session
from scenario import small_problem

import lola
from lola.channel import fading
from lola.cli.main import main
from lola.methods import BY_NAME
from lola.outages import can_hold, wait_for_devices
from lola.tasks.settings import TrainingSettings
from lola.tasks.training import channel_of


def every_second(*patterns):
    """A channel that gives in second t what stands at t of each device's pattern, over and over."""
    return lambda _, clock_s: np.array([pattern[int(clock_s) % len(pattern)] for pattern in patterns])


def test_fading_goes_around_each_devices_own_mean():
    mean_db = np.array([-20.0, 0.0, 25.0])
    fading = lola.FadingAround(lola.channel.spectral_efficiency(mean_db), seed=2)
    snr = np.stack([2 ** fading(r, 0.0) - 1 for r in range(20_000)])
    np.testing.assert_allclose(10 * np.log10(snr.mean(axis=0)), mean_db, atol=0.1)
    np.testing.assert_allclose(fading.mean_snr, 10 ** (mean_db / 10), rtol=1e-12)
    np.testing.assert_array_equal(fading(7, 99.0), lola.FadingAround(fading.spectral_efficiency, seed=2)(7, 0.0))
    assert str(fading) == "Rayleigh fading around each device's own mean SNR, -20.0 to 25.0 dB"
    with pytest.raises(ValueError, match="spectral_efficiency must be finite and > 0"):
        lola.FadingAround([0.0])
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        lola.FadingAround([1.0], seed=-1)


def test_a_fleets_own_channel_is_simulated_unless_an_option_says_otherwise():
    """A fleet far better than the paper's channel was simulated as the paper's: 3 times as slow."""
    problem = small_problem()
    fading = lola.FadingAround(problem.fleet.spectral_efficiency, 4)
    simulation = lola.simulate(problem, ("jbba",), rounds=20, seed=4, redraw="channel")
    assert simulation.channel == str(fading)
    assert np.isnan(simulation.points[0].transmit_snr_db)
    for r in range(20):
        one = replace(problem, fleet=problem.fleet.with_channel(fading(r, 0.0)))
        assert simulation.latency_s[0, 0, r] == pytest.approx(lola.schedule(one).latency_s, rel=1e-12)
    paper = lola.RayleighFading(5, 10.0, 1e-3, 4)
    for changes in ({"transmit_snr_db": 10.0}, {"path_loss": 1e-3}):
        other = lola.simulate(problem, ("jbba",), rounds=20, seed=4, redraw="channel", **changes)
        assert other.channel == str(paper)
        one = replace(problem, fleet=problem.fleet.with_channel(paper(0, 0.0)))
        assert other.latency_s[0, 0, 0] == pytest.approx(lola.schedule(one).latency_s, rel=1e-12)
    with pytest.raises(ValueError, match="path_loss has no say over traces"):
        lola.simulate(problem, rounds=3, traces={"a": [1.0]}, path_loss=1e-3)


def test_who_can_hold_the_blocks_is_whom_an_assignment_finds():
    rng = np.random.default_rng(0)
    for _ in range(200):
        memory, needed = rng.integers(0, 5, 5).astype(float), rng.integers(0, 5, 3).astype(float)
        efficiency = rng.integers(0, 2, 5).astype(float)
        serving = memory[efficiency > 0]
        able = serving.size >= 3
        if able:
            cost = np.where(np.sort(needed)[:, None] <= serving, 0.0, np.inf)
            try:
                lola.solvers.linear_assignment(cost)
            except lola.InfeasibleError:
                able = False
        assert can_hold(memory, efficiency, needed) == able


def needing(*memory_bytes):
    """A problem of blocks that need so much, one a device."""
    profile = lola.Profile(memory_bytes=memory_bytes, latency_s=np.ones(len(memory_bytes)), upload_bits=1e6)
    return lola.Problem(profile, lola.Fleet.sample(5, seed=0), bandwidth_hz=20e6)


def test_a_round_waits_until_enough_devices_are_out_of_outage():
    memory = np.array([4.0, 1.0, 1.0])
    channel = every_second([0, 0, 0, 2.0], [1.0], [1.0])
    efficiency, waited = wait_for_devices(needing(1.0, 3.0), channel, 0, 0.5, memory)
    assert (efficiency.tolist(), waited) == ([2.0, 1.0, 1.0], 3.0)
    efficiency, waited = wait_for_devices(needing(1.0, 1.0), channel, 0, 0.5, memory)
    assert (efficiency.tolist(), waited) == ([0.0, 1.0, 1.0], 0.0)
    # Where not even all of them have the memory, a baseline still needs as many devices as blocks.
    efficiency, waited = wait_for_devices(needing(5.0, 5.0), channel, 0, 0.5, memory)
    assert (efficiency.tolist(), waited) == ([0.0, 1.0, 1.0], 0.0)
    never = every_second([1.0, 0.0], [0.0, 1.0], [0.0])
    with pytest.raises(
        lola.InfeasibleError,
        match="round 7 waited a day from second 1 for devices that have .*; then 1 of 3 had a channel, and depth.s. 2 "
        "need 1 device.s. of 3 bytes, but 0 offered them; leave out traces that are all outage, or add devices",
    ):
        wait_for_devices(needing(1.0, 3.0), never, 7, 1.0, memory)


def test_a_wait_that_is_too_long_ends_with_a_proof():
    """Blocks, more than the devices that could serve any of them; enough devices with little memory prove nothing."""
    memory = np.array([5.0, 5.0, 1.0, 1.0, 1.0])
    for needed, up in (
        ([1.0, 3.0], [0, 0, 1, 1, 0]),
        ([1.0, 3.0, 4.0], [1, 0, 1, 1, 1]),
        ([9.0, 9.0], [1, 0, 0, 0, 0]),
    ):
        needed, up = np.array(needed), np.array(up, dtype=float)
        with pytest.raises(lola.InfeasibleError) as caught:
            wait_for_devices(needing(*needed), lambda *_, up=up: up, 0, 0.0, memory)
        error = caught.value
        whom = needed if needed.max() <= 5 else np.zeros(2)  # where not even all have the memory, any devices do
        partners = ((memory >= whom[list(error.violator)].min()) & (up > 0)).sum()
        assert error.partners == partners < len(error.violator)
        assert error.bytes_needed == whom[list(error.violator)].min()


OUTAGES = {name: [0.0, 0.0, 1.0, *np.linspace(0.1, 2.0, 5 + k)] for k, name in enumerate("abcde")}


@pytest.mark.parametrize("redraw", ["fleet", "channel"])
def test_nobody_in_outage_is_chosen_and_waiting_counts(redraw):
    """Against a plain loop: the serving part of each round's fleet is scheduled at the first second that serves."""
    problem = small_problem(broadcast_s=0.25)
    replay = lola.TraceReplay(OUTAGES, 5, 3)
    assert replay.outages == 10
    assert str(replay) == (
        "5 trace(s) replayed; 10 of 50 samples (20.00%) are outages: a device in one is not chosen, and a round waits "
        "while too few others can serve"
    )
    simulation = lola.simulate(problem, BY_NAME, rounds=30, seed=3, redraw=redraw, traces=OUTAGES)
    assert simulation.channel == str(replay)
    for r in np.flatnonzero(simulation.feasible[0]):
        fleet, waited = problem.fleet, 0
        if redraw == "fleet":
            fleet = lola.Fleet.sample(5, seed=np.random.default_rng([3, r, 0]))
        clock = np.random.default_rng([3, r, 1]).uniform(0, 1e6)
        while True:
            efficiency = replay(r, clock + waited)
            try:
                if (efficiency > 0).sum() < 3:
                    raise lola.InfeasibleError("", (), 0)
                one = replace(problem, fleet=fleet.with_channel(efficiency, np.flatnonzero(efficiency)))
                lola.schedule(one)
                break
            except lola.InfeasibleError:
                waited += 1
        assert simulation.waited_s[0, r] == waited
        for m, method in enumerate(simulation.methods):
            answer = lola.schedule(one, method, seed=np.random.default_rng([3, r, 2]))
            assert simulation.latency_s[0, m, r] == pytest.approx(waited + answer.latency_s, rel=1e-12)
            assert simulation.wall[0, m, r] == answer.hits_memory_wall.sum()
    assert 0 < (simulation.waited_s > 0).mean() < 1


def test_the_command_says_how_many_samples_are_outages_and_who_waited(tmp_path, capsys):
    problem = small_problem()
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    (tmp_path / "s.toml").write_text('fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = 1e6\n')
    rows = [f"{name},up,{t},{10 * mbps}" for name, trace in OUTAGES.items() for t, mbps in enumerate(trace)]
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write("\n".join(["trace,direction,t_s,mbps", *rows]))
    trace = ["--trace", str(tmp_path / "t.csv.gz"), "--rounds", "50", "--methods", "jbba"]
    assert main(["simulate", str(tmp_path / "s.toml"), *trace]) == 0
    said = capsys.readouterr().out
    assert "t.csv.gz, 5 trace(s) replayed; 10 of 50 samples (20.00%) are outages: a device in one is not chosen" in said
    assert "\nwaited: " in said


def test_a_session_goes_around_outages_and_waits(tmp_path):
    problem = tiny_problem(3, memory_bytes=(5e9, 6e9))
    names = problem.n_devices
    up = [[1.0]] * (names - 5)
    channel = every_second(*up, *[[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0] + [1.0] * 10**4] * 5)
    session = tiny_session(tmp_path, problem=problem, keep=False, channel=channel)
    (first,) = session.run(1)
    at_four = replace(problem, fleet=problem.fleet.with_channel(np.ones(names)))
    wanted = lola.schedule(at_four)
    assert (first.clock_s, first.latency_s) == (3.0 + wanted.latency_s, 3.0 + wanted.latency_s)
    assert first.lower_bound_s == 3.0 + wanted.lower_bound_s
    around = tiny_session(tmp_path, problem=problem, keep=False, channel=every_second([0.0], *[[1.0]] * (names - 1)))
    (record,) = around.run(1)
    assert record.participants == names - 1
    fleet = problem.fleet.with_channel(np.ones(names), np.arange(1, names))
    assert record.latency_s == lola.schedule(replace(problem, fleet=fleet)).latency_s


def test_a_training_run_fades_around_its_own_fleet(tmp_path):
    fleet, settings = small_problem().fleet, TrainingSettings("m", "mrpc", "d", fleet="f.csv", seed=1)
    assert channel_of(settings, fleet) is None
    own = channel_of(replace(settings, channel="rayleigh"), fleet)
    np.testing.assert_array_equal(own(3, 0.0), lola.FadingAround(fleet.spectral_efficiency, 1)(3, 0.0))
    assert channel_of(replace(settings, channel="rayleigh", fleet=None), fleet) == lola.RayleighFading(5, seed=1)
    (tmp_path / "t.csv").write_text("trace,direction,t_s,mbps\na,up,0,0\na,up,1,5\n")
    assert channel_of(replace(settings, channel=str(tmp_path / "t.csv")), fleet).outages == 1
    with pytest.raises(
        ValueError, match="channel must be static, rayleigh, or a file of traces; got 'no', which is no"
    ):
        channel_of(replace(settings, channel="no"), fleet)


def test_what_fades_is_decided_in_one_place():
    mean = np.array([1.0, 2.0])
    assert isinstance(fading(2, 3, around=mean), lola.FadingAround)
    assert fading(2, 3) == lola.RayleighFading(2, seed=3)
    assert fading(2, 3, around=mean, path_loss=0.5) == lola.RayleighFading(2, path_loss=0.5, seed=3)
    assert fading(2, 3, around=mean, transmit_snr_db=7.0) == lola.RayleighFading(2, 7.0, seed=3)
