"""Each round is scheduled for who is there, as they last said they are."""

import threading
import time

import numpy as np
import pytest
import torch
from cooperative import tiny_depths, tiny_problem, weights_of
from fleets import GENEROUS_S, PROBLEM, device, devices_of, everybody, over, until

from lola.adapters import CooperativeSession, Setting
from lola.devices import BrokerAddress, EmbeddedBroker, MqttDevices
from lola.devices.connection import Connection


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
            later = session.devices.roster(PROBLEM, roster.serial)
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
        with device(tmp_path, broker.address, "dee"):  # the round waits until there are enough
            record = next(run)
        assert (record.participants, record.applied) == (3, 3)


def test_a_round_waits_for_memory(tmp_path, broker, caplog):
    with (
        over(tmp_path, broker.address) as session,
        devices_of(tmp_path, broker.address, ("ann", "bob", "cem"), memory_bytes=1.5e9) as devices,
    ):
        everybody(session, devices)
        run = session.run(1)
        threading.Timer(0.5, lambda: devices["bob"].report(memory_bytes=2e9)).start()
        assert next(run).applied == 3
    assert "round 0 waits for other devices: " in caplog.text


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
