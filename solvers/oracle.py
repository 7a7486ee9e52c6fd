"""Independent answers to (P1) and (P2) from OR-Tools and SCIP; needs the extra ``oracle``.

Slow and general where lola is fast and special: they share no code and no theorem with the solvers they check.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import Inputs, allocation_inputs
from lola.solvers._optional import optional, stopped_by_ctrl_c
from lola.solvers.checks import FloatArray, IntArray, positive_number, subcarriers_in
from lola.solvers.errors import LolaValueError
from lola.solvers.hopcroft_karp import cost_matrix

# Longer limits overflow in OR-Tools; nobody waits for thirty years.
_LONGEST_S = 1e9
# SCIP's default of 1e-6 would let a schedule look faster than it is by about as much.
_FEASIBILITY = 1e-9


class Status(Enum):
    """What an oracle says of its answer."""

    OPTIMAL = "the solver proved the answer optimal"
    INFEASIBLE = "the solver proved that there is no answer"
    TIME_LIMIT = "the solver stopped at the time limit; give it more time"
    FAILED = "the solver gave up without an answer; its own log says why"


@dataclass(frozen=True, eq=False)
class OracleAnswer:
    """An oracle's answer.

    Attributes
    ----------
    status : Status
        Never ``OPTIMAL`` without the solver's own word.
    objective : float
        Cost or latency found: of its assignment (bottleneck), the attainable end of the bisection, or SCIP's own; inf
        without an answer.
    assignment : (n,) int64 array or None
        Column of each row, or device of each block.
    seconds : float
        Wall-clock time that the solver took.
    """

    status: Status
    objective: float
    assignment: IntArray | None
    seconds: float


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
    solver, chosen = _assignment_model(finite, time_limit_s)
    largest = solver.NumVar(0.0, float(rank.max()), "largest")
    for row in chosen:
        solver.Add(largest >= sum(rank[pair] * variable for pair, variable in row.items()))
    solver.Minimize(largest)
    status, assignment = _solve(solver, chosen)
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
        solver, chosen = _assignment_model(in_time & (need <= budget), rest)
        total = sum(need[pair] * variable for row in chosen for pair, variable in row.items())
        solver.Minimize(total)
        status, assignment = _solve(solver, chosen)
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


def joint_misocp(*arguments: ArrayLike, time_limit_s: float = 60.0, **keywords: Any) -> OracleAnswer:
    """Solve (P2) as a mixed-integer second-order-cone program with SCIP.

    Parameters
    ----------
    *arguments, **keywords
        Those of `joint_allocation`.
    time_limit_s : float

    Returns
    -------
    OracleAnswer
        `objective` is SCIP's own, good to about 1e-8.

    Raises
    ------
    ImportError, TypeError, ValueError
        If PySCIPOpt is missing, or an argument is not as described.

    Notes
    -----
    With binary x, a pair's upload c·x ≤ (T − J·x)·B becomes the rotated cone Σ c·x² ≤ (T − Σ J·x)·B_l, one per block.

    Examples
    --------
    >>> from lola.solvers import oracle
    >>> answer = oracle.joint_misocp([0.8], [1e9], 8e5, [1.0, 0.5], [2e9, 1e9], [2.0, 1.0], bandwidth_hz=1e6)
    >>> answer.status.name, round(answer.objective, 6)
    ('OPTIMAL', 1.2)
    """
    inputs = allocation_inputs(*arguments, **keywords)
    pyscipopt = optional("pyscipopt")
    compute, load = matrices(inputs)
    possible = np.isfinite(compute)
    start = time.perf_counter()
    if not possible.any(axis=1).all():
        return OracleAnswer(Status.INFEASIBLE, np.inf, None, time.perf_counter() - start)
    equal = compute + load / (inputs.bandwidth / inputs.n_blocks)
    unit = float(np.where(possible, equal, np.inf).min(axis=1).max())  # so that the optimum is near 1
    model = pyscipopt.Model()
    model.hideOutput()
    model.setParam("misc/catchctrlc", False)
    model.setParam("limits/time", min(positive_number("time_limit_s", time_limit_s), _LONGEST_S))
    model.setParam("limits/gap", 0.0)
    model.setParam("numerics/feastol", _FEASIBILITY)
    model.setParam("numerics/lpfeastolfactor", 1.0)
    latency = model.addVar("latency", lb=0.0)
    share = [model.addVar(f"share{block}", lb=0.0, ub=1.0) for block in range(inputs.n_blocks)]
    chosen: list[dict[int, Any]] = []
    for block in range(inputs.n_blocks):
        row = {k: model.addVar(f"x{block},{k}", vtype="B") for k in np.flatnonzero(possible[block]).tolist()}
        chosen.append(row)
        model.addCons(pyscipopt.quicksum(row.values()) == 1)
        left = latency - pyscipopt.quicksum(compute[block, k] / unit * x for k, x in row.items())
        slack = model.addVar(f"left{block}", lb=0.0)
        model.addCons(slack == left)
        uploads = (load[block, k] / unit / inputs.bandwidth * x * x for k, x in row.items())
        model.addCons(pyscipopt.quicksum(uploads) <= slack * share[block])
    for k in range(inputs.n_devices):
        model.addCons(pyscipopt.quicksum(row[k] for row in chosen if k in row) <= 1)
    model.addCons(pyscipopt.quicksum(share) <= 1)
    model.setObjective(latency, "minimize")
    with stopped_by_ctrl_c(model.interruptSolve):
        model.optimizeNogil()
    status = {"optimal": Status.OPTIMAL, "infeasible": Status.INFEASIBLE, "timelimit": Status.TIME_LIMIT}.get(
        model.getStatus(), Status.FAILED
    )
    seconds = time.perf_counter() - start
    if status is Status.INFEASIBLE or model.getNSols() == 0:
        return OracleAnswer(status, np.inf, None, seconds)
    device = np.array([max(row, key=lambda k: model.getVal(row[k])) for row in chosen], dtype=np.int64)
    return OracleAnswer(status, model.getObjVal() * unit, device, seconds)


def matrices(inputs: Inputs) -> tuple[FloatArray, FloatArray]:
    """Return seconds of computation, inf where impossible, and bits over efficiency; both (L, K)."""
    possible = inputs.memory >= inputs.need[:, None]
    if inputs.mask is not None:
        possible &= inputs.mask.T
    compute = np.where(possible, inputs.work[:, None] / inputs.speed, np.inf)
    return compute, inputs.bits[:, None] / inputs.efficiency


def _assignment_model(allowed: np.ndarray, time_limit_s: float) -> tuple[Any, list[dict[tuple[int, int], Any]]]:
    """Return an OR-Tools model with one binary a pair, one pair a row, at most one a column."""
    pywraplp = optional("ortools.linear_solver.pywraplp")
    solver = pywraplp.Solver.CreateSolver("SCIP")
    solver.SetTimeLimit(max(1, round(min(positive_number("time_limit_s", time_limit_s), _LONGEST_S) * 1000)))
    solver.SetSolverSpecificParametersAsString("misc/catchctrlc = FALSE")
    chosen = []
    for i in range(allowed.shape[0]):
        row = {(i, j): solver.BoolVar(f"x{i},{j}") for j in np.flatnonzero(allowed[i]).tolist()}
        solver.Add(solver.Sum(list(row.values())) == 1)
        chosen.append(row)
    for j in range(allowed.shape[1]):
        column = [row[i, j] for i, row in enumerate(chosen) if (i, j) in row]
        if len(column) > 1:
            solver.Add(solver.Sum(column) <= 1)
    return solver, chosen


def _solve(solver: Any, chosen: list[dict[tuple[int, int], Any]]) -> tuple[Status, IntArray | None]:
    """Run an OR-Tools model; return its status and the column of each row where it found any."""
    if not all(chosen):
        return Status.INFEASIBLE, None  # a row without any pair; some back ends refuse an empty sum
    pywraplp = optional("ortools.linear_solver.pywraplp")
    exactly = pywraplp.MPSolverParameters()
    exactly.SetDoubleParam(exactly.RELATIVE_MIP_GAP, 0.0)  # 1e-4 unless told
    with stopped_by_ctrl_c(solver.InterruptSolve):
        outcome = solver.Solve(exactly)
    status = {
        solver.OPTIMAL: Status.OPTIMAL,
        solver.INFEASIBLE: Status.INFEASIBLE,
        solver.FEASIBLE: Status.TIME_LIMIT,
        solver.NOT_SOLVED: Status.TIME_LIMIT,
    }.get(outcome, Status.FAILED)
    if outcome not in (solver.OPTIMAL, solver.FEASIBLE):
        return status, None
    columns = [max(row, key=lambda pair: row[pair].solution_value())[1] for row in chosen]
    return status, np.array(columns, dtype=np.int64)
