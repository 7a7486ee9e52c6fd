"""What a depth costs: the profile of a model on the reference device."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from lola.evidence import Evidence
from lola.solvers.checks import (
    FloatArray,
    expect,
    frozen,
    per_block,
    positive_integer,
    positive_number,
    shown,
    vector,
)
from lola.solvers.errors import LolaTypeError, LolaValueError

# What the memory of a measurement on the CPU counts; while it runs, an iteration holds more than that.
SAVED_MEMORY = "weights and saved tensors"
# Of a value that is uploaded whole: a float32's.
BITS_PER_VALUE = 32
# How many times as much is worth a word: less is what allocators keep for themselves.
_WELL_ABOVE = 1.25


@dataclass(frozen=True)
class Provenance:
    """Where a profile's numbers come from.

    Parameters
    ----------
    model, dtype, hardware : str
        For example ``"roberta-base"``, ``"float16"``, and the device that was measured or assumed.
    batch_size, sequence_length : int
        Shape of the batch that one local iteration works on.
    source : {"measured", "estimated"}
        Whether the hardware ran it.
    note : str, optional
        How to read the numbers.
    memory : str, optional
        What the memory counts, for example ``"weights and saved tensors"``.
    weights : str, optional
        ``"random"``, or where they were loaded from.
    attention, mode : str, optional
        Attention implementation, and ``"train"`` or ``"eval"``.
    head : str, optional
        ``"trained"`` if the classifier head is trained and uploaded with depth 1, else ``"frozen"``.
    lora_rank : int, optional
    lora_targets : tuple of str, optional
        Names of the modules that LoRA adapts.
    prompts : int, optional
        Learnable tokens in front of each block's input, where these are trained instead of LoRA.
    seed, threads : int, optional
        Seed of weights and batch; CPU threads.
    software : str, optional
        Versions of what ran.
    monotone : str, optional
        ``"isotonic"`` if isotonic regression made the latency rise; it is then said in `Evidence.raw_latency_s` what
        was measured.
    reference : str, optional
        Device that the latency was brought to, if not the hardware that was measured.
    latency_factor : float, optional
        What the measured seconds were multiplied by to bring them there.
    """

    model: str
    batch_size: int
    sequence_length: int
    dtype: str
    source: Literal["measured", "estimated"]
    hardware: str
    note: str = ""
    memory: str | None = None
    weights: str | None = None
    attention: str | None = None
    mode: str | None = None
    head: str | None = None
    lora_rank: int | None = None
    lora_targets: tuple[str, ...] | None = None
    prompts: int | None = None
    seed: int | None = None
    threads: int | None = None
    software: str | None = None
    monotone: str | None = None
    reference: str | None = None
    latency_factor: float | None = None

    def __post_init__(self) -> None:
        optional = ("memory", "weights", "attention", "mode", "head", "software", "monotone", "reference")
        for field in ("model", "dtype", "hardware", "note", *optional):
            value = getattr(self, field)
            if not isinstance(value, str) and (field not in optional or value is not None):
                raise LolaTypeError(f"{field} must be text, got {shown(value)}")
            if value is not None and not value.isprintable():
                raise LolaValueError(f"{field} must be printable text in one line, got {shown(value)}")
        positive_integer("batch_size", self.batch_size)
        positive_integer("sequence_length", self.sequence_length)
        for field in ("lora_rank", "prompts", "threads"):
            if getattr(self, field) is not None:
                positive_integer(field, getattr(self, field))
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, int)):
            raise LolaTypeError(f"seed must be an integer, got {shown(self.seed)}")
        if self.lora_targets is not None:
            if isinstance(self.lora_targets, str) or not all(isinstance(name, str) for name in self.lora_targets):
                raise LolaTypeError(f"lora_targets must be a list of names, got {shown(self.lora_targets)}")
            object.__setattr__(self, "lora_targets", tuple(self.lora_targets))
            if not all(name.isprintable() for name in self.lora_targets):
                raise LolaValueError(f"lora_targets must be printable text in one line, got {shown(self.lora_targets)}")
        if (self.latency_factor is None) != (self.reference is None):
            raise LolaValueError("reference and latency_factor belong together; give both or neither")
        if self.latency_factor is not None:
            positive_number("latency_factor", self.latency_factor)
        if self.source not in ("measured", "estimated"):
            raise LolaValueError(f'source must be "measured" or "estimated", got {shown(self.source)}')

    def __str__(self) -> str:
        shape = f"batch {self.batch_size}, sequence {self.sequence_length}, {self.dtype}"
        return f"{self.model}, {shape}: {self.source}, {self.hardware}"

    @property
    def latency_note(self) -> str:
        """What was done to the latency after it was measured; empty if nothing was."""
        scaled = self.latency_factor is not None
        notes = [f"× {self.latency_factor:.4g} for {self.reference}"] if scaled else []
        return "; ".join(notes + ([f"made to rise by {self.monotone} regression"] if self.monotone else []))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are known, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, eq=False, init=False)
class Profile:
    """Memory, latency and upload of each depth, on the reference device (speed 1).

    Parameters
    ----------
    memory_bytes : (L,) array_like
        b(l): bytes a device needs to get the gradient of depth l: the peak, or what the provenance says is counted of
        it. Must not fall with depth.
    latency_s : (L,) array_like
        d(l) = a + c(l): seconds of one local iteration at depth l. Must not fall with depth.
    upload_bits : float or (L,) array_like
        S_l: bits of the block's gradient. Stored as one number per block.
    provenance : Provenance, optional
        Where the numbers come from.
    evidence : Evidence, optional
        Spread, repeats and kinds of memory behind them.
    extra_latency_s, extra_memory_bytes : float or (L,) array_like, optional
        e(l), β(l): what training block l, too, costs a device whose deepest block lies below it. Backward passes the
        block anyway, so both are small. None where that is not known. Entry L is never needed: nothing lies below.

    Raises
    ------
    TypeError, ValueError
        If the vectors are not finite, of one length and non-negative (uploads positive), or memory or latency falls.

    Notes
    -----
    Depth counts from the output: entry 0 is depth 1, the last transformer block. Arrays are read-only copies.

    Examples
    --------
    >>> import lola
    >>> profile = lola.Profile(memory_bytes=[1e9, 2e9], latency_s=[0.8, 1.2], upload_bits=8e5)
    >>> profile.n_blocks, profile.upload_bits.tolist()
    (2, [800000.0, 800000.0])
    """

    memory_bytes: FloatArray
    latency_s: FloatArray
    upload_bits: FloatArray
    provenance: Provenance | None
    evidence: Evidence | None
    extra_latency_s: FloatArray | None
    extra_memory_bytes: FloatArray | None

    def __init__(
        self,
        *,
        memory_bytes: ArrayLike,
        latency_s: ArrayLike,
        upload_bits: ArrayLike,
        provenance: Provenance | None = None,
        evidence: Evidence | None = None,
        extra_latency_s: ArrayLike | None = None,
        extra_memory_bytes: ArrayLike | None = None,
    ) -> None:
        latency = _rising("latency_s", vector("latency_s", latency_s, positive=False))
        per_depth = ("latency_s", latency)
        memory = _rising("memory_bytes", vector("memory_bytes", memory_bytes, per_depth, positive=False))
        bits = vector("upload_bits", per_block("upload_bits", upload_bits, latency.shape[0]), per_depth)
        if provenance is not None:
            expect("provenance", provenance, Provenance)
        if evidence is not None:
            expect("evidence", evidence, Evidence)
            evidence.check_length(latency.shape[0])
        object.__setattr__(self, "memory_bytes", frozen(memory))
        object.__setattr__(self, "latency_s", frozen(latency))
        object.__setattr__(self, "upload_bits", frozen(bits))
        object.__setattr__(self, "provenance", provenance)
        object.__setattr__(self, "evidence", evidence)
        for name, extra in (("extra_latency_s", extra_latency_s), ("extra_memory_bytes", extra_memory_bytes)):
            if extra is not None:
                extra = frozen(vector(name, per_block(name, extra, latency.shape[0]), per_depth, positive=False))
            object.__setattr__(self, name, extra)

    @property
    def n_blocks(self) -> int:
        """Number of blocks, L."""
        return int(self.latency_s.shape[0])

    @property
    def memory_note(self) -> str:
        """What an iteration needs beyond `memory_bytes` where those count saved tensors; empty if that is little."""
        origin, evidence = self.provenance, self.evidence
        if origin is None or origin.memory != SAVED_MEMORY or evidence is None:
            return ""
        if evidence.saved_bytes is None or evidence.peak_bytes is None or not self.memory_bytes.all():
            return ""
        times = (self.memory_bytes - evidence.saved_bytes + evidence.peak_bytes) / self.memory_bytes
        most = float(times.max())
        if most <= _WELL_ABOVE:
            return ""
        return (
            f"memory_bytes counts {origin.memory}; the peak of live tensors, with weights, is up to {most:.3g} times "
            f"as much (depth {int(times.argmax()) + 1}): a headroom of {1 - 1 / most:.2f} leaves room for it, and an "
            "estimate counts it"
        )

    def on_reference(self, reference: str, latency_factor: float) -> Profile:
        """Return this profile with its latency brought to another device, and that recorded.

        Parameters
        ----------
        reference : str
            Name of the device.
        latency_factor : float
            What the seconds are multiplied by.

        Raises
        ------
        ValueError
            If there is no provenance to record it in, or the latency was scaled before.
        """
        factor = positive_number("latency_factor", latency_factor)
        if self.provenance is None or self.provenance.latency_factor is not None:
            raise LolaValueError("latency can be scaled once, and only with a provenance that records it")
        return replace(
            self,
            latency_s=self.latency_s * factor,
            provenance=replace(self.provenance, reference=reference, latency_factor=factor),
            evidence=None if self.evidence is None else self.evidence.scaled(factor),
            extra_latency_s=None if self.extra_latency_s is None else self.extra_latency_s * factor,
        )

    def __repr__(self) -> str:
        return f"<Profile of {self.n_blocks} blocks: {self.provenance or 'no provenance'}>"


def _rising(name: str, array: FloatArray) -> FloatArray:
    falls = np.flatnonzero(np.diff(array) < 0)
    if falls.size:
        depth = int(falls[0]) + 1
        raise LolaValueError(
            f"{name} must not fall with depth, got {array[depth - 1]} at depth {depth} and {array[depth]} at depth "
            f"{depth + 1}; entry 0 is the block nearest the output, so a profile in model order must be reversed"
        )
    return array
