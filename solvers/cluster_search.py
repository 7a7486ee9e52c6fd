"""Good clusters among many clients: one chain after the other, then pairs of clusters anew, each pair optimally."""

from __future__ import annotations

import numpy as np

from lola.solvers.chain_beam import offer_good_chains
from lola.solvers.chain_costs import ChainCosts, chains_from
from lola.solvers.chain_paths import completion, relax
from lola.solvers.chain_proofs import MOST_CLIENTS
from lola.solvers.chain_search import Incumbent
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.cluster_packing import Packing, best_chain

Cluster = tuple[float, IntArray]
# Clients among whom a pair of clusters is made anew, unless the two have more; and pairs that are tried at most.
_POOL, _PAIRS = 11, 60


def good_clusters(costs: ChainCosts, n_clusters: int, throughput: bool, by_start: FloatArray) -> list[Cluster]:
    """Return disjoint chains with their objectives; none where none were found, which proves nothing.

    Parameters
    ----------
    costs : ChainCosts
    n_clusters : int
    throughput : bool
        Whether the sum of the reciprocals counts; else the slowest.
    by_start : (S,) float64 array
        What chains from each of `costs.first` take at least.
    """
    order = [int(costs.first[place]) for place in np.argsort(by_start, kind="stable") if by_start[place] < np.inf]
    clusters: list[Cluster] = []
    free = np.ones(costs.n_clients, np.bool_)
    for number, start in enumerate(order):
        waiting = order[number + 1 : number + n_clusters - len(clusters)]
        members = np.flatnonzero(free & ~np.isin(np.arange(costs.n_clients), waiting))
        cluster = _chain(costs._replace(first=np.array([start])), members)
        if cluster[0] < np.inf:
            clusters.append(cluster)
            free[cluster[1]] = False
        if len(clusters) == n_clusters:
            return _improved(costs, clusters, throughput)
    return []


def _chain(costs: ChainCosts, members: IntArray) -> Cluster:
    """Return a good chain among some clients."""
    if members.size <= MOST_CLIENTS:
        return best_chain(costs, members)
    some = costs.among(members)
    best = Incumbent(some)
    offer_good_chains(some, best)
    return best.objective, members[best.client_of_module]


def _improved(costs: ChainCosts, clusters: list[Cluster], throughput: bool) -> list[Cluster]:
    """Make pairs of clusters anew, together with who is free and lies near good paths, as long as that helps."""
    near = _nearness(costs)
    tried: set[tuple[int, ...]] = set()
    for _ in range(_PAIRS):
        clusters = sorted(clusters, key=lambda cluster: -cluster[0])
        taken = np.concatenate([chain for _, chain in clusters])
        free = near[~np.isin(near, taken)]
        pairs = [(a, b) for a in range(len(clusters) if throughput else 1) for b in range(len(clusters) - 1, a, -1)]
        for a, b in pairs:
            both = np.unique(np.concatenate([clusters[a][1], clusters[b][1]]))
            pool = np.sort(np.concatenate([both, free[: max(0, _POOL - both.size)]]))
            key = tuple(pool.tolist())
            if both.size > MOST_CLIENTS or key in tried:
                continue
            tried.add(key)
            pair = _pair(costs, pool, throughput)
            if _value(pair, throughput) < _value([clusters[a], clusters[b]], throughput):
                clusters[a], clusters[b] = pair
                break
        else:
            break
    return clusters


def _pair(costs: ChainCosts, pool: IntArray, throughput: bool) -> list[Cluster]:
    packing = Packing(costs.among(pool), 2, throughput)
    _, sets = packing.run()
    return [(objective, pool[chain]) for objective, chain in (packing.chains[subset] for subset in sets)]


def _value(clusters: list[Cluster], throughput: bool) -> float:
    """Return what is to be as small as possible."""
    if throughput:
        return -sum(1.0 / objective for objective, _ in clusters)
    return max(objective for objective, _ in clusters)


def _nearness(costs: ChainCosts) -> IntArray:
    """Order clients by the cheapest path over each that may come back to a client."""
    chains = chains_from(costs, None)
    shape = costs.n_modules + 1, costs.n_clients
    ahead, reach = np.empty(shape), np.empty((1, *shape))
    completion(chains.stage_s, chains.hop_s, chains.end_s, False, ahead)
    relax(*chains[:3], np.full(costs.n_clients, -1), np.full(shape, np.inf), False, reach)
    return np.argsort((reach[0] + ahead).min(axis=0), kind="stable")
