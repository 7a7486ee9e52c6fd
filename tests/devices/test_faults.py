"""Devices that lie, flood, hang, die and come back: the round ends in time, and the record says who and why."""

import logging
import random
import re
import socket
import threading
import time
from dataclasses import replace
from functools import partial

import device_processes
import pytest
import torch
from cooperative import tiny_depths, tiny_session, weights_of
from device_processes import process
from fleets import PROBLEM, data, device, devices_of, everybody, hurried_round, over, timed_round, until
from paho.mqtt import client as paho

import lola
from lola.adapters import BlockGradient
from lola.devices import DevicesGoneError, EdgeDevice, EmbeddedBroker, State

THREE = ("ann", "bob", "cem")


@pytest.fixture
def broker():
    with EmbeddedBroker(most_bytes=2**20) as embedded:
        yield embedded


class Forger(EdgeDevice):
    """A device that sends other bytes than it computed."""

    def forge(self, honest):
        return self.forged(self, honest)

    def _compute(self, task, update):
        return self.forge(super()._compute(task, update))


def forging(folder, address, name, forge):
    forger = device(folder, address, name, kind=Forger)
    forger.forged = forge
    return forger


def changed(**changes):
    def forge(device, honest):
        return replace(BlockGradient.from_bytes(honest, device.depths), **changes).to_bytes()

    return forge


def poisoned(device, honest):
    answer = BlockGradient.from_bytes(honest, device.depths)
    return replace(answer, gradients={n: g * float("nan") for n, g in answer.gradients.items()}).to_bytes()


def of_another_shape(device, honest):
    answer = BlockGradient.from_bytes(honest, device.depths)
    return replace(answer, gradients={n: torch.zeros(3) for n in answer.gradients}).to_bytes()


def twice(device, honest):
    device._connection.publish(device._topic("answer"), honest)
    return changed(loss=1e6)(device, honest)


FORGERIES = {
    "noise": (lambda device, honest: random.Random(1).randbytes(5000), "ann sent what is no answer: a BlockGradient"),
    "nothing": (lambda device, honest: b"", "ann sent what is no answer: a BlockGradient was wanted, got"),
    "another shape": (of_another_shape, "ann sent what is no answer: .* of shape .* was wanted"),
    "not a number": (poisoned, "has a value that is not finite"),
    "an old version": (changed(version=99), "the gradient is of version 99, the model is at 0"),
    "another's name": (changed(device=1), "ann is device 0, and answers as 1"),
    "twice": (twice, "this depth was answered already"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_answer_is_refused_with_the_reason_and_the_others_count(tmp_path, broker, name):
    forge, why = FORGERIES[name]

    def later(number, version):
        if name == "twice":  # a round ends as soon as everybody has answered
            until(lambda: len(session.devices._round.exchanges["ann"].arrivals) == 2)
        return data().batches(number, version)

    with (
        over(tmp_path, broker.address, names=THREE) as session,
        device(tmp_path, broker.address, "bob"),
        device(tmp_path, broker.address, "cem", batches=later),
        forging(tmp_path, broker.address, "ann", forge),
    ):
        everybody(session, THREE)
        blocks = [session.depths.named_parameters(depth) for depth in (1, 2, 3)]
        before = [{name: weight.detach().clone() for name, weight in block.items()} for block in blocks]
        (record,) = session.run(1)
    depth = int(re.search(f"device 0 at depth ([123]): .*{why}", record.refused)[1])
    stepped = [
        any(not torch.equal(old[name], weight) for name, weight in block.items())
        for old, block in zip(before, blocks, strict=True)
    ]
    assert stepped == [name == "twice" or depth != other for other in (1, 2, 3)]


def test_an_answer_that_is_delivered_again_in_the_next_round_is_not_taken_for_that_round_s(tmp_path, broker):
    answers = []

    def twice(device, honest):
        if answers:
            device._connection.publish(device._topic("answer"), answers[-1])
        answers.append(honest)
        return honest

    with (
        over(tmp_path, broker.address, names=THREE) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem")),
        forging(tmp_path, broker.address, "ann", twice),
    ):
        everybody(session, THREE)
        assert [(record.applied, record.refused) for record in session.run(3)] == [(3, "")] * 3
        assert len(answers) == 3


def test_what_is_too_large_is_dropped_before_it_is_decoded(tmp_path, caplog):
    """The session's limit is what its model's gradients take; the broker's is larger here."""

    def forge(device, honest):
        return bytes(2 * 10**6) if BlockGradient.from_bytes(honest, device.depths).version == 1 else honest

    with (
        EmbeddedBroker() as roomy,
        over(tmp_path, roomy.address, names=THREE) as session,
        devices_of(tmp_path, roomy.address, ("bob", "cem")),
        forging(tmp_path, roomy.address, "ann", forge),
    ):
        everybody(session, THREE)
        run = session.run(2)
        record = hurried_round(session, run, timed_round(run)[1])
        too_large = r"a message of 2000000 bytes on 'lola/tiny/answer/ann' is dropped; at most \d+ are"
        until(lambda: re.search(too_large, caplog.text))
    assert (record.applied, record.missing) == (2, 1)
    assert re.search("ann was (uploading|computing): no answer within", record.refused)


def test_a_broker_hangs_up_on_who_announces_too_much(broker):
    host, port = broker.address.host, broker.address.port
    with socket.create_connection((host, port), timeout=60) as rogue:
        rogue.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")  # CONNECT of MQTT 3.1.1
        assert rogue.recv(4) == b"\x20\x02\x00\x00"
        rogue.sendall(b"\x30\xff\xff\xff\x7f")  # a message of 256 MB
        rogue.sendall(b"\x00\x01a")
        assert rogue.recv(1) == b""


def stranger(address):
    """A client that says what it likes."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    client.connect(address.host, address.port)
    client.loop_start()
    return client


def test_floods_are_ignored_and_told_of_in_a_few_lines(tmp_path, broker, caplog):
    with (
        over(tmp_path, broker.address, names=THREE) as session,
        devices_of(tmp_path, broker.address, THREE),
    ):
        everybody(session, THREE)
        rogue, rng = stranger(broker.address), random.Random(3)
        for _ in range(300):
            for topic in ("answer/ann", "status/eve", "status/ann", "answer/x/y", "status/b c"):
                last = rogue.publish(f"lola/tiny/{topic}", rng.randbytes(200), 1)
        records = list(session.run(2))
        until(last.is_published)
        records += session.run(3)
        rogue.disconnect()
        rogue.loop_stop()
        assert [one.name for one in session.devices.devices()] == [*THREE]
    assert all(record.applied >= 2 for record in records)  # what came first on its topic stands for ann's answer
    told = [one.getMessage() for one in caplog.records if one.name == "lola.devices.server"]
    assert 5 <= len(told) <= 60  # five a round for each of three: ann, eve, and other topics; before the first, too
    assert any(one.startswith("eve: its status is ignored: a DeviceStatus was wanted, got") for one in told)


def test_who_misses_the_deadline_gets_no_work_until_it_reports(tmp_path, broker, caplog):
    release = threading.Event()

    def slow(number, version):
        if version == 1:
            release.wait(60)
        return data().batches(number, version)

    with (
        over(tmp_path, broker.address) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem", "dee")),
        device(tmp_path, broker.address, "ann", batches=slow),
    ):
        everybody(session)
        run = session.run(20)
        first = hurried_round(session, run, timed_round(run)[1])
        assert re.fullmatch(r"device 0 at depth \d: ann was computing: no answer within .* s", first.refused)
        assert (first.applied, first.missing) == (2, 1)
        second = next(run)
        assert (second.participants, second.applied, second.refused) == (3, 3, "")
        release.set()
        everybody(session)
        assert next(run).participants == 4
    assert "ann: an answer is ignored, for it comes when nobody waits" in caplog.text


def test_who_says_that_it_is_endlessly_slow_holds_a_round_for_the_longest_time_at_most(tmp_path, broker):
    release = threading.Event()
    with (
        over(tmp_path, broker.address, names=THREE, longest_s=5.0) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem")),
        device(tmp_path, broker.address, "ann", speed=1e-6, batches=lambda *_: release.wait(60) and ()),
    ):
        everybody(session, THREE)
        (record,) = session.run(1)
        release.set()
    assert (record.applied, record.missing) == (2, 1)
    assert record.refused.endswith("ann was computing: no answer within 5 s")


def test_a_task_beyond_what_was_offered_is_refused(tmp_path, broker):
    profile = lola.Profile(memory_bytes=[1e12] * 3, latency_s=[0.1] * 3, upload_bits=1e5)
    with (
        over(tmp_path, broker.address, names=THREE) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem")),
        device(tmp_path, broker.address, "ann", profile=profile) as ann,
    ):
        everybody(session, THREE)
        ann._rest_s = 600.0
        (record,) = session.run(1)
        assert re.search("ann refuses: LolaValueError: depth . needs 1e.12 bytes, and .* are offered", record.refused)
        until(lambda: session.devices.devices()[0].status.state == State.REFUSED)
        assert session.devices.devices()[0].suspect  # until it reports again, which it does after a rest
        ann._rested_s = time.monotonic()
        everybody(session, THREE)


def test_another_model_or_alpha_gets_no_work(tmp_path, broker, caplog):
    (tmp_path / "other").mkdir()
    other = tiny_depths(tmp_path / "other", seed=8)
    with (
        over(tmp_path, broker.address, names=THREE, patience_s=1.0) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem")),
        device(tmp_path, broker.address, "ann", depths=other),
    ):
        everybody(session, ("bob", "cem"))
        until(lambda: "ann: it has another model, or LoRA, than the server, and gets no work; load the" in caplog.text)
        with pytest.raises(DevicesGoneError, match=r"run tiny waited 1 s for devices .*; 2 are there \(bob, cem\)"):
            list(session.run(1))


def test_a_device_killed_at_work_costs_its_block_and_may_come_back(tmp_path, broker):
    ann = partial(device_processes.ann, hangs_at=1)
    with (
        process(ann, tmp_path, broker.address.port) as (dying, hear),
        over(tmp_path, broker.address, names=THREE) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem")),
    ):
        everybody(session, THREE)
        killer = threading.Thread(target=lambda: (hear.recv(), hear.recv(), dying.kill()))
        killer.start()
        run = session.run(3)
        record = hurried_round(session, run, timed_round(run)[1])
        assert (record.applied, record.missing) == (2, 1)
        doing = "is gone|was computing|had not begun"
        assert re.fullmatch(rf"device 0 at depth \d: ann ({doing}): no answer within .* s", record.refused)
        known = session.devices.devices()[0]  # the embedded broker may lose the last will of who is killed
        assert known.gone or known.suspect
        with device(tmp_path, broker.address, "ann"):
            assert next(run).applied == 3
        killer.join()


@pytest.mark.parametrize("when", ["between rounds", "within a round"])
def test_a_session_survives_its_broker_s_restart(tmp_path, when):
    """The bits are those of a run without one: what was published is said again, and nothing twice."""
    here = tiny_session(tmp_path, keep=False, problem=PROBLEM)
    simulated = list(here.run(3))
    broker = EmbeddedBroker().start()

    def restarting(number, version):
        if version == 1 and when == "within a round":
            restart()
        return data().batches(number, version)

    def restart(unheard=lambda: True):
        broker.stop()
        until(unheard)
        broker.start()

    try:
        with (
            over(tmp_path, broker.address) as session,
            devices_of(tmp_path, broker.address, ("ann", "bob", "dee")),
            device(tmp_path, broker.address, "cem", batches=restarting),
        ):
            records = []
            for version in range(1, 4):
                everybody(session)
                records += session.run(version)
                if version == 1 and when == "between rounds":
                    restart(lambda: all(one.suspect for one in session.devices.devices()))
    finally:
        broker.stop()
    assert [record.loss for record in records] == [record.loss for record in simulated]
    assert all(torch.equal(a, b) for a, b in zip(weights_of(here), weights_of(session), strict=True))


def test_without_a_broker_it_is_said_in_time(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = EmbeddedBroker(free.getsockname()[1]).address
    with (
        over(tmp_path, address, patience_s=1.0) as session,
        pytest.raises(DevicesGoneError, match="a broker was to be there within 1 s, and was not; start it, or name"),
    ):
        list(session.run(1))


logging.getLogger("transitions").setLevel(logging.WARNING)
