"""Segments of blocks: against brute force, against single blocks, and by their own proof."""

import itertools
import math

import numpy as np
import pytest
from segment_rounds import brute_force, check, cost_of, finish, instance

from lola.solvers import (
    InfeasibleError,
    joint_allocation,
    oracle,
    segment_allocation,
    segment_allocation_batch,
)


def test_optimal_against_brute_force(instances):
    """Also where memory, pairs or a lack of devices leave nothing."""
    rng = np.random.default_rng(20)
    feasible, states = 0, []
    for _ in range(instances(250)):
        given = instance(rng, int(rng.integers(1, 7)), int(rng.integers(1, 7)))
        if rng.random() < 0.3:
            given["allowed"] = rng.random((given["speed"].size, given["latency_s"].size)) < 0.85
        best = brute_force(given)
        if best == math.inf:
            with pytest.raises(InfeasibleError, match="no schedule exists"):
                segment_allocation(**given)
            continue
        feasible += 1
        allocation = segment_allocation(**given)
        assert allocation.objective == pytest.approx(best, rel=1e-12)
        states.append(check(given, allocation))
    assert feasible > 5


def test_larger_ones_prove_themselves(instances):
    rng = np.random.default_rng(21)
    states = []
    for _ in range(instances(25)):
        given = instance(rng, int(rng.integers(3, 51)), int(rng.integers(2, 17)))
        given["memory_bytes"] += 2e9
        given["max_blocks"] = int(rng.integers(max(2, -(-given["latency_s"].size // given["speed"].size)), 17))
        given["extra_memory_bytes"] = given["extra_memory_bytes"] * 1e-3
        states.append(check(given, segment_allocation(**given)))
    assert np.median(states) == 1


def test_optimal_against_somebody_elses_solver(instances):
    """HiGHS, over all pairs of device and segment."""
    rng = np.random.default_rng(29)
    for _ in range(instances(10)):
        given = instance(rng, int(rng.integers(3, 31)), int(rng.integers(2, 13)))
        given["memory_bytes"] += 2e9
        given["max_blocks"] = int(rng.integers(max(2, -(-given["latency_s"].size // given["speed"].size)), 13))
        given["extra_memory_bytes"] = given["extra_memory_bytes"] * 1e-3
        answer = oracle.segment_milp(**given)
        assert answer.status is oracle.Status.OPTIMAL
        assert segment_allocation(**given).objective == pytest.approx(answer.objective, rel=1e-8)


def test_one_block_a_device_is_the_joint_allocation(instances):
    rng = np.random.default_rng(22)
    for _ in range(instances(50)):
        n_blocks = int(rng.integers(1, 13))
        given = instance(rng, n_blocks + int(rng.integers(0, 9)), n_blocks) | {"max_blocks": 1}
        given["memory_bytes"] += 4e9
        plain = {name: value for name, value in given.items() if "extra" not in name and name != "max_blocks"}
        allocation = segment_allocation(**given)
        assert allocation.objective == pytest.approx(joint_allocation(**plain).objective, rel=1e-12)
        check(given, allocation)


def test_nothing_is_gained_by_sets_that_are_no_segments(instances):
    """Contiguity: with equal uploads and extras, and any device at any set of blocks, nothing is faster."""
    rng = np.random.default_rng(23)
    for _ in range(instances(30)):
        n_devices, n_blocks = int(rng.integers(1, 5)), int(rng.integers(1, 7))
        given = instance(rng, n_devices, n_blocks, spread=0.0) | {"max_blocks": n_blocks}
        given["memory_bytes"] += 2e9
        best = math.inf
        for owner in itertools.product(range(n_devices), repeat=n_blocks):
            costs = []
            for device in set(owner):
                blocks = [block for block in range(n_blocks) if owner[block] == device]
                more, deepest = len(blocks) - 1, blocks[-1]
                need = given["depth_memory_bytes"][deepest] + more * given["extra_memory_bytes"][0]
                if need > given["memory_bytes"][device]:
                    break
                steps = given["latency_s"][deepest] + more * given["extra_latency_s"][0]
                bits = (more + 1) * given["upload_bits"][0]
                costs.append(
                    (
                        given["local_steps"] * steps / given["speed"][device],
                        bits / given["spectral_efficiency"][device],
                    )
                )
            else:
                best = min(best, finish(costs, given["bandwidth_hz"]))
        if best == math.inf:
            with pytest.raises(InfeasibleError):
                segment_allocation(**given)
        else:
            assert segment_allocation(**given).objective == pytest.approx(best, rel=1e-12)


def test_a_city_gets_what_everyone_gets():
    """Beyond a few thousand pairs only those enter whom the potentials call for."""
    rng = np.random.default_rng(24)
    given = instance(rng, 3000, 6) | {"max_blocks": 3, "extra_memory_bytes": np.full(6, 1e7)}
    given["speed"] = rng.choice([0.25, 0.5, 1.0], 3000)
    given["spectral_efficiency"] = rng.choice([1.0, 2.5, 4.0], 3000)  # thousands of them tie
    allocation = segment_allocation(**given)
    check(given, allocation)


def test_whole_subcarriers_against_brute_force(instances):
    """Every cut with every placement, with the best whole split; and the potentials, by counts."""
    rng = np.random.default_rng(30)
    feasible = 0
    for _ in range(instances(60)):
        given = instance(rng, int(rng.integers(1, 6)), int(rng.integers(1, 6)))
        available = int(rng.integers(1, 12))
        width = given["bandwidth_hz"] / (available + 0.5)
        best = math.inf

        def go_on(position, taken, costs, given=given, available=available, width=width):
            nonlocal best
            if len(costs) > available:
                return
            if position == given["latency_s"].size:
                counts = [1] * len(costs)
                for _ in range(available - len(costs)):
                    ends = [compute + load / (n * width) for (compute, load), n in zip(costs, counts, strict=True)]
                    counts[int(np.argmax(ends))] += 1
                ends = [compute + load / (n * width) for (compute, load), n in zip(costs, counts, strict=True)]
                best = min(best, max(ends))
                return
            for last in range(position + 1, min(position + given["max_blocks"], given["latency_s"].size) + 1):
                for device in range(given["speed"].size):
                    cost = None if device in taken else cost_of(given, device, position, last)
                    if cost is not None:
                        go_on(last, taken | {device}, [*costs, cost])

        go_on(0, frozenset(), [])
        if best == math.inf:
            with pytest.raises((InfeasibleError, ValueError), match="no schedule exists|need one each"):
                segment_allocation(**given, subcarrier_hz=width)
            continue
        feasible += 1
        allocation = segment_allocation(**given, subcarrier_hz=width)
        assert allocation.objective == pytest.approx(best, rel=1e-12)
        assert allocation.lower_bound == allocation.objective
        shares = np.bincount(allocation.device_of_block, allocation.bandwidth_hz) / width
        np.testing.assert_allclose(shares, np.round(shares), atol=1e-9)
        prices = allocation.potential_hz[:, -1].min() + allocation.device_price_hz.sum()
        assert prices / width > available + 1e-9
    assert feasible > 5


@pytest.mark.parametrize("max_blocks", [1, 2, None])
def test_a_batch_gives_what_its_rounds_give(instances, max_blocks):
    """Round by round, whatever the number of threads, and also where some rounds have no answer."""
    rng = np.random.default_rng(28)
    given = instance(rng, 7, 5) | {"max_blocks": max_blocks}
    n_rounds = instances(150)
    fleet = {
        "speed": rng.uniform(0.05, 1.0, (n_rounds, 7)),
        "memory_bytes": rng.uniform(0.5e9, 2.0e9, (n_rounds, 7)),
        "spectral_efficiency": rng.uniform(0.2, 5.0, (n_rounds, 7)),
    }
    batch = segment_allocation_batch(**given | fleet, threads=2)
    alone = segment_allocation_batch(**given | fleet, threads=1)
    assert 0 < batch.feasible.sum() < n_rounds
    for name, values in vars(batch).items():
        np.testing.assert_array_equal(values, getattr(alone, name), err_msg=name)
    for row in range(n_rounds):
        try:
            one = segment_allocation(**given | {name: values[row] for name, values in fleet.items()})
        except InfeasibleError:
            assert not batch.feasible[row]
            continue
        assert batch.objective[row] == pytest.approx(one.objective, rel=1e-12)
        assert batch.lower_bound[row] == pytest.approx(one.lower_bound, rel=1e-11)
        assert batch.bandwidth_hz[row].sum() <= given["bandwidth_hz"]


def test_a_batch_of_single_blocks_for_as_many_devices_is_proven():
    """Where everyone must serve, prices may all be shifted; paths alone took seconds and proved little."""
    given = instance(np.random.default_rng(34), 24, 24, spread=0.0) | {
        "max_blocks": 1,
        "memory_bytes": np.full(24, 9e9),
    }
    given |= {"latency_s": np.linspace(0.8, 2.0, 24), "spectral_efficiency": given["spectral_efficiency"][None]}
    batch = segment_allocation_batch(**given)
    assert batch.feasible.all()
    assert (batch.objective <= batch.lower_bound * (1 + 1e-11)).all()


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_units_do_not_matter(scale):
    given = instance(np.random.default_rng(25), 8, 5) | {"max_blocks": 3}
    given["memory_bytes"] += 2e9
    seconds = given | {name: given[name] * scale for name in ("latency_s", "extra_latency_s")}
    seconds["bandwidth_hz"] = given["bandwidth_hz"] / scale
    allocation = segment_allocation(**seconds)
    assert allocation.objective == pytest.approx(segment_allocation(**given).objective * scale, rel=1e-12)
    check(seconds, allocation)


def test_says_why_nothing_fits():
    given = instance(np.random.default_rng(26), 3, 4) | {"max_blocks": 1, "memory_bytes": np.full(3, 9e9)}
    with pytest.raises(InfeasibleError, match=r"can take 3 block\(s\) in all, and there are 4"):
        segment_allocation(**given)
    given |= {"max_blocks": 4, "memory_bytes": np.array([1.3e9, 1.3e9, 1.3e9])}
    with pytest.raises(InfeasibleError, match=r"no device can take depth\(s\) 3, 4") as caught:
        segment_allocation(**given)
    assert caught.value.depths == (3, 4)
    given |= {"extra_memory_bytes": np.full(4, 1e6), "memory_bytes": np.array([9e9, 1e6])}
    given |= {"speed": np.ones(2), "spectral_efficiency": np.ones(2), "allowed": np.ones((2, 4), bool), "max_blocks": 3}
    with pytest.raises(InfeasibleError, match=r"can take 3 block\(s\) in all, and there are 4"):
        segment_allocation(**given)
    given |= {"memory_bytes": np.full(2, 9e9), "allowed": np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool), "max_blocks": 2}
    with pytest.raises(InfeasibleError, match="no way to deal out the 4 blocks"):
        segment_allocation(**given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_blocks": 0}, "max_blocks must be at least 1, got 0"),
        ({"max_blocks": 2.0}, "max_blocks must be an integer"),
        ({"extra_latency_s": [1.0]}, "extra_latency_s must have 4 entries"),
        ({"extra_memory_bytes": -1.0}, "extra_memory_bytes must be finite and >= 0"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    given = instance(np.random.default_rng(27), 3, 4) | change
    with pytest.raises((TypeError, ValueError), match=message):
        segment_allocation(**given)
