"""How a device joins a run: it hears what the run is, times its uplink, and takes part until the run ends."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from lola.devices.address import BrokerAddress
from lola.devices.connection import BrokerError, Connected, Connection, Message
from lola.devices.edge import EdgeDevice
from lola.devices.status import check_name
from lola.devices.topics import announcement_topic, check_device, topic_of
from lola.solvers.errors import LolaError

_log = logging.getLogger(__name__)
_SILENCE_S = 30.0  # after which a device that waits says so again
_LOOK_S = 1.0
_ANNOUNCED_S = 10.0
_UPLOAD_S = 60.0
_PROBES = 3


class Visit(Connected):
    """A device's first connection to a broker, before it has the model. Use it as a context manager.

    Parameters
    ----------
    address : BrokerAddress
    run, name : str
        Of the run, and of this device.
    most_bytes : int
        Of an announcement.

    Raises
    ------
    ImportError, ValueError, OSError
        If the extra ``devices`` is not installed, or a name or a certificate cannot be used.
    """

    def __init__(self, address: BrokerAddress, run: str, name: str, *, most_bytes: int) -> None:
        self.run_name, self.name = check_name("a run", run), check_device(name)
        self._heard: bytes = b""
        self._changed = threading.Condition()
        self._connection = Connection(
            address,
            self.name,
            [announcement_topic(run)],
            self._came,
            lambda: None,
            lambda: None,
            most_bytes=most_bytes,
            queued=_PROBES,
        )

    def announcement(self) -> bytes:
        """Wait for the run's server, however long it takes, and return what it says, undecoded.

        Raises
        ------
        BrokerError
            If the broker does not let this device in.
        """
        address, said_at = self._connection.address, time.monotonic()
        while True:
            connected = self._connection.wait(_LOOK_S)
            with self._changed:
                if connected and self._changed.wait_for(lambda: self._heard, timeout=_LOOK_S):
                    return self._heard
            if time.monotonic() - said_at > _SILENCE_S:
                said_at = time.monotonic()
                awaited = f"the server of run {self.run_name}" if connected else "a broker"
                _log.warning("%s waits for %s at %s: is that its name, and is it started?", self.name, awaited, address)

    def uplink_bps(self, n_bytes: int) -> float:
        """Time uploads of so many bytes, which nobody reads, and return the bit/s of the quickest.

        Raises
        ------
        BrokerError
            If the broker does not take them in a minute.
        """
        topic, times = topic_of(self.run_name, "probe", self.name), []
        for _ in range(_PROBES):
            started = time.monotonic()
            if not self._connection.publish(topic, bytes(n_bytes))(_UPLOAD_S):
                raise BrokerError(
                    f"{self._connection.address}: {n_bytes} bytes were to be uploaded within {_UPLOAD_S:g} s, and were "
                    "not; does the access list let this device write its probe? Or say how fast its uplink is"
                )
            times.append(max(time.monotonic() - started, 1e-6))
        return 8 * n_bytes / min(times)

    def _came(self, message: Message) -> None:
        if message.topic != announcement_topic(self.run_name):  # what a device of this name was to get before
            return
        with self._changed:
            self._heard = message.payload
            self._changed.notify_all()


class JoinedDevice(EdgeDevice):
    """An `EdgeDevice` that ends when its run does.

    Parameters
    ----------
    announcement : bytes
        What the run's server said, as it came.
    arguments, options
        See `EdgeDevice`.
    announced_s : float
        How long after it first connects it must have heard of the run again, which may have ended meanwhile.
    """

    def __init__(self, announcement: bytes, *arguments: Any, announced_s: float = _ANNOUNCED_S, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._announcement = announcement
        self._other = self._unannounced = False
        self._silence: threading.Timer | None = None
        self._announced_s = announced_s
        self._connection.topics.append(announcement_topic(self.run_name))

    def run(self) -> None:
        """Take part until the run ends, or `stop` is called; see `EdgeDevice.run`.

        Raises
        ------
        LolaError
            If the server goes on with other settings than this device joined, or nobody speaks of the run any more.
        """
        try:
            super().run()
        finally:
            if self._silence is not None:
                self._silence.cancel()
        if self._unannounced:
            raise LolaError(
                f"run {self.run_name} was to be there still when {self.name} was ready, and is not: nothing was heard "
                f"of it for {self._announced_s:g} s; start {self.name} again once it is served"
            )
        if self._other:
            raise LolaError(
                f"run {self.run_name} goes on with other settings than those that {self.name} joined; start "
                f"{self.name} again"
            )

    def _came(self, message: Message) -> None:
        if message.topic != announcement_topic(self.run_name):
            super()._came(message)
            return
        if self._silence is not None:
            self._silence.cancel()
        if message.payload != self._announcement:
            self._other = bool(message.payload)
            self.stop()

    def _connected(self) -> None:
        if self._silence is None:  # later, the broker or the server may just be away
            self._silence = threading.Timer(self._announced_s, self._end_unannounced)
            self._silence.daemon = True
            self._silence.start()
        super()._connected()

    def _end_unannounced(self) -> None:
        self._unannounced = True
        self.stop()
