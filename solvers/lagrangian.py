"""(P2) as published: dual ascent on the Lagrangian, with the best recovered primal and the best valid bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import Inputs, allocation_inputs
from lola.solvers.checks import FloatArray, IntArray, positive_integer, positive_number
from lola.solvers.errors import LolaValueError, infeasible_allocation
from lola.solvers.newton import assign_blocks, split_bandwidth

StepRule = Literal["polyak", "diminishing", "constant"]
# Adaptive Polyak steps aim this fraction of the start's latency above the best dual value, less when that fails.
_FIRST_AIM = 0.3
_PATIENCE = 15
_LOWER_AIM = 0.7
# A multiplier of 0 would make the upload's derivative infinite.
_LEAST_MULTIPLIER = 1e-9
_MOST_DERIVATIVE = 1e3


@dataclass(frozen=True, eq=False)
class DualAscent:
    """What dual ascent found.

    Attributes
    ----------
    objective : float
        Seconds; the best schedule recovered on the way, its bandwidth split optimally.
    device_of_block, bandwidth_hz : (L,) int64 and float64 arrays
        That schedule, in depth order.
    iterations : int
    lower_bound : float
        Seconds; the best dual value. NaN where the inner step was crunched, because then it bounds nothing.
    primal_s, dual_s : (iterations,) float64 arrays
        The history: latency of each iterate's schedule and value of its Lagrangian, in seconds.
    latency_multiplier, involvement_multiplier : (K,) float64 arrays
        λ (no unit, sum 1) and σ (seconds) of the best dual value.
    bandwidth_multiplier : float
        μ in seconds per hertz.
    block_dual_s, device_dual_s : (L,), (K,) float64 arrays
        Duals of the inner assignment at those multipliers: ``block_dual_s[l] + device_dual_s[k] <= λ_k·J_kl − σ_k``.
    """

    objective: float
    device_of_block: IntArray
    bandwidth_hz: FloatArray
    iterations: int
    lower_bound: float
    primal_s: FloatArray
    dual_s: FloatArray
    latency_multiplier: FloatArray
    involvement_multiplier: FloatArray
    bandwidth_multiplier: float
    block_dual_s: FloatArray
    device_dual_s: FloatArray


def dual_ascent(
    latency_s: ArrayLike,
    depth_memory_bytes: ArrayLike,
    upload_bits: ArrayLike,
    speed: ArrayLike,
    memory_bytes: ArrayLike,
    spectral_efficiency: ArrayLike,
    *,
    bandwidth_hz: float,
    local_steps: int = 1,
    allowed: ArrayLike | None = None,
    max_iterations: int = 1000,
    step: StepRule = "polyak",
    step_size: float | None = None,
    crunched: bool = False,
) -> DualAscent:
    """Search (P2) by Algorithm 3 of the LoLa-DEFT paper: dual decomposition and gradient ascent.

    For comparison: `joint_allocation` gives the optimum, with a proof that is tight.

    Parameters
    ----------
    latency_s, depth_memory_bytes, upload_bits, speed, memory_bytes, spectral_efficiency
        As for `joint_allocation`.
    bandwidth_hz, local_steps, allowed
        As for `joint_allocation`; every block must have the same upload.
    max_iterations : int
    step : {"polyak", "diminishing", "constant"}
        Length of the i-th step: towards a target just above the best dual value; ``step_size/√i`` along the unit
        gradient; ``step_size`` times the gradient (eq. (16) with a fixed ε). Latencies are scaled by the start's.
    step_size : float, optional
        0.03 (diminishing) or 0.001 (constant) by default; no meaning for Polyak steps.
    crunched : bool
        Solve the inner assignment on the matrix that CRUNCH leaves, as published. Faster on paper, but its minimum need
        not be the minimum of the Lagrangian, so there is no lower bound.

    Returns
    -------
    DualAscent
        The best schedule and the best bound, with the history of both.

    Raises
    ------
    InfeasibleError
        If memory (or `allowed`) leaves some blocks too few devices.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Section V. λ is kept on the simplex, which removes T from the Lagrangian; Lemma 1 gives the devices and bandwidths;
    the upload term of eq. (16) has its r_k back. See "Where the published text must be read with care" in
    ``lola docs theory``. The bound cannot exceed that of the problem with fractional assignments, however long one
    waits.

    Examples
    --------
    >>> from lola.solvers import dual_ascent
    >>> fleet = {"speed": [0.5, 1.0, 0.8], "memory_bytes": [3e9, 2e9, 1e9], "spectral_efficiency": [4.0, 2.0, 1.0]}
    >>> allocation = dual_ascent([0.8, 1.2], [1e9, 2e9], 8e5, **fleet, bandwidth_hz=1e6)
    >>> round(allocation.objective, 3), round(allocation.lower_bound, 2)  # no schedule is below the second
    (2.0, 1.49)
    """
    inputs = allocation_inputs(
        latency_s,
        depth_memory_bytes,
        upload_bits,
        speed,
        memory_bytes,
        spectral_efficiency,
        bandwidth_hz=bandwidth_hz,
        local_steps=local_steps,
        allowed=allowed,
    )
    if (inputs.bits != inputs.bits[0]).any():
        raise LolaValueError(
            "upload_bits must be the same for every block in dual ascent; use joint_allocation otherwise"
        )
    count = positive_integer("max_iterations", max_iterations)
    default_size = {"polyak": 1.0, "diminishing": 0.03, "constant": 0.001}
    if step not in default_size:
        raise LolaValueError(f"step must be one of {', '.join(default_size)}; got {step!r}")
    size = default_size[step] if step_size is None else positive_number("step_size", step_size)
    return _Ascent(inputs, crunched).run(count, step, size)


class _Ascent:
    """The state of one ascent. Latencies are in units of the start's, bandwidths in units of the whole spectrum."""

    def __init__(self, inputs: Inputs, crunched: bool) -> None:
        self.inputs, self.crunched = inputs, crunched
        possible = inputs.memory >= inputs.need[:, None]
        if inputs.mask is not None:
            possible &= inputs.mask.T
        compute = np.where(possible, inputs.work[:, None] / inputs.speed, np.inf)
        self.device, self.device_dual = np.zeros(inputs.n_blocks, np.int64), np.zeros(inputs.n_devices)
        load = inputs.bits[0] / (inputs.bandwidth / inputs.n_blocks) / inputs.efficiency
        violator = np.zeros(inputs.n_blocks, np.bool_)
        if not assign_blocks(compute + load, self.device, self.device_dual, violator):
            raise infeasible_allocation(np.flatnonzero(violator), inputs.need, inputs.memory, inputs.mask)
        self.blocks = np.arange(inputs.n_blocks)
        self.unit_s = float((compute + load)[self.blocks, self.device].max())
        self.compute = compute / self.unit_s
        self.upload = inputs.bits[0] / inputs.efficiency / inputs.bandwidth / self.unit_s  # with the whole spectrum

    def run(self, max_iterations: int, step: StepRule, size: float) -> DualAscent:
        n_blocks, n_devices = self.compute.shape
        weight = np.full(n_devices, 1.0 / n_devices)  # λ
        price = float(np.sort(np.sqrt(weight * self.upload))[:n_blocks].sum() ** 2)  # μ
        sigma = np.zeros(n_devices)
        primal, dual = np.empty(max_iterations), np.empty(max_iterations)
        best_latency, best_dual, goal, aim, waited = np.inf, -np.inf, -np.inf, _FIRST_AIM, 0
        best, multipliers = self._recover(self.device), (weight, price, sigma)
        done = 0
        for i in range(max_iterations):
            value, involved = self._minimise(weight, price, sigma)
            recovered = min(self._recover(self.device), self._recover(self._place(involved)), key=lambda r: r[2])
            primal[i], dual[i], done = recovered[2], value * self.unit_s, i + 1
            if recovered[2] < best_latency:
                best_latency, best = recovered[2], recovered
            waited += 1
            if value > best_dual:
                if value > goal + aim / 2:
                    goal, waited = value, 0
                best_dual, multipliers = value, (weight, price, sigma)
            if waited > _PATIENCE:
                goal, aim, waited = best_dual, aim * _LOWER_AIM, 0
            # Eq. (16): each constraint's violation at the minimiser. On the simplex a common shift of λ has no effect.
            slack_time = involved * np.minimum(
                np.sqrt(self.upload * price / np.maximum(weight, _LEAST_MULTIPLIER)), _MOST_DERIVATIVE
            )
            slack_time[self.device] += self.compute[self.blocks, self.device]
            slack_time -= slack_time.mean()
            slack_bandwidth = float(np.sqrt(weight * self.upload / price)[involved].sum() - 1.0)
            slack_involvement = involved.astype(np.float64)
            slack_involvement[self.device] -= 1.0
            square = float(slack_time @ slack_time + slack_bandwidth**2 + slack_involvement @ slack_involvement)
            if square == 0.0:
                break
            length = {
                "polyak": (best_dual + aim - value) / square,
                "diminishing": size / np.sqrt((i + 1) * square),
                "constant": size,
            }[step]
            weight = _onto_simplex(weight + length * slack_time)
            price = max(price + length * slack_bandwidth, 1e-12)
            sigma = sigma + length * slack_involvement
        return self._result(best, multipliers, primal[:done], dual[:done])

    def _minimise(self, weight: FloatArray, price: float, sigma: FloatArray) -> tuple[float, np.ndarray]:
        """Minimise the Lagrangian; return its value and the devices involved. `device` and its duals are updated."""
        finite = np.isfinite(self.compute)
        cost = np.where(finite, weight * np.where(finite, self.compute, 0.0) - sigma, np.inf)
        if self.crunched:
            n_blocks = cost.shape[0]
            # Theorem 1's threshold, where CRUNCH stops if rows rise with depth; elsewhere too it leaves each block as
            # many devices as there are blocks from it on, so an assignment stays possible.
            cut = max(np.partition(cost[i], n_blocks - 1 - i)[n_blocks - 1 - i] for i in range(n_blocks))
            cost[cost > cut] = np.inf
        if not assign_blocks(cost, self.device, self.device_dual, np.zeros(cost.shape[0], np.bool_)):
            raise AssertionError("an assignment that exists at the start exists at every step")
        need = 2.0 * np.sqrt(weight * self.upload * price) + sigma  # Lemma 1
        chosen = np.argpartition(need, cost.shape[0] - 1)[: cost.shape[0]]
        involved = np.zeros(need.shape[0], np.bool_)
        involved[chosen] = True
        return float(cost[self.blocks, self.device].sum() + need[chosen].sum() - price), involved

    def _place(self, involved: np.ndarray) -> IntArray:
        """Place the blocks on the devices that Lemma 1 involves, as far as they can take them."""
        cost = self.compute + np.where(involved, 0.0, _MOST_DERIVATIVE)
        device = np.zeros_like(self.device)
        assign_blocks(cost, device, np.zeros(cost.shape[1]), np.zeros(cost.shape[0], np.bool_))
        return device

    def _recover(self, device: IntArray) -> tuple[IntArray, FloatArray, float]:
        """Split the bandwidth optimally over an assignment: a schedule, its shares and its latency."""
        devices, inputs = device.copy(), self.inputs
        share, latency, _ = split_bandwidth(
            inputs.work / inputs.speed[devices], inputs.bits, inputs.efficiency[devices], inputs.bandwidth
        )
        return devices, share, latency

    def _result(
        self,
        best: tuple[IntArray, FloatArray, float],
        multipliers: tuple[FloatArray, float, FloatArray],
        primal: FloatArray,
        dual: FloatArray,
    ) -> DualAscent:
        weight, price, sigma = multipliers
        bound = float(dual.max())
        self._minimise(*multipliers)
        finite = np.isfinite(self.compute)
        reduced = np.where(finite, weight * np.where(finite, self.compute, 0.0) - sigma, np.inf) - self.device_dual
        return DualAscent(
            objective=best[2],
            device_of_block=best[0],
            bandwidth_hz=best[1],
            iterations=primal.size,
            lower_bound=np.nan if self.crunched else bound,
            primal_s=primal,
            dual_s=dual,
            latency_multiplier=weight,
            involvement_multiplier=sigma * self.unit_s,
            bandwidth_multiplier=price * self.unit_s / self.inputs.bandwidth,
            block_dual_s=reduced.min(axis=1) * self.unit_s,
            device_dual_s=self.device_dual * self.unit_s,
        )


def _onto_simplex(point: FloatArray) -> FloatArray:
    """Project onto {λ ≥ 0, Σλ = 1} in O(K log K)."""
    point = point - point.max()  # a common shift changes nothing, and keeps the sums small
    falling = np.sort(point)[::-1]
    excess = (np.cumsum(falling) - 1.0) / np.arange(1, point.size + 1)
    return np.asarray(np.maximum(point - excess[np.flatnonzero(falling > excess)[-1]], 0.0))
