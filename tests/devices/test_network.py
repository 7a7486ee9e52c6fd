"""A network that fails: the round ends in time, and who was cut off takes part again when it is back."""

import re
import threading
import time

import pytest
from fleets import GENEROUS_S, data, device, devices_of, everybody, hurried_round, over, timed_round
from proxies import Proxy

from lola.devices import EmbeddedBroker

THREE = ("ann", "bob", "cem")


@pytest.fixture
def broker():
    with EmbeddedBroker(most_bytes=2**20) as embedded:
        yield embedded


def in_background(action, after_s):
    timer = threading.Timer(after_s, action)
    timer.start()
    return timer


@pytest.mark.parametrize("how", ["silence", "hang_up"])
def test_a_device_that_is_cut_off_for_five_seconds_costs_its_block(tmp_path, broker, how):
    with Proxy(broker.address) as network:

        def cut(number, version):
            if version == 1:
                getattr(network, how)()
            return data().batches(number, version)

        with (
            over(tmp_path, broker.address) as session,
            devices_of(tmp_path, broker.address, ("bob", "cem", "dee")),
            device(tmp_path, network.address, "ann", batches=cut),
        ):
            everybody(session)
            run = session.run(1000)
            whole, whole_s = timed_round(run)
            assert whole.applied == 3
            begun = time.monotonic()
            record = hurried_round(session, run, whole_s)
            assert (record.applied, record.missing) == (2, 1)
            what = "is gone" if how == "hang_up" else "(was computing|had not begun)"
            assert re.fullmatch(rf"device 0 at depth \d: ann {what}: no answer within .* s", record.refused)
            while time.monotonic() < begun + 5:  # the others go on
                record = next(run)
                assert (record.participants, record.applied, record.refused) == (3, 3, "")
            network.heal()
            everybody(session)
            assert next(run).participants == 4


def test_a_server_that_is_cut_off_for_five_seconds_goes_on(tmp_path, broker):
    with Proxy(broker.address) as network:

        def cut(number, version):
            if version == 1 and not network.refusing:
                network.hang_up()
            return data().batches(number, version)

        with (
            over(tmp_path, network.address, names=THREE) as session,
            devices_of(tmp_path, broker.address, ("bob", "cem")),
            device(tmp_path, broker.address, "ann", batches=cut),
        ):
            everybody(session, THREE)
            run = session.run(4)
            whole, whole_s = timed_round(run)
            assert whole.applied == 3
            begun = time.monotonic()
            record = hurried_round(session, run, whole_s)
            in_background(network.heal, max(begun + 5 - time.monotonic(), 0.0))
            assert record.missing >= 1
            assert len(re.findall("no answer within", record.refused)) == record.missing
            assert next(run).applied >= 1  # as soon as enough of them have reported
            assert 4.5 < time.monotonic() - begun < GENEROUS_S
            everybody(session, THREE)
            assert next(run).applied == 3


def test_an_upload_that_breaks_off_is_no_answer_and_is_sent_whole_to_the_next_connection(tmp_path, broker):
    with (
        Proxy(broker.address) as network,
        over(tmp_path, broker.address, names=THREE) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem")),
        device(tmp_path, network.address, "ann"),
    ):
        everybody(session, THREE)
        network.cut_in(b"lola/tiny/answer/ann")

        def break_off():
            network.seen.wait()
            network.hang_up()
            network.heal()

        breaker = threading.Thread(target=break_off)
        breaker.start()
        (record,) = session.run(1)
        breaker.join()
        assert network.seen.is_set()
        assert (record.applied, record.refused) == (3, "")
