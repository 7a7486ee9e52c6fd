"""What a session over chains does not take: answers, plans, arguments and settings, and why."""

import numpy as np
import pytest
import torch
from chained import chain_data, chain_session
from cooperative import weights_of

import lola
from lola.adapters import ChainSetting, ClusterPlan, ShardedData
from lola.air import Reception


def test_an_answer_that_is_not_finite_is_refused_and_the_others_are_used(tmp_path):
    def broken(model, batch):
        loss = model(**batch).loss
        return loss * float("nan") if (batch["input_ids"][0] == poisoned).all() else loss

    data = chain_data()
    poisoned = next(data.batches(1, 0))["input_ids"][0]
    for averaging in ("gradients", "tunables"):
        session = chain_session(tmp_path, loss=broken, setting=ChainSetting(averaging))
        (record,) = session.run(1)
        assert record.refused == "the cluster of client 2: the loss is not finite"
        assert (record.clusters, record.applied) == (3, 2)
        assert record.uploaded_bytes == record.delivered_bytes  # what is refused was sent
        assert all(weight.isfinite().all() for weight in weights_of(session))


def test_gradients_and_steps_that_are_not_finite_are_refused(tmp_path):
    scale = 1e38
    session = chain_session(tmp_path, loss=lambda model, batch: model(**batch).loss * scale, dropout=False)
    before = weights_of(session)
    (record,) = session.run(1)
    assert record.refused.startswith("the mean of all: its step would make the optimizer's exp_avg_sq of ")
    assert record.applied == 0
    assert np.isnan(record.loss)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(session), strict=True))
    rooted = chain_session(
        tmp_path,
        plan=lambda *_: [ClusterPlan((0, 0, 1, 1, 1))],
        loss=lambda model, batch: (model(**batch).logits * 0).sqrt().sum(),
    )
    (record,) = rooted.run(1)
    assert record.refused.startswith("the cluster of client 0: ")
    assert record.refused.endswith(" is not finite")


@pytest.mark.parametrize(
    "plan, why",
    [
        (lambda *_: [], "plan must give a chain at least, got none; raise InfeasibleError where there is none"),
        (
            lambda *_: [ClusterPlan((0, 0, 1, 1, 1)), ClusterPlan((2, 2, 1, 1, 1))],
            r"the clients it was given, \[0, 1, 2, 3, 4, 5\], into one chain at most; got \[\(0, 1\), \(2, 1\)\]",
        ),
        (lambda *_: [ClusterPlan((0, 0, 9, 9, 9))], r"into one chain at most; got \[\(0, 9\)\]"),
        (
            lambda *_: [ClusterPlan((1, 1, 0, 0, 0))],
            r"a chain must begin with a client that has data, one of \[0, 2, 4\]; got 1",
        ),
        (lambda *_: [ClusterPlan((0, 1))], "client_of_module must name a client, 0 or more, for each of 5 modules"),
    ],
)
def test_plans_that_do_not_fit_are_refused(plan, why, tmp_path):
    with pytest.raises(ValueError, match=why):
        list(chain_session(tmp_path, plan=plan).run(1))


def test_where_not_even_everybody_can_hold_the_model_the_plan_says_so(tmp_path):
    def nobody(version, clients):
        raise lola.InfeasibleError("no chain has the memory", (), 0)

    with pytest.raises(lola.InfeasibleError, match="no chain has the memory"):
        list(chain_session(tmp_path, plan=nobody).run(1))


@pytest.mark.parametrize(
    "arguments, why",
    [
        ({"starts": (0, 2)}, r"starts must name another client for each of 3 shards, got \[0, 2\]"),
        ({"starts": (0, 2, 2)}, r"starts must name another client for each of 3 shards, got \[0, 2, 2\]"),
        ({"n_clients": 4}, r"starts must name clients in 0…3, got \[0, 2, 4\]; give n_clients, counting those"),
        ({"n_clients": 0}, "n_clients must be"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, why, tmp_path):
    with pytest.raises(ValueError, match=why):
        chain_session(tmp_path, **arguments)


def test_an_optimizer_of_other_parameters_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the optimizer does not hold \S+, which is trained; make it over all_par"):
        chain_session(tmp_path, optimizer=lambda parameters: torch.optim.Adam(parameters[:-1]))


@pytest.mark.parametrize(
    "arguments, why",
    [
        ({"averaging": "models"}, "averaging must be one of gradients, tunables; got 'models'"),
        ({"local_steps": 0}, "local_steps must be"),
        ({"participation": 0.0}, r"participation must be a chance in \(0, 1\], got 0.0"),
        ({"failure": 1.0}, r"failure must be a chance in \[0, 1\), got 1.0"),
        ({"seed": -1}, "seed must"),
        ({"checkpoint_every": 0}, "checkpoint_every must be"),
        ({"evaluate_every": 0}, "evaluate_every must be"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments, why):
    with pytest.raises(ValueError, match=why):
        ChainSetting(**arguments)


def test_without_data_there_is_no_loss_to_speak_of(tmp_path):
    data = ShardedData({"input_ids": torch.ones(4, 8, dtype=torch.long)}, [[0, 1], [2], [3]], batch_size=1, seed=0)
    with pytest.raises(lola.models.ModelError, match="gives no loss for its labels"):
        list(chain_session(tmp_path, data=data).run(1))


class Lossy:
    """An uplink on which everything arrives as infinity, after a second."""

    def receive(self, sent, weight, rng):
        return Reception({name: tensor + float("inf") for name, tensor in sent[0].items()}, 1.0, 0.0)


@pytest.mark.parametrize("averaging", ["gradients", "tunables"])
def test_a_mean_that_does_not_arrive_finite_changes_nothing(averaging, tmp_path):
    session = chain_session(tmp_path, setting=ChainSetting(averaging=averaging), uplink=Lossy())
    before = [weight.detach().clone() for weight in session.depths.all_parameters()]
    (record,) = session.run(1)
    assert record.refused.startswith("the mean of all: ")
    assert (record.applied, record.latency_s) == (0, 8.5)
    assert np.isnan(record.loss)
    assert all(torch.equal(one, other) for one, other in zip(session.depths.all_parameters(), before, strict=True))
