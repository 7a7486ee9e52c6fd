"""A device with a certificate that fills the broker with retained messages ends neither the broker nor its machine."""

import os
from pathlib import Path

import pytest
from brokers import Mosquitto, needs_mosquitto
from fleets import until
from paho.mqtt import client as paho

from lola.devices import Certificates, write_mosquitto

MEGABYTE = 2**20
RUNS = 40
pytestmark = needs_mosquitto


@pytest.fixture
def broker(tmp_path):
    runs = [f"{number}" for number in range(RUNS)]
    mosquitto = Mosquitto(tmp_path, runs=runs, most_bytes=2 * MEGABYTE, memory_bytes=20 * MEGABYTE)
    try:
        mosquitto.start()
        yield mosquitto.process, mosquitto.address("ann")
    finally:
        mosquitto.stop()


def test_retained_messages_fill_a_broker_no_further_than_its_limit(broker):
    process, address = broker
    client, lost, stored = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5), [], 0
    client.tls_set_context(address.tls())
    client.on_disconnect = lambda *_: lost.append(True)
    connected = []
    client.on_connect = lambda *_: connected.append(True)
    client.connect_async(address.host, address.port)
    client.reconnect_delay_set(1, 1)
    client.loop_start()
    try:
        until(lambda: connected, 60)
        for run in range(RUNS):
            message = client.publish(f"lola/{run}/status/ann", bytes(MEGABYTE), 1, retain=True)
            until(lambda message=message: message.is_published() or lost, 60)
            if lost:
                break
            stored += 1
    finally:
        client.disconnect()
        client.loop_stop()
    assert 5 < stored < 20
    assert process.poll() is None
    resident = os.sysconf("SC_PAGE_SIZE") * int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    assert resident < 40 * MEGABYTE


def test_a_limit_of_memory_must_be_a_size(tmp_path):
    certificates = Certificates.create(tmp_path / "certificates", ["127.0.0.1"])
    with pytest.raises(ValueError, match="memory_bytes must be at least 1, got 0"):
        write_mosquitto(certificates, memory_bytes=0)
