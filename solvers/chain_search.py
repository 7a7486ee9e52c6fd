"""Optimal chains by decremental state-space relaxation: who is used twice on a cheapest path becomes critical."""

from __future__ import annotations

import numpy as np

from lola.solvers.chain_costs import ChainCosts, Chains, chains_from
from lola.solvers.chain_paths import cheapest_end, completion, relax, trace
from lola.solvers.chain_proofs import ChainPotentials
from lola.solvers.checks import FloatArray, IntArray

# Up to so many clients all may become critical; beyond, so many that their potentials take 64 MiB.
MOST_CLIENTS, _MOST_POTENTIALS = 14, 1 << 23


class Incumbent:
    """The best chain so far."""

    def __init__(self, costs: ChainCosts) -> None:
        self.costs = costs
        self.objective = np.inf
        self.client_of_module = np.zeros(0, np.int64)

    def offer(self, client_of_module: IntArray) -> None:
        """Keep a chain if it is better."""
        objective = self.costs.objective(client_of_module)
        if objective < self.objective:
            self.objective, self.client_of_module = objective, client_of_module


class Search:
    """A search among the chains that begin with one client, or with any if that is None.

    Attributes
    ----------
    bound : float
        No such chain is better; the best chain's objective, unless more clients would have to be critical than there is
        room for.
    potentials : list of ChainPotentials
        Why.
    """

    def __init__(self, costs: ChainCosts, first: int | None, best: Incumbent) -> None:
        self.costs, self.first, self.best = costs, first, best
        self.chains = chains_from(costs, first)
        self.critical = np.zeros(0, np.int64)
        self.price = np.zeros(costs.n_clients)
        self.bound = np.inf  # of what could not be settled
        self.potentials: list[ChainPotentials] = []

    def run(self) -> None:
        """Improve the best chain, and find the bound and its potentials."""
        if self.costs.max_weight == 0.0:
            total, _ = self._settled(self.chains, self.best.objective)
            self._note(np.inf)
            self.bound = min(self.best.objective, total)
            return
        self._by_slowest()
        self.bound = min(self.best.objective, self.bound)

    def _by_slowest(self) -> None:
        """Go down the limits of the slowest stage or hop, as long as what is below one may be better."""
        sum_weight, max_weight = self.costs.sum_weight, self.costs.max_weight
        walk = None
        while walk is None:
            limit = self._target() / max_weight
            least = self._bottleneck(limit)
            if least >= limit:
                break
            _, walk = self._settled(self.chains.below(least, inclusive=True), np.inf)
        if sum_weight == 0.0:
            self.bound = limit = least
        while limit > least:
            total, walk = self._settled(self.chains.below(limit), (self._target() - max_weight * least) / sum_weight)
            self._note(limit)
            if walk is None:
                break
            slowest = float(self.costs.times(walk).max())
            self.bound = min(self.bound, sum_weight * total + max_weight * slowest)
            limit = min((self._target() - sum_weight * total) / max_weight, slowest)
        if least > 0.0:  # nothing is below it
            self._reach(self.chains.below(least), np.inf)
            self._note(least)

    def _target(self) -> float:
        """Return what is to be undercut."""
        return min(self.best.objective, self.bound)

    def _settled(self, chains: Chains, enough: float) -> tuple[float, IntArray | None]:
        """Return the length of a cheapest path that uses nobody twice, or would with more critical clients than fit.

        None, and the length that was enough, where none is shorter.
        """
        while True:
            total, walk = self._cheapest(chains, enough)
            if walk is None:
                return enough, None
            again = used_twice(walk)
            if again.size == 0:
                self.best.offer(walk)
                return total, walk
            if not self._room(self.critical.size + again.size):
                return total, walk
            self.critical = np.concatenate([self.critical, again])
            self.price[again] = 0.0

    def _room(self, n_critical: int) -> bool:
        """Return whether the states may count so many critical clients."""
        n_clients = self.costs.n_clients
        return n_clients <= MOST_CLIENTS or (self.costs.n_modules + 1) * n_clients << n_critical <= _MOST_POTENTIALS

    def _cheapest(self, chains: Chains, enough: float) -> tuple[float, IntArray | None]:
        """Return the length and the clients of a cheapest path that is shorter than what is enough."""
        priced = chains._replace(stage_s=chains.stage_s + self.price[:, None, None])
        needed = self._reach(priced, enough + self.price.sum())
        total, state, client = cheapest_end(self.reach, chains.end_s, needed, False)
        if client < 0:
            return enough, None
        walk = np.empty(self.costs.n_modules, np.int64)
        trace(*priced[:3], self._bits(), needed, self.reach, state, client, walk)
        return total - self.price.sum(), walk

    def _reach(self, chains: Chains, enough: float) -> FloatArray:
        """Find what it costs at least to reach each state; return with how much it is not gone on."""
        shape = self.costs.n_modules + 1, self.costs.n_clients
        ahead = np.empty(shape)
        completion(chains.stage_s, chains.hop_s, chains.end_s, False, ahead)
        needed = np.zeros(shape)
        np.subtract(enough, ahead, out=needed, where=ahead < enough)
        self.reach = np.empty((1 << self.critical.size, *shape))
        relax(*chains[:3], self._bits(), needed, False, self.reach)
        return needed

    def _bottleneck(self, enough: float) -> float:
        """Return the least possible slowest stage or hop, or what is enough if that is no more."""
        shape = self.costs.n_modules + 1, self.costs.n_clients
        ahead = np.empty(shape)
        completion(self.chains.stage_s, self.chains.hop_s, self.chains.end_s, True, ahead)
        needed = np.where(ahead < enough, enough, 0.0)
        reach = np.empty((1 << self.critical.size, *shape))
        relax(*self.chains[:3], self._bits(), needed, True, reach)
        least, _, _ = cheapest_end(reach, self.chains.end_s, needed, True)
        return min(least, enough)

    def _bits(self) -> IntArray:
        """Return the number of each critical client, −1 for others."""
        bit = np.full(self.costs.n_clients, -1)
        bit[self.critical] = np.arange(self.critical.size)
        return bit

    def _note(self, below_s: float) -> None:
        """Keep the last potentials as proof."""
        self.potentials.append(ChainPotentials(self.first, below_s, self.critical, self.price.copy(), self.reach))


def used_twice(walk: IntArray) -> IntArray:
    """Return the clients of several stages."""
    stages = walk[np.flatnonzero(np.diff(walk, prepend=-1))]
    clients, times = np.unique(stages, return_counts=True)
    return clients[times > 1]
