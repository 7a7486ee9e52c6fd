"""Whether a profile can be trusted: does it rise, is it a line, and does it predict what was left out."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lola.evidence import Evidence
from lola.profile import Profile
from lola.profiling.workload import NotMonotoneError
from lola.solvers.checks import FloatArray
from lola.solvers.errors import LolaValueError

PRECISION = 0.03  # a median counts as known once half its interval is this narrow, relative to it
_NOTCH = 1.57


@dataclass(frozen=True)
class Line:
    """A fit a + c·l by least squares.

    Attributes
    ----------
    intercept, slope : float
        a and c, in the unit of what was fitted.
    r_squared : float
        1 for a perfect line; 1 as well where nothing varies.
    residual : float
        Largest absolute difference to the line, in the same unit.
    left_out_error : float
        Largest relative error of predicting a depth from a line through all others; nan with fewer than four depths.
    """

    intercept: float
    slope: float
    r_squared: float
    residual: float
    left_out_error: float

    def at(self, depth: FloatArray) -> FloatArray:
        """Return the line's values."""
        return self.intercept + self.slope * depth


@dataclass(frozen=True)
class Judgement:
    """What `judge` found.

    Attributes
    ----------
    memory, latency : Line
        In bytes and in seconds, through the depths that were run.
    falls : tuple of str
        A sentence for every depth from which the measured medians fall by more than noise explains, as `rising` has it.
    noisy : tuple of int
        Depths whose median is not known to 3 %.
    """

    memory: Line
    latency: Line
    falls: tuple[str, ...]
    noisy: tuple[int, ...]


def judge(profile: Profile) -> Judgement:
    """Fit memory and latency by lines, and look for falls of the measured medians.

    Parameters
    ----------
    profile : Profile

    Returns
    -------
    Judgement
    """
    evidence = profile.evidence or Evidence()
    raw = profile.latency_s if evidence.raw_latency_s is None else evidence.raw_latency_s
    at = np.arange(1, profile.n_blocks + 1) if evidence.measured is None else evidence.measured
    return Judgement(
        memory=fit_line(profile.memory_bytes[at - 1], at),
        latency=fit_line(raw[at - 1], at),
        falls=tuple(fall.text for fall in _falls(raw[at - 1], evidence, at)),
        noisy=_noisy(raw, evidence),
    )


def uncertainty(median: ArrayLike, iqr: ArrayLike, repeats: ArrayLike) -> FloatArray:
    """Return half a 95 % interval about a median, relative to it (McGill, Tukey and Larsen 1978)."""
    half = _NOTCH * np.asarray(iqr, float) / np.sqrt(np.asarray(repeats, float))
    return np.asarray(half / np.asarray(median, float))


def _noisy(latency: FloatArray, evidence: Evidence) -> tuple[int, ...]:
    if evidence.latency_iqr_s is None or evidence.repeats is None:
        return ()
    half = uncertainty(latency, evidence.latency_iqr_s, np.maximum(evidence.repeats, 1))
    return tuple(int(depth) for depth in np.flatnonzero(half > PRECISION) + 1)


def fit_line(values: FloatArray, depth: ArrayLike | None = None) -> Line:
    """Fit (n,) values over depths, 1…n if left out, by a + c·l."""
    depth = np.asarray(np.arange(1, values.shape[0] + 1) if depth is None else depth, float)
    intercept, slope = _line(depth, values)
    difference = values - (intercept + slope * depth)
    variation = float(np.sum((values - values.mean()) ** 2))
    r_squared = 1.0 if variation == 0 else 1.0 - float(np.sum(difference**2)) / variation
    errors = [np.nan]
    if values.shape[0] >= 4:
        errors = []
        for i in range(values.shape[0]):
            a, c = _line(np.delete(depth, i), np.delete(values, i))
            errors.append(abs(a + c * depth[i] - values[i]) / max(abs(values[i]), np.finfo(float).tiny))
    return Line(intercept, slope, r_squared, float(np.abs(difference).max()), float(np.max(errors)))


def _line(depth: FloatArray, values: FloatArray) -> tuple[float, float]:
    if depth.shape[0] == 1:
        return float(values[0]), 0.0
    slope, intercept = np.polyfit(depth, values, 1)
    return float(intercept), float(slope)


@dataclass(frozen=True)
class _Fall:
    """A latency that falls from one depth to a later one by more than the two medians' noise."""

    text: str
    excess_s: float


def _falls(medians: FloatArray, evidence: Evidence, at: NDArray[np.intp]) -> list[_Fall]:
    """Find, for each depth, the fall from it that exceeds the noise the most, if one does."""
    noise = _noise(medians, evidence, at)
    fall = np.subtract.outer(medians, medians)
    explained = np.add.outer(noise, noise)
    excess = np.where(np.tri(medians.shape[0], dtype=bool), -np.inf, fall - explained)
    return [
        _Fall(
            f"latency falls from {medians[i]:.4g} s at depth {at[i]} to {medians[j]:.4g} s at depth {at[j]}, by "
            f"{fall[i, j]:.2g} s: more than noise explains, {explained[i, j]:.2g} s",
            float(excess[i, j]),
        )
        for i, j in enumerate(excess.argmax(axis=1).tolist())
        if excess[i, j] > 0
    ]


def rising(latency: FloatArray, evidence: Evidence, monotone: str | None) -> tuple[FloatArray, Evidence]:
    """Return a latency that does not fall: as measured, or by isotonic regression where noise explains the falls.

    Parameters
    ----------
    latency : (L,) float64 array
        Medians in seconds, and the line between them at depths that were not run.
    evidence : Evidence
    monotone : {None, "isotonic"}
        ``"isotonic"`` regresses whatever the noise.

    Returns
    -------
    latency : (L,) float64 array
    evidence : Evidence
        With the medians kept, if they were changed.

    Raises
    ------
    NotMonotoneError
        If a median falls by more than noise explains, and regression was not asked for.
    ImportError
        If scipy is missing.

    Notes
    -----
    A median's noise is twice half its 95 % interval, and no less than what is usual in this measurement: of a dozen
    depths one may look quiet by chance. Noise explains a fall from one depth to a later one that is no larger than the
    noise of both together.
    """
    depth = np.arange(1, latency.shape[0] + 1)
    at = depth if evidence.measured is None else evidence.measured
    medians = latency[at - 1]
    fitted = isotonic(medians)
    if (fitted == medians).all():
        return latency, evidence
    falls = _falls(medians, evidence, at)
    if falls and monotone != "isotonic":
        raise NotMonotoneError(
            f"{max(falls, key=lambda fall: fall.excess_s).text}. A profile must rise: measure again when the machine "
            "is idle or with more repeats, or accept isotonic regression, which the profile records (monotone: "
            "isotonic)"
        )
    return np.interp(depth, at, fitted), replace(evidence, raw_latency_s=latency)


def _noise(medians: FloatArray, evidence: Evidence, at: NDArray[np.intp]) -> FloatArray:
    if evidence.latency_iqr_s is None or evidence.repeats is None:
        return np.zeros_like(medians)
    half = uncertainty(medians, evidence.latency_iqr_s[at - 1], evidence.repeats[at - 1])
    return np.asarray(2 * medians * np.maximum(half, np.median(half)))


def isotonic(values: FloatArray) -> FloatArray:
    """Return the values made to rise by least squares; as they are where none falls.

    Raises
    ------
    ImportError
        If one falls and scipy is missing.
    """
    if (np.diff(values) >= 0).all():
        return values
    try:
        from scipy.optimize import isotonic_regression
    except ImportError:
        raise ImportError("isotonic regression needs scipy: install lola-deft with its extra 'torch'") from None
    return np.asarray(isotonic_regression(values).x)


def check_monotone(monotone: str | None) -> None:
    """Refuse what `rising` does not know, before anything is measured.

    Raises
    ------
    ValueError
        If it is neither None nor ``"isotonic"``.
    """
    if monotone not in (None, "isotonic"):
        raise LolaValueError(f"monotone must be None or 'isotonic', got {monotone!r}")
