"""What a stage costs: the modules of a model, each with its seconds, memory and traffic on the reference device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lola.profile import Provenance
from lola.solvers.checks import (
    FloatArray,
    expect,
    frozen,
    per_block,
    positive_integer,
    positive_number,
    real_number,
    shown,
    vector,
)
from lola.solvers.errors import LolaTypeError, LolaValueError

_PER_MODULE = (
    "forward_s",
    "backward_s",
    "memory_bytes",
    "inference_memory_bytes",
    "tunable_bits",
    "kept_bytes",
    "workspace_bytes",
    "inference_workspace_bytes",
    "forward_iqr_s",
    "backward_iqr_s",
)
_ONE_FOR_ALL = ("tunable_bits", "kept_bytes", "workspace_bytes", "inference_workspace_bytes")
_PER_CUT = ("hop_bits", "return_bits")
_FEWEST = 2  # an embedding and a head


@dataclass(frozen=True, eq=False, init=False)
class StageProfile:
    """Seconds, memory and traffic of each module of a model for one batch, on the reference device (speed 1).

    Module 0 is the embedding, then come the blocks **from the input up**, last the head. A stage is a run of
    consecutive modules on one client; a cut lies between two modules, and what crosses it is a hop.

    Parameters
    ----------
    forward_s, backward_s : (N,) array_like
        Seconds; backward goes from the gradient of a module's output to that of its input, and is 0 where nothing is
        trained in the module or before it.
    memory_bytes : (N,) array_like
        What a module takes while a batch is in training: weights, gradients and optimizer state of what is tunable, and
        what forward keeps for backward; of the embedding, the batch itself. Adds up within a stage.
    inference_memory_bytes : (N,) array_like
        The same of inference, which keeps nothing. Adds up within a stage.
    hop_bits, return_bits : float or (N−1,) array_like
        Activations forward, and gradients back, over each cut; entry i lies between modules i and i + 1.
    tunable_bits : float or (N,) array_like
        What is trained in a module, and so delivered and uploaded.
    result_bits : float
        Answer of one batch of inference, which the end of a chain sends to its start.
    batch_size : int
    module : sequence of str, optional
        Names, no two alike; ``"embedding"``, ``"block 1"`` …, ``"head"`` if left out.
    provenance : Provenance, optional
        Where the numbers come from.
    kept_bytes : float or (N,) array_like
        Part of `memory_bytes`: what is kept for backward, and freed as backward passes. It grows with the batch.
    workspace_bytes, inference_workspace_bytes : float or (N,) array_like
        What a module needs beyond its memory while it runs, such as a gradient on its way. A client runs one module
        after the other, so of its stage the largest counts.
    forward_iqr_s, backward_iqr_s : (N,) array_like, optional
        Interquartile range of what was timed.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described: of the wrong length, negative, or not finite.

    Notes
    -----
    Arrays are read-only copies. What is shared by two modules, such as the embedding that a language model's head uses
    again, counts in both: on different clients both hold it.

    Examples
    --------
    >>> import lola
    >>> stages = lola.StageProfile(
    ...     forward_s=[0.1, 0.4, 0.4, 0.1], backward_s=[0, 0.6, 0.8, 0.1], memory_bytes=[2e8, 3e8, 3e8, 1e7],
    ...     inference_memory_bytes=[2e8, 3e7, 3e7, 1e7], hop_bits=8e6, return_bits=[0, 8e6, 8e6],
    ...     tunable_bits=[0, 8e5, 8e5, 5e4], result_bits=512, batch_size=8, workspace_bytes=1e8)
    >>> stages.module, stages.peak_bytes(range(1, 3))
    (('embedding', 'block 1', 'block 2', 'head'), 701000000.0)
    """

    forward_s: FloatArray
    backward_s: FloatArray
    memory_bytes: FloatArray
    inference_memory_bytes: FloatArray
    hop_bits: FloatArray
    return_bits: FloatArray
    tunable_bits: FloatArray
    result_bits: float
    batch_size: int
    module: tuple[str, ...]
    provenance: Provenance | None
    kept_bytes: FloatArray
    workspace_bytes: FloatArray
    inference_workspace_bytes: FloatArray
    forward_iqr_s: FloatArray | None
    backward_iqr_s: FloatArray | None

    def __init__(
        self,
        *,
        forward_s: ArrayLike,
        backward_s: ArrayLike,
        memory_bytes: ArrayLike,
        inference_memory_bytes: ArrayLike,
        hop_bits: ArrayLike,
        return_bits: ArrayLike,
        tunable_bits: ArrayLike,
        result_bits: float,
        batch_size: int,
        module: Sequence[str] | None = None,
        provenance: Provenance | None = None,
        kept_bytes: ArrayLike = 0.0,
        workspace_bytes: ArrayLike = 0.0,
        inference_workspace_bytes: ArrayLike = 0.0,
        forward_iqr_s: ArrayLike | None = None,
        backward_iqr_s: ArrayLike | None = None,
    ) -> None:
        arguments = locals()
        first = vector("forward_s", forward_s, positive=False)
        n_modules = first.shape[0]
        if n_modules < _FEWEST:
            raise LolaValueError(
                f"forward_s must have {_FEWEST} entries at least, an embedding and a head; got {n_modules}"
            )
        for name in _PER_MODULE:
            value = arguments[name]
            if value is not None:
                value = per_block(name, value, n_modules) if name in _ONE_FOR_ALL else value
                value = frozen(vector(name, value, ("forward_s", first), positive=False))
            object.__setattr__(self, name, value)
        if (over := np.flatnonzero(self.kept_bytes > self.memory_bytes)).size:
            raise LolaValueError(
                f"kept_bytes must be a part of memory_bytes, got {self.kept_bytes[over[0]]} of "
                f"{self.memory_bytes[over[0]]} at index {over[0]}; count in memory_bytes what is kept"
            )
        for name in _PER_CUT:
            bits = vector(name, per_block(name, arguments[name], n_modules - 1), positive=False)
            if bits.shape[0] != n_modules - 1:
                raise LolaValueError(
                    f"{name} must have {n_modules - 1} entries, one for each cut between the {n_modules} modules; got "
                    f"{bits.shape[0]}"
                )
            object.__setattr__(self, name, frozen(bits))
        answer = real_number("result_bits", result_bits)
        object.__setattr__(self, "result_bits", positive_number("result_bits", answer) if answer else 0.0)
        object.__setattr__(self, "batch_size", positive_integer("batch_size", batch_size))
        object.__setattr__(self, "module", _names(module, n_modules))
        if provenance is not None:
            expect("provenance", provenance, Provenance)
        object.__setattr__(self, "provenance", provenance)

    @property
    def n_modules(self) -> int:
        """Number of modules, N."""
        return int(self.forward_s.shape[0])

    def peak_bytes(self, stage: range, *, inference: bool = False) -> float:
        """Return what a client needs for a stage at the moment when it needs the most.

        Parameters
        ----------
        stage : range
            Its modules, such as ``range(1, 4)``.
        inference : bool
            Whether it answers alone, and trains nothing.

        Raises
        ------
        ValueError
            If it is no run of modules.

        Notes
        -----
        Backward frees what its modules keep, from the last to the first, and needs each one's workspace on the way; at
        the last, what was sent on is still there. So it is never more than the sum of their memory, the largest
        workspace among them, and what is sent: who wants a bound that adds up leaves the largest of both free.
        """
        if not isinstance(stage, range) or stage.step != 1 or not 0 <= stage.start < stage.stop <= self.n_modules:
            raise LolaValueError(
                f"stage must be neighbours among the modules 0 to {self.n_modules - 1}, such as range(1, "
                f"{self.n_modules}); got {shown(stage)}"
            )
        at = slice(stage.start, stage.stop)
        if inference:
            return float(self.inference_memory_bytes[at].sum() + self.inference_workspace_bytes[at].max())
        at_work = np.cumsum(self.kept_bytes[at]) + self.workspace_bytes[at]
        at_work[-1] += self.hop_bits[stage[-1]] / 8 if stage.stop < self.n_modules else 0.0
        return float((self.memory_bytes[at] - self.kept_bytes[at]).sum() + at_work.max())

    def on_reference(self, reference: str, latency_factor: float) -> StageProfile:
        """Return these costs with their seconds brought to another device, and that recorded.

        Parameters
        ----------
        reference : str
            Name of the device.
        latency_factor : float
            What the seconds are multiplied by.

        Raises
        ------
        ValueError
            If there is no provenance to record it in, or the seconds were scaled before.
        """
        factor = positive_number("latency_factor", latency_factor)
        if self.provenance is None or self.provenance.latency_factor is not None:
            raise LolaValueError(
                "seconds can be scaled once, and only with a provenance that records it; got "
                f"{self.provenance or 'no provenance'}; scale the profile as it was measured"
            )
        seconds = {name: getattr(self, name) for name in _PER_MODULE if name.endswith("_s")}
        scaled: dict[str, Any] = {name: None if each is None else each * factor for name, each in seconds.items()}
        return replace(
            self,
            **scaled,
            provenance=replace(self.provenance, reference=reference, latency_factor=factor),
        )

    def __repr__(self) -> str:
        return f"<StageProfile of {self.n_modules} modules: {self.provenance or 'no provenance'}>"


def _names(module: Sequence[str] | None, n_modules: int) -> tuple[str, ...]:
    """Check the modules' names, or make them."""
    if module is None:
        return ("embedding", *(f"block {block}" for block in range(1, n_modules - 1)), "head")
    if isinstance(module, str) or not all(isinstance(name, str) for name in module):
        raise LolaTypeError(f"module must be a list of names, one for each module, got {shown(module)}")
    names = tuple(module)
    if len(names) != n_modules:
        raise LolaValueError(f"module must have {n_modules} names, as many as forward_s has entries; got {len(names)}")
    for name in names:
        if not name or not name.isprintable():
            raise LolaValueError(f"module must be printable names in one line each, got {shown(name)}")
    if len(set(names)) < n_modules:
        twice = next(name for name in names if names.count(name) > 1)
        raise LolaValueError(f"module must have no name twice, got {shown(twice)} more than once; number them")
    return names
