"""Plain twins of the solvers and independent checks of their proofs: slow, short, obviously right."""

from fractions import Fraction
from functools import cache
from itertools import permutations, product
from math import fsum, gcd

import numpy as np


@cache
def placements(n_choices, n_places):
    """All ways to put distinct choices in places, (n_ways, n_places)."""
    return np.array(list(permutations(range(n_choices), n_places)), dtype=np.int64).reshape(-1, n_places)


def brute_force(cost, reduce):
    """Best value of `reduce` over all assignments of the shorter side, or inf."""
    if cost.shape[0] > cost.shape[1]:
        cost = cost.T
    chosen = cost[np.arange(cost.shape[0]), placements(cost.shape[1], cost.shape[0])]
    return reduce(chosen, axis=1).min()


def possible_pairs(inputs, allowed=None):
    """Which device may take which block, (K, L)."""
    possible = inputs["memory_bytes"][:, None] >= inputs["depth_memory_bytes"]
    return possible if allowed is None else possible & allowed


def equal_split_latency(inputs, bandwidth_hz, local_steps=1, allowed=None):
    """T_kl under an equal split, (K, L), inf where impossible."""
    n_blocks = inputs["latency_s"].shape[0]
    compute = local_steps * inputs["latency_s"] / inputs["speed"][:, None]
    share = bandwidth_hz / n_blocks
    latency = compute + inputs["upload_bits"] / share / inputs["spectral_efficiency"][:, None]
    return np.where(possible_pairs(inputs, allowed), latency, np.inf)


def least_bandwidth(inputs, deadline_s, local_steps=1, allowed=None):
    """w_kl: hertz with which a pair finishes by the deadline, (K, L), inf where it cannot."""
    left = deadline_s - local_steps * inputs["latency_s"] / inputs["speed"][:, None]
    needed = np.full(left.shape, np.inf)
    can = possible_pairs(inputs, allowed) & (left > 0)
    needed[can] = (inputs["upload_bits"] / inputs["spectral_efficiency"][:, None])[can] / left[can]
    return needed


def check_hall(cost_by_row, objective, violator):
    """Assert that the rows of the violator have fewer partners below the objective than members."""
    assert violator.size > 0
    partners = (cost_by_row[violator] < objective).any(axis=0).sum()
    assert partners < violator.size


def check_matching(result, cost):
    """Assert that a matrix result is a full assignment of the shorter side."""
    column = result.column_of_row
    used = column[column >= 0]
    assert column.shape == (cost.shape[0],)
    assert column.dtype == np.int64
    assert used.size == np.unique(used).size == min(cost.shape)
    return cost[np.flatnonzero(column >= 0), used]


def check_allocation(result, inputs, bandwidth_hz, local_steps=1, allowed=None):
    """Assert C1 to C3, the bandwidth, and that the objective is the slowest device's latency."""
    device = result.device_of_block
    blocks = np.arange(inputs["latency_s"].shape[0])
    assert np.unique(device).size == blocks.size
    assert possible_pairs(inputs, allowed)[device, blocks].all()
    assert result.bandwidth_hz.sum() <= bandwidth_hz * (1 + 1e-15 * blocks.size)
    compute = local_steps * inputs["latency_s"] / inputs["speed"][device]
    upload = inputs["upload_bits"] / result.bandwidth_hz / inputs["spectral_efficiency"][device]
    np.testing.assert_allclose((compute + upload).max(), result.objective, rtol=1e-14)


def check_prices(result, inputs, bandwidth_hz, local_steps=1, allowed=None):
    """Assert the dual proof of a joint allocation and return its relative gap."""
    block, device = result.block_price_hz, result.device_price_hz
    assert (device <= 0).all()
    needed = least_bandwidth(inputs, result.lower_bound, local_steps, allowed)
    excess = max(0.0, (block + device[:, None] - needed).max())
    assert block.sum() + device.sum() - block.size * excess > bandwidth_hz
    return result.objective / result.lower_bound - 1


def check_prices_exactly(result, inputs, bandwidth_hz, local_steps=1):
    """Assert the same proof of a small allocation in rational arithmetic, where nothing is rounded."""
    block = [Fraction(price) for price in result.block_price_hz]
    bound, excess = Fraction(result.lower_bound), Fraction(0)
    for k, device_price in enumerate(map(Fraction, result.device_price_hz)):
        assert device_price <= 0
        for depth, price in enumerate(block):
            compute = local_steps * Fraction(inputs["latency_s"][depth]) / Fraction(inputs["speed"][k])
            if inputs["memory_bytes"][k] >= inputs["depth_memory_bytes"][depth] and compute < bound:
                load = Fraction(inputs["upload_bits"][depth]) / Fraction(inputs["spectral_efficiency"][k])
                excess = max(excess, price + device_price - load / (bound - compute))
    assert sum(block) + sum(map(Fraction, result.device_price_hz)) - len(block) * excess > Fraction(bandwidth_hz)


def cheapest_hops(distortion, n_kept):
    """Least sum of n_kept + 1 hops from the input to the output."""
    n_nodes = distortion.shape[0] + 1

    @cache
    def least(node, hops):
        if hops == 0:
            return 0.0 if node == 0 else np.inf
        return min((least(i, hops - 1) + distortion[i, node - 1] for i in range(node)), default=np.inf)

    return least(n_nodes - 1, n_kept + 1)


def most_worth(gain, cost, budget):
    """Most that ranks under a budget are worth: all ranks, one after the other, in exact numbers."""
    limit, ranks = Fraction(budget), range(gain.shape[1] + 1)
    worth = [[fsum(row[:rank]) for rank in ranks] for row in gain.tolist()]
    weight = [[Fraction(each) * rank for rank in ranks] for each in cost.tolist()]
    fitting = (
        fsum(row[rank] for row, rank in zip(worth, chosen, strict=True))
        for chosen in product(ranks, repeat=gain.shape[0])
        if sum(row[rank] for row, rank in zip(weight, chosen, strict=True)) <= limit
    )
    return max(fitting)


def rank_bound(gain, cost, budget, price):
    """What ranks under a budget are worth at most, in exact numbers; the budget holds whole units of the costs."""
    costs, charge = [Fraction(each) for each in cost.tolist()], Fraction(price)
    finest = max(each.denominator for each in costs)
    unit = Fraction(gcd(*(int(each * finest) for each in costs)), finest)
    usable = Fraction(budget) // unit * unit
    bound = charge * usable
    for row, each in zip(gain.tolist(), costs, strict=True):
        worth = [Fraction(0)]
        for rank, more in enumerate(row, 1):
            if rank * each <= usable:
                worth.append(worth[-1] + Fraction(more) - charge * each)
        bound += max(worth)
    return bound


def most_value(value, need_hz, bandwidth_hz):
    """Most that devices which fit together are worth, over all sets of them."""
    able = [(int(worth), need) for worth, need in zip(value, need_hz, strict=True) if need < np.inf]
    sets = product((False, True), repeat=len(able))
    chosen = ([pair for pair, taken in zip(able, each, strict=True) if taken] for each in sets)
    return max(sum(worth for worth, _ in each) for each in chosen if fsum(need for _, need in each) <= bandwidth_hz)
