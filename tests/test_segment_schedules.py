"""Rounds whose devices may take several blocks: scheduled, proven, saved, drawn, and every forged proof told."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scenario import small_problem
from segment_rounds import solved

import lola
from lola.cli.main import main
from lola.figures.round import draw_round
from lola.files.problems import builtin_scenario
from lola.outages import can_serve, wait_for_devices
from lola.problem import segments


@pytest.mark.parametrize("changes", [{}, {"subcarrier_hz": 50e3}, {"broadcast_s": 2.0}, {"max_blocks": 3}], ids=str)
def test_a_round_of_segments_is_proven_saved_and_proven_again(changes, tmp_path):
    counted = 0
    for seed in range(12):
        problem, schedule = solved(seed, 4 if seed % 2 else 12, 8, **changes)
        schedule.verify(problem)
        assert isinstance(schedule.proof, lola.PotentialProof)
        counted += len(schedule.proof.counters)
        finish = schedule.compute_s + schedule.upload_s
        for depths in segments(schedule.device_of_block):
            blocks = slice(depths.start - 1, depths.stop - 1)
            assert finish[blocks] == pytest.approx(finish[depths[-1] - 1], rel=1e-12)
            assert np.ptp(schedule.compute_s[blocks]) == 0
        lola.save_schedule(schedule, problem, tmp_path / "s.json")
        again, read = lola.load_schedule(tmp_path / "s.json")
        again.verify(read)
        assert read.max_blocks == problem.max_blocks
        assert json.loads((tmp_path / "s.json").read_text())["problem"]["max_blocks"] in ("all", 3)
    assert counted or changes, "no proof had a counter"


def test_pins_and_prohibitions_are_of_depths_and_leave_a_pinned_device_its_neighbours():
    for seed in range(8):
        problem, free = solved(seed, 12, 8)
        device = int(np.setdiff1d(np.arange(12), free.device_of_block)[0])
        roomy = replace(problem, fleet=replace(problem.fleet, memory_bytes=np.full(12, 1e11)))
        pinned = lola.schedule(replace(roomy, pinned=[(device, 3), (device, 4)]))
        pinned.verify(replace(roomy, pinned=[(device, 3), (device, 4)]))
        assert pinned.device_of_block[2:4].tolist() == [device] * 2
        first = int(free.device_of_block[0])
        barred = lola.schedule(replace(roomy, forbidden=[(first, 1), (first, 2)]))
        assert first not in barred.device_of_block[:2]
    with pytest.raises(ValueError, match="pinned names depth 3 twice; a depth takes one device"):
        replace(roomy, pinned=[(0, 3), (1, 3)])


def test_a_proof_of_one_block_a_device_proves_nothing_of_several():
    problem = replace(builtin_scenario(), max_blocks=1)
    for method in ("jbba", "ba", "jbba-dual-ascent"):
        schedule = lola.schedule(problem, method)
        with pytest.raises(lola.VerificationError, match="is of one block a device"):
            schedule.proof.check(replace(problem, max_blocks=None), schedule.lower_bound_s)


def test_longer_segments_are_never_slower_and_one_block_is_the_papers_problem():
    problem = builtin_scenario()
    assert (problem.profile.extra_latency_s >= 0).all()
    latencies = [lola.schedule(replace(problem, max_blocks=most)).latency_s for most in (1, 2, 3, 12, None)]
    assert latencies == sorted(latencies, reverse=True)
    assert latencies[3] == latencies[4] < 0.8 * latencies[0]
    assert replace(problem, max_blocks=2).digest() != problem.digest()


def test_what_a_problem_of_segments_must_have():
    with pytest.raises(
        ValueError, match="several blocks a device .max_blocks. need a profile that knows .* got one that does not"
    ):
        small_problem(max_blocks=2)
    with pytest.raises(ValueError, match="several blocks a device .max_blocks. need a profile"):
        small_problem(max_blocks=None)
    with pytest.raises(TypeError, match="max_blocks must be an integer, or None for no limit; got 'all'"):
        small_problem(max_blocks="all")
    with pytest.raises(ValueError, match="max_blocks must be at least 1, got 0"):
        small_problem(max_blocks=0)
    few = lola.Fleet.sample(2, seed=1)
    with pytest.raises(ValueError, match="got 2 devices for 3 blocks; add devices, join .* several .max_blocks."):
        small_problem(fleet=few)
    known = replace(small_problem().profile, extra_latency_s=0.01, extra_memory_bytes=1e7)
    assert lola.schedule(small_problem(profile=known, fleet=few, max_blocks=2)).device_of_block.size == 3
    lone = lola.Fleet(speed=[1.0], memory_bytes=[1e11], spectral_efficiency=[1.0])
    with pytest.raises(lola.InfeasibleError, match=r"the devices can take 2 block\(s\) in all, and there are 3"):
        lola.schedule(small_problem(profile=known, fleet=lone, max_blocks=2))
    weak = lola.Fleet(speed=[1.0], memory_bytes=[1.2e9], spectral_efficiency=[1.0])
    with pytest.raises(lola.InfeasibleError) as told:
        lola.schedule(small_problem(profile=known, fleet=lone, max_blocks=2))
    assert (told.value.violator, told.value.partners, told.value.depths) == ((), 0, ())
    with pytest.raises(lola.InfeasibleError, match=r"no device can take depth\(s\) 2, 3"):
        lola.schedule(small_problem(profile=known, fleet=weak, max_blocks=None))
    with pytest.raises(
        lola.InfeasibleError, match=r"pairs heeded\. Free memory .* some, drop a pinned or forbidden pair"
    ):
        lola.schedule(small_problem(profile=known, max_blocks=None, forbidden=[(k, 3) for k in range(5)]))
    with pytest.raises(ValueError, match=r"'ba' gives each device one block .max_blocks 1.; use 'jbba'"):
        lola.schedule(replace(builtin_scenario(), max_blocks=None), "ba")


def test_a_spectrum_of_too_few_subcarriers_is_what_is_told():
    known = replace(small_problem().profile, extra_latency_s=0.01, extra_memory_bytes=1e7)
    problem = small_problem(profile=known, max_blocks=2, subcarrier_hz=1e6)
    with pytest.raises(ValueError, match="holds 1 subcarriers of 1e.06 Hz, fewer than the devices that it takes"):
        lola.schedule(problem)
    assert lola.schedule(replace(problem, subcarrier_hz=5e5)).device_of_block.size == 3


@pytest.mark.parametrize("n_blocks, n_devices, most", [(48, 24, 2), (80, 60, 2), (60, 30, None)])
def test_dozens_of_blocks_are_proven_too(n_blocks, n_devices, most):
    """Also where every device is needed, so that prices are large and paths alone would not find them."""
    profile = lola.Profile(
        memory_bytes=np.linspace(0.1e9, 1e9, n_blocks),
        latency_s=np.linspace(1.0, 2.0, n_blocks),
        upload_bits=8e5,
        extra_latency_s=0.02,
        extra_memory_bytes=1e6,
    )
    problem = lola.Problem(profile, lola.Fleet.sample(n_devices, seed=1), 2e7, local_steps=5, max_blocks=most)
    schedule = lola.schedule(problem)
    schedule.verify(problem)
    assert schedule.gap < 1e-10


def test_hundreds_of_depths_are_verified_in_a_moment():
    n_blocks = 600
    profile = lola.Profile(
        memory_bytes=np.linspace(1e8, 1e9, n_blocks),
        latency_s=np.linspace(1.0, 2.0, n_blocks),
        upload_bits=8e5,
        extra_latency_s=0.01,
        extra_memory_bytes=1e6,
    )
    lone = lola.Fleet(speed=[1.0, 0.5], memory_bytes=[1e10, 1e10], spectral_efficiency=[2.0, 1.0])
    problem = lola.Problem(profile, lone, 1e8, max_blocks=None)
    schedule = lola.schedule(problem)
    begin = time.perf_counter()
    schedule.verify(problem)
    assert time.perf_counter() - begin < 2.0


def test_a_simulation_of_segments_is_that_of_its_rounds():
    problem = replace(builtin_scenario(), max_blocks=None)
    simulation = lola.simulate(problem, rounds=40, redraw="channel", seed=3)
    assert simulation.methods == ("jbba",)
    for row in (0, 7, 39):
        efficiency = lola.channel.fading(20, 3, around=problem.fleet.spectral_efficiency)(row, 0.0)
        one = replace(problem, fleet=problem.fleet.with_channel(efficiency))
        assert simulation.latency_s[0, 0, row] == pytest.approx(lola.schedule(one).latency_s, rel=1e-9)
    with pytest.raises(ValueError, match="'ba' gives each device one block .max_blocks 1.; leave it out"):
        lola.simulate(problem, ["jbba", "ba"], rounds=5)


def test_few_devices_wait_for_each_other_and_serve_a_round():
    problem = replace(builtin_scenario(), fleet=lola.Fleet.sample(3, seed=2), max_blocks=None)
    memory, ones = np.array([1e9, 1e11, 1e9]), np.ones(3)
    assert can_serve(problem, memory, ones)
    assert not can_serve(problem, memory, np.array([1.0, 0.0, 1.0]))
    assert not can_serve(problem, memory, np.zeros(3))

    def back_after(seconds):
        return lambda _, clock_s: np.array([1.0, float(clock_s >= seconds), 1.0])

    efficiency, waited = wait_for_devices(problem, back_after(4.0), 0, 0.0, memory)
    assert (efficiency.tolist(), waited) == ([1.0, 1.0, 1.0], 4.0)
    with pytest.raises(
        lola.InfeasibleError, match="round 2 waited a day .* 2 of 3 had a channel, and no schedule exists"
    ):
        wait_for_devices(problem, back_after(1e9), 2, 0.0, memory)
    with pytest.raises(lola.InfeasibleError, match="then 0 of 3 had a channel, and no device has a channel"):
        wait_for_devices(problem, lambda *_: np.zeros(3), 0, 0.0, memory)


def test_few_real_phones_take_all_blocks(tmp_path, shared_data, capsys):
    lines = (shared_data / "fleets" / "phones_20.csv").read_text().splitlines()[:6]
    (tmp_path / "five.csv").write_text("\n".join(lines) + "\n")
    options = ["schedule", "--fleet", tmp_path / "five.csv", "--max-blocks", "all", "--compare"]
    assert main([*map(str, options), "--json", str(tmp_path / "s.json")]) == 0
    out = capsys.readouterr().out
    assert "segments: 3 device(s) take part; each may take any number of consecutive blocks" in out
    assert "jbba, any number of blocks a device  13.263          1.000" in out
    assert "\nleft out: all methods with one block a device (5 devices for 12 blocks, one each)\n" in out
    assert "\nba " not in out
    assert main(["verify", str(tmp_path / "s.json"), "--oracle", "milp"]) == 0
    assert "\nsegments: 3 device(s) take part; each may take any number of consecutive b" in capsys.readouterr().out
    assert main(["schedule", "--fleet", str(tmp_path / "five.csv"), "--max-blocks", "2"]) == 2
    assert "the devices can take 10 block(s) in all, and there are 12" in capsys.readouterr().err


def test_tables_and_figures_have_a_row_for_each_segment(capsys):
    assert main(["schedule", "--max-blocks", "3", "--compare"]) == 0
    out = capsys.readouterr().out
    assert "jbba, up to 3 blocks a device" in out
    problem = replace(builtin_scenario(), max_blocks=3)
    schedule = lola.schedule(problem)
    for depths in segments(schedule.device_of_block):
        assert f"{depths[0]}–{depths[-1]}" in out or len(depths) == 1
    gantt = draw_round(schedule, problem).axes[0]
    labels = [tick.get_text() for tick in gantt.get_yticklabels()]
    assert len(labels) == len(segments(schedule.device_of_block))
    assert any("depths 1–" in label for label in labels)


def test_a_comparison_says_where_pins_want_several_blocks_of_a_device(tmp_path, capsys):
    data = Path(lola.__file__).parent / "data"
    more = "pinned = [{device = 3, depth = 1}, {device = 3, depth = 2}]\nmax_blocks = 3\n"
    (tmp_path / "s.toml").write_text((data / "scenario.toml").read_text().replace('= "', f'= "{data}/') + more)
    assert main(["schedule", str(tmp_path / "s.toml"), "--compare"]) == 0
    assert "left out: all methods with one block a device (a device is pinned to several)\n" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "al", "", "9" * 5000])
def test_a_limit_that_is_none_is_refused(value, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["schedule", "--max-blocks", value])
    assert ended.value.code == 64
    assert 'a whole number from 1 on was wanted, or "all", got' in capsys.readouterr().err


def test_a_scenario_says_how_many_blocks_a_device_may_take(tmp_path):
    problem = builtin_scenario()
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    text = f'fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = {problem.bandwidth_hz}\nmax_blocks = '
    for value, wanted in (('"all"', None), ("4", 4)):
        (tmp_path / "s.toml").write_text(text + value)
        assert lola.load_scenario(tmp_path / "s.toml").max_blocks == wanted
        assert lola.load_scenario(tmp_path / "s.toml", max_blocks=2).max_blocks == 2
    for value in ("0", "true", '"none"', "2.5"):
        (tmp_path / "s.toml").write_text(text + value)
        with pytest.raises(lola.FormatError, match='max_blocks: a whole number from 1 on was wanted, or "all", got'):
            lola.load_scenario(tmp_path / "s.toml")


def test_segments_that_could_not_be_proven_are_not_called_optimal(monkeypatch, capsys):
    """A solver that stops short of a proof: lola says so, and hands nobody a schedule that would not verify."""
    problem = replace(builtin_scenario(), max_blocks=None)

    def short(solve):
        def solved_short(*arguments, **keywords):
            answer = solve(*arguments, **keywords)
            return replace(answer, lower_bound=answer.lower_bound * (1 - 1e-6))

        return solved_short

    for name in ("segment_allocation", "segment_allocation_batch"):
        monkeypatch.setattr(lola.solvers, name, short(getattr(lola.solvers, name)))
    with pytest.raises(
        ValueError, match=r"found that end after 11.81\d+ s, but only 11.81\d+ s are proven to be needed"
    ):
        lola.schedule(problem)
    with pytest.raises(ValueError, match="too many blocks and devices for a proof; lower max_blocks, or take"):
        lola.simulate(problem, rounds=3)
    assert main(["schedule", "--compare"]) == 0
    assert "not proven" in capsys.readouterr().out
