"""Why no ranks are worth more by a deadline: a tree of boxes of ranks, with prices that close each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.deadline_options import Options
from lola.solvers.errors import VerificationError

# Of the magnitudes that are added up: what is worth more by no more than this is not told from a rounding.
CLOSED = 1e-12


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
        n_nodes, rounding = self.price.shape[0], CLOSED * magnitude(options)
        shapes = (self.split_block.shape, self.split_rank.shape, self.device_price.shape)
        if shapes != ((n_nodes,), (n_nodes,), (n_nodes, options.n_devices)):
            raise VerificationError(f"proof: its arrays have shapes {shapes} for {n_nodes} nodes")
        if not ((self.price >= 0).all() and (self.device_price >= 0).all() and np.isfinite(self.device_price).all()):
            raise VerificationError("proof: prices must be >= 0, and those of devices finite")
        boxes = [np.arange(options.block.size)]
        for node in range(n_nodes):
            if not boxes:
                raise VerificationError(f"proof: node {node} belongs to no box")
            box = boxes.pop()
            bound, reach = bounds(options, box, float(self.price[node]), self.device_price[node])
            if self.split_block[node] < 0:
                if not bound <= upper_bound + rounding:
                    raise VerificationError(
                        f"proof: leaf {node} allows a gain of {bound:.17g}, above the bound {upper_bound:.17g}"
                    )
                continue
            lower, upper = halves(
                options, box[reach > objective + rounding], self.split_block[node], self.split_rank[node]
            )
            boxes += [upper, lower]
        if boxes:
            raise VerificationError(f"proof: {len(boxes)} boxes of ranks are left without a node")


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
    idle_too = np.append(device_price, 0.0)[options.device[box]]
    weighed = -options.need[box] if price == np.inf else options.worth[box] - price * options.need[box]
    net = weighed - idle_too
    block = options.block[box]
    first = np.flatnonzero(np.diff(block, prepend=-1))
    if first.size < options.n_blocks:
        return -np.inf, np.full(box.size, -np.inf)
    best = np.maximum.reduceat(net, first)
    if price == np.inf:
        lacks = best.sum() + device_price.sum() < -options.bandwidth * (1 - CLOSED)
        allowed = -np.inf if lacks else np.inf
        return allowed, np.full(box.size, allowed)
    bound = float(best.sum() + device_price.sum() + price * options.bandwidth)
    return bound, bound - (best[block] - net)


def halves(options: Options, box: IntArray, block: int, rank: int) -> tuple[IntArray, IntArray]:
    """Cut a box in two: where the block has at most the rank, and where it has more."""
    more = (options.block[box] == block) & (options.rank[box] > rank)
    other = options.block[box] != block
    return box[~more], box[more | other]
