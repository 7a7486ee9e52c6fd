"""Messages that wait to be sent, and what is known of their acknowledgement."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class EarlyMessage:
    """A message that waits until it is known which MQTT the broker speaks.

    Parameters
    ----------
    send : callable
        ``send()`` publishes it, and returns what `acknowledged` then asks.
    """

    def __init__(self, send: Callable[[], Callable[[float], bool]]) -> None:
        self._send, self._sent = send, threading.Event()
        self._acknowledged: Callable[[float], bool] = dropped

    def send(self) -> None:
        """Publish it."""
        self._acknowledged = self._send()
        self._sent.set()

    def acknowledged(self, timeout_s: float) -> bool:
        """Wait until the broker has it, and say whether it has."""
        end = time.monotonic() + timeout_s
        return self._sent.wait(timeout_s) and self._acknowledged(max(end - time.monotonic(), 0.0))


def dropped(timeout_s: float) -> bool:
    """Wait for the acknowledgement of a message that was never sent, which does not come."""
    time.sleep(timeout_s)
    return False
