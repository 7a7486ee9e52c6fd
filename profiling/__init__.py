"""What a depth costs. Needs no numba."""

from lola.profiling.architecture import Encoder, estimate

__all__ = ["Encoder", "estimate"]
