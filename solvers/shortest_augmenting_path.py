"""Min-sum assignment of any cost matrix by shortest augmenting paths, with duals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from lola.solvers._jit import kernel
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.hopcroft_karp import by_row, cost_matrix, infeasible_matrix
from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class LinearAssignment:
    """An optimal min-sum assignment and its proof.

    Attributes
    ----------
    objective : float
        The sum of the chosen costs.
    column_of_row : (n,) int64 array
        Column of each row, −1 for a row left out where there are more rows than columns.
    iterations : int
        Shortest augmenting paths that were needed after the cheap start.
    row_dual, column_dual : (n,), (m,) float64 arrays
        To rounding, ``row_dual[i] + column_dual[j] <= cost[i, j]`` for every pair, with equality on the chosen ones;
        the duals of the longer side are ≤ 0, and 0 where left out. So no assignment costs less than their sum, which
        is `objective`.
    """

    objective: float
    column_of_row: IntArray
    iterations: int
    row_dual: FloatArray
    column_dual: FloatArray


def linear_assignment(cost: ArrayLike) -> LinearAssignment:
    """Choose one column per row so that the sum of the chosen costs is as small as possible.

    Augmenting row reduction places most rows; Dijkstra's shortest augmenting paths place the rest.
    O(n²m) for n rows and m columns, n ≤ m.

    Parameters
    ----------
    cost : (n, m) array_like of float
        ``inf`` forbids a pair. Costs may be negative. With more rows than columns, every column gets a row instead.

    Returns
    -------
    LinearAssignment
        The objective, the assignment and optimal duals.

    Raises
    ------
    InfeasibleError
        If the finite costs admit no full assignment.
    TypeError, ValueError
        If `cost` is not a non-empty real matrix free of NaN and −inf.

    Notes
    -----
    R. Jonker and A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
    Computing 38 (1987); the rectangular case as D. F. Crouse, "On implementing 2D rectangular assignment algorithms",
    IEEE Trans. Aerospace and Electronic Systems 52 (2016).

    Examples
    --------
    >>> linear_assignment([[0.0, 9.0], [5.0, 10.0]]).objective
    10.0
    """
    matrix = cost_matrix(cost)
    transposed = matrix.shape[0] > matrix.shape[1]
    rows = np.ascontiguousarray(matrix.T) if transposed else matrix
    row_mate, dual, other_dual, violator, iterations = _assign(rows)
    if iterations < 0:
        raise infeasible_matrix(rows, violator, transposed)
    objective = float(rows[np.arange(rows.shape[0]), row_mate].sum())
    row_dual, column_dual = (other_dual, dual) if transposed else (dual, other_dual)
    return LinearAssignment(objective, by_row(row_mate, matrix.shape), iterations, row_dual, column_dual)


@kernel
def _assign(cost):
    """Return partners, duals of the rows, duals of the columns, Hall violator, paths sought (−1: infeasible)."""
    row_mate, u, v, violator, paths = _assign_from(cost, True)
    if paths >= 0:
        primal, dual, magnitude = 0.0, 0.0, 0.0
        for i in range(u.size):
            primal += cost[i, row_mate[i]]
            magnitude += abs(cost[i, row_mate[i]])
            lowest = np.inf
            for j in range(v.size):
                lowest = min(lowest, cost[i, j] - v[j])
            dual += lowest
        for j in range(v.size):
            dual += v[j]
        if primal - dual > 1e-12 * magnitude:
            # The cheap start writes differences of costs into the duals, where huge costs drown small ones. Paths
            # alone never write a dual beyond the optimum.
            return _assign_from(cost, False)
    return row_mate, u, v, violator, paths


@kernel
def _assign_from(cost, start_cheaply):
    n, m = cost.shape
    row_mate = np.full(n, -1, np.int64)
    column_mate = np.full(m, -1, np.int64)
    u = np.empty(n)
    v = np.zeros(m)
    violator = np.zeros(n, np.bool_)
    free = np.arange(n)
    n_free = _place_cheaply(cost, row_mate, column_mate, v, free) if start_cheaply else n
    distance = np.empty(m)
    came_from = np.empty(m, np.int64)
    order = np.empty(m, np.int64)
    for p in range(n_free):
        if not _augment(cost, free[p], row_mate, column_mate, v, distance, came_from, order, violator):
            return row_mate, u, v, violator, -1
    for i in range(n):
        u[i] = cost[i, row_mate[i]] - v[row_mate[i]]
    return row_mate, u, v, violator, n_free


@kernel
def _place_cheaply(cost, row_mate, column_mate, v, free):
    """Place rows by two sweeps of augmenting row reduction.

    The mates, `v` and `free` (all rows at first) are modified in place; returns how many rows stay free. Only columns
    with a mate get a negative dual, so the duals fit a wide matrix too.
    """
    n, m = cost.shape
    n_free = n
    for _ in range(2):
        p, n_open, kept = 0, n_free, 0
        steps = 4 * n  # with rounded duals two rows could displace each other for ever
        while p < n_open:
            i = free[p]
            p += 1
            first, second = np.inf, np.inf
            j_first, j_second = -1, -1
            for j in range(m):
                reduced = cost[i, j] - v[j]
                if reduced < second:
                    if reduced < first:
                        second, j_second = first, j_first
                        first, j_first = reduced, j
                    else:
                        second, j_second = reduced, j
            steps -= 1
            if second == np.inf or steps < 0:  # one partner at most: paths decide
                free[kept] = i
                kept += 1
                continue
            owner = column_mate[j_first]
            strict = first < second
            if not strict and owner >= 0:
                j_first, owner = j_second, column_mate[j_second]
            lowered = v[j_first] - (second - first)
            row_mate[i] = j_first
            column_mate[j_first] = i
            if strict:
                v[j_first] = lowered
            if owner >= 0:
                row_mate[owner] = -1
                if strict:  # the displaced row is tried again at once
                    p -= 1
                    free[p] = owner
                else:
                    free[kept] = owner
                    kept += 1
        n_free = kept
        if n_free == 0:
            break
    return n_free


@kernel
def _augment(cost, start, row_mate, column_mate, v, distance, came_from, order, violator):
    """Match row `start` along a shortest path; False, with a Hall violator, if there is none.

    `order` holds scanned columns in [0, low), reached ones at the current distance in [low, high), the rest after.
    The mates, `v`, the three workspaces and `violator` are modified in place.
    """
    m = cost.shape[1]
    for j in range(m):
        distance[j] = cost[start, j] - v[j]
        came_from[j] = start
        order[j] = j
    low, high, end = 0, 0, -1
    nearest = 0.0
    while end < 0:
        if low == high:
            nearest = np.inf
            for p in range(low, m):
                nearest = min(nearest, distance[order[p]])
            if nearest == np.inf:
                violator[start] = True
                for p in range(low):
                    violator[column_mate[order[p]]] = True
                return False
            for p in range(low, m):
                j = order[p]
                if distance[j] == nearest:
                    order[p] = order[high]
                    order[high] = j
                    high += 1
                    if column_mate[j] < 0:
                        end = j
                        break
        else:
            j_low = order[low]
            low += 1
            i = column_mate[j_low]
            offset = cost[i, j_low] - v[j_low] - nearest
            for p in range(high, m):
                j = order[p]
                reached = cost[i, j] - v[j] - offset
                if reached < distance[j]:
                    distance[j] = reached
                    came_from[j] = i
                    if reached <= nearest:  # rounding may bring it a hair below
                        distance[j] = nearest
                        if column_mate[j] < 0:
                            end = j
                            break
                        order[p] = order[high]
                        order[high] = j
                        high += 1
    for p in range(low):
        j = order[p]
        v[j] += distance[j] - nearest
    j = end
    while True:
        i = came_from[j]
        column_mate[j] = i
        previous = row_mate[i]
        row_mate[i] = j
        if i == start:
            return True
        j = previous
