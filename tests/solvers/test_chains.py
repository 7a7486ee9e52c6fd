"""Chains of clients: against brute force, in an order or any, and by their own proof."""

import math

import numpy as np
import pytest
from chain_cases import brute_force, chains, instance, objective

from lola.solvers import InfeasibleError, chain_allocation
from lola.solvers.chain_costs import chain_costs
from lola.solvers.chain_subsets import best_of_subsets
from lola.solvers.errors import LolaTypeError, LolaValueError, VerificationError


def held_against_brute_force(arguments):
    """Assert that the optimum is that of brute force, and proven; say whether there is any."""
    best = brute_force(arguments)
    if best == math.inf:
        with pytest.raises(InfeasibleError, match="no chain exists"):
            chain_allocation(**arguments)
        return False
    chain = chain_allocation(**arguments)
    assert chain.objective == pytest.approx(best, rel=1e-12, abs=0)
    assert objective(arguments, chain.client_of_module) == pytest.approx(best, rel=1e-12, abs=0)
    assert chain.client_of_module.dtype == np.int64
    assert chain.lower_bound == chain.objective
    assert chain.gap == 0.0
    chain.proof.check(chain.lower_bound, **arguments)
    if best > 0:
        with pytest.raises(VerificationError, match="proof: the potentials only show that chains take"):
            chain.proof.check(best * (1 + 1e-9), **arguments)
    return True


def test_in_an_order_against_brute_force_over_cuts(instances):
    rng = np.random.default_rng(60)
    feasible = 0
    for _ in range(instances(250)):
        n_clients = int(rng.integers(1, 8))
        arguments = instance(rng, n_clients, int(rng.integers(1, 9)))
        order = rng.permutation(n_clients)[: rng.integers(1, n_clients + 1)].tolist()
        if arguments["start"] is not None:
            arguments["start"] = order[int(rng.integers(len(order)))]
        feasible += held_against_brute_force(arguments | {"order": order})
    assert feasible > 5


def test_in_any_order_against_brute_force(instances):
    rng = np.random.default_rng(61)
    feasible = 0
    for _ in range(instances(100)):
        arguments = instance(rng, int(rng.integers(1, 6)), int(rng.integers(1, 7)))
        feasible += held_against_brute_force(arguments)
    assert feasible > 5


@pytest.mark.parametrize("wanted", ["sum", "max"])
def test_the_best_chain_of_every_subset(instances, wanted):
    rng = np.random.default_rng(62)
    feasible = 0
    for _ in range(instances(10)):
        n_clients = int(rng.integers(1, 6))
        arguments = instance(rng, n_clients, int(rng.integers(1, 6)), wanted)
        best = np.full((n_clients, 2**n_clients), np.inf)
        for chain in chains(arguments | {"start": None}):
            used = sum(2 ** int(client) for client in set(chain))
            best[chain[0], used] = min(best[chain[0], used], objective(arguments, chain))
        for first in range(n_clients):
            found = best_of_subsets(chain_costs(**arguments | {"start": first}), first)
            np.testing.assert_allclose(found, best[first], rtol=1e-12)
        feasible += np.isfinite(best).any()
    assert feasible > 3


def roomy(**changes):
    """Three modules of a byte each, three clients with room for all, links between all."""
    arguments = {
        "work_s": [1.0, 1.0, 1.0],
        "memory_bytes": [1.0, 1.0, 1.0],
        "hop_bits": 1.0,
        "speed": [1.0, 2.0, 4.0],
        "client_memory_bytes": [3.0, 3.0, 3.0],
        "rate_bps": np.ones((3, 3)),
    }
    return arguments | changes


ONE_WAY = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory_bytes": [1.0, 4.0, 5.0]}, r"no client has the memory for module\(s\) 1, 2, which need at least 4"),
        ({"client_memory_bytes": [1.0, 1.0, 0.5]}, "the modules need 3 bytes, all clients together offer 2;"),
        (
            {"client_memory_bytes": [0.0, 3.0, 3.0], "start": 0},
            "client 0, the start, must hold module 0, which needs",
        ),
        (
            {"rate_bps": ONE_WAY, "client_memory_bytes": [1.0, 1.0, 3.0], "start": 0},
            r"client\(s\) 2 cannot be reached from the start, client 0, and without them none fits; add links \(both",
        ),
        (
            {"rate_bps": ONE_WAY, "client_memory_bytes": [1.0, 1.0, 1.0]},
            "links and memory leave no way to cut the 3 modules among the 3 clients; add links, or free memory",
        ),
        (
            {
                "memory_bytes": [[5, 20, 30], [0, 5, 20], [0, 0, 5]],
                "client_memory_bytes": [6.0] * 3,
                "rate_bps": ONE_WAY,
            },
            "links and memory leave no way to cut the 3 modules among the 3 clients; add links, or free memory",
        ),
        (
            {"memory_bytes": [[5, 9, 14], [0, 5, 11], [0, 0, 5]], "client_memory_bytes": [5.0, 8.0, 0.0]},
            "the modules need 14 bytes, all clients together offer 13;",
        ),
        (
            {"order": [2, 1], "client_memory_bytes": [3.0, 1.0, 1.0]},
            "the modules need 3 bytes, all clients of the order together offer 2;",
        ),
    ],
)
def test_says_why_there_is_no_chain(changes, message):
    with pytest.raises(InfeasibleError, match=f"no chain exists: {message}"):
        chain_allocation(**roomy(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "mean"}, "objective must be 'sum', 'max' or 'pipeline', got 'mean'; choose one"),
        ({"micro_batches": 0}, "micro_batches must be at least 1, got 0"),
        (
            {"micro_batches": 2},
            "micro_batches are of objective 'pipeline', got 2 with 'sum'; leave them out, or",
        ),
        ({"micro_batches": 2, "objective": "max"}, "micro_batches are of objective 'pipeline', got 2 with 'max'"),
        ({"work_s": [1.0, -1.0, 1.0]}, "work_s must be finite and >= 0, got -1.0 at index 1"),
        ({"work_s": [1.0, np.nan, 1.0]}, "work_s must be finite and >= 0, got nan at index 1"),
        ({"memory_bytes": [1.0, 1.0]}, "memory_bytes must have 3 entries, as many as work_s; got 2"),
        (
            {"hop_bits": [1.0, 1.0, 1.0]},
            "hop_bits must be one number, or 2, one for each cut between the 3",
        ),
        ({"hop_bits": -1.0}, "hop_bits must be finite and >= 0, got -1.0"),
        ({"return_bits": [[1.0, 1.0]]}, r"return_bits must have 1 axis"),
        ({"return_bits": np.inf}, "return_bits must be finite and >= 0, got inf"),
        ({"ring_bits": -1.0}, "ring_bits must be finite and >= 0, got -1.0"),
        ({"speed": [1.0, 0.0, 1.0]}, "speed must be finite and > 0, got 0.0 at index 1"),
        ({"client_memory_bytes": [1.0]}, "client_memory_bytes must have 3 entries, as many as speed; got 1"),
        (
            {"rate_bps": np.ones((3, 2))},
            r"rate_bps must be a row and a column for each of the 3 clients, got",
        ),
        (
            {"rate_bps": -np.ones((3, 3))},
            "rate_bps must be finite and >= 0 .*, got -1.0 from client 0 to client 1",
        ),
        (
            {"rate_bps": np.full((3, 3), np.nan)},
            "rate_bps must be finite and >= 0 .*, got nan from client 0 to",
        ),
        ({"start": 3}, "start must be a client from 0 to 2, got 3"),
        ({"start": 1.0}, "start must be a client's index, an integer, got float: 1.0"),
        ({"order": []}, "order must be a sequence of clients, at least one"),
        ({"order": [0, 3]}, r"order\[1\] must be a client from 0 to 2, got 3"),
        ({"order": [0, 1, 0]}, "order must name each client at most once, got client 0 again at 2"),
        ({"order": [0, 1], "start": 2}, "order must name the start, client 2, which it leaves out; add it"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises((LolaTypeError, LolaValueError), match=message):
        chain_allocation(**roomy(**changes))
