"""The estimate: a hand count of operations, and the same tensors as a measurement."""

import numpy as np
import pytest
from tiny_models import FALLING, every_model, save_config

from lola.profiling import REFERENCES, ProfilingError, Workload, alone, bring_to_reference, estimate, measure


def workload(tmp_path, name, **changes):
    length = {} if name == "vit" else {"sequence_length": 6}
    return Workload(save_config(tmp_path / name, name), **({"batch_size": 2, "lora_rank": 2, **length} | changes))


@pytest.mark.parametrize("head", ["trained", "frozen"])
def test_operations_equal_a_hand_count(tmp_path, head):
    """Roberta: 4 blocks, hidden 16, intermediate 32, rank 2, 2 labels; 2 examples of 6 tokens. Two per multiply-add."""
    batch, s, h, f, r, labels = 2, 6, 16, 32, 2, 2
    t = batch * s
    linear = 2 * t * (4 * h * h + 2 * h * f)  # query, key, value, output, and the two of the feed-forward part
    attention = 2 * 2 * batch * s * s * h  # scores and their product with the values, over all heads
    lora = 2 * 2 * t * 2 * h * r  # A and B, on query and on value
    classifier = 2 * batch * (h * h + h * labels)
    forward = 4 * (linear + attention + lora) + classifier
    # Backward through frozen matrices costs their forward once, for the gradient of the input; attention twice.
    above = linear + 2 * attention + lora
    # In the block itself nothing is wanted below query and value: no gradient of its input, nor of the keys. An
    # adapter's two matrices want three products each: the gradients of B, of A's output, and of A.
    own = 2 * t * (h * h + 2 * h * f) + 3 * attention // 2 + 2 * 3 * 2 * t * h * r
    expected = [forward + classifier + own + (depth - 1) * above for depth in (1, 2, 3, 4)]
    if head == "trained":  # the gradients of its two matrices
        expected[0] += classifier
    profile = estimate(workload(tmp_path, "roberta", head=head))
    np.testing.assert_array_equal(profile.evidence.flops, expected)
    # A block on the way has the gradients that pass it already, and wants those of its adapters' matrices.
    extra = [lora + (classifier if head == "trained" else 0), lora, lora]
    np.testing.assert_array_equal(-np.diff(profile.evidence.segment_flops), extra)
    np.testing.assert_allclose(
        profile.extra_latency_s, np.array([*extra, lora]) / REFERENCES["snapdragon-8-gen-3"].flops_per_s
    )


@every_model
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_estimate_saves_what_a_measurement_saves(tmp_path, name, attention):
    given = workload(tmp_path, name, attention=attention)
    estimated, measured = estimate(given), measure(given, threads=1, monotone="isotonic", limit_s=0.01)
    np.testing.assert_allclose(estimated.evidence.saved_bytes, measured.evidence.saved_bytes, rtol=0.03)
    np.testing.assert_allclose(estimated.evidence.peak_bytes, measured.evidence.peak_bytes, rtol=0.05)
    for at_once in ("segment_saved_bytes", "segment_peak_bytes"):
        extras = [-np.diff(getattr(profile.evidence, at_once)).sum() for profile in (estimated, measured)]
        np.testing.assert_allclose(*extras, rtol=0.02)
    np.testing.assert_array_equal(estimated.upload_bits, measured.upload_bits)
    assert (np.diff(estimated.evidence.flops) > 0).all()
    assert estimated.provenance.lora_targets == measured.provenance.lora_targets


def test_cuda_keeps_smaller_masks_and_rounds_up(tmp_path):
    given = workload(tmp_path, "bert", batch_size=8, sequence_length=20)
    on_cpu, on_cuda = estimate(given), estimate(given, allocator="cuda")
    assert (on_cuda.evidence.saved_bytes < on_cpu.evidence.saved_bytes).all()
    assert (on_cuda.evidence.peak_bytes % 512 == 0).all()
    without = estimate(workload(tmp_path, "bert", batch_size=8, sequence_length=20, mode="eval"), allocator="cuda")
    assert (without.evidence.saved_bytes < on_cuda.evidence.saved_bytes).all()


def test_alone_needs_more_than_any_depth(tmp_path):
    given = workload(tmp_path, "roberta", batch_size=8)
    needs = alone(given)
    assert needs.total_bytes == needs.weight_bytes + needs.activation_bytes + needs.moment_bytes
    assert needs.moment_bytes == 8 * (4 * 128 + 16 * 16 + 16 + 16 * 2 + 2)
    assert needs.total_bytes > estimate(given).memory_bytes[-1]


def test_latency_is_brought_to_a_reference_and_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr("lola.profiling.timing._times", lambda *_: FALLING)
    given = workload(tmp_path, "gpt2")
    measured = measure(given, threads=1, monotone="isotonic", limit_s=0.01)
    scaled, estimated = bring_to_reference(measured, given), estimate(given)
    factor = scaled.provenance.latency_factor
    np.testing.assert_allclose(scaled.latency_s, measured.latency_s * factor)
    np.testing.assert_allclose(scaled.evidence.latency_iqr_s, measured.evidence.latency_iqr_s * factor)
    assert scaled.latency_s.sum() == pytest.approx(estimated.latency_s.sum())
    note = f"× {factor:.4g} for snapdragon-8-gen-3; made to rise by isotonic regression"
    assert scaled.provenance.latency_note == note
    with pytest.raises(ValueError, match="latency can be scaled once"):
        bring_to_reference(scaled, given)
    with pytest.raises(ProfilingError, match="the profile has 3 blocks, .* has 4"):
        bring_to_reference(measured, workload(tmp_path, "roberta"))


def test_the_reference_says_where_its_rate_comes_from():
    device = REFERENCES["snapdragon-8-gen-3"]
    assert device.flops_per_s == pytest.approx(2 * 6.2e9 * 121, rel=0.01)
    assert "arXiv:2403.20041" in device.source
    assert device.uncertainty > 1


def test_a_large_model_is_estimated_without_its_memory(tmp_path):
    profile = estimate(Workload("tinyllama-1.1b", batch_size=1, sequence_length=16, dtype="bf16"))
    assert profile.n_blocks == 22
    assert profile.memory_bytes[0] > 2 * 1.1e9
    assert profile.provenance.source == "estimated"
    assert "uncertain by a factor of 2" in profile.provenance.hardware


def test_bad_estimates_are_refused(tmp_path):
    with pytest.raises(ValueError, match="reference must be one of snapdragon-8-gen-3; got 'phone'"):
        estimate(workload(tmp_path, "bert"), reference="phone")
    with pytest.raises(ValueError, match="allocator must be one of cpu, cuda; got 'tpu'"):
        estimate(workload(tmp_path, "bert"), allocator="tpu")


def test_a_model_that_asks_for_values_is_refused(tmp_path, monkeypatch):
    from torch._subclasses.fake_tensor import DataDependentOutputException

    def ask(*_):
        raise DataDependentOutputException("aten._local_scalar_dense.default")

    monkeypatch.setattr("lola.profiling.estimation.count_tensors", ask)
    with pytest.raises(ProfilingError, match="BertForSequenceClassification cannot run on tensors without data: "):
        estimate(workload(tmp_path, "bert"))
