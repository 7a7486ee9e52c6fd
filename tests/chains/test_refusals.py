"""Chain problems and files of chains that cannot be, and what is said of them."""

import json

import numpy as np
import pytest
from chain_problems import toy_clients, toy_problem, toy_stages

import lola
from lola.solvers.chain_proofs import MOST_POTENTIALS, most_critical

BAD_PROBLEMS = [
    ({"stages": None}, "stages must be a lola.StageProfile, got NoneType"),
    ({"clients": [1, 2]}, "clients must be a lola.Clients, got list"),
    ({"objective": "fastest"}, "objective must be one of sum, max, pipeline; got 'fastest'"),
    ({"objective": 3}, "objective must be one of sum, max, pipeline; got 3"),
    ({"micro_batches": 0}, "micro_batches must be at least 1, got 0"),
    ({"micro_batches": 2.0}, "micro_batches must be an integer, got float"),
    (
        {"micro_batches": 4},
        "micro_batches belong to objective=\"pipeline\", got 4 with objective='sum'; leave one of them",
    ),
    (
        {"objective": "pipeline", "micro_batches": 9},
        "micro_batches must be at most the 8 examples of the stages' batch, got 9; profile a larger batch",
    ),
    ({"start": "eve"}, "start: no client is named 'eve'; use a name of the clients, or an index"),
    ({"start": 3}, "start: client must lie in 0…2, got 3"),
    ({"start": 1.5}, "start: a client is an index or a name, got float: 1.5"),
    ({"start": "bob"}, "start must hold training data, got bob with rows = 0; name another, or ask for inference"),
    ({"order": "ann"}, "order must be a list of clients, got one text: 'ann'"),
    ({"order": []}, r"order must name clients once each, at least one; got \[\]"),
    ({"order": ["ann", "ann"]}, r"order must name clients once each, at least one; got \[0, 0\]"),
    ({"order": ["eve"]}, "order: no client is named 'eve'"),
    (
        {"order": ["bob"]},
        "order must name a client with training data, got none with rows > 0; add one, or ask for inf",
    ),
    ({"order": ["cid"], "start": "ann"}, "start must be in order, got ann, which is not; add it, or leave start out"),
    ({"inference": 1}, "inference must be True or False, got 1"),
    ({"energy_weight": -1.0}, "energy_weight must be finite and >= 0, got -1.0"),
    (
        {"energy_weight": 1.0, "objective": "max"},
        "energy_weight belongs to objective=\"sum\", got 1 with objective='max'",
    ),
    (
        {"energy_weight": 1.0, "clients": toy_clients(compute_power_w=None)},
        "energy_weight needs the clients' compute_power_w and transmit_power_w, got clients without; add both",
    ),
    (
        {"clients": toy_clients(rows=[0, 0, 0])},
        "a client with training data must start a chain, got rows = 0 for all; correct rows, leave it out, or ask for",
    ),
]


@pytest.mark.parametrize("changes, said", BAD_PROBLEMS)
def test_a_bad_problem_is_refused(changes, said):
    with pytest.raises(lola.LolaError, match=said):
        toy_problem(**changes)


INFEASIBLE = [
    ({"clients": toy_clients(memory_bytes=[1e8, 2e8, 3e8])}, r"no client has the memory for module\(s\) 1, 2"),
    (
        {"clients": toy_clients(memory_bytes=[2.1e8, 0, 4.2e8])},
        "the modules need 9.1e.08 bytes, all clients together offer",
    ),
    ({"start": "ann", "clients": toy_clients(memory_bytes=[1e8, 1e9, 1e9])}, "ann, the start, must hold module 0"),
    (
        {"start": "ann", "clients": toy_clients(rate_bps=np.zeros((3, 3)))},
        "bob, cid cannot be reached from the start",
    ),
]


@pytest.mark.parametrize("changes, said", INFEASIBLE)
def test_what_no_chain_can_do_is_said(changes, said):
    with pytest.raises(lola.InfeasibleError, match=f"no chain exists: {said}"):
        lola.split(toy_problem(**changes))


def test_a_problem_is_wanted():
    with pytest.raises(TypeError, match="problem must be a lola.ChainProblem, got StageProfile"):
        lola.split(toy_stages())
    with pytest.raises(TypeError, match="chain must be a lola.Chain, got str"):
        lola.save_chain("chain.json", toy_problem(), "other.json")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "chain.json"
    problem = toy_problem(start="ann")
    lola.save_chain(lola.split(problem), problem, path)
    return path.read_text()


def put(*place, value):
    def change(data):
        for key in place[:-1]:
            data = data[key]
        data[place[-1]] = value

    return change


BAD_FILES = [
    (put("chain", value=3), "chain: a table .* was wanted, got 3"),
    (put("colour", value=3), "unknown key 'colour'"),
    (put("chain", "ring_s", value="1 s"), "chain, ring_s: a plain number was wanted"),
    (
        put("chain", "client_of_module", value=[]),
        "chain, client_of_module: a client for each module was wanted, got none",
    ),
    (put("chain", "hop_s", 0, value=None), r"chain, hop_s\[0\]: a plain number was wanted .*, got None"),
    (put("proof", value={}), "proof: a list of tables was wanted, got {}"),
    (put("proof", 0, value=[]), r"proof\[0\]: a table .* was wanted, got \[\]"),
    (put("proof", 0, "critical", value=[0.5]), r"proof\[0\], critical\[0\]: an integer was wanted, got 0.5"),
    (
        put("proof", 0, "potential_s", value=[]),
        r"potential_s: 5 lists of 3 numbers were wanted, got \[\]",
    ),
    (
        put("proof", 0, "potential_s", value=[[[1.0], [1.0, 2.0]]]),
        r"potential_s: 5 lists of 3 numbers were wanted, got \[\[\[1.0\]",
    ),
    (put("proof", 0, "potential_s", value=[["a"] * 3] * 5), r"potential_s\[0\]: a plain number was wanted .*, got 'a'"),
    (put("proof", 0, "own_s", value="none"), r"proof\[0\], own_s: a list of numbers was wanted, got 'none'"),
    (put("proof", 0, "below_s", value="inf"), r"proof\[0\], below_s\[0\]: a plain number was wanted .*, got 'inf'"),
    (
        put("proof", 0, "critical", value=list(range(60))),
        r"critical: at most 3 clients were wanted, .* on 3 clients, got 60",
    ),
    (put("problem", "start", value="ann"), "problem, start: an integer was wanted, got 'ann'"),
    (put("problem", "order", value="ann"), "problem, order: a list of integers was wanted, got 'ann'"),
    (put("problem", "objective", value=None), "problem: objective must be one of sum, max, pipeline; got None"),
    (put("problem", "energy_weight", value="much"), "problem, energy_weight: a plain number was wanted"),
    (put("problem", "clients", "rate_bps", value=3), "clients, rate_bps: a list of lists was wanted, got 3"),
    (
        put("problem", "clients", "rate_bps", 0, 1, value=-1.0),
        "clients: rate_bps must be 0 .* from client 0 to client 1",
    ),
    (put("problem", "clients", "name", value="ann"), "clients: name must be a sequence of names, got one text: 'ann'"),
    (put("problem", "stages", "hop_bits", value=[1.0]), "stages: hop_bits must have 3 entries"),
    (put("version", value=2), '"version" must be 1, got 2; a newer lola may have written it'),
    (put("format", value="lola-schedule"), '"format" must be "lola-chain", got .lola-schedule.; lola verify takes it'),
]


@pytest.mark.parametrize("change, said", BAD_FILES)
def test_a_bad_file_is_refused(change, said, saved, tmp_path):
    data = json.loads(saved)
    change(data)
    (tmp_path / "chain.json").write_text(json.dumps(data))
    with pytest.raises(lola.FormatError, match=said):
        lola.load_chain(tmp_path / "chain.json")


def test_a_small_file_cannot_ask_for_more_memory_than_the_solver(tmp_path):
    n_clients = 22
    links = np.full((n_clients, n_clients), 8e6)
    clients = lola.Clients(speed=np.arange(1.0, 23.0), memory_bytes=np.full(n_clients, 1e10), rate_bps=links)
    problem = toy_problem(clients=clients, start=0)
    lola.save_chain(lola.split(problem), problem, tmp_path / "chain.json")
    data = json.loads((tmp_path / "chain.json").read_text())
    put("proof", 0, "critical", value=list(range(17)))(data)  # 2**17 states of 5 times 22 numbers: 110 MiB
    (tmp_path / "chain.json").write_text(json.dumps(data))
    with pytest.raises(lola.FormatError, match=r"at most 16 clients .* counts for 4 modules on 22 clients, got 17"):
        lola.load_chain(tmp_path / "chain.json")


@pytest.mark.parametrize("n_modules, n_clients", [(4, 15), (24, 16), (12, 22), (100, 100), (3000, 3000)])
def test_the_most_critical_clients_are_those_whose_potentials_fit(n_modules, n_clients):
    most, each = most_critical(n_modules, n_clients), (n_modules + 1) * n_clients
    assert most == 0 or each << most <= MOST_POTENTIALS
    assert each << most + 1 > MOST_POTENTIALS
