"""Measurements on the CPU: what is recorded, and what stops them."""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
import torch
from tiny_models import FALLING, save_config

import lola
from lola.cli.main import main
from lola.models.depths import Depths
from lola.profiling import NotMonotoneError, ProfilingError, Workload, attach_lora, estimate, measure, timing
from lola.profiling.building import build
from lola.profiling.memory import count_saved, track_peak, weight_bytes
from lola.profiling.timing import Effort


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
    monkeypatch.setattr("lola.profiling.timing._times", lambda *_: FALLING)
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


def test_a_fall_that_noise_explains_ends_in_a_profile(tmp_path, monkeypatch):
    noisy = [[3.0, 3.3, 2.9], [2.95, 3.4, 2.8], [4.0, 4.2, 3.9], [4.1, 4.5, 4.0]]
    monkeypatch.setattr("lola.profiling.timing._times", lambda *_: noisy)
    profile = measure(quick(tmp_path), threads=1)
    np.testing.assert_allclose(profile.latency_s, [2.975, 2.975, 4.0])
    np.testing.assert_array_equal(profile.evidence.raw_latency_s, [3.0, 2.95, 4.0])
    assert profile.provenance.monotone == "isotonic"


def test_four_depths_are_run_and_the_others_lie_between(tmp_path):
    workload = Workload(save_config(tmp_path / "m", "bert", num_hidden_layers=7), batch_size=2, sequence_length=6)
    options = {"threads": 1, "limit_s": 1e-3, "monotone": "isotonic"}
    said = []
    quickly = measure(workload, announce=lambda *seconds: said.append(seconds), **options)
    np.testing.assert_array_equal(quickly.evidence.repeats, [3, 0, 3, 0, 3, 0, 3])  # three, though the time is over
    assert quickly.provenance.note == "measured at depths 1, 3, 5, 7, elsewhere the line between them"
    assert len(said) == 1
    assert 0 < said[0][0] <= said[0][1]
    exactly = measure(workload, exact=True, repeats=4, **options)
    assert (exactly.evidence.repeats >= 4).all()
    assert exactly.provenance.note == ""
    run = [0, 2, 4, 6]
    np.testing.assert_array_equal(quickly.memory_bytes[run], exactly.memory_bytes[run])
    np.testing.assert_allclose(quickly.memory_bytes, exactly.memory_bytes, rtol=0.01)
    for between in (1, 3, 5):
        for values in (quickly.latency_s, quickly.evidence.peak_bytes):
            assert values[between] == pytest.approx((values[between - 1] + values[between + 1]) / 2)


def test_how_long_it_takes_is_foreseen():
    """Memory is one pass; then as many as are wanted, fewer where time is short, and one that ends after the limit."""
    assert Effort(least=5, fewest=3, limit_s=60.0).expected_s(1.0) == (6.0, 62.0)
    assert Effort(least=5, fewest=3, limit_s=60.0).expected_s(15.0) == (75.0, 90.0)
    assert Effort(least=5, fewest=3, limit_s=60.0).expected_s(40.0) == (160.0, 200.0)


def test_repeats_end_with_the_limit(tmp_path, monkeypatch):
    """A median that stays unknown is repeated until then, and no selection less often than the fewest."""
    noise, runs = cycle([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]), []
    monkeypatch.setattr("lola.profiling.timing._time_on_cpu", lambda *_: runs.append(1) or next(noise))
    monkeypatch.setattr("lola.profiling.timing.time.monotonic", lambda: len(runs))  # each takes a second
    depths = attach_lora(build(quick(tmp_path), "cpu")[0])
    selections, reports = [range(1, 2), range(2, 3), range(1, 3)], []

    def timed(effort):
        runs.clear()
        return timing._times(depths, selections, {}, "cpu", effort, lambda *call: reports.append(call))

    times = timed(Effort(least=2, fewest=2, limit_s=18.5))
    assert sorted(map(len, times)) == [6, 6, 7]  # in the middle of a round, too
    assert reports[:7] == [("latency", done, 6) for done in range(6)] + [("repeating what is noisy", 6, 18)]
    assert [len(series) for series in timed(Effort(least=5, fewest=3, limit_s=2.5))] == [3, 3, 3]


def test_the_guard_stands_outside_the_clock(tmp_path, monkeypatch):
    """It watches each selection before any is timed, so that what it costs is no latency."""
    watched, guard = [], Depths.guard

    def watch(self, depths):
        watched.append(depths)
        return guard(self, depths)

    monkeypatch.setattr(Depths, "guard", watch)
    measure(quick(tmp_path), threads=1, repeats=2, limit_s=0.01, monotone="isotonic")
    assert sorted(watched, key=str) == [range(1, 2), range(1, 4), range(2, 3), range(3, 4)]


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

    def fail_at_two(self, depths):
        select(self, depths)
        if depths == range(2, 3):
            raise error

    monkeypatch.setattr(Depths, "select", fail_at_two)
    with pytest.raises(ProfilingError, match="out of memory at depth 2 of 3: .*take a smaller batch"):
        measure(quick(tmp_path), threads=1)


def test_another_error_stays_itself(tmp_path, monkeypatch):
    select = Depths.select

    def fail(self, depths):
        select(self, depths)
        if depths == range(3, 4):
            raise RuntimeError("something else")

    monkeypatch.setattr(Depths, "select", fail)
    with pytest.raises(RuntimeError, match="something else"):
        measure(quick(tmp_path), threads=1)


def test_bad_measurements_are_refused(tmp_path):
    for wrong in ("tpu", "gpu"):
        message = rf"device must be cpu or cuda \(a GPU\), got '{wrong}'; or estimate, which .* --device estimate"
        with pytest.raises(ValueError, match=message):
            measure(quick(tmp_path), device=wrong)
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        measure(quick(tmp_path), repeats=0)
    with pytest.raises(ValueError, match="limit_s must be finite and > 0"):
        measure(quick(tmp_path), limit_s=0)
    if not torch.cuda.is_available():
        with pytest.raises(ProfilingError, match="no CUDA device is to be had; measure on the cpu, or estimate"):
            measure(quick(tmp_path), device="cuda")


def test_a_child_that_fails_says_why_before_anything_is_measured(tmp_path):
    stages = []
    with pytest.raises(ProfilingError, match=r"the child process that checks the memory failed: .*nobody/nothing"):
        measure(
            Workload("nobody/nothing"), threads=1, check_process=True, progress=lambda stage, *_: stages.append(stage)
        )
    assert stages == ["child process"]


def test_a_peak_well_above_what_memory_counts_is_said(tmp_path, capsys):
    """Logits of a large vocabulary are held more than once, but saved once; an estimate counts the peak."""
    folder = save_config(tmp_path / "llama", "llama", vocab_size=4000, num_hidden_layers=4)
    workload = Workload(folder, batch_size=4, sequence_length=12)
    options = ["--batch", "4", "--seq", "12", "--threads", "1", "--limit-s", "0.01", "--monotone", "isotonic"]
    assert main(["profile", "--model", folder, *options, "--out", str(tmp_path / "p.json")]) == 0
    said = capsys.readouterr().out
    measured, estimated = lola.load_profile(tmp_path / "p.json"), estimate(workload)
    times = (estimated.memory_bytes / measured.memory_bytes).max()
    assert times > 1.5
    assert f"is up to {times:.3g} times as much (depth " in measured.memory_note
    assert f"a headroom of {1 - 1 / times:.2f} leaves room for it" in measured.memory_note
    assert measured.provenance.note == measured.memory_note
    assert f"needs: weights and saved tensors\nnote: {measured.memory_note}\n" in said
    assert estimated.memory_note == ""  # whose memory is the peak


def test_from_python_it_says_what_it_is_asked_to(tmp_path, capsys):
    measure(quick(tmp_path), limit_s=0.01, monotone="isotonic")
    assert capsys.readouterr().out == ""
    measure(quick(tmp_path), limit_s=0.01, monotone="isotonic", announce=print, progress=print)
    said = capsys.readouterr().out.splitlines()
    assert "memory 0 4" in said
    (announced,) = (line for line in said if not line[0].isalpha())
    expected, most = map(float, announced.split())
    assert 0 < expected <= most


def test_no_word_of_a_peak_that_is_little_more(tmp_path):
    profile = measure(quick(tmp_path), limit_s=0.01, monotone="isotonic")
    of = replace(profile.evidence, peak_bytes=profile.evidence.saved_bytes + 0.2 * profile.memory_bytes)
    assert replace(profile, evidence=of).memory_note == ""
    of = replace(profile.evidence, peak_bytes=profile.evidence.saved_bytes + 0.3 * profile.memory_bytes)
    assert "is up to 1.3 times as much" in replace(profile, evidence=of).memory_note
    assert replace(profile, evidence=None).memory_note == ""
