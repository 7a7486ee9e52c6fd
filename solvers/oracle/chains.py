"""Chains of clients by CP-SAT: a path of stages and hops, each a Boolean, with at most one stage a client."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import numpy as np

from lola.solvers._optional import optional, stopped_by_ctrl_c
from lola.solvers.chain_costs import ChainCosts, chain_costs
from lola.solvers.checks import FloatArray, IntArray, positive_number
from lola.solvers.oracle.answer import OracleAnswer, Status, time_limit

# Costs are rounded down to whole parts of the best objective so far, so many of them.
_PARTS = 1e10


def chain_cp(*arguments: Any, tolerance: float = 1e-8, time_limit_s: float = 60.0, **keywords: Any) -> OracleAnswer:
    """Solve what `chain_allocation` solves by CP-SAT.

    Parameters
    ----------
    *arguments, **keywords
        Those of `chain_allocation`.
    tolerance : float
        ``OPTIMAL`` says that nothing is faster than `objective` by more than this fraction.
    time_limit_s : float
        For all attempts together.

    Returns
    -------
    OracleAnswer
        The best chain found; `assignment` holds the client of each module. ``TIME_LIMIT`` if the limit came first.

    Raises
    ------
    ImportError
        If OR-Tools is missing; it names the extra.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    CP-SAT counts in integers. Each attempt rounds times down to 1e-10 of the best chain so far, and leaves out what
    alone takes longer; its optimum is then a bound, and the chain's own objective says how far from it that is.

    Examples
    --------
    >>> from lola.solvers import oracle
    >>> clients = {"speed": [1.0, 2.0, 4.0], "client_memory_bytes": [2e9, 2e9, 1e9]}
    >>> rate_bps = [[0, 8e6, 0], [8e6, 0, 4e6], [0, 8e6, 0]]
    >>> answer = oracle.chain_cp([1.0] * 4, [1e9] * 4, 4e6, **clients, rate_bps=rate_bps, start=0)
    >>> answer.status.name, answer.assignment, answer.objective
    ('OPTIMAL', array([0, 0, 1, 1]), 3.5)
    """
    chain_costs(*arguments, **keywords)  # says what is wrong with the arguments
    costs = plain_costs(*arguments, **keywords)
    positive_number("tolerance", tolerance)
    begun = time.perf_counter()
    stop = begun + time_limit(time_limit_s)
    objective, best = np.inf, None
    most = max(float(times[np.isfinite(times)].max(initial=0.0)) for times in costs[:3])
    unit = max(most, 1e-300) / _PARTS
    while (rest := stop - time.perf_counter()) > 0:
        status, chain, bound = _attempt(costs, objective, unit, rest)
        if chain is not None and _takes(costs, chain) < objective:
            objective, best = _takes(costs, chain), chain
        if status is not Status.OPTIMAL or objective <= bound * unit * (1 + tolerance) or objective == 0.0:
            break
        if unit <= objective / _PARTS:  # finer than this it does not count
            status = Status.FAILED
            break
        unit = objective / _PARTS
    else:
        status = Status.TIME_LIMIT
    return OracleAnswer(status, objective, best, time.perf_counter() - begun)


def plain_costs(
    work_s: Any,
    memory_bytes: Any,
    hop_bits: Any,
    speed: Any,
    client_memory_bytes: Any,
    rate_bps: Any,
    *,
    objective: str = "sum",
    micro_batches: int = 1,
    start: Any = None,
    order: Any = None,
    return_bits: Any = 0.0,
    ring_bits: float = 0.0,
) -> ChainCosts:
    """Write down what each stage and hop takes, one by one, apart from `lola.solvers.chain_costs`."""
    work, memory, rate = np.asarray(work_s), np.asarray(memory_bytes), np.asarray(rate_bps)
    n_modules, n_clients = len(work), len(speed)
    there, back = (np.broadcast_to(bits, (n_modules - 1,)) for bits in (hop_bits, return_bits))
    place = dict.fromkeys(range(n_clients), 0) if order is None else {int(k): i for i, k in enumerate(order)}
    begins = range(n_clients) if start is None else np.atleast_1d(start).tolist()

    def sent(bits: float, i: int, j: int) -> float:
        if bits == 0.0:
            return 0.0
        return float(bits / rate[i, j]) if i != j and rate[i, j] > 0 else np.inf

    stage = np.full((n_clients, n_modules + 1, n_modules + 1), np.inf)
    hop = np.full((n_modules, n_clients, n_clients), np.inf)
    ring = np.array([[sent(ring_bits, i, j) for j in range(n_clients)] for i in range(n_clients)])
    for k in place:
        for i in range(n_modules):
            for j in range(i + 1, n_modules + 1):
                needed = memory[i, j - 1] if memory.ndim == 2 else memory[i:j].sum()
                if needed <= client_memory_bytes[k] * (1 + 1e-12):
                    stage[k, i, j] = work[i:j].sum() / speed[k]
        for t in place:
            if k != t and (order is None or place[k] < place[t]):
                for cut in range(1, n_modules):
                    hop[cut, k, t] = sent(there[cut - 1], k, t) + sent(back[cut - 1], t, k)
    first = np.array([k for k in begins if k in place], dtype=np.int64)
    total = 0.0 if objective == "max" else 1.0
    slowest = {"sum": 0.0, "max": 1.0, "pipeline": micro_batches - 1.0}[objective]
    return ChainCosts(stage, hop, ring, first, ring_bits > 0 and n_modules > 1, total, slowest)


def _attempt(costs: ChainCosts, most: float, unit: float, rest: float) -> tuple[Status, IntArray | None, float]:
    """Ask CP-SAT for the best chain, none of whose times is above the most; return a bound in units, too."""
    cp_model = optional("ortools.sat.python.cp_model")
    n_clients, n_modules = costs.n_clients, costs.n_modules
    model = cp_model.CpModel()
    terms: list[tuple[int, Any]] = []
    at: defaultdict[Any, list[Any]] = defaultdict(list)

    def choice(seconds: float, *nodes: Any) -> Any:
        chosen = model.new_bool_var("")
        terms.append((int(seconds / unit), chosen))
        for node in nodes:
            at[node].append(chosen)
        return chosen

    stage = {}
    for k, i, j in _possible(costs.stage_s, most):
        if i > 0 or k in costs.first:
            ends = [] if (i, j) == (0, n_modules) else [("begin", k, i), ("end", k, j)]
            stage[k, i, j] = choice(costs.stage_s[k, i, j], ("client", k), *ends)
    for cut, k, t in _possible(costs.hop_s, most):
        choice(costs.hop_s[cut, k, t], ("from", k, cut), ("to", t, cut))
    for k, t in _possible(costs.ring_s, most):
        if k != t:
            choice(costs.ring_s[k, t], ("from", k, n_modules), ("to", t, 0))
    for k in range(n_clients):
        model.add(sum(at["client", k]) <= 1)
        for cut in range(n_modules + 1):
            model.add(sum(at["begin", k, cut]) == sum(at["to", k, cut]))
            model.add(sum(at["end", k, cut]) == sum(at["from", k, cut]))
    model.add(sum(chosen for (_, i, _), chosen in stage.items() if i == 0) == 1)
    slowest = model.new_int_var(0, max((cost for cost, _ in terms), default=0), "")
    if costs.max_weight > 0.0:
        for cost, chosen in terms:
            model.add(slowest >= cost * chosen)
    total = sum(cost * chosen for cost, chosen in terms)
    model.minimize(int(costs.sum_weight) * total + int(costs.max_weight) * slowest)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = rest
    solver.parameters.num_workers = 1
    solver.parameters.catch_sigint_signal = False
    with stopped_by_ctrl_c(solver.stop_search):
        outcome = solver.solve(model)
    status = {
        cp_model.OPTIMAL: Status.OPTIMAL,
        cp_model.INFEASIBLE: Status.INFEASIBLE,
        cp_model.FEASIBLE: Status.TIME_LIMIT,
        cp_model.UNKNOWN: Status.TIME_LIMIT,
    }.get(outcome, Status.FAILED)
    if outcome not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return status, None, 0.0
    chain = np.empty(n_modules, np.int64)
    for (k, i, j), chosen in stage.items():
        if solver.value(chosen):
            chain[i:j] = k
    return status, chain, solver.best_objective_bound


def _takes(costs: ChainCosts, chain: IntArray) -> float:
    """Add up what a chain takes, stage by stage."""
    times, begun = [], 0
    for module in range(1, costs.n_modules + 1):
        if module == costs.n_modules or chain[module] != chain[module - 1]:
            times.append(float(costs.stage_s[chain[begun], begun, module]))
            if module < costs.n_modules:
                times.append(float(costs.hop_s[module, chain[module - 1], chain[module]]))
            begun = module
    if len(times) > 1:
        times.append(float(costs.ring_s[chain[-1], chain[0]]))
    return (costs.sum_weight * sum(times) if costs.sum_weight else 0.0) + costs.max_weight * max(times)


def _possible(seconds: FloatArray, most: float) -> list[list[int]]:
    """Return the indices of times that are finite, and at most so long."""
    indices: list[list[int]] = np.argwhere(np.isfinite(seconds) & (seconds <= most)).tolist()
    return indices
