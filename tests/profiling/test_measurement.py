"""Measurements on the CPU: what is recorded, and what stops them."""

import numpy as np
import pytest
import torch
from tiny_models import FALLING, save_config

import lola
from lola.cli.main import main
from lola.models.depths import Depths
from lola.profiling import NotMonotoneError, ProfilingError, Workload, measure
from lola.profiling.memory import count_saved, track_peak, weight_bytes


def quick(tmp_path, **changes):
    given = {"batch_size": 2, "sequence_length": 6, "lora_rank": 2}
    return Workload(save_config(tmp_path / "m", "bert"), **(given | changes))


def test_a_measurement_records_how_it_was_made(tmp_path):
    stages = []
    profile = measure(
        quick(tmp_path, seed=5),
        threads=1,
        repeats=6,
        limit_s=0.01,
        monotone="isotonic",
        check_process=True,
        progress=lambda *call: stages.append(call),
    )
    known = profile.provenance
    assert (known.source, known.batch_size, known.sequence_length, known.dtype) == ("measured", 2, 6, "float32")
    assert (known.attention, known.mode, known.seed, known.threads, known.lora_rank) == ("eager", "train", 5, 1, 2)
    assert known.lora_targets == ("query", "value")
    assert (known.weights, known.head) == ("random", "trained")
    assert f"torch {torch.__version__.split('+')[0]}" in known.software
    assert known.hardware.endswith(", 1 thread")
    evidence = profile.evidence
    assert (evidence.repeats >= 6).all()
    assert (evidence.latency_iqr_s >= 0).all()
    assert (known.monotone == "isotonic") == (evidence.raw_latency_s is not None)
    assert (evidence.saved_bytes < evidence.peak_bytes).all()
    assert (evidence.process_peak_bytes > 0).all()
    np.testing.assert_allclose(np.diff(evidence.saved_bytes[1:]), evidence.saved_bytes[2] - evidence.saved_bytes[1])
    assert {stage for stage, _, _ in stages} == {"memory", "latency", "child process"}
    assert torch.get_num_threads() >= 1


def test_a_fall_is_refused_and_what_was_measured_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lola.profiling.measurement._times", lambda *_: FALLING)
    with pytest.raises(NotMonotoneError, match="falls from 3 s at depth 1 to 2 s at depth 2") as refused:
        measure(quick(tmp_path), threads=1)
    kept = refused.value.profile
    np.testing.assert_array_equal(kept.latency_s, [2.5, 2.5, 4.0])
    np.testing.assert_array_equal(kept.evidence.raw_latency_s, [3.0, 2.0, 4.0])
    assert kept.provenance.monotone == "isotonic"
    out = tmp_path / "p.json"
    assert main(["profile", "--model", quick(tmp_path).model, "--batch", "2", "--seq", "6", "--out", str(out)]) == 64
    assert f"What was measured is kept in {tmp_path / 'p.isotonic.json'}" in capsys.readouterr().err
    assert not out.exists()
    np.testing.assert_array_equal(lola.load_profile(tmp_path / "p.isotonic.json").latency_s, [2.5, 2.5, 4.0])


def test_half_precision_takes_less(tmp_path):
    options = {"threads": 1, "limit_s": 0.01, "monotone": "isotonic"}
    whole, half = (measure(quick(tmp_path, dtype=dtype), **options) for dtype in ("fp32", "bf16"))
    assert (half.memory_bytes < whole.memory_bytes).all()
    assert half.provenance.dtype == "bfloat16"


def test_saved_tensors_are_counted_once_and_without_weights():
    layer = torch.nn.Linear(4, 4, bias=False)
    x = torch.randn(3, 4, requires_grad=True)
    with count_saved(layer) as saved:
        y = layer(x)
        z = (y * y).sum() + (y.view(-1) * 2).exp().sum()
    assert saved.bytes == (12 + 12 + 12) * 4  # x, y (twice, once as a view), and the exponential
    z.backward()
    assert weight_bytes(layer) == 64


def test_the_peak_is_of_live_tensors():
    with track_peak() as peak:
        a = torch.ones(100)
        b = a + 1
        del a
        c = b * 2
        assert peak.bytes == 800
        del b
    assert peak.peak_bytes == 800
    assert peak.bytes == 400
    del c
    with track_peak(512) as peak:
        torch.ones(1)
    assert peak.peak_bytes == 512


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_names_the_depth(tmp_path, monkeypatch, error):
    select = Depths.select

    def fail_at_two(self, depth):
        select(self, depth)
        if depth == 2:
            raise error

    monkeypatch.setattr(Depths, "select", fail_at_two)
    with pytest.raises(ProfilingError, match="out of memory at depth 2 of 3: .*take a smaller batch"):
        measure(quick(tmp_path), threads=1)


def test_another_error_stays_itself(tmp_path, monkeypatch):
    def fail(self, depth):
        if depth == 3:
            raise RuntimeError("something else")

    monkeypatch.setattr(Depths, "select", fail)
    with pytest.raises(RuntimeError, match="something else"):
        measure(quick(tmp_path), threads=1)


def test_bad_measurements_are_refused(tmp_path):
    with pytest.raises(ValueError, match="device must be one of cpu, cuda; got 'tpu'"):
        measure(quick(tmp_path), device="tpu")
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        measure(quick(tmp_path), repeats=0)
    with pytest.raises(ValueError, match="limit_s must be finite and > 0"):
        measure(quick(tmp_path), limit_s=0)
    if not torch.cuda.is_available():
        with pytest.raises(ProfilingError, match="no CUDA device is to be had; measure on the cpu, or estimate"):
            measure(quick(tmp_path), device="cuda")


def test_a_child_that_fails_says_why(tmp_path):
    from lola.profiling.process_peak import process_peaks

    with pytest.raises(ProfilingError, match=r"the child process that checks the memory failed: .*nobody/nothing"):
        process_peaks(Workload("nobody/nothing"), 1, 1)
