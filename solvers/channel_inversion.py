"""Weighted sums computed by the radio channel: each device undoes its own channel as far as its power goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.checks import (
    FloatArray,
    check_array,
    check_number,
    frozen,
    nonnegative_number,
    real_or_complex,
    require,
    shown,
    vector,
)
from lola.solvers.errors import InfeasibleError, LolaTypeError

# Sums of a few hundred numbers, and products that are formed again from rounded factors, agree this well.
_ROUNDING = 1e-12


class _Inputs(NamedTuple):
    """The validated arrays, per device."""

    gain: FloatArray  # (K,) |h|
    power: FloatArray  # (K,)
    weight: FloatArray  # (K,)
    noise: float  # σ²

    @property
    def reach(self) -> FloatArray:
        """The largest amplitude of each device that can arrive, g."""
        return self.gain * np.sqrt(self.power)


@dataclass(frozen=True, eq=False)
class AirSum:
    """How devices send so that their signals add up to a weighted sum, and how it is received.

    The estimate is ``scale · (Σ_k |h_k| amplitude_k x_k + n)``: of what was wanted, ``shortfall @ x`` is missing, and
    noise of variance ``noise_variance`` is added.

    Attributes
    ----------
    scale : float
        Factor a ≥ 0 of the receiver.
    amplitude : (K,) float64 array
        Factor b_k ≥ 0 of each device, ``amplitude**2 <= power``. Device k turns its phase by that of ``conj(h_k)``, so
        that its signal arrives in phase. 0 for one that cannot be heard or has no weight.
    mse : float
        Mean squared error ``(shortfall**2).sum() + noise_variance``.
    shortfall : (K,) float64 array
        By how much the weight of each device comes out too small, w_k − a|h_k|b_k ≥ 0: where the x_k are fixed, the
        error's mean is ``-shortfall @ x``. All 0 where the sum is unbiased. It also is the proof: see `verify`.
    noise_variance : float
        a²·noise_power: the error's variance where the x_k are fixed.
    unbiased : bool
        Whether no weight was allowed to come out too small.
    """

    scale: float
    amplitude: FloatArray
    mse: float
    shortfall: FloatArray
    noise_variance: float
    unbiased: bool

    def verify(self, channel_gain: ArrayLike, power: ArrayLike, weight: ArrayLike, noise_power: float) -> None:
        """Prove by comparisons and sums that the devices keep to their power and that no other way has a smaller error.

        For any numbers y ≥ 0 every estimate that is linear in what arrives has an MSE of at least
        ``(y @ w)**2 / (y @ y + (y @ g)**2 / noise_power)`` with g_k = |h_k|√power_k (``lola docs theory``, "Sums over
        the air"); for y = `shortfall` this is `mse`. An unbiased one has at least max(w/g)²·noise_power.

        Raises
        ------
        lola.VerificationError
            If anything does not hold; the message names it.
        TypeError, ValueError
            If an argument is not as `air_sum` describes it.
        """
        inputs = _inputs(channel_gain, power, weight, noise_power)
        shape = inputs.weight.shape
        for name, values in (("amplitude", self.amplitude), ("shortfall", self.shortfall)):
            check_array(name, "it", values, np.float64, None)
            sane = values.shape == shape and ((values >= 0) & (values < np.inf)).all()
            require(sane, name, "must hold a number >= 0 for each device")
        for name, value in (("scale", self.scale), ("mse", self.mse), ("noise_variance", self.noise_variance)):
            check_number(name, value)
            require(value >= 0, name, f"must be >= 0, is {value}")
        require(isinstance(self.unbiased, bool), "unbiased", f"True or False was wanted, got {shown(self.unbiased)}")
        over = self.amplitude > np.sqrt(inputs.power) * (1 + _ROUNDING)
        require(not over.any(), "amplitude", f"exceeds the power of device(s) {np.flatnonzero(over).tolist()}")
        missing = inputs.weight - self.scale * inputs.gain * self.amplitude
        error = float(np.hypot(np.linalg.norm(missing), self.scale * np.sqrt(inputs.noise)))
        # An amplitude is rounded, and so what is missing of a weight is known up to roundings of the weight.
        slack = _ROUNDING * (error + float(np.linalg.norm(inputs.weight)))
        require(abs(error - np.sqrt(self.mse)) <= slack, "mse", f"is {self.mse}, the error is {error**2}")
        variance = (self.scale * float(np.sqrt(inputs.noise))) ** 2
        near = abs(self.noise_variance - variance) <= _ROUNDING * variance
        require(near, "noise_variance", f"is {self.noise_variance}, the noise's is {variance}")
        if self.unbiased:
            require((np.abs(missing) <= _ROUNDING * inputs.weight).all(), "unbiased", "a weight comes out wrong")
            least = float(_least_unbiased(inputs) * np.sqrt(inputs.noise)) ** 2
        else:
            least = _bound(inputs, self.shortfall)
        require(self.mse <= least * (1 + _ROUNDING), "mse", f"is {self.mse}, but only {least} is proven")
        # Where there is little noise, the slack above is more than all of the error, and this is what holds it.
        require(self.mse >= least * (1 - _ROUNDING), "mse", f"is {self.mse}, and no error is below {least}")
        agrees = (np.abs(self.shortfall - missing) <= slack).all()
        require(agrees, "shortfall", f"is {self.shortfall.tolist()}, but {missing.tolist()} is missing")
        biased = self.unbiased and self.shortfall.any()
        require(not biased, "shortfall", f"is {self.shortfall.tolist()}, and must be 0 where the sum is unbiased")
        parts = _mse(self.shortfall, self.noise_variance)
        require(abs(self.mse - parts) <= _ROUNDING * parts, "mse", f"is {self.mse}, shortfall and noise make {parts}")


def air_sum(
    channel_gain: ArrayLike,
    power: ArrayLike,
    weight: ArrayLike,
    noise_power: float,
    *,
    unbiased: bool = False,
) -> AirSum:
    """Let K devices send at once so that the channel adds them up: Σ w_k x_k with the least mean squared error.

    The x_k are of zero mean and unit variance, E|x_k|² = 1, and independent. What arrives is Σ h_k b_k x_k + n, all
    signals in phase, and the estimate is that times a.

    Parameters
    ----------
    channel_gain : (K,) array_like
        Complex channel h_k of each device, or its magnitude |h_k| ≥ 0. A device of gain 0 is not heard: its weight is
        lost. Amplitudes, not decibels.
    power : (K,) array_like
        Largest |b_k|² of each device, > 0, in the unit of `noise_power`.
    weight : (K,) array_like
        w_k ≥ 0 of each device. A weight's sign belongs into x_k; 0 is for one that has nothing to say.
    noise_power : float
        E|n|² ≥ 0 of the noise that stays in the estimate, as for |x_k|². Symbols x_k that are complex (two values of
        variance 1/2 each): that of the complex noise. One real value a symbol, of which the receiver keeps the real
        part: that of the noise's real part, half of the complex noise's. `mse` is of such an x_k in either case, and
        so, relative to the variance of a value, that of each value as well.
    unbiased : bool
        Whether every weight must come out in full, at the price of more noise.

    Returns
    -------
    AirSum
        The optimum. Without noise the least scale that loses no weight of those that are heard.

    Raises
    ------
    InfeasibleError
        If `unbiased` and a device that has a weight is not heard; `violator` lists such devices.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    With g_k = |h_k|√P_k and devices sorted by g/w, a = max_i Σ_{j≤i} w_j g_j / (σ² + Σ_{j≤i} g_j²) and b_k =
    min(√P_k, w_k/(a|h_k|)): X. Cao, G. Zhu, J. Xu, K. Huang, "Optimized power control for over-the-air computation in
    fading channels", 2020, and W. Liu, X. Zang, Y. Li, B. Vucetic, "Over-the-air computation systems: optimization,
    analysis and scaling laws", 2020. Unbiased, a = max w/g. Proven in ``lola docs theory``, "Sums over the air".
    O(K log K); the order of the devices changes no bit.

    Examples
    --------
    >>> from lola.solvers import air_sum
    >>> total = air_sum([2.0, 0.5j], [1.0, 1.0], [0.5, 0.5], 0.25)
    >>> total.verify([2.0, 0.5j], [1.0, 1.0], [0.5, 0.5], 0.25)
    >>> total.scale, total.amplitude.tolist(), total.shortfall.tolist(), total.mse
    (0.5, [0.5, 1.0], [0.0, 0.25], 0.125)
    >>> air_sum([2.0, 0.5j], [1.0, 1.0], [0.5, 0.5], 0.25, unbiased=True).mse
    0.25
    """
    inputs = _inputs(channel_gain, power, weight, noise_power)
    if not isinstance(unbiased, bool | np.bool_):
        raise LolaTypeError(f"unbiased must be True or False, got {shown(unbiased)}")
    if unbiased:
        scale, shortfall = _least_unbiased(inputs), np.zeros_like(inputs.weight)
    else:
        scale, shortfall = _least(inputs)
    needed = (inputs.gain > 0) & (inputs.weight > 0)
    amplitude = np.divide(inputs.weight, scale * inputs.gain, out=np.zeros_like(inputs.weight), where=needed)
    amplitude = np.minimum(amplitude, np.sqrt(inputs.power))
    variance = (scale * float(np.sqrt(inputs.noise))) ** 2
    return AirSum(scale, frozen(amplitude), _mse(shortfall, variance), frozen(shortfall), variance, bool(unbiased))


def _inputs(channel_gain: ArrayLike, power: ArrayLike, weight: ArrayLike, noise_power: float) -> _Inputs:
    channel = real_or_complex("channel_gain", channel_gain, 1)
    magnitude = np.hypot(channel.real, channel.imag) if np.iscomplexobj(channel) else channel
    gain = vector("channel_gain", magnitude, positive=False)
    most = vector("power", power, ("channel_gain", gain))
    wanted = vector("weight", weight, ("channel_gain", gain), positive=False)
    return _Inputs(gain, most, wanted, nonnegative_number("noise_power", noise_power))


def _mse(shortfall: FloatArray, noise_variance: float) -> float:
    return float(np.square(np.sort(shortfall)).sum()) + noise_variance


def _least_unbiased(inputs: _Inputs) -> float:
    """Return the least scale at which all weights can come out in full."""
    wanted, reach = inputs.weight > 0, inputs.reach
    unheard = np.flatnonzero(wanted & (reach == 0))
    if unheard.size:
        raise InfeasibleError(
            f"no unbiased sum exists: device(s) {', '.join(map(str, unheard))} have a weight and channel gain 0, so "
            "nothing of them arrives; leave them out, or allow a bias (unbiased=False)",
            tuple(unheard),
            0,
        )
    return float((inputs.weight[wanted] / reach[wanted]).max(initial=0.0))


def _least(inputs: _Inputs) -> tuple[float, FloatArray]:
    """Return the scale of the least error, and by how much each weight then comes out too small."""
    shortfall, reach = inputs.weight.copy(), inputs.reach
    (heard,) = np.nonzero((reach > 0) & (inputs.weight > 0))
    shortfall[reach > 0] = 0.0
    if not heard.size:
        return 0.0, shortfall
    # But for equal devices, this order does not depend on that of the arguments, and so neither do roundings.
    order = heard[np.lexsort((inputs.weight[heard], reach[heard], reach[heard] / inputs.weight[heard]))]
    g, w = reach[order], inputs.weight[order]
    scales = np.cumsum(w * g) / (inputs.noise + np.cumsum(g * g))
    scale = float(scales.max())
    # The sums may drown who adds little to them; too weak are all those of whom something is missing at this scale.
    weak = max(int(np.argmax(scales)) + 1, int(np.count_nonzero(w > scale * g)))
    g, w = g[:weak], w[:weak]
    missing = np.maximum(w - scale * g, 0.0)
    # Little is missing where there is little noise, and the difference has lost its digits. F'(a) = 0 still has them:
    # Σ g·missing = σ²a gives that of the strongest devices, where the others' roundings count least.
    strongest = g == g.max()
    apart = w[strongest] - w[strongest][0]
    theirs = scale * inputs.noise - float(g[~strongest] @ missing[~strongest])
    missing[strongest] = np.maximum((theirs / g.max() - apart.sum()) / apart.size + apart, 0.0)
    shortfall[order[:weak]] = missing
    return scale, shortfall


def _bound(inputs: _Inputs, multiplier: FloatArray) -> float:
    """Return what no estimate's MSE is below, by the Cauchy-Schwarz inequality with any multipliers ≥ 0."""
    largest = float(multiplier.max())
    if largest == 0.0:
        return 0.0
    y = multiplier / largest  # only their ratios matter, and so nothing overflows
    arriving = float(y @ inputs.reach)
    if arriving > 0 and inputs.noise == 0:
        return 0.0
    power = arriving**2 / inputs.noise if arriving > 0 else 0.0
    return float(y @ inputs.weight) ** 2 / (float(y @ y) + power)
