"""The cheapest way to serve every block once with devices that serve once: the model that OR-Tools and HiGHS solve."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np

from lola.solvers._optional import optional, stopped_by_ctrl_c
from lola.solvers.checks import BoolArray, FloatArray, IntArray
from lola.solvers.oracle.answer import Status, time_limit


class Candidates(NamedTuple):
    """What may be chosen: a device with consecutive blocks (a column with a row); each a binary of the model."""

    first: IntArray  # (N,) index of the shallowest block
    last: IntArray  # (N,) one beyond the deepest
    device: IntArray  # (N,)
    n_blocks: int
    n_devices: int

    @classmethod
    def pairs(cls, possible: BoolArray) -> Candidates:
        """List the pairs of one block and one device that are possible, (L, K)."""
        block, device = possible.nonzero()
        return cls(block, block + 1, device, *possible.shape)

    def subset(self, some: IntArray) -> Candidates:
        """Return some of the candidates."""
        return self._replace(first=self.first[some], last=self.last[some], device=self.device[some])

    def serve_all(self) -> bool:
        """Say whether each block has a candidate; some solvers refuse an empty sum."""
        change = np.bincount(self.first, minlength=self.n_blocks + 1) - np.bincount(
            self.last, minlength=self.n_blocks + 1
        )
        return bool((change.cumsum()[:-1] > 0).all())

    def device_of_block(self, chosen: IntArray) -> IntArray:
        """Return the device of each block where these candidates are chosen."""
        chosen = chosen[np.argsort(self.first[chosen])]
        return np.repeat(self.device[chosen], self.last[chosen] - self.first[chosen])


def by_ortools(cost: FloatArray, candidates: Candidates, time_limit_s: float) -> tuple[Status, IntArray | None]:
    """Choose at the least cost, (N,), with SCIP of OR-Tools; return its status and what it chose, if anything."""
    solver, chosen = ortools_model(candidates, time_limit_s)
    for each, variable in zip(cost.tolist(), chosen, strict=True):
        solver.Objective().SetCoefficient(variable, each)
    solver.Objective().SetMinimization()
    return ortools_choice(solver, chosen, candidates)


def ortools_model(candidates: Candidates, time_limit_s: float) -> tuple[Any, list[Any]]:
    """Return a model without an objective, and its binaries: one candidate a block, at most one a device."""
    pywraplp = optional("ortools.linear_solver.pywraplp")
    solver = pywraplp.Solver.CreateSolver("SCIP")
    solver.SetTimeLimit(max(1, round(time_limit(time_limit_s) * 1000)))
    solver.SetSolverSpecificParametersAsString("misc/catchctrlc = FALSE")
    chosen = [solver.BoolVar("") for _ in candidates.device]
    once = [solver.Constraint(1.0, 1.0) for _ in range(candidates.n_blocks)]
    once += [solver.Constraint(0.0, 1.0) for _ in range(candidates.n_devices)]
    for row, column in zip(*_served(candidates), strict=True):
        once[row].SetCoefficient(chosen[column], 1.0)
    return solver, chosen


def ortools_choice(solver: Any, chosen: list[Any], candidates: Candidates) -> tuple[Status, IntArray | None]:
    """Run an OR-Tools model; return its status and what it chose, where it found anything."""
    if not candidates.serve_all():
        return Status.INFEASIBLE, None
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
    return status, np.flatnonzero([variable.solution_value() > 0.5 for variable in chosen])


def by_highs(cost: FloatArray, candidates: Candidates, time_limit_s: float) -> tuple[Status, IntArray | None]:
    """Choose at the least cost, (N,), with HiGHS of scipy; return its status and what it chose, if anything."""
    optimize, sparse = optional("scipy.optimize"), optional("scipy.sparse")
    limit = time_limit(time_limit_s)
    if not candidates.serve_all():
        return Status.INFEASIBLE, None
    rows, columns = _served(candidates)
    shape = candidates.n_blocks + candidates.n_devices, cost.size
    matrix = sparse.csr_array((np.ones(rows.size), (rows, columns)), shape=shape)
    least = np.repeat([1.0, 0.0], [candidates.n_blocks, candidates.n_devices])
    answers: list[Any] = []

    def run() -> None:
        answers.append(
            optimize.milp(
                cost,
                constraints=optimize.LinearConstraint(matrix, least, 1.0),
                integrality=1,
                bounds=optimize.Bounds(0.0, 1.0),
                options={"mip_rel_gap": 0.0, "time_limit": limit},
            )
        )

    # Scipy cannot stop HiGHS, but waiting for a thread ends with Ctrl-C; what runs on ends with the limit or Python.
    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(0.1)
    (answer,) = answers
    status = {0: Status.OPTIMAL, 1: Status.TIME_LIMIT, 2: Status.INFEASIBLE}.get(answer.status, Status.FAILED)
    return status, None if answer.x is None else np.flatnonzero(answer.x > 0.5)


def _served(candidates: Candidates) -> tuple[IntArray, IntArray]:
    """Return the rows of the model (blocks, then devices) that candidates are in, and which candidate, sorted by it."""
    length = candidates.last - candidates.first + 1
    column = np.repeat(np.arange(length.size), length)
    nth = np.arange(column.size) - np.repeat(length.cumsum() - length, length)
    row = np.where(
        nth == length[column] - 1, candidates.n_blocks + candidates.device[column], candidates.first[column] + nth
    )
    return row, column
