"""Chains of clients drawn at random, and their brute force: every order and every cut."""

import itertools
import math

import numpy as np


def instance(rng, n_clients, n_modules, wanted=None):
    """Draw a model and clients: links that differ by direction and some missing, memory for some of the modules.

    The objective is drawn, too, unless one is wanted; micro-batches are the pipeline's.
    """
    rate = rng.lognormal(0.0, 1.0, (n_clients, n_clients)) * (
        rng.random((n_clients, n_clients)) < rng.choice([0.8, 1.0])
    )
    np.fill_diagonal(rate, rng.choice([0.0, np.nan]))
    arguments = {
        "work_s": rng.lognormal(0.0, 0.7, n_modules),
        "memory_bytes": rng.uniform(0.5, 1.5, n_modules),
        "hop_bits": rng.lognormal(0.0, 1.0, n_modules - 1),
        "speed": rng.lognormal(0.0, 0.7, n_clients),
        "client_memory_bytes": rng.uniform(0.3, 1.2, n_clients) * n_modules * rng.choice([0.6, 1.5]),
        "rate_bps": rate,
        "objective": str(rng.choice(["sum", "max", "pipeline"])),
        "micro_batches": int(rng.integers(1, 9)),
        "start": int(rng.integers(n_clients)) if rng.random() < 0.5 else None,
    }
    arguments["objective"] = wanted or arguments["objective"]
    if arguments["objective"] != "pipeline":
        arguments["micro_batches"] = 1
    if rng.random() < 0.3:  # ties, and what takes nothing
        arguments["work_s"] = rng.integers(0, 3, n_modules).astype(float)
        arguments["hop_bits"] = rng.integers(0, 3, n_modules - 1).astype(float)
        arguments["speed"] = rng.choice([1.0, 2.0], n_clients)
        arguments["memory_bytes"] = rng.integers(0, 3, n_modules).astype(float)
    if rng.random() < 0.5:
        arguments["return_bits"] = rng.lognormal(-1.0, 1.0, n_modules - 1) * (rng.random(n_modules - 1) < 0.7)
    if rng.random() < 0.5:
        arguments["ring_bits"] = float(rng.lognormal())
    return arguments


def times(arguments, client_of_module):
    """Return the seconds of each stage and hop, the ring's too; None where memory or a link lacks."""
    work, memory, hop_bits = arguments["work_s"], arguments["memory_bytes"], arguments["hop_bits"]
    rate, seconds = arguments["rate_bps"], []
    stages = [list(group) for _, group in itertools.groupby(range(len(work)), key=lambda i: client_of_module[i])]
    clients = [client_of_module[stage[0]] for stage in stages]
    for stage, client in zip(stages, clients, strict=True):
        if sum(memory[stage]) > arguments["client_memory_bytes"][client] * (1 + 1e-12):
            return None
        seconds.append(sum(work[stage]) / arguments["speed"][client])
    sent = []
    for stage, (i, j) in zip(stages[1:], itertools.pairwise(clients), strict=True):
        cut = stage[0] - 1
        sent.append([(hop_bits[cut], rate[i, j])])
        if "return_bits" in arguments:
            sent[-1].append((arguments["return_bits"][cut], rate[j, i]))
    if len(clients) > 1:
        sent.append([(arguments.get("ring_bits", 0.0), rate[clients[-1], clients[0]])])
    for hop in sent:
        if any(bits > 0 and link == 0 for bits, link in hop):
            return None
        seconds.append(sum(bits / link for bits, link in hop if bits > 0))
    return seconds


def objective(arguments, client_of_module):
    """Return what a chain takes, infinity if it cannot be."""
    seconds = times(arguments, client_of_module)
    if seconds is None:
        return math.inf
    slowest = max(seconds)
    if arguments["objective"] == "max":
        return slowest
    more = arguments["micro_batches"] - 1 if arguments["objective"] == "pipeline" else 0
    return sum(seconds) + more * slowest


def chains(arguments):
    """Yield every chain as the clients of modules: each cut, and for it each choice of clients in a possible order."""
    n_modules, n_clients = len(arguments["work_s"]), len(arguments["speed"])
    order, start = arguments.get("order"), arguments["start"]
    for n_stages in range(1, min(n_modules, n_clients) + 1):
        if order is None:
            clients = list(itertools.permutations(range(n_clients), n_stages))
        else:
            clients = list(itertools.combinations(order, n_stages))
        for cuts in itertools.combinations(range(1, n_modules), n_stages - 1):
            lengths = np.diff([0, *cuts, n_modules])
            for chosen in clients:
                if start is None or chosen[0] == start:
                    yield np.repeat(chosen, lengths)


def brute_force(arguments):
    """Return the least objective of all chains, infinity where there is none."""
    return min((objective(arguments, chain) for chain in chains(arguments)), default=math.inf)
