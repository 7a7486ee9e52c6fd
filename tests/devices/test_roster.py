"""Each round is scheduled for who is there, as they last said they are."""

import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from cooperative import tiny_depths, tiny_problem, weights_of
from fleets import GENEROUS_S, NAMES, PROBLEM, data, device, devices_of, everybody, over, until

import lola
from lola.adapters import BlockTask, CooperativeSession, RoundPlan, Setting
from lola.adapters.checkpoint import checkpoints
from lola.cli.serve import _serve
from lola.devices import (
    BrokerAddress,
    DevicesGoneError,
    DeviceStatus,
    EmbeddedBroker,
    MqttDevices,
    ServedDevices,
    State,
)
from lola.devices.connection import Connection
from lola.devices.joining import JoinedDevice
from lola.devices.outbox import dropped
from lola.devices.register import Register
from lola.devices.serving import InterruptedBetweenStepsError
from lola.devices.timings import TimingsFile
from lola.solvers.errors import LolaError


@pytest.fixture
def broker():
    with EmbeddedBroker() as embedded:
        yield embedded


def test_a_fleet_is_what_its_devices_say(tmp_path, broker):
    with over(tmp_path, broker.address, names=("ann", "bob")) as session:
        with devices_of(tmp_path, broker.address, ("bob", "ann", "dee")) as devices:
            everybody(session, devices)
            roster = session.devices.roster(PROBLEM, -1)
            assert roster.numbers.tolist() == [0, 1, 2]
            assert roster.fleet.name == ("ann", "bob", "dee")
            assert roster.fleet.speed.tolist() == [1.0, 0.9, 0.7]
            np.testing.assert_allclose(roster.fleet.spectral_efficiency, [2.0, 4.0, 5.0])
            devices["dee"].report(speed=0.25, memory_bytes=5e9)
            later = roster
            while later.fleet.speed[2] == 0.7:  # another's word may come before
                later = session.devices.roster(PROBLEM, later.serial)
            assert (later.fleet.speed[2], later.fleet.memory_bytes[2]) == (0.25, 5e9)
            assert later.fleet_of(np.array([0, 2])).name == ("ann", "dee")
        until(lambda: all(one.gone for one in session.devices.devices()))


def test_devices_come_and_go_between_rounds(tmp_path, broker):
    with over(tmp_path, broker.address) as session, devices_of(tmp_path, broker.address, ("ann", "bob")):
        with device(tmp_path, broker.address, "cem"):
            everybody(session, ("ann", "bob", "cem"))
            run = session.run(4)
            assert next(run).participants == 3
            with device(tmp_path, broker.address, "dee"):
                everybody(session)
                assert next(run).participants == 4
            everybody(session, ("ann", "bob", "cem"))
            assert next(run).participants == 3
        everybody(session, ("ann", "bob"))
        with device(tmp_path, broker.address, "dee"):  # the round waits until there are enough
            record = next(run)
        assert (record.participants, record.applied) == (3, 3)


def test_a_device_whose_channel_is_no_number_gets_no_work():
    register, said = Register([], "0" * 64), DeviceStatus(State.JOINED, -1, 1.0, 3e9, 1e12, 40, "0" * 64)
    register.hear("ann", said)
    register.hear("bob", replace(said, uplink_bps=1.0))
    assert register.roster(1e-40).fleet.name == ("bob",)
    assert register.roster(1e8).fleet.name == ("ann", "bob")


def test_who_says_the_same_again_and_again_does_not_prolong_the_patience(tmp_path, broker, caplog):
    ended = threading.Event()

    def repeat(bob):
        while not ended.wait(0.1):
            bob.report(memory_bytes=1.5e9)

    with (
        over(tmp_path, broker.address, patience_s=1.5) as session,
        devices_of(tmp_path, broker.address, ("ann", "bob", "cem"), memory_bytes=1.5e9) as devices,
    ):
        everybody(session, devices)
        repeating = threading.Thread(target=repeat, args=(devices["bob"],))
        repeating.start()
        begun = time.monotonic()
        try:
            with pytest.raises(DevicesGoneError, match=r"waited 1.5 s for devices .*; 3 are there \(ann, bob, cem\)"):
                list(session.run(1))
            assert 1.4 < time.monotonic() - begun < GENEROUS_S
        finally:
            ended.set()
            repeating.join()
    assert caplog.text.count("round 0 waits for other devices: ") == 1


def test_what_mqtt_cannot_say_is_said_as_nearly_as_it_can(broker):
    connection = Connection(broker.address, "x", [], print, lambda: None, lambda: None, most_bytes=2**40, queued=4)
    connection._agreed = True  # as after a broker of MQTT 5, which this one is not, has answered
    assert not connection.publish("lola/tiny/answer/x", b"x", expiry_s=1e12)(0.0)
    connection.start()
    connection.close()


def test_an_answer_that_finds_the_queue_full_is_sent_once_there_is_room(tmp_path, broker):
    ann = device(tmp_path, broker.address, "ann")
    while (acknowledged := ann._connection.publish("lola/tiny/probe/ann", b"x")) is not dropped:
        assert not acknowledged(0.0)
    begun = time.monotonic()
    assert not acknowledged(0.3)
    assert time.monotonic() - begun >= 0.3
    uploading = threading.Thread(target=ann._upload, args=(BlockTask(0, 0, 1, 1e6), b"answer"))
    uploading.start()
    ann._connection.start()
    try:
        until(lambda: ann.status.state == State.IDLE)
    finally:
        ann.stop()
        uploading.join()
        ann._connection.close()


def joined(*arguments, announced_s=0.5, **options):
    return JoinedDevice(b"the run", *arguments, announced_s=announced_s, **options)


def test_a_device_that_joins_a_run_that_has_ended_ends_too(tmp_path, broker):
    with pytest.raises(LolaError, match="run tiny was to be there still when ann was ready, and is not: nothing was h"):
        device(tmp_path, broker.address, "ann", kind=joined).run()
    depths = tiny_depths(tmp_path)
    with ServedDevices(depths, broker.address, "tiny", lambda identity: b"the run", print) as served:
        until(lambda: served._connection.wait(1.0))
        bob = device(tmp_path, broker.address, "bob", kind=joined, announced_s=2 * GENEROUS_S)
        with bob:
            until(lambda: served.devices())
            until(lambda: bob._silence is not None and bob._silence.finished.is_set(), GENEROUS_S)  # it has heard
            assert not bob._stopping
            served.farewell()
            until(lambda: bob._stopping)


def test_an_answer_that_comes_when_the_last_ones_are_read_is_told_of(tmp_path, broker):
    gates = {number: threading.Event() for number in (0, 2)}

    def gated(number, version):
        gates[number].wait(GENEROUS_S)
        return data().batches(number, version)

    with (
        over(tmp_path, broker.address, names=NAMES[:3]) as session,
        device(tmp_path, broker.address, "bob"),
        devices_of(tmp_path, broker.address, ("ann", "cem"), batches=gated),
    ):
        everybody(session, NAMES[:3])
        server = session.devices
        roster = server.roster(PROBLEM, -1)
        plan = RoundPlan.from_schedule(lola.schedule(replace(PROBLEM, fleet=roster.fleet)), 0)
        answers = server.answers(plan)
        assert next(answers).device == 1
        gates[2].set()
        until(lambda: server._round.exchanges["cem"].arrivals)
        server._round.deadline_s = time.monotonic()
        assert next(answers).device == 2
        gates[0].set()
        until(lambda: server._round.exchanges["ann"].arrivals)
        (late,) = answers
        assert re.fullmatch(r"ann answered too late: not within .* s", late.why)
        assert late.why in [exchange.why for exchange in server.exchanges]
        assert (late.device, late.answered, server._round) == (0, False, None)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, None])
def test_a_model_is_saved_between_steps_and_never_when_one_is_half_done(tmp_path, broker, error):
    depths, run = tiny_depths(tmp_path), tmp_path / "run"
    optimizer = torch.optim.Adam(depths.all_parameters(), lr=1e-2)
    with (
        ServedDevices(
            depths,
            broker.address,
            "tiny",
            lambda identity: b"it",
            print,
            needed=NAMES[:3],
            message_s=GENEROUS_S,
        ) as devices,
        devices_of(tmp_path, broker.address, NAMES[:3]),
    ):
        session = CooperativeSession(depths, optimizer, PROBLEM, None, devices=devices, folder=run)

        def end(*_):
            if session.version == 1:
                if error is not None:
                    raise error("within a step")
                devices.interrupt()

        optimizer.register_step_post_hook(end)
        with session.alone(), pytest.raises(error or InterruptedBetweenStepsError):
            _serve(session, devices, 5, run, TimingsFile(run, 0))
    assert [path.name for path in checkpoints(run)] == ([] if error else ["round-000002"])


def test_a_round_waits_for_memory(tmp_path, broker, caplog):
    with (
        over(tmp_path, broker.address) as session,
        devices_of(tmp_path, broker.address, ("ann", "bob", "cem"), memory_bytes=1.5e9) as devices,
    ):
        everybody(session, devices)
        waits = "round 0 waits for other devices: "

        def offer_more():
            until(lambda: waits in caplog.text)
            devices["bob"].report(memory_bytes=2e9)

        offering = threading.Thread(target=offer_more)
        offering.start()
        (record,) = session.run(1)
        offering.join()
        assert record.applied == 3
    assert waits in caplog.text


def test_a_server_that_was_stopped_goes_on_with_the_devices_that_are_there(tmp_path, broker):
    """Other devices than before, too: who was there is no part of a run's identity. Devices stay; the server is new."""
    setting = Setting(participation=0.9, checkpoint_every=1)
    with devices_of(tmp_path, broker.address):
        with over(tmp_path, broker.address, setting=setting) as whole:
            everybody(whole)
            records = list(whole.run(4))
        with over(tmp_path, broker.address, setting=setting, keep=True) as first:
            everybody(first)
            list(first.run(2))
        with over(tmp_path, broker.address, setting=setting, keep=True) as second:
            assert second.version == 2
            everybody(second)
            list(second.run(4))
    assert repr(second.records) == repr(records)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(second), strict=True))


def test_live_devices_say_what_their_channel_is(tmp_path):
    depths = tiny_depths(tmp_path)
    devices, optimizer = MqttDevices(depths, BrokerAddress(), "tiny"), torch.optim.Adam(depths.all_parameters())
    with pytest.raises(ValueError, match="live devices say what their channel is, got another beside them; give chan"):
        CooperativeSession(depths, optimizer, PROBLEM, None, devices=devices, channel=lambda *_: np.ones(4))


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"names": ["ann", "ann"]}, "devices must have different names, got ann, ann; name each once"),
        ({"names": ["server"]}, "a device must have a name of its own, got 'server', the server's"),
        ({"names": ["authority"]}, "a device must have a name of its own, got 'authority', the authority's; choose"),
        ({"names": ["Broker"]}, "a device must have a name of its own, got 'Broker', the broker's; choose another"),
        ({"longest_s": 0}, "longest_s must be"),
        ({"slack": 0.9}, "slack must be at least 1, or rounds end before their schedule; got 0.9"),
        ({"message_s": 0}, "message_s must be"),
        ({"patience_s": -1}, "patience_s must be"),
        ({"run": "a/b"}, "a run must be named by 1 to 64 of the characters"),
    ],
)
def test_what_a_server_cannot_be_told(tmp_path, changes, why):
    with pytest.raises(ValueError, match=why):
        MqttDevices(tiny_depths(tmp_path), BrokerAddress(), **{"run": "tiny"} | changes)


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"speed": 0.0}, "speed must be a positive number, got 0.0; measure it again"),
        ({"uplink_bps": float("nan")}, "uplink_bps must be a positive number, got nan"),
        ({"uplink_bps": 1e-320}, "uplink_bps must lie in 1…1e[+]12, got 9.99989e-321; measure it again"),
        ({"rows": 0}, "rows must be"),
        ({"uplink_weight": 1.0}, r"uplink_weight must be a share in \[0, 1\), got 1.0"),
        ({"profile": tiny_problem(4).profile}, "the profile must have as many blocks as the model, 3; got 4"),
    ],
)
def test_what_a_device_cannot_say(tmp_path, changes, why):
    with pytest.raises(ValueError, match=why):
        device(tmp_path, BrokerAddress(), "ann", **changes)
    with pytest.raises(ValueError, match="speed, memory_bytes, uplink_bps or rows was wanted, got colour; leave it"):
        device(tmp_path, BrokerAddress(), "ann").report(colour=1.0)


def test_an_upload_can_be_paced(tmp_path, broker):
    """By the kernel: what is in flight first goes unpaced, on loopback a third of this."""
    connection = Connection(broker.address, "x", [], print, lambda: None, lambda: None, most_bytes=1000, queued=4)

    def upload_s():
        begun = time.monotonic()
        assert connection.publish("lola/tiny/answer/x", bytes(10**6))(GENEROUS_S)
        return time.monotonic() - begun

    connection.start()
    try:
        until(lambda: connection.wait(1.0))
        assert connection.pace(4e6)
        paced_s = upload_s()
        assert paced_s > 0.8
        assert connection.pace(None)
        assert min(upload_s() for _ in range(5)) < paced_s / 2
    finally:
        connection.close()
