"""Where sizes, ties and magnitudes are extreme: fleets of thousands, large squares, identical devices, 50 decades."""

import numpy as np
import pytest
from cases import ALLOCATION_FAMILIES, allocation, sizes
from naive import brute_force, check_allocation, check_hall, check_prices, check_prices_exactly, equal_split_latency

from lola.channel import CQI_EFFICIENCY
from lola.solvers import (
    InfeasibleError,
    block_allocation,
    bottleneck_assignment,
    conventional_allocation,
    crunch,
    dual_ascent,
    joint,
    joint_allocation,
    joint_allocation_batch,
)

# A fleet may be a few devices above what the pass over it looks at together, or many such chunks.
FLEETS = (257, 300, 511, 513, 1500, 3000, 5000)


@pytest.mark.parametrize("family", ALLOCATION_FAMILIES)
def test_block_allocation_of_thousands_is_the_bottleneck_assignment(family, instances):
    rng = np.random.default_rng([5, ALLOCATION_FAMILIES.index(family)])
    for number in range(instances(40)):
        n_devices, n_blocks = FLEETS[number % len(FLEETS)], int(rng.integers(1, 13))
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, family)
        mask = rng.random((n_devices, n_blocks)) < 0.7 if number % 5 == 0 else None
        latency = equal_split_latency(inputs, bandwidth, 3, mask)
        result = block_allocation(**inputs, bandwidth_hz=bandwidth, local_steps=3, allowed=mask)
        assert result.objective == bottleneck_assignment(latency).objective
        check_allocation(result, inputs, bandwidth, 3, mask)
        check_hall(latency.T, result.objective, result.hall_violator)


@pytest.mark.parametrize("subcarriers", [None, 40])
@pytest.mark.parametrize("family", ALLOCATION_FAMILIES)
def test_joint_allocation_of_thousands_is_the_dense_one(family, subcarriers, instances, monkeypatch):
    """Devices priced in, chunk by chunk, against all of them in one assignment; a handful of assignments in either."""
    rng = np.random.default_rng([6, ALLOCATION_FAMILIES.index(family)])
    for number in range(instances(21)):
        n_devices, n_blocks = FLEETS[number % len(FLEETS)], int(rng.integers(1, 13))
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, family)
        mask = rng.random((n_devices, n_blocks)) < 0.7 if number % 5 == 0 else None
        arguments = inputs | {
            "bandwidth_hz": bandwidth,
            "allowed": mask,
            "subcarrier_hz": None if subcarriers is None else bandwidth / subcarriers,
        }
        with monkeypatch.context() as patch:
            patch.setattr(joint, "_DENSE_PAIRS", 0)
            priced = joint_allocation(**arguments)
            patch.setattr(joint, "_DENSE_PAIRS", n_devices * n_blocks)
            dense = joint_allocation(**arguments)
        assert priced.objective == pytest.approx(dense.objective, rel=1e-12, abs=0)
        assert priced.iterations <= 30
        check_allocation(priced, inputs, bandwidth, allowed=mask)
        if subcarriers is None:
            assert 0 <= check_prices(priced, inputs, bandwidth, allowed=mask) <= 1e-9


@pytest.mark.parametrize("subcarrier_hz", [None, 180e3])
@pytest.mark.parametrize("kind", ["qualities", "models and qualities", "identical"])
def test_devices_that_tie_do_not_join_one_by_one(kind, subcarrier_hz):
    """However many devices tie with a price, the number of assignments stays that of a fleet without ties."""
    rng, n_devices = np.random.default_rng(8), 100_000
    speed, efficiency = rng.uniform(0.3, 1.0, n_devices), rng.choice(CQI_EFFICIENCY, n_devices)
    if kind == "models and qualities":
        speed = rng.choice([0.5, 0.75, 1.0], n_devices)
    if kind == "identical":
        speed, efficiency = np.full(n_devices, 0.7), np.full(n_devices, 2.4063)
    result = joint_allocation(
        np.linspace(0.8, 1.5, 12),
        np.linspace(0.5e9, 1.5e9, 12),
        786_432.0,
        speed,
        rng.choice([1e9, 1.6e9, 2e9], n_devices),
        efficiency,
        bandwidth_hz=100e6,
        local_steps=10,
        subcarrier_hz=subcarrier_hz,
    )
    assert result.iterations <= 12


@pytest.mark.parametrize("n_devices", [257, 513, 1500])
@pytest.mark.parametrize("family", ALLOCATION_FAMILIES)
def test_a_batch_over_thousands_is_the_single_call(family, n_devices, instances):
    rng = np.random.default_rng([12, ALLOCATION_FAMILIES.index(family), n_devices])
    inputs, bandwidth = allocation(rng, n_devices, 5, family)
    efficiency = rng.choice(CQI_EFFICIENCY, (instances(12), n_devices))
    batch = joint_allocation_batch(**(inputs | {"spectral_efficiency": efficiency}), bandwidth_hz=bandwidth)
    for r, row in enumerate(efficiency):
        single = joint_allocation(**(inputs | {"spectral_efficiency": row}), bandwidth_hz=bandwidth)
        assert batch.objective[r] == pytest.approx(single.objective, rel=1e-12, abs=0)
        assert batch.lower_bound[r] <= single.objective
    assert batch.feasible.all()


@pytest.mark.parametrize("n_devices", [257, 1500])
@pytest.mark.parametrize("family", [name for name in ALLOCATION_FAMILIES if name != "unequal uploads"])
def test_published_methods_on_hundreds_and_thousands(family, n_devices, instances):
    rng = np.random.default_rng([13, ALLOCATION_FAMILIES.index(family), n_devices])
    inputs, bandwidth = allocation(rng, instances(n_devices), int(rng.integers(1, 7)), family)
    wanted = block_allocation(**inputs, bandwidth_hz=bandwidth).objective
    assert crunch(**inputs, bandwidth_hz=bandwidth).objective == wanted
    if n_devices == 257 and family in ("ties", "constant", "quantised"):  # it takes K⁴ and more
        assert conventional_allocation(**inputs, bandwidth_hz=bandwidth).objective == wanted
    result, optimum = (solve(**inputs, bandwidth_hz=bandwidth) for solve in (dual_ascent, joint_allocation))
    check_allocation(result, inputs, bandwidth)
    assert result.lower_bound <= optimum.objective * (1 + 1e-12)
    assert result.objective >= optimum.objective * (1 - 1e-12)


@pytest.mark.parametrize("kind", ["uploads alone", "uniform", "tied"])
def test_a_thousand_blocks_on_a_thousand_devices_prove_themselves(kind, instances):
    """Prices of many blocks cancel, and must keep enough digits for the proof."""
    rng, n = np.random.default_rng(9), instances(1000)
    family = "quantised" if kind == "tied" else "uniform"
    inputs, bandwidth = allocation(rng, n, n, family)
    inputs["memory_bytes"] = np.full(n, 4.0)
    if kind == "uploads alone":
        inputs["latency_s"] = np.zeros(n)
    result = joint_allocation(**inputs, bandwidth_hz=bandwidth)
    check_allocation(result, inputs, bandwidth)
    assert 0 <= check_prices(result, inputs, bandwidth) <= 1e-10


def test_price_proofs_hold_in_rational_arithmetic(instances):
    """3,000 proofs without rounding, every family, dense or priced in."""
    rng = np.random.default_rng(10)
    proven = 0
    for number in range(instances(3000)):
        family = ALLOCATION_FAMILIES[number % len(ALLOCATION_FAMILIES)]
        n_devices, n_blocks = sizes(rng, 5, 12)
        inputs, bandwidth = allocation(rng, n_devices, n_blocks, family)
        try:
            result = joint_allocation(**inputs, bandwidth_hz=bandwidth, local_steps=7)
        except InfeasibleError:
            continue
        check_prices_exactly(result, inputs, bandwidth, local_steps=7)
        assert result.objective - result.lower_bound <= 1e-9 * result.objective
        proven += 1
    assert proven > instances(3000) // 2


def decades(rng, size):
    """Draw numbers from the whole range that is accepted, its ends above all."""
    exponent = rng.choice([-50.0, 0.0, 50.0], size) if rng.random() < 0.5 else rng.uniform(-50, 50, size)
    return np.clip(10.0**exponent, 1e-50, 1e50)


def test_the_whole_range_of_numbers_is_exact(instances):
    """Numbers from 1e-50 to 1e50 in any mixture: no share vanishes, and proofs hold in rational arithmetic."""
    rng = np.random.default_rng(11)
    for _ in range(instances(2000)):
        n_devices, n_blocks = sizes(rng, 4, 5)
        inputs = {name: decades(rng, n_blocks) for name in ("latency_s", "upload_bits")}
        inputs |= {name: decades(rng, n_devices) for name in ("speed", "spectral_efficiency")}
        inputs |= {"depth_memory_bytes": np.zeros(n_blocks), "memory_bytes": decades(rng, n_devices)}
        bandwidth, steps = float(decades(rng, 1)[0]), int(rng.choice([1, 2**53]))
        latency = equal_split_latency(inputs, bandwidth, steps)
        blocks = block_allocation(**inputs, bandwidth_hz=bandwidth, local_steps=steps)
        assert blocks.objective == brute_force(latency, np.max)
        result = joint_allocation(**inputs, bandwidth_hz=bandwidth, local_steps=steps)
        assert (result.bandwidth_hz > 0).all()
        check_allocation(result, inputs, bandwidth, steps)
        check_prices_exactly(result, inputs, bandwidth, steps)
        assert result.objective - result.lower_bound <= 1e-12 * result.objective
        if bandwidth > 1e-49:
            whole = joint_allocation(
                **inputs, bandwidth_hz=bandwidth, local_steps=steps, subcarrier_hz=bandwidth / 8
            ).objective
            assert result.lower_bound <= whole < np.inf
