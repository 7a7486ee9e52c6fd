"""Proofs of chains: held against plain loops, told when they are changed; and bounds where not all can be settled."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from chain_cases import brute_force, instance, objective, times

from lola.solvers import InfeasibleError, chain_allocation, chain_beam, chain_search, chains
from lola.solvers.chain_proofs import ChainProof
from lola.solvers.errors import LolaValueError, VerificationError


def shown_in_all(arguments, level):
    """Return what potentials show that chains take in all, by plain loops over states, stages and hops."""
    n_modules, n_clients = len(arguments["work_s"]), len(arguments["speed"])
    start, first, critical = arguments["start"], level.first, level.critical.tolist()
    price = level.price_s
    potential = np.stack([level.potential_s] * 2 ** len(critical))
    potential.reshape(-1)[level.index] = level.own_s

    def below(seconds, which):
        """One of the times of a chain, infinite where it cannot be, or is no less than the limit."""
        return seconds[which] if seconds is not None and seconds[which] < level.below_s else math.inf

    def alone(k, i, j):
        modules = {name: np.asarray(arguments[name])[i:j] for name in ("work_s", "memory_bytes")}
        return below(times(arguments | modules, np.full(j - i, k)), 0)

    def hop(i, k, t):
        free = {"memory_bytes": np.zeros(n_modules), "ring_bits": 0.0}
        return below(times(arguments | free, np.repeat([k, t], [i, n_modules - i])), 2)

    def ring(last):
        two = {"memory_bytes": np.zeros(2), "work_s": np.zeros(2), "hop_bits": np.zeros(1), "return_bits": np.zeros(1)}
        return below(times(arguments | two, np.array([first, last])), -1)

    def rises(s, k, i, reached):
        after = s
        if k in critical:
            if s >> critical.index(k) & 1:
                return
            after = s | 1 << critical.index(k)
        for j in range(i + 1, n_modules + 1):
            limit = reached + alone(k, i, j) + price[k]
            assert potential[after, j, k] <= limit * (1 + 1e-13)

    for k in range(n_clients):
        if (first is None and start in (None, k)) or first == k:
            rises(0, k, 0, 0.0)
    least = math.inf
    for s in range(potential.shape[0]):
        for k in range(n_clients):
            for i in range(1, n_modules):
                for t in range(n_clients):
                    if t not in (k, first):
                        rises(s, t, i, potential[s, i, k] + hop(i, k, t))
            closes = 0.0 if first in (None, k) else ring(k)
            least = min(least, potential[s, n_modules, k] + closes)
    return least - price.sum()


def test_potentials_rise_by_no_more_than_plain_loops_say(instances):
    rng = np.random.default_rng(80)
    proven = 0
    for _ in range(instances(15)):
        arguments = instance(rng, int(rng.integers(1, 5)), int(rng.integers(2, 6)))
        try:
            chain = chain_allocation(**arguments)
        except InfeasibleError:
            continue
        proven += 1
        more = {"sum": 0, "max": 1, "pipeline": arguments["micro_batches"] - 1}[arguments["objective"]]
        in_all = 0 if arguments["objective"] == "max" else 1
        levels = chain.proof.potentials
        for first, group in itertools.groupby(levels, key=lambda level: level.first):
            group = list(group)
            limits = [level.below_s for level in group] + [0.0]
            bounds = [shown_in_all(arguments, level) for level in group]
            shown = [
                bound if bound == math.inf else in_all * bound + more * limit
                for bound, limit in zip(bounds, limits[1:], strict=True)
            ]
            if limits[0] < math.inf:
                shown.append(more * limits[0])
            assert min(shown) >= chain.lower_bound * (1 - 1e-12), first
    assert proven > 3


def changed(level, **arrays):
    """Return potentials with some numbers of their arrays changed."""
    copies = {name: getattr(level, name).copy() for name in arrays}
    for name, (index, value) in arrays.items():
        copies[name][index] = value
    return replace(level, **copies)


@pytest.fixture(scope="module", params=["sum", "max", "pipeline"])
def proven(request):
    rng = np.random.default_rng(81)
    while True:
        arguments = instance(rng, 5, 6, request.param) | {"start": 2}
        if request.param == "pipeline":
            arguments["micro_batches"] = 4
        arguments["client_memory_bytes"] = np.full(5, np.sum(arguments["memory_bytes"]) / 2.5)
        try:
            chain = chain_allocation(**arguments)
        except InfeasibleError:
            continue
        if any(level.critical.size and level.own_s.size > 1 for level in chain.proof.potentials):
            return arguments, chain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda level: changed(level, potential_s=(-1, 0.0), own_s=(slice(None), 0.0)), "the potentials only show"),
        (lambda level: changed(level, potential_s=((1, 2), np.nan)), "a potential is below 0"),
        (lambda level: changed(level, own_s=(0, -1.0)), "a potential is below 0"),
        (
            lambda level: changed(level, own_s=(0, np.inf), potential_s=(slice(None), np.inf)),
            "a potential rises",
        ),
        (
            lambda level: changed(level, own_s=(0, 1e30), potential_s=(slice(None), 1e20)),
            "a potential of its own",
        ),
        (lambda level: changed(level, index=(0, -1)), "a potential is nowhere, or where another is"),
        (lambda level: changed(level, index=(0, level.index[1])), "a potential is nowhere, or where another is"),
        (lambda level: changed(level, price_s=(0, -1.0)), "a price is no price"),
        (lambda level: changed(level, critical=(0, 9)), "critical clients are not distinct clients"),
        (lambda level: replace(level, potential_s=level.potential_s[1:]), "potentials of another shape"),
        (
            lambda level: replace(level, potential_s=level.potential_s * 2.0, own_s=level.own_s * 2.0),
            "the potentials only show",
        ),
        (lambda level: replace(level, below_s=0.0), "the potentials only show"),
        (lambda level: replace(level, first=1), "potentials of a client that none begins with"),
    ],
)
def test_a_changed_proof_is_told(proven, change, message):
    arguments, chain = proven
    chain.proof.check(chain.lower_bound, **arguments)
    levels = chain.proof.potentials
    for place, level in enumerate(levels):
        if level.own_s.size < 2:
            continue
        changed_level = change(level)
        if np.isinf(changed_level.potential_s[-1]).all() and changed_level.below_s > 0.0 and message.endswith("show"):
            continue  # that there is no such chain, twice as much says, too
        wrong = ChainProof((*levels[:place], changed_level, *levels[place + 1 :]))
        with pytest.raises(VerificationError, match=f"proof: {message}|proof: limits do not fall"):
            wrong.check(chain.lower_bound, **arguments)
    with pytest.raises(VerificationError, match="the potentials only show"):
        ChainProof(()).check(chain.lower_bound, **arguments)
    with pytest.raises(VerificationError, match="nan s is no bound"):
        chain.proof.check(math.nan, **arguments)


def test_a_proof_of_another_problem_is_told(proven):
    arguments, chain = proven
    with pytest.raises(VerificationError, match="the potentials only show|rises without bound"):
        chain.proof.check(chain.lower_bound, **arguments | {"speed": arguments["speed"] * 1.01, "hop_bits": 0.0})
    with pytest.raises(VerificationError, match="potentials of a client that none begins with"):
        chain.proof.check(chain.lower_bound, **arguments | {"start": 1})


@pytest.fixture
def cramped(monkeypatch):
    """Room for no critical client, no price, and one beginning of a chain, from two clients on."""
    for module in (chains, chain_beam, chain_search):
        monkeypatch.setattr(module, "MOST_CLIENTS", 1)
    monkeypatch.setattr(chain_search, "MOST_POTENTIALS", 0)
    monkeypatch.setattr(chain_search, "_STEPS", 1)
    monkeypatch.setattr(chain_beam, "_WIDTH", 1)


def test_what_is_not_settled_has_a_bound(cramped, instances):
    """Never above the optimum, and below the objective wherever that is not the optimum."""
    rng = np.random.default_rng(82)
    gaps = 0
    for _ in range(instances(120)):
        arguments = instance(rng, int(rng.integers(2, 6)), int(rng.integers(2, 6)))
        best = brute_force(arguments)
        try:
            chain = chain_allocation(**arguments)
        except InfeasibleError:
            assert best == math.inf
            continue
        except LolaValueError as error:
            assert "chains: neither a chain nor a proof" in str(error)
            continue
        assert chain.lower_bound <= best * (1 + 1e-12)
        assert chain.objective == pytest.approx(objective(arguments, chain.client_of_module), rel=1e-12)
        assert chain.objective >= best * (1 - 1e-12)
        chain.proof.check(chain.lower_bound, **arguments)
        if chain.objective > best * (1 + 1e-9):
            assert chain.lower_bound < chain.objective
            assert chain.gap > 0.0
            gaps += 1
    assert gaps > 0


def test_neither_a_chain_nor_a_proof_is_said(cramped):
    """The cheap way to client 3 passes client 1, to which the only way on leads."""
    rate = np.zeros((4, 4))
    rate[0, 1], rate[[0, 2, 1, 3], [2, 3, 3, 1]] = 2.0, 1.0
    one_each = {"work_s": np.ones(4), "memory_bytes": np.ones(4), "client_memory_bytes": np.ones(4)}
    with pytest.raises(LolaValueError, match="neither a chain nor a proof that there is none was found among so many"):
        chain_allocation(**one_each, hop_bits=1.0, speed=np.ones(4), rate_bps=rate, start=0)


@pytest.mark.parametrize("wanted", ["sum", "max", "pipeline"])
def test_many_clients(wanted):
    """More than may all become critical: a chain, a bound, and a proof of it."""
    rng = np.random.default_rng(83)
    arguments = instance(rng, 24, 10, wanted) | {"start": None, "ring_bits": 0.0}
    if wanted == "pipeline":
        arguments["micro_batches"] = 4
    arguments["client_memory_bytes"] = np.full(24, np.sum(arguments["memory_bytes"]) / 4)
    chain = chain_allocation(**arguments)
    assert objective(arguments, chain.client_of_module) == pytest.approx(chain.objective, rel=1e-12)
    assert chain.gap < 0.05
    chain.proof.check(chain.lower_bound, **arguments)
    with pytest.raises(VerificationError, match="the potentials only show"):
        chain.proof.check(chain.lower_bound * 1.001 + chain.objective * 0.05, **arguments)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
@pytest.mark.parametrize("wanted", ["sum", "max", "pipeline"])
def test_units_do_not_matter(wanted, scale):
    rng = np.random.default_rng(84)
    feasible = 0
    for _ in range(5):
        arguments = instance(rng, 5, 6, wanted)
        other = arguments | {
            "work_s": arguments["work_s"] * scale,
            "rate_bps": arguments["rate_bps"] / scale,
            "memory_bytes": arguments["memory_bytes"] * scale,
            "client_memory_bytes": arguments["client_memory_bytes"] * scale,
        }
        try:
            chain = chain_allocation(**arguments)
        except InfeasibleError:
            with pytest.raises(InfeasibleError, match="no chain exists"):
                chain_allocation(**other)
            continue
        feasible += 1
        scaled = chain_allocation(**other)
        assert scaled.objective == pytest.approx(chain.objective * scale, rel=1e-12, abs=0)
        assert scaled.gap == 0.0
        scaled.proof.check(scaled.lower_bound, **other)
    assert feasible > 0
