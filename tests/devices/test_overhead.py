"""What measures the overhead of rounds ends with the reason where its devices do not join."""

from contextlib import contextmanager

import devices
import pytest

from lola.devices import EmbeddedBroker


@contextmanager
def apart(folder, names):
    with EmbeddedBroker() as ours, EmbeddedBroker() as theirs:
        yield lambda name: (ours if name == "server" else theirs).address


def test_devices_that_do_not_join_end_the_measurement(monkeypatch):
    monkeypatch.setattr(devices, "JOINING_S", 0.5)
    with pytest.raises(TimeoutError, match=r"2 devices were to join within 0.5 s, and 0 did"):
        devices.rounds_of(apart, 2, devices.model(2, 16, 1), 1)
