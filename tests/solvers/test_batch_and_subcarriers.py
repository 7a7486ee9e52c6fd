"""(P2) for many rounds at once, and in whole subcarriers."""

from itertools import product

import numpy as np
import pytest
from cases import ALLOCATION_FAMILIES, allocation, sizes
from lola.solvers import InfeasibleError, joint, joint_allocation, joint_allocation_batch
from naive import check_allocation, placements, possible_pairs

from lola.channel import rayleigh_efficiency


def rounds(rng, n_rounds, family="uniform", n_devices=14, n_blocks=6):
    inputs, bandwidth = allocation(rng, n_devices, n_blocks, family)
    inputs["spectral_efficiency"] = rayleigh_efficiency((n_rounds, n_devices), seed=rng)
    return inputs, bandwidth


@pytest.mark.parametrize("rows", ["shared", "per round"])
def test_a_batch_is_the_rounds_one_by_one(rows, instances):
    rng = np.random.default_rng(31)
    n_rounds = instances(600)
    inputs, bandwidth = rounds(rng, n_rounds)
    if rows == "per round":
        inputs["speed"] = rng.uniform(0.5, 1.0, (n_rounds, 14))
        inputs["memory_bytes"] = rng.uniform(0.2, 1.5, (n_rounds, 14))
        inputs["memory_bytes"][1] = 0.0
    batch = joint_allocation_batch(**inputs, bandwidth_hz=bandwidth, local_steps=2)
    assert (~batch.feasible).any() == (rows == "per round")
    for r in range(n_rounds):
        one = {
            name: value[r] if np.ndim(value) == 2 else value for name, value in inputs.items()
        }  # the r-th row of whatever has rows
        if not batch.feasible[r]:
            assert batch.objective[r] == np.inf
            assert (batch.device_of_block[r] == -1).all()
            with pytest.raises(InfeasibleError):
                joint_allocation(**one, bandwidth_hz=bandwidth, local_steps=2)
            continue
        single = joint_allocation(**one, bandwidth_hz=bandwidth, local_steps=2)
        assert batch.objective[r] == single.objective
        assert batch.lower_bound[r] == single.lower_bound
        assert batch.iterations[r] == single.iterations
        for field in ("device_of_block", "bandwidth_hz", "block_price_hz", "device_price_hz"):
            np.testing.assert_array_equal(getattr(batch, field)[r], getattr(single, field))


def test_a_batch_does_not_depend_on_threads():
    inputs, bandwidth = rounds(np.random.default_rng(32), 300)
    first = joint_allocation_batch(**inputs, bandwidth_hz=bandwidth, threads=1)
    for threads in (1, 2, 5):
        again = joint_allocation_batch(**inputs, bandwidth_hz=bandwidth, threads=threads)
        for field in ("objective", "device_of_block", "bandwidth_hz", "block_price_hz", "device_price_hz"):
            assert getattr(again, field).tobytes() == getattr(first, field).tobytes()


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"spectral_efficiency": np.ones(14)}, ValueError, r"spectral_efficiency must have 2 axis\(es\)"),
        ({"spectral_efficiency": np.ones((0, 14))}, ValueError, "at least one row, a round; got none"),
        (
            {"spectral_efficiency": -np.ones((3, 14))},
            ValueError,
            r"spectral_efficiency \(flattened\) must be finite and > 0",
        ),
        ({"speed": np.ones(13)}, ValueError, r"speed must have shape \(14,\) or \(3, 14\).*got \(13,\)"),
        ({"memory_bytes": np.ones((2, 14))}, ValueError, r"memory_bytes must have shape .*got \(2, 14\)"),
        ({"speed": []}, ValueError, r"speed must have shape \(14,\)"),
        ({"speed": [[1.0], [1.0, 2.0]]}, TypeError, "speed must be a rectangular array"),
        ({"speed": np.zeros((3, 14))}, ValueError, r"speed \(flattened\) must be finite and > 0"),
        ({"threads": 0}, ValueError, "threads must be at least 1"),
        ({"bandwidth_hz": 0.0}, ValueError, "bandwidth_hz must be finite and > 0"),
    ],
)
def test_bad_batches_are_refused(change, error, message):
    inputs, bandwidth = rounds(np.random.default_rng(33), 3)
    with pytest.raises(error, match=message):
        joint_allocation_batch(**(inputs | {"bandwidth_hz": bandwidth} | change))


def best_whole_split(inputs, bandwidth, width, available):
    """Try every assignment with every split into whole subcarriers."""
    n_devices, n_blocks = inputs["speed"].size, inputs["latency_s"].size
    splits = np.array([c for c in product(range(1, available + 1), repeat=n_blocks) if sum(c) <= available])
    best = np.inf
    for way in placements(n_devices, n_blocks):
        if possible_pairs(inputs)[way, np.arange(n_blocks)].all():
            compute = inputs["latency_s"] / inputs["speed"][way]
            upload = inputs["upload_bits"] / (splits * width) / inputs["spectral_efficiency"][way]
            best = min(best, (compute + upload).max(axis=1).min())
    return best


@pytest.mark.parametrize("priced_in", [False, True])
def test_whole_subcarriers_are_exactly_optimal(priced_in, instances, monkeypatch):
    if priced_in:
        monkeypatch.setattr(joint, "_DENSE_PAIRS", 0)
    rng = np.random.default_rng(34)
    for number in range(instances(800)):
        n_devices, n_blocks = sizes(rng, 3, 6)
        family = ALLOCATION_FAMILIES[number % len(ALLOCATION_FAMILIES)]
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, family)
        available = int(rng.integers(n_blocks, 9))
        width = bandwidth / available
        wanted = best_whole_split(inputs, bandwidth, width, available)
        if wanted == np.inf:
            with pytest.raises(InfeasibleError):
                joint_allocation(**inputs, bandwidth_hz=bandwidth, subcarrier_hz=width)
            continue
        result = joint_allocation(**inputs, bandwidth_hz=bandwidth, subcarrier_hz=width)
        assert result.objective == wanted == result.lower_bound
        check_allocation(result, inputs, bandwidth)
        count = result.bandwidth_hz / width
        np.testing.assert_allclose(count, np.round(count), rtol=1e-12)


def test_fine_subcarriers_come_close_to_divisible_bandwidth():
    rng = np.random.default_rng(35)
    inputs, bandwidth = allocation(rng, 40, 12, "uniform")
    divisible = joint_allocation(**inputs, bandwidth_hz=bandwidth).objective
    previous = np.inf
    for available in (12, 48, 192, 768, 12_288):
        whole = joint_allocation(**inputs, bandwidth_hz=bandwidth, subcarrier_hz=bandwidth / available).objective
        assert divisible * (1 - 1e-12) <= whole <= previous
        previous = whole
    assert previous == pytest.approx(divisible, rel=1e-3)
    with pytest.raises(ValueError, match="bandwidth_hz holds 11 subcarriers of .* but 12 blocks need one each"):
        joint_allocation(**inputs, bandwidth_hz=bandwidth, subcarrier_hz=bandwidth / 11)
    with pytest.raises(ValueError, match=r"bandwidth_hz holds 1e\+07 subcarriers of .*, more than 1000000; leave"):
        joint_allocation(**inputs, bandwidth_hz=bandwidth, subcarrier_hz=bandwidth * 1e-7)
    # Uploads that vanish beside the computation: the split must neither overflow nor take for ever.
    tiny = joint_allocation(
        [1.0, 1.0], [0, 0], 1e-9, [1.0] * 3, [1.0] * 3, [1.0] * 3, bandwidth_hz=1e8, subcarrier_hz=100.0
    )
    assert (tiny.bandwidth_hz >= 100.0).all()
    assert tiny.bandwidth_hz.sum() <= 1e8
    with pytest.raises(ValueError, match="subcarrier_hz must be finite and > 0"):
        joint_allocation(**inputs, bandwidth_hz=bandwidth, subcarrier_hz=-1.0)
