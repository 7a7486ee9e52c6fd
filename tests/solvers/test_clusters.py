"""Disjoint chains: against brute force, by their own table and potentials, and what is said where there are none."""

import itertools
import math

import numpy as np
import pytest
from chain_cases import chains, instance, objective

import lola
from lola.solvers import chain_allocation, cluster_allocation


def brute_force(arguments, n_clusters, starts, goal):
    """Every choice of disjoint sets of clients, each with its best chain; what is minimised, infinite without any."""
    least = {}
    for chain in chains(arguments | {"start": None}):
        if chain[0] in starts:
            members = frozenset(chain.tolist())
            least[members] = min(least.get(members, math.inf), objective(arguments, chain))
    best = math.inf
    for chosen in itertools.combinations([pair for pair in least.items() if pair[1] < math.inf], n_clusters):
        seconds = [value for _, value in chosen]
        if len(frozenset().union(*(members for members, _ in chosen))) == sum(len(members) for members, _ in chosen):
            best = min(best, max(seconds) if goal == "slowest" else -sum(1 / value for value in seconds))
    return best


def clustered(rng, n_clients, n_modules):
    """Draw an instance whose clients often have the memory for several chains."""
    arguments = instance(rng, n_clients, n_modules)
    del arguments["start"]
    arguments["client_memory_bytes"] *= rng.choice([1.0, 2.0])
    arguments["work_s"][0] += 0.1  # a throughput is finite
    n_clusters = int(rng.integers(1, min(n_clients, 3) + 1))
    starts = rng.permutation(n_clients)[: int(rng.integers(n_clusters, n_clients + 1))].tolist()
    return arguments, {"n_clusters": n_clusters, "starts": starts, "goal": str(rng.choice(["slowest", "throughput"]))}


def check(arguments, clusters, allocation):
    """Hold the clusters against what they are said to be."""
    chosen = allocation.client_of_module
    assert chosen.shape == (clusters["n_clusters"], len(arguments["work_s"]))
    assert set(chosen[:, 0].tolist()) <= set(clusters["starts"])
    members = [np.unique(chain) for chain in chosen]
    assert np.unique(np.concatenate(members)).size == sum(one.size for one in members)
    seconds = np.array([objective(arguments, chain) for chain in chosen])
    np.testing.assert_allclose(allocation.chain_objective, seconds, rtol=1e-12)
    assert (np.diff(allocation.chain_objective) >= 0).all()
    if clusters["goal"] == "slowest":
        assert allocation.objective == allocation.chain_objective.max()
        assert allocation.bound <= allocation.objective
    else:
        assert allocation.objective == (1.0 / allocation.chain_objective).sum()
        assert allocation.bound >= allocation.objective


def test_optimal_against_brute_force(instances):
    rng = np.random.default_rng(50)
    formed = {"slowest": 0, "throughput": 0}
    for number in range(instances(300)):
        most = (6, 3) if number % 20 == 0 else (5, 4)
        arguments, clusters = clustered(rng, int(rng.integers(1, most[0] + 1)), int(rng.integers(1, most[1] + 1)))
        best = brute_force(arguments, **clusters)
        if best == math.inf:
            with pytest.raises(lola.InfeasibleError, match=r"disjoint chain\(s\) can be formed, . are wanted"):
                cluster_allocation(**arguments, **clusters)
            continue
        allocation = cluster_allocation(**arguments, **clusters)
        assert abs(best) == pytest.approx(allocation.objective, rel=1e-12)
        assert allocation.gap == 0.0
        assert allocation.proof is None
        check(arguments, clusters, allocation)
        formed[clusters["goal"]] += 1
    assert min(formed.values()) >= 5


def test_the_table_is_what_sets_of_clients_take(instances):
    """Not more than the best chain among them; the very same where nothing but the sum or the slowest counts."""
    rng = np.random.default_rng(51)
    for _ in range(instances(4)):
        arguments, clusters = clustered(rng, 5, 4)
        arguments["client_memory_bytes"] += 10.0
        arguments["rate_bps"] = np.ones((5, 5))
        table = cluster_allocation(**arguments, **clusters).subset_s
        assert table.shape == (32,)
        least = {}
        for chain in chains(arguments | {"start": None}):
            if chain[0] in clusters["starts"]:
                index = sum(1 << client for client in set(chain.tolist()))
                least[index] = min(least.get(index, math.inf), objective(arguments, chain))
        for index in range(32):
            within = min((value for inner, value in least.items() if inner & ~index == 0), default=math.inf)
            assert table[index] <= least.get(index, math.inf) * (1 + 1e-12)
            if arguments["objective"] != "pipeline":
                assert table[index] == pytest.approx(least.get(index, math.inf), rel=1e-12)
            assert min(table[inner] for inner in range(32) if inner & ~index == 0) <= within * (1 + 1e-12)


def test_one_cluster_is_a_chain(instances):
    rng = np.random.default_rng(52)
    for _ in range(instances(10)):
        arguments, clusters = clustered(rng, 7, 6)
        clusters |= {"n_clusters": 1, "starts": [2]}
        try:
            chain = chain_allocation(**arguments, start=2)
        except lola.InfeasibleError:
            with pytest.raises(lola.InfeasibleError, match=r"no chain at all begins with client\(s\) 2; ask for fewer"):
                cluster_allocation(**arguments, **clusters)
            continue
        allocation = cluster_allocation(**arguments, **clusters)
        assert allocation.chain_objective[0] == pytest.approx(chain.objective, rel=1e-12)


def crowd(rng, n_clients, n_modules, **more):
    return {
        "work_s": rng.uniform(0.05, 0.2, n_modules),
        "memory_bytes": rng.uniform(0.5, 1.5, n_modules),
        "hop_bits": rng.uniform(1e6, 4e6, n_modules - 1),
        "speed": rng.lognormal(0.0, 0.7, n_clients),
        "client_memory_bytes": rng.uniform(0.3, 1.0, n_clients) * n_modules,
        "rate_bps": rng.lognormal(17.0, 1.0, (n_clients, n_clients)),
        **more,
    }


@pytest.mark.parametrize("goal", ["slowest", "throughput"])
@pytest.mark.parametrize(
    "more", [{}, {"ring_bits": 1e6}, {"objective": "max"}, {"objective": "pipeline", "micro_batches": 4}]
)
def test_many_clients_get_clusters_and_a_bound_that_proves_itself(goal, more):
    rng = np.random.default_rng(53)
    arguments = crowd(rng, 17, 6, **more)
    clusters = {"n_clusters": 3, "starts": [0, 3, 5, 7, 16], "goal": goal}
    allocation = cluster_allocation(**arguments, **clusters)
    check({"objective": "sum", **arguments}, clusters, allocation)
    assert 0.0 <= allocation.gap < 1.5
    assert allocation.subset_s.size == 0
    allocation.proof.check(allocation.bound, **arguments, **clusters)
    better = allocation.bound * (1.001 if goal == "slowest" else 0.999)
    with pytest.raises(lola.VerificationError, match="proof: the potentials only show .*, not "):
        allocation.proof.check(better, **arguments, **clusters)


def test_the_bound_of_many_holds_for_few(instances):
    """Of clients with nothing to offer beside fourteen who are settled: bound and clusters lie about the optimum."""
    rng = np.random.default_rng(54)
    for goal in ("slowest", "throughput"):
        few = crowd(rng, 9, 6)
        many = {name: value for name, value in few.items() if name not in ("speed", "client_memory_bytes", "rate_bps")}
        many["speed"] = np.append(few["speed"], np.ones(6))
        many["client_memory_bytes"] = np.append(few["client_memory_bytes"], np.zeros(6))
        many["rate_bps"] = np.pad(few["rate_bps"], (0, 6))
        clusters = {"n_clusters": 2, "starts": [0, 1, 2, 3], "goal": goal}
        optimum = cluster_allocation(**few, **clusters).objective
        allocation = cluster_allocation(**many, **clusters)
        low, high = sorted([allocation.objective, allocation.bound])
        assert low * (1 - 1e-12) <= optimum <= high * (1 + 1e-12)
        assert allocation.objective == pytest.approx(optimum, rel=0.05)


@pytest.mark.parametrize("damage", ["potential", "price", "slowest", "shape", "none"])
def test_potentials_that_were_changed_are_told(damage):
    arguments = crowd(np.random.default_rng(55), 16, 5)
    clusters = {"n_clusters": 2, "starts": [1, 2, 4], "goal": "slowest"}
    allocation = cluster_allocation(**arguments, **clusters)
    potentials = list(allocation.proof.potentials)
    assert len(potentials) == 2
    for place, one in enumerate(potentials):
        price, in_all, slowest = one.price_s.copy(), one.potential_s.copy(), one.slowest_s.copy()
        if damage == "potential":
            in_all[0, 2] += 100.0
        elif damage == "price":
            price[:] = -1.0
        elif damage == "slowest":
            slowest[0, 2, 3] = -1.0
        elif damage == "shape":
            in_all = in_all[:, 1:]
        potentials[place] = type(one)(price, in_all, slowest)
    proof = type(allocation.proof)(() if damage == "none" else tuple(potentials))
    with pytest.raises(lola.VerificationError, match="proof: (the potentials only|no p|potential|a potential)"):
        proof.check(allocation.bound * 1.0001, **arguments, **clusters)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"starts": []}, r"starts must list clients that have data, at least one, got \[\]; a chain begins where"),
        ({"starts": 3}, "starts must list clients that have data, at least one, got 3"),
        ({"starts": [0.0, 1.0]}, "starts must hold indices of clients, got dtype float64; give integers"),
        ({"starts": [0, 4]}, "starts must be clients from 0 to 3, got 4; correct it"),
        ({"starts": [1, 1]}, r"starts must name each client once, got \[1, 1\]; drop who stands twice"),
        ({"starts": [1]}, "n_clusters may be at most 1, the number of starts, got 2; ask for fewer clusters, or let"),
        ({"n_clusters": 0}, "n_clusters must be at least 1, got 0"),
        ({"goal": "fastest"}, "goal must be 'slowest' or 'throughput', got 'fastest'; choose one of them"),
        ({"goal": "throughput", "work_s": [0.0] * 3}, "goal 'throughput' needs work_s > 0 in some module, got none"),
        ({"objective": "mean"}, "objective must be 'sum', 'max' or 'pipeline', got 'mean'"),
        ({"order": [9]}, r"order\[0\] must be a client from 0 to 3, got 9"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = crowd(np.random.default_rng(56), 4, 3) | {"n_clusters": 2, "starts": [0, 1]} | change
    with pytest.raises(lola.LolaError, match=message):
        cluster_allocation(**arguments)


def test_says_how_many_clusters_there_can_be():
    arguments = crowd(np.random.default_rng(57), 4, 3) | {"memory_bytes": np.ones(3)}
    arguments["client_memory_bytes"] = np.array([2.0, 2.0, 2.0, 0.0])
    with pytest.raises(lola.InfeasibleError, match=r"1 disjoint chain.* formed, 2 are wanted: cluster 2 cannot"):
        cluster_allocation(**arguments, n_clusters=2, starts=[0, 1])
    with pytest.raises(lola.InfeasibleError, match=r"cluster 1 cannot .*; no chain at all begins with client.* 3"):
        cluster_allocation(**arguments, n_clusters=1, starts=[3])
    many = crowd(np.random.default_rng(58), 15, 3)
    many["client_memory_bytes"] = np.append(np.full(14, 9.0), 0.0)
    with pytest.raises(lola.InfeasibleError, match=r"at most 1 disjoint chain.*, 2 are .* client.* 14; ask for"):
        cluster_allocation(**many, n_clusters=2, starts=[0, 14])
    many |= {"client_memory_bytes": np.full(15, 2.0), "memory_bytes": np.full(3, 2.0)}  # three clients a chain
    with pytest.raises(lola.LolaError, match="neither so many disjoint chains nor a proof that there are none"):
        cluster_allocation(**many, n_clusters=6, starts=range(15))


@pytest.mark.parametrize("objective, micro_batches", [("sum", 1), ("max", 1), ("pipeline", 3)])
def test_chains_that_take_no_time_are_chains(objective, micro_batches):
    arguments = crowd(np.random.default_rng(60), 4, 3) | {"work_s": np.zeros(3), "hop_bits": 0.0}
    arguments["client_memory_bytes"] = np.full(4, 9.0)
    arguments |= {"objective": objective, "micro_batches": micro_batches}
    clusters = cluster_allocation(**arguments, n_clusters=2, starts=[0, 1])
    assert (clusters.objective, clusters.bound, clusters.gap) == (0.0, 0.0, 0.0)


def test_order_is_heeded():
    arguments = crowd(np.random.default_rng(59), 6, 4) | {"client_memory_bytes": np.full(6, 3.0)}
    clusters = cluster_allocation(**arguments, n_clusters=2, starts=[0, 1, 2], order=[2, 1, 0, 5, 4, 3])
    for chain in clusters.client_of_module:
        places = [[2, 1, 0, 5, 4, 3].index(client) for client in chain]
        assert places == sorted(places)


@pytest.mark.parametrize("n_clients", [4, 15])
@pytest.mark.parametrize("ring_bits", [0.0, 1e6])
def test_starts_that_are_not_in_the_order_begin_nothing(n_clients, ring_bits):
    arguments = crowd(np.random.default_rng(61), n_clients, 3, ring_bits=ring_bits)
    with pytest.raises(
        lola.InfeasibleError, match=r": 0 disjoint .*begins with client.* 0, 1; ask .*\(starts, order\)"
    ):
        cluster_allocation(**arguments, n_clusters=1, starts=[0, 1], order=[2, 3])


@pytest.mark.parametrize("ring_bits", [0.0, 1e6])
def test_a_proof_holds_where_some_starts_are_not_in_the_order(ring_bits):
    arguments = crowd(np.random.default_rng(62), 16, 4, ring_bits=ring_bits)
    for starts in ([0, 1], [0, 1, 2]):
        clusters = {"n_clusters": 1, "starts": starts, "order": range(1, 16), "goal": "slowest"}
        allocation = cluster_allocation(**arguments, **clusters)
        allocation.proof.check(allocation.bound, **arguments, **clusters)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"goal": "bogus"}, "goal must be 'slowest' or 'throughput', got 'bogus'"),
        ({"starts": [0, 0]}, r"starts must name each client once, got \[0, 0\]"),
        ({"starts": [[0], [1]]}, "starts must list clients that have data, at least one"),
        ({"starts": [True]}, "starts must hold indices of clients, got dtype bool"),
        ({"n_clusters": 0}, "n_clusters must be at least 1, got 0"),
    ],
)
def test_a_proof_is_of_clusters_that_can_be_asked_for(change, message):
    arguments = crowd(np.random.default_rng(63), 16, 4)
    clusters = {"n_clusters": 1, "starts": [0, 1], "goal": "slowest"}
    allocation = cluster_allocation(**arguments, **clusters)
    with pytest.raises(lola.LolaError, match=message):
        allocation.proof.check(allocation.bound, **arguments, **(clusters | change))
