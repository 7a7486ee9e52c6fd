"""Evaluations that fail, and scores that are none, in every kind of session: no round is lost or counted twice."""

import math

import pytest
import torch
from chained import chain_session
from cooperative import tiny_session
from federated import federated_session

MAKERS = [tiny_session, chain_session, federated_session]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def make(request, tmp_path):
    return lambda **options: request.param(tmp_path, keep=True, **options)


def only_at_third(evaluate):
    calls = []

    def scores():
        calls.append(1)
        return evaluate() if len(calls) == 3 else {"accuracy": 0.5}

    return scores


def stopped():
    raise KeyboardInterrupt


@pytest.mark.parametrize("evaluate", [stopped, lambda: {"loss": 1.0}, lambda: 0.5], ids=["stopped", "taken", "none"])
def test_a_run_goes_on_after_an_evaluation_that_failed(make, evaluate):
    setting = {"setting": type(make().setting)(evaluate_every=1, checkpoint_every=1)}
    session = make(evaluate=only_at_third(evaluate), **setting)
    with pytest.raises((KeyboardInterrupt, ValueError, TypeError)):
        list(session.run(5))
    assert (session.version, len(session.records), session.records[-1].scores) == (3, 3, {})
    list(session.run(5))
    resumed = make(**setting)
    assert [record.version for record in resumed.records] == [1, 2, 3, 4, 5]
    assert [bool(record.scores) for record in resumed.records] == [True, True, False, True, True]
    assert resumed.clock_s == session.clock_s == session.records[-1].clock_s


def test_scores_that_no_json_has_are_kept(make):
    scores = {"perplexity": math.inf, "gain": -math.inf, "matthews": math.nan, "right": torch.tensor(3)}
    list(make(evaluate=lambda: scores).run(1))
    kept = make().records[0].scores
    assert (kept["perplexity"], kept["gain"], kept["right"]) == (math.inf, -math.inf, 3.0)
    assert math.isnan(kept["matthews"])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (0.5, r"evaluate must return scores by name, such as \{'accuracy': 0.9\}; got 0.5"),
        ({1: 0.5}, "evaluate must return scores by name"),
        ({"accuracy": "high"}, "evaluate must return a number for accuracy, got 'high'"),
        ({"accuracy": torch.ones(2)}, "evaluate must return a number for accuracy, got tensor"),
    ],
)
def test_what_are_no_scores_is_refused(make, scores, message):
    with pytest.raises(TypeError, match=message):
        next(make(evaluate=lambda: scores).run(1))


def test_an_optimizer_that_needs_a_closure_is_refused(tmp_path):
    for maker in MAKERS:
        with pytest.raises(ValueError, match=r"must step without a closure, .*, got LBFGS; take torch.optim.Adam"):
            maker(tmp_path, optimizer=torch.optim.LBFGS)
