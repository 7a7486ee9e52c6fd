"""Clusters of up to 14 clients: the best chain of every set of clients, then the best disjoint sets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from lola.solvers._jit import kernel
from lola.solvers.chain_costs import ChainCosts, first_clients
from lola.solvers.chain_search import Incumbent, Search
from lola.solvers.chain_subsets import best_of_subsets
from lola.solvers.checks import FloatArray, IntArray

# Limits of the slowest between which the sums of chains are bounded apart.
_LIMITS = 12
# Two sums of the same numbers may differ by so much.
_ROUNDING = 1e-12


def best_chain(costs: ChainCosts, clients: IntArray) -> tuple[float, IntArray]:
    """Return the optimum among at most 14 clients, and who holds each module; infinity where there is no chain."""
    some = costs.among(clients)
    best = Incumbent(some)
    firsts = first_clients(some) if some.first.size else []
    for first in firsts:
        Search(some, first, best, len(firsts)).run()
    return best.objective, clients[best.client_of_module]


def least_by_subset(costs: ChainCosts) -> FloatArray:
    """Return what a chain that uses just some clients takes at least, (2**K,); the least for "sum" and "max"."""
    firsts = first_clients(costs)

    def least(some: ChainCosts) -> FloatArray:
        return np.asarray(np.minimum.reduce([best_of_subsets(some, first) for first in firsts]))

    if costs.sum_weight == 0.0 or costs.max_weight == 0.0:
        return least(costs)
    slowest = least(costs._replace(sum_weight=0.0, max_weight=1.0))
    total = np.full(slowest.size, np.inf)
    possible = slowest[(slowest > 0.0) & (slowest < np.inf)]
    between = np.geomspace(possible.min(), possible.max(), _LIMITS)[1:] if possible.size else possible
    # Chains whose slowest lies between two limits take the least sum below the upper one, and the lower one.
    limits = [0.0, *between, np.inf]
    for lower, upper in pairwise(limits):
        stage, hop, ring = (np.where(s < upper, s, np.inf) for s in (costs.stage_s, costs.hop_s, costs.ring_s))
        in_all = least(costs._replace(stage_s=stage, hop_s=hop, ring_s=ring, max_weight=0.0))
        both = costs.sum_weight * in_all + costs.max_weight * np.maximum(slowest, lower)
        total = np.minimum(total, both)
    return total


class Packing:
    """The search for the best disjoint sets of clients, where some chains may be dearer than the table says.

    Attributes
    ----------
    least_s : (2**K,) float64 array
        What a chain on just these clients takes at least.
    chains : dict
        By set of clients, the best chain among them: its objective, and who holds each module.
    most : int
        How many disjoint sets there are at most, once it has run, of the number that was sought.
    """

    def __init__(self, costs: ChainCosts, n_clusters: int, throughput: bool) -> None:
        self.costs, self.n_clusters, self.throughput = costs, n_clusters, throughput
        self.least_s = least_by_subset(costs)
        self.chains: dict[int, tuple[float, IntArray]] = {}
        self.most = 0

    def begins(self, client: int) -> bool:
        """Return whether any chain begins with a client."""
        of_one = self.costs._replace(first=np.array([client]))
        return bool(np.isfinite(best_chain(of_one, np.arange(self.costs.n_clients))[0]))

    def run(self) -> tuple[float, list[int]]:
        """Return the best value of all packings, and the sets of one: infinity and none where there is none.

        Sets are tried whose chains may be the best; where they are dearer than the table says, the table learns it.
        """
        while True:
            packed = np.empty((self.n_clusters, self.least_s.size))
            sets = np.zeros(self.n_clusters, np.int64)
            pack(values_of(self.least_s, self.throughput), self.throughput, packed, sets)
            self.most = int(np.isfinite(packed[:, -1]).sum())
            total = float(packed[-1, -1])
            if total == np.inf:
                return total, []
            new = [int(subset) for subset in sets if int(subset) not in self.chains]
            if not new:
                return total, sets.tolist()
            for subset in new:
                self._learn(subset)

    def _learn(self, subset: int) -> None:
        members = np.flatnonzero(subset >> np.arange(self.costs.n_clients) & 1)
        objective, client_of_module = best_chain(self.costs, members)
        self.chains[subset] = objective, client_of_module
        if objective > self.least_s[subset] * (1 + _ROUNDING):
            within = (np.arange(self.least_s.size) & ~subset) == 0  # what all of them need, some of them need, too
            self.least_s[within] = np.maximum(self.least_s[within], objective)


def values_of(objective: FloatArray, throughput: bool) -> FloatArray:
    """Return what chains add to what is minimised; infinite where there is none."""
    if not throughput:
        return objective
    return np.where(np.isfinite(objective), -1.0 / objective, np.inf)


@kernel
def pack(value, add, packed, sets):
    """Write down the best total of so many disjoint sets within each set, and sets of the best of all.

    Parameters
    ----------
    value : (2**K,) float64 array
        Of one set; infinite for those that cannot be.
    add : bool
        Whether values add up; else the largest counts. The least total is sought.
    packed : (n, 2**K) float64 array
        Of one to n sets; modified in place.
    sets : (n,) int64 array
        Modified in place, where there are so many.
    """
    n_sets, n_subsets = packed.shape
    packed[0] = value
    bit = 1
    while bit < n_subsets:
        for subset in range(n_subsets):
            if subset & bit:
                packed[0, subset] = min(packed[0, subset], packed[0, subset ^ bit])
        bit <<= 1
    for n in range(1, n_sets):
        for subset in range(n_subsets):
            least = np.inf
            own = subset
            while own:
                one, others = packed[0, own], packed[n - 1, subset ^ own]
                if one < np.inf and others < np.inf:
                    least = min(least, one + others if add else max(one, others))
                own = (own - 1) & subset
            packed[n, subset] = least
    left = n_subsets - 1
    if packed[n_sets - 1, left] == np.inf:
        return
    for n in range(n_sets - 1, -1, -1):
        # Of the sets with which the total is met, the one whose own value is least.
        own, best, least = left, left, np.inf
        while own:
            one, total = value[own], value[own]
            if n > 0 and one < np.inf:
                others = packed[n - 1, left ^ own]
                total = one + others if add else max(one, others)
            if one < least and total == packed[n, left]:
                best, least = own, one
            own = (own - 1) & left
        sets[n] = best
        left ^= best
