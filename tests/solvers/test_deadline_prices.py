"""What is proven of ranks by a deadline is exact to the last bit, however large the prices of devices are."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from deadline_rounds import FAMILIES, instance

from lola.solvers import deadline_ranks
from lola.solvers.deadline_options import deadline_inputs, options_of
from lola.solvers.deadline_proof import RankProof, bounds
from lola.solvers.deadline_uniform import uniform_deadline_rank
from lola.solvers.errors import VerificationError


def test_large_device_prices_lose_no_bit_of_a_need(instances):
    """At the least need, rounded once, a choice may fit; a float below it, none does."""
    rng, shown = np.random.default_rng(60), 0
    for number in range(instances(200)):
        arguments, *_ = instance(rng, 3, 5, 2, FAMILIES[number % len(FAMILIES)])
        options = options_of(deadline_inputs(**arguments, deadline_s=2.0, min_rank=0, equal_bandwidth=False))
        box = np.arange(options.block.size)
        prices = 10 ** rng.uniform(-3, 20, 5) * (rng.random(5) < 0.8)
        of_device = [*map(Fraction, prices.tolist()), Fraction(0)]
        needs = zip(options.need.tolist(), options.device.tolist(), strict=True)
        priced = [Fraction(need) + of_device[device] for need, device in needs]
        by_block = [[priced[i] for i in np.flatnonzero(options.block == block)] for block in range(3)]
        if not all(by_block):
            continue
        least = float(sum(map(min, by_block)) - sum(of_device))
        for bandwidth, bound in ((least, np.inf), (np.nextafter(least, -np.inf), -np.inf)):
            assert bounds(options._replace(bandwidth=bandwidth), box, np.inf, prices)[0] == bound
        shown += 1
    assert shown > 10


def test_ranks_that_fit_to_the_last_bit_cannot_be_cut_off():
    """Rank 2 needs just the 2 Hz that there are; a price that says it lacks bandwidth hides the optimum."""
    arguments = ([[1.0, 1.0]], [[0.0]], 1.0, 0.0, [1.0], 2.0, 1.0)
    best = deadline_ranks(*arguments)
    assert (best.objective, best.rank.tolist()) == (2.0, [2])
    assert uniform_deadline_rank(*arguments) == 2
    best.verify(*arguments)
    forged = RankProof(np.array([0, -1, -1]), np.array([1, 0, 0]), np.array([0.0, 0.0, np.inf]), np.zeros((3, 1)))
    worse = {"objective": 1.0, "rank": np.array([1]), "latency_s": 0.5, "upper_bound": 1.0, "proof": forged}
    with pytest.raises(VerificationError, match="proof: leaf 2 allows a gain of inf, above the bound 1"):
        replace(best, **worse).verify(*arguments)


def test_a_block_that_is_left_out_takes_no_bandwidth_from_what_fits():
    """The same beside a block that nobody can take: it needs nothing, at whatever price."""
    arguments = {
        "gain": [[1.0, 1.0], [1.0, 1.0]], "compute_s": [[0.0], [np.inf]], "rank_bits": 1.0, "fixed_bits": 0.0,
        "spectral_efficiency": [1.0], "bandwidth_hz": 2.0, "deadline_s": 1.0, "min_rank": 0,
    }  # fmt: skip
    best = deadline_ranks(**arguments)
    assert (best.objective, best.rank.tolist(), best.device_of_block.tolist()) == (2.0, [2, 0], [0, -1])
    forged = RankProof(np.array([0, -1, -1]), np.array([1, 0, 0]), np.array([0.0, 0.0, np.inf]), np.zeros((3, 1)))
    worse = {"objective": 1.0, "rank": np.array([1, 0]), "latency_s": 0.5, "upper_bound": 1.0, "proof": forged}
    with pytest.raises(VerificationError, match="proof: leaf 2 allows a gain of inf, above the bound 1"):
        replace(best, **worse).verify(**arguments)


@pytest.mark.parametrize("n_devices", [4, 7])
def test_ranks_that_miss_the_bandwidth_by_the_last_bit_are_cut_off(n_devices):
    """All need as much as there is, or a float less: exact sums tell the two apart, whoever serves."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        gain = -np.sort(-rng.random((4, 3)), axis=1)
        efficiency = np.full(n_devices, rng.uniform(0.5, 3.0))
        arguments = {
            "gain": gain, "compute_s": np.full((4, n_devices), rng.random()), "rank_bits": rng.uniform(1e5, 1e6, 4),
            "fixed_bits": 0.0, "spectral_efficiency": efficiency, "deadline_s": 2.0,
        }  # fmt: skip
        options = options_of(deadline_inputs(**arguments, bandwidth_hz=1e9, min_rank=1, equal_bandwidth=False))
        all_need = math.fsum(options.need[(options.rank == 3) & (options.device == 0)])
        for bandwidth, fits in ((all_need, True), (np.nextafter(all_need, 0.0), False)):
            best = deadline_ranks(**arguments, bandwidth_hz=bandwidth)
            best.verify(**arguments, bandwidth_hz=bandwidth)
            assert (best.rank == 3).all() == fits
            assert best.upper_bound == best.objective
            assert not best.rank.flags.writeable
