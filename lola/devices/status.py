"""What a device says of itself: the message that fleets are made of, and what its model must be."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lola.adapters.identity import frozen_digest
from lola.adapters.wire import count, layouts_of, pack, positive, unpack
from lola.files.formats import FormatError
from lola.solvers.checks import shown
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    from lola.models.depths import Depths

_LONGEST_WHY = 200
_LONGEST_NAME = 64
# Wider than any device: beyond them, times are no times any more, and one device could hold a round for ever.
_RANGES = {"speed": (1e-6, 1e6), "memory_bytes": (1.0, 2.0**50), "uplink_bps": (1.0, 1e12)}


class State(StrEnum):
    """What a device is doing."""

    JOINED = "joined"  # connected, perhaps again, and without work
    COMPUTING = "computing"
    UPLOADING = "uploading"
    IDLE = "idle"  # its answer has arrived at the broker
    REFUSED = "refused"  # it will not do the task of this version
    GONE = "gone"  # its connection has ended; the broker says so in its place


@dataclass(frozen=True)
class DeviceStatus:
    """What a device says of itself.

    Attributes
    ----------
    state : State
    version : int
        Of the task at work, or of the last one; -1 before the first.
    speed : float
        Relative to the reference device of the profile.
    memory_bytes : float
        That it offers.
    uplink_bps : float
        Bit/s that it uploads where it has the uplink to itself.
    rows : int
        Of data.
    identity : str
        Of its model; see `model_identity`.
    why : str
        Why it refused a task; else empty. At most 200 printable characters.
    """

    state: State
    version: int
    speed: float
    memory_bytes: float
    uplink_bps: float
    rows: int
    identity: str
    why: str = ""

    def to_bytes(self) -> bytes:
        """Write the status, to be sent."""
        return pack("DeviceStatus", asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, *, limit: int | None = None) -> DeviceStatus:
        """Read a status.

        Parameters
        ----------
        data : bytes
        limit : int, optional
            Most bytes to read; by default what a status takes.

        Raises
        ------
        FormatError
            If the bytes are no status, or it says what no device is.
        """
        header, _ = unpack("DeviceStatus", data, [field.name for field in fields(cls)], limit)
        where, state, why = "a DeviceStatus", header["state"], header["why"]
        if state not in tuple(State):
            raise FormatError(
                f"{where}'s state must be one of {', '.join(State)}, got {shown(state)}; does another version of lola "
                "send?"
            )
        identity = header["identity"]
        if not isinstance(identity, str) or not re.fullmatch("[0-9a-f]{64}", identity):
            raise FormatError(f"{where}'s identity must be a SHA-256 in hexadecimal, got {shown(identity)}")
        if not isinstance(why, str) or len(why) > _LONGEST_WHY or not why.isprintable():
            raise FormatError(
                f"{where}'s why must be at most {_LONGEST_WHY} printable characters, got {shown(why)}; shorten it"
            )
        return cls(
            state=State(state),
            version=count(where, header, "version", -1),
            speed=_plausible(where, header, "speed"),
            memory_bytes=_plausible(where, header, "memory_bytes"),
            uplink_bps=_plausible(where, header, "uplink_bps"),
            rows=count(where, header, "rows", 1),
            identity=identity,
            why=why,
        )


def _plausible(where: str, header: Mapping[str, Any], name: str) -> float:
    value, (least, most) = positive(where, header, name), _RANGES[name]
    if not least <= value <= most:
        raise FormatError(f"{where}'s {name} must lie in {least:g}…{most:g}, got {value:g}; measure it again")
    return value


def short_why(why: str) -> str:
    """Make any text one that a status can carry."""
    printable = "".join(letter if letter.isprintable() else " " for letter in why)
    return printable if len(printable) <= _LONGEST_WHY else f"{printable[: _LONGEST_WHY - 1]}…"


def model_identity(depths: Depths) -> str:
    """SHA-256 of all that two models must share to compute the same gradients at the same trained parameters.

    That is what is frozen, LoRA's alpha, and names, shapes and types of what is trained. It takes as long as reading
    the model's weights once.
    """
    trained = sorted(layouts_of(depths.all_named_parameters()).items())
    return hashlib.sha256(repr((frozen_digest(depths), depths.alpha, depths.head, trained)).encode()).hexdigest()


def check_name(what: str, name: str) -> str:
    """Return the name of a device or a run, which becomes part of topics, of file names and of a certificate.

    Raises
    ------
    ValueError
        If it is not 1 to 64 of ``A-Z a-z 0-9 . _ -``, beginning with a letter or digit.
    """
    if not isinstance(name, str) or not re.fullmatch(f"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_LONGEST_NAME - 1}}}", name):
        raise LolaValueError(
            f"{what} must be named by 1 to {_LONGEST_NAME} of the characters A-Z a-z 0-9 . _ - and begin with a letter "
            f"or digit, got {shown(name)}; choose another name"
        )
    return name


def check_measures(speed: float, memory_bytes: float, uplink_bps: float) -> None:
    """Refuse what a device cannot say of itself.

    Raises
    ------
    ValueError
        If a number is not positive and finite, or of no device: a server would not hear it.
    """
    for name, value in (("speed", speed), ("memory_bytes", memory_bytes), ("uplink_bps", uplink_bps)):
        if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
            raise LolaValueError(f"{name} must be a positive number, got {shown(value)}; measure it again")
        least, most = _RANGES[name]
        if not least <= value <= most:
            raise LolaValueError(f"{name} must lie in {least:g}…{most:g}, got {value:g}; measure it again")
