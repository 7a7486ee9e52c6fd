"""Min-sum assignment of any cost matrix by shortest augmenting paths, with duals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.hopcroft_karp import by_row, cost_matrix, infeasible_matrix
from lola.solvers.monge import charge_rows
from lola.solvers.shortest_paths import (
    FEW_COLUMNS,
    HEADER,
    INFEASIBLE,
    SOLVED,
    UNFINISHED,
    go_on,
    is_proven,
    solve_at_once,
)

_FLOAT64, _INT64 = np.dtype(np.float64), np.dtype(np.int64)


class LinearAssignment:
    """An optimal min-sum assignment and its proof.

    To rounding, ``row_dual[i] + column_dual[j] <= cost[i, j]`` for every pair, with equality on the chosen ones; the
    duals of the longer side are ≤ 0, and 0 where left out. So no assignment costs less than their sum, which is
    `objective`. Where the sum was made as large as possible, all of this holds with ≥ in place of ≤, and none has more.
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
        return self._packed[HEADER : HEADER + self.column_of_row.shape[0]]

    @property
    def column_dual(self) -> FloatArray:
        """(m,) float64 array."""
        return self._packed[HEADER + self.column_of_row.shape[0] :]


def linear_assignment(cost: ArrayLike, maximize: bool = False) -> LinearAssignment:
    """Choose one column per row so that the sum of the chosen costs is as small, or as large, as possible.

    Each column of a square matrix is first offered its cheapest row; Dijkstra's shortest augmenting paths place the
    rows that are left. O(n²m) for n rows and m columns, n ≤ m. Large square matrices of products, or of whatever else
    some order makes a Monge matrix, need no paths: O(n²).

    Parameters
    ----------
    cost : (n, m) array_like of float
        ``inf`` forbids a pair. Costs may be negative. With more rows than columns, every column gets a row instead. A
        C-contiguous float64 array is used as it is.
    maximize : bool
        Make the sum as large as possible; then ``-inf`` forbids a pair, and the duals bound from above.

    Returns
    -------
    LinearAssignment
        The objective, the assignment and optimal duals.

    Raises
    ------
    InfeasibleError
        If the finite costs admit no full assignment.
    TypeError, ValueError
        If `cost` is not a non-empty real matrix free of NaN and −inf (+inf to maximize).

    Notes
    -----
    R. Jonker and A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
    Computing 38 (1987); the rectangular case as D. F. Crouse, "On implementing 2D rectangular assignment algorithms",
    IEEE Trans. Aerospace and Electronic Systems 52 (2016). Jonker and Volgenant's reduction transfer and augmenting row
    reduction are left out: they write differences of costs into the duals, where huge costs drown small ones, and with
    vectorised paths they save no time. Where a large matrix looks like one of products, the duals are checked: they
    must prove the optimum to 1e-12 of the chosen costs' magnitudes, or it is solved again like any other.

    Examples
    --------
    >>> from lola.solvers import linear_assignment
    >>> assignment = linear_assignment([[0.0, 9.0], [5.0, 10.0]])
    >>> assignment.objective, assignment.column_of_row
    (10.0, array([0, 1]))
    >>> linear_assignment([[0.0, 9.0], [5.0, 10.0]], maximize=True).objective
    14.0
    """
    if maximize:
        return _maximized(cost)
    if type(cost) is np.ndarray and cost.dtype is _FLOAT64 and cost.ndim == 2 and cost.flags.carray:
        n, m = cost.shape
        if 0 < n <= m:
            mate, packed = np.empty(n, _INT64), np.empty(HEADER + n + m)
            solve = solve_at_once if m <= FEW_COLUMNS else _solve_in_slices
            if not solve(cost, mate, packed):  # SOLVED is 0
                return LinearAssignment(mate, packed)
    return _cast_and_solve(cost)


def _maximized(gain: ArrayLike) -> LinearAssignment:
    """Minimise the negated matrix, and turn its proof around."""
    least = linear_assignment(-cost_matrix(gain, forbidden=-np.inf))
    packed = 0.0 - least._packed  # no −0.0
    packed[1] = least.iterations
    return LinearAssignment(least.column_of_row, packed)


def _cast_and_solve(cost: ArrayLike) -> LinearAssignment:
    """Solve what must be cast or transposed first, or say what is wrong with it."""
    matrix = cost_matrix(cost)
    transposed = matrix.shape[0] > matrix.shape[1]
    # Numba would compile again for read-only or unaligned arrays.
    rows = np.require(matrix.T if transposed else matrix, requirements=("C", "A", "W"))
    n, m = rows.shape
    mate, packed = np.empty(n, np.int64), np.empty(HEADER + n + m)
    solve = solve_at_once if m <= FEW_COLUMNS else _solve_in_slices
    if solve(rows, mate, packed) == INFEASIBLE:
        raise infeasible_matrix(rows, mate == 1, transposed)
    if transposed:
        header, u, v = np.split(packed, [HEADER, HEADER + n])
        packed = np.concatenate((header, v, u))
    return LinearAssignment(by_row(mate, matrix.shape), packed)


def _solve_in_slices(rows: FloatArray, mate: IntArray, packed: FloatArray) -> int:
    """Do as `solve_at_once` for a matrix of many columns, coming back to Python in between to let Ctrl-C through.

    The rows of a square matrix are charged first. Charges that were far off the mark leave duals so large that small
    costs drown beside them; duals that then prove too little are dropped, and the matrix is solved again without.
    """
    n, m = rows.shape
    charges = packed[HEADER : HEADER + n]
    charged = n == m and charge_rows(rows, charges)
    while True:
        if not charged:
            charges[:] = 0.0
        status: int = solve_at_once(rows, mate, packed)
        while status == UNFINISHED:
            status = go_on(rows, mate, packed)
        if status != SOLVED or not charged or is_proven(rows, mate, packed):
            return status
        charged = False
