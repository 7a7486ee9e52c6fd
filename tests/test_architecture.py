"""The estimate from a model's shape."""

import numpy as np
import pytest
from lola.profiling import Encoder, estimate

import lola
from lola.files import builtin_scenario


def test_the_tiny_encoder_matches_a_hand_count():
    tiny = Encoder("tiny", n_blocks=2, hidden=4, intermediate=8, heads=2, vocabulary=10, positions=6)
    profile = estimate(tiny, batch_size=3, sequence_length=5, lora_rank=2, dtype="float32", flops_per_s=1.0)
    tokens = 15
    linear, attention = 2 * tokens * (4 * 16 + 2 * 32), 4 * tokens * 5 * 4
    forward = 2 * (linear + attention)
    np.testing.assert_allclose(profile.latency_s, [forward + d * (linear + 2 * attention) for d in (1, 2)])
    weights = 4 * ((10 + 6) * 4 + 2 * (64 + 64))
    saved = tokens * (4 * (24 + 8) + 2 * 5 * 9)
    np.testing.assert_allclose(profile.memory_bytes, [weights + 2 * saved, weights + 3 * saved])
    np.testing.assert_allclose(profile.upload_bits, 32 * 4 * 4 * 2)


def test_roberta_base_has_the_papers_figures():
    profile = estimate()
    assert profile.n_blocks == 12
    assert (profile.upload_bits == 786_432).all()  # 24,576 parameters of 32 bits
    assert 1.5 < profile.latency_s[-1] / profile.latency_s[0] < 2.0  # "nearly twice"
    assert profile.provenance.source == "estimated"


def test_the_shipped_scenario_is_what_its_generators_give():
    problem = builtin_scenario()
    for field in ("memory_bytes", "latency_s", "upload_bits"):
        np.testing.assert_array_equal(getattr(problem.profile, field), getattr(estimate(), field))
    assert problem.profile.provenance == estimate().provenance
    fleet = lola.Fleet.sample(20, seed=0)
    for field in ("speed", "memory_bytes", "spectral_efficiency"):
        np.testing.assert_allclose(getattr(problem.fleet, field), getattr(fleet, field), rtol=1e-15)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"dtype": "int8"}, ValueError, "dtype must be one of float16, bfloat16, float32; got 'int8'"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"sequence_length": 1.5}, TypeError, "sequence_length must be an integer"),
        ({"flops_per_s": -1.0}, ValueError, "flops_per_s must be finite and > 0"),
    ],
)
def test_bad_estimates_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        estimate(**change)
    with pytest.raises(ValueError, match="hidden must be at least 1"):
        Encoder(hidden=0)
