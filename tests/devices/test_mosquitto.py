"""The same over mosquitto with TLS: the simulated session's bits, and no message of who may not send it."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from cooperative import tiny_session, weights_of
from fleets import NAMES, PROBLEM, device, everybody, over, until
from paho.mqtt import client as paho

from lola.devices import BrokerAddress, BrokerError, Certificates, write_mosquitto
from lola.devices.connection import Connection

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

if MOSQUITTO is None and not os.environ.get("CI"):
    pytest.skip("mosquitto is not installed (apt-get install mosquitto)", allow_module_level=True)


class Mosquitto:
    """A broker that runs with the configuration that lola wrote, on a port of its own."""

    def __init__(self, folder):
        assert MOSQUITTO is not None, "where CI is set, mosquitto must be installed: .ci/run does"
        self.certificates = Certificates.create(folder / "certificates", ["127.0.0.1"])
        for name in NAMES:
            self.certificates.add_device(name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.configuration, _ = write_mosquitto(self.certificates, port=self.port, bind="127.0.0.1", most_bytes=2**20)
        with self.configuration.open("a") as file:
            file.write("user root\n" if os.getuid() == 0 else "")  # keys are for their owner
        self.log, self.process = folder / "mosquitto.log", None

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen([MOSQUITTO, "-c", self.configuration], stdout=log, stderr=log)
        until(self.listens, 10)

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    def address(self, name, certificates=None):
        certificate, key = (certificates or self.certificates).paths(name)
        return BrokerAddress("127.0.0.1", self.port, self.certificates.authority, certificate, key)


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory):
    broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def test_a_run_over_tls_is_the_simulated_one(tmp_path, mosquitto):
    here = tiny_session(tmp_path, keep=False, problem=PROBLEM)
    devices = [device(tmp_path, mosquitto.address(name), name) for name in NAMES]
    with over(tmp_path, mosquitto.address("server")) as there:
        threads = [threading.Thread(target=one.run) for one in devices]
        for thread in threads:
            thread.start()
        try:
            everybody(there)
            for simulated, record in zip(here.run(5), there.run(5), strict=True):
                assert (record.applied, record.refused, record.loss) == (3, "", simulated.loss)
                assert all(torch.equal(a, b) for a, b in zip(weights_of(here), weights_of(there), strict=True))
        finally:
            for one, thread in zip(devices, threads, strict=True):
                one.stop()
                thread.join()


class Heard(list):
    """Topics and payloads, in the order in which they came to a client."""

    def __init__(self, client):
        self.client = client


@contextmanager
def listening(mosquitto):
    """Everything that reaches the server."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    heard = Heard(client)
    client.tls_set_context(mosquitto.address("server").tls())
    client.on_message = lambda _client, _data, message: heard.append((message.topic, message.payload))
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_connect = lambda *_: client.subscribe("#", 1)
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    try:
        assert subscribed.wait(5)
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


@contextmanager
def speaking(mosquitto, tls, name="x"):
    """A client that says and asks for what it likes, and what it hears."""
    heard, client = [], paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
    client.tls_set_context(tls)
    client.on_message = lambda _client, _data, message: heard.append(message.topic)
    client.connect_async("127.0.0.1", mosquitto.port)
    client.loop_start()
    try:
        time.sleep(0.5)
        yield client, heard
    finally:
        client.disconnect()
        client.loop_stop()


TOPICS = ("update", "task/ann", "answer/ann", "status/ann", "task/bob", "answer/bob", "status/bob", "other")


def say_everything(client, heard, server):
    """Publish to each topic, and have the server publish to each: return what got through in both directions."""
    client.subscribe([(f"lola/tiny/{topic}", 1) for topic in (*TOPICS, "#")])
    client.subscribe("#", 1)
    for topic in TOPICS:
        client.publish(f"lola/tiny/{topic}", b"from whom?", 1)
    client.publish("elsewhere", b"from whom?", 1)
    time.sleep(0.5)
    return [topic for topic, payload in server if payload == b"from whom?"]


def test_a_device_reads_and_writes_its_own_topics_and_nothing_else(mosquitto):
    with listening(mosquitto) as server, speaking(mosquitto, mosquitto.address("bob").tls()) as (bob, heard):
        assert sorted(say_everything(bob, heard, server)) == ["lola/tiny/answer/bob", "lola/tiny/status/bob"]
        for topic in TOPICS:
            server.client.publish(f"lola/tiny/{topic}", b"of the server", 1)
        until(lambda: sum(payload == b"of the server" for _, payload in server) == len(TOPICS), 5)
        time.sleep(0.3)
        assert sorted(set(heard)) == ["lola/tiny/task/bob", "lola/tiny/update"]


def without_certificate(mosquitto, folder):
    return ssl.create_default_context(cafile=mosquitto.certificates.authority)


def of_another_authority(mosquitto, folder):
    other = Certificates.create(folder / "other", ["127.0.0.1"])
    other.add_device("ann")
    return mosquitto.address("ann", other).tls()


def of_the_broker_itself(mosquitto, folder):
    certificate, key = mosquitto.certificates.broker
    return replace(mosquitto.address("ann"), certificate=certificate, key=key).tls()


@pytest.mark.parametrize("who", [without_certificate, of_another_authority, of_the_broker_itself])
def test_who_has_no_certificate_of_a_device_gets_nothing_through(mosquitto, tmp_path, who):
    with listening(mosquitto) as server, speaking(mosquitto, who(mosquitto, tmp_path)) as (client, heard):
        assert say_everything(client, heard, server) == []
        assert heard == []


def test_a_revoked_device_is_let_in_no_more(mosquitto, tmp_path):
    gone = mosquitto.certificates
    gone.add_device("eve")
    certificate, key = gone.paths("eve")
    (tmp_path / "eve.pem").write_bytes(certificate.read_bytes())
    (tmp_path / "eve.key").write_bytes(key.read_bytes())
    address = replace(mosquitto.address("ann"), certificate=tmp_path / "eve.pem", key=tmp_path / "eve.key")
    with listening(mosquitto) as server, speaking(mosquitto, address.tls()) as (eve, heard):
        eve.publish("lola/tiny/answer/eve", b"from whom?", 1).wait_for_publish(5)
        until(lambda: server, 5)
    gone.revoke("eve")
    mosquitto.stop()
    mosquitto.start()
    with listening(mosquitto) as server, speaking(mosquitto, address.tls()) as (eve, heard):
        assert say_everything(eve, heard, server) == []
    connection = Connection(address, "eve", [], print, lambda: None, lambda: None, most_bytes=1000, queued=1)
    connection.start()
    try:
        with pytest.raises(BrokerError, match="the broker was to let eve in, but: .*; is its certificate of the"):
            until(lambda: connection.wait(0.1), 10)
    finally:
        connection.close()


def test_a_message_above_the_limit_is_not_taken(mosquitto):
    with listening(mosquitto) as server, speaking(mosquitto, mosquitto.address("ann").tls()) as (ann, _):
        ann.publish("lola/tiny/answer/ann", bytes(2**20 + 1), 1)
        ann.publish("lola/tiny/answer/ann", b"small", 1)
        time.sleep(1.0)
        assert all(len(payload) < 2**20 for _, payload in server)


def test_a_broker_under_another_name_is_not_believed(mosquitto, tmp_path):
    """A certificate of the authority does not make a broker: its hosts are in it."""
    address = replace(mosquitto.address("ann"), host="localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        address.tls().wrap_socket(
            socket.create_connection(("127.0.0.1", mosquitto.port), timeout=5), server_hostname=address.host
        )
