"""(P2)'s kernels: Newton's method over assignments, Theorem 2."""

from typing import NamedTuple

import numpy as np

from lola.solvers._jit import kernel
from lola.solvers.checks import BoolArray, FloatArray, IntArray

# The first proof tried says that nothing is faster by more than this fraction; rounding may call for a wider one.
FIRST_GAP = 2.5e-13
# The bound claimed lies this much below the deadline of the prices: a tie there is clearly above its price here.
CLEAR = 1e-14
# Prices hold at a deadline that lies so much above the bound claimed. Half-way between, rounding turns neither a device
# that ties with a price there into a newcomer, nor one that needs less than its price by the bound into a bystander.
AFTER_BOUND = 1.0 + CLEAR / 2
# No pair that wants this many times the whole spectrum is ever chosen, so its price need not be told from a higher one.
CAP = 2.0
# Devices that need at most this many times the spectrum to be as quick as a round ago are tried first. Independent
# fading rarely passes, and a try that fails costs an assignment.
_NEARLY_ENOUGH = 1.1


class Optimum(NamedTuple):
    """What `newton` finds: the allocation, the prices that prove it, and how many assignments it took."""

    device: IntArray  # (L,)
    share: FloatArray  # (L,) hertz
    latency: float  # s
    bound: float  # s
    price: FloatArray  # (L,) hertz
    device_price: FloatArray  # (K,) hertz
    violator: BoolArray  # (L,) where no allocation exists
    solved: int  # assignments; −1 where no allocation exists


@kernel
def newton(work, need, bits, speed, memory, efficiency, allowed, bandwidth, start, deadline):
    """Solve (P2) over all the devices given. Assignments solved is −1 where none exists.

    Starts from the devices `start` if they can finish by `deadline` with little more than the spectrum; a deadline of 0
    rules that out.
    """
    n_blocks, n_devices = work.size, speed.size
    compute = np.empty((n_blocks, n_devices))
    upload = np.empty((n_blocks, n_devices))  # seconds with the whole spectrum
    for block in range(n_blocks):
        for k in range(n_devices):
            possible = need[block] <= memory[k] and (allowed.size == 0 or allowed[k, block])
            compute[block, k] = work[block] / speed[k] if possible else np.inf
            upload[block, k] = bits[block] / efficiency[k] / bandwidth
    violator = np.zeros(n_blocks, np.bool_)
    price, device_price = np.zeros(n_blocks), np.zeros(n_devices)
    best, share = np.zeros(n_blocks, np.int64), np.zeros(n_blocks)
    cost = np.empty((n_blocks, n_devices))
    chosen = np.empty(n_blocks, np.int64)
    chosen_compute = np.empty(n_blocks)
    chosen_upload = np.empty(n_blocks)
    solved, needed = 0, 0.0
    for block in range(n_blocks):
        left = deadline - compute[block, start[block]]
        needed += upload[block, start[block]] / left if left > 0.0 else np.inf
    likely = needed <= _NEARLY_ENOUGH
    if likely:
        chosen[:] = start
    elif not _place_greedily(compute, upload, chosen):
        for block in range(n_blocks):
            for k in range(n_devices):
                cost[block, k] = compute[block, k] + n_blocks * upload[block, k]
        if not assign_blocks(cost, chosen, device_price, violator):
            return Optimum(best, share, np.inf, np.inf, price, device_price, violator, -1)
        solved, likely = 1, True
    latency, bound, gap = np.inf, 0.0, FIRST_GAP
    while True:
        for block in range(n_blocks):
            chosen_compute[block] = compute[block, chosen[block]]
            chosen_upload[block] = upload[block, chosen[block]]
        x, longest, _ = _finish_together(chosen_compute, chosen_upload)
        if longest + x < latency:
            latency = longest + x
            best[:] = chosen
        else:
            gap *= 4.0  # the faster assignment was an illusion of rounding: prove a little less
        bound = latency * (1.0 - gap)
        for block in range(n_blocks):
            for k in range(n_devices):
                left = bound - compute[block, k]
                needed = upload[block, k] / left
                cost[block, k] = needed if (left > 0.0) & (needed < CAP) else CAP
        if not likely or not _price_if_optimal(cost, chosen, price, device_price):
            assign_blocks(cost, chosen, device_price, violator)
        solved, likely = solved + 1, True
        least = 0.0
        for block in range(n_blocks):
            least += cost[block, chosen[block]]
        if least <= 1.0 and gap < 0.5:
            continue
        # Prices as high as the bandwidth needed by any pair permits; rounding in the paths' duals drops out here.
        for block in range(n_blocks):
            highest = np.inf
            for k in range(n_devices):
                highest = min(highest, cost[block, k] - device_price[k])
            price[block] = highest
        if _surplus(price, device_price) > 0.0:
            break
        if gap > 0.5:
            bound = 0.0  # nothing is proven
            break
    for block in range(n_blocks):
        chosen_compute[block] = compute[block, best[block]]
        chosen_upload[block] = efficiency[best[block]]
    price *= bandwidth
    device_price *= bandwidth
    share, latency, _ = split_bandwidth(chosen_compute, bits, chosen_upload, bandwidth)
    return Optimum(best, share, latency, bound * (1.0 - CLEAR), price, device_price, violator, solved)


@kernel
def _surplus(price, device_price):
    """By how much all prices together exceed 1, beyond what the rounding of their sums could hide.

    A check adds a pair's two prices, and pays for half a unit in the last place of the larger one once a block; scaling
    by the bandwidth rounds each price once. The sum is compensated (Neumaier): thousands of prices cancel in it.
    """
    total, lost, magnitude, largest, lowest = -1.0, 0.0, 0.0, 0.0, 0.0
    for n in range(price.size + device_price.size):
        term = price[n] if n < price.size else device_price[n - price.size]
        largest, lowest = max(largest, term), min(lowest, term)
        magnitude += abs(term)
        longer = total + term
        lost += total - longer + term if abs(total) >= abs(term) else term - longer + total
        total = longer
    return total + lost - 5e-16 * price.size * (largest - lowest) - 2.5e-16 * magnitude


@kernel
def _place_greedily(compute, upload, chosen):
    """Give each block, deepest first, the device that would finish first under an equal split; False if one finds none.

    `chosen` is modified in place. Any assignment would do for a start, and deepest first finds one if any exists, as
    long as nothing but memory stands in the way.
    """
    n_blocks, n_devices = compute.shape
    taken = np.zeros(n_devices)
    for block in range(n_blocks - 1, -1, -1):
        first, choice = np.inf, -1
        for k in range(n_devices):
            finish = compute[block, k] + n_blocks * upload[block, k] + taken[k]
            earlier = finish < first
            first = finish if earlier else first
            choice = k if earlier else choice
        if choice < 0:
            return False
        chosen[block] = choice
        taken[choice] = np.inf
    return True


@kernel
def _finish_together(compute, upload):
    """Return x, the longest computation, and the Newton steps: all uploads can end at their sum and no sooner.

    `upload` is in seconds with the whole spectrum. The unknown is x = T − max(compute), so that a short upload after a
    long computation keeps its digits.
    """
    n = compute.size
    longest = compute.max()
    x = 0.0
    for i in range(n):
        # Alone with the whole spectrum nobody could finish sooner.
        x = max(x, upload[i] - (longest - compute[i]))
    steps = 0
    while steps < 100:
        steps += 1
        total, slope = 0.0, 0.0
        for i in range(n):
            left = x + (longest - compute[i])
            needed = upload[i] / left
            total += needed
            slope += needed / left
        # Newton on 1/total − 1.
        step = (total - 1.0) * total / slope
        if not x + step > x:
            break
        x += step
    return x, longest, steps


@kernel
def split_bandwidth(compute, bits, efficiency, bandwidth):
    """Return the bandwidths, the common finish and the Newton steps."""
    n = compute.size
    share = np.empty(n)
    for i in range(n):
        share[i] = bits[i] / efficiency[i] / bandwidth
    x, longest, steps = _finish_together(compute, share)
    total = 0.0
    for i in range(n):
        share[i] = bits[i] / efficiency[i] / (x + (longest - compute[i]))
        total += share[i]
    # Whatever the order in which a user adds them up, the shares stay within the bandwidth.
    scale = min(bandwidth / total * (1.0 - 2.3e-16 * (n + 1)), 1.0)
    latency = 0.0
    for i in range(n):
        share[i] *= scale
        latency = max(latency, compute[i] + bits[i] / share[i] / efficiency[i])
    return share, latency, steps


@kernel
def assign_blocks(cost, column_of_row, v, violator):
    """Min-sum assignment of a small wide matrix; False, with a Hall violator, if there is none.

    `column_of_row`, the column duals `v` and `violator` are modified in place. Every row starts at its cheapest
    column; Dijkstra's shortest augmenting paths resolve the clashes. For a dozen rows this is quicker than what
    `linear_assignment` does, and no dual exceeds the optimum, so prices keep their digits however the costs spread.
    """
    n, m = cost.shape
    row_of_column = np.full(m, -1, np.int64)
    v[:] = 0.0
    for i in range(n - 1, -1, -1):  # deep blocks are the choosy ones
        cheapest = 0
        for j in range(1, m):
            cheapest = j if cost[i, j] < cost[i, cheapest] else cheapest
        column_of_row[i] = -1
        if cost[i, cheapest] < np.inf and row_of_column[cheapest] < 0:
            row_of_column[cheapest] = i
            column_of_row[i] = cheapest
    # A settled column leaves both sweeps by numbers instead of tests: its distance is inf, its dual there −inf.
    distance = np.empty(m)
    dual = np.empty(m)
    settled = np.empty(m)
    came_from = np.empty(m, np.int64)
    order = np.empty(n, np.int64)
    for start in range(n - 1, -1, -1):
        if column_of_row[start] >= 0:
            continue
        for j in range(m):
            dual[j] = v[j]
            distance[j] = cost[start, j] - v[j]
            came_from[j] = start
        n_settled = 0
        while True:
            end, nearest = 0, np.inf
            for j in range(m):
                if distance[j] < nearest:
                    nearest = distance[j]
                    end = j
            if nearest == np.inf:
                violator[start] = True
                for p in range(n_settled):
                    violator[row_of_column[order[p]]] = True
                return False
            i = row_of_column[end]
            if i < 0:
                break
            order[n_settled] = end
            n_settled += 1
            settled[end] = nearest
            distance[end] = np.inf
            dual[end] = -np.inf
            offset = nearest - (cost[i, end] - v[end])
            for j in range(m):
                reached = cost[i, j] - dual[j] + offset
                nearer = reached < distance[j]
                distance[j] = reached if nearer else distance[j]
                came_from[j] = i if nearer else came_from[j]
        for p in range(n_settled):
            j = order[p]
            v[j] += min(settled[j] - nearest, 0.0)  # rounding may bring it a hair above
        while True:
            i = came_from[end]
            row_of_column[end] = i
            end, column_of_row[i] = column_of_row[i], end
            if i == start:
                break
    return True


@kernel
def _price_if_optimal(cost, column_of_row, price, v):
    """Find prices that prove an assignment optimal; False if there are none, because it is not.

    The row duals `price` and the column duals `v` are modified in place. A row may pay what its cheapest free column
    costs, and what another row pays plus the difference at that row's column; Bellman and Ford's sweeps bring all
    prices down to what they may be. A price below the cost of the row's own column shows a cheaper assignment.
    """
    n, m = cost.shape
    at_column = np.empty((n, n))  # of row k: what every row would pay there
    v[:] = 0.0
    for k in range(n):
        v[column_of_row[k]] = -np.inf
        for i in range(n):
            at_column[k, i] = cost[i, column_of_row[k]]
    for i in range(n):
        highest = np.inf if n < m else 0.0  # with no free column, only differences of prices matter
        for j in range(m):
            highest = min(highest, cost[i, j] - v[j])
        price[i] = highest
    lowered, sweeps = True, 0
    while lowered:
        if sweeps > n:
            return False  # a round trip among the rows that lowers its own price: swapping their columns pays
        lowered = False
        sweeps += 1
        for k in range(n):
            step = price[k] - at_column[k, k]
            if step < 0.0 and n < m:
                return False
            for i in range(n):
                pays = at_column[k, i] + step
                lowered |= pays < price[i]
                price[i] = min(price[i], pays)
    lowest = 0.0
    if n == m:
        lowest = np.inf
        for i in range(n):
            lowest = min(lowest, price[i] - cost[i, column_of_row[i]])
    for i in range(n):
        price[i] -= lowest
        v[column_of_row[i]] = min(cost[i, column_of_row[i]] - price[i], 0.0)
    return True
