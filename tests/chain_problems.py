"""Small chains that tests share: a model of four modules, a house of clients, random problems, and a plain optimum."""

from itertools import combinations, permutations

import numpy as np

import lola


def toy_stages(**changes):
    arguments = {
        "forward_s": [0.1, 0.4, 0.4, 0.1],
        "backward_s": [0.0, 0.6, 0.8, 0.1],
        "memory_bytes": [2e8, 3e8, 3e8, 1e7],
        "inference_memory_bytes": [2e8, 3e7, 3e7, 1e7],
        "hop_bits": 8e6,
        "return_bits": [0.0, 8e6, 8e6],
        "tunable_bits": [0.0, 8e5, 8e5, 5e4],
        "result_bits": 4e5,
        "batch_size": 8,
        "workspace_bytes": [0.0, 1e8, 1e8, 1e6],
    }
    return lola.StageProfile(**(arguments | changes))


def toy_clients(**changes):
    """Three clients: ann has most data, little memory, and no link to cid."""
    arguments = {
        "speed": [1.0, 0.5, 2.0],
        "memory_bytes": [3e8, 1e9, 1e9],
        "rate_bps": [[0, 4e7, 0], [4e7, 0, 8e7], [2e7, 1.6e8, 0]],
        "name": ["ann", "bob", "cid"],
        "rows": [100, 0, 20],
        "compute_power_w": [4.0, 2.0, 8.0],
        "transmit_power_w": [1.0, 0.5, 2.0],
    }
    return lola.Clients(**(arguments | changes))


def toy_problem(**changes):
    parts = {"stages": toy_stages(), "clients": toy_clients()}
    parts |= {name: changes.pop(name) for name in tuple(changes) if name in parts}
    return lola.ChainProblem(**parts, **changes)


def random_problem(rng, n_modules=5, n_clients=4):
    """Any objective, training or inference, links that are missing, memory that is short, a start or an order."""
    stages = lola.StageProfile(
        forward_s=rng.uniform(0.1, 1, n_modules),
        backward_s=rng.uniform(0, 2, n_modules),
        memory_bytes=rng.uniform(1, 5, n_modules),
        inference_memory_bytes=rng.uniform(1, 2, n_modules),
        hop_bits=rng.uniform(0, 5, n_modules - 1),
        return_bits=rng.uniform(0, 5, n_modules - 1) * rng.integers(2),
        tunable_bits=1.0,
        result_bits=float(rng.uniform(0, 9)),
        batch_size=8,
        workspace_bytes=rng.uniform(0, 3, n_modules),
        inference_workspace_bytes=rng.uniform(0, 1, n_modules),
    )
    clients = lola.Clients(
        speed=rng.uniform(0.2, 2, n_clients),
        memory_bytes=rng.uniform(4, 5 * n_modules, n_clients),
        rate_bps=rng.uniform(1, 20, (n_clients, n_clients)) * (rng.random((n_clients, n_clients)) < 0.8),
        rows=rng.integers(0, 2, n_clients) | (np.arange(n_clients) == 0),
        compute_power_w=rng.uniform(0, 5, n_clients),
        transmit_power_w=rng.uniform(0, 2, n_clients),
    )
    objective = ("sum", "max", "pipeline")[rng.integers(3)]
    return lola.ChainProblem(
        stages,
        clients,
        objective=objective,
        micro_batches=int(rng.integers(1, 5)) if objective == "pipeline" else 1,
        start=0 if rng.random() < 0.3 else None,
        order=rng.permutation(n_clients) if rng.random() < 0.3 else None,
        inference=bool(rng.integers(2)),
        energy_weight=0.3 if objective == "sum" and rng.random() < 0.5 else 0.0,
    )


def plain_optimum(problem):
    """Try every way to cut the modules and to deal the stages out; infinite where none is possible."""
    best, n_modules = np.inf, problem.n_modules
    for n_stages in range(1, min(n_modules, problem.n_clients) + 1):
        for cuts in combinations(range(1, n_modules), n_stages - 1):
            edges = (0, *cuts, n_modules)
            for taken in permutations(range(problem.n_clients), n_stages):
                best = min(best, plain_objective(problem, edges, taken))
    return best


def plain_objective(problem, edges, taken):
    """What a split takes, in plain Python; infinite where it is not allowed."""
    stages, clients, m, w = problem.stages, problem.clients, problem.micro_batches, problem.energy_weight
    if problem.start not in (None, taken[0]) or (not problem.inference and clients.rows[taken[0]] == 0):
        return np.inf
    if problem.order is not None:
        places = [problem.order.index(k) for k in taken]
        if places != sorted(places):
            return np.inf
    times, weighted = [], 0.0

    def send(bits, sender, receiver):
        nonlocal weighted
        if bits == 0:
            return 0.0
        rate = clients.rate_bps[sender, receiver]
        seconds = bits / m / rate if rate else np.inf
        weighted += seconds * (1 + w * clients.transmit_power_w[sender])
        return seconds

    for s, k in enumerate(taken):
        own = range(edges[s], edges[s + 1])
        for shorter in (range(own.start, end + 1) for end in own):
            if stages.peak_bytes(shorter, inference=problem.inference) > clients.memory_bytes[k]:
                return np.inf
        work = sum(stages.forward_s[i] + (0 if problem.inference else stages.backward_s[i]) for i in own)
        times.append(work / m / clients.speed[k])
        weighted += times[-1] * (1 + w * clients.compute_power_w[k])
        if s:
            cut = edges[s] - 1
            hop = send(stages.hop_bits[cut], taken[s - 1], k)
            times.append(hop if problem.inference else hop + send(stages.return_bits[cut], k, taken[s - 1]))
    if problem.inference and len(taken) > 1:
        times.append(send(stages.result_bits, taken[-1], taken[0]))
    if problem.objective == "sum":
        return weighted
    if problem.objective == "max":
        return max(times)
    return sum(times) + sum([max(times)] * (m - 1))
