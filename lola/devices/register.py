"""Which devices the server knows, as they last said they are, and which of them get work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from lola.adapters.devices import Roster
from lola.devices.status import DeviceStatus, State
from lola.devices.topics import check_device
from lola.fleet import Fleet
from lola.solvers.checks import LARGEST, SMALLEST
from lola.solvers.errors import LolaValueError

_MOST_DOUBLINGS = 8  # then a silent device costs one round in 256
_MOST_DEVICES = 10_000  # names are made up for nothing where there is no access list


@dataclass
class KnownDevice:
    """What the server knows of a device.

    Attributes
    ----------
    name : str
    number : int
        That it keeps for as long as the run lasts.
    status : DeviceStatus
        The latest.
    suspect : bool
        Whether it gets no work until it reports: it did not do what it was to, or has work that nobody waits for.
    silent : int
        Rounds in a row that it was asked in, and did not answer.
    resting_until_s : float or None
        Of `time.monotonic`: it gets no work before, whatever it reports, for it was silent again and again.
    """

    name: str
    number: int
    status: DeviceStatus
    suspect: bool
    silent: int = 0
    resting_until_s: float | None = None

    @property
    def gone(self) -> bool:
        """Whether its connection has ended."""
        return self.status.state == State.GONE


class Register:
    """The devices that have reported.

    Parameters
    ----------
    names : iterable of str
        Devices by number; others get the next number when they first report.
    identity : str
        Of the server's model: a device with another gets no work.

    Raises
    ------
    ValueError
        If a name is none, or there twice.
    """

    def __init__(self, names: Iterable[str], identity: str) -> None:
        self.names = [check_device(name) for name in names]
        if len(set(self.names)) != len(self.names):
            raise LolaValueError(f"devices must have different names, got {', '.join(self.names)}; name each once")
        self.identity = identity
        self.known: dict[str, KnownDevice] = {}
        self.serial = 0

    def hear(self, name: str, status: DeviceStatus) -> str:
        """Take down what a device says; say why it gets no work, where that is its own doing."""
        known, why = self.known.get(name), ""
        if status.identity != self.identity:
            why = "it has another model, or LoRA, than the server, and gets no work; load the server's"
            status = replace(status, state=State.GONE)
        if known is None:
            if why or len(self.known) >= _MOST_DEVICES:
                return why or f"it is ignored, for there are {_MOST_DEVICES} devices already"
            if name not in self.names:
                self.names.append(name)
            known = self.known[name] = KnownDevice(name, self.names.index(name), status, suspect=True)
        known.status = status
        if status.state in (State.JOINED, State.IDLE):
            known.suspect = False
        elif status.state == State.REFUSED:
            known.suspect = True
        self.serial += 1
        return why

    def doubt(self, names: Iterable[str]) -> None:
        """Give some devices no work until they report."""
        for name in names:
            if name in self.known:
                self.known[name].suspect = True
        self.serial += 1

    def note_silence(self, name: str, round_s: float, now_s: float) -> float:
        """Note that a device has not answered in a round that took so long; return how long it gets no work for that.

        That is no time after the first such round in a row, then as long as one round, as three, seven, fifteen…
        """
        known = self.known.get(name)
        if known is None:
            return 0.0
        known.silent += 1
        rest_s = float(2 ** min(known.silent - 1, _MOST_DOUBLINGS) - 1) * round_s
        if rest_s:
            known.resting_until_s = now_s + rest_s
        return rest_s

    def note_answer(self, name: str) -> None:
        """Note that a device has answered."""
        if name in self.known:
            self.known[name].silent = 0

    def wake(self, now_s: float) -> None:
        """Let those have work again whose rest is over."""
        for known in self.known.values():
            if known.resting_until_s is not None and known.resting_until_s <= now_s:
                known.resting_until_s = None
                self.serial += 1

    def present(self, bandwidth_hz: float = 1.0) -> list[KnownDevice]:
        """Return who gets work, by number: who is there, and has bit/s/Hz that a fleet may have."""
        awake = (one for one in self.known.values() if one.resting_until_s is None)
        there = (one for one in awake if not one.suspect and not one.gone)
        heard = (one for one in there if SMALLEST <= one.status.uplink_bps / bandwidth_hz <= LARGEST)
        return sorted(heard, key=_number)

    def roster(self, bandwidth_hz: float) -> Roster:
        """Return who gets work as a fleet on a channel of so much bandwidth."""
        present = self.present(bandwidth_hz)
        said = [known.status for known in present]
        fleet = Fleet(
            speed=[status.speed for status in said],
            memory_bytes=[status.memory_bytes for status in said],
            spectral_efficiency=[status.uplink_bps / bandwidth_hz for status in said],
            name=[known.name for known in present],
        )
        return Roster(self.serial, np.array([known.number for known in present], dtype=np.int64), fleet)


def _number(known: KnownDevice) -> int:
    return known.number
