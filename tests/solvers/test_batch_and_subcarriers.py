"""(P2) for many rounds at once, and in whole subcarriers."""

from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
from cases import ALLOCATION_FAMILIES, allocation, sizes
from naive import check_allocation, check_prices, placements, possible_pairs

from lola.channel import rayleigh_efficiency, shannon
from lola.solvers import InfeasibleError, joint, joint_allocation, joint_allocation_batch


def rounds(rng, n_rounds, family="uniform", n_devices=14, n_blocks=6):
    inputs, bandwidth = allocation(rng, n_devices, n_blocks, family)
    inputs["spectral_efficiency"] = rayleigh_efficiency((n_rounds, n_devices), seed=rng)
    return inputs, bandwidth


def one_round(inputs, r):
    """The r-th row of whatever has rows."""
    return {name: value[r] if np.ndim(value) == 2 else value for name, value in inputs.items()}


def slow_fading(rng, n_rounds, n_devices, correlation):
    """Spectral efficiencies of Rayleigh channels that are correlated from one round to the next."""
    noise = rng.normal(size=(n_rounds, n_devices, 2))
    channel = noise.copy()
    for r in range(1, n_rounds):
        channel[r] = correlation * channel[r - 1] + np.sqrt(1 - correlation**2) * noise[r]
    return shannon((channel**2).sum(axis=2) * 0.005)


@pytest.mark.parametrize("rows", ["shared", "per round"])
def test_a_batch_of_one_is_a_joint_allocation(rows, instances):
    rng = np.random.default_rng(31)
    n_rounds = instances(600)
    inputs, bandwidth = rounds(rng, n_rounds)
    if rows == "per round":
        inputs["speed"] = rng.uniform(0.5, 1.0, (n_rounds, 14))
        inputs["memory_bytes"] = rng.uniform(0.2, 1.5, (n_rounds, 14))
        inputs["memory_bytes"][1] = 0.0
    feasible = joint_allocation_batch(**inputs, bandwidth_hz=bandwidth, local_steps=2).feasible
    assert (~feasible).any() == (rows == "per round")
    for r in range(n_rounds):
        one = one_round(inputs, r)
        efficiency = one["spectral_efficiency"][None]
        batch = joint_allocation_batch(
            **(one | {"spectral_efficiency": efficiency}), bandwidth_hz=bandwidth, local_steps=2
        )
        assert batch.feasible[0] == feasible[r]
        if not feasible[r]:
            assert batch.objective[0] == np.inf
            assert (batch.device_of_block[0] == -1).all()
            with pytest.raises(InfeasibleError):
                joint_allocation(**one, bandwidth_hz=bandwidth, local_steps=2)
            continue
        single = joint_allocation(**one, bandwidth_hz=bandwidth, local_steps=2)
        for field in fields(single):
            np.testing.assert_array_equal(getattr(batch, field.name)[0], getattr(single, field.name))


@pytest.mark.parametrize("correlation", [0.0, 0.9, 0.999])
@pytest.mark.parametrize("family", ALLOCATION_FAMILIES)
def test_a_batch_finds_the_optimum_of_every_round(family, correlation, instances):
    """Where the channel changes little, a round starts from the one before; devices drop out and come back."""
    rng = np.random.default_rng(36)
    n_rounds = instances(300)
    inputs, bandwidth = rounds(rng, n_rounds, family)
    inputs["memory_bytes"] = np.tile(inputs["memory_bytes"], (n_rounds, 1))
    inputs["memory_bytes"][rng.random(n_rounds) < 0.2] *= rng.uniform(0.1, 1.0, 14)
    inputs["speed"] = inputs["speed"] * rng.choice([0.5, 1.0], (n_rounds, 1))
    inputs["spectral_efficiency"] = slow_fading(rng, n_rounds, 14, correlation)
    batch = joint_allocation_batch(**inputs, bandwidth_hz=bandwidth)
    for r in range(n_rounds):
        one = one_round(inputs, r)
        if not batch.feasible[r]:
            with pytest.raises(InfeasibleError):
                joint_allocation(**one, bandwidth_hz=bandwidth)
            continue
        single = joint_allocation(**one, bandwidth_hz=bandwidth)
        found = replace(single, **{field.name: getattr(batch, field.name)[r] for field in fields(single)})
        assert found.objective == pytest.approx(single.objective, rel=1e-12, abs=0)
        check_allocation(found, one, bandwidth)
        assert check_prices(found, one, bandwidth) <= 1e-9


def test_slow_fading_takes_fewer_assignments(instances):
    rng = np.random.default_rng(37)
    n_rounds = instances(600)
    inputs, bandwidth = rounds(rng, n_rounds)
    efficiency = slow_fading(rng, n_rounds, 14, 0.999)
    slow, shuffled = (
        joint_allocation_batch(**(inputs | {"spectral_efficiency": rows}), bandwidth_hz=bandwidth).iterations.sum()
        for rows in (efficiency, rng.permutation(efficiency))
    )
    assert slow < 0.9 * shuffled


@pytest.mark.parametrize("correlation", [0.0, 0.999])
def test_a_batch_does_not_depend_on_threads(correlation):
    rng = np.random.default_rng(32)
    inputs, bandwidth = rounds(rng, 300)
    inputs["spectral_efficiency"] = slow_fading(rng, 300, 14, correlation)
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
