"""Which message goes where: the topics of a run, and who may read or write them."""

from __future__ import annotations

from lola.devices.status import check_name
from lola.solvers.errors import LolaValueError

ROOT = "lola"
SERVER = "server"  # what the server calls itself; no device may
_TAKEN = (SERVER, "broker", "authority")  # a device's authority.pem would stand where devices look for the authority's


def update_topic(run: str) -> str:
    """Where a run's `ModelUpdate` is, retained; every device reads it."""
    return f"{ROOT}/{run}/update"


def announcement_topic(run: str) -> str:
    """Where a server says, retained, what its run is; every device reads it."""
    return f"{ROOT}/{run}/announcement"


def topic_of(run: str, kind: str, device: str) -> str:
    """Return where one device's messages of a kind go: ``task``, ``answer``, ``status`` or ``probe``."""
    return f"{ROOT}/{run}/{kind}/{device}"


def device_of(topic: str) -> tuple[str, str] | None:
    """Return kind and device of a topic that `topic_of` made, or None of any other."""
    parts = topic.split("/")
    if len(parts) != 4 or parts[0] != ROOT:
        return None
    try:
        return parts[2], check_device(parts[3])
    except LolaValueError:
        return None


def check_device(name: str) -> str:
    """Return the name of a device.

    Raises
    ------
    ValueError
        If it is none, or that of the server, the broker or their authority, whose certificates bear it.
    """
    if (taken := check_name("a device", name).lower()) in _TAKEN:  # some file systems take A for a
        raise LolaValueError(f"a device must have a name of its own, got {name!r}, the {taken}'s; choose another")
    return name
