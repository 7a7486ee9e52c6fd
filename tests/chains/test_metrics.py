"""What a round over a chain costs, added up by hand."""

import numpy as np
import pytest
from chain_problems import toy_clients, toy_problem

import lola


def test_a_round_of_training():
    problem = toy_problem(start="ann")
    chain = lola.split(problem)
    metrics = lola.chain_metrics(chain, problem, batches=10, downlink_bps=1e6, uplink_bps=5e5)
    assert metrics.busy_s == pytest.approx([1.0, 20.0, 7.0])
    # Ann has no tunables; bob's block has 8e5 bits, cid's block and head 8.5e5.
    assert (metrics.delivery_s, metrics.upload_s) == (0.85, 1.7)
    assert metrics.latency_s == pytest.approx(0.85 + 10 * chain.latency_s + 1.7)
    assert metrics.d2d_bytes.tolist() == [10e6, 10e6, 10e6]  # activations twice, gradients once
    assert metrics.downlink_bytes.tolist() == metrics.uplink_bytes.tolist() == [0.0, 1e5, 8.5e5 / 8]
    assert metrics.model_bytes.tolist() == [2e8, 3e7, 4e7]
    assert metrics.memory_bytes.tolist() == [2.01e8, 4.01e8, 4.1e8]  # with what is sent on
    sending = np.array([2.0, 1.0 + 8e5 / 5e5, 0.5 + 1.7])
    assert metrics.energy_j == pytest.approx([1 * 4, 20 * 2, 7 * 8] + sending * [1.0, 0.5, 2.0])
    assert [row["busy_s"] for row in metrics.rows()] == metrics.busy_s.tolist()


def test_inference_uploads_nothing_and_answers():
    clients = toy_clients(
        memory_bytes=[2e8, 1e9, 1e9],
        rate_bps=[[0, 4e7, 0], [1e6, 0, 0], [0, 0, 0]],
        compute_power_w=None,
    )
    problem = toy_problem(clients=clients, inference=True, start="ann")
    chain = lola.split(problem)
    metrics = lola.chain_metrics(chain, problem, batches=3, uplink_bps=1.0)
    assert metrics.d2d_bytes.tolist() == [3e6, 3 * 4e5 / 8]
    assert (metrics.uplink_bytes.sum(), metrics.upload_s, metrics.delivery_s) == (0.0, 0.0, 0.0)
    assert metrics.downlink_bytes.sum() == 1.65e6 / 8
    assert metrics.latency_s == pytest.approx(3 * chain.latency_s)
    assert metrics.energy_j is None
    assert "energy_j" not in metrics.rows()[0]


def test_many_batches_under_way_follow_at_the_slowest():
    problem = toy_problem(start="ann", objective="max")
    chain = lola.split(problem)
    assert chain.objective_s == chain.times.stations().max()
    metrics = lola.chain_metrics(chain, problem, batches=5)
    assert metrics.latency_s == pytest.approx(chain.latency_s + 4 * chain.objective_s)


def test_micro_batches_cost_a_batch_together():
    one, four = (toy_problem(start="ann", objective="pipeline", micro_batches=m) for m in (1, 4))
    first, second = (lola.chain_metrics(lola.split(problem), problem, batches=2) for problem in (one, four))
    for name in ("busy_s", "energy_j", "d2d_bytes"):
        assert getattr(first, name) == pytest.approx(getattr(second, name))


def test_refusals():
    problem = toy_problem(start="ann")
    chain = lola.split(problem)
    for bad, said in (
        ({"batches": 0}, "batches must be at least 1, got 0"),
        ({"batches": 1.5}, "batches must be an integer, got float"),
        ({"uplink_bps": 0}, "uplink_bps must be finite and > 0, got 0"),
        ({"downlink_bps": "fast"}, "downlink_bps must be a number, got str: 'fast'"),
    ):
        with pytest.raises(lola.LolaError, match=said):
            lola.chain_metrics(chain, problem, **bad)
    with pytest.raises(lola.VerificationError, match="start: is client 0, and the problem wants 2"):
        lola.chain_metrics(chain, toy_problem(start="cid"))
    with pytest.raises(TypeError, match="chain must be a lola.Chain, got NoneType"):
        lola.chain_metrics(None, problem)
