"""Branch and bound over ranks: an assignment at each price of bandwidth, and a cut where two of them disagree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lola.solvers._jit import kernel
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.deadline_options import Options, total
from lola.solvers.deadline_proof import CLOSED, RankProof, bounds, halves, least_difference, magnitude
from lola.solvers.newton import assign_blocks

# A price that makes the spectrum worth so many times all gains drowns them in roundings.
_DEAREST = 1e2


class Choice(NamedTuple):
    """An option for each block, or −1 where none is left; what they are worth and need together."""

    option: IntArray
    worth: float
    need: float


class _Relaxed(NamedTuple):
    """What prices allow in a box, and the best choices on either side of the bandwidth, if both are known."""

    bound: float
    reach: FloatArray
    price: float
    device_price: FloatArray
    below: Choice
    above: Choice


class RankSearch:
    """A search for the options that are worth most of those that fit into the bandwidth."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.magnitude = magnitude(options)
        self.difference = least_difference(options)
        self.best = Choice(np.zeros(0, np.int64), -np.inf, np.inf)

    def run(self, most_nodes: int) -> tuple[float, RankProof]:
        """Find the best options, and return a bound with the tree that proves it; `best` stays empty if none fit."""
        boxes = [(np.arange(self.options.block.size), 0.0)]
        splits: list[tuple[int, int]] = []
        prices, device_prices, upper = [], [], -np.inf
        while boxes:
            box, price = boxes.pop()
            relaxed = self._relax(box, price)
            prices.append(relaxed.price)
            device_prices.append(relaxed.device_price)
            closed = relaxed.bound <= self._enough or len(splits) + len(boxes) + 3 > most_nodes
            splits.append((-1, 0) if closed else _disagreement(self.options, box, relaxed.below, relaxed.above))
            if splits[-1][0] < 0:
                upper = max(upper, relaxed.bound)
                continue
            lower, higher = halves(self.options, box[relaxed.reach > self._enough], *splits[-1])
            boxes += [(higher, relaxed.price), (lower, relaxed.price)]
        if upper > self._enough:
            self._try_alike()
        block, rank = np.array(splits, np.int64).T.copy()
        bound = self.best.worth if upper <= self._enough else upper
        return bound, RankProof(block, rank, np.array(prices), np.array(device_prices))

    def _try_alike(self) -> None:
        """Try one rank for all blocks, the largest that fits, so that a search that was stopped is worth no less."""
        block, rank = self.options.block, self.options.rank
        for alike in np.unique(rank)[::-1].tolist():
            highest = np.full(self.options.n_blocks, -1)
            np.maximum.at(highest, block[rank <= alike], rank[rank <= alike])  # more of its own would be worth no more
            choice, _ = self._choose(np.flatnonzero(rank == highest[block]), np.inf)
            if choice.need <= self.options.bandwidth:
                return

    @property
    def _enough(self) -> float:
        """What a bound must not exceed for nothing in its box to be worth more than the best choice so far."""
        return self.best.worth + self.difference

    def _relax(self, box: IntArray, price: float) -> _Relaxed:
        """Seek the prices that allow a box least, until they close it or no others allow less.

        At a price, each choice is worth less by what it needs: a line that falls with the price. The next price is
        where the lines of the best choices below and above the bandwidth cross, until none lies above the crossing.
        """
        above, device_price = self._choose(box, price)
        least = self._allowed(box, price, device_price)
        if least.bound <= self._enough:
            return least
        below, device_price = self._choose(box, np.inf)
        if below.need > self.options.bandwidth:  # unless roundings hide that all others need too much as well
            return min(self._allowed(box, np.inf, device_price), least, key=_bound)
        if above.need <= self.options.bandwidth:
            below = above
            above, device_price = self._choose(box, 0.0)
            least = min(least, self._allowed(box, 0.0, device_price), key=_bound)
        while above.need > self.options.bandwidth and least.bound > self._enough:
            price = (above.worth - below.worth) / (above.need - below.need)
            if not 0 < price <= _DEAREST * self.magnitude / self.options.bandwidth:
                break
            choice, device_price = self._choose(box, price)
            least = min(least, self._allowed(box, price, device_price), key=_bound)
            if choice.worth - below.worth - price * (choice.need - below.need) <= CLOSED * self.magnitude:
                break
            if choice.need <= self.options.bandwidth:
                below = choice
            else:
                above = choice
        return least._replace(below=below, above=above)

    def _allowed(self, box: IntArray, price: float, device_price: FloatArray) -> _Relaxed:
        bound, reach = bounds(self.options, box, price, device_price)
        return _Relaxed(bound, reach, price, device_price, self.best, self.best)

    def _choose(self, box: IntArray, price: float) -> tuple[Choice, FloatArray]:
        """Return the best choice in a box at a price, or the one that needs least, and prices of the devices."""
        options = self.options
        scale, price = (0.0, 1.0) if price == np.inf else (1.0, price)
        too_much = 2 * options.bandwidth
        nothing = -2 * (self.magnitude or 1.0)
        option, device_price = _assign(
            options.block,
            options.device,
            scale * options.worth - price * options.need,
            box,
            scale * nothing - price * too_much,
            options.n_blocks,
            options.n_devices,
        )
        if (option < 0).any():
            return Choice(option, nothing, too_much), device_price
        return self._try(option), device_price

    def _try(self, option: IntArray) -> Choice:
        """Weigh a choice, and keep what it can be raised to where that is the best so far."""
        options = self.options
        choice = Choice(option, total(options.worth[option]), total(options.need[option]))
        if choice.need <= options.bandwidth:
            raised = _raise(
                options.block, options.device, options.worth, options.need, option, options.n_devices, options.bandwidth
            )
            if total(options.need[raised]) > options.bandwidth:
                raised = option
            worth = total(options.worth[raised])
            if worth > self.best.worth:
                self.best = Choice(raised, worth, total(options.need[raised]))
        return choice


def _bound(relaxed: _Relaxed) -> float:
    return relaxed.bound


def _disagreement(options: Options, box: IntArray, below: Choice, above: Choice) -> tuple[int, int]:
    """Return the block on whose ranks two choices differ most in worth, and a rank between the two.

    Block −1 if the box has only one rank of each.
    """
    low, high = below.option, above.option
    if (options.rank[low] == options.rank[high]).all():  # only where roundings hide a difference
        by_rank = box[np.lexsort((options.rank[box], options.block[box]))]
        low = by_rank[np.flatnonzero(np.diff(options.block[by_rank], prepend=-1))]
        high = by_rank[np.flatnonzero(np.diff(options.block[by_rank], append=-1))]
    ranks = np.stack((options.rank[low], options.rank[high]))
    differs = np.where(ranks[0] == ranks[1], -1.0, np.abs(options.worth[low] - options.worth[high]))
    block = int(np.argmax(differs))
    return (block, int(ranks[:, block].sum()) // 2) if differs[block] >= 0 else (-1, 0)


@kernel
def _assign(block, device, value, box, unserved, n_blocks, n_devices):
    """Choose an option of the box for each block so that their values sum up to most; also prices of the devices.

    A block that nobody serves has the option −1, and counts `unserved`.
    """
    best = np.full((n_blocks, n_devices + 1), -np.inf)
    option = np.full((n_blocks, n_devices + 1), -1, np.int64)
    best[:, n_devices] = unserved
    for candidate in box:
        i, k = block[candidate], device[candidate]
        if value[candidate] > best[i, k]:
            best[i, k] = value[candidate]
            option[i, k] = candidate
    # What a device gains over nobody; one column more than rows or devices, so that a column is free and costs nothing.
    cost = np.zeros((n_blocks, max(n_blocks, n_devices) + 1))
    for i in range(n_blocks):
        for k in range(n_devices):
            cost[i, k] = min(best[i, n_devices] - best[i, k], 0.0)
    column, price = np.empty(n_blocks, np.int64), np.empty(cost.shape[1])
    assign_blocks(cost, column, price, np.zeros(n_blocks, np.bool_))
    chosen = np.empty(n_blocks, np.int64)
    for i in range(n_blocks):
        served = column[i] < n_devices and cost[i, min(column[i], n_devices - 1)] < 0.0
        chosen[i] = option[i, column[i] if served else n_devices]
    return chosen, 0.0 - np.minimum(price[:n_devices], 0.0)


@kernel
def _raise(block, device, worth, need, chosen, n_devices, bandwidth):
    """Take the exchange of one option that gains most and fits, as long as there is one; returns a new choice."""
    chosen = chosen.copy()
    holder = np.full(n_devices, -1, np.int64)
    left = bandwidth
    for i in range(chosen.size):
        left -= need[chosen[i]]
        if device[chosen[i]] < n_devices:
            holder[device[chosen[i]]] = i
    while True:
        best, most = -1, 0.0
        for candidate in range(block.size):
            i, k = block[candidate], device[candidate]
            gained = worth[candidate] - worth[chosen[i]]
            free = k == n_devices or holder[k] < 0 or holder[k] == i
            if gained > most and free and need[candidate] - need[chosen[i]] <= left:
                best, most = candidate, gained
        if best < 0:
            return chosen
        i = block[best]
        left -= need[best] - need[chosen[i]]
        if device[chosen[i]] < n_devices:
            holder[device[chosen[i]]] = -1
        if device[best] < n_devices:
            holder[device[best]] = i
        chosen[i] = best
