"""Prices of devices that prove most: a small linear program over the paths seen so far."""

import numpy as np

from lola.solvers._jit import kernel

_MOST_PIVOTS = 500  # between two paths


@kernel
def best_prices(pool, pool_cost, members, row, n_rows, basis, price):
    """Find the prices under which the cheapest of some paths, plus all members' prices, is dearest.

    Return the kind of which the best mixture of the paths takes most beyond its members, −1 for none. `price` is
    modified in place, and `basis`, from which the next call goes on.

    Notes
    -----
    The primal simplex method, on mixtures of paths that take no kind more often than it has members: row 0 says that
    the parts of the mixture are one whole, `row[t]` how often it may take kind t. In the basis, numbers below the row
    count are slacks, and 0 is a path of nobody, dearer than any; path p is ``n_rows + p``.
    """
    charge, base = np.zeros(n_rows), np.zeros((n_rows, n_rows))
    nobody = 8.0 * pool_cost.max()
    for r in range(n_rows):
        _column(basis[r], pool, members, row, base[:, r])
        charge[r] = nobody if basis[r] == 0 else 0.0 if basis[r] < n_rows else pool_cost[basis[r] - n_rows]
    inverse = np.linalg.inv(base)
    new, dual, direction = np.empty(n_rows), np.empty(n_rows), np.empty(n_rows)
    for pivot in range(_MOST_PIVOTS):
        for r in range(n_rows):
            dual[r] = 0.0
            for i in range(n_rows):
                dual[r] += charge[i] * inverse[i, r]
        entering, least = -1, -1e-14 * dual[0]
        free = dual[0]
        for t in range(members.size):
            free -= dual[row[t]] * members[t] if row[t] > 0 else 0.0
        for p in range(pool_cost.size):
            gain = pool_cost[p] - free
            for t in pool[p]:
                gain -= dual[row[t]] if t >= 0 and row[t] > 0 else 0.0
            if gain < least:
                entering, least = n_rows + p, gain
        for r in range(1, n_rows):
            if -dual[r] < least:
                entering, least = r, -dual[r]
        if entering < 0:
            break
        _column(entering, pool, members, row, new)
        for r in range(n_rows):
            direction[r] = 0.0
            for i in range(n_rows):
                direction[r] += inverse[r, i] * new[i]
        leaving = -1
        for r in range(n_rows):
            if direction[r] > 1e-7:
                leaving = r if leaving < 0 or _sooner(inverse, direction, r, leaving) else leaving
        if leaving < 0 or basis[leaving] == entering:
            break
        base[:, leaving] = new
        basis[leaving] = entering
        charge[leaving] = 0.0 if entering < n_rows else pool_cost[entering - n_rows]
        if pivot % 20 == 19:
            inverse = np.linalg.inv(base)
            continue
        inverse[leaving] /= direction[leaving]
        for r in range(n_rows):
            if r != leaving:
                for i in range(n_rows):
                    inverse[r, i] -= direction[r] * inverse[leaving, i]
    beyond = np.zeros(members.size)
    for t in range(members.size):
        price[t] = min(0.0, dual[row[t]]) if row[t] > 0 else 0.0
    for r in range(n_rows):
        if basis[r] >= n_rows and inverse[r, 0] > 1e-9:
            path = pool[basis[r] - n_rows]
            for t in range(members.size):
                if row[t] > 0:
                    beyond[t] += inverse[r, 0] * max((path == t).sum() - members[t], 0)
    disputed = int(np.argmax(beyond))
    return disputed if beyond[disputed] > 0.0 else -1


@kernel
def _sooner(inverse, direction, r, other):
    """Whether row r limits a step before the other one; ties are broken by the columns in turn, so that none cycles."""
    for i in range(direction.size):
        apart = inverse[r, i] / direction[r] - inverse[other, i] / direction[other]
        if abs(apart) > 1e-12:
            return apart < 0.0
    return False


@kernel
def _column(number, pool, members, row, column):
    """Write down what the basis's entry of a number takes of each row."""
    n_rows = column.size
    column[:] = 0.0
    if 0 < number < n_rows:
        column[number] = 1.0
        return
    column[0] = 1.0
    for t in range(members.size):
        if row[t] > 0:
            column[row[t]] -= members[t]
    if number >= n_rows:
        for t in pool[number - n_rows]:
            if t >= 0 and row[t] > 0:
                column[row[t]] += 1.0
