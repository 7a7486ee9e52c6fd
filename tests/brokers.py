"""Brokers as processes of their own, to be killed: the embedded one, and mosquitto as lola sets it up."""

import os
import socket
import subprocess
from contextlib import ExitStack

import device_processes
import pytest
from device_processes import process
from fleets import NAMES, until

from lola.devices import BrokerAddress, Certificates, write_mosquitto
from lola.devices.mosquitto import installed_mosquitto

MOSQUITTO = installed_mosquitto()
needs_mosquitto = pytest.mark.skipif(
    MOSQUITTO is None and not os.environ.get("CI"), reason="mosquitto is not installed (apt-get install mosquitto)"
)


class Mosquitto:
    """A broker that runs with the configuration that lola wrote, on a port of its own."""

    def __init__(self, folder, **options):
        assert MOSQUITTO is not None, "where CI is set, mosquitto must be installed: .ci/run does"
        self.certificates = Certificates.create(folder / "certificates", ["127.0.0.1"])
        for name in NAMES:
            self.certificates.add_device(name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = {"runs": ["tiny", "run"], "most_bytes": 2**20, "port": self.port, "bind": "127.0.0.1"} | options
        self.configuration, _ = write_mosquitto(self.certificates, **options)
        with self.configuration.open("a") as file:
            file.write("user root\n" if os.getuid() == 0 else "")  # keys are for their owner
        self.log, self.process = folder / "mosquitto.log", None

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen([MOSQUITTO, "-c", self.configuration], stdout=log, stderr=log)
        until(self.listens)

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait(60)

    def address(self, name, certificates=None):
        certificate, key = (certificates or self.certificates).paths(name)
        return BrokerAddress("127.0.0.1", self.port, self.certificates.authority, certificate, key)


class Embedded:
    """The embedded broker in a process of its own, always on the same port."""

    def __init__(self, folder):
        self.port, self._processes = 0, ExitStack()

    def start(self):
        self._child, hear = self._processes.enter_context(process(device_processes.broker, self.port))
        self.port = hear.recv()

    def stop(self):
        self._processes.close()

    def kill(self):
        self._child.kill()
        self._child.join(60)

    def address(self, name):
        return BrokerAddress(port=self.port)
