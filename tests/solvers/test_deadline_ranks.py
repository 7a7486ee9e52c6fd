"""Ranks by a deadline: against brute force, lola's own allocations, somebody else's solver, and by their own proof."""

import math
from fractions import Fraction

import numpy as np
import pytest
from deadline_rounds import FAMILIES, enumerated, instance, latency_s, vectors
from scipy.optimize import Bounds, LinearConstraint, milp

from lola.solvers import InfeasibleError, deadline_ranks
from lola.solvers.deadline_options import deadline_inputs, options_of
from lola.solvers.deadline_proof import bounds
from lola.solvers.deadline_uniform import uniform_deadline_rank

SETTINGS = [(equal, min_rank) for equal in (False, True) for min_rank in (0, 1)]


def optimum(arguments, deadline_s, **settings):
    """Return the verified optimum, or None where there is none."""
    try:
        best = deadline_ranks(**arguments, deadline_s=deadline_s, **settings)
    except InfeasibleError:
        return None
    best.verify(**arguments, deadline_s=deadline_s, **settings)
    assert best.upper_bound == best.objective
    return best


@pytest.mark.parametrize(("equal", "min_rank"), SETTINGS)
def test_no_ranks_that_fit_are_worth_more(equal, min_rank, instances):
    """Every rank vector is timed by the exact allocations; half of the deadlines are just when one of them ends."""
    rng = np.random.default_rng(100 + min_rank)
    decided = 0
    for number in range(instances(50)):
        n_blocks, n_ranks = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        n_devices = n_blocks + int(rng.integers(-1 if n_blocks > 1 else 0, 3))
        arguments, *pairs = instance(rng, n_blocks, n_devices, n_ranks, FAMILIES[number % len(FAMILIES)])
        ranks, worths = vectors(arguments, min_rank)
        ends = np.array([latency_s(arguments, *pairs, rank, equal) for rank in ranks])
        finite = ends[(ends > 0) & (ends < math.inf)]
        if finite.size == 0:
            continue
        deadline = float(rng.choice(finite) if number % 2 else rng.uniform(0.9 * finite.min(), finite.max()))
        best = optimum(arguments, deadline, min_rank=min_rank, equal_bandwidth=equal)
        # A round of fewer blocks has an equal share that may differ in its last bit.
        surely = worths[ends <= deadline * (1 - 1e-14 * equal)].max(initial=-math.inf)
        perhaps = worths[ends <= deadline * (1 + 1e-12)].max(initial=-math.inf)
        if best is None:
            assert surely == -math.inf
            continue
        decided += 1
        tolerance = 1e-12 * np.abs(arguments["gain"]).sum()
        assert surely - tolerance <= best.objective <= perhaps + tolerance
        assert latency_s(arguments, *pairs, best.rank, equal) <= best.latency_s * (1 + 1e-12)
    assert decided > 5


@pytest.mark.parametrize(("equal", "min_rank"), SETTINGS)
def test_optimal_against_plain_enumeration(equal, min_rank, instances):
    rng = np.random.default_rng(200 + min_rank)
    decided = 0
    for number in range(instances(25)):
        n_blocks, n_ranks = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        n_devices = n_blocks + int(rng.integers(-1 if n_blocks > 1 else 0, 3))
        arguments, *_ = instance(rng, n_blocks, n_devices, n_ranks, FAMILIES[number % len(FAMILIES)])
        deadline = float(rng.uniform(0.4, 4.0))
        best = optimum(arguments, deadline, min_rank=min_rank, equal_bandwidth=equal)
        surely, perhaps = (enumerated(arguments, deadline, min_rank, equal, spare) for spare in (1e-12, -1e-12))
        if best is None:
            assert surely == -math.inf
            continue
        decided += 1
        assert surely - 1e-12 * abs(surely) <= best.objective <= perhaps + 1e-12 * abs(perhaps)
    assert decided > 5


def test_gains_that_are_all_but_whole_numbers_are_told_apart():
    """They have no common unit, though their remainders are as small as roundings of larger numbers would be."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        arguments, *_ = instance(rng, 3, 4, 2, "whole numbers")
        arguments["gain"] += 1e-10 * rng.integers(0, 9, arguments["gain"].shape)
        arguments["bandwidth_hz"] *= 0.4
        deadline = float(rng.uniform(1.5, 4.0))
        best = optimum(arguments, deadline, min_rank=0)
        surely, perhaps = (enumerated(arguments, deadline, 0, False, spare) for spare in (1e-12, -1e-12))
        assert surely * (1 - 1e-12) <= best.objective <= perhaps * (1 + 1e-12)


@pytest.mark.parametrize("equal", [False, True])
def test_one_rank_for_all_is_the_largest_that_ends_in_time(equal, instances):
    rng, largest = np.random.default_rng(250), set()
    for number in range(instances(40)):
        n_blocks, n_ranks = int(rng.integers(1, 5)), int(rng.integers(1, 6))
        n_devices = n_blocks + int(rng.integers(-1 if n_blocks > 1 else 0, 4))
        arguments, *pairs = instance(rng, n_blocks, n_devices, n_ranks, FAMILIES[number % len(FAMILIES)])
        ends = [latency_s(arguments, *pairs, np.full(n_blocks, rank), equal) for rank in range(1, n_ranks + 1)]
        deadline = float(rng.uniform(0.5, 4.0)) * min(ends[0], 2.0)
        alike = uniform_deadline_rank(**arguments, deadline_s=deadline, equal_bandwidth=equal)
        assert alike == sum(end <= deadline for end in ends)
        largest.add(alike)
    assert len(largest) > 2


@pytest.mark.parametrize("min_rank", [0, 1])
def test_an_infinite_price_shows_the_least_need_to_the_last_bit(min_rank):
    """Whatever devices cost: what is shown to lack bandwidth does, in exact numbers, rounded once."""
    rng, shown = np.random.default_rng(350), 0
    for number in range(20):
        arguments, *_ = instance(rng, 3, 5, 2, FAMILIES[number % len(FAMILIES)])
        options = options_of(deadline_inputs(**arguments, deadline_s=4.0, min_rank=min_rank, equal_bandwidth=False))
        if np.unique(options.block).size < 3:
            continue
        device_price = rng.exponential(size=5) * rng.integers(0, 3, 5)
        price = [*map(Fraction, device_price.tolist()), Fraction(0)]  # the last is nobody's
        least = -sum(price)
        for block in range(3):
            (own,) = np.nonzero(options.block == block)
            least += min(Fraction(float(options.need[one])) + price[options.device[one]] for one in own)
        for bandwidth, allowed in ((float(least), math.inf), (np.nextafter(float(least), -math.inf), -math.inf)):
            tight = options._replace(bandwidth=bandwidth)
            assert bounds(tight, np.arange(options.block.size), math.inf, device_price)[0] == allowed
        shown += 1
    assert shown > 5


def most_by_highs(arguments, deadline, equal, spare):
    """Return the optimum over binary variables for block, device and rank ≥ 1; needs are exact to HiGHS's 1e-6."""
    compute, efficiency = arguments["compute_s"], arguments["spectral_efficiency"]
    n_blocks, n_ranks = arguments["gain"].shape
    block, device, rank = (index.ravel() for index in np.indices((*compute.shape, n_ranks)))
    bits = arguments["fixed_bits"][block] + (rank + 1) * arguments["rank_bits"][block]
    left = deadline - compute[block, device]
    need = bits / efficiency[device] / np.where(left > 0, left, 1.0) / arguments["bandwidth_hz"]
    possible = (left > 0) & (need <= (1 / n_blocks if equal else 1.0))
    rows = [block == b for b in range(n_blocks)] + [device == k for k in range(efficiency.size)]
    limits = [LinearConstraint(np.array(rows, float), [1.0] * n_blocks + [0.0] * efficiency.size, 1.0)]
    if not equal:
        limits.append(LinearConstraint(np.where(possible, need, 0.0)[None], 0.0, 1.0 - spare))
    worth = np.cumsum(arguments["gain"], axis=1)[block, rank]
    answer = milp(
        -worth,
        integrality=np.ones(worth.size),
        bounds=Bounds(0, possible.astype(float)),
        constraints=limits,
        options={"mip_rel_gap": 0.0},
    )
    return -answer.fun if answer.status == 0 else -math.inf


@pytest.mark.parametrize("equal", [False, True])
def test_optimal_against_somebody_elses_solver(equal, instances):
    rng = np.random.default_rng(300)
    for number in range(max(instances(6) // (1 + 4 * equal), 2)):
        n_blocks = int(rng.integers(4, 9))
        arguments, *_ = instance(rng, n_blocks, n_blocks + int(rng.integers(1, 7)), 6, FAMILIES[number % 3])
        deadline = float(rng.uniform(2.0, 4.0))
        best = optimum(arguments, deadline, equal_bandwidth=equal)
        surely, perhaps = (most_by_highs(arguments, deadline, equal, spare) for spare in (2e-6, -2e-6))
        if best is None:
            assert surely == -math.inf
            continue
        assert surely - 1e-6 <= best.objective <= perhaps + 1e-6


@pytest.mark.parametrize("equal", [False, True])
def test_larger_ones_prove_themselves(equal, instances):
    """Of the size of a model: their own proof is all that is asked, and that the bound is met."""
    rng = np.random.default_rng(400)
    decided = 0
    for number in range(instances(6)):
        arguments, *_ = instance(rng, 12, 20, 16, FAMILIES[number % len(FAMILIES)])
        arguments["bandwidth_hz"] *= 0.3
        best = optimum(arguments, float(rng.uniform(2.5, 5.0)), min_rank=0, equal_bandwidth=equal)
        assert best.latency_s <= 5.0
        decided += 0 < best.rank.sum() < 16 * 12
    assert decided > 2


@pytest.mark.parametrize(("equal", "min_rank"), SETTINGS)
def test_units_do_not_matter_over_twelve_orders_of_magnitude(equal, min_rank):
    rng = np.random.default_rng(500)
    arguments, *_ = instance(rng, 5, 7, 6, "heads")
    arguments["compute_s"][:] = rng.uniform(0.2, 1.0, (5, 7))
    best = optimum(arguments, 3.0, min_rank=min_rank, equal_bandwidth=equal)
    for scale in (2.0**-20, 2.0**20):
        for names in (("gain",), ("rank_bits", "fixed_bits", "bandwidth_hz"), ("compute_s",), ("spectral_efficiency",)):
            other = arguments | {name: scale * arguments[name] for name in names}
            deadline = 3.0 * scale if names == ("compute_s",) else 3.0
            if names in (("compute_s",), ("spectral_efficiency",)):
                other["bandwidth_hz"] = other["bandwidth_hz"] / scale
            scaled = optimum(other, deadline, min_rank=min_rank, equal_bandwidth=equal)
            assert scaled.objective == best.objective * (scale if names == ("gain",) else 1.0)
            assert (scaled.rank == best.rank).all()


@pytest.mark.parametrize(("equal", "min_rank"), SETTINGS)
def test_the_order_of_devices_does_not_matter_and_more_never_hurts(equal, min_rank, instances):
    rng = np.random.default_rng(600)
    for number in range(instances(20) // 4):
        arguments, *_ = instance(rng, 6, 8, 5, FAMILIES[number % len(FAMILIES)])
        order = rng.permutation(8)
        permuted = arguments | {
            "compute_s": arguments["compute_s"][:, order],
            "spectral_efficiency": arguments["spectral_efficiency"][order],
        }
        before = -math.inf
        for deadline in (1.5, 2.5, 2.6, 4.0, 40.0):
            best = optimum(arguments, deadline, min_rank=min_rank, equal_bandwidth=equal)
            again = optimum(permuted, deadline, min_rank=min_rank, equal_bandwidth=equal)
            assert (best is None) == (again is None)
            if best is None:
                assert before == -math.inf
                continue
            assert again.objective == pytest.approx(best.objective, rel=1e-12)
            wider = optimum(
                arguments | {"bandwidth_hz": 1.5 * arguments["bandwidth_hz"]},
                deadline,
                min_rank=min_rank,
                equal_bandwidth=equal,
            )
            assert wider.objective >= best.objective - 1e-12 * abs(best.objective)
            assert best.objective >= before - 1e-12 * abs(before)
            before = best.objective


def test_shares_that_are_chosen_are_worth_no_less_than_equal_ones(instances):
    rng = np.random.default_rng(700)
    for number in range(instances(20)):
        arguments, *_ = instance(rng, 5, 7, 4, FAMILIES[number % len(FAMILIES)])
        alike = optimum(arguments, 3.0, min_rank=0, equal_bandwidth=True)
        chosen = optimum(arguments, 3.0, min_rank=0)
        if alike is not None:
            assert chosen.objective >= alike.objective - 1e-12 * abs(alike.objective)
