"""Why no chain is faster than a bound: potentials on the states of a shortest path, checked by comparisons and sums."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from lola.solvers.chain_costs import ChainCosts, chain_costs, chains_from, first_clients
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.errors import VerificationError

# Numbers that are computed again here by the formula they came from may differ by a few roundings.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ChainPotentials:
    """Potentials that rise by no more than each stage with the hop before it takes, if it takes less than a limit.

    Attributes
    ----------
    first : int or None
        Of the chains that begin with this client; None where they are those of all.
    below_s : float
        Of the chains all of whose stages and hops take less; infinite for all chains.
    critical : (C,) int64 array
        Clients that the states count: the c-th, where it was used, adds 2**c to the state.
    price_s : (K,) float64 array
        At least 0: what each use of a client costs besides, 0 for critical ones. No chain uses a client twice, so
        their sum is taken off again.
    potential_s : (2**C, N + 1, K) float64 array
        By state, modules done, and last client.
    """

    first: int | None
    below_s: float
    critical: IntArray
    price_s: FloatArray
    potential_s: FloatArray

    def bound_s(self, costs: ChainCosts) -> float:
        """Return how much every such chain takes in all at least: infinity where there is none."""
        n_modules, n_clients = costs.n_modules, costs.n_clients
        chains, potential, price = chains_from(costs, self.first).below(self.below_s), self.potential_s, self.price_s
        _require(potential.shape == (2**self.critical.size, n_modules + 1, n_clients), "potentials of another shape")
        _require(price.shape == (n_clients,) and (price >= 0).all() and (price < np.inf).all(), "a price is no price")
        distinct = np.unique(self.critical)
        inside = np.isin(distinct, np.arange(n_clients)).all() and distinct.size == self.critical.size
        _require(inside, "critical clients are not distinct clients")
        _require((potential >= 0).all(), "a potential is below 0, or none")
        stage = chains.stage_s + price[:, None, None]
        excess = 0.0
        for i in range(n_modules):
            if i == 0:
                arrive = np.where(np.arange(potential.shape[0]) == 0, 0.0, np.inf)[:, None] + chains.begin_s
            else:
                arrive = _arrive(potential[:, i], chains.hop_s[i])
            excess = max(excess, self._excess(arrive, stage[:, i, i + 1 :], potential[:, i + 1 :]))
        least = float((potential[:, n_modules] + chains.end_s).min())
        # What potentials rise too much, as far as rounding can hide it, is paid for, once a stage.
        return least - float(price.sum()) - min(n_modules, n_clients) * excess

    def _excess(self, arrive: FloatArray, stage: FloatArray, potential: FloatArray) -> float:
        """Return by how much potentials rise too much at most, from where stages begin to where they end.

        (2**C, K), (K, J) and (2**C, J, K), for the J ends.
        """
        excess = 0.0
        others = np.setdiff1d(np.arange(stage.shape[0]), self.critical)
        states = np.arange(arrive.shape[0])
        for clients, before, after in [
            (others, states, states),
            *(
                (np.array([client]), free, free + (1 << c))
                for c, client in enumerate(self.critical)
                for free in [states[states >> c & 1 == 0]]
            ),
        ]:
            limit = arrive[before][:, clients, None] + stage[clients]
            risen = np.moveaxis(potential[after][:, :, clients], 1, 2)
            allowed = np.isfinite(limit)
            _require(np.isfinite(risen[allowed]).all(), "a potential rises without bound where a stage can follow")
            excess = max(excess, float((risen[allowed] - limit[allowed]).max(initial=0.0)))
        return excess


@dataclass(frozen=True, eq=False)
class ChainProof:
    """Proof that no chain is faster than a bound.

    Attributes
    ----------
    potentials : tuple of ChainPotentials
        For each first client, or all at once, one for chains of any times, then for those whose slowest stage or hop
        takes less than a limit, and less.
    """

    potentials: tuple[ChainPotentials, ...]

    def check(self, lower_bound: float, *arguments: Any, **keywords: Any) -> None:
        """Raise `VerificationError` unless this proves that no chain is faster than the bound, to 1e-12.

        Parameters
        ----------
        lower_bound : float
            Seconds.
        *arguments, **keywords
            Those of `chain_allocation`.

        Notes
        -----
        A chain whose slowest stage or hop takes at least the limit of the next potentials, and less than that of
        these, takes what these show in all, and that limit at its slowest.
        """
        costs = chain_costs(*arguments, **keywords)
        _require(0 <= lower_bound < np.inf, f"{lower_bound} s is no bound")
        firsts = first_clients(costs)
        _require(
            {each.first for each in self.potentials} <= set(firsts), "potentials of a client that none begins with"
        )
        for first in firsts:
            levels = [each for each in self.potentials if each.first == first]
            limits = [np.inf, *(level.below_s for level in levels), 0.0]
            _require(all(a >= b for a, b in itertools.pairwise(limits)), "limits do not fall")
            # Of chains whose slowest takes at least the first limit no potentials speak.
            shown = [] if limits[1] == np.inf else [costs.max_weight * limits[1]]
            for level, slowest in zip(levels, limits[2:], strict=True):
                in_all = level.bound_s(costs)
                shown.append(in_all if in_all == np.inf else costs.sum_weight * in_all + costs.max_weight * slowest)
            least = min(shown)
            _require(
                least >= lower_bound * (1 - _ROUNDING),
                f"the potentials only show that chains take {least:.17g} s, not {lower_bound:.17g}"
                + ("" if first is None else f", of those that begin with client {first}"),
            )


def _arrive(potential: FloatArray, hop: FloatArray) -> FloatArray:
    """Return the least sum of a potential and a hop, by state and next client."""
    arrive = np.full((potential.shape[0], hop.shape[1]), np.inf)
    for k in range(hop.shape[0]):
        (next_client,) = np.isfinite(hop[k]).nonzero()
        arrive[:, next_client] = np.minimum(arrive[:, next_client], potential[:, k, None] + hop[k, next_client])
    return arrive


def _require(holds: object, detail: str) -> None:
    """Raise `VerificationError` where something does not hold."""
    if not holds:
        raise VerificationError(f"proof: {detail}")
