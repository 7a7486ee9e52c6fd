"""Certificates: why nothing is faster than a bound, each with its check by comparisons and sums, and as JSON."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from lola.files.formats import FormatError, check_keys, integers, number, numbers, table
from lola.problem import Problem
from lola.solvers.checks import BoolArray, FloatArray, IntArray, shown, subcarriers_in
from lola.solvers.errors import VerificationError

# Numbers that are computed again here by the formula they came from may differ by a few roundings.
ROUNDING = 1e-12
# Prices and multipliers beyond this prove nothing that smaller ones do not, and could overflow when added up.
_LARGEST = 1e200
# Devices checked at a time, so that a city's fleet needs no K×L array.
_CHUNK = 1 << 15


class Proof(Protocol):
    """A kind of certificate; `KINDS` lists them by the name they have in files."""

    kind: ClassVar[str]

    def check(self, problem: Problem, bound: float) -> None:
        """Raise `VerificationError` unless this proves that no schedule of the problem is faster than the bound."""

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""

    @classmethod
    def from_json(cls, where: str, data: dict[str, Any], problem: Problem) -> Self:
        """Build a certificate from a JSON object, or raise `FormatError`; whether it proves anything is not asked."""


@dataclass(frozen=True, eq=False)
class HallProof:
    """Proof for an equal split: too few devices can serve these blocks in less than the bound.

    Attributes
    ----------
    blocks : int64 array
        Indices of blocks; fewer devices than these can serve any of them in less than ``lower_bound_s``.
    """

    kind: ClassVar[str] = "hall"
    blocks: IntArray

    def check(self, problem: Problem, bound: float) -> None:
        """Count the devices that can serve one of the blocks in less than the bound."""
        check_array("proof", "blocks", self.blocks, np.int64, None)
        blocks = np.unique(self.blocks)
        require(
            blocks.size > 0 and blocks[0] >= 0 and blocks[-1] < problem.n_blocks,
            "proof",
            "names no blocks of the problem",
        )
        share = problem.bandwidth_hz / problem.n_blocks
        able = 0
        for compute, load, possible in _chunks(problem):
            quick = compute + load / share < bound * (1 - ROUNDING)
            able += int((quick & possible)[:, blocks].any(axis=1).sum())
        require(
            able < blocks.size,
            "proof",
            f"{able} devices can serve one of {blocks.size} blocks in less than {bound:.17g} s; want fewer",
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"blocks": self.blocks.tolist()}

    @classmethod
    def from_json(cls, where: str, data: dict[str, Any], problem: Problem) -> Self:
        """Build it from a JSON object."""
        check_keys(where, data, ["blocks"])
        return cls(np.array(integers(f"{where}, blocks", data["blocks"]), dtype=np.int64))


@dataclass(frozen=True, eq=False)
class PriceProof:
    """Proof for a joint allocation: prices under which finishing by the bound costs more than all the spectrum.

    Attributes
    ----------
    block_price_hz : (L,) float64 array
    device_price_hz : (K,) float64 array
        At most 0. For every pair, block price plus device price is at most the bandwidth with which the device would
        finish the block by ``lower_bound_s``.
    """

    kind: ClassVar[str] = "prices"
    block_price_hz: FloatArray
    device_price_hz: FloatArray

    def check(self, problem: Problem, bound: float) -> None:
        """Weak duality: any allocation that finishes by the bound needs at least all prices together, too much."""
        check_array("proof", "block_price_hz", self.block_price_hz, np.float64, problem.n_blocks)
        check_array("proof", "device_price_hz", self.device_price_hz, np.float64, problem.n_devices)
        block, device = self.block_price_hz, self.device_price_hz
        _check_sane("price", block, device)
        require((device <= 0).all(), "proof", "a device's price is above 0")
        if problem.subcarrier_hz is not None:
            _check_counts(block, device, bound, problem, problem.subcarrier_hz)
            return
        excess, first = 0.0, 0
        for compute, load, possible in _chunks(problem):
            last = first + compute.shape[0]
            left = bound - compute
            possible &= left > 0
            needed = np.divide(load, left, out=np.full_like(left, np.inf), where=possible)
            excess = max(excess, float((block + device[first:last, None] - needed).max()))
            first = last
        # Prices above what a pair needs, as far as rounding can hide it, are paid for, once per block.
        excess += 4.5e-16 * float(np.abs(block).max() + np.abs(device).max())
        total = math.fsum([*block.tolist(), *device[device < 0].tolist(), -problem.n_blocks * excess])
        require(
            total > problem.bandwidth_hz,
            "proof",
            f"finishing by {bound:.17g} s is only shown to need {total:.17g} Hz, "
            f"not more than {problem.bandwidth_hz:.17g}",
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads: most devices of a large fleet have price 0, and are left out."""
        priced = np.flatnonzero(self.device_price_hz)
        return {
            "block_price_hz": self.block_price_hz.tolist(),
            "device_price_hz": self.device_price_hz[priced].tolist(),
            "priced_devices": priced.tolist(),
        }

    @classmethod
    def from_json(cls, where: str, data: dict[str, Any], problem: Problem) -> Self:
        """Build it from a JSON object."""
        check_keys(where, data, ["block_price_hz", "device_price_hz", "priced_devices"])
        block, device = (_floats(where, data, name) for name in ("block_price_hz", "device_price_hz"))
        priced = np.array(integers(f"{where}, priced_devices", data["priced_devices"]), dtype=np.int64)
        inside = (priced >= 0) & (priced < problem.n_devices)
        if device.shape != priced.shape or not inside.all() or np.unique(priced).size != priced.size:
            raise FormatError(
                f"{where}: priced_devices must list distinct devices of the fleet, one for each of device_price_hz"
            )
        prices = np.zeros(problem.n_devices)
        prices[priced] = device
        return cls(block, prices)


@dataclass(frozen=True, eq=False)
class MultiplierProof:
    """Proof of dual ascent's bound: Lagrange multipliers, and duals of the assignment they lead to.

    Attributes
    ----------
    latency : (K,) float64 array
        λ ≥ 0, no unit, sum at most 1.
    bandwidth : float
        μ ≥ 0 in seconds per hertz.
    involvement_s : (K,) float64 array
        σ.
    block_s, device_s : (L,), (K,) float64 arrays
        ``block_s[l] + device_s[k] <= λ_k·J_kl − σ_k`` for every possible pair, and ``device_s <= 0``.
    """

    kind: ClassVar[str] = "multipliers"
    latency: FloatArray
    bandwidth: float
    involvement_s: FloatArray
    block_s: FloatArray
    device_s: FloatArray

    def check(self, problem: Problem, bound: float) -> None:
        """Weak duality again: the Lagrangian at these multipliers is nowhere below the bound."""
        check_array("proof", "block_s", self.block_s, np.float64, problem.n_blocks)
        for name in ("latency", "involvement_s", "device_s"):
            check_array("proof", name, getattr(self, name), np.float64, problem.n_devices)
        require(isinstance(self.bandwidth, float), "proof", "bandwidth must be a float")
        weight, sigma, block, device = self.latency, self.involvement_s, self.block_s, self.device_s
        _check_sane("multiplier", weight, sigma, block, device, np.array([self.bandwidth]))
        require((weight >= 0).all() and self.bandwidth >= 0, "proof", "a multiplier is below 0")
        require(math.fsum(weight) <= 1 + ROUNDING, "proof", "the latency multipliers sum to more than 1")
        require((device <= 0).all(), "proof", "a device's dual is above 0")
        excess, first = 0.0, 0
        for compute, _, possible in _chunks(problem):
            last = first + compute.shape[0]
            rows = slice(first, last)
            over = block + device[rows, None] - (weight[rows, None] * compute - sigma[rows, None])
            excess = max(excess, float(np.where(possible, over, -np.inf).max()))
            first = last
        # Lemma 1: the least any L devices contribute, each with the bandwidth that suits it best.
        bits, n_blocks = float(problem.profile.upload_bits.max()), problem.n_blocks
        require((problem.profile.upload_bits == bits).all(), "proof", "holds for equal uploads only")
        part = 2.0 * np.sqrt(weight * bits * self.bandwidth / problem.fleet.spectral_efficiency) + sigma
        involved = np.sort(part)[:n_blocks]
        excess += 4.5e-16 * float(
            np.abs(block).max() + np.abs(device).max() + np.abs(sigma).max() + np.abs(involved).max()
        )
        spent = self.bandwidth * problem.bandwidth_hz
        value = math.fsum(
            [*block.tolist(), *device[device < 0].tolist(), *involved.tolist(), -spent, -n_blocks * excess]
        )
        require(
            value >= bound * (1 - ROUNDING),
            "proof",
            f"the multipliers only show that no schedule is below {value:.17g} s",
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "latency": self.latency.tolist(),
            "bandwidth": self.bandwidth,
            "involvement_s": self.involvement_s.tolist(),
            "block_s": self.block_s.tolist(),
            "device_s": self.device_s.tolist(),
        }

    @classmethod
    def from_json(cls, where: str, data: dict[str, Any], problem: Problem) -> Self:
        """Build it from a JSON object."""
        names = ("latency", "involvement_s", "block_s", "device_s")
        check_keys(where, data, ["latency", "bandwidth", "involvement_s", "block_s", "device_s"])
        arrays = {name: _floats(where, data, name) for name in names}
        return cls(bandwidth=number(f"{where}, bandwidth", data["bandwidth"]), **arrays)


# By the name that a kind of certificate has in files.
KINDS: dict[str, type[Proof]] = {cls.kind: cls for cls in (HallProof, PriceProof, MultiplierProof)}


def proof_to_json(proof: Proof | None) -> dict[str, Any] | None:
    """Return what `proof_from_json` reads."""
    return None if proof is None else {"kind": proof.kind, **proof.to_json()}


def proof_from_json(where: str, value: object, problem: Problem) -> Proof | None:
    """Build a certificate of any kind from a JSON object, or raise `FormatError`; null is none."""
    if value is None:
        return None
    data = table(where, value)
    kind = data.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise FormatError(f"{where}, kind: must be one of {', '.join(KINDS)}, got {shown(kind)}")
    return KINDS[kind].from_json(where, data, problem)


def require(holds: object, line: str, detail: str) -> None:
    """Raise `VerificationError` where something does not hold: the line of the check, then what is wrong."""
    if not holds:
        raise VerificationError(f"{line}: {detail}")


def check_array(line: str, name: str, value: object, dtype: type, length: int | None) -> None:
    """Require a vector of a type, and of a length where one is given."""
    require(isinstance(value, np.ndarray), line, f"{name} must be an array, got {type(value).__name__}")
    assert isinstance(value, np.ndarray)
    require(value.dtype == dtype, line, f"{name} must be of {dtype.__name__}, got {value.dtype}")
    shape = value.shape if length is None else (length,)
    require(value.ndim == 1 and value.shape == shape, line, f"{name} has shape {value.shape}, wanted {shape}")


def _check_sane(what: str, *parts: FloatArray) -> None:
    """Refuse what cannot be added up: NaN, infinity, and numbers that would overflow."""
    sane = all((np.abs(part) <= _LARGEST).all() for part in parts)
    require(sane, "proof", f"a {what} is not finite, or beyond {_LARGEST:g}")


def _floats(where: str, data: dict[str, Any], name: str) -> FloatArray:
    return np.array(numbers(f"{where}, {name}", data[name]), dtype=np.float64)


def _check_counts(block: FloatArray, device: FloatArray, bound: float, problem: Problem, width: float) -> None:
    """Do the same in whole subcarriers, where prices are integers and sums are exact."""
    counts = []
    for price in (block, device):
        count = np.round(price / width)
        whole = np.abs(price / width - count) <= ROUNDING * np.maximum(np.abs(count), 1.0)
        require(whole.all() and (np.abs(count) < 2**52).all(), "proof", "a price is no whole number of subcarriers")
        counts.append(count.astype(np.int64))
    first = 0
    for compute, load, possible in _chunks(problem):
        last = first + compute.shape[0]
        fewer = (counts[0] + counts[1][first:last, None] - 1) * width
        first = last
        # With one subcarrier fewer than its price a pair must not finish before the bound.
        finish = compute + np.divide(load, fewer, out=np.full_like(load, np.inf), where=fewer > 0)
        quick = (finish < bound * (1 - ROUNDING)) & possible
        require(not quick.any(), "proof", "a price exceeds the subcarriers that a pair needs")
    total, available = sum(counts[0].tolist()) + sum(counts[1].tolist()), subcarriers_in(problem.bandwidth_hz, width)
    require(
        total > available,
        "proof",
        f"finishing before {bound:.17g} s is only shown to need {total} subcarriers, not more than {available}",
    )


def _chunks(problem: Problem) -> Iterator[tuple[FloatArray, FloatArray, BoolArray]]:
    """Yield seconds of computation, bits over efficiency, and whether the pair is possible; devices by blocks."""
    profile, fleet = problem.profile, problem.fleet
    memory = fleet.usable_memory_bytes
    work = problem.local_steps * profile.latency_s
    for first in range(0, problem.n_devices, _CHUNK):
        chunk = slice(first, first + _CHUNK)
        possible = memory[chunk, None] >= profile.memory_bytes
        if problem.allowed is not None:
            possible &= problem.allowed[chunk]
        yield (
            work / fleet.speed[chunk, None],
            profile.upload_bits / fleet.spectral_efficiency[chunk, None],
            possible,
        )
