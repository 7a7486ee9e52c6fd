"""Disjoint chains of clients, each from a client that has data: the slowest as fast as can be, or the most batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.chain_costs import ChainCosts
from lola.solvers.chain_proofs import MOST_CLIENTS
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.cluster_bounds import ClusterProof, prove, unpriced
from lola.solvers.cluster_costs import cluster_costs
from lola.solvers.cluster_packing import Packing
from lola.solvers.cluster_search import Cluster, good_clusters
from lola.solvers.errors import infeasible_clusters, undecided_clusters

# A bound that is so near the objective differs by rounding alone.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ClusterAllocation:
    """Disjoint chains, and a bound that no others beat.

    Attributes
    ----------
    objective : float
        For "slowest" the largest of the chains' objectives, in seconds; for "throughput" the sum of their reciprocals.
    client_of_module : (n, N) int64 array
        By cluster, the fastest first; a client stands at each module of its stage, and in one cluster at most.
    chain_objective : (n,) float64 array
        Of each cluster's chain, in seconds.
    bound : float
        No clusters are better: no less for "slowest", no more for "throughput". The objective itself where that is
        proven optimal, as it is up to 14 clients; beyond, nothing is claimed but the gap.
    subset_s : (2**K,) float64 array
        Up to 14 clients: what a chain on just the clients Σ2**k takes at least; infinite where there is none. No
        disjoint sets are better by it than the bound. Empty beyond.
    proof : ClusterProof or None
        Beyond 14 clients, why: ``proof.check(bound, …)``, with the arguments of `cluster_allocation`, compares and adds
        up, no more.
    """

    objective: float
    client_of_module: IntArray
    chain_objective: FloatArray
    bound: float
    subset_s: FloatArray
    proof: ClusterProof | None

    @property
    def gap(self) -> float:
        """How far the objective may be from the optimum, as a part of the better of the two; 0 where it is optimal."""
        if self.bound == self.objective:
            return 0.0
        return float(np.float64(max(self.objective, self.bound)) / min(self.objective, self.bound) - 1.0)


def cluster_allocation(
    work_s: ArrayLike,
    memory_bytes: ArrayLike,
    hop_bits: ArrayLike,
    speed: ArrayLike,
    client_memory_bytes: ArrayLike,
    rate_bps: ArrayLike,
    *,
    n_clusters: int,
    starts: Sequence[int],
    goal: str = "slowest",
    objective: str = "sum",
    micro_batches: int = 1,
    order: Sequence[int] | None = None,
    return_bits: ArrayLike = 0.0,
    ring_bits: float = 0.0,
) -> ClusterAllocation:
    """Form disjoint chains of clients, each of which holds the whole model and begins where there is data.

    A client is in one cluster at most, and need not be in any. What a chain takes, and the arguments that are not
    listed here, are those of `chain_allocation`.

    Parameters
    ----------
    n_clusters : int
        Number of chains, n ≥ 1.
    starts : sequence of int
        Clients that have data; each chain begins with one of them. Any of them may also serve in another's chain.
    goal : {"slowest", "throughput"}
        Make the largest of the chains' objectives small, or the sum of their reciprocals large: batches a second, where
        the objective is seconds a batch.
    work_s, memory_bytes, hop_bits, speed, client_memory_bytes, rate_bps, objective, micro_batches, order : see there
    return_bits, ring_bits : see there

    Returns
    -------
    ClusterAllocation
        Up to 14 clients the optimum; beyond, good clusters and always the gap to a bound.

    Raises
    ------
    InfeasibleError
        If so many disjoint chains cannot be formed; the message says how many can.
    TypeError, ValueError
        If an argument is not as described, nobody has data, or among more than 14 clients neither clusters nor a proof
        that there are none were found.

    Notes
    -----
    "Clusters" of ``lola docs theory``. Up to 14 clients O(2^K·(N·K² + N²·K)) time for the best chain of every set, with
    ``ring_bits`` for each start, then O(3^K) for each cluster but the first; "pipeline" repeats the latter for as long
    as sets are dearer than their bound.

    Examples
    --------
    >>> from lola.solvers import cluster_allocation
    >>> clients = {"speed": [1.0, 2.0, 4.0, 1.0], "client_memory_bytes": [2e9] * 4}
    >>> links = {"hop_bits": 4e6, "rate_bps": [[8e6] * 4] * 4}
    >>> clusters = cluster_allocation([1.0] * 4, [1e9] * 4, **links, **clients, n_clusters=2, starts=[0, 1])
    >>> clusters.objective, clusters.client_of_module.tolist(), clusters.gap
    (3.5, [[0, 0, 2, 2], [1, 1, 3, 3]], 0.0)
    """
    costs, count, throughput = cluster_costs(
        work_s,
        memory_bytes,
        hop_bits,
        speed,
        client_memory_bytes,
        rate_bps,
        n_clusters=n_clusters,
        starts=starts,
        goal=goal,
        objective=objective,
        micro_batches=micro_batches,
        order=order,
        return_bits=return_bits,
        ring_bits=ring_bits,
    )
    if costs.n_clients <= MOST_CLIENTS:
        return _exact(costs, count, throughput)
    by_start = unpriced(costs).by_start(costs)
    if (able := int(np.isfinite(by_start).sum())) < count:
        raise infeasible_clusters(f"at most {able}", able, count, costs.first[~np.isfinite(by_start)])
    clusters = good_clusters(costs, count, throughput, by_start)
    if not clusters:
        raise undecided_clusters()
    proof = prove(costs, count, throughput, max(seconds for seconds, _ in clusters))
    return _allocation(clusters, throughput, proof.bound(costs, count, throughput), np.zeros(0), proof)


def _exact(costs: ChainCosts, count: int, throughput: bool) -> ClusterAllocation:
    packing = Packing(costs, count, throughput)
    least, sets = packing.run()
    if not sets:
        alone = np.array([packing.begins(int(start)) for start in costs.first], dtype=np.bool_)
        raise infeasible_clusters(f"{packing.most}", packing.most, count, costs.first[~alone])
    clusters = [packing.chains[subset] for subset in sets]
    return _allocation(clusters, throughput, -least if throughput else least, packing.least_s, None)


def _allocation(
    clusters: list[Cluster], throughput: bool, bound: float, subset_s: FloatArray, proof: ClusterProof | None
) -> ClusterAllocation:
    clusters = sorted(clusters, key=lambda cluster: cluster[0])
    seconds = np.array([objective for objective, _ in clusters])
    value = float((1.0 / seconds).sum() if throughput else seconds.max())
    if abs(bound - value) <= _ROUNDING * value:
        bound = value
    return ClusterAllocation(value, np.array([chain for _, chain in clusters]), seconds, bound, subset_s, proof)
