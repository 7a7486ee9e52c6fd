"""Cheapest chains as shortest paths over (critical clients used, modules done, last client): kernels."""

import numpy as np

from lola.solvers._jit import kernel


@kernel
def completion(stage, hop, end, bottleneck, ahead):
    """Write down what follows at least, where clients may come back, once i modules are done and k held the last.

    `ahead`, (N + 1, K), is modified in place. With `bottleneck`, the slowest stage or hop counts instead of their sum.
    """
    n_clients, n_modules = stage.shape[0], stage.shape[1] - 1
    onward = np.empty(n_clients)
    ahead[:] = np.inf
    ahead[n_modules] = end
    for i in range(n_modules - 1, 0, -1):
        for t in range(n_clients):
            least = np.inf
            for j in range(i + 1, n_modules + 1):
                held = stage[t, i, j]
                if held == np.inf:
                    break
                total = max(held, ahead[j, t]) if bottleneck else held + ahead[j, t]
                least = min(least, total)
            onward[t] = least
        for k in range(n_clients):
            least = np.inf
            for t in range(n_clients):
                total = max(hop[i, k, t], onward[t]) if bottleneck else hop[i, k, t] + onward[t]
                least = min(least, total)
            ahead[i, k] = least


@kernel
def relax(stage, hop, begin, bit, enough, bottleneck, reach):
    """Write down what it costs at least to reach each state, as far as it matters.

    Parameters
    ----------
    stage, hop, begin : arrays
        Those of `lola.solvers.chain_costs.Chains`. A client that cannot hold modules i … j − 1 can hold none beyond.
    bit : (K,) int64 array
        The number of a critical client, −1 for others. The states count who of the critical ones was used, and no path
        comes back to one.
    enough : (N + 1, K) float64 array
        States that cost so much are not gone on from, and said to cost that: what follows makes them too dear.
    bottleneck : bool
        Whether the slowest stage or hop counts instead of their sum.
    reach : (2**C, N + 1, K) float64 array
        By critical clients used, modules done, and last client; modified in place.
    """
    n_clients, n_modules = stage.shape[0], stage.shape[1] - 1
    arrive = np.empty(n_clients)
    reach[:] = np.inf
    for used in range(reach.shape[0]):
        for i in range(n_modules):
            alive = i == 0 and used == 0
            if alive:
                arrive[:] = begin
                reach[0, 0] = enough[0]  # nobody holds no modules
            else:
                arrive[:] = np.inf
                for k in range(n_clients):
                    here = reach[used, i, k]
                    if here >= enough[i, k]:
                        reach[used, i, k] = enough[i, k]
                        continue
                    alive = True
                    leave = hop[i, k]
                    for t in range(n_clients):
                        total = max(here, leave[t]) if bottleneck else here + leave[t]
                        arrive[t] = total if total < arrive[t] else arrive[t]
            if not alive:
                continue
            for t in range(n_clients):
                start = arrive[t]
                after = used
                if start == np.inf or (bit[t] >= 0 and used >> bit[t] & 1):
                    continue
                if bit[t] >= 0:
                    after = used | 1 << bit[t]
                for j in range(i + 1, n_modules + 1):
                    held = stage[t, i, j]
                    if held == np.inf:
                        break
                    total = max(start, held) if bottleneck else start + held
                    if total < reach[after, j, t]:
                        reach[after, j, t] = total
        for k in range(n_clients):
            reach[used, n_modules, k] = min(reach[used, n_modules, k], enough[n_modules, k])


@kernel
def cheapest_end(reach, end, enough, bottleneck):
    """Return the least cost of a path to the end, and the critical clients used and the last client of one."""
    n_modules = reach.shape[1] - 1
    least, state, last = np.inf, -1, -1
    for used in range(reach.shape[0]):
        for k in range(reach.shape[2]):
            here = reach[used, n_modules, k]
            if here < enough[n_modules, k]:
                total = max(here, end[k]) if bottleneck else here + end[k]
                if total < least:
                    least, state, last = total, used, k
    return least, state, last


@kernel
def trace(stage, hop, begin, bit, enough, reach, used, client, client_of_module):
    """Write down who holds each module on a shortest path that ends in a state; the costs are sums.

    `client_of_module`, (N,), is modified in place.
    """
    j = stage.shape[1] - 1
    while True:
        value = reach[used, j, client]
        if bit[client] >= 0:
            used ^= 1 << bit[client]
        if used == 0 and begin[client] + stage[client, 0, j] == value:
            client_of_module[:j] = client
            return
        i, before = j, -1
        while before < 0:
            i -= 1
            held = stage[client, i, j]
            for k in range(stage.shape[0]):
                here = reach[used, i, k]
                if here < enough[i, k] and here + hop[i, k, client] + held == value:
                    before = k
                    break
        client_of_module[i:j] = client
        client, j = before, i
