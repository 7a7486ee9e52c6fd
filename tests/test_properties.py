"""What must hold whatever the numbers are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lola.solvers import InfeasibleError, block_allocation, joint_allocation, linear_assignment

SOLVERS = st.sampled_from([block_allocation, joint_allocation])


def positive(size, low=0.125, high=8.0):
    return arrays(np.float64, size, elements=st.floats(low, high, width=32))


@st.composite
def problems(draw):
    n_blocks = draw(st.integers(1, 6))
    n_devices = draw(st.integers(n_blocks, 12))
    return {
        "latency_s": np.sort(draw(positive(n_blocks))),
        "depth_memory_bytes": np.sort(draw(positive(n_blocks))),
        "upload_bits": draw(st.one_of(st.floats(0.125, 8.0), positive(n_blocks))),
        "speed": draw(positive(n_devices)),
        "memory_bytes": draw(positive(n_devices, 1.0, 16.0)),
        "spectral_efficiency": draw(positive(n_devices)),
        "bandwidth_hz": draw(st.floats(0.01, 100.0)),
    }


def latency(solve, problem):
    try:
        return solve(**problem).objective
    except InfeasibleError:
        return np.inf


def devices(problem, change):
    fleet = ("speed", "memory_bytes", "spectral_efficiency")
    return problem | {name: change(problem[name]) for name in fleet}


@settings(deadline=None, max_examples=200)
@given(SOLVERS, problems(), st.randoms(use_true_random=False))
def test_permuting_devices_changes_nothing(solve, problem, random):
    order = list(range(problem["speed"].size))
    random.shuffle(order)
    permuted = devices(problem, lambda values: values[order])
    assert latency(solve, permuted) == pytest.approx(latency(solve, problem), rel=1e-12, abs=0)


@settings(deadline=None, max_examples=200)
@given(SOLVERS, problems(), st.floats(1e-6, 1e6))
def test_scaling_time_scales_the_answer(solve, problem, factor):
    scaled = problem | {name: problem[name] * factor for name in ("latency_s", "upload_bits")}
    assert latency(solve, scaled) == pytest.approx(factor * latency(solve, problem), rel=1e-12, abs=0)


@settings(deadline=None, max_examples=200)
@given(SOLVERS, problems(), positive(3, 1.0, 8.0))
def test_another_device_never_hurts(solve, problem, newcomer):
    values = dict(zip(("speed", "memory_bytes", "spectral_efficiency"), newcomer, strict=True))
    larger = problem | {name: np.append(problem[name], value) for name, value in values.items()}
    assert latency(solve, larger) <= latency(solve, problem) * (1 + 1e-12)


@settings(deadline=None, max_examples=200)
@given(SOLVERS, problems(), st.floats(1.0, 10.0))
def test_more_bandwidth_never_hurts(solve, problem, factor):
    wider = problem | {"bandwidth_hz": problem["bandwidth_hz"] * factor}
    assert latency(solve, wider) <= latency(solve, problem) * (1 + 1e-12)


@settings(deadline=None, max_examples=200)
@given(problems())
def test_choosing_the_bandwidth_is_never_worse_than_splitting_it_equally(problem):
    assert latency(joint_allocation, problem) <= latency(block_allocation, problem) * (1 + 1e-12)


@settings(deadline=None, max_examples=200)
@given(arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.floats(-1e6, 1e6)))
def test_transposing_a_matrix_changes_nothing(cost):
    transposed = linear_assignment(cost.T).objective
    assert linear_assignment(cost).objective == pytest.approx(transposed, abs=1e-9 * np.abs(cost).max())
