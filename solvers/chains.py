"""A model cut into stages over a chain of clients, in a given order or any: optimal, or with the gap to a bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.chain_beam import offer_good_chains
from lola.solvers.chain_costs import chain_costs, first_clients, why_no_chain
from lola.solvers.chain_proofs import MOST_CLIENTS, ChainProof
from lola.solvers.chain_search import Incumbent, Search
from lola.solvers.checks import IntArray
from lola.solvers.errors import undecided_chains

# A bound that is below the objective by no more is so by rounding alone.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ChainAllocation:
    """A chain, a bound that no chain beats, and its proof.

    Attributes
    ----------
    objective : float
        Seconds.
    client_of_module : (N,) int64 array
        A client stands at each module of its stage.
    lower_bound : float
        Seconds; no chain takes less. The objective itself where that is proven optimal, as it is with a given order and
        up to 14 clients; where it is less, nothing is claimed but the gap.
    proof : ChainProof
        Why: ``proof.check(lower_bound, …)``, with the arguments of `chain_allocation`, compares and adds up, no more.
    """

    objective: float
    client_of_module: IntArray
    lower_bound: float
    proof: ChainProof

    @property
    def gap(self) -> float:
        """``objective/lower_bound − 1``: 0 where the chain is proven optimal."""
        if self.lower_bound == self.objective:
            return 0.0
        return float(np.float64(self.objective) / self.lower_bound - 1.0)


def chain_allocation(
    work_s: ArrayLike,
    memory_bytes: ArrayLike,
    hop_bits: ArrayLike,
    speed: ArrayLike,
    client_memory_bytes: ArrayLike,
    rate_bps: ArrayLike,
    *,
    objective: str = "sum",
    micro_batches: int = 1,
    start: int | Sequence[int] | None = None,
    order: Sequence[int] | None = None,
    return_bits: ArrayLike = 0.0,
    ring_bits: float = 0.0,
) -> ChainAllocation:
    """Cut a model into stages of consecutive modules, each on a client of its own, so that a batch ends soonest.

    A stage takes the sum of its modules' ``work_s``, divided by its client's speed; the hop from client i to client j
    takes ``hop_bits/rate_bps[i, j] + return_bits/rate_bps[j, i]``.

    Parameters
    ----------
    work_s : (N,) array_like
        Seconds of each module at speed 1, in order from the input, ≥ 0.
    memory_bytes : (N,) or (N, N) array_like
        Bytes of each module, ≥ 0, which add up within a stage; or those of a stage of modules i … j at [i, j], which
        never fall with j. What is below the diagonal does not matter.
    hop_bits, return_bits : float or (N − 1,) array_like
        Bits that cross each cut, and come back over the opposite link, ≥ 0.
    speed, client_memory_bytes : (K,) array_like
        The clients: speed (> 0) and bytes offered (≥ 0).
    rate_bps : (K, K) array_like
        Bit/s from the client of the row to that of the column; 0 is no link. The diagonal is ignored.
    objective : {"sum", "max", "pipeline"}
        All stages and hops, one after the other; the slowest of them; or the sum and ``micro_batches − 1`` times the
        slowest: what a pipeline of so many micro-batches takes, all of these numbers being one micro-batch's.
    micro_batches : int
        For "pipeline", ≥ 1.
    start : int or sequence of int, optional
        The client that holds the first stage, or those of which one does; any if left out.
    order : sequence of int, optional
        Clients in the order in which they may appear, each once at most; any order if left out.
    ring_bits : float
        Bits that the last client sends to the first, ≥ 0: one more hop, unless one client holds everything.

    Returns
    -------
    ChainAllocation
        With an order, or up to 14 clients, the optimum; beyond, often the optimum, and always the gap to a bound.

    Raises
    ------
    InfeasibleError
        If memory and links leave no chain.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    "Chains" of ``lola docs theory``. With an order O(N²·K + N·K²) time for "sum" and "max", and as often as limits of
    the slowest matter for "pipeline"; with `ring_bits`, once for each client that can begin; without an order, a factor
    2^C for C critical clients, mostly few. To weigh energy with
    time in "sum", scale speeds and rates: only seconds per unit of work and per bit count.

    Examples
    --------
    >>> from lola.solvers import chain_allocation
    >>> clients = {"speed": [1.0, 2.0, 4.0], "client_memory_bytes": [2e9, 2e9, 1e9]}
    >>> rate_bps = [[0, 8e6, 0], [8e6, 0, 4e6], [0, 8e6, 0]]
    >>> chain = chain_allocation([1.0] * 4, [1e9] * 4, 4e6, **clients, rate_bps=rate_bps, start=0)
    >>> chain.client_of_module, chain.objective, chain.gap
    (array([0, 0, 1, 1]), 3.5, 0.0)
    """
    costs = chain_costs(
        work_s,
        memory_bytes,
        hop_bits,
        speed,
        client_memory_bytes,
        rate_bps,
        objective=objective,
        micro_batches=micro_batches,
        start=start,
        order=order,
        return_bits=return_bits,
        ring_bits=ring_bits,
    )
    best = Incumbent(costs)
    if order is None and costs.n_clients > MOST_CLIENTS:
        offer_good_chains(costs, best)
    firsts = first_clients(costs)
    bound, potentials = np.inf, []
    for first in firsts:
        search = Search(costs, first, best, len(firsts))
        search.run()
        bound = min(bound, search.bound)
        potentials += search.potentials
    if best.objective == np.inf:
        if bound < np.inf:
            raise undecided_chains()
        only = int(costs.first[0]) if start is not None and costs.first.size == 1 else None
        raise why_no_chain(costs, memory_bytes, client_memory_bytes, only, order is not None)
    if bound >= best.objective * (1 - _ROUNDING):
        bound = best.objective
    return ChainAllocation(best.objective, best.client_of_module, bound, ChainProof(tuple(potentials)))
