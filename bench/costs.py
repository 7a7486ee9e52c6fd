"""What a depth costs: what several scripts measure, and read off a profile, alike."""

from lola.profiling import Workload


def frozen_roberta(dtype="float32", sequence_length=128):
    """RoBERTa-base as the paper trains it, which uploads adapters alone: its head is frozen."""
    return Workload("roberta-base", batch_size=32, sequence_length=sequence_length, dtype=dtype, head="frozen")


def alone_parts(needs):
    """Bytes that one device alone needs, by what for."""
    return {
        "weights": needs.weight_bytes,
        "activations and gradients": needs.activation_bytes,
        "Adam's moments": needs.moment_bytes,
    }


def as_measured(profile):
    """Median seconds before any regression, (L,)."""
    return profile.latency_s if profile.evidence.raw_latency_s is None else profile.evidence.raw_latency_s
