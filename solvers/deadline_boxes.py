"""The ranks of most importance for which a round still ends by a deadline."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Context

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.checks import FloatArray, IntArray, check_array, check_number, frozen, require
from lola.solvers.deadline_options import DeadlineInputs, Options, deadline_inputs, options_of, total
from lola.solvers.deadline_proof import CLOSED, RankProof, magnitude
from lola.solvers.deadline_search import RankSearch
from lola.solvers.errors import InfeasibleError
from lola.solvers.hopcroft_karp import bottleneck_assignment
from lola.solvers.newton import split_bandwidth
from lola.solvers.shortest_augmenting_path import linear_assignment

# Boxes of ranks; hundreds are usual for two dozen blocks. What is still open then shows in the bound.
_MOST_NODES = 50_000


@dataclass(frozen=True, eq=False)
class DeadlineRanks:
    """Ranks, devices and bandwidths with which a round ends by a deadline, and the proof that no ranks are worth more.

    Attributes
    ----------
    objective : float
        What the ranks are worth together.
    rank : (L,) int64 array
        By block, index 0 being depth 1.
    device_of_block : (L,) int64 array
        −1 for a block that is left out, because it uploads nothing.
    bandwidth_hz : (L,) float64 array
        0 for a block that is left out. Where shares are chosen, all bandwidth is shared so that the round ends soonest.
    latency_s : float
        When the round ends, at most the deadline; 0 where all blocks are left out.
    upper_bound : float
        No ranks that fit are worth more, by 1e-12 of the worths' magnitudes; the objective itself where that is proven
        optimal. Above it only if 50,000 boxes of ranks did not settle the question, or if ranks that are worth more
        miss the bandwidth by no more than roundings of the proof hide.
    proof : RankProof
        Why: a tree of boxes of ranks, with prices of bandwidth and of devices in each.
    """

    objective: float
    rank: IntArray
    device_of_block: IntArray
    bandwidth_hz: FloatArray
    latency_s: float
    upper_bound: float
    proof: RankProof

    def verify(
        self,
        gain: ArrayLike,
        compute_s: ArrayLike,
        rank_bits: ArrayLike,
        fixed_bits: ArrayLike,
        spectral_efficiency: ArrayLike,
        bandwidth_hz: float,
        deadline_s: float,
        *,
        min_rank: int = 1,
        equal_bandwidth: bool = False,
    ) -> None:
        """Check that the round ends by the deadline and that no ranks are worth more, by comparisons and sums.

        Parameters
        ----------
        gain, compute_s, rank_bits, fixed_bits, spectral_efficiency, bandwidth_hz, deadline_s, min_rank, equal_bandwidth
            As given to `deadline_ranks`.

        Raises
        ------
        VerificationError
            If anything does not hold; the message names the first line that fails.
        TypeError, ValueError
            If an argument is not as described.
        """
        inputs = deadline_inputs(
            gain,
            compute_s,
            rank_bits,
            fixed_bits,
            spectral_efficiency,
            bandwidth_hz,
            deadline_s,
            min_rank,
            equal_bandwidth,
        )
        for name in ("objective", "latency_s", "upper_bound"):
            check_number(name, getattr(self, name))
        require(isinstance(self.proof, RankProof), "proof", f"a RankProof was wanted, got {type(self.proof).__name__}")
        options = options_of(inputs)
        self._check_round(inputs)
        worth = total(inputs.worth[np.arange(options.n_blocks), self.rank])
        near = abs(worth - self.objective) <= CLOSED * magnitude(options)
        require(near, "objective", f"is {self.objective:.17g}, but the ranks are worth {worth:.17g}")
        self.proof.check(options, self.objective, self.upper_bound)

    def _check_round(self, inputs: DeadlineInputs) -> None:
        """Check ranks, devices, bandwidths and the latency."""
        n_blocks, n_devices = inputs.compute.shape
        for name, kind in {"rank": np.int64, "device_of_block": np.int64, "bandwidth_hz": np.float64}.items():
            check_array(name, "it", getattr(self, name), kind, n_blocks)
        lowest, most = inputs.min_rank, inputs.worth.shape[1] - 1
        require(((self.rank >= lowest) & (self.rank <= most)).all(), "rank", f"must lie between {lowest} and {most}")
        bits = inputs.bits[np.arange(n_blocks), self.rank]
        serves = self.device_of_block[bits > 0]
        own = ((serves >= 0) & (serves < n_devices)).all() and np.unique(serves).size == serves.size
        require(own, "device_of_block", "blocks that upload something need a device each, and another one")
        idle = (self.device_of_block[bits == 0] == -1).all()
        require(idle, "device_of_block", "a block that uploads nothing must have -1")
        if inputs.equal:
            alike = (self.bandwidth_hz[bits > 0] == inputs.share).all()
            require(alike, "bandwidth_hz", f"the equal share is {inputs.share:.17g}")
        fair = ((self.bandwidth_hz > 0) == (bits > 0)) & (self.bandwidth_hz >= 0)
        require(
            fair.all() and total(self.bandwidth_hz) <= inputs.bandwidth * (1 + CLOSED),
            "bandwidth_hz",
            f"shares must be > 0 (0 for a block left out) and sum to {inputs.bandwidth:.17g} at most",
        )
        latency = _latency(inputs, self.rank, self.device_of_block, self.bandwidth_hz)
        ends = f"is {self.latency_s:.17g}, the round ends after {latency:.17g}, the deadline is {inputs.deadline:.17g}"
        require(latency == self.latency_s and latency <= inputs.deadline, "latency_s", ends)


def deadline_ranks(
    gain: ArrayLike,
    compute_s: ArrayLike,
    rank_bits: ArrayLike,
    fixed_bits: ArrayLike,
    spectral_efficiency: ArrayLike,
    bandwidth_hz: float,
    deadline_s: float,
    *,
    min_rank: int = 1,
    equal_bandwidth: bool = False,
) -> DeadlineRanks:
    """Choose the ranks that are worth most of those with which a round ends by a deadline.

    Block l of rank ρ on device k with bandwidth b takes ``compute_s[l, k] + (fixed_bits[l] + ρ·rank_bits[l])/b/
    spectral_efficiency[k]`` seconds. Every block that uploads something has a device of its own.

    Parameters
    ----------
    gain : (L, R) array_like
        What the i-th rank of a block is worth, in column i − 1; any sign, and a row need not fall.
    compute_s : (L, K) array_like
        Seconds that a device takes for a block, ≥ 0; inf where it lacks the memory, or must not.
    rank_bits : float or (L,) array_like
        Bits that one rank adds to the upload, > 0.
    fixed_bits : float or (L,) array_like
        Bits that a block uploads at any rank, such as the head's, ≥ 0.
    spectral_efficiency : (K,) array_like
        bit/s/Hz of each device, > 0.
    bandwidth_hz : float
        Uplink spectrum, > 0.
    deadline_s : float
        Seconds after which the round must have ended, > 0; without a broadcast before it.
    min_rank : int
        The least rank of each block, from 0 to R. At 0 a block without fixed bits may be left out.
    equal_bandwidth : bool
        Every block's share is an L-th of the bandwidth, as in (P1). Otherwise shares are chosen, as in (P2).

    Returns
    -------
    DeadlineRanks
        The optimum, and prices that prove it.

    Raises
    ------
    InfeasibleError
        If even the least ranks do not fit; the message says by when they would.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    "Ranks by a deadline" of ``lola docs theory``: at a price of bandwidth the best ranks and devices are one assignment
    of O(L²K) time, and the best price bounds what fits. Boxes of ranks are cut until the bound is met; the problem
    contains the knapsack problem, so that their number has no polynomial bound.

    Examples
    --------
    >>> from lola.solvers import deadline_ranks
    >>> gain, compute_s = [[5.0, 2.0, 1.0], [4.0, 3.0, 2.0]], [[1.0, 0.5], [2.0, 1.0]]
    >>> best = deadline_ranks(gain, compute_s, 1e6, 0.0, [2.0, 4.0], bandwidth_hz=1e6, deadline_s=2.0)
    >>> best.rank, best.device_of_block, best.objective
    (array([1, 2]), array([0, 1]), 12.0)
    """
    inputs = deadline_inputs(
        gain, compute_s, rank_bits, fixed_bits, spectral_efficiency, bandwidth_hz, deadline_s, min_rank, equal_bandwidth
    )
    options = options_of(inputs)
    search = RankSearch(options)
    upper, proof = search.run(_MOST_NODES)
    best = search.best
    if best.option.size == 0:
        raise _infeasible(inputs, options)
    rank = options.rank[best.option]
    device = options.device[best.option]
    device = np.where(device == options.n_devices, -1, device)
    share = _shares(inputs, rank, device, options.need[best.option])
    latency = _latency(inputs, rank, device, share)
    return DeadlineRanks(best.worth, frozen(rank), frozen(device), frozen(share), latency, upper, proof)


def _shares(inputs: DeadlineInputs, rank: IntArray, device: IntArray, need: FloatArray) -> FloatArray:
    """Share the bandwidth: equally, or so that the round ends soonest, or as needed where only that is in time."""
    (serves,) = np.nonzero(device >= 0)
    share = np.zeros(device.size)
    if inputs.equal:
        share[serves] = inputs.share
    elif serves.size:
        bits = inputs.bits[serves, rank[serves]]
        share[serves], latency, _ = split_bandwidth(
            inputs.compute[serves, device[serves]], bits, inputs.efficiency[device[serves]], inputs.bandwidth
        )
        if latency > inputs.deadline:
            share = need
    return share


def _latency(inputs: DeadlineInputs, rank: IntArray, device: IntArray, share: FloatArray) -> float:
    (serves,) = np.nonzero(device >= 0)
    device = device[serves]
    upload = inputs.bits[serves, rank[serves]] / share[serves] / inputs.efficiency[device]
    return float((inputs.compute[serves, device] + upload).max(initial=0.0))


def _infeasible(inputs: DeadlineInputs, options: Options) -> InfeasibleError:
    """Say why even the least ranks do not fit."""
    lowest = inputs.min_rank
    (must,) = np.nonzero(inputs.bits[:, lowest] > 0)
    n_devices = options.n_devices
    least = options.rank == lowest
    need = np.full((options.n_blocks, n_devices + 1), np.inf)
    need[options.block[least], options.device[least]] = options.need[least]
    start = f"no ranks fit: even with rank {lowest} everywhere "
    if must.size > n_devices:
        return InfeasibleError(
            f"{start}{must.size} blocks need a device each, and there are {n_devices}; add devices"
            f"{', or let blocks without fixed bits be left out (min_rank=0)' if lowest else ''}",
            must.tolist(),
            n_devices,
        )
    try:
        shortest = _least_deadline(inputs, must)
    except InfeasibleError as hall:
        return _too_few(
            start, must, hall, "have a finite compute_s for any of them, whatever the deadline; add devices, or memory"
        )
    mend = f"a deadline_s of {_rounded_up(shortest)} would do; or add bandwidth or devices"
    mend += ", or lower min_rank" if lowest else ""
    try:
        least_need = linear_assignment(need[must, :n_devices]).objective
    except InfeasibleError as hall:
        return _too_few(start, must, hall, f"could end any of them by {inputs.deadline:.6g} s; {mend}")
    needed, there = _told_apart(least_need, inputs.bandwidth)
    return InfeasibleError(
        f"{start}the blocks need {needed} Hz to end by {inputs.deadline:.6g} s, and there are {there}; {mend}",
        (),
        n_devices,
    )


def _rounded_up(latency: float) -> str:
    """Write a time with six digits so that whoever waits as long has waited long enough, whatever sums are rounded."""
    return f"{float(Context(prec=6, rounding=ROUND_CEILING).create_decimal_from_float(latency * (1 + 1e-9))):.6g}"


def _told_apart(one: float, other: float) -> tuple[str, str]:
    """Write two numbers with as many digits, six at least, as tell them apart."""
    written = ((f"{one:.{digits}g}", f"{other:.{digits}g}") for digits in range(6, 18))
    return next((pair for pair in written if pair[0] != pair[1]), (f"{one:.17g}", f"{other:.17g}"))


def _too_few(start: str, must: IntArray, hall: InfeasibleError, able: str) -> InfeasibleError:
    """Name the blocks of a Hall violator among those that need a device."""
    blocks = must[list(hall.violator)]
    depths = ", ".join(map(str, blocks + 1))
    need = f"{start}depth(s) {depths} need {blocks.size} device(s), and {hall.partners} {able}"
    return InfeasibleError(need, blocks.tolist(), hall.partners)


def _least_deadline(inputs: DeadlineInputs, must: IntArray) -> float:
    """Return when a round of the least ranks ends at best, a little late where shares are chosen."""
    load = inputs.bits[must, inputs.min_rank][:, None] / inputs.efficiency
    compute = inputs.compute[must]
    if inputs.equal:
        return bottleneck_assignment(compute + load / inputs.share).objective
    early = bottleneck_assignment(compute + load / inputs.bandwidth).objective
    late = bottleneck_assignment(compute + load / (inputs.bandwidth / must.size)).objective
    while late > early * (1 + 1e-7):
        between = (early + late) / 2
        in_time = compute < between
        need = np.where(in_time, load / np.where(in_time, between - compute, 1.0), 2 * inputs.bandwidth)
        if linear_assignment(need).objective <= inputs.bandwidth:
            late = between
        else:
            early = between
    return late
