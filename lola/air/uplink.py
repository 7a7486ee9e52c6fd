"""What becomes of tensors on their way to the server: the seam between a session and its channel, and digital ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from lola.air.latency import frequency_division_s
from lola.channel import MOST_DB
from lola.problem import Problem, of_a_round
from lola.profile import BITS_PER_VALUE
from lola.solvers.checks import positive_integer, positive_number, real_number, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

# The largest float32: what is sent must be no larger, and then no square or sum of squares overflows.
_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Reception:
    """What arrived of a transmission.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
        The weighted sum over the senders as it was received, each tensor of the senders' shape and dtype.
    latency_s : float
        Seconds that the transmission took.
    mse : float
        Expected squared error of a value, in closed form: of what was sent, and of the channel that it met, over the
        noise or the rounding. The mean over all values of all tensors.
    """

    tensors: dict[str, torch.Tensor]
    latency_s: float
    mse: float


@runtime_checkable
class Uplink(Protocol):
    """How tensors of several senders become their weighted sum at the server."""

    def receive(self, sent: Sequence[Tensors], weight: Sequence[float], rng: np.random.Generator) -> Reception:
        """Transmit and sum.

        Parameters
        ----------
        sent : sequence of K mappings of str to torch.Tensor
            One a sender: the same names, shapes and dtypes.
        weight : sequence of K floats
        rng : numpy.random.Generator
            All that is random is drawn from it.
        """
        ...


@runtime_checkable
class PlannedUplink(Uplink, Protocol):
    """An uplink that also says what a round sends, so that a schedule counts the seconds of that and no others."""

    def as_sent(self, problem: Problem) -> Problem:
        """Return the problem with the uploads, and the efficiencies, that this uplink has in a round."""
        ...


@dataclass(frozen=True)
class PerfectUplink:
    """The sum itself, at once: what sessions have without an uplink, to the last bit.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from lola.air import PerfectUplink
    >>> sent = [{"prompt": torch.tensor([1.0, 2.0])}, {"prompt": torch.tensor([3.0, 6.0])}]
    >>> received = PerfectUplink().receive(sent, [0.5, 0.5], np.random.default_rng(0))
    >>> received.tensors["prompt"].tolist(), received.latency_s, received.mse
    ([2.0, 4.0], 0.0, 0.0)
    """

    def receive(self, sent: Sequence[Tensors], weight: Sequence[float], rng: np.random.Generator) -> Reception:
        """Sum in the order of the senders; nothing is drawn, and nothing lost but to the dtype's own rounding."""
        weights = agreeing(sent, weight)
        total = {name: tensor * weights[0] for name, tensor in sent[0].items()}
        for tensors, share in zip(sent[1:], weights[1:], strict=True):
            for name, tensor in tensors.items():
                total[name] += tensor * share
        return Reception(total, 0.0, 0.0)

    def as_sent(self, problem: Problem) -> Problem:
        """Return the problem as it is."""
        return problem


@dataclass(frozen=True)
class DigitalUplink:
    """Quantised values at the channel's capacity, every sender on frequencies of its own (FDMA).

    Of each tensor of each sender, the values are rounded to 2^bits levels that divide its range evenly: up or down at
    random, so that the expectation is the value itself. The two ends of the range travel beside and are not counted.

    Parameters
    ----------
    bits : int
        Of each value, 1 to 32; 32 is float32 itself, and changes nothing of float32 or narrower tensors.
    snr_db : float
        Of every sender, on its share of the band.
    bandwidth_hz : float
        B, which the senders share equally.

    Raises
    ------
    TypeError, ValueError
        If a number is not as described.

    Notes
    -----
    K senders of n values take K·n·bits / (B log2(1 + SNR)) seconds: Wu, Chen and Huang, "Device-Edge Cooperative
    Fine-Tuning of Foundation Models as a 6G Service", section 6.1. A value at a share f of the way between two levels,
    Δ apart, is off by Δ²f(1 − f) in expectation, at most Δ²/4. `Reception.mse` is the mean of this over the values that
    were sent, summed with the senders' squared weights: no bound, but exact.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from lola.air import DigitalUplink
    >>> uplink = DigitalUplink(bits=8, snr_db=20.0, bandwidth_hz=20e6)
    >>> received = uplink.receive([{"prompt": torch.linspace(0, 1, 1000)}], [1.0], np.random.default_rng(0))
    >>> f"{received.latency_s:.3e} s, {received.mse:.1e}"
    '6.008e-05 s, 2.6e-06'
    """

    bits: int = 8
    snr_db: float = 20.0
    bandwidth_hz: float = 20e6

    def __post_init__(self) -> None:
        if positive_integer("bits", self.bits) > BITS_PER_VALUE:
            raise LolaValueError(f"bits must lie in 1…32, got {self.bits}; 32 is float32 itself")
        check_snr_db(self.snr_db)
        positive_number("bandwidth_hz", self.bandwidth_hz)

    def receive(self, sent: Sequence[Tensors], weight: Sequence[float], rng: np.random.Generator) -> Reception:
        """Quantise what each sends, and sum. Draws a number for each value, sender by sender and tensor by tensor."""
        weights = drawing(sent, weight, rng)
        received, error = [], 0.0
        for tensors, share in zip(sent, weights, strict=True):
            rounded = {name: _rounded(tensor, self.bits, rng) for name, tensor in tensors.items()}
            received.append({name: values for name, (values, _) in rounded.items()})
            error += share**2 * sum(squares for _, squares in rounded.values())
        n_values = sum(tensor.numel() for tensor in sent[0].values())
        latency_s = frequency_division_s(
            n_values, len(sent), snr_db=self.snr_db, bandwidth_hz=self.bandwidth_hz, bits=self.bits
        )
        total = PerfectUplink().receive(received, weights, rng).tensors
        return Reception(total, float(latency_s), error / n_values)

    def as_sent(self, problem: Problem) -> Problem:
        """Return the problem with so many bits of every 32 that its profile counts; the channel stays the devices'."""
        bits = problem.profile.upload_bits * (self.bits / BITS_PER_VALUE)
        return of_a_round(problem, problem.fleet, profile=replace(problem.profile, upload_bits=bits))


def check_snr_db(snr_db: float) -> None:
    """Refuse what is no ratio in decibels that a rate can be computed from."""
    if not -MOST_DB <= real_number("snr_db", snr_db) <= MOST_DB:
        raise LolaValueError(
            f"snr_db must be a ratio in decibels, {-MOST_DB:g} to {MOST_DB:g}; got {snr_db}; give ten times the "
            "logarithm, to base 10, of signal over noise power"
        )


def expect_uplink(uplink: object, *, planned: bool = False) -> None:
    """Refuse what cannot receive or, where a session plans with it, say what it sends; None is no uplink."""
    wanted = PlannedUplink if planned else Uplink
    if uplink is None or (isinstance(uplink, wanted) and not isinstance(uplink, type)):
        return
    methods = "receive(sent, weight, rng)" + " and as_sent(problem)" * planned
    raise LolaTypeError(f"uplink must have {methods}, as a lola.air.DigitalUplink() has; got {shown(uplink)}")


def received(uplink: Uplink, sent: Sequence[Tensors], weight: Sequence[float], rng: np.random.Generator) -> Reception:
    """Have an uplink transmit and sum, and refuse what is no reception of that."""
    import torch

    reception = uplink.receive(sent, weight, rng)
    whose = f"receive of {type(uplink).__name__}"
    if not isinstance(reception, Reception):
        raise LolaTypeError(f"{whose} must return a lola.air.Reception, got {shown(reception)}")
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in sent[0].items()}
    came = {
        name: (tensor.shape, tensor.dtype) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        for name, tensor in dict(reception.tensors).items()
    }
    if came != shapes:
        wrong = sorted(name for name in shapes.keys() | came.keys() if came.get(name) != shapes.get(name))[0]
        raise LolaValueError(
            f"{whose} must return a tensor of every name that was sent, of its shape and dtype; of {wrong}, "
            f"{shapes.get(wrong, 'nothing')} was sent and {came.get(wrong, 'nothing')} returned"
        )
    for name in ("latency_s", "mse"):
        if not real_number(f"{name} that {whose} returned", getattr(reception, name)) >= 0:
            raise LolaValueError(f"{name} that {whose} returned must be >= 0, got {getattr(reception, name)}")
    return reception


def drawing(sent: Sequence[Tensors], weight: Sequence[float], rng: np.random.Generator) -> list[float]:
    """Do as `agreeing`, for an uplink that quantises or normalises: what it computes with must not overflow."""
    if not isinstance(rng, np.random.Generator):
        raise LolaTypeError(f"rng must be a numpy.random.Generator, got {shown(rng)}; numpy.random.default_rng has one")
    weights = agreeing(sent, weight)
    if max(map(abs, weights)) > _MOST:
        raise LolaValueError(f"weight must be at most {_MOST:g} in magnitude, got {weights}; scale what is sent")
    for sender, tensors in enumerate(sent):
        for name, tensor in tensors.items():
            largest = float(tensor.detach().abs().max())
            if not math.isfinite(largest):
                raise LolaValueError(f"{name} of sender {sender} must be finite to be sent, got a value that is not")
            if largest > _MOST:
                raise LolaValueError(
                    f"{name} of sender {sender} must hold numbers that a float32 has, up to {_MOST:g} in magnitude, to "
                    f"be sent; got {largest:g}; scale it"
                )
    return weights


def agreeing(sent: Sequence[Tensors], weight: Sequence[float]) -> list[float]:
    """Return the weights as floats, or say what of a transmission is not as `Uplink.receive` wants it."""
    import torch

    if not isinstance(sent, Sequence) or not sent or not all(isinstance(tensors, Mapping) for tensors in sent):
        raise LolaTypeError(
            f"sent must be a sequence of mappings, name to tensor, one for each sender; got {type(sent).__name__} "
            f"of {shown([type(tensors).__name__ for tensors in sent])}; give a list, of one mapping for one sender"
        )
    if not isinstance(weight, Sequence) and not (isinstance(weight, np.ndarray) and weight.ndim == 1):
        raise LolaTypeError(f"weight must be a list of numbers, one for each sender; got {shown(weight)}")
    if len(weight) != len(sent):
        raise LolaValueError(f"weight must have one entry for each of {len(sent)} senders, got {len(weight)}")
    weights = [real_number("weight", share) for share in weight]
    if not all(map(math.isfinite, weights)):
        raise LolaValueError(f"weight must be finite, got {weights}; leave out senders that do not count")
    if not sent[0]:
        raise LolaValueError("sent must hold a tensor at least, got none; nothing needs no uplink")
    for sender, tensors in enumerate(sent):
        if tensors.keys() != sent[0].keys():
            raise LolaValueError(
                f"sent must have the same names of every sender, {sorted(sent[0])} of the first; got {sorted(tensors)} "
                f"of sender {sender}"
            )
        for name, tensor in tensors.items():
            if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
                kind = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
                raise LolaTypeError(f"{name} of sender {sender} must be a tensor of real numbers, got {kind}")
            first = sent[0][name]
            if (tensor.shape, tensor.dtype) != (first.shape, first.dtype) or not tensor.numel():
                raise LolaValueError(
                    f"{name} of sender {sender} must be as of the first, {first.dtype} of shape {tuple(first.shape)}, "
                    f"with values; got {tensor.dtype} of shape {tuple(tensor.shape)}"
                )
    return weights


def _rounded(tensor: torch.Tensor, bits: int, rng: np.random.Generator) -> tuple[torch.Tensor, float]:
    """Round to the levels of so many bits, and return the sum of the expected squared errors too."""
    import torch

    values = tensor.detach().cpu().double()
    if bits == BITS_PER_VALUE:
        single = tensor.detach().float().to(tensor.dtype)
        return single, float((single.cpu().double() - values).square().sum())
    low, last = float(values.min()), 2**bits - 1
    step = (float(values.max()) - low) / last
    if step == 0:  # all values are the same, and both ends of the range
        return tensor.detach(), 0.0
    place = ((values - low) / step).clamp(max=last)  # the quotient may be rounded to just above the last level
    below = place.floor()
    part = place - below
    up = torch.from_numpy(rng.random(tuple(tensor.shape))) < part
    rounded = (low + step * (below + up)).to(tensor.device, tensor.dtype)
    return rounded, step**2 * float((part * (1 - part)).sum())
