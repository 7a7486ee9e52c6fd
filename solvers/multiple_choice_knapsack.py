"""Ranks under a budget: a multiple-choice knapsack, by dynamic programming over undominated sums below a bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._jit import kernel
from lola.solvers.checks import IntArray, check_array, check_number, check_price, frozen, require
from lola.solvers.multiple_choice_inputs import RankInputs, rank_inputs

# Sums of rounded products may differ by so much; what is nearer to a bound is taken to meet it.
_ROUNDING = 1e-12
# Sums that may be looked at, a quarter of them for one block: they take seconds, and less than half a gigabyte.
MOST_SUMS = 1 << 24


@dataclass(frozen=True, eq=False)
class RankAllocation:
    """Ranks of most worth under a budget, and the price that bounds what any could be worth.

    Attributes
    ----------
    rank : (L,) int64 array
        Of each block, from 0 to R.
    objective : float
        The sum of the gains of these ranks.
    price : float
        Gain per unit of budget, at least 0, that gives the bound: the best of all prices.
    upper_bound : float
        No ranks are worth more: what blocks are worth at most if each pays the price for its ranks, and the price of
        the budget. It is the objective where costs are equal and gains fall.
    """

    rank: IntArray
    objective: float
    price: float
    upper_bound: float

    def verify(self, gain: ArrayLike, cost: ArrayLike, budget: float) -> None:
        """Check by comparisons and sums that the ranks fit and are worth what is said, and that none are worth more.

        Where the objective is below `upper_bound`, that it is the optimum is the word of the algorithm; that nothing
        is above the bound is shown in any case.

        Parameters
        ----------
        gain, cost, budget
            As given to `rank_allocation`.

        Raises
        ------
        VerificationError
            If anything does not hold, sums of gains to 1e-12 of the sizes of those that the budget allows a block
            alone; the message says what.
        TypeError, ValueError
            If an argument is not as described.
        """
        blocks = rank_inputs(gain, cost, budget)
        check_array("rank", "it", self.rank, np.int64, blocks.highest.size)
        fits = ((self.rank >= 0) & (self.rank <= blocks.n_ranks)).all()
        require(fits, "rank", f"{blocks.highest.size} ranks from 0 to {blocks.n_ranks} are wanted, got {self.rank}")
        spent = sum(int(rank) * weight for rank, weight in zip(self.rank, blocks.weight, strict=True))
        spare = blocks.capacity - spent
        require(spare >= 0, "budget", f"the ranks cost {float(spent * blocks.unit):.17g}, more than {budget}")
        check_price(self.price)
        check_number("proof", self.upper_bound)
        check_number("objective", self.objective)
        # Gains that the budget cannot buy are in no sum; a large one of them would hide any error.
        within = np.arange(blocks.n_ranks) < blocks.highest[:, None]
        slack = _ROUNDING * float(np.abs(blocks.gain[within]).sum())
        bound = blocks.bound(self.price)
        holds = bound <= self.upper_bound + slack
        require(holds, "proof", f"the price only shows {bound:.17g}, not {self.upper_bound:.17g}")
        worth = blocks.gains(self.rank)
        holds = abs(worth - self.objective) <= slack
        require(holds, "objective", f"the ranks are worth {worth:.17g}, not {self.objective:.17g}")
        holds = self.objective <= self.upper_bound
        require(holds, "proof", f"{self.upper_bound:.17g} is below the objective, {self.objective:.17g}")


def rank_allocation(gain: ArrayLike, cost: ArrayLike, budget: float) -> RankAllocation:
    """Give each block a rank, so that all are worth most under a budget.

    Maximises Σ_l Σ_{i ≤ ρ_l} gain[l, i] subject to Σ_l cost_l·ρ_l ≤ budget and 0 ≤ ρ_l ≤ R. With squared singular
    values as gains, the error of truncating every block to its rank is the total less the objective (Eckart, Young).

    Parameters
    ----------
    gain : (L, R) array_like
        What each further rank of a block is worth; may be negative, and need not fall.
    cost : float or (L,) array_like
        What one rank of a block costs, such as its parameters, > 0.
    budget : float
        What all may cost, ≥ 0.

    Returns
    -------
    RankAllocation
        The optimum, to 1e-12 of the bound; or the best ranks that were known after 16 million sums of costs, as may be
        where gains are all but proportional to costs that have no common unit. The bound is proven by the price, in any
        case: by arithmetic alone where it equals the objective, as with equal costs and falling gains; elsewhere the
        algorithm stands for what lies between.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Costs are added up exactly, as the floating-point numbers that they are: three of 0.1 are more than 0.3. The price
    is that of the linear program: O(L·R·log(L·R)). If ranks that it names fill the budget, they are the optimum. If
    not, blocks are gone through, those first whose choice is closest; a sum is dropped if another costs no more and is
    worth as much, or if the bound of what it can become is no better than the best that is known. See "Ranks under a
    budget" in ``lola docs theory``.

    Examples
    --------
    >>> from lola.solvers import rank_allocation
    >>> ranks = rank_allocation([[9.0, 4.0, 1.0], [5.0, 3.0, 2.0]], 1.0, 4)  # squared singular values of two blocks
    >>> ranks.rank.tolist(), ranks.objective, ranks.upper_bound
    ([2, 2], 21.0, 21.0)
    """
    blocks = rank_inputs(gain, cost, budget)
    rank, price = _by_price(blocks)
    _fill(blocks, rank)
    bound = blocks.bound(price)
    rank = _improve(blocks, price, bound, rank)
    objective = blocks.gains(rank)
    met = bound <= objective * (1 + _ROUNDING)  # so a bound that is met says so, whatever its roundings
    return RankAllocation(frozen(rank), objective, price, objective if met else bound)


def _by_price(blocks: RankInputs) -> tuple[IntArray, float]:
    """Buy steps, the worthiest for their cost first, as long as they fit; return ranks, and the first's that did not.

    At that price the linear program over shares of steps is solved.
    """
    block, lower, upper, slope = _steps(blocks.gain, blocks.worth, blocks.highest)
    efficiency = slope / blocks.cost[block]
    rank, price, left = np.zeros(blocks.highest.size, np.int64), 0.0, blocks.capacity
    for step in np.argsort(-efficiency, kind="stable").tolist():
        which = block[step]
        weight = int(upper[step] - lower[step]) * blocks.weight[which]
        if rank[which] == lower[step] and weight <= left:
            rank[which] = upper[step]
            left -= weight
        elif price == 0.0:
            price = float(efficiency[step])
    return rank, price


@kernel
def _steps(gain, worth, highest):
    """Find the steps of the least concave functions above the sums of gains, as long as they rise.

    Parameters
    ----------
    gain, worth : (L, R), (L, R + 1) float64
    highest : (L,) int64

    Returns
    -------
    block, lower, upper : (n,) int64
        A step of a block leads from one rank to another; by block, then by rank.
    slope : (n,) float64
        Gain of each rank of a step; falls within a block.
    """
    n_most = highest.sum()
    block, lower, upper = np.empty(n_most, np.int64), np.empty(n_most, np.int64), np.empty(n_most, np.int64)
    slope = np.empty(n_most)
    n = 0
    for row in range(highest.size):
        first = n
        for i in range(highest[row]):
            # A single gain is its own slope, so that falling gains are never merged by a rounding.
            start, steep = i, gain[row, i]
            while n > first and slope[n - 1] < steep:
                n -= 1
                start = lower[n]
                steep = (worth[row, i + 1] - worth[row, start]) / (i + 1 - start)
            block[n], lower[n], upper[n], slope[n] = row, start, i + 1, steep
            n += 1
        while n > first and slope[n - 1] <= 0.0:
            n -= 1
    return block[:n], lower[:n], upper[:n], slope[:n]


def _fill(blocks: RankInputs, rank: IntArray) -> None:
    """Change the rank of one block at a time, to what is better and fits; `rank` is modified in place."""
    weights, every = blocks.weights, np.arange(rank.size)
    for _ in every:
        left = blocks.capacity - weights[every, rank].sum()
        better = blocks.worth - blocks.worth[every, rank][:, None]
        better[weights - weights[every, rank][:, None] > left] = -np.inf
        block, to = np.unravel_index(int(np.argmax(better)), better.shape)
        if better[block, to] <= 0:
            break
        rank[block] = to


def _improve(blocks: RankInputs, price: float, bound: float, rank: IntArray) -> IntArray:
    """Return ranks that are worth most of all, given some, a price and its bound."""
    best = blocks.gains(rank)
    if bound * (1 - _ROUNDING) <= best:
        return rank
    weights, every = blocks.weights, np.arange(rank.size)
    paid = blocks.paid(price)
    named = np.argmax(paid, axis=1)
    loss = paid[every, named][:, None] - paid
    order = np.argsort(np.partition(loss, 1, axis=1)[:, 1], kind="stable")
    # What the price names for the blocks from each on: it completes a sum, and often fills the budget.
    rest_weight = np.append(np.cumsum(weights[order, named[order]][::-1])[::-1], 0)
    rest_worth = np.append(np.cumsum(blocks.worth[order, named[order]][::-1])[::-1], 0.0)
    weight, worth, lost = weights[:1, 0], np.zeros(1), np.zeros(1)
    came_from: list[tuple[IntArray, IntArray]] = []
    found, looked_at = (0, -1), 0
    for done, block in enumerate(order, 1):
        limit = bound * (1 - _ROUNDING) - best
        if weight.size == 0 or limit <= 0:
            break
        options = np.flatnonzero(loss[block] < limit)
        of_block = weight.size * options.size
        looked_at += of_block
        if looked_at > MOST_SUMS or of_block > MOST_SUMS // 4:
            break
        now = lost[:, None] + loss[block, options]
        heavy = weight[:, None] + weights[block, options]
        state, option = ((now < limit) & (heavy <= blocks.capacity)).nonzero()
        lost, weight = now[state, option], heavy[state, option]
        worth = worth[state] + blocks.worth[block, options[option]]
        sort = np.argsort(-worth, kind="stable")
        sort = sort[np.argsort(weight[sort], kind="stable")]
        higher = np.append(-np.inf, np.maximum.accumulate(worth[sort]))[:-1]
        sort = sort[worth[sort] > higher]
        lost, weight, worth = lost[sort], weight[sort], worth[sort]
        came_from.append((state[sort].astype(np.int32), options[option[sort]].astype(np.int32)))
        # Worth rises with weight, so the heaviest that can be completed is the best.
        fits = int(np.searchsorted(weight, blocks.capacity - rest_weight[done], side="right"))
        if fits and worth[fits - 1] + rest_worth[done] > best:
            best, found = float(worth[fits - 1] + rest_worth[done]), (done, fits - 1)
    return rank if found[0] == 0 else _follow(came_from, order, named, *found)


def _follow(
    came_from: list[tuple[IntArray, IntArray]], order: IntArray, named: IntArray, done: int, state: int
) -> IntArray:
    """Return the ranks that led to a sum, and what the price names for the blocks that were still to come."""
    rank = named.copy()
    for stage in range(done - 1, -1, -1):
        before, option = came_from[stage]
        rank[order[stage]] = option[state]
        state = int(before[state])
    return rank
