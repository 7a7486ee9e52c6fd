"""The reproduction of the paper's figures: its arithmetic, and that the page is what the numbers say."""

from pathlib import Path

import convergence
import convergence_page
import numpy as np
import parameters
import pytest
import reproduce
from page import write_page

import lola


def test_the_page_follows_from_the_numbers(tmp_path):
    write_page(tmp_path / "RESULTS.md", reproduce.blocks())
    assert (Path(reproduce.__file__).parent / "RESULTS.md").read_text() == (tmp_path / "RESULTS.md").read_text()


def test_the_published_ratios_are_geometric_means():
    baseline, ba, jbba = (np.array(parameters.TABLE_I[scheme]) for scheme in ("communication-aware", "ba", "jbba"))
    wanted = [np.prod(ba / baseline) ** (1 / 8), np.prod(jbba / ba) ** (1 / 8)]
    np.testing.assert_allclose(parameters.published(), wanted)
    assert parameters.residual(parameters.published(), parameters.published()) == 0.0
    assert parameters.residual(np.array([1.1, 1.0]), np.ones(2)) == pytest.approx(np.log(1.1) / np.sqrt(2))


def test_ratios_are_those_of_a_simulation_and_the_fit_is_near():
    simulation = lola.simulate(
        parameters.problem(), ("communication-aware", "ba", "jbba"), rounds=300, redraw="fleet", **parameters.PARAMETERS
    )
    baseline, ba, jbba = simulation.mean_s[0]
    rounds, profile = parameters.rounds_of(20, 300), parameters.problem().profile
    found = parameters.ratios(profile, parameters.PARAMETERS["local_steps"], rounds)
    np.testing.assert_allclose(found, [ba / baseline, jbba / ba])
    assert parameters.residual(found, parameters.published()) < 0.03


def test_the_other_order_gives_the_deepest_block_the_best_channel():
    rounds, problem = parameters.rounds_of(20, 3), parameters.problem()
    ba, baseline = np.empty(3), np.empty(3)
    for r in range(3):
        one = lola.Problem(problem.profile, rounds.fleet(r), problem.bandwidth_hz, problem.local_steps)
        ba[r] = lola.schedule(one, "ba").latency_s
        deepest_best = lola.schedule(one, "communication-aware").device_of_block[::-1]
        assert rounds.spectral_efficiency[r, deepest_best[-1]] == rounds.spectral_efficiency[r].max()
        share = np.full(12, problem.bandwidth_hz / 12)
        baseline[r] = (one.compute_s(deepest_best) + one.upload_s(deepest_best, share)).max()
    found, _ = parameters.ratios(problem.profile, problem.local_steps, rounds, deepest=True)
    assert found == pytest.approx(ba.mean() / baseline.mean(), rel=1e-12)


def made_up(task, seed, method, scores, seconds):
    history = [
        [5 * (i + 1), None if seconds is None else seconds * (i + 1), {"pearson": s}] for i, s in enumerate(scores)
    ]
    return {
        "task": task,
        "seed": seed,
        "method": method,
        "metric": "pearson",
        "history": history,
        "wall_rounds": 0.25,
        "missing": 0.1,
    }


def test_table_i_times_every_whole_run_by_every_clock():
    found = convergence_page.Runs(
        {
            "runs": [
                made_up("mrpc", 0, "centralised", [0.5, 1.0], None),
                made_up("mrpc", 0, "communication-aware", [0.5, 0.8], 600.0),
                made_up("mrpc", 0, "jbba", [0.85, 0.9], 60.0),
                made_up("stsb", 0, "centralised", [0.5, 1.0], None),
                made_up("stsb", 0, "jbba", [0.95, 0.9], 60.0),
                made_up("cola", 0, "centralised", [-0.1, 0.0], None),
                made_up("cola", 0, "communication-aware", [0.5, 0.8], 600.0),
                made_up("cola", 0, "jbba", [0.0, 0.1], 60.0),
            ]
        }
    )
    assert found.tasks() == ["mrpc", "cola"]  # of stsb every scheme has a run, and they are not all there
    assert found.desired("mrpc", 0) == 0.9
    assert list(found.whole("mrpc")) == [(0, "jbba")]
    assert found.until("mrpc", 0, "jbba") == 10
    assert np.isnan(found.until("mrpc", 0, "communication-aware"))
    assert np.isnan(found.desired("cola", 0))  # centralised training learnt nothing
    assert np.isnan(found.minutes(0, "ba", found.until("cola", 0, "jbba")))
    channel, problem = convergence.channel_of(0), convergence.round_problem(0)
    fleets = (
        lola.Fleet(
            speed=problem.fleet.speed, memory_bytes=problem.fleet.memory_bytes, spectral_efficiency=channel(v, 0.0)
        )
        for v in range(10)
    )
    latency = [
        lola.schedule(lola.Problem(problem.profile, fleet, problem.bandwidth_hz), "ba").latency_s for fleet in fleets
    ]
    assert found.minutes(0, "ba", 10) == pytest.approx(sum(latency) / 60)
    lines, _ = convergence_page.table(found)
    line = " | ".join(next(line for line in lines if line[0] == "mrpc"))
    assert f" 10.0 | {found.minutes(0, 'communication-aware', 10):.2f} | {sum(latency) / 60:.2f} |" in line


def test_six_blocks_of_two_layers_cost_what_twelve_of_one_do():
    twelve, six = parameters.problem(), convergence.round_problem(0)
    assert six.n_blocks == 6
    np.testing.assert_array_equal(six.profile.memory_bytes, twelve.profile.memory_bytes[1::2])
    np.testing.assert_allclose(
        six.profile.latency_s, parameters.PARAMETERS["local_steps"] * twelve.profile.latency_s[1::2]
    )
    assert six.profile.upload_bits.sum() == twelve.profile.upload_bits.sum()
    steps = parameters.PARAMETERS["local_steps"]
    np.testing.assert_allclose(six.profile.extra_latency_s.sum(), steps * twelve.profile.extra_latency_s.sum())
    assert six.profile.extra_memory_bytes.sum() == twelve.profile.extra_memory_bytes.sum()
    assert six.max_blocks == 1
    assert convergence.round_problem(0, convergence.SEGMENTS).max_blocks is None
