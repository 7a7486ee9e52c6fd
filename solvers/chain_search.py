"""Optimal chains by decremental state-space relaxation: who is used twice on a cheapest path becomes critical."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lola.solvers.chain_costs import ChainCosts, Chains, chains_from
from lola.solvers.chain_paths import cheapest_end, completion, relax, trace
from lola.solvers.chain_proofs import MOST_CLIENTS, MOST_POTENTIALS, ChainPotentials
from lola.solvers.checks import IntArray

# Most of many first clients are soon ruled out, so that none gets less than this part of what one alone would.
_SHARES = 10
# A pipeline asks about so often as many times.
_LEVELS = 8
# So often prices move before more clients become critical, where not all may; each time by less.
_STEPS, _SHRINKS = 30, 0.9


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

    def __init__(self, costs: ChainCosts, first: int | None, best: Incumbent, share: int = 1) -> None:
        self.costs, self.first, self.best = costs, first, best
        self.chains = chains_from(costs, first)
        self.critical = np.zeros(0, np.int64)
        self.price = np.zeros(costs.n_clients)
        self.bound = np.inf  # of what could not be settled
        self.potentials: list[ChainPotentials] = []
        small = costs.n_clients <= MOST_CLIENTS
        levels = _LEVELS if costs.sum_weight > 0.0 and costs.max_weight > 0.0 else 1
        self._most = np.inf if small else MOST_POTENTIALS // (min(share, _SHARES) * levels)
        self._steps = 1 if small or costs.sum_weight == 0.0 else max(_STEPS // min(share, _SHARES), 1)

    def run(self) -> None:
        """Improve the best chain, and find the bound and its potentials."""
        if self.costs.max_weight == 0.0:
            total, _ = self._settled(self.chains, self.best.objective)
            self._note(np.inf)
            self.bound = total
        else:
            self._by_slowest()
        self.bound = min(self.best.objective, self.bound)

    def _by_slowest(self) -> None:
        """Go down the limits of the slowest stage or hop, as long as what is below one may be better."""
        sum_weight, max_weight = self.costs.sum_weight, self.costs.max_weight
        walk = None
        while walk is None:
            limit = self._target() / max_weight
            least = self.bottleneck(limit)
            if least >= limit or sum_weight > 0.0:
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
            self.price = np.zeros(self.costs.n_clients)
            self._reach(self.chains.below(least), self._target() / sum_weight if sum_weight > 0.0 else np.inf)
            self._shown = self._potentials()
            self._note(least)

    def _target(self) -> float:
        """Return what is to be undercut."""
        return min(self.best.objective, self.bound)

    def _settled(self, chains: Chains, enough: float) -> tuple[float, IntArray | None]:
        """Return what no chain is shorter than, and a cheapest path; it uses nobody twice where there is room for that.

        None, and the length that was enough, where no path is shorter. Sets potentials that show it.
        """
        while True:
            highest, shortest = -np.inf, None
            for step in range(self._steps):
                total, walk = self._cheapest(chains, enough)
                if total > highest:
                    highest, shortest, self._shown = total, walk, self._potentials()
                if walk is None:
                    return enough, None
                again = uses(walk, self.costs.n_clients) - 1
                if again.max() <= 0:
                    self.best.offer(walk)
                    if (self.price[again < 0] == 0.0).all():
                        self._cheapest(chains, total)  # whose potentials speak of fewer states
                        self._shown = self._potentials()
                        return total, walk
                self._charge(again, (enough if enough < np.inf else 1.1 * total) - total, _SHRINKS**step)
            assert shortest is not None
            again = uses(shortest, self.costs.n_clients) - 1
            (disputed,) = ((again > 0) | ((again < 0) & (self._shown.price_s > 0.0) & (again.max() <= 0))).nonzero()
            if not self._room(self.critical.size + disputed.size):
                return highest, shortest
            self.critical = np.concatenate([self.critical, disputed])
            self.price = self._shown.price_s.copy()
            self.price[disputed] = 0.0

    def _charge(self, again: IntArray, missing: float, share: float) -> None:
        """Move prices along the subgradient, by a share of what is missing if the bound were linear."""
        again = np.where((self.price > 0.0) | (again > 0), again, 0)
        again[self.critical] = 0
        norm = float(np.square(again).sum())
        if norm > 0.0:
            self.price = np.maximum(self.price + share * missing / norm * again, 0.0)

    def _room(self, n_critical: int) -> bool:
        """Return whether the states may count so many critical clients."""
        return (self.costs.n_modules + 1) * self.costs.n_clients << n_critical <= self._most

    def _cheapest(self, chains: Chains, enough: float) -> tuple[float, IntArray | None]:
        """Return the length and the clients of a cheapest path that is shorter than what is enough."""
        priced = chains._replace(stage_s=chains.stage_s + self.price[:, None, None])
        self._reach(priced, enough + self.price.sum())
        total, state, client = cheapest_end(self.reach, chains.end_s, self.needed, False)
        if client < 0:
            return enough, None
        walk = np.empty(self.costs.n_modules, np.int64)
        trace(*priced[:3], self._bits(), self.needed, self.reach, state, client, walk)
        return total - self.price.sum(), walk

    def _reach(self, chains: Chains, enough: float) -> None:
        """Find what it costs at least to reach each state, and with how much it is not gone on."""
        shape = self.costs.n_modules + 1, self.costs.n_clients
        ahead = np.empty(shape)
        completion(chains.stage_s, chains.hop_s, chains.end_s, False, ahead)
        self.needed = np.zeros(shape)
        np.subtract(enough, ahead, out=self.needed, where=ahead < enough)
        self.reach = np.empty((1 << self.critical.size, *shape))
        relax(*chains[:3], self._bits(), self.needed, False, self.reach)

    def bottleneck(self, enough: float) -> float:
        """Return the least possible slowest stage or hop, or what is enough if that is no more."""
        shape = self.costs.n_modules + 1, self.costs.n_clients
        ahead = np.empty(shape)
        completion(self.chains.stage_s, self.chains.hop_s, self.chains.end_s, True, ahead)
        needed = np.where(ahead < enough, enough, 0.0)
        reach = np.empty((1 << self.critical.size, *shape))
        relax(*self.chains[:3], self._bits(), needed, True, reach)
        least, _, _ = cheapest_end(reach, self.chains.end_s, needed, True)
        return float(min(least, enough))

    def _bits(self) -> IntArray:
        """Return the number of each critical client, −1 for others."""
        bit = np.full(self.costs.n_clients, -1)
        bit[self.critical] = np.arange(self.critical.size)
        return bit

    def _potentials(self) -> ChainPotentials:
        """Return the last potentials, those of states that were gone on from one by one."""
        index = np.flatnonzero(self.reach < self.needed)
        own = self.reach.reshape(-1)[index]
        return ChainPotentials(self.first, np.inf, self.critical, self.price, index, own, self.needed)

    def _note(self, below_s: float) -> None:
        """Keep potentials as proof."""
        self.potentials.append(replace(self._shown, below_s=below_s))


def uses(walk: IntArray, n_clients: int) -> IntArray:
    """Return the number of stages of each client."""
    return np.bincount(walk[np.flatnonzero(np.diff(walk, prepend=-1))], minlength=n_clients)
