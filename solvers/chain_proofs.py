"""Why no chain is faster than a bound: potentials on the states of a shortest path, checked by comparisons and sums."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from lola.solvers.chain_costs import ChainCosts, chain_costs, chains_from, first_clients
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.errors import VerificationError

# Up to so many clients all may be critical; beyond, so many that their potentials take 64 MiB.
MOST_CLIENTS, MOST_POTENTIALS = 14, 1 << 23
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
    index : (A,) int64 array
        Where in all potentials, (2**C, N + 1, K) by state, modules done and last client, there is one of its own.
    own_s : (A,) float64 array
        Those; no higher than what is there without.
    potential_s : (N + 1, K) float64 array
        All others, whatever the state.
    """

    first: int | None
    below_s: float
    critical: IntArray
    price_s: FloatArray
    index: IntArray
    own_s: FloatArray
    potential_s: FloatArray

    def bound_s(self, costs: ChainCosts) -> float:
        """Return how much every such chain takes in all at least: infinity where there is none."""
        n_modules, n_clients = costs.n_modules, costs.n_clients
        chains, price = chains_from(costs, self.first).below(self.below_s), self.price_s
        self._check_shapes(n_modules, n_clients)
        stage = chains.stage_s + price[:, None, None]
        others = np.setdiff1d(np.arange(n_clients), self.critical)
        # Rows of the states that have potentials of their own; the last row is that of all others.
        n_states, width = 2**self.critical.size, (n_modules + 1) * n_clients
        state, row = np.unique(self.index // width, return_inverse=True)
        potential = np.broadcast_to(self.potential_s, (state.size + 1, *self.potential_s.shape)).copy()
        potential.reshape(-1)[row * width + self.index % width] = self.own_s
        own = np.zeros((state.size, n_modules + 1), dtype=np.bool_)
        own[row, self.index % width // n_clients] = True
        row_of = np.full(n_states, state.size)
        row_of[state] = np.arange(state.size)
        excess = 0.0
        for i in range(n_modules):
            used, arrive = np.zeros(1, np.int64), chains.begin_s[None]
            if i > 0:
                (rows,) = own[:, i].nonzero()
                used, arrive = state[rows], _arrive(potential[rows, i], chains.hop_s[i])
                # Where no potential is a state's own, one check is for all; into one that is they rise by even less.
                anyhow = _arrive(self.potential_s[None, i], chains.hop_s[i])
                excess = max(excess, _excess(anyhow, stage[:, i, i + 1 :], self.potential_s[None, i + 1 :]))
            after = potential[row_of[used], i + 1 :][:, :, others]
            excess = max(excess, _excess(arrive[:, others], stage[others, i, i + 1 :], after))
            for c, client in enumerate(self.critical):
                free = used >> c & 1 == 0
                after = potential[:, i + 1 :, client][row_of[used[free] | 1 << c], :, None]
                excess = max(excess, _excess(arrive[free, client, None], stage[[client], i, i + 1 :], after))
        _require(excess < np.inf, "a potential rises without bound where a stage can follow")
        least = float((potential[:, n_modules] + chains.end_s).min())
        # What potentials rise too much, as far as rounding can hide it, is paid for, once a stage.
        return least - float(price.sum()) - min(n_modules, n_clients) * excess

    def _check_shapes(self, n_modules: int, n_clients: int) -> None:
        """Require arrays that can be what they are said to be."""
        index, price, shape = self.index, self.price_s, (n_modules + 1, n_clients)
        _require(self.potential_s.shape == shape and self.own_s.shape == index.shape, "potentials of another shape")
        _require(price.shape == (n_clients,) and (price >= 0).all() and (price < np.inf).all(), "a price is no price")
        distinct = np.unique(self.critical)
        inside = np.isin(distinct, np.arange(n_clients)).all() and distinct.size == self.critical.size
        _require(inside, "critical clients are not distinct clients")
        somewhere = (index >= 0) & (index < 2**distinct.size * self.potential_s.size)
        _require(somewhere.all() and np.unique(index).size == index.size, "a potential is nowhere, or where another is")
        _require((self.potential_s >= 0).all() and (self.own_s >= 0).all(), "a potential is below 0, or none")
        lower = self.own_s <= self.potential_s.reshape(-1)[index % self.potential_s.size]
        _require(lower.all(), "a potential of its own is above that of other states")


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
        # Of this very class: a subclass could show what it likes.
        _require(all(type(each) is ChainPotentials for each in self.potentials), "ChainPotentials alone show a bound")
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


def most_critical(n_modules: int, n_clients: int) -> int:
    """Return how many clients a proof counts at most, by what the solver keeps."""
    if n_clients <= MOST_CLIENTS:
        return n_clients
    return max((MOST_POTENTIALS // ((n_modules + 1) * n_clients)).bit_length() - 1, 0)


def _arrive(potential: FloatArray, hop: FloatArray) -> FloatArray:
    """Return the least sum of a potential and a hop, by state and next client."""
    arrive = np.full((potential.shape[0], hop.shape[1]), np.inf)
    for k in range(hop.shape[0]):
        np.minimum(arrive, potential[:, k, None] + hop[k], out=arrive)
    return arrive


def _excess(arrive: FloatArray, stage: FloatArray, after: FloatArray) -> float:
    """Return by how much potentials rise too much at most over stages: (S, K), (K, J), and (S, J, K) after them."""
    limit = arrive[:, :, None] + stage
    above = np.subtract(np.moveaxis(after, 1, 2), limit, out=np.zeros_like(limit), where=limit < np.inf)
    return float(above.max(initial=0.0))


def _require(holds: object, detail: str) -> None:
    """Raise `VerificationError` where something does not hold."""
    if not holds:
        raise VerificationError(f"proof: {detail}")
