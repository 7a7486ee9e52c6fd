"""Why no ranks are worth more by a deadline: a tree of boxes of ranks, with prices that close each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lola.solvers.checks import LARGEST_COST, FloatArray, IntArray, check_array, require
from lola.solvers.deadline_options import Options, total

# Of the magnitudes that are added up: what is worth more by no more than this is not told from a rounding.
CLOSED = 1e-12
# Of the largest worth: a remainder below this is one of roundings, and no unit is sought near it.
_LEAST_UNIT = 1e-9
_EPSILON = float(np.finfo(np.float64).eps)
_ARRAYS: dict[str, type] = {
    "split_block": np.int64,
    "split_rank": np.int64,
    "price": np.float64,
    "device_price": np.float64,
}


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
        for name, kind in _ARRAYS.items():
            values = getattr(self, name)
            check_array("proof", name, values, kind, getattr(values, "shape", None))
        n_nodes, enough = self.price.size, objective + least_difference(options)
        most = max(enough, upper_bound + CLOSED * magnitude(options))
        shapes = tuple(getattr(self, name).shape for name in _ARRAYS)
        fitting = shapes == ((n_nodes,), (n_nodes,), (n_nodes,), (n_nodes, options.n_devices))
        require(fitting, "proof", f"its arrays have shapes {shapes} for {n_nodes} nodes")
        above = f"{upper_bound:.17g} is below the objective, {objective:.17g}"
        require(upper_bound >= objective, "upper_bound", above)
        prices = np.concatenate((self.price[self.price < np.inf], self.device_price.ravel()))
        sane = ((prices >= 0) & (prices <= LARGEST_COST)).all() and not np.isnan(self.price).any()
        require(sane, "proof", "prices must lie between 0 and 1e200")
        boxes = [np.arange(options.block.size)]
        for node in range(n_nodes):
            require(boxes, "proof", f"node {node} belongs to no box")
            box = boxes.pop()
            bound, reach = bounds(options, box, float(self.price[node]), self.device_price[node])
            if self.split_block[node] < 0:
                allows = f"leaf {node} allows a gain of {bound:.17g}, above the bound {upper_bound:.17g}"
                require(bound <= most, "proof", allows)
                continue
            lower, upper = halves(options, box[reach > enough], self.split_block[node], self.split_rank[node])
            boxes += [upper, lower]
        require(not boxes, "proof", f"{len(boxes)} boxes of ranks are left without a node")


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
    block = options.block[box]
    first = np.flatnonzero(np.diff(block, prepend=-1))
    if first.size < options.n_blocks:
        return -np.inf, np.full(box.size, -np.inf)
    if price == np.inf:
        allowed = -np.inf if _least_need(options, box, device_price) > options.bandwidth else np.inf
        return allowed, np.full(box.size, allowed)
    net = options.worth[box] - price * options.need[box] - np.append(device_price, 0.0)[options.device[box]]
    best = np.maximum.reduceat(net, first)
    bound = _highest_sum(best, device_price, np.array([price * options.bandwidth]))
    return bound, bound - (best[block] - net)


def _least_need(options: Options, box: IntArray, device_price: FloatArray) -> float:
    """Return what choices need at least, exact but for one rounding at the end, as that of the needs of a choice is.

    So a choice that fits to the last bit is never said to lack bandwidth. What each sum of two numbers loses to its
    rounding is again a float: D. E. Knuth, "The Art of Computer Programming", volume 2, section 4.2.2.
    """
    need, price = options.need[box], np.append(device_price, 0.0)[options.device[box]]
    both = need + price
    part = both - need
    lost = (need - (both - part)) + (price - part)
    order = np.lexsort((lost, both, options.block[box]))
    least = order[np.flatnonzero(np.diff(options.block[box], prepend=-1))]  # boxes are sorted by block
    return total(np.concatenate((both[least], lost[least], -device_price)))


def _highest_sum(*parts: FloatArray) -> float:
    """Add up, and add what the few roundings in each number can hide: huge prices must not drown what they bound."""
    numbers = np.concatenate(parts)
    return total(numbers) + 4 * _EPSILON * float(np.abs(numbers).sum())


def halves(options: Options, box: IntArray, block: int, rank: int) -> tuple[IntArray, IntArray]:
    """Cut a box in two: where the block has at most the rank, and where it has more."""
    more = (options.block[box] == block) & (options.rank[box] > rank)
    other = options.block[box] != block
    return box[~more], box[more | other]
