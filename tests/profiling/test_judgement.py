"""Judging profiles: lines, falls, isotonic regression, and prediction from a grid."""

import re

import numpy as np
import pytest

import lola
from lola.profiling import Grid, ProfilingError, judge
from lola.profiling.judgement import check_monotone, fit_line, rising

PROVENANCE = lola.Provenance("toy", 8, 64, "float32", "measured", "bench")


def test_a_line_is_found_and_predicts():
    line = fit_line(2.0 + 3.0 * np.arange(1.0, 6.0))
    assert (line.intercept, line.slope, line.r_squared) == pytest.approx((2.0, 3.0, 1.0))
    assert line.residual == pytest.approx(0.0, abs=1e-12)
    assert line.left_out_error == pytest.approx(0.0, abs=1e-12)
    bent = fit_line(np.array([1.0, 2.0, 3.0, 4.0, 6.0]))
    assert bent.r_squared < 0.99
    assert bent.left_out_error == pytest.approx(0.5)  # the first, from the last four
    assert np.isnan(fit_line(np.array([1.0, 2.0, 3.0])).left_out_error)
    assert fit_line(np.array([5.0])).slope == 0.0
    assert fit_line(np.array([5.0, 5.0])).r_squared == 1.0


def spread(iqr, repeats=30):
    return lola.Evidence(latency_iqr_s=[iqr] * 4, repeats=[repeats] * 4)


def test_falls_are_reported_against_the_spread():
    latency = np.array([1.0, 2.0, 1.5, 1.4])
    message = (
        r"falls from 2 s at depth 2 to 1.4 s at depth 4, by 0.6 s: more than noise explains, 0.27 s.*measure again"
    )
    with pytest.raises(ProfilingError, match=message):
        rising(latency, spread(0.2), None)
    with pytest.raises(ProfilingError, match="more than noise explains, 0 s"):
        rising(latency, lola.Evidence(), None)  # of unknown noise
    mended, evidence = rising(latency, spread(0.2), "isotonic")
    np.testing.assert_allclose(mended, [1.0, 4.9 / 3, 4.9 / 3, 4.9 / 3])
    np.testing.assert_array_equal(evidence.raw_latency_s, latency)
    verdict = judge(
        lola.Profile(
            memory_bytes=[1.0, 2.0, 3.0, 4.0],
            latency_s=mended,
            upload_bits=1.0,
            provenance=PROVENANCE,
            evidence=evidence,
        )
    )
    assert len(verdict.falls) == 1
    assert "falls from 2 s at depth 2" in verdict.falls[0]
    for monotone in (None, "isotonic"):  # where nothing falls, nothing is done and nothing recorded
        unchanged, same = rising(np.array([1.0, 1.0, 2.0]), lola.Evidence(), monotone)
        np.testing.assert_array_equal(unchanged, [1.0, 1.0, 2.0])
        assert same.raw_latency_s is None
    with pytest.raises(ValueError, match="monotone must be None or 'isotonic', got 'smooth'"):
        check_monotone("smooth")


def test_a_fall_that_noise_explains_is_made_to_rise_and_kept():
    latency = np.array([1.0, 2.0, 1.5, 1.4])
    mended, evidence = rising(latency, spread(1.0), None)
    np.testing.assert_allclose(mended, [1.0, 4.9 / 3, 4.9 / 3, 4.9 / 3])
    np.testing.assert_array_equal(evidence.raw_latency_s, latency)
    with pytest.raises(ProfilingError, match="more than noise explains"):
        rising(latency, spread(1.0, repeats=300), None)  # the more runs, the better a median is known
    quiet_by_chance = lola.Evidence(latency_iqr_s=[0.1, 0.1, 0.1, 0.0], repeats=[5] * 4)
    mended, _ = rising(np.array([1.0, 2.0, 3.0, 2.9]), quiet_by_chance, None)
    np.testing.assert_allclose(mended, [1.0, 2.0, 2.95, 2.95])


@pytest.mark.parametrize(
    ("medians", "iqr", "explained"),
    [
        ([8.0, 10.0, 9.0, 12.0], [0.1, 0.1, 1.0, 0.1], True),  # of a noisy depth, though regression moves the quiet one
        ([8.0, 10.0, 9.86, 12.0], [0.12] * 4, True),  # more than the spread, less than a median of three is known to
        ([8.0, 10.0, 9.0, 12.0], [0.1] * 4, False),
        ([10.0, 9.95, 9.0, 12.0], [1.0, 0.01, 0.01, 0.01], False),  # not from the highest, whose noise explains it
    ],
)
def test_what_noise_explains_is_the_same_to_all(medians, iqr, explained):
    """What is refused is what the judgement of a profile that was made to rise all the same calls a fall."""
    measured = lola.Evidence(latency_iqr_s=iqr, repeats=[3] * 4)
    mended, kept = rising(np.array(medians), measured, "isotonic")
    memory = [1.0, 2.0, 3.0, 4.0]
    falls = judge(lola.Profile(memory_bytes=memory, latency_s=mended, upload_bits=1.0, evidence=kept)).falls
    if explained:
        assert falls == ()
        np.testing.assert_array_equal(rising(np.array(medians), measured, None)[0], mended)
    else:
        with pytest.raises(ProfilingError) as refused:
            rising(np.array(medians), measured, None)
        assert any(str(refused.value).startswith(f"{fall}. A profile must rise") for fall in falls)
        fall, noise = map(float, re.search(r"by (.*) s: more than noise explains, (.*) s$", falls[0]).groups())
        assert fall > noise


def test_depths_that_were_not_run_follow_the_line():
    """Neither what makes a latency rise nor what judges it counts them."""
    evidence = lola.Evidence(latency_iqr_s=[0.5, 0, 0.5, 0, 0.5], repeats=[3, 0, 3, 0, 3])
    mended, kept = rising(np.array([2.0, 1.9, 1.8, 2.4, 3.0]), evidence, None)
    np.testing.assert_allclose(mended, [1.9, 1.9, 1.9, 2.45, 3.0])
    profile = lola.Profile(
        memory_bytes=np.arange(1.0, 6.0), latency_s=mended, upload_bits=1.0, provenance=PROVENANCE, evidence=kept
    )
    verdict = judge(profile)
    assert verdict.noisy == (1, 3, 5)
    assert verdict.falls == ()
    line = fit_line(np.array([2.0, 1.8, 3.0]), [1, 3, 5])
    assert (verdict.latency.slope, verdict.latency.r_squared) == (line.slope, line.r_squared)
    assert line.slope == pytest.approx(0.25)
    assert np.isnan(verdict.latency.left_out_error)


def test_isotonic_regression_without_scipy_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match="isotonic regression needs scipy: install lola-deft with its extra 'torch'"):
        rising(np.array([2.0, 1.0]), lola.Evidence(), "isotonic")


def made(batch, length, **changes):
    depth = np.arange(1.0, 5.0)
    tokens = batch * length
    provenance = lola.Provenance("toy", batch, length, "float32", "measured", changes.pop("hardware", "bench"))
    memory = 1e9 + 1e4 * tokens + depth * (2e4 * tokens + 30 * tokens * length)
    latency = 0.01 + 1e-5 * tokens + depth * (1e-6 * tokens + 1e-9 * tokens * length)
    return lola.Profile(
        memory_bytes=memory[: changes.get("n", 4)],
        latency_s=latency[: changes.get("n", 4)],
        upload_bits=1e5,
        provenance=provenance,
    )


def test_a_grid_predicts_another_batch_and_length():
    grid = Grid.fit([made(b, s) for b, s in ((4, 32), (8, 32), (4, 128), (16, 64))])
    assert max(grid.left_out_error) < 1e-6
    wanted = made(32, 256)
    predicted = grid.predict(32, 256)
    np.testing.assert_allclose(predicted.memory_bytes, wanted.memory_bytes, rtol=1e-6)
    np.testing.assert_allclose(predicted.latency_s, wanted.latency_s, rtol=1e-6)
    assert max(grid.errors(wanted)) < 1e-6
    assert predicted.provenance.source == "estimated"
    assert predicted.provenance.note == "predicted from 4 profiles, themselves measured"
    assert np.isnan(Grid.fit([made(4, 32), made(8, 32)]).left_out_error[0])


def test_grids_of_unlike_profiles_are_refused():
    for profiles, message in (
        ([made(4, 32)], "at two or more batch sizes or sequence lengths"),
        ([made(4, 32), made(4, 32)], "at two or more batch sizes or sequence lengths"),
        ([made(4, 32), made(8, 32, hardware="other")], "the profiles of a grid differ in hardware"),
        ([made(4, 32), made(8, 32, n=3)], "differ in the number of blocks"),
        ([made(4, 32), lola.Profile(memory_bytes=[1.0], latency_s=[1.0], upload_bits=1.0)], "with provenance"),
    ):
        with pytest.raises(ProfilingError, match=message):
            Grid.fit(profiles)
    falling = Grid.fit([made(4, 32), made(8, 32)])
    object.__setattr__(falling, "latency", -falling.latency)
    with pytest.raises(ProfilingError, match="no sensible prediction at batch 4, sequence 32: latency_s"):
        falling.predict(4, 32)


def test_noisy_depths_are_named():
    evidence = lola.Evidence(latency_iqr_s=[0.01, 0.2, 0.02], repeats=[5, 5, 5])
    assert judge(
        lola.Profile(
            memory_bytes=[1.0, 2.0, 3.0],
            latency_s=[1.0, 2.0, 3.0],
            upload_bits=1.0,
            provenance=PROVENANCE,
            evidence=evidence,
        )
    ).noisy == (2,)
    assert judge(lola.Profile(memory_bytes=[1.0, 2.0], latency_s=[1.0, 2.0], upload_bits=1.0)).noisy == ()
