"""Sums computed by the radio itself: every sender at once, in phase, and the receiver hears their sum in noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lola.air.latency import air_computation_s
from lola.air.uplink import Reception, check_snr_db, drawing
from lola.channel import from_decibel, rayleigh_power
from lola.problem import Problem, of_a_round
from lola.profile import BITS_PER_VALUE
from lola.solvers.checks import FloatArray, positive_number, shown
from lola.solvers.errors import LolaTypeError

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

# A sender whose share of a sum is this much smaller than the largest has nothing to say that a float64 could hold.
_NOTHING = 1e-40


@dataclass(frozen=True, eq=False)
class AirReception(Reception):
    """What arrived of a sum over the air, and what its error is made of.

    A value's error has the mean ``-Σ_k weight_k · shortfall_k · (value_k − mean_k)``, mean_k over the sender's tensor,
    and the variance `noise_variance`.

    Attributes
    ----------
    shortfall : dict of str to (K,) float64 array
        Of each tensor, by sender: the part of it that power did not suffice for, 0 to 1.
    noise_variance : dict of str to float
        Of each tensor: that of the noise in a value, in the value's own unit.
    """

    shortfall: dict[str, FloatArray]
    noise_variance: dict[str, float]


@dataclass(frozen=True)
class AirUplink:
    """Over-the-air computation (AirComp): uncoded analog values, one real coefficient a symbol, that add up in the air.

    Each sender takes the mean off each of its tensors and divides it by its spread, so that its mean power is 1; both
    numbers travel beside, and are not counted. Amplitudes and the receiver's scale are those of
    `lola.solvers.air_sum`, for weights times spreads: channels are undone as far as the power goes.

    Parameters
    ----------
    snr_db : float
        Power of a sender, where the channel is 1, over the complex noise's. The receiver takes the real part: half.
    bandwidth_hz : float
        B: symbols a second. n values take n/B seconds, whatever the number of senders.
    unbiased : bool
        Whether every sender's part must arrive in full, at the price of more noise. Where one is in a deep fade, that
        is much more.
    fading : bool
        Whether each sender's channel is drawn for each transmission, as Rayleigh fading of mean power 1, instead of
        being 1: the Gaussian channel of Wu, Chen and Huang's article, section 6.1.

    Raises
    ------
    TypeError, ValueError
        If a number is not as described.

    Notes
    -----
    `Reception.mse` is exact for what was sent. Where the senders' values are uncorrelated it is the ``mse`` of
    `lola.solvers.air_sum`, tensor by tensor: the theorem "Sums over the air" of ``lola docs theory``. A tensor of one
    value is its own mean, and so arrives as it is.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from lola.air import AirUplink
    >>> sent = [{"prompt": torch.linspace(0, 1, 1000)}, {"prompt": torch.linspace(1, 3, 1000)}]
    >>> received = AirUplink(snr_db=20.0, bandwidth_hz=20e6).receive(sent, [0.5, 0.5], np.random.default_rng(0))
    >>> f"{received.latency_s:.1e} s, {received.mse:.1e}, {received.shortfall['prompt'].round(3).tolist()}"
    '5.0e-05 s, 4.2e-04, [0.0, 0.005]'
    """

    snr_db: float = 20.0
    bandwidth_hz: float = 20e6
    unbiased: bool = False
    fading: bool = False

    def __post_init__(self) -> None:
        check_snr_db(self.snr_db)
        positive_number("bandwidth_hz", self.bandwidth_hz)
        for name in ("unbiased", "fading"):
            if not isinstance(getattr(self, name), bool):
                raise LolaTypeError(f"{name} must be True or False, got {shown(getattr(self, name))}")

    def receive(self, sent: Sequence[Tensors], weight: Sequence[float], rng: np.random.Generator) -> AirReception:
        """Sum in the air. Draws the channels, if they fade, and then the noise of each value, tensor by tensor."""
        import torch

        weights = np.array(drawing(sent, weight, rng))
        gain = np.sqrt(rayleigh_power(len(sent), rng)) if self.fading else np.ones(len(sent))
        tensors, shortfall, variance, squares, n_values = {}, {}, {}, 0.0, 0
        for name, like in sent[0].items():
            values = np.stack([of_one[name].detach().cpu().double().flatten().numpy() for of_one in sent])
            total, shortfall[name], variance[name], error = self._sum(values, weights, gain, rng)
            tensors[name] = torch.from_numpy(total).reshape(like.shape).to(like.device, like.dtype)
            squares += error
            n_values += values.shape[1]
        seconds = air_computation_s(n_values, bandwidth_hz=self.bandwidth_hz)
        return AirReception(tensors, seconds, squares / n_values, shortfall, variance)

    def as_sent(self, problem: Problem) -> Problem:
        """Return the problem with a symbol for each value of an upload, at one a second and hertz from everybody."""
        symbols = problem.profile.upload_bits / BITS_PER_VALUE
        fleet = problem.fleet.with_channel(np.ones(problem.n_devices))
        return of_a_round(problem, fleet, profile=replace(problem.profile, upload_bits=symbols))

    def _sum(
        self, values: FloatArray, weights: FloatArray, gain: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray, float, float]:
        """Send a tensor of each, (K, n): the sum as heard, what is missing of each, noise, and all squared errors."""
        from lola.solvers import air_sum

        noise_power = float(from_decibel(-self.snr_db)) / 2  # of the real part
        mean = values.mean(axis=1)
        deviation = values - mean[:, np.newaxis]
        spread = np.sqrt(np.square(deviation).mean(axis=1))
        share = np.abs(weights) * spread
        largest = float(share.max())
        share = np.divide(share, largest, out=np.zeros_like(share), where=share > _NOTHING * largest)
        plan = air_sum(gain, np.ones_like(gain), share, noise_power, unbiased=self.unbiased)
        symbols = np.divide(deviation, spread[:, np.newaxis], out=np.zeros_like(deviation), where=share[:, None] > 0)
        symbols *= np.sign(weights)[:, np.newaxis]
        heard = (gain * plan.amplitude) @ symbols + np.sqrt(noise_power) * rng.standard_normal(values.shape[1])
        total = weights @ mean + largest * plan.scale * heard
        variance = largest**2 * plan.noise_variance
        error = largest**2 * float(np.square(plan.shortfall @ symbols).sum()) + values.shape[1] * variance
        missing = np.divide(plan.shortfall, share, out=np.zeros_like(share), where=share > 0)
        return total, missing, variance, error
