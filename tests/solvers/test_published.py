"""The paper's own algorithms: CRUNCH, the conventional search, dual ascent."""

import numpy as np
import pytest
from cases import ALLOCATION_FAMILIES, allocation, sizes
from naive import check_allocation, check_hall, equal_split_latency

from lola.solvers import (
    InfeasibleError,
    block_allocation,
    conventional_allocation,
    crunch,
    dual_ascent,
    joint_allocation,
)

MONOTONE_FAMILIES = [family for family in ALLOCATION_FAMILIES if family != "unequal uploads"]


def paper_example():
    """Example 1 of section IV-C: six devices and four blocks with its row counts and its cuts."""
    #                   device 1      2     3    4    5     6
    slope = np.array([20.0, 4.0, 14.0, 7.0, 8.0, 8.0])
    offset = np.array([2.0, 13.0, 4.0, 7.0, 30.0, 10.0])
    blocks_in_memory = [2, 4, 3, 4, 1, 3]
    return {
        "latency_s": [1.0, 2.0, 3.0, 4.0],
        "depth_memory_bytes": [1.0, 2.0, 3.0, 4.0],
        "upload_bits": 1.0,
        "speed": 1 / slope,
        "memory_bytes": blocks_in_memory,
        "spectral_efficiency": 1 / offset,
        "bandwidth_hz": 4.0,  # a quarter each, so device k needs offset + depth·slope seconds
    }


def test_crunch_follows_the_papers_example():
    result = crunch(**paper_example())
    np.testing.assert_allclose(result.cut_s, [46, 42, 38, 35, 34, 32, 29], rtol=1e-12)
    assert result.objective == result.cut_s[-1]
    assert (result.device_of_block + 1).tolist() == [1, 6, 4, 2]
    # After the first cut the rows hold {1, 2, 2, 3, 4, 4} entries, as printed.
    latency = equal_split_latency({k: np.asarray(v) for k, v in paper_example().items()}, 4.0)
    assert sorted((latency < 45.9).sum(axis=1)) == [1, 2, 2, 3, 4, 4]
    assert block_allocation(**paper_example()).objective == result.objective


@pytest.mark.parametrize("solve", [crunch, conventional_allocation])
def test_published_searches_find_the_optimum(solve, instances):
    rng = np.random.default_rng(21)
    infeasible = 0
    for number in range(instances(1200)):
        n_devices, n_blocks = sizes(rng, 6, 16)
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, MONOTONE_FAMILIES[number % len(MONOTONE_FAMILIES)])
        try:
            wanted = block_allocation(**inputs, bandwidth_hz=bandwidth, local_steps=2)
        except InfeasibleError:
            infeasible += 1
            with pytest.raises(InfeasibleError, match="no schedule exists") as caught:
                solve(**inputs, bandwidth_hz=bandwidth, local_steps=2)
            assert caught.value.partners < len(caught.value.violator)
            continue
        result = solve(**inputs, bandwidth_hz=bandwidth, local_steps=2)
        assert result.objective == wanted.objective == result.cut_s[-1]
        assert (np.diff(result.cut_s) <= 0).all()
        assert result.iterations == result.cut_s.size
        check_allocation(result, inputs, bandwidth, 2)
        check_hall(equal_split_latency(inputs, bandwidth, 2).T, result.objective, result.hall_violator)
    assert infeasible


@pytest.mark.parametrize("solve", [crunch, conventional_allocation])
@pytest.mark.parametrize("name", ["latency_s", "depth_memory_bytes", "upload_bits"])
def test_published_searches_refuse_what_falls_with_depth(solve, name):
    arguments = paper_example() | {name: [4.0, 3.0, 2.0, 1.0]}
    with pytest.raises(ValueError, match=f"{name} must not fall with depth; where it does, use"):
        solve(**arguments)


@pytest.mark.parametrize("step", ["polyak", "diminishing", "constant"])
def test_dual_ascent_brackets_the_optimum(step, instances):
    rng = np.random.default_rng(22)
    for number in range(instances(40)):
        family = MONOTONE_FAMILIES[number % len(MONOTONE_FAMILIES)]
        n_devices, n_blocks = sizes(rng, 8, 24)
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, family)
        try:
            optimum = joint_allocation(**inputs, bandwidth_hz=bandwidth)
        except InfeasibleError:
            with pytest.raises(InfeasibleError, match="no schedule exists"):
                dual_ascent(**inputs, bandwidth_hz=bandwidth)
            continue
        result = dual_ascent(**inputs, bandwidth_hz=bandwidth, max_iterations=150, step=step)
        check_allocation(result, inputs, bandwidth)
        assert result.lower_bound <= optimum.objective * (1 + 1e-12)
        assert result.objective >= optimum.objective * (1 - 1e-12)
        assert result.lower_bound == result.dual_s.max()
        assert result.objective == pytest.approx(result.primal_s.min(), rel=1e-12, abs=0)
        assert result.primal_s.shape == result.dual_s.shape == (result.iterations,)
        assert result.latency_multiplier.sum() == pytest.approx(1.0)


def test_a_crunched_dual_value_is_no_bound():
    """With crunching the inner minimum can be too large: the value passes what any true dual value can reach."""
    rng = np.random.default_rng(23)
    excess = []
    for _ in range(10):
        inputs, bandwidth = allocation(rng, 6, 4, "uniform")
        inputs["memory_bytes"][:] = 10.0
        plain = dual_ascent(**inputs, bandwidth_hz=bandwidth, max_iterations=3000)
        crunched = dual_ascent(**inputs, bandwidth_hz=bandwidth, crunched=True)
        assert np.isnan(crunched.lower_bound)
        assert crunched.objective >= joint_allocation(**inputs, bandwidth_hz=bandwidth).objective * (1 - 1e-12)
        excess.append(crunched.dual_s.max() / plain.lower_bound - 1)
    assert max(excess) > 0.02


def test_dual_ascent_takes_masks_and_refuses_what_it_cannot_use():
    rng = np.random.default_rng(24)
    inputs, bandwidth = allocation(rng, 9, 4, "uniform")
    inputs["memory_bytes"][:] = 10.0
    mask = rng.random((9, 4)) < 0.6
    mask[np.arange(4), np.arange(4)] = True
    result = dual_ascent(**inputs, bandwidth_hz=bandwidth, allowed=mask, max_iterations=50)
    check_allocation(result, inputs, bandwidth, allowed=mask)
    far = dual_ascent(**inputs, bandwidth_hz=bandwidth, max_iterations=20, step="constant", step_size=1e20)
    assert far.lower_bound <= joint_allocation(**inputs, bandwidth_hz=bandwidth).objective * (1 + 1e-12)
    for change, message in (
        ({"upload_bits": [1.0, 2.0, 3.0, 4.0]}, "upload_bits must be the same for every block in dual ascent"),
        ({"step": "newton"}, "step must be one of polyak, diminishing, constant; got 'newton'"),
        ({"max_iterations": 0}, "max_iterations must be at least 1, got 0"),
        ({"step_size": 0.0}, "step_size must be finite and > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            dual_ascent(**(inputs | {"bandwidth_hz": bandwidth} | change))
