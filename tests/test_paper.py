"""The reproduction of the paper's figures: its arithmetic, and that the page is what the numbers say."""

from pathlib import Path

import numpy as np
import parameters
import pytest
import reproduce

import lola
from lola.rounds import equal_split


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
    steps = parameters.PARAMETERS["local_steps"]
    np.testing.assert_allclose(parameters.ratios(profile, steps, rounds, deepest=True), [ba / baseline, jbba / ba])
    assert parameters.residual(parameters.ratios(profile, steps, rounds), parameters.published()) < 0.03


def test_the_other_order_gives_depth_1_the_best_channel():
    rounds = parameters.rounds_of(20, 3)
    chosen = parameters.shallowest_first(rounds, 12)
    efficiency = np.take_along_axis(rounds.spectral_efficiency, chosen, axis=1)
    assert (np.diff(efficiency, axis=1) <= 0).all()
    assert (efficiency[:, -1] >= np.sort(rounds.spectral_efficiency, axis=1)[:, -12]).all()
    problem = parameters.problem()
    latency, wall = equal_split(problem, chosen, rounds)
    for r in range(3):
        one = lola.Problem(problem.profile, rounds.fleet(r), problem.bandwidth_hz, problem.local_steps)
        total = one.compute_s(chosen[r]) + one.upload_s(chosen[r], np.full(12, problem.bandwidth_hz / 12))
        assert latency[r] == pytest.approx(total.max(), rel=1e-12)
        assert wall[r] == (rounds.memory_bytes[r, chosen[r]] < problem.profile.memory_bytes).sum()
