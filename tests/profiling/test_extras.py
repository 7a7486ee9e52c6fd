"""What one more trained block costs a device: measured, added to older profiles, and kept in files."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_models import every_model, save_config

import lola
from lola.profiling import ProfilingError, Workload, measure, measure_extras
from lola.profiling.extras import depths_to_run, extra_of_block


def tiny(tmp_path, name):
    length = {} if name == "vit" else {"sequence_length": 6}
    return Workload(save_config(tmp_path / name, name), batch_size=2, lora_rank=2, **length)


def test_depths_are_chosen_from_end_to_end():
    assert depths_to_run(12, exact=False) == ([1, 5, 8, 12], [1])
    assert depths_to_run(12, exact=True) == (list(range(1, 13)), [1, 5, 8])
    assert depths_to_run(4, exact=False) == ([1, 2, 3, 4], [1])
    assert depths_to_run(2, exact=True) == ([1, 2], [1])
    for exact in (False, True):
        assert depths_to_run(1, exact) == ([1], [])


def test_a_blocks_extra_is_the_slope_between_ranges():
    np.testing.assert_allclose(extra_of_block([1, 3, 4], np.array([9.0, 7.0, 4.0])), [1.0, 1.0, 3.0, 3.0])
    # Noise may make more blocks take less; none costs less than nothing, and the sum stays that of the fit.
    np.testing.assert_allclose(extra_of_block([1, 2, 3], np.array([4.0, 6.0, 3.0])), [0.0, 2.0, 2.0])
    np.testing.assert_array_equal(extra_of_block([1], np.array([4.0])), [0.0])


def test_what_one_more_block_costs_is_kept_and_unknown_where_it_was(tmp_path):
    path = tmp_path / "p.json"
    known = lola.Provenance("toy", 8, 64, "float32", "measured", "bench")
    older = lola.Profile(memory_bytes=[1.0, 2.0], latency_s=[1.0, 2.0], upload_bits=1.0, provenance=known)
    assert older.extra_latency_s is None
    assert older.extra_memory_bytes is None
    newer = replace(older, extra_latency_s=0.1, extra_memory_bytes=[1.5, 2.5])
    for profile in (older, newer):
        lola.save_profile(profile, path)
        assert ("extra" in path.read_text()) == (profile is newer)
        loaded = lola.load_profile(path)
        assert (loaded.extra_latency_s is None) == (profile is older)
    assert loaded.extra_latency_s.tolist() == [0.1, 0.1]
    assert loaded.extra_memory_bytes.tolist() == [1.5, 2.5]
    scaled = loaded.on_reference("phone", 2.0)
    assert scaled.extra_latency_s.tolist() == [0.2, 0.2]
    assert scaled.extra_memory_bytes.tolist() == [1.5, 2.5]


@every_model
def test_one_more_block_keeps_its_own_tensors_and_no_more(tmp_path, name):
    profile = measure(tiny(tmp_path, name), threads=1, limit_s=1e-3, monotone="isotonic", exact=True)
    evidence = profile.evidence
    assert evidence.segment_saved_bytes[-1] == evidence.saved_bytes[-1]
    medians = profile.latency_s if evidence.raw_latency_s is None else evidence.raw_latency_s
    assert evidence.segment_latency_s[-1] == medians[-1]
    assert (np.diff(evidence.segment_saved_bytes) < 0).all()
    assert (profile.extra_memory_bytes > 0).all()
    assert (profile.extra_latency_s >= 0).all()
    at_once = evidence.saved_bytes[-1] + profile.extra_memory_bytes[:-1].sum()
    assert at_once == pytest.approx(evidence.segment_saved_bytes[0])
    assert profile.extra_memory_bytes[-1] == profile.extra_memory_bytes[-2]


def test_extras_are_added_to_an_older_profile(tmp_path, monkeypatch):
    """At its own pace: the machine is twice as slow now."""
    workload = tiny(tmp_path, "bert")
    monkeypatch.setattr("lola.profiling.timing._times", lambda *_: [[1.0] * 3, [2.0] * 3, [4.0] * 3, [4.5] * 3])
    older = replace(measure(workload, threads=1), extra_latency_s=None, extra_memory_bytes=None)
    monkeypatch.setattr("lola.profiling.timing._times", lambda *_: [[8.0] * 3, [9.0] * 3, [8.6] * 3])
    profile = measure_extras(older, workload, threads=1)
    np.testing.assert_allclose(profile.extra_latency_s, [0.2, 0.3, 0.3])
    np.testing.assert_allclose(profile.evidence.segment_latency_s, [4.5, 4.3, 4.0])
    np.testing.assert_array_equal(profile.evidence.segment_repeats, [3, 3, 3])
    for field in ("memory_bytes", "latency_s", "upload_bits", "provenance"):
        assert (
            getattr(profile, field) is getattr(older, field) or (getattr(profile, field) == getattr(older, field)).all()
        )
    assert (profile.evidence.repeats == older.evidence.repeats).all()
    other = lola.Profile(memory_bytes=[1.0], latency_s=[1.0], upload_bits=1.0)
    with pytest.raises(ProfilingError, match="the profile has 1 blocks, .* has 3; give its own"):
        measure_extras(other, workload, threads=1)
