"""A network that can be cut: a proxy before a broker, in threads of this process."""

import select
import socket
import threading
from contextlib import suppress

from lola.devices import BrokerAddress


class Proxy:
    """Forwards connections to a broker, until it is cut. Use it as a context manager."""

    def __init__(self, address):
        self.target = (address.host, address.port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = BrokerAddress("127.0.0.1", self.listener.getsockname()[1])
        self.flows, self.refusing, self.ended = threading.Event(), False, False
        self.flows.set()
        self.watched, self.seen = None, threading.Event()
        self.pairs = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.flows.set()
        self.listener.close()
        self.hang_up()

    def silence(self):
        """Lose nothing and forward nothing, as a cable that is pulled, until `heal`."""
        self.flows.clear()

    def hang_up(self):
        """End every connection, and each that is made until `heal`."""
        self.refusing = not self.ended
        for pair in self.pairs:
            for one in pair:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self.pairs = []

    def heal(self):
        self.refusing = False
        self.flows.set()

    def cut_in(self, watched):
        """Once these bytes come from a client, forward half of what follows them, then nothing: `seen` is set."""
        self.watched = watched

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self.refusing or self.ended:
                    client.close()
                    continue
                server = socket.create_connection(self.target)
                self.pairs.append((client, server))
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client, server):
        with suppress(OSError), client, server:
            while True:
                for one in select.select([client, server], [], [])[0]:
                    data = one.recv(2**16)
                    self.flows.wait()
                    if not data:
                        return
                    if one is client and self.watched is not None and self.watched in data:
                        follows = data.index(self.watched) + len(self.watched)  # what is before them arrives whole
                        data, self.watched = data[: (follows + len(data)) // 2], None
                        self.flows.clear()
                        server.sendall(data)
                        self.seen.set()
                        continue
                    (server if one is client else client).sendall(data)
