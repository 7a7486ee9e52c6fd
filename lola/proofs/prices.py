"""(P2): prices of blocks and devices under which finishing in time costs more than the spectrum."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from lola.files.formats import check_keys
from lola.problem import Problem
from lola.proofs.checks import ROUNDING, check_sane, chunks, floats, prices_from_json, prices_to_json
from lola.solvers.checks import FloatArray, check_array, require, subcarriers_in


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
        check_sane("price", block, device)
        require((device <= 0).all(), "proof", "a device's price is above 0")
        if problem.subcarrier_hz is not None:
            _check_counts(block, device, bound, problem, problem.subcarrier_hz)
            return
        excess, first = 0.0, 0
        for compute, load, possible in chunks(problem):
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
        """Return what `from_json` reads."""
        return {"block_price_hz": self.block_price_hz.tolist(), **prices_to_json(self.device_price_hz)}

    @classmethod
    def from_json(cls, where: str, data: dict[str, Any], problem: Problem) -> Self:
        """Build it from a JSON object."""
        check_keys(where, data, ["block_price_hz", "device_price_hz", "priced_devices"])
        return cls(floats(where, data, "block_price_hz"), prices_from_json(where, data, problem.n_devices))


def _check_counts(block: FloatArray, device: FloatArray, bound: float, problem: Problem, width: float) -> None:
    """Do the same in whole subcarriers, where prices are integers and sums are exact."""
    counts = []
    for price in (block, device):
        count = np.round(price / width)
        whole = np.abs(price / width - count) <= ROUNDING * np.maximum(np.abs(count), 1.0)
        require(whole.all() and (np.abs(count) < 2**52).all(), "proof", "a price is no whole number of subcarriers")
        counts.append(count.astype(np.int64))
    first = 0
    for compute, load, possible in chunks(problem):
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
