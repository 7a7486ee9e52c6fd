"""Min-max assignment of any cost matrix: threshold search over Hopcroft–Karp matchings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._jit import kernel
from lola.solvers.checks import LARGEST_COST, BoolArray, FloatArray, IntArray, real_array
from lola.solvers.errors import InfeasibleError, LolaValueError


@dataclass(frozen=True, eq=False)
class BottleneckAssignment:
    """An optimal min-max assignment and its proof.

    Attributes
    ----------
    objective : float
        The largest chosen cost.
    column_of_row : (n,) int64 array
        Column of each row, −1 for a row left out where there are more rows than columns.
    iterations : int
        Thresholds at which a maximum matching was sought.
    hall_violator : int64 array
        Rows (columns where there are more rows than columns) that together have fewer partners than members among the
        costs below `objective`. So every assignment has a cost of at least `objective`.
    """

    objective: float
    column_of_row: IntArray
    iterations: int
    hall_violator: IntArray


def bottleneck_assignment(cost: ArrayLike) -> BottleneckAssignment:
    """Choose one column per row so that the largest chosen cost is as small as possible.

    The linear bottleneck assignment problem (LBAP). Distinct costs are bisected; each threshold asks Hopcroft–Karp for
    a perfect matching, starting from the matching at hand. O(n·m·√n·log(n·m)) for n rows and m columns, n ≤ m.

    Parameters
    ----------
    cost : (n, m) array_like of float
        ``inf`` forbids a pair. Any other finite number may stand in it. With more rows than columns, every column gets
        a row instead.

    Returns
    -------
    BottleneckAssignment
        The objective, the assignment and a Hall violator that proves it.

    Raises
    ------
    InfeasibleError
        If the finite costs admit no full assignment.
    TypeError, ValueError
        If `cost` is not a non-empty real matrix free of NaN and −inf.

    Notes
    -----
    The proof is Hall's theorem; see "Theorem 1" and "What each certificate proves" in ``lola docs theory``.

    Examples
    --------
    >>> from lola.solvers import bottleneck_assignment
    >>> assignment = bottleneck_assignment([[0.0, 9.0], [5.0, 10.0]])
    >>> assignment.objective, assignment.column_of_row
    (9.0, array([1, 0]))
    """
    matrix = cost_matrix(cost)
    transposed = matrix.shape[0] > matrix.shape[1]
    rows = np.ascontiguousarray(matrix.T) if transposed else matrix
    row_mate, violator, iterations = _bottleneck(rows, _candidate_thresholds(rows))
    if iterations < 0:
        raise infeasible_matrix(rows, violator, transposed)
    objective = float(rows[np.arange(rows.shape[0]), row_mate].max())
    return BottleneckAssignment(objective, by_row(row_mate, matrix.shape), iterations, np.flatnonzero(violator))


def cost_matrix(cost: ArrayLike, forbidden: float = np.inf) -> FloatArray:
    """Cast a cost matrix and reject what no assignment can be made of; `forbidden` is +inf, or −inf to maximise."""
    matrix = real_array("cost", cost, 2)
    if 0 in matrix.shape:
        raise LolaValueError(f"cost is empty: shape {matrix.shape}; at least one row and one column are needed")
    if _count_unusable(matrix.ravel(), forbidden):
        row, column = np.argwhere(~((np.abs(matrix) <= LARGEST_COST) | (matrix == forbidden)))[0]
        raise LolaValueError(
            f"cost must be finite (from -1e200 to 1e200) or {forbidden:+} (forbidden), got {matrix[row, column]} at "
            f"row {row}, column {column}"
        )
    return matrix


@kernel
def _count_unusable(costs, forbidden):
    bad = 0
    for cost in costs:
        bad += not (((cost >= -LARGEST_COST) & (cost <= LARGEST_COST)) | (cost == forbidden))
    return bad


def by_row(mate: IntArray, shape: tuple[int, ...]) -> IntArray:
    """Turn partners of the shorter side into a column for each row, −1 for a row left out."""
    if shape[0] <= shape[1]:
        return mate
    column_of_row = np.full(shape[0], -1, dtype=np.int64)
    column_of_row[mate] = np.arange(mate.shape[0])
    return column_of_row


def infeasible_matrix(rows: FloatArray, violator: BoolArray, transposed: bool) -> InfeasibleError:
    """Word the error for a Hall violator of matrix rows."""
    members = np.flatnonzero(violator)
    partners = int(np.isfinite(rows[members]).any(axis=0).sum())
    one, other = ("columns", "rows") if transposed else ("rows", "columns")
    listed = ", ".join(map(str, members[:12])) + (", …" if members.shape[0] > 12 else "")
    return InfeasibleError(
        f"no assignment exists: {one} {listed} ({members.shape[0]} in all) have finite costs in only {partners} "
        f"{other}; allow more pairs",
        tuple(members),
        partners,
    )


def _candidate_thresholds(rows: FloatArray) -> FloatArray:
    """Sorted distinct finite costs from the largest row (and, if square, column) minimum on."""
    bound = rows.min(axis=1).max()
    if rows.shape[0] == rows.shape[1]:
        bound = max(bound, rows.min(axis=0).max())
    return np.unique(rows[(rows >= bound) & (rows < np.inf)])


@kernel
def _bottleneck(cost, thresholds):
    """Return partners of the rows, the Hall violator, and the number of matchings sought (−1: infeasible)."""
    n, m = cost.shape
    row_mate = np.full(n, -1, np.int64)
    column_mate = np.full(m, -1, np.int64)
    violator = np.zeros(n, np.bool_)
    if not _match(cost, LARGEST_COST, row_mate, column_mate, violator):
        return row_mate, violator, -1
    best = row_mate.copy()
    iterations = 1
    low, high = -1, _rank_of_largest(cost, thresholds, best)  # fails at low, succeeds at high
    while high - low > 1:
        middle = (low + high) // 2
        iterations += 1
        _drop_above(cost, thresholds[middle], row_mate, column_mate)
        if _match(cost, thresholds[middle], row_mate, column_mate, violator):
            best[:] = row_mate
            high = _rank_of_largest(cost, thresholds, best)
        else:
            low = middle
    below = np.nextafter(thresholds[high], -np.inf)
    _drop_above(cost, below, row_mate, column_mate)
    _match(cost, below, row_mate, column_mate, violator)
    return best, violator, iterations + 1


@kernel
def _rank_of_largest(cost, thresholds, row_mate):
    largest = thresholds[0]
    for i in range(row_mate.size):
        largest = max(largest, cost[i, row_mate[i]])
    return np.searchsorted(thresholds, largest)


@kernel
def _drop_above(cost, threshold, row_mate, column_mate):
    """Keep the matched pairs that the threshold allows. The mates are modified in place."""
    for i in range(row_mate.size):
        j = row_mate[i]
        if j >= 0 and cost[i, j] > threshold:
            row_mate[i] = -1
            column_mate[j] = -1


@kernel
def _match(cost, threshold, row_mate, column_mate, violator):
    """Grow the matching to a maximum one; True if every row is matched.

    The mates are modified in place. On failure `violator` marks the rows reachable from an unmatched row by alternating
    paths: their only partners are matched to the other ones among them, so they have fewer partners than members.
    """
    n, m = cost.shape
    level = np.empty(n, np.int64)
    queue = np.empty(n, np.int64)
    unseen = np.empty(m, np.int64)
    pointer = np.empty(n, np.int64)
    dead = np.empty(m, np.bool_)
    path = np.empty(n, np.int64)
    while True:
        # Breadth first: level of each row reachable from an unmatched one.
        head, tail, n_unseen, augmented = 0, 0, m, False
        for j in range(m):
            unseen[j] = j
        for i in range(n):
            level[i] = -1
            if row_mate[i] < 0:
                level[i] = 0
                queue[tail] = i
                tail += 1
        if tail == 0:
            return True
        last_level = n
        while head < tail:
            i = queue[head]
            head += 1
            if level[i] > last_level:
                break
            kept = 0
            for p in range(n_unseen):
                j = unseen[p]
                if cost[i, j] <= threshold:
                    mate = column_mate[j]
                    if mate < 0:
                        augmented = True
                        last_level = level[i]  # no path longer than the shortest is wanted
                    else:
                        level[mate] = level[i] + 1
                        queue[tail] = mate
                        tail += 1
                else:
                    unseen[kept] = j
                    kept += 1
            n_unseen = kept
        if not augmented:
            for i in range(n):
                violator[i] = level[i] >= 0
            return False
        # Depth first: disjoint shortest paths. A column once entered is never entered again: used, or a dead end.
        for j in range(m):
            dead[j] = False
        for i in range(n):
            pointer[i] = 0
        for start in range(n):
            if row_mate[start] >= 0 or level[start] != 0:
                continue
            depth = 0
            path[0] = start
            while depth >= 0:
                i = path[depth]
                advanced = False
                while pointer[i] < m:
                    j = pointer[i]
                    pointer[i] += 1
                    if dead[j] or cost[i, j] > threshold:
                        continue
                    mate = column_mate[j]
                    if mate < 0:
                        dead[j] = True
                        # Each row of the path takes the column its pointer has just passed.
                        for p in range(depth + 1):
                            row = path[p]
                            row_mate[row] = pointer[row] - 1
                            column_mate[pointer[row] - 1] = row
                        depth = -1
                        advanced = True
                        break
                    if level[mate] == level[i] + 1:
                        dead[j] = True
                        depth += 1
                        path[depth] = mate
                        advanced = True
                        break
                if not advanced:
                    depth -= 1
