"""What ranks under a budget are made of: what they are worth, and what they weigh in exact numbers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lola.solvers.checks import (
    FloatArray,
    IntArray,
    per_block,
    positive_number,
    real_number,
    vector,
)
from lola.solvers.errors import LolaValueError
from lola.solvers.rank_gains import gain_table, sums_of_gains, worth_of_ranks

# Below this, sums of weights fit into 64 bits; beyond, they are Python's integers.
_MOST_WEIGHT = 1 << 62


class RankInputs(NamedTuple):
    """What ranks of blocks are worth and cost; weights count the largest unit of which all costs are multiples."""

    gain: FloatArray  # (L, R)
    cost: FloatArray  # (L,)
    worth: FloatArray  # (L, R + 1) of so many ranks; −inf for ranks that alone exceed the budget
    weight: list[int]  # (L,) of one rank
    weights: NDArray[Any]  # (L, R + 1) of so many ranks; those that exceed the budget count as a little above it
    highest: IntArray  # (L,) the most ranks that the budget allows the block alone
    capacity: int  # of the budget
    unit: Fraction

    @property
    def n_ranks(self) -> int:
        """The most ranks that a block may have, R."""
        return int(self.gain.shape[1])

    def gains(self, rank: IntArray) -> float:
        """Return what these ranks are worth."""
        return worth_of_ranks(self.gain, rank)

    def paid(self, price: float) -> FloatArray:
        """Return what ranks are worth less their price, (L, R + 1)."""
        return np.asarray(self.worth - price * self.cost[:, None] * np.arange(self.n_ranks + 1))

    def bound(self, price: float) -> float:
        """Return what no ranks under the budget are worth more than, at any price >= 0."""
        return math.fsum([price * float(self.capacity * self.unit), *self.paid(price).max(axis=1)])


def rank_inputs(gain: ArrayLike, cost: ArrayLike, budget: float) -> RankInputs:
    """Validate and cast the arguments of `lola.solvers.rank_allocation`."""
    gains = gain_table(gain)
    costs = vector("cost", per_block("cost", cost, gains.shape[0]), ("gain", gains[:, 0]))
    exact = [Fraction(each) for each in costs.tolist()]
    finest = max(each.denominator for each in exact)
    whole = [int(each * finest) for each in exact]
    common = math.gcd(*whole)
    unit, weight = Fraction(common, finest), [each // common for each in whole]
    limit = real_number("budget", budget)
    if not 0 <= limit < np.inf:
        raise LolaValueError(f"budget must be finite and >= 0, got {limit}; at 0 no block gets a rank")
    n_blocks, n_ranks = gains.shape
    # A budget beyond what all ranks cost is as good as that.
    exact_limit = Fraction(limit and positive_number("budget", limit))
    capacity = min(math.floor(exact_limit / unit), n_ranks * sum(weight))
    highest = np.array([min(n_ranks, capacity // each) for each in weight])
    worth = sums_of_gains(gains)
    worth[np.arange(n_ranks + 1) > highest[:, None]] = -np.inf
    small = (capacity + 1) * (n_blocks + n_ranks) < _MOST_WEIGHT
    one = np.array([min(each, capacity + 1) for each in weight], dtype=np.int64 if small else object)
    weights = np.multiply.outer(one, np.arange(n_ranks + 1))
    return RankInputs(gains, costs, worth, weight, weights, highest, capacity, unit)
