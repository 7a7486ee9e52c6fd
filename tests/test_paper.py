"""The reproduction of the paper's figures: its arithmetic, and that the page is what the numbers say."""

from pathlib import Path

import numpy as np
import parameters
import pytest
import reproduce

import lola


def test_the_page_follows_from_the_numbers():
    assert (Path(reproduce.__file__).parent / "RESULTS.md").read_text() == reproduce.document()


def test_the_published_ratios_are_geometric_means():
    baseline, ba, jbba = (np.array(parameters.TABLE_I[scheme]) for scheme in ("communication-aware", "ba", "jbba"))
    wanted = [np.prod(ba / baseline) ** (1 / 8), np.prod(jbba / ba) ** (1 / 8)]
    np.testing.assert_allclose(parameters.published(), wanted)
    assert parameters.residual(parameters.published(), parameters.published()) == 0.0
    assert parameters.residual(np.array([1.1, 1.0]), np.ones(2)) == pytest.approx(np.log(1.1) / np.sqrt(2))


def test_ratios_are_those_of_a_simulation_and_the_fit_is_near():
    simulation = lola.simulate(
        parameters.problem(), ("communication-aware", "ba", "jbba"), rounds=300, **parameters.PARAMETERS
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
