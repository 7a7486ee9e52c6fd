"""Cheapest selections of segments: shortest paths in which no device stands twice, or the proof that all cost more."""

from typing import NamedTuple

import numpy as np

from lola.solvers._jit import kernel
from lola.solvers.arc_prices import arc_prices
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.newton import assign_blocks
from lola.solvers.path_prices import best_prices

# So many steps along the subgradient, each aimed this fraction above the limit, less and less: aimed at the limit
# itself, they would only creep towards prices that prove it. Most decisions need no more.
_STEPS, _AIM, _AIM_SHRINKS = 40, 0.05, 0.9
_MOST_PATHS = 2000  # looked at for one decision
# After so many of them the linear program is asked over all segments: among dozens of blocks paths can be too many.
_PATIENCE = 100
_BLURRED = 1e-11  # a bound that is below the limit by no more may be so by rounding alone
_MOST_STATES = 1 << 23  # times positions: 64 MiB of potentials

FITS, COSTS_MORE, UNDECIDED = 0, 1, 2


class Decision(NamedTuple):
    """What `decide` finds: a selection that fits, or potentials that prove that none does."""

    verdict: int  # FITS, COSTS_MORE or UNDECIDED
    arc: IntArray  # (Q,) of a selection's segments, deepest first, where it fits
    kind: IntArray  # (Q,) who takes them
    potential: FloatArray  # (L + 1, states)
    critical: IntArray  # (C,) kinds that the states count, the first one's counter running fastest


@kernel
def decide(first, last, cost, members, limit, price):
    """Find a selection that costs at most `limit`, or potentials which prove that all cost more.

    A selection is a path over the positions 0…L whose arcs are segments, and takes no kind of device more often than it
    has members; `cost`, (kinds, arcs), must be finite. Prices, (kinds,) and ≤ 0, are what a kind's members charge;
    they start from what `price` holds, and are modified in place. Arcs are sorted by `first`.

    Notes
    -----
    The shortest path at cost − price, plus all members' prices, is below any selection's cost. A few steps along the
    subgradient raise it (Polyak's length), then the linear program over the paths seen says where it is highest
    (Dantzig and Wolfe). Where even that is too low, the kind most in dispute is made critical: the states of the path
    then count how often it is taken, and its price is 0. With all of them critical the bound is exact.
    """
    n_kinds, n_arcs = cost.shape
    n_blocks = last[-1]
    cheapest, used = np.empty(n_arcs), np.empty(n_kinds)
    arc, kind = np.empty(n_blocks, np.int64), np.empty(n_blocks, np.int64)
    critical, is_critical = np.zeros(0, np.int64), np.zeros(n_kinds, np.bool_)
    pool, pool_cost, seen = np.full((_MOST_PATHS, n_blocks), -1), np.empty(_MOST_PATHS), 0
    row, n_rows, basis = np.zeros(n_kinds, np.int64), 1, np.zeros(n_kinds + 1, np.int64)
    attempt, n_states, at_best, rows_asked = 0, 1, False, 0
    reach = np.empty((n_blocks + 1, n_states))
    while True:
        attempt += 1
        bound, highest = 0.0, 0.0
        for t in range(n_kinds):
            bound += members[t] * price[t]
            highest = max(highest, -price[t])
        _cheapest_kinds(cost, price, is_critical, cheapest)
        _relax(first, last, cost, cheapest, members, critical, reach)
        end = int(np.argmin(reach[n_blocks]))
        bound += reach[n_blocks, end]
        if bound == np.inf:  # too few devices for any selection
            return Decision(COSTS_MORE, arc[:0], kind[:0], reach, critical)
        if bound - limit > 1e-15 * n_blocks * (reach[n_blocks, end] + highest):
            _level(reach, reach[n_blocks, end])
            return Decision(COSTS_MORE, arc[:0], kind[:0], reach, critical)
        n = _trace(first, last, cost, price, cheapest, members, critical, is_critical, reach, end, arc, kind)
        if seen == _MOST_PATHS:
            return Decision(UNDECIDED, arc[:0], kind[:0], reach[:0], critical)
        pool[seen] = -1
        pool[seen, :n] = kind[:n]
        used[:] = 0.0
        total, clash = 0.0, False
        for q in range(n):
            used[kind[q]] += 1.0
            clash |= used[kind[q]] > members[kind[q]]
            total += cost[kind[q], arc[q]]
        rows_before, n_rows = n_rows, _rows_of(pool[seen], members, is_critical, row, n_rows)
        if n_rows > rows_before:
            basis[:n_rows] = np.arange(n_rows)
        pool_cost[seen] = total
        known = False
        for p in range(seen):
            known |= pool_cost[p] == total and (pool[p] == pool[seen]).all()
        seen += 1
        if clash:
            total = _reassign(cost, members, arc[:n], kind[:n])
        if total <= limit:
            return Decision(FITS, arc[:n].copy(), kind[:n].copy(), reach[:0], critical)
        if attempt < _STEPS and _step(members, used, limit * (1.0 + _AIM * _AIM_SHRINKS**attempt) - bound, price):
            continue
        disputed = -1
        if seen > _PATIENCE and critical.size == 0:
            if rows_asked < n_rows:
                arc_prices(first, last, cost, members, row, n_rows, limit, price)
                rows_asked = n_rows
                continue
            if bound > limit * (1.0 - _BLURRED):
                return Decision(UNDECIDED, arc[:0], kind[:0], reach, critical)
        else:
            disputed = best_prices(pool[:seen], pool_cost[:seen], members, row, n_rows, basis, price)
            settled = at_best and known
            at_best = True
            if not settled:
                continue
        for t in range(n_kinds):
            amiss = used[t] > members[t] or (used[t] < members[t] and price[t] < 0.0)
            disputed = t if disputed < 0 and amiss and not is_critical[t] else disputed
        if disputed < 0:  # between limit and limit + rounding
            return Decision(UNDECIDED, arc[:0], kind[:0], reach, critical)
        critical = np.append(critical, disputed)
        is_critical[disputed] = True
        price[disputed] = 0.0
        at_best = False
        n_states *= members[disputed] + 1
        if n_states * (n_blocks + 1) > _MOST_STATES:
            return Decision(UNDECIDED, arc[:0], kind[:0], reach[:0], critical)
        reach = np.empty((n_blocks + 1, n_states))
        seen = _without_overuse(pool[:seen], pool_cost, disputed, members[disputed])
        row[:] = 0
        n_rows = 1
        for p in range(seen):
            n_rows = _rows_of(pool[p], members, is_critical, row, n_rows)
        basis[:n_rows] = np.arange(n_rows)


@kernel
def _step(members, used, missing, price):
    """Move prices along the subgradient, far enough for what is missing if the bound were linear; False at its top.

    `price` is modified in place. It is a path's use that counts: a kind taken too often becomes dearer.
    """
    norm = 0.0
    for t in range(members.size):
        if price[t] < 0.0 or used[t] > members[t]:
            norm += (members[t] - used[t]) ** 2
    if norm == 0.0:
        return False
    for t in range(members.size):
        price[t] = min(0.0, price[t] + missing / norm * (members[t] - used[t]))
    return True


@kernel
def _rows_of(path, members, is_critical, row, n_rows):
    """Give a row of the linear program to every kind that a path takes too often; return how many rows there are."""
    for t in path:
        if t >= 0 and row[t] == 0 and not is_critical[t] and (path == t).sum() > members[t]:
            row[t] = n_rows
            n_rows += 1
    return n_rows


@kernel
def _without_overuse(pool, pool_cost, kind, most):
    """Keep the paths that take a kind at most so often, in place; return how many they are."""
    kept = 0
    for p in range(pool.shape[0]):
        if (pool[p] == kind).sum() <= most:
            pool[kept], pool_cost[kept] = pool[p], pool_cost[p]
            kept += 1
    return kept


@kernel
def _cheapest_kinds(cost, price, is_critical, cheapest):
    """Write down what each arc costs at least, price added, if no critical kind takes it."""
    n_kinds, n_arcs = cost.shape
    cheapest[:] = np.inf
    for t in range(n_kinds):
        if is_critical[t]:
            continue
        charge = price[t]
        for a in range(n_arcs):
            asked = cost[t, a] - charge
            cheapest[a] = asked if asked < cheapest[a] else cheapest[a]


@kernel
def _relax(first, last, cost, cheapest, members, critical, reach):
    """Write down what it costs at least to reach each position in each state."""
    n_states = reach.shape[1]
    reach[:] = np.inf
    reach[0, 0] = 0.0
    for a in range(first.size):
        here, there, least = reach[first[a]], reach[last[a]], cheapest[a]
        for s in range(n_states):
            total = here[s] + least
            there[s] = total if total < there[s] else there[s]
        stride = 1
        for t in critical:
            more = cost[t, a]
            span = stride * (members[t] + 1)
            for block in range(0, n_states, span):
                for s in range(block, block + span - stride):  # the counter is not full yet
                    total = here[s] + more
                    there[s + stride] = total if total < there[s + stride] else there[s + stride]
            stride = span


@kernel
def _trace(first, last, cost, price, cheapest, members, critical, is_critical, reach, state, arc, kind):
    """Write down the arcs of a shortest path that ends in `state`, and the kinds that take them; return how many."""
    n, position = 0, last[-1]
    while position > 0:
        a = first.size
        found = -1
        while found < 0:
            a -= 1
            if last[a] != position:
                continue
            here = reach[first[a]]
            if here[state] + cheapest[a] == reach[position, state]:
                found = 0
                while is_critical[found] or cost[found, a] - price[found] != cheapest[a]:
                    found += 1
            else:
                stride = 1
                for t in critical:
                    counted = state // stride % (members[t] + 1) > 0
                    if counted and here[state - stride] + cost[t, a] == reach[position, state]:
                        found = t
                        state -= stride
                        break
                    stride *= members[t] + 1
        arc[n], kind[n] = a, found
        n += 1
        position = first[a]
    return n


@kernel
def _reassign(cost, members, arc, kind):
    """Give the arcs of a path other kinds, as cheaply as can be, so that none is overtaxed; return the cost, or inf.

    `kind` is modified in place.
    """
    n, columns = arc.size, 0
    for t in range(members.size):
        columns += min(members[t], n)
    if columns < n:
        return np.inf
    seats, column = np.empty((n, columns)), 0
    owner = np.empty(columns, np.int64)
    for t in range(members.size):
        for _ in range(min(members[t], n)):
            owner[column] = t
            for q in range(n):
                seats[q, column] = cost[t, arc[q]]
            column += 1
    assign_blocks(seats, kind, np.empty(columns), np.zeros(n, np.bool_))
    total = 0.0
    for q in range(n):
        total += seats[q, kind[q]]
        kind[q] = owner[kind[q]]
    return total


@kernel
def _level(reach, highest):
    """Lower potentials to that of the end, also where no path leads: nothing asks more of any."""
    for position in range(reach.shape[0]):
        for s in range(reach.shape[1]):
            reach[position, s] = min(reach[position, s], highest)
