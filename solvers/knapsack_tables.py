"""Least needs of devices by total value, or by sets of devices: what a selection is looked up in."""

import numpy as np

from lola.solvers._jit import kernel


@kernel
def add(high, low, more):
    """Add to a sum that is held as a rounded number and what the rounding lost; exact while that fits 105 bits."""
    total = high + more
    part = total - high
    low += (high - (total - part)) + (more - part)
    rounded = total + low
    return rounded, low - (rounded - total)


@kernel
def best_set(value, need, bandwidth, high, low):
    """Find what `least_need` does, by going through all sets of devices: for few devices of any value.

    Returns
    -------
    best : int
    chosen : (n,) bool
    """
    n_sets = 1 << value.size
    total, sum_high, sum_low = np.zeros(n_sets, np.int64), np.empty(n_sets), np.empty(n_sets)
    sum_high[0], sum_low[0] = high, low
    best = 0 if high <= bandwidth else -1
    of_best = 0
    for k in range(value.size):
        for before in range(1 << k):
            after = before + (1 << k)
            total[after] = total[before] + value[k]
            sum_high[after], sum_low[after] = add(sum_high[before], sum_low[before], need[k])
            if sum_high[after] > bandwidth or total[after] < best:
                continue
            less = sum_high[after] < sum_high[of_best] or (
                sum_high[after] == sum_high[of_best] and sum_low[after] < sum_low[of_best]
            )
            if total[after] > best or less:
                best, of_best = total[after], after
    chosen = np.zeros(value.size, np.bool_)
    for k in range(value.size):
        chosen[k] = of_best >> k & 1
    return best, chosen


def least_need_in_integers(value, need, room, start):
    """Find what `least_need` does for needs of any size, as all sums are Python's integers.

    Parameters
    ----------
    value, need : list of int
    room : int
        For all needs.
    start : int
        Of devices that are selected anyway.

    Returns
    -------
    best : int
    chosen : (n,) bool
    """
    least = {0: (start, 0)} if start <= room else {}  # by total: what it needs, and its devices, one a bit
    beyond = room + 1, 0
    for k, (worth, more) in enumerate(zip(value, need, strict=True)):
        for total, (before, devices) in list(least.items()):
            if before + more < least.get(total + worth, beyond)[0]:
                least[total + worth] = before + more, devices | 1 << k
    best = max(least, default=-1)
    devices = least.get(best, beyond)[1]
    return best, np.array([devices >> k & 1 for k in range(len(value))], dtype=np.bool_)


@kernel
def least_need(value, need, bandwidth, high, low, most):
    """Find the greatest total value whose least need fits, and devices that give it.

    Parameters
    ----------
    value, need : (n,) int64, (n,) float64
    bandwidth : float
    high, low : float
        Of devices that are selected anyway.
    most : int
        Totals beyond it are not looked at.

    Returns
    -------
    best : int
        Of these devices; −1 where not even those that are selected anyway fit.
    chosen : (n,) bool
    """
    least_high, least_low = np.full(most + 1, np.inf), np.zeros(most + 1)
    least_high[0], least_low[0] = high, low
    taken = np.zeros((value.size, most // 8 + 1), np.uint8)
    reached = 0
    for k in range(value.size):
        reached = min(reached + value[k], most)
        for total in range(reached, value[k] - 1, -1):
            before = total - value[k]
            if least_high[before] == np.inf:
                continue
            with_high, with_low = add(least_high[before], least_low[before], need[k])
            now = least_high[total]
            if with_high <= bandwidth and (with_high < now or (with_high == now and with_low < least_low[total])):
                least_high[total], least_low[total] = with_high, with_low
                taken[k, total >> 3] |= np.uint8(1 << (total & 7))
    chosen = np.zeros(value.size, np.bool_)
    best = most
    while best >= 0 and not least_high[best] <= bandwidth:
        best -= 1
    total = best
    for k in range(value.size - 1, -1, -1):
        if total > 0 and taken[k, total >> 3] >> (total & 7) & 1:
            chosen[k] = True
            total -= value[k]
    return best, chosen
