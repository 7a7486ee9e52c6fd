"""The answer: who takes which block with how much bandwidth, and why nothing is faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lola.files.html import html_table
from lola.problem import Problem, segments
from lola.proofs import Proof
from lola.solvers.checks import BoolArray, FloatArray, IntArray
from lola.verification import verify


@dataclass(frozen=True, eq=False)
class Schedule:
    """A schedule of one round. Arrays over blocks are in depth order: entry 0 serves depth 1.

    Attributes
    ----------
    method : str
        One of `lola.METHODS`.
    device_of_block : (L,) int64 array
        A device that takes several blocks, a segment, stands once for each.
    bandwidth_hz : (L,) float64 array
        By block; sums to at most the problem's bandwidth. A device has the sum of its blocks'.
    compute_s, upload_s : (L,) float64 arrays
        By block; those of a segment are computed together, and uploaded side by side.
    latency_s : float
        The round's latency: the problem's ``broadcast_s``, then the largest ``compute_s + upload_s``.
    lower_bound_s : float
        No schedule of the method's problem (P1, P2 or P3) is faster; NaN for a baseline, which claims nothing.
    hits_memory_wall : (L,) bool array
        True where the device lacks the memory that its blocks need. Only baselines, which ignore memory, have any.
    proof : HallProof, PriceProof, PotentialProof, MultiplierProof or None
        Why the bound holds; its kind is the method's.
    iterations : int
        Steps the solver took.
    local_steps : int or None
        M of the problem, which `compute_s` counts; None where a schedule was made by hand without it.
    name : (L,) tuple of str or None
        Names of the blocks' devices, where the fleet has names.
    """

    method: str
    device_of_block: IntArray
    bandwidth_hz: FloatArray
    compute_s: FloatArray
    upload_s: FloatArray
    latency_s: float
    lower_bound_s: float
    hits_memory_wall: BoolArray
    proof: Proof | None
    iterations: int
    local_steps: int | None = None
    name: tuple[str, ...] | None = None

    @property
    def gap(self) -> float:
        """``latency_s/lower_bound_s − 1``: 0 to rounding where the schedule is optimal, NaN for a baseline."""
        if self.lower_bound_s == self.latency_s:
            return 0.0
        return float(np.float64(self.latency_s) / self.lower_bound_s - 1.0)

    @property
    def segments(self) -> tuple[tuple[int, range], ...]:
        """Who takes which depths, depth 1 first: each device with the range of its own, such as ``(4, range(1, 3))``.

        Examples
        --------
        >>> import lola
        >>> costs = dict(memory_bytes=[1e9, 2e9], latency_s=[0.8, 1.2], upload_bits=8e5)
        >>> profile = lola.Profile(**costs, extra_latency_s=0.1, extra_memory_bytes=1e8)
        >>> problem = lola.Problem(profile, lola.Fleet.sample(1, seed=1), bandwidth_hz=20e6, max_blocks=None)
        >>> lola.schedule(problem).segments
        ((0, range(1, 3)),)
        """
        depths = segments(self.device_of_block)
        return tuple((int(self.device_of_block[own.start - 1]), own) for own in depths)

    def verify(self, problem: Problem) -> None:
        """Check every constraint, number and proof against `problem`, by comparisons and sums alone.

        Raises
        ------
        lola.VerificationError
            Naming the first line that fails.

        Examples
        --------
        >>> import lola
        >>> profile = lola.Profile(memory_bytes=[1e9, 2e9], latency_s=[0.8, 1.2], upload_bits=8e5)
        >>> problem = lola.Problem(profile, lola.Fleet.sample(5, seed=1), bandwidth_hz=20e6)
        >>> schedule = lola.schedule(problem)
        >>> schedule.verify(problem)  # silent: every line holds, and nothing is faster than the bound
        >>> schedule.gap < 1e-12
        True
        """
        verify(self, problem)

    def rows(self) -> list[dict[str, Any]]:
        """Return one line per block, depth 1 first, ready for a data frame; totals begin with the broadcast.

        Devices have their names, too, if they have some. A device that takes several blocks has a line for each, with
        its times repeated and its bandwidth divided among them; `segments` has one for all.

        Examples
        --------
        >>> import lola
        >>> profile = lola.Profile(memory_bytes=[1e9, 2e9], latency_s=[0.8, 1.2], upload_bits=8e5)
        >>> problem = lola.Problem(profile, lola.Fleet.sample(5, seed=1), bandwidth_hz=20e6)
        >>> [(row["depth"], row["device"]) for row in lola.schedule(problem).rows()]
        [(1, 1), (2, 3)]
        """
        own_s = self.compute_s + self.upload_s
        before_s = self.latency_s - own_s.max()  # the broadcast
        columns = {
            "device": self.device_of_block,
            **({} if self.name is None else {"name": np.array(self.name)}),
            "bandwidth_hz": self.bandwidth_hz,
            "compute_s": self.compute_s,
            "upload_s": self.upload_s,
            "total_s": before_s + own_s,
            "hits_memory_wall": self.hits_memory_wall,
        }
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [{"depth": depth, **dict(zip(columns, row, strict=True))} for depth, row in enumerate(values, start=1)]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the proof as JSON knows it, with None for a bound that is not claimed.

        `lola.save_schedule` writes it, with the proof and the problem that it answers.
        """
        per_block = ("device_of_block", "bandwidth_hz", "compute_s", "upload_s", "hits_memory_wall")
        return {
            "method": self.method,
            **{name: getattr(self, name).tolist() for name in per_block},
            "latency_s": self.latency_s,
            "lower_bound_s": None if np.isnan(self.lower_bound_s) else self.lower_bound_s,
            "iterations": self.iterations,
        }

    def __repr__(self) -> str:
        return f"<Schedule {self}>"

    def _repr_html_(self) -> str:
        return html_table(str(self), self.rows())

    def __str__(self) -> str:
        claim = "no bound claimed" if self.proof is None else f"proven to within {max(self.gap, 0.0):.2g}"
        walls = int(self.hits_memory_wall.sum())
        wall = f", {walls} device(s) hit the memory wall" if walls else ""
        n_blocks, n_devices = self.device_of_block.size, np.unique(self.device_of_block).size
        on = f" on {n_devices} device{'s' if n_devices > 1 else ''}" if n_devices < n_blocks else ""
        return f"{self.method}: {n_blocks} blocks{on} in {self.latency_s:.6g} s, {claim}{wall}"
