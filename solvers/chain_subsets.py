"""The best chain of every subset of clients at once: dynamic programming over subsets."""

from __future__ import annotations

import numpy as np

from lola.solvers.chain_costs import ChainCosts, chains_from
from lola.solvers.chain_paths import relax
from lola.solvers.checks import FloatArray


def best_of_subsets(costs: ChainCosts, first: int | None) -> FloatArray:
    """Return the objective of the best chain that begins with a client (None: any), by the clients it uses.

    Returns
    -------
    (2**K,) float64 array
        At index Σ 2**k over the clients used, all of them and no others; infinite where there is no such chain.

    Notes
    -----
    For the objectives "sum" and "max". O(2^K·(N·K² + N²·K)) time, 8·2^K·(N + 1)·K bytes.
    """
    bottleneck = costs.sum_weight == 0.0
    chains = chains_from(costs, first)
    shape = costs.n_modules + 1, costs.n_clients
    reach = np.empty((1 << costs.n_clients, *shape))
    relax(*chains[:3], np.arange(costs.n_clients), np.full(shape, np.inf), bottleneck, reach)
    done = reach[:, costs.n_modules]
    total: FloatArray = (np.maximum(done, chains.end_s) if bottleneck else done + chains.end_s).min(axis=1)
    return total
