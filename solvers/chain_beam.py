"""Good chains among many clients: the cheapest few beginnings of each kind, then the optimum over a few clients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lola.solvers._jit import kernel
from lola.solvers.chain_costs import ChainCosts, chains_from, first_clients
from lola.solvers.chain_paths import completion, relax
from lola.solvers.chain_proofs import MOST_CLIENTS
from lola.solvers.chain_search import Incumbent, Search
from lola.solvers.checks import IntArray

_WIDTH = 32  # beginnings that are kept for each number of modules done and last client
_LIMITS = 12  # of the slowest stage or hop that are tried
_ROUNDS = 8  # of clients among whom the optimum is sought


def offer_good_chains(costs: ChainCosts, best: Incumbent) -> None:
    """Offer chains that are often optimal, or near it."""
    chains = chains_from(costs, None)
    limit, least = np.inf, Search(costs, None, best).bottleneck(np.inf)
    walk = np.empty(costs.n_modules, np.int64)
    for _ in range(_LIMITS if costs.max_weight > 0.0 else 1):
        some = chains.below(limit, inclusive=True)
        if _beam(*some[:3], costs.ring_s, _WIDTH, walk):
            best.offer(walk.copy())
            slowest = float(costs.times(walk).max())
        elif limit == np.inf:
            return
        else:
            least = limit
        # Between the limits above and below which there is a chain and none was seen.
        limit = np.sqrt(least) * np.sqrt(slowest)
    for clients in _neighbourhoods(costs, best):
        _among(costs, clients, best)


def _neighbourhoods(costs: ChainCosts, best: Incumbent) -> Iterator[IntArray]:
    """Yield the clients of the best chain so far with those whom the cheapest paths that come back pass."""
    chains = chains_from(costs, int(best.client_of_module[0]))
    shape = costs.n_modules + 1, costs.n_clients
    ahead, reach = np.empty(shape), np.empty((1, *shape))
    completion(chains.stage_s, chains.hop_s, chains.end_s, False, ahead)
    relax(*chains[:3], np.full(costs.n_clients, -1), np.full(shape, np.inf), False, reach)
    rank = np.argsort((reach[0] + ahead).min(axis=0), kind="stable")
    for _ in range(_ROUNDS):
        used = np.unique(best.client_of_module)
        others = rank[~np.isin(rank, used)]
        more = MOST_CLIENTS - used.size
        if more <= 0 or others.size == 0:
            return
        yield np.sort(np.concatenate([used, others[:more]]))
        rank = np.roll(rank, -more)


def _among(costs: ChainCosts, clients: IntArray, best: Incumbent) -> None:
    """Offer the optimum over some of the clients."""
    some = costs.among(clients)
    best_of_some = Incumbent(some)
    best_of_some.offer(np.searchsorted(clients, best.client_of_module))
    for first in first_clients(some):
        Search(some, first, best_of_some).run()
    best.offer(clients[best_of_some.client_of_module])


@kernel
def _beam(stage, hop, begin, ring, width, client_of_module):
    """Write down who holds each module on a good chain; False where none was seen.

    For each number of modules done and last client, the cheapest beginnings are kept in which nobody is used twice.
    `client_of_module`, (N,), is modified in place.
    """
    n_clients, n_modules = stage.shape[0], stage.shape[1] - 1
    cost = np.full((n_modules + 1, n_clients, width), np.inf)
    origin = np.full((n_modules + 1, n_clients, width, 3), -1)  # modules done, client and rank before the last stage
    arrive, source = np.empty(width), np.empty((width, 2), np.int64)
    for i in range(n_modules):
        for t in range(n_clients):
            arrive[:] = np.inf
            if i == 0:
                arrive[0] = begin[t]
                source[0] = -1
            else:
                for k in range(n_clients):
                    for w in range(width):
                        total = cost[i, k, w] + hop[i, k, t]
                        if not total < arrive[width - 1]:
                            break
                        if _uses(origin, i, k, w, t):
                            continue
                        place = _insert(arrive, total)
                        for v in range(width - 1, place, -1):
                            source[v] = source[v - 1]
                        source[place, 0], source[place, 1] = k, w
            for j in range(i + 1, n_modules + 1):
                held = stage[t, i, j]
                if held == np.inf:
                    break
                for w in range(width):
                    total = arrive[w] + held
                    if not total < cost[j, t, width - 1]:
                        break
                    place = _insert(cost[j, t], total)
                    for v in range(width - 1, place, -1):
                        origin[j, t, v] = origin[j, t, v - 1]
                    origin[j, t, place, 0] = i
                    origin[j, t, place, 1:] = source[w]
    least, client, rank = np.inf, -1, -1
    for k in range(n_clients):
        for w in range(width):
            if cost[n_modules, k, w] < np.inf:
                first = _first(origin, n_modules, k, w)
                total = cost[n_modules, k, w] + (ring[k, first] if first != k else 0.0)
                if total < least:
                    least, client, rank = total, k, w
    if client < 0:
        return False
    j = n_modules
    while j > 0:
        i, before, rank_before = origin[j, client, rank]
        client_of_module[i:j] = client
        j, client, rank = i, before, rank_before
    return True


@kernel
def _insert(values, value):
    """Insert a value into sorted ones, the last of which falls out; return its place. Modified in place."""
    place = values.size - 1
    while place > 0 and values[place - 1] > value:
        values[place] = values[place - 1]
        place -= 1
    values[place] = value
    return place


@kernel
def _uses(origin, j, client, rank, wanted):
    """Return whether a beginning has a stage on a client."""
    while j > 0:
        if client == wanted:
            return True
        j, client, rank = origin[j, client, rank]
    return False


@kernel
def _first(origin, j, client, rank):
    """Return the client of a beginning's first stage."""
    first = client
    while j > 0:
        first = client
        j, client, rank = origin[j, client, rank]
    return first
