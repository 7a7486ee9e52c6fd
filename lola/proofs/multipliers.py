"""Dual ascent: Lagrange multipliers, and duals of the assignment that they lead to."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from lola.files.formats import check_keys, number
from lola.problem import Problem
from lola.proofs.checks import ROUNDING, check_sane, chunks, floats
from lola.solvers.checks import FloatArray, check_array, require


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
        check_sane("multiplier", weight, sigma, block, device, np.array([self.bandwidth]))
        require((weight >= 0).all() and self.bandwidth >= 0, "proof", "a multiplier is below 0")
        require(math.fsum(weight) <= 1 + ROUNDING, "proof", "the latency multipliers sum to more than 1")
        require((device <= 0).all(), "proof", "a device's dual is above 0")
        excess, first = 0.0, 0
        for compute, _, possible in chunks(problem):
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
        arrays = {name: floats(where, data, name) for name in names}
        return cls(bandwidth=number(f"{where}, bandwidth", data["bandwidth"]), **arrays)
