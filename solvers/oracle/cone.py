"""(P2) as a cone program, by SCIP."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import allocation_inputs
from lola.solvers._optional import optional, stopped_by_ctrl_c
from lola.solvers.oracle.answer import OracleAnswer, Status, time_limit
from lola.solvers.oracle.assignments import matrices

# SCIP's default of 1e-6 would let a schedule look faster than it is by about as much.
_FEASIBILITY = 1e-9


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
    model.setParam("limits/time", time_limit(time_limit_s))
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
