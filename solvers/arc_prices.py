"""Prices of devices that prove most, from the linear program over all segments: where paths would come too slowly."""

import numpy as np

from lola.solvers._jit import kernel

# Pivots between two fresh inverses, and in all.
_FRESH, _MOST_PIVOTS = 50, 20_000
_DEAREST = 100.0  # a stand-in, in units of the limit


@kernel
def arc_prices(first, last, cost, members, row, n_rows, limit, price):
    """Find the prices under which the shortest path, plus all members' prices, is dearest; write them into `price`.

    Notes
    -----
    The primal simplex method. A row for each block says that the segments which cover it are one in all, and one for
    each kind with ``row[t] > 0``, of which there are ``n_rows − 1``, that it takes no more segments than it has
    members. It begins with a stand-in for every block, and makes those dearer that it cannot do without; dearer than
    need be, they would cost digits. Ties are broken lexicographically, so it ends.
    """
    n_kinds, n_arcs = cost.shape
    n_blocks = last[-1]
    size = n_blocks + n_rows - 1
    # Of each row of the basis: the kind and the arc; a stand-in or a slack, of the row `kind`, where the arc is −1.
    kind, arc = np.arange(size), np.full(size, -1)
    charge, amount = np.zeros(size), np.ones(size)
    charge[:n_blocks] = limit
    for t in range(n_kinds):
        if row[t] > 0:
            amount[n_blocks + row[t] - 1] = members[t]
    capacity = amount.copy()
    inverse, direction, along = np.eye(size), np.empty(size), np.zeros(n_blocks + 1)
    dual = charge.copy()
    for pivot in range(_MOST_PIVOTS):
        if pivot % _FRESH == _FRESH - 1:
            inverse[:] = np.linalg.inv(_matrix(kind, arc, first, last, row, n_blocks))
            amount = inverse @ capacity
            dual = charge @ inverse
        for block in range(n_blocks):
            along[block + 1] = along[block] + dual[block]
        least, entering, entering_arc = -1e-13 * limit, -1, -1
        for t in range(n_kinds):
            own = dual[n_blocks + row[t] - 1] if row[t] > 0 else 0.0
            for a in range(n_arcs):
                gain = cost[t, a] - (along[last[a]] - along[first[a]]) - own
                if gain < least:
                    least, entering, entering_arc = gain, t, a
        for r in range(n_blocks, size):
            if -dual[r] < least:
                least, entering, entering_arc = -dual[r], r, -1
        if entering < 0:
            raised = False
            for r in range(size):
                if arc[r] < 0 and kind[r] < n_blocks and amount[r] > 1e-9 and charge[r] < _DEAREST * limit:
                    charge[r] *= 4.0
                    raised = True
            if not raised:
                break
            dual = charge @ inverse
            continue
        for r in range(size):
            direction[r] = 0.0
            if entering_arc < 0:
                direction[r] = inverse[r, entering]
                continue
            for block in range(first[entering_arc], last[entering_arc]):
                direction[r] += inverse[r, block]
            if row[entering] > 0:
                direction[r] += inverse[r, n_blocks + row[entering] - 1]
        leaving = -1
        for r in range(size):
            if direction[r] > 1e-9 and (leaving < 0 or _sooner(amount, inverse, direction, r, leaving)):
                leaving = r
        if leaving < 0:
            break
        kind[leaving], arc[leaving] = entering, entering_arc
        charge[leaving] = cost[entering, entering_arc] if entering_arc >= 0 else 0.0
        inverse[leaving] /= direction[leaving]
        amount[leaving] /= direction[leaving]
        dual += least * inverse[leaving]
        for r in range(size):
            if r != leaving and direction[r] != 0.0:
                inverse[r] -= direction[r] * inverse[leaving]
                amount[r] -= direction[r] * amount[leaving]
    inverse[:] = np.linalg.inv(_matrix(kind, arc, first, last, row, n_blocks))
    dual = charge @ inverse
    for t in range(n_kinds):
        price[t] = min(0.0, dual[n_blocks + row[t] - 1]) if row[t] > 0 else 0.0


@kernel
def _matrix(kind, arc, first, last, row, n_blocks):
    """Write down what the columns of the basis take of each row."""
    size = kind.size
    matrix = np.zeros((size, size))
    for r in range(size):
        if arc[r] < 0:
            matrix[kind[r], r] = 1.0
            continue
        matrix[first[arc[r]] : last[arc[r]], r] = 1.0
        if row[kind[r]] > 0:
            matrix[n_blocks + row[kind[r]] - 1, r] = 1.0
    return matrix


@kernel
def _sooner(amount, inverse, direction, r, other):
    """Whether row r limits a step before the other one; ties are broken by the columns in turn, so that none cycles."""
    apart = amount[r] / direction[r] - amount[other] / direction[other]
    if abs(apart) > 1e-12:
        return apart < 0.0
    for i in range(direction.size):
        apart = inverse[r, i] / direction[r] - inverse[other, i] / direction[other]
        if abs(apart) > 1e-12:
            return apart < 0.0
    return False
