"""Min-sum assignment of any cost matrix by shortest augmenting paths, with duals."""

from __future__ import annotations

import numpy as np
from lola.solvers._jit import kernel, machine_code
from lola.solvers.checks import LARGEST_COST, FloatArray, IntArray
from lola.solvers.hopcroft_karp import by_row, cost_matrix, infeasible_matrix
from lola.solvers.monge import charge_rows
from numba import float64, int64
from numpy.typing import ArrayLike

_FLOAT64, _INT64 = np.dtype(np.float64), np.dtype(np.int64)
_HEADER = 2  # objective, iterations
_SOLVED, _UNUSABLE, _INFEASIBLE = 0, 1, 2
_FEW_COLUMNS = 128  # up to here, scalar loops over what is left beat vector loops over everything
_ALL_BUT_SIGN = 2**63 - 1


class LinearAssignment:
    """An optimal min-sum assignment and its proof.

    To rounding, ``row_dual[i] + column_dual[j] <= cost[i, j]`` for every pair, with equality on the chosen ones; the
    duals of the longer side are ≤ 0, and 0 where left out. So no assignment costs less than their sum, which is
    `objective`.
    """

    # Two arrays and views of them, and no dataclass: making five objects takes longer than solving a 10 × 10 matrix.
    __slots__ = ("_packed", "column_of_row")

    column_of_row: IntArray  #: (n,) int64: column of each row, −1 for a row left out where there are more than columns

    def __init__(self, column_of_row: IntArray, packed: FloatArray) -> None:
        self.column_of_row = column_of_row
        self._packed = packed

    def __repr__(self) -> str:
        return f"LinearAssignment(objective={self.objective}, column_of_row={self.column_of_row})"

    @property
    def objective(self) -> float:
        """The sum of the chosen costs."""
        return float(self._packed[0])

    @property
    def iterations(self) -> int:
        """Shortest augmenting paths that were needed after the column reduction."""
        return int(self._packed[1])

    @property
    def row_dual(self) -> FloatArray:
        """(n,) float64 array."""
        return self._packed[_HEADER : _HEADER + self.column_of_row.shape[0]]

    @property
    def column_dual(self) -> FloatArray:
        """(m,) float64 array."""
        return self._packed[_HEADER + self.column_of_row.shape[0] :]


def linear_assignment(cost: ArrayLike) -> LinearAssignment:
    """Choose one column per row so that the sum of the chosen costs is as small as possible.

    Each column of a square matrix is first offered its cheapest row; Dijkstra's shortest augmenting paths place the
    rows that are left. O(n²m) for n rows and m columns, n ≤ m. Large square matrices of products, or of whatever else
    some order makes a Monge matrix, need no paths: O(n²).

    Parameters
    ----------
    cost : (n, m) array_like of float
        ``inf`` forbids a pair. Costs may be negative. With more rows than columns, every column gets a row instead. A
        C-contiguous float64 array is used as it is.

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
    IEEE Trans. Aerospace and Electronic Systems 52 (2016). Jonker and Volgenant's reduction transfer and augmenting row
    reduction are left out: they write differences of costs into the duals, where huge costs drown small ones, and with
    vectorised paths they save no time.

    Examples
    --------
    >>> linear_assignment([[0.0, 9.0], [5.0, 10.0]]).objective
    10.0
    """
    if type(cost) is np.ndarray and cost.dtype is _FLOAT64 and cost.ndim == 2 and cost.flags.carray:
        n, m = cost.shape
        if 0 < n <= m:
            mate, packed = np.empty(n, _INT64), np.empty(_HEADER + n + m)
            if m > _FEW_COLUMNS and n == m:
                charge_rows(cost, packed[_HEADER : _HEADER + n])
            if not _solve_at_once(cost, mate, packed):  # _SOLVED is 0
                return LinearAssignment(mate, packed)
    return _cast_and_solve(cost)


def _cast_and_solve(cost: ArrayLike) -> LinearAssignment:
    """Solve what must be cast or transposed first, or say what is wrong with it."""
    matrix = cost_matrix(cost)
    transposed = matrix.shape[0] > matrix.shape[1]
    # Numba would compile again for read-only or unaligned arrays.
    rows = np.require(matrix.T if transposed else matrix, requirements=("C", "A", "W"))
    n, m = rows.shape
    mate, packed = np.empty(n, np.int64), np.empty(_HEADER + n + m)
    if m > _FEW_COLUMNS and n == m:
        charge_rows(rows, packed[_HEADER : _HEADER + n])
    if _solve_at_once(rows, mate, packed) == _INFEASIBLE:
        raise infeasible_matrix(rows, mate == 1, transposed)
    if transposed:
        header, u, v = np.split(packed, [_HEADER, _HEADER + n])
        packed = np.concatenate((header, v, u))
    return LinearAssignment(by_row(mate, matrix.shape), packed)


@kernel
def _solve(cost, row_mate, packed):
    """Fill `row_mate` with the rows' partners, and `packed` with the header, the rows' duals and the columns' duals.

    A square `cost` of more than _FEW_COLUMNS comes with charges in the place of the rows' duals. Returns _SOLVED,
    _UNUSABLE or _INFEASIBLE, the last with a Hall violator (1 for a member) in the partners' place.
    """
    n, m = cost.shape
    if not _is_usable(cost.reshape(-1)):
        return _UNUSABLE
    u, v = packed[_HEADER : _HEADER + n], packed[_HEADER + n :]
    space = np.empty(4 * m, np.int64)  # one allocation: several take a tenth of the time of a 10 × 10 matrix
    column_mate = space[:m]
    for i in range(n):
        row_mate[i] = -1
    for j in range(m):
        v[j] = 0.0
        column_mate[j] = -1
    if m <= _FEW_COLUMNS:
        u[:] = 0.0
    if n == m:  # in a wide matrix the columns left out must keep the dual 0
        _reduce_columns(cost, u, row_mate, column_mate, v, space[m : 2 * m])
    if m <= _FEW_COLUMNS:
        paths = _augment_narrow(cost, row_mate, column_mate, v, space[m:])
    else:
        paths = _augment_wide(cost, row_mate, column_mate, v)
    if paths < 0:
        return _INFEASIBLE
    total = 0.0
    for i in range(n):
        chosen = cost[i, row_mate[i]]
        total += chosen
        u[i] = chosen - v[row_mate[i]]
    packed[0], packed[1] = total, paths
    return _SOLVED


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
    """Do as `_augment_narrow`, in loops over all columns that the compiler can vectorise.

    A scanned column has v = −inf and distance = inf for the time being, so that no path reaches it again. The compiler
    vectorises no minimum of floats, but one of integers: bits of floats are ordered as the floats, once those of
    negative ones are flipped.
    """
    m = v.size
    paths = 0
    distance = np.empty(m)
    bits = distance.view(np.int64)
    came_from = np.empty(m, np.int64)
    scanned = np.empty(m, np.int64)
    distance_then, v_then = np.empty(m), np.empty(m)
    for start in range(row_mate.size):
        if row_mate[start] >= 0:
            continue
        paths += 1
        distance[:] = np.inf
        i, offset, n_scanned, nearest = start, 0.0, 0, -np.inf
        while True:
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


_solve_at_once = machine_code(_solve, float64[:, ::1], int64[::1], float64[::1])
