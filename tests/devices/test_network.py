"""A network that fails: the round ends in time, and who was cut off takes part again when it is back."""

import os
import re
import threading
import time

import pytest
from fleets import GENEROUS_S, data, device, devices_of, everybody, hurried_round, over, timed_round
from proxies import Proxy

from lola.devices import EmbeddedBroker, connection

THREE = ("ann", "bob", "cem")
SHORT_S = 5.0  # a client misses nothing
# A minute is six times as long as a client waits for its broker. Unless LOLA_TEST_FACTOR is 5 or more, both are scaled
# down, to twelve seconds and two.
SCALE = min(int(os.environ.get("LOLA_TEST_FACTOR", "1")), 5) / 5
LONG_S = 60.0 * SCALE


@pytest.fixture
def broker():
    with EmbeddedBroker(most_bytes=2**20) as embedded:
        yield embedded


def in_background(action, after_s):
    timer = threading.Timer(after_s, action)
    timer.start()
    return timer


@pytest.fixture
def cut_s(request, monkeypatch):
    """How long a network is cut, which clients miss where it is long."""
    if request.param == LONG_S:
        monkeypatch.setattr(connection, "_KEEP_ALIVE_S", round(connection._KEEP_ALIVE_S * SCALE))
    return request.param


CUTS = pytest.mark.parametrize(
    "how, cut_s", [("silence", SHORT_S), ("hang_up", SHORT_S), ("silence", LONG_S)], indirect=["cut_s"]
)


@CUTS
def test_a_device_that_is_cut_off_for_seconds_or_a_minute_costs_its_block(tmp_path, broker, how, cut_s):
    with Proxy(broker.address) as network:

        def cut(number, version):
            if version == 1:
                getattr(network, how)()
            return data().batches(number, version)

        with (
            over(tmp_path, broker.address) as session,
            devices_of(tmp_path, broker.address, ("bob", "cem", "dee")),
            device(tmp_path, network.address, "ann", batches=cut) as ann,
        ):
            everybody(session)
            run = session.run(10**6)
            whole, whole_s = timed_round(run)
            assert whole.applied == 3
            begun = time.monotonic()
            record = hurried_round(session, run, whole_s)
            assert (record.applied, record.missing) == (2, 1)
            what = "(is gone|was computing|had not begun)"
            assert re.fullmatch(rf"device 0 at depth \d: ann {what}: no answer within .* s", record.refused)
            while time.monotonic() < begun + cut_s:  # the others go on
                record = next(run)
                assert (record.participants, record.applied, record.refused) == (3, 3, "")
            assert (how, cut_s) == ("silence", SHORT_S) or not ann._connection.connected
            network.heal()
            everybody(session)
            assert next(run).participants == 4


@CUTS
def test_a_server_that_is_cut_off_for_seconds_or_a_minute_goes_on(tmp_path, broker, how, cut_s):
    with Proxy(broker.address) as network:

        def cut(number, version):
            if version == 1:
                getattr(network, how)()
            return data().batches(number, version)

        with (
            over(tmp_path, network.address, names=THREE) as session,
            devices_of(tmp_path, broker.address, ("bob", "cem")),
            device(tmp_path, broker.address, "ann", batches=cut),
        ):
            everybody(session, THREE)
            run = session.run(1000)
            whole, whole_s = timed_round(run)
            assert whole.applied == 3
            begun = time.monotonic()
            record = hurried_round(session, run, whole_s)
            in_background(network.heal, max(begun + cut_s - time.monotonic(), 0.0))
            assert record.missing >= 1
            assert len(re.findall("no answer within", record.refused)) == record.missing
            assert next(run).applied >= 1  # as soon as enough of them have reported
            assert cut_s - 0.5 < time.monotonic() - begun < cut_s + GENEROUS_S
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
