"""(P3): potentials of positions, under which every way through the blocks in time costs more than the spectrum."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from lola.files.formats import FormatError, check_keys, integers
from lola.problem import Problem
from lola.proofs.checks import ROUNDING, check_sane, floats, prices_from_json, prices_to_json
from lola.solvers.checks import BoolArray, FloatArray, IntArray, check_array, require, shown, subcarriers_in

# Pairs of devices and segments checked at a time, so that a large fleet needs no array of all of them.
_PAIRS = 1 << 20
# Rounding of a price that is counted in subcarriers; what it could hide is paid for, too.
_COUNT_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class PotentialProof:
    """Proof for an allocation of segments: potentials that rise by no more than a segment costs any device.

    Attributes
    ----------
    potential_hz : (S, L + 1) float64 array
        By state and position. A state says how many segments the devices of each counter have taken, the first counter
        in the smallest digits; without counters there is one state. 0 at the start.
    device_price_hz : (K,) float64 array
        At most 0.
    counters : tuple of int64 arrays
        Devices that are counted together, counter by counter.

    Notes
    -----
    ``lola docs theory``, "What each certificate proves", (P3).
    """

    kind: ClassVar[str] = "potentials"
    potential_hz: FloatArray
    device_price_hz: FloatArray
    counters: tuple[IntArray, ...]

    def check(self, problem: Problem, bound: float) -> None:
        """Follow any selection along the potentials: it costs at least what they rise by in all, too much."""
        potential, price = self.potential_hz, self.device_price_hz
        check_array("proof", "device_price_hz", price, np.float64, problem.n_devices)
        group = self._group_of_device(problem)
        sizes = [counter.size + 1 for counter in self.counters]
        shape = math.prod(sizes), problem.n_blocks + 1
        check_array("proof", "potential_hz", potential, np.float64, shape)
        check_sane("price", potential, price)
        require((price <= 0).all(), "proof", "a device's price is above 0")
        require(potential[0, 0] == 0, "proof", "the potential at the start is not 0")
        unit, available = 1.0, problem.bandwidth_hz
        if problem.subcarrier_hz is not None:
            unit = problem.subcarrier_hz
            available = subcarriers_in(problem.bandwidth_hz, unit)
        rounding = 4.5e-16 * float(np.abs(potential).max() + np.abs(price).max()) / unit
        if problem.subcarrier_hz is not None:
            rounding += _COUNT_ROUNDING
        excess = 0.0
        for first in range(problem.n_blocks):
            rise = _rises(potential, sizes, first, first + problem.longest)
            for rows, compute, load, possible in _chunks(problem, first):
                worth = (rise[group[rows]] + price[rows, None]) / unit
                if problem.subcarrier_hz is None:
                    left = bound - compute
                    needed = np.divide(load, left, out=np.full_like(left, np.inf), where=possible & (left > 0))
                    excess = max(excess, float((worth - needed).max()))
                else:
                    # With fewer whole subcarriers than it is worth a segment must not finish before the bound.
                    fewer = (np.ceil(worth - rounding) - 1) * unit
                    finish = compute + np.divide(load, fewer, out=np.full_like(load, np.inf), where=fewer > 0)
                    quick = (finish < bound * (1 - ROUNDING)) & possible
                    require(not quick.any(), "proof", "a segment needs fewer subcarriers than the potentials rise by")
        # What the potentials rise too much, as far as rounding can hide it, is paid for, once per block.
        least, priced = float(potential[:, -1].min()) / unit, (price[price < 0] / unit).tolist()
        total = math.fsum([least, *priced, -problem.n_blocks * (excess + rounding)])
        what = "Hz" if problem.subcarrier_hz is None else "subcarriers"
        require(
            total > available,
            "proof",
            f"finishing by {bound:.17g} s is only shown to need {total:.17g} {what}, not more than {available:.17g}",
        )

    def _group_of_device(self, problem: Problem) -> IntArray:
        """Return the counter of each device, from 1; 0 for one that none counts."""
        group = np.zeros(problem.n_devices, dtype=np.int64)
        require(isinstance(self.counters, tuple), "proof", "counters must be a tuple of arrays")
        for number, counter in enumerate(self.counters, start=1):
            check_array("proof", f"counter {number}", counter, np.int64, None)
            inside = (counter >= 0) & (counter < problem.n_devices)
            require(counter.size > 0 and inside.all(), "proof", f"counter {number} names no devices of the problem")
            distinct = np.unique(counter).size == counter.size and not group[counter].any()
            require(distinct, "proof", f"counter {number} counts a device twice")
            group[counter] = number
        return group

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "potential_hz": self.potential_hz.tolist(),
            **prices_to_json(self.device_price_hz),
            "counters": [counter.tolist() for counter in self.counters],
        }

    @classmethod
    def from_json(cls, where: str, data: dict[str, Any], problem: Problem) -> Self:
        """Build it from a JSON object."""
        check_keys(where, data, ["potential_hz", "device_price_hz", "priced_devices", "counters"])
        for name in ("potential_hz", "counters"):
            if not isinstance(data[name], list):
                raise FormatError(f"{where}, {name}: a list of lists was wanted, got {shown(data[name])}")
        states = {f"potential_hz[{s}]": row for s, row in enumerate(data["potential_hz"])}
        rows = [floats(where, states, name) for name in states]
        wanted = problem.n_blocks + 1
        if not rows or any(row.size != wanted for row in rows):
            raise FormatError(f"{where}, potential_hz: lists of {wanted} numbers were wanted, at least one")
        counters = [
            np.array(integers(f"{where}, counters[{c}]", devices), dtype=np.int64)
            for c, devices in enumerate(data["counters"])
        ]
        return cls(np.stack(rows), prices_from_json(where, data, problem.n_devices), tuple(counters))


def _rises(potential: FloatArray, sizes: list[int], first: int, last: int) -> FloatArray:
    """Return by how much the potential rises at most from a position to those after it, up to the last.

    A row for each group of devices: those that no counter counts, and those of each counter.
    """
    state, ends = np.arange(potential.shape[0]), slice(first + 1, last + 1)
    rises, stride = [(potential[:, ends] - potential[:, first, None]).max(axis=0)], 1
    for size in sizes:
        before = state[state // stride % size < size - 1]
        rises.append((potential[before + stride, ends] - potential[before, first, None]).max(axis=0))
        stride *= size
    return np.stack(rises)


def _chunks(problem: Problem, first: int) -> Iterator[tuple[slice, FloatArray, FloatArray, BoolArray]]:
    """Yield rows of devices, seconds of computation, bits over efficiency, and what is possible.

    By the segments that begin after the first blocks: the shortest, of one block, first.
    """
    profile, fleet, extra = problem.profile, problem.fleet, problem.segment_arguments()
    blocks = slice(first, min(first + problem.longest, problem.n_blocks))
    work, need = (
        alone[blocks] + np.concatenate([[0.0], np.cumsum(more[blocks][:-1])])
        for alone, more in (
            (profile.latency_s, extra["extra_latency_s"]),
            (profile.memory_bytes, extra["extra_memory_bytes"]),
        )
    )
    bits = np.cumsum(profile.upload_bits[blocks])
    step = max(1, _PAIRS // bits.size)
    for start in range(0, problem.n_devices, step):
        rows = slice(start, start + step)
        possible = fleet.usable_memory_bytes[rows, None] >= need
        if problem.allowed is not None:
            possible &= np.logical_and.accumulate(problem.allowed[rows, blocks], axis=1)
        yield (
            rows,
            problem.local_steps * work / fleet.speed[rows, None],
            bits / fleet.spectral_efficiency[rows, None],
            possible,
        )
