"""(P3), segments of blocks and bandwidth, by mixed-integer programs over all pairs of device and segment."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import Inputs, allocation_inputs
from lola.solvers.checks import (
    FloatArray,
    IntArray,
    per_block,
    positive_integer,
    positive_number,
    shown,
    subcarriers_in,
    vector,
)
from lola.solvers.errors import LolaValueError
from lola.solvers.oracle.answer import OracleAnswer, Status, time_limit
from lola.solvers.oracle.selections import Candidates, by_highs, by_ortools

# The spectrum in the models' unit of cost. The solvers cut off branches that promise less than 1e-6, in absolute terms.
_SPECTRUM = 1e5


def segment_milp(
    *arguments: ArrayLike,
    local_steps: int = 1,
    extra_latency_s: ArrayLike = 0.0,
    extra_memory_bytes: ArrayLike = 0.0,
    max_blocks: int | None = None,
    subcarrier_hz: float | None = None,
    solver: Literal["highs", "ortools"] = "highs",
    tolerance: float = 1e-9,
    time_limit_s: float = 60.0,
    **keywords: Any,
) -> OracleAnswer:
    """Solve (P3) by asking a MILP, for earlier and earlier deadlines, how little bandwidth serves all blocks.

    Parameters
    ----------
    *arguments, local_steps, extra_latency_s, extra_memory_bytes, max_blocks, subcarrier_hz, **keywords
        Those of `segment_allocation`.
    solver : {"highs", "ortools"}
        Who solves the MILPs: HiGHS, which scipy brings, or SCIP by OR-Tools.
    tolerance : float
        ``OPTIMAL`` says that nothing is faster than `objective` by more than this fraction.
    time_limit_s : float
        For all deadlines together.

    Returns
    -------
    OracleAnswer
        The best selection found; `assignment` holds the device of each block. ``TIME_LIMIT`` if the limit came first.

    Raises
    ------
    ImportError
        If scipy or OR-Tools is missing; it names the extra.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    A binary for each pair of device and segment; each block in one chosen segment, each device in at most one. The
    next deadline is the finish, by bisection, of the selection that was cheapest, less the tolerance. The last MILP
    has no selection that the spectrum can serve: that alone makes the answer optimal, whatever came before.

    Examples
    --------
    >>> from lola.solvers import oracle
    >>> fleet = {"speed": [0.5, 1.0], "memory_bytes": [1e9, 4e9], "spectral_efficiency": [4.0, 2.0]}
    >>> answer = oracle.segment_milp([0.8, 1.0, 1.2], [1e9, 2e9, 3e9], 8e5, **fleet, bandwidth_hz=1e6)
    >>> answer.status.name, answer.assignment, round(answer.objective, 3)
    ('OPTIMAL', array([0, 1, 1]), 2.312)
    """
    inputs = allocation_inputs(*arguments, local_steps=local_steps, **keywords, fewer_devices=True)
    if solver not in ("highs", "ortools"):
        raise LolaValueError(f"solver must be 'highs' or 'ortools', got {shown(solver)}; choose one of them")
    cheapest = by_highs if solver == "highs" else by_ortools
    positive_number("tolerance", tolerance)
    start = time.perf_counter()
    stop = start + time_limit(time_limit_s)
    candidates, compute, load = _all_pairs(inputs, local_steps, extra_latency_s, extra_memory_bytes, max_blocks)
    # In hertz, or in subcarriers.
    unit, budget = 1.0, inputs.bandwidth
    if subcarrier_hz is not None:
        unit = positive_number("subcarrier_hz", subcarrier_hz)
        budget = float(subcarriers_in(inputs.bandwidth, unit))

    def need(deadline: float, some: IntArray | slice) -> FloatArray:
        """Return how much spectrum these candidates must have to finish in time."""
        left = deadline - compute[some]
        least: FloatArray = np.divide(load[some] / unit, left, out=np.full(left.shape, np.inf), where=left > 0)
        return least if subcarrier_hz is None else np.asarray(np.ceil(least * (1 - 1e-12)))

    def finish(chosen: IntArray, by: float) -> float:
        """Return when these candidates finish at the earliest; they do by the deadline."""
        low, high = float(compute[chosen].max()), by
        while low < (middle := (low + high) / 2) < high:
            if need(middle, chosen).sum() <= budget:
                high = middle
            else:
                low = middle
        return high

    # With the n-th part of the spectrum each (one subcarrier at least), every selection that there is is done by then.
    share = inputs.bandwidth / inputs.n_blocks if subcarrier_hz is None else unit
    deadline = float((compute + load / share).max(initial=0.0)) * (1 + 1e-9)
    objective, best = np.inf, None
    while (rest := stop - time.perf_counter()) > 0:
        cost = need(deadline, slice(None))
        (affordable,) = (cost <= budget).nonzero()
        model = candidates.subset(affordable)
        status, columns = cheapest(cost[affordable] / budget * _SPECTRUM, model, rest)
        if columns is not None and cost[affordable[columns]].sum() <= budget * (1 + 1e-12):
            earlier = finish(affordable[columns], deadline)
            if earlier < objective:
                objective, best = earlier, model.device_of_block(columns)
                deadline = objective * (1 - tolerance)
                continue
        # An optimum beyond the spectrum, or no selection at all, proves that nothing is done by this deadline.
        if status in (Status.OPTIMAL, Status.INFEASIBLE):
            status = Status.INFEASIBLE if best is None else Status.OPTIMAL
        break
    else:
        status = Status.TIME_LIMIT
    return OracleAnswer(status, objective, best, time.perf_counter() - start)


def _all_pairs(
    inputs: Inputs,
    local_steps: int,
    extra_latency_s: ArrayLike,
    extra_memory_bytes: ArrayLike,
    max_blocks: int | None,
) -> tuple[Candidates, FloatArray, FloatArray]:
    """List the pairs of device and segment that memory permits: seconds of computation, and bits over efficiency."""
    n_blocks, n_devices = inputs.n_blocks, inputs.n_devices
    longest = n_blocks if max_blocks is None else positive_integer("max_blocks", max_blocks)
    extra_s, extra_bytes = (
        vector(name, per_block(name, value, n_blocks), ("latency_s", inputs.work), positive=False)
        for name, value in (("extra_latency_s", extra_latency_s), ("extra_memory_bytes", extra_memory_bytes))
    )
    pairs, seconds, loads = [], [], []
    for first in range(n_blocks):
        for last in range(first + 1, min(first + longest, n_blocks) + 1):
            passed = slice(first, last - 1)
            able = inputs.need[last - 1] + extra_bytes[passed].sum() <= inputs.memory
            if inputs.mask is not None:
                able &= inputs.mask[:, first:last].all(axis=1)
            (device,) = able.nonzero()
            pairs.append(np.stack([np.full(device.size, first), np.full(device.size, last), device]))
            seconds.append((inputs.work[last - 1] + local_steps * extra_s[passed].sum()) / inputs.speed[device])
            loads.append(inputs.bits[first:last].sum() / inputs.efficiency[device])
    first_block, beyond, served_by = np.concatenate(pairs, axis=1)
    return (
        Candidates(first_block, beyond, served_by, n_blocks, n_devices),
        np.concatenate(seconds),
        np.concatenate(loads),
    )
