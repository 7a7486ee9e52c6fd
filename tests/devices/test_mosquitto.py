"""The same over mosquitto with TLS: the simulated session's bits, and no message of who may not send it."""

import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from brokers import Mosquitto, needs_mosquitto
from cooperative import tiny_session, weights_of
from fleets import GENEROUS_S, NAMES, PROBLEM, device, everybody, over, until
from paho.mqtt import client as paho

from lola.devices import BrokerError, Certificates
from lola.devices.connection import Connection
from lola.devices.outbox import dropped

pytestmark = needs_mosquitto


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
        assert subscribed.wait(60)
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


class Speaker:
    """A client that says and asks for what it likes: what topics it hears, how often it was let in or turned away."""

    def __init__(self, mosquitto, tls, name):
        self.heard, self.let_in, self.turned_away = [], 0, 0
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
        self.client.tls_set_context(tls)
        self.client.on_message = lambda _client, _data, message: self.heard.append(message.topic)
        self.client.on_connect = self._answered
        self.client.on_disconnect = self.client.on_connect_fail = self._lost
        self.client.connect_async("127.0.0.1", mosquitto.port)
        self.client.loop_start()

    def _answered(self, _client, _data, _flags, reason, _properties):
        self.let_in += not reason.is_failure

    def _lost(self, *_):
        self.turned_away += 1


@contextmanager
def speaking(mosquitto, tls, name="x"):
    """A client that the broker has let in, or turned away."""
    speaker = Speaker(mosquitto, tls, name)
    try:
        until(lambda: speaker.let_in or speaker.turned_away)
        yield speaker
    finally:
        speaker.client.disconnect()
        speaker.client.loop_stop()


TOPICS = ("update", "task/ann", "answer/ann", "status/ann", "task/bob", "answer/bob", "status/bob", "other")


def say_everything(speaker, server, run="tiny"):
    """Publish to each topic, until the broker has dealt with it or turned the client away again: say what it let by."""
    turned_away = speaker.turned_away
    speaker.client.subscribe([(f"lola/{run}/{topic}", 1) for topic in (*TOPICS, "#")])
    speaker.client.subscribe("#", 1)
    topics, before = [*(f"lola/{run}/{topic}" for topic in TOPICS), "elsewhere"], len(server)
    sent = [speaker.client.publish(topic, b"from whom?", 1) for topic in topics]
    until(lambda: speaker.turned_away > turned_away or all(one.rc == 0 and one.is_published() for one in sent))
    server_says(server, f"lola/{run}/last", b"what came before is here")
    return [topic for topic, payload in server[before:] if payload == b"from whom?"]


def server_says(server, topic, payload):
    """Publish as the server, until that has come back to it."""
    server.client.publish(topic, payload, 1)
    until(lambda: (topic, payload) in server)


def test_a_device_reads_and_writes_its_own_topics_and_nothing_else(mosquitto):
    with listening(mosquitto) as server, speaking(mosquitto, mosquitto.address("bob").tls()) as bob:
        assert sorted(say_everything(bob, server)) == ["lola/tiny/answer/bob", "lola/tiny/status/bob"]
        assert say_everything(bob, server, "other") == []
        for topic in TOPICS:
            server_says(server, f"lola/tiny/{topic}", b"of the server")
        until(lambda: bob.heard)
        said = len(bob.heard)
        server_says(server, "lola/tiny/task/bob", b"the last")
        until(lambda: len(bob.heard) > said and bob.heard[-1] == "lola/tiny/task/bob")
        assert sorted(set(bob.heard)) == ["lola/tiny/task/bob", "lola/tiny/update"]
        assert (bob.let_in, bob.turned_away) == (1, 0)


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
    with listening(mosquitto) as server, speaking(mosquitto, who(mosquitto, tmp_path)) as rogue:
        assert say_everything(rogue, server) == []
        assert rogue.heard == []
        assert (rogue.let_in, rogue.turned_away > 0) == (0, True)


def test_a_revoked_device_is_let_in_no_more(mosquitto, tmp_path):
    gone = mosquitto.certificates
    gone.add_device("eve")
    certificate, key = gone.paths("eve")
    (tmp_path / "eve.pem").write_bytes(certificate.read_bytes())
    (tmp_path / "eve.key").write_bytes(key.read_bytes())
    address = replace(mosquitto.address("ann"), certificate=tmp_path / "eve.pem", key=tmp_path / "eve.key")
    with listening(mosquitto) as server, speaking(mosquitto, address.tls()) as eve:
        eve.client.publish("lola/tiny/answer/eve", b"from whom?", 1)
        until(lambda: server)
    gone.revoke("eve")
    mosquitto.stop()
    mosquitto.start()
    with listening(mosquitto) as server, speaking(mosquitto, address.tls()) as eve:
        assert say_everything(eve, server) == []
        assert (eve.let_in, eve.turned_away > 0) == (0, True)
    connection = Connection(address, "eve", [], print, lambda: None, lambda: None, most_bytes=1000, queued=1)
    connection.start()
    try:
        with pytest.raises(BrokerError, match="the broker was to let eve in, but: .*; is its certificate of the"):
            until(lambda: connection.wait(0.1))
    finally:
        connection.close()


def test_a_message_above_the_limit_is_not_taken(mosquitto):
    with listening(mosquitto) as server, speaking(mosquitto, mosquitto.address("ann").tls()) as ann:
        ann.client.publish("lola/tiny/answer/ann", bytes(2**20 + 1), 1)
        ann.client.publish("lola/tiny/answer/ann", b"small", 1)
        until(lambda: ("lola/tiny/answer/ann", b"small") in server)
        assert all(len(payload) < 2**20 for _, payload in server)


def connected(mosquitto, name, **options):
    said = {"most_bytes": 1000, "queued": 4} | options
    return Connection(mosquitto.address(name), name, [], print, lambda: None, lambda: None, **said)


def test_two_clients_of_one_name_are_told_why_they_throw_each_other_out(mosquitto, caplog):
    both = [connected(mosquitto, "dee") for _ in range(2)]
    for one in both:
        one.start()
    try:
        why = "dee: lost soon after it began, 4 times in a row; does another client have this name, or its certificate?"
        until(lambda: why in caplog.text)
    finally:
        for one in both:
            one.close()


def test_what_is_published_before_the_first_connection_comes_too(mosquitto):
    with listening(mosquitto) as server:
        early = connected(mosquitto, "ann")
        sent = [early.publish("lola/tiny/answer/ann", payload) for payload in (b"1", b"2", b"3", b"4")]
        assert early.publish("lola/tiny/answer/ann", b"5") is dropped
        assert not sent[0](0.0)
        early.start()
        try:
            assert all(acknowledged(GENEROUS_S) for acknowledged in sent)
            until(lambda: len(server) == 4)
        finally:
            early.close()
        assert [payload for _, payload in server] == [b"1", b"2", b"3", b"4"]


def test_an_update_that_the_broker_does_not_take_ends_the_run_at_once(tmp_path):
    small = Mosquitto(tmp_path, most_bytes=1000)
    try:
        small.start()
        wanted = r"a broker was wanted that takes the model's update, \d+ bytes, got one that takes packets of 2024; r"
        with over(tmp_path, small.address("server")) as session, pytest.raises(ValueError, match=wanted):
            list(session.run(1))
    finally:
        small.stop()


def test_a_broker_under_another_name_is_not_believed(mosquitto, tmp_path):
    """A certificate of the authority does not make a broker: its hosts are in it."""
    address = replace(mosquitto.address("ann"), host="localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        address.tls().wrap_socket(
            socket.create_connection(("127.0.0.1", mosquitto.port), timeout=60), server_hostname=address.host
        )
