"""The compiled core of `linear_assignment`: column reduction and shortest augmenting paths."""

import numpy as np
from numba import float64, int64

from lola.solvers._jit import kernel, machine_code
from lola.solvers.checks import LARGEST_COST

HEADER = 2  # objective, iterations
SOLVED, UNUSABLE, INFEASIBLE, UNFINISHED = 0, 1, 2, 3
FEW_COLUMNS = 128  # up to here, scalar loops over what is left beat vector loops over everything
_SLICE = 2**25  # costs looked at before Python is given a chance to notice Ctrl-C: some 50 ms
_DOUBT = 1e-12  # of the sum of the chosen costs' magnitudes; roundings of duals that help take a tenth at most
_EPSILON = float(np.finfo(np.float64).eps)
_ALL_BUT_SIGN = 2**63 - 1


@kernel
def _solve(cost, row_mate, packed):
    """Fill `row_mate` with the rows' partners, and `packed` with the header, the rows' duals and the columns' duals.

    A `cost` of more than FEW_COLUMNS comes with charges in the place of the rows' duals. Returns SOLVED, UNUSABLE,
    INFEASIBLE, with a Hall violator (1 for a member) in the partners' place, or UNFINISHED, which is for `go_on`.
    """
    n, m = cost.shape
    if not _is_usable(cost.reshape(-1)):
        return UNUSABLE
    u, v = packed[HEADER : HEADER + n], packed[HEADER + n :]
    space = np.empty(4 * m, np.int64)  # one allocation: several take a tenth of the time of a 10 × 10 matrix
    column_mate = space[:m]
    for i in range(n):
        row_mate[i] = -1
    for j in range(m):
        v[j] = 0.0
        column_mate[j] = -1
    packed[1] = 0.0
    if m <= FEW_COLUMNS:
        u[:] = 0.0
    if n == m:  # in a wide matrix the columns left out must keep the dual 0
        _reduce_columns(cost, u, row_mate, column_mate, v, space[m : 2 * m])
    if m <= FEW_COLUMNS:
        paths = _augment_narrow(cost, row_mate, column_mate, v, space[m:])
    else:
        paths = _augment_wide(cost, row_mate, column_mate, v)
    return _finish(cost, row_mate, packed, paths)


@kernel
def go_on(cost, row_mate, packed):
    """Do another slice of the work that `_solve` left unfinished in `row_mate` and `packed`."""
    n, m = cost.shape
    column_mate = np.full(m, -1, np.int64)
    for i in range(n):
        if row_mate[i] >= 0:
            column_mate[row_mate[i]] = i
    return _finish(cost, row_mate, packed, _augment_wide(cost, row_mate, column_mate, packed[HEADER + n :]))


@kernel
def _finish(cost, row_mate, packed, paths):
    """Complete `packed`, where `paths` more rows were matched, or none can be (−1)."""
    if paths < 0:
        return INFEASIBLE
    packed[1] += paths
    n = row_mate.size
    u, v = packed[HEADER : HEADER + n], packed[HEADER + n :]
    total = 0.0
    for i in range(n):
        if row_mate[i] < 0:
            return UNFINISHED
        chosen = cost[i, row_mate[i]]
        total += chosen
        u[i] = chosen - v[row_mate[i]]
    packed[0] = total
    return SOLVED


@kernel
def is_proven(cost, row_mate, packed):
    """Tell whether the duals of a solved square matrix prove the assignment optimal, to 1e-12 of the costs it chooses.

    Each row's dual is its chosen cost less the column's dual. So primal and dual differ by the roundings of the duals,
    and by what pairs lack: any assignment uses a column once, so it saves no more than each column's worst excess of
    the duals over a cost. The column reduction leaves none beyond rounding; after paths it is looked for, in O(n²).
    """
    n = row_mate.size
    u, v = packed[HEADER : HEADER + n], packed[HEADER + n :]
    scale = doubt = 0.0
    for i in range(n):
        scale += abs(cost[i, row_mate[i]])
        doubt += 2.0 * _EPSILON * (abs(u[i]) + abs(v[i]))
    if packed[1] > 0.0 and doubt <= _DOUBT * scale:
        worst = np.zeros(n)
        for i in range(n):
            row, dual = cost[i], u[i]
            for j in range(n):
                excess = dual + v[j] - row[j]
                worst[j] = excess if excess > worst[j] else worst[j]
        doubt += worst.sum()
    return doubt <= _DOUBT * scale


@kernel
def _is_usable(costs):
    bad = 0
    for k in range(costs.size):
        bad += not (((costs[k] >= -LARGEST_COST) & (costs[k] <= LARGEST_COST)) | (costs[k] == np.inf))
    return bad == 0


@kernel
def _reduce_columns(cost, charges, row_mate, column_mate, v, cheapest):
    """Lower each column by its least cost less the row's charge, and give it the row of that cost if it is still free.

    The mates, `v` and the workspace `cheapest` are modified in place. Reduced costs are exact to rounding, and with
    costs ≥ 0 no dual exceeds the optimum, here or in the paths: so small costs keep their digits beside huge ones.
    """
    n = v.size
    for j in range(n):
        v[j], cheapest[j] = np.inf, -1
    for i in range(n):
        row, charge = cost[i], charges[i]
        for j in range(n):
            charged = row[j] - charge
            less = charged < v[j]
            v[j] = charged if less else v[j]
            cheapest[j] = i if less else cheapest[j]
    for j in range(n - 1, -1, -1):
        i = cheapest[j]
        if i < 0:  # forbidden to every row
            v[j] = 0.0
        elif row_mate[i] < 0:
            row_mate[i] = j
            column_mate[j] = i


@kernel
def _augment_narrow(cost, row_mate, column_mate, v, space):
    """Match each free row along a shortest path; returns how many.

    Returns −1, with a Hall violator in `row_mate`, if a row has none. `order` holds the columns not yet scanned in
    [0, left), the scanned ones after. The mates, `v` and the workspace of 3m numbers are modified in place.
    """
    m = v.size
    paths = 0
    came_from, distance = space[:m], space[m : 2 * m].view(np.float64)
    order = space[2 * m :].view(
        np.uint64
    )  # numba tests signed indices for negative ones, which took a quarter of the time
    for start in range(row_mate.size):
        if row_mate[start] >= 0:
            continue
        paths += 1
        for j in range(m):
            distance[j] = np.inf
            order[j] = j
        i, offset, left, nearest = start, 0.0, m, -np.inf
        while True:
            row = cost[i]
            least, place = np.inf, 0
            for p in range(left):
                j = order[p]
                through, here = row[j] - v[j] - offset, distance[j]
                if through < here:
                    distance[j] = here = through
                    came_from[j] = i
                if here <= least and (here < least or column_mate[j] < 0):
                    least, place = here, p
            end = order[place]
            nearest = max(nearest, least)  # rounding may bring it a hair below
            distance[end] = nearest
            i = column_mate[end]
            if i < 0 or nearest == np.inf:
                break
            left -= 1
            order[place], order[left] = order[left], end
            offset = cost[i, end] - v[end] - nearest
        if nearest == np.inf:
            _mark_violator(start, order[left:], row_mate, column_mate)
            return -1
        for p in range(left, m):
            v[order[p]] += distance[order[p]] - nearest
        _flip(start, end, came_from, row_mate, column_mate)
    return paths


@kernel
def _augment_wide(cost, row_mate, column_mate, v):
    """Do as `_augment_narrow`, in loops over all columns that the compiler can vectorise, until a slice is done.

    A scanned column has v = −inf and distance = inf for the time being, so that no path reaches it again. The compiler
    vectorises no minimum of floats, but one of integers: bits of floats are ordered as the floats, once those of
    negative ones are flipped.
    """
    m = v.size
    paths, scans = 0, 0
    distance = np.empty(m)
    bits = distance.view(np.int64)
    came_from = np.empty(m, np.int64)
    scanned = np.empty(m, np.int64)
    distance_then, v_then = np.empty(m), np.empty(m)
    for start in range(row_mate.size):
        if row_mate[start] >= 0:
            continue
        if scans * m > _SLICE:
            break
        paths += 1
        distance[:] = np.inf
        i, offset, n_scanned, nearest = start, 0.0, 0, -np.inf
        while True:
            scans += 1
            row = cost[i]
            for j in range(m):
                through = row[j] - v[j] - offset
                nearer = through < distance[j]
                distance[j] = through if nearer else distance[j]
                came_from[j] = i if nearer else came_from[j]
            least = _ALL_BUT_SIGN
            for j in range(m):
                least = min(least, bits[j] ^ ((bits[j] >> 63) & _ALL_BUT_SIGN))
            least ^= (least >> 63) & _ALL_BUT_SIGN
            end = 2 * m
            for j in range(m):  # of several at the least distance, one without a mate ends the path
                rank = j if column_mate[j] < 0 else j + m
                end = min(end, rank if bits[j] == least else 2 * m)
            end = end if end < m else end - m
            nearest = max(nearest, distance[end])
            i = column_mate[end]
            if i < 0 or nearest == np.inf:
                break
            scanned[n_scanned], distance_then[n_scanned], v_then[n_scanned] = end, nearest, v[end]
            n_scanned += 1
            offset = cost[i, end] - v[end] - nearest
            v[end] = -np.inf
            distance[end] = np.inf
        if nearest == np.inf:
            _mark_violator(start, scanned[:n_scanned], row_mate, column_mate)
            return -1
        for p in range(n_scanned):
            v[scanned[p]] = v_then[p] + (distance_then[p] - nearest)
        _flip(start, end, came_from, row_mate, column_mate)
    return paths


@kernel
def _flip(start, end, came_from, row_mate, column_mate):
    """Give each row on the path from row `start` to column `end` its next column. The mates are modified in place."""
    j = np.int64(end)
    while True:
        i = came_from[j]
        column_mate[j] = i
        row_mate[i], j = j, row_mate[i]
        if i == start:
            return


@kernel
def _mark_violator(start, scanned, row_mate, column_mate):
    """Overwrite `row_mate`: 1 for `start` and the mates of the scanned columns, 0 for the rest."""
    row_mate[:] = 0
    row_mate[start] = 1
    for j in scanned:
        row_mate[column_mate[j]] = 1


solve_at_once = machine_code(_solve, float64[:, ::1], int64[::1], float64[::1])
