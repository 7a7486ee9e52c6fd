"""Several chains at once, against every way to deal out the clients, and what their check notices."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from chain_problems import random_problem, toy_clients, toy_problem

import lola
from lola.solvers.cluster_bounds import ClusterPotentials


def best_of_all(problem, n_clusters, goal):
    """Give every client to one of the clusters or to none, and split each cluster on its own."""
    best = None
    for place in product(range(n_clusters + 1), repeat=problem.n_clients):
        sets = [np.flatnonzero(np.array(place) == cluster) for cluster in range(n_clusters)]
        objectives = []
        for members in sets:
            tries = [problem.among(np.r_[k, members[members != k]]) for k in members if k in problem.starts]
            own = []
            for one in tries:
                try:
                    own.append(lola.split(one).objective_s)
                except lola.InfeasibleError:
                    continue
            objectives.append(min(own, default=None))
        if None not in objectives:
            value = -max(objectives) if goal == "slowest" else sum(1 / seconds for seconds in objectives)
            best = value if best is None else max(best, value)
    return None if best is None else abs(best)


@pytest.mark.parametrize("goal", ["slowest", "throughput"])
def test_clusters_are_the_best_of_all(goal):
    rng = np.random.default_rng(7)
    formed = 0
    for _ in range(6):
        problem = replace(random_problem(rng, n_modules=3, n_clients=4), start=None)
        best = best_of_all(problem, 2, goal)
        if best is None:
            with pytest.raises(lola.LolaError):
                lola.split_clusters(problem, 2, goal)
            continue
        clusters = lola.split_clusters(problem, 2, goal)
        clusters.verify(problem)
        formed += 1
        assert clusters.objective == pytest.approx(best, rel=1e-9)
        assert clusters.gap <= 1e-12
    assert formed >= 2


def roomy():
    return toy_problem(clients=toy_clients(memory_bytes=[1e9, 1e9, 1e9]))


def test_two_chains_of_three_clients():
    problem = roomy()
    clusters = lola.split_clusters(problem, 2)
    clusters.verify(problem)
    assert [chain.stages[0][0] for chain in clusters.chains] == [2, 0]
    assert str(clusters) == "2 chains: 2.5 s for the slowest, optimal"
    assert repr(clusters) == f"<Clusters {clusters}>"
    together = lola.split_clusters(problem, 2, "throughput")
    assert together.objective == pytest.approx(1 / 1.25 + 1 / 2.5)


def test_what_was_tampered_with_does_not_verify():
    problem = roomy()
    clusters = lola.split_clusters(problem, 2)
    first = clusters.chains[0]
    for changes, said in (
        ({"chains": (first, first)}, "clusters: a client is in two of them"),
        ({"objective": 2.0}, "objective: is 2.0, not 2.5"),
        ({"bound": 2.6}, "bound: 2.6 is beyond the objective"),
        ({"chains": (first, replace(clusters.chains[1], latency_s=1.0))}, "latency_s: is 1"),
        ({"proof": "of course"}, "proof: got str"),
    ):
        with pytest.raises(lola.VerificationError, match=said):
            replace(clusters, **changes).verify(problem)


def spread(n_clients):
    rng = np.random.default_rng(3)
    position_m, speed = rng.uniform(0, 60, (n_clients, 2)), rng.uniform(0.2, 1, n_clients)
    clients = lola.Clients.from_positions(position_m, speed=speed, memory_bytes=rng.uniform(4e8, 8e8, n_clients))
    return toy_problem(clients=clients)


def test_many_clients_have_a_proof():
    problem = spread(16)
    clusters = lola.split_clusters(problem, 3)
    clusters.verify(problem)
    assert clusters.proof is not None
    assert 0 <= clusters.gap < 1
    with pytest.raises(lola.VerificationError, match="the potentials only show"):
        replace(clusters, bound=(clusters.bound + clusters.objective) / 2).verify(problem)


def test_potentials_that_check_themselves_prove_nothing():
    class Obliging(ClusterPotentials):
        def by_start(self, costs):
            return np.full(costs.first.size, bound)

    problem = spread(16)
    clusters = lola.split_clusters(problem, 3)
    bound = clusters.objective
    proof = type(clusters.proof)(tuple(Obliging(**vars(one)) for one in clusters.proof.potentials))
    with pytest.raises(lola.VerificationError, match="proof: ClusterPotentials alone show a bound"):
        replace(clusters, bound=bound, proof=proof).verify(problem)


@pytest.mark.parametrize("goal", ["slowest", "throughput"])
@pytest.mark.parametrize("n_clients, said", [(6, "bound: .* compared again show"), (16, "proof: got NoneType")])
def test_a_bound_without_a_proof_is_no_bound(goal, n_clients, said):
    problem = spread(n_clients)
    clusters = lola.split_clusters(problem, 2, goal)
    members = [np.flatnonzero(np.arange(problem.n_clients) % 2 == odd) for odd in (0, 1)]
    worse = tuple(lola.split(problem.among(members[odd])) for odd in (0, 1))
    seconds = [chain.objective_s for chain in worse]
    value = max(seconds) if goal == "slowest" else sum(1 / one for one in seconds)
    assert value != clusters.objective
    forged = replace(clusters, chains=worse, objective=value, bound=value, proof=None)
    with pytest.raises(lola.VerificationError, match=said):
        forged.verify(problem)


def test_what_is_no_answer_at_all_does_not_verify():
    problem = roomy()
    clusters = lola.split_clusters(problem, 2)
    first = clusters.chains[0]
    for changes, said in (
        ({"chains": ()}, "clusters: at least one chain was wanted"),
        ({"chains": ("a",)}, "clusters: a Chain was wanted, got str"),
        ({"chains": (replace(first, client_of_module=np.array([], np.int64)),)}, "shape: client_of_module has shape"),
        ({"chains": (replace(first, client_of_module=np.array([9] * 4)),)}, "clients: no client has index"),
        ({"chains": (replace(first, client_of_module=np.array([-1] * 4)),)}, "clients: no client has index"),
        ({"chains": (replace(first, client_of_module=np.array([1] * 4)),)}, "start: client 1 cannot begin"),
        ({"goal": "bogus"}, "goal: must be slowest or throughput, got 'bogus'"),
        ({"objective": float("nan")}, "objective: must be a finite float, got nan"),
        ({"bound": "0"}, "bound: must be a finite float, got '0'"),
    ):
        with pytest.raises(lola.VerificationError, match=said):
            replace(clusters, **changes).verify(problem)


def test_refusals():
    with pytest.raises(ValueError, match="a problem that starts with ann; leave start out, or form one chain"):
        lola.split_clusters(toy_problem(start="ann"), 2)
    with pytest.raises(ValueError, match="n_clusters may be at most 2, the number of starts, got 3"):
        lola.split_clusters(roomy(), 3)
    with pytest.raises(ValueError, match="goal must be 'slowest' or 'throughput', got 'best'"):
        lola.split_clusters(roomy(), 2, "best")
    with pytest.raises(lola.InfeasibleError, match="no clusters exist: 1 disjoint chain"):
        lola.split_clusters(toy_problem(clients=toy_clients(memory_bytes=[1e8, 1e9, 1e9])), 2)
    with pytest.raises(TypeError, match="problem must be a lola.ChainProblem, got int"):
        lola.split_clusters(3, 2)
