"""A broker that is killed within a round: all is said again, and the round does not wait beyond its deadline."""

import re

import brokers
import pytest
import torch
from cooperative import tiny_session, weights_of
from fleets import PROBLEM, data, device, everybody, hurried_round, over, timed_round, until

THREE = ("ann", "bob", "cem")


@pytest.fixture(params=["Embedded", pytest.param("Mosquitto", marks=brokers.needs_mosquitto)])
def broker(request, tmp_path):
    started = getattr(brokers, request.param)(tmp_path)
    try:
        started.start()
        yield started
    finally:
        started.stop()


def test_a_broker_killed_within_a_round_and_started_again_changes_no_bit(tmp_path, broker):
    here = tiny_session(tmp_path, keep=False, problem=PROBLEM)
    simulated = list(here.run(3))

    def restarting(number, version):
        if version == 1:
            broker.kill()
            broker.start()
        return data().batches(number, version)

    with (
        over(tmp_path, broker.address("server")) as session,
        device(tmp_path, broker.address("ann"), "ann"),
        device(tmp_path, broker.address("bob"), "bob"),
        device(tmp_path, broker.address("cem"), "cem", batches=restarting),
        device(tmp_path, broker.address("dee"), "dee"),
    ):
        records = []
        for version in range(1, 4):
            everybody(session)
            records += session.run(version)
    assert [(record.loss, record.refused) for record in records] == [(record.loss, "") for record in simulated]
    assert all(torch.equal(a, b) for a, b in zip(weights_of(here), weights_of(session), strict=True))


def test_a_broker_that_stays_away_ends_the_round_by_its_deadline_and_what_had_come_is_stepped(tmp_path, broker):
    def killing(number, version):
        if version == 1:
            exchanges = session.devices._round.exchanges
            until(lambda: exchanges["ann"].arrivals and exchanges["bob"].arrivals and exchanges["cem"].computing_s)
            broker.kill()
        return data().batches(number, version)

    with (
        over(tmp_path, broker.address("server"), names=THREE) as session,
        device(tmp_path, broker.address("ann"), "ann"),
        device(tmp_path, broker.address("bob"), "bob"),
        device(tmp_path, broker.address("cem"), "cem", batches=killing),
    ):
        everybody(session, THREE)
        run = session.run(3)
        whole, whole_s = timed_round(run)
        assert whole.applied == 3
        record = hurried_round(session, run, whole_s)
        assert (record.applied, record.missing) == (2, 1)
        assert re.fullmatch(r"device 2 at depth \d: cem was computing: no answer within .* s", record.refused)
        broker.start()
        everybody(session, THREE)
        record = next(run)
        assert (record.participants, record.applied, record.refused) == (3, 3, "")
