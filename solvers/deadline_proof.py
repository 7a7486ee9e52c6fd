"""Why no ranks are worth more by a deadline: a tree of boxes of ranks, with prices that close each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lola.solvers.checks import LARGEST_COST, FloatArray, IntArray
from lola.solvers.deadline_options import Options, total
from lola.solvers.errors import VerificationError

# Of the magnitudes that are added up: what is worth more by no more than this is not told from a rounding.
CLOSED = 1e-12
# Of the largest worth: a remainder below this is one of roundings, and no unit is sought near it.
_LEAST_UNIT = 1e-9
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class RankProof:
    """A tree in preorder whose nodes are boxes of ranks; together its leaves hold all ranks that fit.

    Attributes
    ----------
    split_block, split_rank : (n,) int64 arrays
        A node's first child lets this block have at most this rank, the second one at least one more; block −1 marks a
        leaf.
    price : (n,) float64 array
        Gain per hertz, ≥ 0; infinite where it is shown that the bandwidth does not suffice, whatever the gain.
    device_price : (n, K) float64 array
        In units of gain, ≥ 0; in hertz where the price is infinite.
    """

    split_block: IntArray
    split_rank: IntArray
    price: FloatArray
    device_price: FloatArray

    def check(self, options: Options, objective: float, upper_bound: float) -> None:
        """Raise `VerificationError` unless this proves that options that fit are worth `upper_bound` at most.

        In each box go the options with which nothing in it is worth more than the objective. A leaf must not allow more
        than the upper bound.
        """
        n_nodes, enough = self.price.shape[0], objective + least_difference(options)
        most = max(enough, upper_bound + CLOSED * magnitude(options))
        shapes = (self.split_block.shape, self.split_rank.shape, self.device_price.shape)
        if shapes != ((n_nodes,), (n_nodes,), (n_nodes, options.n_devices)):
            raise VerificationError(f"proof: its arrays have shapes {shapes} for {n_nodes} nodes")
        if not upper_bound >= objective:
            raise VerificationError(f"upper_bound: {upper_bound:.17g} is below the objective, {objective:.17g}")
        prices = np.concatenate((self.price[self.price < np.inf], self.device_price.ravel()))
        if not ((prices >= 0) & (prices <= LARGEST_COST)).all() or np.isnan(self.price).any():
            raise VerificationError("proof: prices must lie between 0 and 1e200")
        boxes = [np.arange(options.block.size)]
        for node in range(n_nodes):
            if not boxes:
                raise VerificationError(f"proof: node {node} belongs to no box")
            box = boxes.pop()
            bound, reach = bounds(options, box, float(self.price[node]), self.device_price[node])
            if self.split_block[node] < 0:
                if not bound <= most:
                    raise VerificationError(
                        f"proof: leaf {node} allows a gain of {bound:.17g}, above the bound {upper_bound:.17g}"
                    )
                continue
            lower, upper = halves(options, box[reach > enough], self.split_block[node], self.split_rank[node])
            boxes += [upper, lower]
        if boxes:
            raise VerificationError(f"proof: {len(boxes)} boxes of ranks are left without a node")


def least_difference(options: Options) -> float:
    """Return what a choice must be worth above another one to be told from it.

    Worths may all be multiples of a unit, as where ranks count alike: then no two choices differ by a part of it.
    """
    worths = np.unique(np.abs(options.worth))
    largest, unit = float(worths.max(initial=0.0)), 0.0
    for worth in worths.tolist():
        rest = worth
        while rest > _LEAST_UNIT * largest:  # Euclid's algorithm
            unit, rest = rest, abs(unit - rest * round(unit / rest))
        if 0 < unit < 1e3 * _LEAST_UNIT * largest:
            unit = 0.0
            break
    if unit:
        unit = largest / round(largest / unit)  # the remainders' roundings apart
        unit *= bool((np.abs(worths - unit * np.rint(worths / unit)) <= 0.1 * CLOSED * worths).all())
    return max(CLOSED * magnitude(options), (1 - 1e-3) * unit)


def magnitude(options: Options) -> float:
    """Return the most that the options' worths can add up to, signs aside."""
    largest = np.zeros(options.n_blocks)
    np.maximum.at(largest, options.block, np.abs(options.worth))
    return float(largest.sum())


def bounds(options: Options, box: IntArray, price: float, device_price: FloatArray) -> tuple[float, FloatArray]:
    """Return what prices allow options of a box, in all and with each of them: no choice that fits is worth more.

    A choice that fits is worth at most Σ(worth − price·need) + price·bandwidth, and the devices that it takes cost no
    more than all device prices.
    """
    weighed = -options.need[box] if price == np.inf else options.worth[box] - price * options.need[box]
    net = weighed - np.append(device_price, 0.0)[options.device[box]]
    block = options.block[box]
    first = np.flatnonzero(np.diff(block, prepend=-1))
    if first.size < options.n_blocks:
        return -np.inf, np.full(box.size, -np.inf)
    best = np.maximum.reduceat(net, first)
    if price == np.inf:
        lacks = _highest_sum(best, device_price) < -options.bandwidth * (1 - CLOSED)
        allowed = -np.inf if lacks else np.inf
        return allowed, np.full(box.size, allowed)
    bound = _highest_sum(best, device_price, np.array([price * options.bandwidth]))
    return bound, bound - (best[block] - net)


def _highest_sum(*parts: FloatArray) -> float:
    """Add up, and add what the few roundings in each number can hide: huge prices must not drown what they bound."""
    numbers = np.concatenate(parts)
    return total(numbers) + 4 * _EPSILON * float(np.abs(numbers).sum())


def halves(options: Options, box: IntArray, block: int, rank: int) -> tuple[IntArray, IntArray]:
    """Cut a box in two: where the block has at most the rank, and where it has more."""
    more = (options.block[box] == block) & (options.rank[box] > rank)
    other = options.block[box] != block
    return box[~more], box[more | other]
