"""What is asked of clusters, checked once, for the search and the checks of its proofs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.chain_costs import ChainCosts, chain_costs
from lola.solvers.checks import IntArray, positive_integer, shown
from lola.solvers.errors import LolaTypeError, LolaValueError, infeasible_clusters

GOALS = ("slowest", "throughput")


def cluster_costs(
    work_s: ArrayLike, *arguments: Any, n_clusters: int, starts: Sequence[int], goal: str, **keywords: Any
) -> tuple[ChainCosts, int, bool]:
    """Check the arguments of `cluster_allocation`.

    Returns
    -------
    costs : ChainCosts
        Of chains that begin with one of the starts that is in the order.
    n_clusters : int
    throughput : bool
        Whether that is the goal; else the slowest.
    """
    if goal not in GOALS:
        raise LolaValueError(f"goal must be 'slowest' or 'throughput', got {shown(goal)}; choose one of them")
    count, throughput = positive_integer("n_clusters", n_clusters), goal == "throughput"
    costs = chain_costs(work_s, *arguments, **keywords)
    if throughput and not np.any(work_s):
        raise LolaValueError("goal 'throughput' needs work_s > 0 in some module, got none; a chain would take no time")
    begins = _starts(starts, costs.n_clients, count)
    first = np.intersect1d(costs.first, begins)
    if not first.size:
        raise infeasible_clusters("0", 0, count, begins)
    return costs._replace(first=first), count, throughput


def _starts(starts: Sequence[int], n_clients: int, count: int) -> IntArray:
    array = np.asarray(starts)
    if array.ndim != 1 or array.size == 0:
        raise LolaValueError(
            f"starts must list clients that have data, at least one, got {shown(starts)}; a chain begins where data is"
        )
    if array.dtype.kind not in "iu":
        raise LolaTypeError(f"starts must hold indices of clients, got dtype {array.dtype}; give integers")
    outside = np.flatnonzero((array < 0) | (array >= n_clients))
    if outside.size:
        raise LolaValueError(f"starts must be clients from 0 to {n_clients - 1}, got {array[outside[0]]}; correct it")
    distinct = np.unique(array)
    if distinct.size < array.size:
        raise LolaValueError(f"starts must name each client once, got {shown(starts)}; drop who stands twice")
    if distinct.size < count:
        raise LolaValueError(
            f"n_clusters may be at most {distinct.size}, the number of starts, got {count}; ask for fewer clusters, or "
            "let more clients begin"
        )
    return distinct
