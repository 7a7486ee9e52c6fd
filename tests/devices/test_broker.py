"""The embedded broker says why it does not start, and a process without files to open makes it wait, not spin."""

import socket
import subprocess
import sys
import time

import pytest

from lola.devices import EmbeddedBroker

CROWDED = """
import resource, socket, time
from lola.devices import EmbeddedBroker

CONNECT = bytes.fromhex("100d00044d5154540402003c000161")

with EmbeddedBroker() as broker, socket.socket() as client:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, most))
    client.connect((broker.address.host, broker.address.port))
    client.sendall(CONNECT)
    client.settimeout(2.0)
    begun = time.process_time()
    try:
        print(client.recv(4).hex())
    except TimeoutError:
        print("nothing", time.process_time() - begun < 1.0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    client.settimeout(120.0)
    print(client.recv(4).hex())
"""


class Faulty(EmbeddedBroker):
    async def _serve(self):
        raise ValueError("a fault of the broker")


def test_what_keeps_a_broker_from_starting_is_said_at_once():
    begun = time.monotonic()
    with pytest.raises(ValueError, match="a fault of the broker"):
        Faulty().start()
    assert time.monotonic() - begun < 20
    with EmbeddedBroker() as first, pytest.raises(OSError, match="in use"):
        EmbeddedBroker(first.address.port).start()


def test_a_broker_that_has_stopped_starts_again_and_stops_twice():
    broker = EmbeddedBroker().start()
    broker.stop()
    broker.stop()
    with broker, socket.create_connection(("127.0.0.1", broker.address.port)):
        pass


def test_a_process_without_files_to_open_takes_clients_in_when_it_has_some():
    done = subprocess.run([sys.executable, "-c", CROWDED], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["nothing True", "20020000"], done.stderr
    assert "can take nobody in for 1 s" in done.stderr
