"""The profiles that lola ships: what they claim, and that the estimate agrees with them."""

import sys
from pathlib import Path

import numpy as np
import pytest

import lola
from lola.files.problems import builtin_scenario
from lola.files.stages import builtin_stages
from lola.profiling import REFERENCES, estimate, estimate_stages, judge

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ROOT / "lola" / "data" / "profiles"


@pytest.fixture(scope="module")
def workloads():
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        from profiles import WORKLOADS
    finally:
        sys.path.remove(str(ROOT / "bench"))
    return WORKLOADS


@pytest.mark.parametrize("name", ["roberta-base", "vit-b-16", "gpt2"])
def test_a_shipped_profile_is_what_its_workload_gives(workloads, name):
    shipped, estimated = lola.load_profile(PROFILES / f"{name}.json"), estimate(workloads[name])
    np.testing.assert_allclose(estimated.evidence.saved_bytes, shipped.evidence.saved_bytes, rtol=0.03)
    np.testing.assert_array_equal(estimated.upload_bits, shipped.upload_bits)
    assert shipped.provenance.source == "measured"
    for field in ("batch_size", "sequence_length", "dtype", "attention", "mode", "head", "lora_rank", "seed"):
        assert getattr(shipped.provenance, field) == getattr(estimated.provenance, field), field
    assert (shipped.evidence.repeats >= 5).all()
    assert shipped.n_blocks == 12


def test_roberta_has_the_papers_figures():
    profile = lola.load_profile(PROFILES / "roberta-base.json")
    assert (profile.upload_bits == 786_432).all()  # 24,576 parameters of 32 bits
    assert judge(profile).memory.r_squared >= 0.999
    assert 1.5 <= profile.latency_s[-1] / profile.latency_s[0] <= 2.2  # "nearly twice"


def test_the_shipped_scenario_is_measured_and_brought_to_the_reference():
    problem = builtin_scenario()
    measured, used = lola.load_profile(PROFILES / "roberta-base.json"), problem.profile
    known = used.provenance
    assert (known.source, known.reference) == ("measured", "snapdragon-8-gen-3")
    np.testing.assert_allclose(used.latency_s, measured.latency_s * known.latency_factor)
    np.testing.assert_array_equal(used.memory_bytes, measured.memory_bytes)
    assert known.reference in REFERENCES
    fleet = lola.Fleet.sample(20, seed=0)
    for field in ("speed", "memory_bytes", "spectral_efficiency"):
        np.testing.assert_allclose(getattr(problem.fleet, field), getattr(fleet, field), rtol=1e-15)


def test_the_shipped_stages_are_what_the_workload_of_the_shipped_profile_gives(workloads):
    shipped, estimated = builtin_stages(), estimate_stages(workloads["roberta-base"])
    for name in ("forward_s", "backward_s", "memory_bytes", "hop_bits", "return_bits", "tunable_bits"):
        np.testing.assert_allclose(getattr(shipped, name), getattr(estimated, name), rtol=1e-6)
    profile, blocks = builtin_scenario().profile, range(1, 13)
    assert shipped.provenance.source == "estimated"
    for field in ("model", "batch_size", "sequence_length", "dtype", "head", "lora_rank", "lora_targets"):
        assert getattr(shipped.provenance, field) == getattr(profile.provenance, field)
    np.testing.assert_array_equal(shipped.tunable_bits[1:-1], profile.upload_bits[::-1])
    at_once = profile.latency_s[-1] + profile.extra_latency_s[:-1].sum()  # all depths trained, as a chain does
    assert (shipped.forward_s + shipped.backward_s).sum() == pytest.approx(at_once, rel=0.15)
    saved = shipped.kept_bytes[blocks.start : blocks.stop].sum()
    assert saved == pytest.approx(profile.evidence.segment_saved_bytes[0], rel=0.03)
