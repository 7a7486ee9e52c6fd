"""A connection to an MQTT broker that comes back by itself: the client that server and devices share."""

from __future__ import annotations

import logging
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from lola.devices.address import BrokerAddress
from lola.devices.outbox import EarlyMessage, dropped
from lola.solvers.checks import shown
from lola.solvers.errors import LolaError

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_log = logging.getLogger(__name__)
_KEEP_ALIVE_S = 10  # the broker misses a silent client after one and a half times as long
_QUALITY = 1  # at least once: answers and tasks bear being told twice
_MOST_PACKET = 2**28 - 1  # bytes; what MQTT's packets can say of themselves
_MOST_EXPIRY_S = 2**32 - 1
AROUND = 1024  # bytes of a packet around its payload: the topic and what else MQTT says
_SHORT_S = 5.0  # two clients of one name end each other's connection within the second that paho waits


class BrokerError(LolaError):
    """The broker is there and does not let this client in."""


class Message(NamedTuple):
    """A message as it came, not decoded."""

    topic: str
    payload: bytes
    retained: bool


class Connection:
    """A connection to a broker, which is made again, later and later up to half a minute, whenever it is lost.

    MQTT 5 where the broker has it, else 3.1.1. A message is delivered at least once; one that is published while there
    is no connection waits for it, up to `queued` of them.

    Parameters
    ----------
    address : BrokerAddress
    client : str
        Its name; the broker drops an older client of the same name.
    topics : sequence of str
        To subscribe to, whenever it is connected.
    on_message : callable
        ``on_message(message)``, in the connection's own thread: it must not take long, and must not raise.
    on_connected, on_lost : callable
        Called there, too, once the topics are subscribed to, and when the connection is lost.
    most_bytes : int
        Larger messages are not taken: a broker of MQTT 5 is told not to send them, and what comes all the same is
        dropped, undecoded, and logged.
    queued : int
        Messages that may wait for the broker.
    will : tuple of str and bytes, optional
        Topic and payload that the broker publishes, retained, when this client is lost.

    Attributes
    ----------
    largest_packet : int or None
        Bytes that the broker takes, where it says so.

    Raises
    ------
    ImportError
        If the extra ``devices`` is not installed.
    OSError, ValueError
        If the address's certificates cannot be used.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client: str,
        topics: Sequence[str],
        on_message: Callable[[Message], None],
        on_connected: Callable[[], None],
        on_lost: Callable[[], None],
        *,
        most_bytes: int,
        queued: int,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        import_paho()
        self.address, self.client, self.topics, self.most_bytes = address, client, list(topics), most_bytes
        self.queued = queued
        self._on_message, self._on_connected, self._on_lost, self._will = on_message, on_connected, on_lost, will
        self._tls = address.tls()
        self._connected = threading.Event()
        self._settling, self._closing, self._let_in = threading.Lock(), False, False
        self._refused: str | None = None
        self.largest_packet: int | None = None
        self._early: list[EarlyMessage] = []
        self._dropped = self._unsent = self._hung_up = self._short = 0
        self._since_s = 0.0
        self._modern = True
        self._agreed = False  # brokers of 3.1.1 choke on what 5 can say: the first CONNECT says as little as it can
        self._paho = self._new_client()

    def start(self) -> None:
        """Begin to connect."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = None
        if self._modern and self._agreed:
            properties = Properties(PacketTypes.CONNECT)
            properties.MaximumPacketSize = min(self.most_bytes + AROUND, _MOST_PACKET)
        self._paho.connect_async(self.address.host, self.address.port, _KEEP_ALIVE_S, properties=properties)
        self._paho.loop_start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is a connection, and say whether there is.

        Raises
        ------
        BrokerError
            If the broker is there and does not want this client, and never did: later, it comes back like any other.
        """
        connected = self._connected.wait(timeout_s)
        if not (connected or self._let_in) and self._refused is not None:
            raise BrokerError(
                f"{self.address}: the broker was to let {self.client} in, but: {self._refused}; is its certificate of "
                "the broker's authority, and not revoked?"
            )
        return connected

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connected.is_set()

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: float | None = None
    ) -> Callable[[float], bool]:
        """Publish a message, at least once.

        Parameters
        ----------
        topic : str
        payload : bytes
        retain : bool
            Whether the broker keeps it for those who subscribe later.
        expiry_s : float, optional
            Whoever was not there for so long need not get it any more; heeded by brokers of MQTT 5.

        Returns
        -------
        callable
            ``acknowledged(timeout_s)`` waits until the broker has it, and says whether it has. `dropped` where too many
            messages wait: it will never have this one.
        """
        send = partial(self._send, topic, payload, retain, expiry_s)
        with self._settling:
            if not self._agreed:
                if len(self._early) == self.queued:
                    return self._drop(topic)
                self._early.append(EarlyMessage(send))
                return self._early[-1].acknowledged
        return send()

    def _send(self, topic: str, payload: bytes, retain: bool, expiry_s: float | None) -> Callable[[float], bool]:
        from paho.mqtt import client as paho
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = None
        if self._modern and expiry_s is not None:
            properties = Properties(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = round(min(max(expiry_s, 1), _MOST_EXPIRY_S))
        sent = self._paho.publish(topic, payload, _QUALITY, retain, properties)
        if sent.rc == paho.MQTT_ERR_QUEUE_SIZE:
            return self._drop(topic)
        if sent.rc == paho.MQTT_ERR_NO_CONN:  # it is queued, which paho takes for a failure when it is asked
            sent.rc = paho.MQTT_ERR_SUCCESS

        def acknowledged(timeout_s: float) -> bool:
            sent.wait_for_publish(timeout_s)
            return sent.is_published()

        return acknowledged

    def _drop(self, topic: str) -> Callable[[float], bool]:
        self._unsent += 1
        if self._unsent & (self._unsent - 1) == 0:  # 1, 2, 4, 8…: whoever tries again must not flood the log
            _log.warning("%s: %s is dropped, for %d messages wait for the broker", self.client, topic, self.queued)
        return dropped

    def pace(self, bits_per_s: float | None) -> bool:
        """Have the kernel send no faster than this, or as fast as it can; say whether it does."""
        from socket import SOL_SOCKET

        # Linux's SO_MAX_PACING_RATE, which Python's socket does not name; all ones is no limit.
        rate = 2**32 - 1 if bits_per_s is None else min(max(int(bits_per_s / 8), 1), 2**32 - 1)
        sock = self._paho.socket()
        try:
            sock.setsockopt(SOL_SOCKET, 47, rate.to_bytes(4, "little"))  # type: ignore[union-attr]
        except (AttributeError, OSError):  # there is no connection, or no such option
            return False
        return True

    def close(self) -> None:
        """Say goodbye to the broker, which then publishes no will."""
        with self._settling:
            self._closing = True
        self._paho.disconnect()
        self._paho.loop_stop()
        self._connected.clear()

    def _new_client(self) -> Client:
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        made = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client,
            protocol=paho.MQTTv5 if self._modern else paho.MQTTv311,
        )
        if self._tls is not None:
            made.tls_set_context(self._tls)
        made.reconnect_delay_set(min_delay=1, max_delay=30)
        made.max_queued_messages_set(self.queued)
        if self._will is not None and self._agreed:
            made.will_set(*self._will, _QUALITY, retain=True)
        made.on_connect, made.on_disconnect, made.on_message = self._greeted, self._lost, self._came
        made.on_connect_fail = self._missed
        return made

    def _greeted(self, client: Client, _data: Any, _flags: Any, reason: Any, properties: Any = None) -> None:
        old = not self._agreed and reason == "Unsupported protocol version"
        if reason.is_failure and not old:
            self._refused = str(reason)
            _log.warning("%s: %s refuses: %s", self.client, self.address, reason)
            return
        if not self._agreed:
            with self._settling:
                if not self._closing:
                    self._modern, self._agreed = not old, True
                    client.disconnect()
                    self._paho = self._new_client()
                    self.start()
                    for early in self._early:
                        early.send()
                    self._early = []
            return
        self._refused, self._hung_up = None, 0
        self.largest_packet = getattr(properties, "MaximumPacketSize", None)
        if self.topics:
            client.subscribe([(topic, _QUALITY) for topic in self.topics])
        self._let_in, self._since_s = True, time.monotonic()
        self._connected.set()
        _log.info("%s: connected to %s", self.client, self.address)
        self._on_connected()

    def _missed(self, _client: Client, _data: Any) -> None:
        error = sys.exc_info()[1]  # paho handles it, and asks only then
        if isinstance(error, ssl.SSLError):
            self._refused = str(error)
        _log.info("%s: no connection to %s: %s", self.client, self.address, error)

    def _lost(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any = None) -> None:
        if client is not self._paho:  # it spoke another version than the broker
            return
        if self._connected.is_set():
            self._connected.clear()
            if reason.is_failure:
                _log.warning("%s: lost %s: %s", self.client, self.address, reason)
                self._short = self._short + 1 if time.monotonic() - self._since_s < _SHORT_S else 0
                if self._short > 2 and self._short & (self._short - 1) == 0:
                    why = "does another client have this name, or its certificate?"
                    _log.warning("%s: lost soon after it began, %d times in a row; %s", self.client, self._short, why)
            self._on_lost()
        else:  # a broker that wants another certificate just hangs up; one that is about to end does so, too
            self._hung_up += 1
            if self._hung_up > 1:
                self._refused = f"it ends the connection ({reason})"

    def _came(self, _client: Client, _data: Any, message: Any) -> None:
        from paho.mqtt.client import topic_matches_sub

        if not any(topic_matches_sub(topic, message.topic) for topic in self.topics):
            return  # amqtt hands all that it retains to whoever subscribes to anything
        if len(message.payload) > self.most_bytes:
            self._dropped += 1
            if self._dropped & (self._dropped - 1) == 0:  # 1, 2, 4, 8…: whoever floods must not flood the log
                _log.warning(
                    "%s: a message of %d bytes on %s is dropped; at most %d are taken (%d dropped so far)",
                    self.client,
                    len(message.payload),
                    shown(message.topic),
                    self.most_bytes,
                    self._dropped,
                )
            return
        try:
            self._on_message(Message(message.topic, bytes(message.payload), bool(message.retain)))
        except Exception:  # a fault of ours must not end the connection's thread unseen
            _log.exception("%s: a message on %s could not be handled", self.client, shown(message.topic))


class Connected:
    """Somebody who has a connection within a ``with``."""

    _connection: Connection

    def __enter__(self) -> Self:
        self._connection.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def import_paho() -> None:
    """Import paho-mqtt, or say what to install."""
    try:
        import paho.mqtt.client  # noqa: F401
    except ImportError as error:
        raise ImportError("an MQTT client is needed; install lola-deft[devices]") from error
