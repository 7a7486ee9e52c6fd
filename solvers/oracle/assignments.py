"""(P1), and (P2) by bisection, as mixed-integer programs over assignments."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import Inputs, allocation_inputs
from lola.solvers.checks import FloatArray, IntArray, positive_number, subcarriers_in
from lola.solvers.errors import LolaValueError
from lola.solvers.hopcroft_karp import cost_matrix
from lola.solvers.oracle.answer import OracleAnswer, Status
from lola.solvers.oracle.selections import Candidates, by_ortools, ortools_choice, ortools_model


def bottleneck_milp(cost: ArrayLike, *, time_limit_s: float = 60.0) -> OracleAnswer:
    """Solve a min-max assignment as a mixed-integer program with OR-Tools.

    Parameters
    ----------
    cost : (n, m) array_like, n ≤ m
        ``inf`` forbids a pair.
    time_limit_s : float

    Returns
    -------
    OracleAnswer

    Raises
    ------
    ImportError
        If OR-Tools is missing; it names the extra.
    TypeError, ValueError
        If `cost` is no cost matrix, or has more rows than columns.

    Notes
    -----
    Costs are replaced by their dense ranks, integers whose order is exact, so scaling cannot change the optimum.

    Examples
    --------
    >>> from lola.solvers import oracle
    >>> oracle.bottleneck_milp([[0.0, 9.0], [5.0, 10.0]]).objective
    9.0
    """
    matrix = cost_matrix(cost)
    if matrix.shape[0] > matrix.shape[1]:
        raise LolaValueError(f"cost must have at most as many rows as columns, got shape {matrix.shape}; transpose it")
    finite = np.isfinite(matrix)
    rank = np.zeros(matrix.shape)
    rank[finite] = np.unique(matrix[finite], return_inverse=True)[1]
    start = time.perf_counter()
    pairs = Candidates.pairs(finite)
    solver, chosen = ortools_model(pairs, time_limit_s)
    largest = solver.NumVar(0.0, float(rank.max()), "largest")
    for row in range(matrix.shape[0]):
        (own,) = (pairs.first == row).nonzero()
        solver.Add(largest >= solver.Sum([rank[row, pairs.device[pair]] * chosen[pair] for pair in own]))
    solver.Minimize(largest)
    status, served = ortools_choice(solver, chosen, pairs)
    assignment = None if served is None else pairs.device_of_block(served)
    objective = float(matrix[np.arange(matrix.shape[0]), assignment].max()) if assignment is not None else np.inf
    return OracleAnswer(status, objective, assignment, time.perf_counter() - start)


def equal_split_matrix(*arguments: ArrayLike, **keywords: Any) -> FloatArray:
    """Return the cost matrix of (P1), (L, K) in seconds with inf where impossible; arguments of `block_allocation`.

    Examples
    --------
    >>> from lola.solvers import oracle
    >>> oracle.equal_split_matrix([0.5], [1e9], 5e5, [1.0, 0.5], [2e9, 1e9], [2.0, 1.0], bandwidth_hz=1e6).tolist()
    [[0.75, 1.5]]
    """
    inputs = allocation_inputs(*arguments, **keywords)
    compute, _ = matrices(inputs)
    return compute + (inputs.bits / (inputs.bandwidth / inputs.n_blocks))[:, None] / inputs.efficiency


def joint_bisection(
    *arguments: ArrayLike,
    subcarrier_hz: float | None = None,
    tolerance: float = 1e-9,
    time_limit_s: float = 60.0,
    **keywords: Any,
) -> OracleAnswer:
    """Solve (P2) by bisecting the latency, each time asking an OR-Tools MILP how little bandwidth it takes.

    Parameters
    ----------
    *arguments, **keywords
        Those of `joint_allocation`.
    subcarrier_hz : float, optional
        Bandwidths are whole multiples of this.
    tolerance : float
        Relative width at which the bisection stops; `objective` is its attainable end.
    time_limit_s : float
        For the whole bisection.

    Returns
    -------
    OracleAnswer
        ``TIME_LIMIT`` if the limit came before the tolerance.

    Raises
    ------
    ImportError, TypeError, ValueError
        If OR-Tools is missing, or an argument is not as described.

    Examples
    --------
    >>> from lola.solvers import oracle
    >>> answer = oracle.joint_bisection([0.8], [1e9], 8e5, [1.0, 0.5], [2e9, 1e9], [2.0, 1.0], bandwidth_hz=1e6)
    >>> answer.status.name, round(answer.objective, 6)
    ('OPTIMAL', 1.2)
    """
    inputs = allocation_inputs(*arguments, **keywords)
    start = time.perf_counter()
    positive_number("tolerance", tolerance)
    positive_number("time_limit_s", time_limit_s)
    if subcarrier_hz is not None:
        positive_number("subcarrier_hz", subcarrier_hz)
    compute, load = matrices(inputs)
    possible = np.isfinite(compute)

    def attains(deadline: float) -> tuple[Status, IntArray | None]:
        left = deadline - compute
        in_time = possible & (left > 0)
        need = np.divide(load, left, out=np.zeros_like(left), where=in_time) / inputs.bandwidth
        if subcarrier_hz is not None:
            need = np.ceil(need * inputs.bandwidth / subcarrier_hz * (1 - 1e-12))
        budget = 1.0 if subcarrier_hz is None else subcarriers_in(inputs.bandwidth, subcarrier_hz)
        rest = max(start + time_limit_s - time.perf_counter(), 1e-3)
        pairs = Candidates.pairs(in_time & (need <= budget))
        status, chosen = by_ortools(need[pairs.first, pairs.device], pairs, rest)
        assignment = None if chosen is None else pairs.device_of_block(chosen)
        if assignment is not None and need[np.arange(inputs.n_blocks), assignment].sum() > budget * (1 + 1e-12):
            return (Status.INFEASIBLE if status is Status.OPTIMAL else status), None
        return status, assignment

    # With the n-th part of the spectrum each (one subcarrier at least), every possible assignment is done by `high`.
    share = inputs.bandwidth / inputs.n_blocks if subcarrier_hz is None else subcarrier_hz
    high = float((compute + load / share)[possible].max()) if possible.any() else 0.0
    status, best = attains(high * (1 + 1e-9))
    low = 0.0
    while best is not None and high - low > tolerance * high:
        middle = (low + high) / 2
        outcome, assignment = attains(middle)
        if time.perf_counter() - start > time_limit_s or outcome in (Status.TIME_LIMIT, Status.FAILED):
            status = Status.TIME_LIMIT if outcome is not Status.FAILED else Status.FAILED
            break
        if assignment is None:
            low = middle
        else:
            high, best = middle, assignment
    return OracleAnswer(status, high if best is not None else np.inf, best, time.perf_counter() - start)


def matrices(inputs: Inputs) -> tuple[FloatArray, FloatArray]:
    """Return seconds of computation, inf where impossible, and bits over efficiency; both (L, K)."""
    possible = inputs.memory >= inputs.need[:, None]
    if inputs.mask is not None:
        possible &= inputs.mask.T
    compute = np.where(possible, inputs.work[:, None] / inputs.speed, np.inf)
    return compute, inputs.bits[:, None] / inputs.efficiency
