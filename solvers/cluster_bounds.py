"""What disjoint chains take at least: potentials of paths that may come back to a client, at a price for each use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lola.solvers.chain_costs import ChainCosts, Chains, chains_from, first_clients
from lola.solvers.chain_paths import completion
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.cluster_costs import cluster_costs
from lola.solvers.errors import VerificationError

# Steps along the subgradient of the prices.
_STEPS = 60
# Numbers that are computed again here by the formula they came from may differ by a few roundings.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ClusterPotentials:
    """What follows at least in all, at prices, and of its stages and hops the slowest.

    Attributes
    ----------
    price_s : (K,) float64 array
        At least 0: what each use of a client costs besides. Clusters are disjoint, so all together pay each once.
    potential_s : (F, N + 1, K) float64 array
        For each first client, or for all at once: what follows once so many modules are done and a client held
        the last.
    slowest_s : (F, N + 1, K) float64 array
        The slowest stage or hop of what follows, without prices.
    """

    price_s: FloatArray
    potential_s: FloatArray
    slowest_s: FloatArray

    def by_start(self, costs: ChainCosts) -> FloatArray:
        """Check the potentials by comparisons and sums; return what chains from each of `costs.first` cost at least."""
        firsts = first_clients(costs)
        price, shape = self.price_s, (len(firsts), costs.n_modules + 1, costs.n_clients)
        _require(price.shape == (costs.n_clients,) and (price >= 0).all() and (price < np.inf).all(), "no price")
        _require(self.potential_s.shape == self.slowest_s.shape == shape, "potentials of another shape")
        at_least = np.full(costs.first.size, np.inf)
        for first, potential, slowest in zip(firsts, self.potential_s, self.slowest_s, strict=True):
            chains = chains_from(costs, first)
            priced = chains._replace(stage_s=chains.stage_s + price[:, None, None])
            own = np.ones(costs.first.size, np.bool_) if first is None else costs.first == first
            in_all = _from_starts(priced, potential, np.add)[costs.first[own]]
            worst = _from_starts(chains, slowest, np.maximum)[costs.first[own]]
            at_least[own] = _weighted(costs.sum_weight, in_all) + _weighted(costs.max_weight, worst)
        return at_least


@dataclass(frozen=True, eq=False)
class ClusterProof:
    """Proof that no clusters are better than a bound.

    Attributes
    ----------
    potentials : tuple of ClusterPotentials
        Without prices, and with the prices that show most.
    """

    potentials: tuple[ClusterPotentials, ...]

    def bound(self, costs: ChainCosts, n_clusters: int, throughput: bool) -> float:
        """Check the potentials; return what no clusters beat, infinity where there are none."""
        bounds = []
        for potentials in self.potentials:
            least = np.sort(potentials.by_start(costs))[:n_clusters]
            paid = costs.sum_weight * float(potentials.price_s.sum())
            if throughput:
                _require(paid == 0.0, "prices, which say nothing of a throughput")
                bounds.append(float((1.0 / least).sum()))
            else:
                # The slowest takes as long as all do on average, and without prices as the n-th fastest start.
                bounds.append(float((least.sum() - paid) / n_clusters))
                bounds.append(float(least[-1]) if paid == 0.0 else -np.inf)
        _require(len(bounds) > 0, "no potentials")
        return min(bounds) if throughput else max(bounds)

    def check(self, bound: float, *arguments: Any, **keywords: Any) -> None:
        """Raise `VerificationError` unless this proves that no clusters beat the bound, to 1e-12.

        Parameters
        ----------
        bound : float
            Seconds, or for "throughput" batches a second.
        *arguments, **keywords
            Those of `cluster_allocation`, the goal too.
        """
        # Of this very class: a subclass could show what it likes.
        own = all(type(each) is ClusterPotentials for each in self.potentials)
        _require(own, "ClusterPotentials alone show a bound")
        costs, count, throughput = cluster_costs(*arguments, **keywords)
        shown = self.bound(costs, count, throughput)
        holds = shown <= bound * (1 + _ROUNDING) if throughput else shown >= bound * (1 - _ROUNDING)
        _require(holds, f"the potentials only show {shown:.17g}, not {bound:.17g}")


def unpriced(costs: ChainCosts) -> ClusterPotentials:
    """Return the potentials without prices."""
    price = np.zeros(costs.n_clients)
    in_all, slowest = (_potentials(costs, price, bottleneck=which) for which in (False, True))
    return ClusterPotentials(price, in_all, slowest)


def prove(costs: ChainCosts, n_clusters: int, throughput: bool, objective: float) -> ClusterProof:
    """Find potentials without prices, and the prices that show most of the slowest of clusters."""
    free = unpriced(costs)
    if throughput or costs.sum_weight == 0.0:
        return ClusterProof((free,))
    price, best, highest = free.price_s, free, -np.inf
    for _ in range(_STEPS):
        potentials = ClusterPotentials(price, _potentials(costs, price, bottleneck=False), free.slowest_s)
        least = potentials.by_start(costs)
        chosen = np.argsort(least, kind="stable")[:n_clusters]
        shown = (float(least[chosen].sum()) - costs.sum_weight * float(price.sum())) / n_clusters
        if shown > highest:
            highest, best = shown, potentials
        used = sum(_uses(costs, potentials, int(client)) for client in costs.first[chosen])
        slope = np.where((used == 0) & (price == 0.0), 0, used - 1)
        length = float((slope**2).sum())
        if length == 0.0:
            break
        price = np.maximum(0.0, price + max(objective - shown, 0.0) * n_clusters / (costs.sum_weight * length) * slope)
    return ClusterProof((free, best))


def _potentials(costs: ChainCosts, price: FloatArray, *, bottleneck: bool) -> FloatArray:
    firsts = first_clients(costs)
    ahead = np.empty((len(firsts), costs.n_modules + 1, costs.n_clients))
    for first, potential in zip(firsts, ahead, strict=True):
        chains = chains_from(costs, first)
        completion(chains.stage_s + price[:, None, None], chains.hop_s, chains.end_s, bottleneck, potential)
    return ahead


def _uses(costs: ChainCosts, potentials: ClusterPotentials, start: int) -> IntArray:
    """Count the uses of each client on a cheapest path from a start."""
    firsts = first_clients(costs)
    place = 0 if firsts[0] is None else firsts.index(start)
    chains, potential = chains_from(costs, firsts[place]), potentials.potential_s[place]
    stage = chains.stage_s + potentials.price_s[:, None, None]
    used, i, client = np.zeros(costs.n_clients, np.int64), 0, start
    while True:
        used[client] += 1
        i += 1 + int(np.argmin(stage[client, i, i + 1 :] + potential[i + 1 :, client]))
        if i == costs.n_modules:
            return used
        onward = (stage[:, i, i + 1 :] + potential[i + 1 :].T).min(axis=1)
        client = int(np.argmin(chains.hop_s[i, client] + onward))


def _from_starts(chains: Chains, potential: FloatArray, join: np.ufunc) -> FloatArray:
    """Return what a chain costs at least by the client of its first stage, less what potentials exceed what follows."""
    n_modules = potential.shape[0] - 1
    _require((potential >= 0).all(), "a potential is below 0, or none")
    excess = _above(potential[n_modules], chains.end_s)
    for i in range(n_modules - 1, -1, -1):
        onward = join(chains.stage_s[:, i, i + 1 :], potential[i + 1 :].T).min(axis=1)
        if i:
            excess = max(excess, _above(potential[i], join(chains.hop_s[i], onward).min(axis=1)))
    # What rounding can hide is paid for once a stage.
    return np.asarray(chains.begin_s + np.maximum(onward - min(potential.shape) * excess, 0.0))


def _above(potential: FloatArray, limit: FloatArray) -> float:
    """Return by how much potentials exceed what they may be."""
    finite = np.isfinite(limit)
    _require(np.isfinite(potential[finite]).all(), "a potential is infinite where a chain can go on")
    return float((potential[finite] - limit[finite]).max(initial=0.0))


def _weighted(weight: float, seconds: FloatArray) -> FloatArray:
    """Return seconds at a weight; infinite ones stay so at weight 0."""
    return weight * seconds if weight > 0.0 else np.where(np.isfinite(seconds), 0.0, np.inf)


def _require(holds: object, detail: str) -> None:
    """Raise `VerificationError` where something does not hold."""
    if not holds:
        raise VerificationError(f"proof: {detail}")
