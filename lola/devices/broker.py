"""A broker in this process, for trying out and for tests."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lola.devices.address import BrokerAddress
from lola.solvers.errors import LolaError

if TYPE_CHECKING:
    from types import TracebackType

_log = logging.getLogger(__name__)
_STARTED_S = 30.0
_STOPPED_S = 10.0
_SETTLING_S = 0.05
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_FULL_S = 1.0
_BACKLOG = 512  # devices that may connect at the same moment
_LISTENER = "default"
_ANYONE = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}


class EmbeddedBroker:
    """An MQTT broker (``amqtt``) in a thread of this process, on 127.0.0.1.

    Whoever can reach this machine's own address can take part: there are no certificates and no access list. It keeps
    nothing when it stops. Use it as a context manager.

    Parameters
    ----------
    port : int
        0 takes one that is free.
    most_bytes : int
        A client that sends a larger packet is disconnected before more of it is read.

    Attributes
    ----------
    address : BrokerAddress
        Where it listens, once it is started.

    Raises
    ------
    ImportError
        If the extra ``devices`` is not installed.
    """

    def __init__(self, port: int = 0, *, most_bytes: int = 2**26) -> None:
        try:
            import amqtt.broker  # noqa: F401
        except ImportError as error:
            raise ImportError("an embedded broker is needed; install lola-deft[devices]") from error
        self.most_bytes = most_bytes
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._fault: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> BrokerAddress:
        """Where it listens."""
        return BrokerAddress("127.0.0.1", self._port)

    def start(self) -> EmbeddedBroker:
        """Listen.

        Raises
        ------
        OSError
            If the port is taken.
        LolaError
            If it does not start in half a minute. What else keeps it from starting is raised as it is.
        """
        self._ready.clear()
        self._fault = None
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self._thread.start()
        if not self._ready.wait(_STARTED_S):
            raise LolaError(f"the embedded broker was to start in {_STARTED_S:g} s, and did not; use another broker")
        if self._fault is not None:
            self._thread.join(_STOPPED_S)
            raise self._fault
        return self

    def stop(self) -> None:
        """Disconnect everybody and forget everything."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        if self._thread.is_alive():
            with suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_STOPPED_S)
            if self._thread.is_alive():
                _log.warning("the embedded broker was to stop in %g s, and goes on until this process ends", _STOPPED_S)

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.is_set():  # nobody waits for it any more
                raise
            self._fault = error
            self._ready.set()

    async def _serve(self) -> None:
        from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
        from amqtt.broker import Broker
        from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

        most_bytes = self.most_bytes

        class BoundedReader(StreamReaderAdapter):  # type: ignore[misc]  # amqtt has no types
            """What a client sends, until it announces more than it may."""

            def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                super().__init__(reader)
                self._transport = writer.transport

            async def read(self, n: int = -1) -> bytes:
                if not 0 <= n <= most_bytes:
                    _log.warning("a client announces %d bytes; at most %d are taken. It is disconnected", n, most_bytes)
                    self._transport.abort()
                return bytes(await super().read(n))

        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        self._loop, self._stopping = loop, stopping
        # "External": connections are accepted here, so that what they send can be bounded.
        listeners: dict[str, Any] = {_LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)}
        broker = Broker(BrokerConfig(listeners=listeners, plugins=_ANYONE))
        clients: set[asyncio.Task[None]] = set()

        async def serve(connected: socket.socket) -> None:
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connected)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            try:
                await broker.external_connected(BoundedReader(reader, writer), StreamWriterAdapter(writer), _LISTENER)
            except Exception as error:  # a client that fails, or fails it, ends alone, and may come again
                _log.info("the embedded broker loses a client: %s: %s", type(error).__name__, error)
            finally:
                transport.abort()

        def accept() -> None:
            try:
                connected, _ = listening.accept()
            except OSError as error:
                if error.errno in _FULL:  # who waits would be announced again and again
                    _log.warning("the embedded broker can take nobody in for %g s: %s", _FULL_S, error)
                    loop.remove_reader(listening)
                    loop.call_later(_FULL_S, listen)
                return  # else it has left again
            connected.setblocking(False)
            task = loop.create_task(serve(connected))
            clients.add(task)
            task.add_done_callback(clients.discard)

        def listen() -> None:
            if not stopping.is_set():
                loop.add_reader(listening, accept)

        # Not asyncio's server, which in Python 3.11 leaks a connection that comes as it is closed.
        with socket.socket() as listening:
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", self._port))
            listening.listen(_BACKLOG)
            self._port = listening.getsockname()[1]
            await broker.start()
            listen()
            self._ready.set()
            await stopping.wait()
            loop.remove_reader(listening)
            await asyncio.sleep(_SETTLING_S)  # so that who came last is served, and can be told to go
            await broker.shutdown()
            for task in list(clients):
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
        await asyncio.sleep(_SETTLING_S)  # so that what was aborted is closed
