"""A run that is served to devices: it says what it is, whom it waits for, and ends between two rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from lola.adapters.apply import Refusal
from lola.adapters.devices import Roster
from lola.adapters.messages import BlockGradient
from lola.adapters.plan import RoundPlan
from lola.devices.address import BrokerAddress
from lola.devices.exchange import Exchange
from lola.devices.server import MqttDevices
from lola.devices.topics import announcement_topic, check_device
from lola.models.depths import Depths
from lola.problem import Problem

_GOODBYE_S = 2.0


class InterruptedBetweenStepsError(KeyboardInterrupt):
    """Somebody ended the run, and the model is as the last whole step left it."""


class ServedDevices(MqttDevices):
    """`MqttDevices` that tell whoever joins what the run is, and wait for those it needs.

    Parameters
    ----------
    depths : lola.models.Depths
    address : BrokerAddress
    run : str
    announce : callable
        ``announce(identity)`` gives what devices read of the run, whose model has this identity. It is published
        whenever the broker may not have it.
    say : callable
        ``say(line)`` is told whom the run waits for, when that changes.
    names : iterable of str
        Devices by number; see `MqttDevices`.
    needed : iterable of str
        Those that the first round waits for.
    slack, message_s, patience_s, longest_s : float
        See `MqttDevices`.

    Raises
    ------
    ImportError, TypeError, ValueError, OSError
        See `MqttDevices`.
    """

    def __init__(
        self,
        depths: Depths,
        address: BrokerAddress,
        run: str,
        announce: Callable[[str], bytes],
        say: Callable[[str], None],
        *,
        names: Iterable[str] = (),
        needed: Iterable[str] = (),
        slack: float = 1.5,
        message_s: float = 2.0,
        patience_s: float = 600.0,
        longest_s: float = 3600.0,
    ) -> None:
        super().__init__(
            depths,
            address,
            run,
            names=names,
            slack=slack,
            message_s=message_s,
            patience_s=patience_s,
            longest_s=longest_s,
        )
        self.announcement, self._say = announce(self.register.identity), say
        self._needed = [check_device(name) for name in needed]
        self._waiting = self._interrupted = False
        self._said = ""

    @property
    def progress(self) -> tuple[Exchange, ...]:
        """What has passed in the round that is on, by device, or in the last one."""
        this = self._round
        return self.exchanges if this is None else tuple(this.exchanges.values())

    def roster(self, problem: Problem, after: int) -> Roster:
        """Say who is there; see `MqttDevices.roster`. The first time, wait for those that the run needs."""
        with self._interruptible():
            with self._changed:
                present = [one.name for one in self.register.present()]
            if after >= 0 or not present:
                self._say_waiting("devices that can hold the model", present)
            while True:
                roster = super().roster(problem, after)
                there = roster.fleet.name or ()
                missing = [name for name in self._needed if name not in there]
                if not missing:
                    self._needed, self._said = [], ""
                    return roster
                self._say_waiting(", ".join(missing), there)
                after = roster.serial

    def answers(self, plan: RoundPlan) -> Iterator[BlockGradient | Refusal]:
        """Send update and tasks, and give what comes; see `MqttDevices.answers`."""
        with self._interruptible():
            yield from super().answers(plan)

    def interrupt(self) -> None:
        """Raise `InterruptedBetweenStepsError` while this waits for devices, now or when it next does.

        For a signal's handler: so a run ends between two steps of its optimizer, and never within one.
        """
        if self._waiting:
            raise InterruptedBetweenStepsError
        self._interrupted = True

    def farewell(self) -> None:
        """Tell devices that the run has ended."""
        self.announcement = b""
        self._announce()(_GOODBYE_S)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        if self._interrupted:
            raise InterruptedBetweenStepsError
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def _joined(self) -> None:
        self._announce()
        super()._joined()

    def _announce(self) -> Callable[[float], bool]:
        return self._connection.publish(announcement_topic(self.run_name), self.announcement, retain=True)

    def _say_waiting(self, whom: str, present: Sequence[str]) -> None:
        line = f"waiting for {whom}; there: {', '.join(present) or 'nobody yet'}"
        if line != self._said:
            self._said = line
            self._say(line)
