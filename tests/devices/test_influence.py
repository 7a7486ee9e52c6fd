"""How much a device can spoil that sends too much, or that lies again and again."""

import itertools
import os
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fleets import device, devices_of, everybody, over
from paho.mqtt import client as paho

from lola.adapters import BlockGradient, Setting
from lola.devices import DeviceStatus, EdgeDevice, EmbeddedBroker, State
from lola.devices.register import Register

THREE = ("ann", "bob", "cem")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def broker():
    with EmbeddedBroker(most_bytes=2**20) as embedded:
        yield embedded


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


class Liar(EdgeDevice):
    """Sends noise at some versions, and a gradient a thousand times as large at others."""

    noise, vast = (), ()

    def _compute(self, task, update):
        honest = super()._compute(task, update)
        if task.version in self.noise:
            return b"noise"
        if task.version not in self.vast:
            return honest
        answer = BlockGradient.from_bytes(honest, self.depths)
        return replace(answer, gradients={name: 1000 * g for name, g in answer.gradients.items()}).to_bytes()


def test_a_liar_loses_its_place_for_a_while_and_the_others_go_on(tmp_path, broker):
    setting = Setting(refuse_above=50.0, quarantine_after=2, quarantine_rounds=6)
    liar = device(tmp_path, broker.address, "ann", kind=Liar)
    liar.noise, liar.vast = (0, 1), ()
    with (
        over(tmp_path, broker.address, setting=setting) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem", "dee")),
        liar,
    ):
        records = []
        for version in range(1, 9):
            everybody(session)
            records += session.run(version)
    asked = [record.version - 1 for record in records if 0 in record.device_of_block]
    assert asked == [0, 1, 6, 7]
    assert [record.applied for record in records] == [2, 2, 3, 3, 3, 3, 3, 3]
    assert "ann sent what is no answer" in records[0].refused
    assert re.search("; refused in 2 of the last 6 rounds, it gets no work before version 6$", records[1].refused)


class Boaster(EdgeDevice):
    """Says that it is there, again and again, and never answers."""

    def _do(self, raw, task, update):
        self._say(State.IDLE, task.version)


def test_who_reports_and_stays_silent_rests_longer_each_time(tmp_path, broker, caplog):
    with (
        over(tmp_path, broker.address, message_s=3.0) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem", "dee")),
        device(tmp_path, broker.address, "ann", kind=Boaster) as boaster,
    ):
        known = []
        for version in range(1, 4):
            boaster.report()
            everybody(session)
            if version == 3:  # a slow machine may take as long as the rest
                session.devices.register.known["ann"].resting_until_s += 600.0
            (record,) = session.run(version)
            known.append(session.devices.devices()[0])
        assert [one.silent for one in known] == [1, 2, 2]
        assert [one.resting_until_s is None for one in known] == [True, False, False]
        assert (record.participants, record.applied, record.refused) == (3, 3, "")
    assert caplog.text.count("ann: it was silent again, and gets no work for ") == 1


def test_a_rest_ends_and_an_answer_forgives():
    register, said = Register([], "0" * 64), DeviceStatus(State.IDLE, 0, 1.0, 3e9, 1e6, 40, "0" * 64)
    register.hear("ann", said)
    assert [register.note_silence("ann", 2.0, 100.0) for _ in range(4)] == [0.0, 2.0, 6.0, 14.0]
    serial = register.serial
    register.wake(113.9)
    assert (register.present(), register.serial) == ([], serial)
    register.wake(114.0)
    assert ([one.name for one in register.present()], register.serial) == (["ann"], serial + 1)
    register.note_answer("ann")
    assert register.note_silence("ann", 2.0, 200.0) == 0.0
    for _ in range(20):
        longest_s = register.note_silence("ann", 2.0, 200.0)
    assert longest_s == 2.0 * 255
    assert register.note_silence("eve", 2.0, 200.0) == 0.0
    register.note_answer("eve")


def test_what_is_vast_is_refused_by_the_bound_and_counts(tmp_path, broker):
    setting = Setting(refuse_above=50.0, quarantine_after=1, quarantine_rounds=100)
    liar = device(tmp_path, broker.address, "ann", kind=Liar)
    liar.vast = (6,)
    with (
        over(tmp_path, broker.address, setting=setting) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem", "dee")),
        liar,
    ):
        records = []
        for version in range(1, 10):
            everybody(session)
            records += session.run(version)
    assert [record.version - 1 for record in records if record.refused] == [6]
    assert "is more than 50 times" in records[6].refused
    assert "it gets no work before version 106" in records[6].refused
    assert not any(0 in record.device_of_block for record in records[7:])


def test_a_gigabyte_for_an_answer_is_not_taken_in(tmp_path, broker):
    """A packet of MQTT announces at most a quarter of it: so it comes in four, and as what follows them."""
    with (
        over(tmp_path, broker.address, names=THREE) as session,
        devices_of(tmp_path, broker.address, THREE),
    ):
        everybody(session, THREE)
        assert [record.applied for record in session.run(2)] == [3, 3]
        before, sent = resident_bytes(), 0
        for _ in range(4):
            with socket.create_connection((broker.address.host, broker.address.port), timeout=60) as rogue:
                rogue.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")  # CONNECT of MQTT 3.1.1
                assert rogue.recv(4) == b"\x20\x02\x00\x00"
                try:
                    rogue.sendall(b"\x30\xff\xff\xff\x7f\x00\x13lola/tiny/answer/ann")
                    for _ in range(256):
                        rogue.sendall(bytes(2**20))
                        sent += 2**20
                except OSError:
                    continue
        assert sent < 2**27
        records = list(session.run(4))
        assert [(record.applied, record.refused) for record in records] == [(3, ""), (3, "")]
        assert resident_bytes() - before < 2**27


def test_a_flood_on_a_device_s_topic_costs_its_block_and_no_memory(tmp_path, broker, caplog):
    rogue = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    rogue.max_queued_messages_set(20)
    stopping = threading.Event()

    sizes = itertools.cycle([10_000, 50_000])  # what could be an answer, and what cannot

    def flood():
        while not stopping.is_set():
            rogue.publish("lola/tiny/answer/ann", os.urandom(next(sizes)), 0)
            time.sleep(0.002)

    with (
        over(tmp_path, broker.address, names=THREE) as session,
        devices_of(tmp_path, broker.address, THREE),
    ):
        everybody(session, THREE)
        assert next(session.run(1)).applied == 3
        rogue.connect(broker.address.host, broker.address.port)
        rogue.loop_start()
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            list(session.run(4))
            before = resident_bytes()
            records = list(session.run(30))
            grown = resident_bytes() - before
        finally:
            stopping.set()
            thread.join()
            rogue.publish("lola/tiny/answer/ann", b"the last", 1).wait_for_publish(60)
            rogue.disconnect()
            rogue.loop_stop()
        assert all(record.applied >= 2 for record in records)
        assert any("ann sent what is no answer" in record.refused for record in records)
        assert grown < 2**26
        assert sum("50000 bytes on" in one.getMessage() for one in caplog.records) < 20
        time.sleep(0.5)
        everybody(session, THREE)
        assert list(session.run(33))[-1].applied == 3
