"""What no radio, phone or model has: a number beyond these limits is probably in another unit, and is said aloud.

Nothing is refused. To judge another number, add a line to `LIMITS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lola.problem import Problem

# Bits of a number of the gradient, where they may be fewer than 32: the adapters of a model in half precision.
_FEWER_BITS = {"float16": 16, "bfloat16": 16}


class PlausibilityWarning(UserWarning):
    """A number is beyond what any radio, phone or model has; the message names the unit that it may be in."""


@dataclass(frozen=True)
class Limit:
    """What a number of a problem is held against.

    Parameters
    ----------
    name : str
        What is judged, in a user's words.
    of : callable
        ``of(problem)`` returns the number; None where there is none to judge.
    least, most : float
        What is below or above is noted.
    known : str
        What there is, and who says so.
    suspected : str
        What a number beyond the limit may be instead.
    """

    name: str
    of: Callable[[Problem], float | None]
    known: str
    suspected: str
    least: float = -inf
    most: float = inf

    def note(self, problem: Problem) -> str:
        """Say what is not plausible; nothing if it is."""
        value = self.of(problem)
        if value is None or self.least <= value <= self.most:
            return ""
        side, limit = ("below", self.least) if value < self.least else ("above", self.most)
        return f"{self.name} is {value:.6g}, {side} {limit:.6g}: {self.known}; {self.suspected}?"


def _median(values: object) -> float:
    import numpy as np

    return float(np.median(np.asarray(values)))


def _counted(problem: Problem) -> bool:
    """Whether lola itself counted the uploads: it alone records the software; and some models have narrow targets."""
    return problem.profile.provenance is not None and problem.profile.provenance.software is not None


def _adapted_width(problem: Problem) -> float | None:
    """Width of the model whose adapters have as many numbers as are uploaded, if the profile tells their rank."""
    origin = problem.profile.provenance
    if origin is None or origin.lora_rank is None or not origin.lora_targets or _counted(problem):
        return None
    bits = _FEWER_BITS.get(origin.dtype, 32)
    return float(problem.profile.upload_bits.min()) / (bits * 2 * origin.lora_rank * len(origin.lora_targets))


def _upload_of_unknown_rank(problem: Problem) -> float | None:
    if _counted(problem) or _adapted_width(problem) is not None:
        return None
    return float(problem.profile.upload_bits.min())


def _upload_in_memory(problem: Problem) -> float | None:
    """Largest share of a depth's memory that its own gradient would fill; None where memory is not counted."""
    memory = problem.profile.memory_bytes
    return float((problem.profile.upload_bits / 8.0 / memory).max()) if memory.min() > 0 else None


# fmt: off
LIMITS: tuple[Limit, ...] = (
    Limit("bandwidth_hz", lambda p: p.bandwidth_hz, least=125e3, suspected="is it in kilohertz, megahertz or gigahertz",
          known="a LoRaWAN channel has 125 kHz (LoRa Alliance, RP002), an NB-IoT carrier 180 kHz (3GPP TS 36.211)"),
    Limit("bandwidth_hz", lambda p: p.bandwidth_hz, most=1e11, suspected="was it multiplied twice",
          known="all bands of 5G together end at 71 GHz (3GPP TS 38.104, FR2-2)"),
    Limit("subcarrier_hz", lambda p: p.subcarrier_hz, least=1e3, suspected="is it in kilohertz",
          known="the narrowest of NB-IoT has 3.75 kHz (3GPP TS 36.211)"),
    Limit("the largest latency_s", lambda p: float(p.profile.latency_s[-1]), most=500.0,
          suspected="is it in milliseconds or microseconds, or of all local iterations",
          known="RoBERTa-base with 32 texts takes 9 s on two cores of a server and 0.9 s on a phone (lola's profiles)"),
    Limit("the largest latency_s", lambda p: float(p.profile.latency_s[-1]) or None, least=1e-6,
          suspected="is it in hours, or a reciprocal",
          known="calling a single kernel of torch takes microseconds"),
    Limit("memory_bytes of the deepest block", lambda p: float(p.profile.memory_bytes[-1]) or None, least=2e5,
          suspected="is it in kilobytes, megabytes or gigabytes",
          known="the weights of the smallest BERT alone, 4.4 million, fill 17 MB (Turc et al. 2019)"),
    Limit("the smallest upload_bits", _upload_of_unknown_rank, least=1e5,
          suspected="is it in bytes or megabits",
          known="LoRA of rank 1 on query and value of RoBERTa-base has 98,304 bits, the paper's 786,432"),
    Limit("the model's width, from upload_bits and the LoRA rank", _adapted_width, least=127.0,
          suspected="is upload_bits in bytes, or of a compressed gradient",
          known="the narrowest BERT is 128 wide (Turc et al. 2019)"),
    Limit("the gradient's share of a depth's memory", _upload_in_memory, most=1.0,
          suspected="is memory_bytes in megabytes or gigabytes, or upload_bits too large",
          known="a gradient is kept in that memory before it is sent"),
    Limit("the fastest device's speed", lambda p: float(p.fleet.speed.max()), most=1000.0,
          suspected="is it a score, or in megahertz or GFLOPS, not relative to the reference device",
          known="the fastest of 333 phones is 41 times as fast as the slowest (AI Benchmark, 2020)"),
    Limit("the slowest device's speed", lambda p: float(p.fleet.speed.min()), most=10.0,
          suspected="is it in percent, or not relative to the reference device",
          known="the fastest of 333 phones is 41 times as fast as the slowest (AI Benchmark, 2020)"),
    Limit("the slowest device's speed", lambda p: float(p.fleet.speed.min()), least=1e-4,
          suspected="is it not relative to the reference device",
          known="the slowest of 333 phones has 1/41 of the fastest's (AI Benchmark, 2020)"),
    Limit("memory_bytes of the largest device", lambda p: float(p.fleet.memory_bytes.max()) or None, least=64e6,
          suspected="is it in kilobytes, megabytes or gigabytes",
          known="the smallest of 333 phones has 512 MB of RAM (AI Benchmark, 2020)"),
    Limit("memory_bytes of the largest device", lambda p: float(p.fleet.memory_bytes.max()), most=1e14,
          suspected="was it multiplied twice", known="the largest servers have tens of terabytes"),
    Limit("the best spectral_efficiency (bit/s/Hz)", lambda p: float(p.fleet.spectral_efficiency.max()), most=31.0,
          suspected="is it a signal-to-noise ratio, or snr_db no decibels",
          known="5G's peak is 30 bit/s/Hz, 15 in the uplink (ITU-R M.2410)"),
    Limit("the median spectral_efficiency (bit/s/Hz)", lambda p: _median(p.fleet.spectral_efficiency), least=1e-6,
          suspected="is snr_db a received power in dBm", known="LoRa decodes down to -20 dB, 0.0144 (Semtech SX1276)"),
    Limit("the worst spectral_efficiency (bit/s/Hz)", lambda p: float(p.fleet.spectral_efficiency.min()), least=1e-12,
          suspected="is snr_db a received power, or a power ratio and no decibels",
          known="-120 dB, which it is of, is below what any radio tells from noise"),
    Limit("broadcast_s", lambda p: p.broadcast_s, most=600.0, suspected="is it in milliseconds",
          known="the paper's model changes by 1.2 MB a round, 9 s at 1 Mbit/s"),
    Limit("local_steps", lambda p: p.local_steps, most=100_000, suspected="are they samples, or steps of all rounds",
          known="the largest task of GLUE, MNLI, is 12,272 batches of 32"),
)
# fmt: on


def notes(problem: Problem) -> tuple[str, ...]:
    """Return what of a problem no radio, phone or model has, a sentence each."""
    return tuple(text for limit in LIMITS if (text := limit.note(problem)))


_QUIET: ContextVar[bool] = ContextVar("_QUIET", default=False)


def warn_of(problem: Problem, said: Container[str] = ()) -> None:
    """Warn of a problem's notes that were not said before, on behalf of who called the caller."""
    if not _QUIET.get():
        for text in problem.notes:
            if text not in said:
                warnings.warn(text, PlausibilityWarning, stacklevel=3)


@contextmanager
def unsaid() -> Iterator[None]:
    """Let problems be built without a word, where it was said already."""
    before = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(before)
