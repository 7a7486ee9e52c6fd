"""Splits against every split there is, what their proofs notice, and what a chain shows of itself."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from chain_problems import plain_objective, plain_optimum, random_problem, toy_clients, toy_problem, toy_stages

import lola
from lola.chains.timeline import timeline
from lola.solvers.chain_proofs import ChainPotentials


def test_splits_are_the_best_of_all(instances, tmp_path):
    rng = np.random.default_rng(14)
    infeasible = 0
    for _ in range(instances(60)):
        problem = random_problem(rng)
        best = plain_optimum(problem)
        if best == np.inf:
            infeasible += 1
            with pytest.raises(lola.InfeasibleError, match="no chain exists: "):
                lola.split(problem)
            continue
        chain = lola.split(problem)
        chain.verify(problem)
        assert chain.objective_s == pytest.approx(best, rel=1e-12)
        assert chain.is_proven_optimal
        edges = (0, *(run.stop for _, run in chain.stages))
        assert plain_objective(problem, edges, [k for k, _ in chain.stages]) == pytest.approx(best, rel=1e-12)
        lola.save_chain(chain, problem, tmp_path / "chain.json")
        again, same = lola.load_chain(tmp_path / "chain.json")
        again.verify(same)
        assert (again.to_dict(), same.digest()) == (chain.to_dict(), problem.digest())
    assert infeasible < instances(60) / 2


def test_a_chain_by_hand():
    """Ann can hold the embedding alone: a block does not fit. From her, only bob leads to cid, who is fast."""
    problem = toy_problem(start="ann")
    chain = lola.split(problem)
    assert chain.stages == ((0, range(0, 1)), (1, range(1, 2)), (2, range(2, 4)))
    assert chain.times.forward_s == pytest.approx([0.1, 0.8, 0.25])
    assert chain.times.backward_s == pytest.approx([0.0, 1.2, 0.45])
    assert (chain.times.hop_s.tolist(), chain.times.return_s.tolist()) == ([0.2, 0.1], [0.0, 0.05])
    assert chain.latency_s == chain.objective_s == pytest.approx(3.15)
    assert chain.name == ("ann", "bob", "cid")
    assert str(chain) == "4 modules on 3 clients: 3.15 s a batch, proven optimal"
    anybody = lola.split(toy_problem())
    assert anybody.stages == ((2, range(0, 4)),)
    assert str(anybody) == "4 modules on 1 client: 1.25 s a batch, proven optimal"


def test_who_holds_no_data_starts_no_training():
    rich = toy_clients(speed=[1.0, 50.0, 2.0])
    assert lola.split(toy_problem(clients=rich)).stages[0][0] != 1
    assert lola.split(toy_problem(clients=replace(rich, rows=None))).stages == ((1, range(0, 4)),)
    assert lola.split(toy_problem(clients=rich, inference=True)).stages == ((1, range(0, 4)),)


def test_the_answer_of_inference_comes_back():
    far = toy_clients(rate_bps=[[0, 4e7, 0], [1e5, 0, 8e7], [0, 1.6e8, 0]], memory_bytes=[2e8, 1e9, 1e9])
    stages = toy_stages(workspace_bytes=0.0)
    chain = lola.split(toy_problem(stages=stages, clients=far, inference=True, start="ann"))
    assert chain.stages == ((0, range(0, 1)), (1, range(1, 4)))
    assert chain.times.ring_s == 4e5 / 1e5
    assert not chain.times.backward_s.any()
    assert chain.latency_s == pytest.approx(0.1 + 0.2 + 1.8 + 4.0)


def test_energy_pulls_work_to_who_draws_little():
    clients = toy_clients(rate_bps=np.full((3, 3), 1e9), rows=None, compute_power_w=[4.0, 1.0, 8.0])
    fast = lola.split(toy_problem(clients=clients))
    frugal = lola.split(toy_problem(clients=clients, energy_weight=10.0))
    assert (fast.stages[0][0], frugal.stages[0][0]) == (2, 1)
    joules = [
        lola.chain_metrics(chain, toy_problem(clients=clients, energy_weight=weight)).energy_j.sum()
        for chain, weight in ((fast, 0.0), (frugal, 10.0))
    ]
    assert joules[1] < joules[0]
    assert frugal.objective_s == pytest.approx(frugal.latency_s + 10.0 * joules[1])


def test_micro_batches_share_out_a_batch():
    one, four = (toy_problem(start="ann", objective="pipeline", micro_batches=m) for m in (1, 4))
    chain = lola.split(four)
    assert chain.times.stations() == pytest.approx(lola.split(one).times.stations() / 4)
    stations = chain.times.stations()
    assert chain.latency_s == pytest.approx(stations.sum() + 3 * stations.max())
    assert chain.latency_s < lola.split(one).latency_s


def tampered(chain):
    """Every way to claim something else, and what is said of it."""
    times, (level, *_) = chain.times, chain.proof.potentials
    split = chain.client_of_module

    def proven(**changes):
        return replace(chain, proof=type(chain.proof)((replace(level, **changes),)))

    yield "one stage a client", replace(chain, client_of_module=np.array([0, 1, 0, 1]))
    yield "clients: no client has index", replace(chain, client_of_module=np.array([0, 1, 1, 7]))
    yield "start: is client 2", replace(chain, client_of_module=np.array([2, 2, 2, 2]))
    yield "memory: modules 0 to 1 need", replace(chain, client_of_module=np.array([0, 0, 1, 1]))
    yield "links: a hop goes where there is no link", replace(chain, client_of_module=np.array([0, 2, 1, 1]))
    yield "shape: client_of_module", replace(chain, client_of_module=split[:3])
    yield "shape: client_of_module must be of int64", replace(chain, client_of_module=split.astype(float))
    for name in ("forward_s", "backward_s", "hop_s"):
        faster = replace(times, **{name: getattr(times, name) * 0.9})
        yield f"{name}: is ", replace(chain, times=faster)
    yield "return_s: is ", replace(chain, times=replace(times, return_s=times.return_s + 0.1))
    yield "ring_s: is 1", replace(chain, times=replace(times, ring_s=1.0))
    yield "times: must be ChainTimes", replace(chain, times=None)
    yield "latency_s: is ", replace(chain, latency_s=chain.latency_s * 0.99)
    yield "objective_s: is ", replace(chain, objective_s=chain.objective_s * 0.99)
    yield "objective_s: must be a float", replace(chain, objective_s=None)
    yield "micro_batches: is 2", replace(chain, micro_batches=2)
    yield "bound: .* is above what it bounds", replace(chain, lower_bound_s=chain.objective_s * 1.01)
    yield "bound: nan", replace(chain, lower_bound_s=np.nan)
    yield "bound: must be a float", replace(chain, lower_bound_s=None)
    yield "proof: a ChainProof was wanted", replace(chain, proof=None)
    yield "proof: ", replace(chain, proof=type(chain.proof)(()))
    yield "proof: the potentials only show", proven(price_s=level.price_s + 1.0)
    yield "proof: ", proven(potential_s=np.where(np.isinf(level.potential_s), np.inf, level.potential_s * 0.5))
    yield "proof: ", proven(potential_s=level.potential_s + 1.0)
    yield "proof: potentials of another shape", proven(potential_s=level.potential_s[:, :2])


def test_potentials_that_check_themselves_prove_nothing():
    class Obliging(ChainPotentials):
        def bound_s(self, costs):
            return np.inf

    problem = toy_problem(start="ann")
    chain = lola.split(problem)
    levels = tuple(Obliging(**vars(level)) for level in chain.proof.potentials)
    with pytest.raises(lola.VerificationError, match="proof: ChainPotentials alone show a bound"):
        replace(chain, proof=type(chain.proof)(levels)).verify(problem)


def test_a_chain_that_was_tampered_with_does_not_verify():
    problem = toy_problem(start="ann")
    chain = lola.split(problem)
    chain.verify(problem)
    for said, other in tampered(chain):
        with pytest.raises(lola.VerificationError, match=said):
            other.verify(problem)
    with pytest.raises(lola.VerificationError, match="is this the problem that was solved"):
        chain.verify(toy_problem(start="ann", clients=toy_clients(speed=[1.0, 0.6, 2.0])))
    with pytest.raises(lola.VerificationError, match="start: is client 0, and the problem wants 2"):
        chain.verify(toy_problem(start="cid"))
    with pytest.raises(lola.VerificationError, match="start: client 0 holds no training data"):
        chain.verify(toy_problem(clients=toy_clients(rows=[0, 1, 1])))
    with pytest.raises(lola.VerificationError, match="order: a client takes part that is not in"):
        chain.verify(toy_problem(order=["ann", "cid"]))
    with pytest.raises(lola.VerificationError, match="order: the clients appear in another order"):
        chain.verify(toy_problem(order=["cid", "bob", "ann"]))
    with pytest.raises(TypeError, match="problem must be a lola.ChainProblem, got Clients"):
        chain.verify(toy_clients())


def test_a_file_that_was_tampered_with_does_not_verify(tmp_path):
    problem = toy_problem(start="ann")
    path = tmp_path / "chain.json"
    lola.save_chain(lola.split(problem), problem, path)
    data = json.loads(path.read_text())

    def damaged(change):
        copy = json.loads(json.dumps(data))
        change(copy)
        path.write_text(json.dumps(copy))
        return lola.load_chain(path)

    with pytest.raises(lola.VerificationError, match="digest: the problem in the file is not the one"):
        damaged(lambda d: d["problem"]["clients"].update(speed=[1.0, 0.6, 2.0]))
    for change, said in (
        (lambda d: d["chain"].update(client_of_module=[0, 1, 1, 9]), "no client has index"),
        (lambda d: d["chain"].update(latency_s=1.0), "latency_s: is 1"),
        (lambda d: d["chain"].update(lower_bound_s=6.0), "bound: 6.0 is above"),
        (lambda d: d["proof"].clear(), "proof: "),
    ):
        chain, same = damaged(change)
        with pytest.raises(lola.VerificationError, match=said):
            chain.verify(same)
    chain = lola.split(problem)
    with pytest.raises(lola.VerificationError, match="latency_s: is "):
        lola.save_chain(replace(chain, latency_s=1.0), problem, path)


def test_many_clients_have_a_bound_and_a_gap():
    rng = np.random.default_rng(3)
    clients = lola.Clients.from_positions(
        rng.uniform(0, 60, (24, 2)), speed=rng.uniform(0.2, 1, 24), memory_bytes=rng.uniform(4e8, 8e8, 24)
    )
    problem = lola.ChainProblem(toy_stages(), clients)
    chain = lola.split(problem)
    chain.verify(problem)
    assert 0 <= chain.gap < 0.5
    assert re.search("proven optimal|at most .* from the optimum", str(chain))


def test_a_chain_as_rows_and_for_a_notebook():
    chain = lola.split(toy_problem(start="ann"))
    first, _, last = chain.rows()
    assert first == {
        "first_module": 0,
        "last_module": 0,
        "client": 0,
        "name": "ann",
        "forward_s": 0.1,
        "backward_s": 0.0,
        "hop_s": 0.2,
        "return_s": 0.0,
    }
    assert (last["client"], last["first_module"], last["last_module"], last["hop_s"]) == (2, 2, 3, 0.0)
    assert json.loads(json.dumps(chain.to_dict())) == chain.to_dict()
    assert "<caption>4 modules on 3 clients: 3.15 s" in chain._repr_html_()
    assert repr(chain) == f"<Chain {chain}>"
    nameless = lola.split(toy_problem(clients=toy_clients(name=None), start=0))
    assert "name" not in nameless.rows()[0]
    assert repr(toy_problem()) == "<ChainProblem: 4 modules over 3 clients, training, sum>"


def _ways(times):
    return (times.forward_s, times.hop_s), (times.backward_s, times.return_s)


@pytest.mark.parametrize("inference", [False, True])
def test_a_timeline_ends_when_the_batch_does(inference):
    rng = np.random.default_rng(5)
    for _ in range(20):
        problem = random_problem(rng)
        problem = replace(problem, objective="pipeline", energy_weight=0.0, inference=inference, micro_batches=3)
        try:
            chain = lola.split(problem)
        except lola.InfeasibleError:
            continue
        spans = timeline(chain)
        end = max(span.end_s for span in spans)
        if inference:
            assert end == pytest.approx(chain.latency_s)
        else:  # all parts forward, then all backward
            times = chain.times
            slowest = [max(*there, *back, 0.0) for there, back in _ways(times)]
            assert end == pytest.approx(chain.latency_s + 2 * (sum(slowest) - times.stations().max()))
        for one in spans:  # nobody computes two things at once
            twins = [s for s in spans if s.stage == one.stage and (s.activity in ("forward", "backward"))]
            twins.sort(key=lambda s: s.begin_s)
            assert all(a.end_s <= b.begin_s + 1e-12 for a, b in pairwise(twins))
    series = lola.split(toy_problem(start="ann"))
    there, back = ["forward", "hop", "forward", "hop", "forward"], ["backward", "return", "backward"]
    assert [span.activity for span in timeline(series)] == there + back
    assert timeline(series)[-1].end_s == pytest.approx(series.latency_s)


def test_a_timeline_of_a_forward_pass_that_takes_no_time_is_the_way_back():
    stages = toy_stages(forward_s=[0.0] * 4)
    clients = toy_clients(memory_bytes=[1e10] * 3)
    chain = lola.split(toy_problem(stages=stages, clients=clients, start="ann", order=["ann"]))
    (span,) = timeline(chain)
    assert (span.activity, span.begin_s, span.end_s) == ("backward", 0.0, chain.latency_s)
