"""(P1) and (P2) against brute force, the general algorithms, and their own proofs."""

import pickle
from dataclasses import is_dataclass

import numpy as np
import pytest
from cases import ALLOCATION_FAMILIES, allocation, sizes
from naive import (
    brute_force,
    check_allocation,
    check_hall,
    check_prices,
    equal_split_latency,
    placements,
    possible_pairs,
)

from lola import solvers
from lola.solvers import (
    InfeasibleError,
    bandwidth_split,
    block_allocation,
    bottleneck_assignment,
    joint_allocation,
)
from lola.solvers.deadline_proof import RankProof


def random_mask(rng, n_devices, n_blocks):
    return rng.random((n_devices, n_blocks)) < 0.7 if rng.random() < 0.2 else None


def test_block_allocation_is_the_bottleneck_assignment(instances):
    """20,000 instances: the closed form, the general algorithm and brute force agree exactly, feasible or not."""
    rng = np.random.default_rng(2)
    infeasible = 0
    for number in range(instances(20_000)):
        family = ALLOCATION_FAMILIES[number % len(ALLOCATION_FAMILIES)]
        n_devices, n_blocks = sizes(rng, *((5, 6) if number % 2 else (12, 60)))
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, family)
        steps, mask = int(rng.integers(1, 20)), random_mask(rng, n_devices, n_blocks)
        latency = equal_split_latency(inputs, bandwidth, steps, mask)
        try:
            result = block_allocation(**inputs, bandwidth_hz=bandwidth, local_steps=steps, allowed=mask)
        except InfeasibleError as error:
            infeasible += 1
            with pytest.raises(InfeasibleError):
                bottleneck_assignment(latency)
            blocks = list(error.violator)
            able = possible_pairs(inputs, mask)[:, blocks].any(axis=1).sum()
            assert able == error.partners < len(blocks)
            assert error.bytes_needed == inputs["depth_memory_bytes"][blocks].min()
            continue
        assert result.objective == bottleneck_assignment(latency).objective
        if n_devices <= 6 and n_blocks <= 5:
            assert result.objective == brute_force(latency, np.max)
        check_allocation(result, inputs, bandwidth, steps, mask)
        check_hall(latency.T, result.objective, result.hall_violator)
    assert infeasible > instances(20_000) // 40


def test_joint_allocation_is_the_best_of_all_assignments(instances):
    """5,000 instances: equal to the best bandwidth split over every assignment, to 1e-12."""
    rng = np.random.default_rng(3)
    for number in range(instances(5_000)):
        family = ALLOCATION_FAMILIES[number % len(ALLOCATION_FAMILIES)]
        n_devices, n_blocks = sizes(rng, 4, 6)
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, family)
        mask = random_mask(rng, n_devices, n_blocks)
        ways = placements(n_devices, n_blocks)
        ways = ways[possible_pairs(inputs, mask)[ways, np.arange(n_blocks)].all(axis=1)]
        if ways.size == 0:
            with pytest.raises(InfeasibleError, match="no schedule exists"):
                joint_allocation(**inputs, bandwidth_hz=bandwidth, allowed=mask)
            continue
        best = min(
            bandwidth_split(
                inputs["latency_s"] / inputs["speed"][way],
                inputs["upload_bits"],
                inputs["spectral_efficiency"][way],
                bandwidth_hz=bandwidth,
            ).objective
            for way in ways
        )
        result = joint_allocation(**inputs, bandwidth_hz=bandwidth, allowed=mask)
        assert result.objective == pytest.approx(best, rel=1e-12, abs=0)
        check_allocation(result, inputs, bandwidth, allowed=mask)
        assert 0 <= check_prices(result, inputs, bandwidth, allowed=mask) <= 1e-9


def test_larger_joint_allocations_prove_themselves(instances):
    """500 instances up to K = 200 and L = 24, and a few in which devices are priced in."""
    rng = np.random.default_rng(4)
    for number in range(instances(500)):
        family = ALLOCATION_FAMILIES[number % len(ALLOCATION_FAMILIES)]
        n_devices, n_blocks = sizes(rng, 24, 200)
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, family)
        inputs["upload_bits"] = rng.uniform(0.5, 1.5, n_blocks) * inputs["upload_bits"]
        mask = random_mask(rng, n_devices, n_blocks)
        try:
            result = joint_allocation(**inputs, bandwidth_hz=bandwidth, local_steps=3, allowed=mask)
        except InfeasibleError:
            with pytest.raises(InfeasibleError):
                block_allocation(**inputs, bandwidth_hz=bandwidth, local_steps=3, allowed=mask)
            continue
        check_allocation(result, inputs, bandwidth, 3, mask)
        assert 0 <= check_prices(result, inputs, bandwidth, 3, mask) <= 1e-9
        equal = block_allocation(**inputs, bandwidth_hz=bandwidth, local_steps=3, allowed=mask)
        assert result.objective <= equal.objective * (1 + 1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("family", ALLOCATION_FAMILIES)
def test_pricing_devices_in_loses_nothing(family, masked, monkeypatch):
    """A fleet too large for the dense assignment gives the same optimum as the dense assignment."""
    from lola.solvers import joint

    rng = np.random.default_rng(ALLOCATION_FAMILIES.index(family))
    inputs, bandwidth = allocation(rng, 300, 6, family)
    mask = rng.random((300, 6)) < 0.5 if masked else None
    dense = joint_allocation(**inputs, bandwidth_hz=bandwidth, allowed=mask)
    monkeypatch.setattr(joint, "_DENSE_PAIRS", 0)
    sparse = joint_allocation(**inputs, bandwidth_hz=bandwidth, allowed=mask)
    assert sparse.objective == pytest.approx(dense.objective, rel=1e-12, abs=0)
    assert check_prices(sparse, inputs, bandwidth, allowed=mask) <= 1e-9


def test_pricing_finds_an_infeasible_fleet():
    rng = np.random.default_rng(0)
    inputs, bandwidth = allocation(rng, 3000, 8, "uniform")
    inputs["memory_bytes"] = np.where(np.arange(3000) < 2, 2.0, inputs["depth_memory_bytes"][4])
    for solve in (joint_allocation, block_allocation):
        with pytest.raises(InfeasibleError, match="offer at least") as caught:
            solve(**inputs, bandwidth_hz=bandwidth)
        assert set(caught.value.depths) <= {6, 7, 8}
    inputs["memory_bytes"] = np.zeros(3000)
    with pytest.raises(InfeasibleError, match=r"0 of 3000 offer"):
        joint_allocation(**inputs, bandwidth_hz=bandwidth)


def test_bandwidth_split_ends_all_uploads_at_once(instances):
    rng = np.random.default_rng(6)
    for _ in range(instances(2000)):
        n = int(rng.integers(1, 40))
        compute = rng.random(n) * 10.0 ** rng.integers(-9, 9)
        bits, efficiency = np.exp(rng.normal(size=(2, n)) * 3)
        bandwidth = 10.0 ** rng.integers(-6, 9)
        result = bandwidth_split(compute, bits, efficiency, bandwidth_hz=bandwidth)
        assert result.bandwidth_hz.sum() <= bandwidth
        assert result.bandwidth_hz.sum() == pytest.approx(bandwidth, rel=1e-13, abs=0)
        np.testing.assert_allclose(compute + bits / result.bandwidth_hz / efficiency, result.objective, rtol=1e-12)
        assert result.iterations < 40


def test_scalar_upload_bits_serve_every_block():
    inputs, bandwidth = allocation(np.random.default_rng(0), 9, 4, "uniform")
    for solve in (block_allocation, joint_allocation):
        wanted = solve(**inputs, bandwidth_hz=bandwidth)
        assert wanted.objective > 0
        got = solve(**{**inputs, "upload_bits": float(inputs["upload_bits"][0])}, bandwidth_hz=bandwidth)
        assert got.objective == wanted.objective
    split = bandwidth_split([1.0, 2.0], 3.0, [1.0, 1.0], bandwidth_hz=2.0)
    assert split.objective == bandwidth_split([1.0, 2.0], [3.0, 3.0], [1.0, 1.0], bandwidth_hz=2.0).objective


def test_inputs_are_left_alone_and_results_pickle():
    inputs, bandwidth = allocation(np.random.default_rng(0), 9, 4, "uniform")
    before = pickle.dumps(inputs)
    for solve in (block_allocation, joint_allocation):
        result = solve(**inputs, bandwidth_hz=bandwidth)
        again = pickle.loads(pickle.dumps(result))
        assert again.objective == result.objective
        assert (again.device_of_block == result.device_of_block).all()
    assert pickle.dumps(inputs) == before
    inputs["memory_bytes"][:] = 0
    with pytest.raises(InfeasibleError) as caught:
        block_allocation(**inputs, bandwidth_hz=bandwidth)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.violator, again.partners, str(again)) == (
        caught.value.violator,
        caught.value.partners,
        str(caught.value),
    )


GOOD = {
    "latency_s": [1.0, 2.0],
    "depth_memory_bytes": [1.0, 2.0],
    "upload_bits": 1.0,
    "speed": [1.0, 1.0, 1.0],
    "memory_bytes": [2.0, 2.0, 2.0],
    "spectral_efficiency": [1.0, 1.0, 1.0],
    "bandwidth_hz": 1.0,
}
BAD = [
    ({"latency_s": [1.0, np.nan]}, ValueError, "latency_s must be finite and >= 0, got nan at index 1"),
    ({"latency_s": [1.0, np.inf]}, ValueError, "latency_s must be finite and >= 0, got inf at index 1"),
    ({"latency_s": [-1.0, 1.0]}, ValueError, "latency_s must be finite and >= 0, got -1.0 at index 0"),
    ({"latency_s": []}, ValueError, "latency_s is empty"),
    ({"latency_s": 1.0}, ValueError, "latency_s must have 1 axis"),
    ({"latency_s": [[1.0, 2.0]]}, ValueError, r"latency_s must have 1 axis\(es\), got shape \(1, 2\)"),
    ({"latency_s": ["a", "b"]}, TypeError, "latency_s must hold real numbers"),
    ({"latency_s": [True, False]}, TypeError, "latency_s must hold real numbers, got dtype bool"),
    ({"depth_memory_bytes": [1.0]}, ValueError, "depth_memory_bytes must have 2 entries, as many as .*; got 1"),
    ({"depth_memory_bytes": [1.0, -np.inf]}, ValueError, "depth_memory_bytes must be finite and >= 0, got -inf"),
    ({"upload_bits": 0.0}, ValueError, "upload_bits must be finite and > 0, got 0.0"),
    ({"upload_bits": [1.0, 2.0, 3.0]}, ValueError, "upload_bits must have 2 entries, as many as .*; got 3"),
    ({"upload_bits": None}, TypeError, "upload_bits must hold real numbers"),
    ({"speed": [1.0, 0.0, 1.0]}, ValueError, "speed must be finite and > 0, got 0.0 at index 1"),
    ({"speed": [1.0, -1.0, 0.0]}, ValueError, r"got -1.0 at index 1 \(2 such in all\)"),
    ({"speed": [1.0]}, ValueError, "memory_bytes must have 1 entries, as many as .*; got 3"),
    ({"speed": 1j * np.ones(3)}, TypeError, "speed must hold real numbers, got dtype complex128"),
    ({"memory_bytes": [1.0, np.nan, 1.0]}, ValueError, "memory_bytes must be finite and >= 0, got nan at index 1"),
    ({"spectral_efficiency": [1.0, 1.0, 0.0]}, ValueError, "spectral_efficiency must be finite and > 0"),
    ({"spectral_efficiency": [1.0, 1.0]}, ValueError, "spectral_efficiency must have 3 entries, as many as .*; got 2"),
    ({"bandwidth_hz": 0.0}, ValueError, "bandwidth_hz must be finite and > 0, got 0.0"),
    ({"bandwidth_hz": np.nan}, ValueError, "bandwidth_hz must be finite and > 0, got nan"),
    ({"bandwidth_hz": "1e6"}, TypeError, "bandwidth_hz must be a number, got str: '1e6'"),
    ({"bandwidth_hz": True}, TypeError, "bandwidth_hz must be a number, got bool"),
    ({"local_steps": 0}, ValueError, "local_steps must be at least 1, got 0"),
    ({"local_steps": 1.5}, TypeError, "local_steps must be an integer, got float: 1.5"),
    ({"allowed": np.ones((2, 3), bool)}, ValueError, r"boolean array of shape \(3, 2\)"),
    ({"allowed": np.ones((3, 2))}, ValueError, r"boolean array of shape \(3, 2\), devices by blocks, got float64"),
    (
        {"latency_s": [1.0, 1e51]},
        ValueError,
        r"latency_s must be finite and >= 0 \(zero or from 1e-50 to 1e50\), got",
    ),
    ({"speed": [1.0, 1.0, 1e-310]}, ValueError, r"speed must be finite and > 0 \(from 1e-50 to 1e50\), got 1e-310"),
    ({"bandwidth_hz": 1e51}, ValueError, "bandwidth_hz must lie between 1e-50 and 1e50, got 1e"),
    ({"bandwidth_hz": 10**400}, ValueError, "bandwidth_hz must be finite and > 0, got inf"),
    ({"local_steps": 10**400}, ValueError, r"local_steps must be at most 2\*\*53, got one of 1329 bits"),
    (
        {"speed": [1.0], "memory_bytes": [2.0], "spectral_efficiency": [1.0]},
        ValueError,
        "at least as many devices as blocks are needed, got 1 devices for 2 blocks",
    ),
]


@pytest.mark.parametrize("solve", [block_allocation, joint_allocation])
@pytest.mark.parametrize("change, error, message", BAD)
def test_bad_arguments_are_refused(solve, change, error, message):
    solve(**GOOD)
    with pytest.raises(error, match=message):
        solve(**{**GOOD, **change})


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (([1.0, -2.0], 1.0, [1.0, 1.0]), ValueError, "compute_s must be finite and >= 0, got -2.0 at index 1"),
        (([1.0], 1.0, [1.0, 1.0]), ValueError, "spectral_efficiency must have 1 entries, as many as .*; got 2"),
        (([], 1.0, []), ValueError, "compute_s is empty"),
        (([1.0], 1e300, [1.0]), ValueError, "upload_bits must be finite and > 0 .from 1e-50 to 1e50."),
    ],
)
def test_bad_splits_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        bandwidth_split(*arguments, bandwidth_hz=1.0)


def test_answers_are_themselves_in_sets_and_comparisons():
    """Their arrays have no truth value, and so no answer is compared by what it holds."""
    answers = [of for of in (getattr(solvers, name) for name in solvers.__all__) if is_dataclass(of)]
    assert len(answers) > 15
    for answer in (object.__new__(of) for of in (*answers, RankProof)):
        assert {answer: "itself"}[answer] == "itself"
