"""Whether a profile can be trusted: does it rise, is it a line, and does it predict what was left out."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

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
        In bytes and in seconds.
    falls : tuple of str
        A sentence for every step at which a measured median fell by more than the spread of its two depths.
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
    return Judgement(
        memory=fit_line(profile.memory_bytes),
        latency=fit_line(raw),
        falls=tuple(text for text, beyond in _falls(raw, evidence.latency_iqr_s) if beyond),
        noisy=_noisy(raw, evidence),
    )


def uncertainty(median: ArrayLike, iqr: ArrayLike, repeats: ArrayLike) -> FloatArray:
    """Return half a 95 % interval about a median, relative to it (McGill, Tukey and Larsen 1978)."""
    half = _NOTCH * np.asarray(iqr, float) / np.sqrt(np.asarray(repeats, float))
    return np.asarray(half / np.asarray(median, float))


def _noisy(latency: FloatArray, evidence: Evidence) -> tuple[int, ...]:
    if evidence.latency_iqr_s is None or evidence.repeats is None:
        return ()
    half = uncertainty(latency, evidence.latency_iqr_s, evidence.repeats)
    return tuple(int(depth) for depth in np.flatnonzero(half > PRECISION) + 1)


def fit_line(values: FloatArray) -> Line:
    """Fit (L,) values over depths 1…L by a + c·l."""
    depth = np.arange(1.0, values.shape[0] + 1)
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


def _falls(latency: FloatArray, spread: FloatArray | None) -> list[tuple[str, bool]]:
    """Say where the latency falls, and whether by more than the spread of the two depths together."""
    falls = []
    for i in np.flatnonzero(np.diff(latency) < 0).tolist():
        fall = float(latency[i] - latency[i + 1])
        noise = 0.0 if spread is None else float(max(spread[i], spread[i + 1]))
        text = (
            f"latency falls from {latency[i]:.4g} s at depth {i + 1} to {latency[i + 1]:.4g} s at depth {i + 2}, by "
            f"{fall:.2g} s where the spread is {noise:.2g} s"
        )
        falls.append((text, fall > noise))
    return falls


def rising(latency: FloatArray, evidence: Evidence, monotone: str | None) -> tuple[FloatArray, Evidence]:
    """Return a latency that does not fall: as measured, or by isotonic regression where that was asked for.

    Parameters
    ----------
    latency : (L,) float64 array
        Medians in seconds.
    evidence : Evidence
    monotone : {None, "isotonic"}

    Returns
    -------
    latency : (L,) float64 array
    evidence : Evidence
        With the medians kept, if they were changed.

    Raises
    ------
    NotMonotoneError
        If the latency falls and nothing was asked for.
    ImportError
        If scipy is missing.
    """
    falls = _falls(latency, evidence.latency_iqr_s)
    if not falls:
        return latency, evidence
    if monotone == "isotonic":
        try:
            from scipy.optimize import isotonic_regression
        except ImportError:
            raise ImportError("isotonic regression needs scipy: install lola-deft with its extra 'torch'") from None
        return isotonic_regression(latency).x, replace(evidence, raw_latency_s=latency)
    text, beyond = max(falls, key=lambda fall: fall[1])
    raise NotMonotoneError(
        f"{text}: {'more' if beyond else 'no more'} than noise explains. A profile must rise: measure with more "
        "repeats on a quiet machine, or ask for isotonic regression, which is recorded in the profile"
    )


def check_monotone(monotone: str | None) -> None:
    """Refuse what `rising` does not know, before anything is measured.

    Raises
    ------
    ValueError
        If it is neither None nor ``"isotonic"``.
    """
    if monotone not in (None, "isotonic"):
        raise LolaValueError(f"monotone must be None or 'isotonic', got {monotone!r}")
