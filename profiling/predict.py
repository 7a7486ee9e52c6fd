"""A profile at another batch or sequence length, from a small grid of profiles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lola.profile import Profile, Provenance
from lola.profiling.workload import ProfilingError
from lola.solvers.checks import FloatArray, positive_integer

# Everything that makes two profiles comparable; batch and sequence length may differ.
_SHARED = (
    "model",
    "dtype",
    "source",
    "hardware",
    "attention",
    "mode",
    "head",
    "lora_rank",
    "lora_targets",
    "reference",
)


@dataclass(frozen=True, eq=False)
class Grid:
    """Memory and latency as functions of depth, batch and sequence length. Made by `Grid.fit`.

    Attributes
    ----------
    memory, latency : (P,) float64 array
        Coefficients of the features below.
    upload_bits : (L,) float64 array
    provenance : Provenance
        Of the first profile.
    n_profiles : int
    left_out_error : tuple of float
        Largest relative error, of memory and of latency, at the profiles that were each left out of the fit in turn;
        nan where too few would be left.

    Notes
    -----
    With B examples of s tokens, what a block saves and does grows with B·s, and in attention with B·s². The features
    are 1, and B·s and B·s² alone (the full forward pass) and times the depth (the blocks of backward).
    """

    memory: FloatArray
    latency: FloatArray
    upload_bits: FloatArray
    provenance: Provenance
    n_profiles: int
    left_out_error: tuple[float, float]

    @classmethod
    def fit(cls, profiles: Sequence[Profile]) -> "Grid":
        """Fit a grid by least squares on relative errors.

        Parameters
        ----------
        profiles : sequence of Profile
            At least two batch sizes, or lengths, of one model on one device.

        Raises
        ------
        ProfilingError
            If the profiles are too few, or of different models or devices.
        """
        provenances = [profile.provenance for profile in profiles]
        known = [provenance for provenance in provenances if provenance is not None]
        if len({(p.batch_size, p.sequence_length) for p in known}) < 2 or len(known) < len(profiles):
            raise ProfilingError(
                "a grid needs profiles, with provenance, at two or more batch sizes or sequence lengths; measure more"
            )
        for name in _SHARED:
            if len({getattr(provenance, name) for provenance in known}) > 1:
                raise ProfilingError(f"the profiles of a grid differ in {name}; measure them all alike")
        if len({profile.n_blocks for profile in profiles}) > 1:
            raise ProfilingError("the profiles of a grid differ in the number of blocks; measure them all alike")
        errors = [(np.nan, np.nan)]
        if len(profiles) > 2:
            errors = [
                _errors(*_coefficients([*profiles[:i], *profiles[i + 1 :]]), profiles[i]) for i in range(len(profiles))
            ]
        memory, latency = _coefficients(profiles)
        worst = (max(pair[0] for pair in errors), max(pair[1] for pair in errors))
        return cls(memory, latency, profiles[0].upload_bits, known[0], len(profiles), worst)

    def predict(self, batch_size: int, sequence_length: int) -> Profile:
        """Predict the profile at another batch size or sequence length; its provenance says that it is an estimate.

        Raises
        ------
        ProfilingError
            If the fit gives no rising, non-negative profile there.
        """
        batch = positive_integer("batch_size", batch_size)
        length = positive_integer("sequence_length", sequence_length)
        features = _features(batch, length, self.upload_bits.shape[0])
        provenance = replace(
            self.provenance,
            batch_size=batch,
            sequence_length=length,
            source="estimated",
            note=f"predicted from {self.n_profiles} profiles, themselves {self.provenance.source}",
        )
        try:
            return Profile(
                memory_bytes=features @ self.memory,
                latency_s=features @ self.latency,
                upload_bits=self.upload_bits,
                provenance=provenance,
            )
        except ValueError as error:
            raise ProfilingError(f"no sensible prediction at batch {batch}, sequence {length}: {error}") from None

    def errors(self, profile: Profile) -> tuple[float, float]:
        """Return the largest relative errors of memory and of latency against a profile."""
        return _errors(self.memory, self.latency, profile)


def _features(batch: int, length: int, n_blocks: int) -> FloatArray:
    depth = np.arange(1.0, n_blocks + 1)
    linear, square = float(batch * length), float(batch * length**2)
    ones = np.ones(n_blocks)
    return np.stack([ones, linear * ones, square * ones, linear * depth, square * depth], axis=1)


def _shape(profile: Profile) -> tuple[int, int]:
    assert profile.provenance is not None
    return profile.provenance.batch_size, profile.provenance.sequence_length


def _coefficients(profiles: Sequence[Profile]) -> tuple[FloatArray, FloatArray]:
    """Solve for both; dividing by the values makes the errors relative, by the columns' norms keeps it well posed."""
    features = np.concatenate([_features(*_shape(profile), profile.n_blocks) for profile in profiles])
    coefficients = []
    for field in ("memory_bytes", "latency_s"):
        values = np.concatenate([getattr(profile, field) for profile in profiles])
        rows = features / values[:, None]
        norms = np.linalg.norm(rows, axis=0)
        coefficients.append(np.linalg.lstsq(rows / norms, np.ones_like(values), rcond=1e-10)[0] / norms)
    return coefficients[0], coefficients[1]


def _errors(memory: FloatArray, latency: FloatArray, profile: Profile) -> tuple[float, float]:
    features = _features(*_shape(profile), profile.n_blocks)
    return (
        float(np.max(np.abs(features @ memory / profile.memory_bytes - 1))),
        float(np.max(np.abs(features @ latency / profile.latency_s - 1))),
    )
