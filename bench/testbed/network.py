"""A network of namespaces on a bridge, one a device, whose uplinks are shaped by a token bucket."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import leftovers

# Of an Ethernet frame of 1514 bytes 1448 are TCP's payload. A bucket counts frames, a device times its payload.
PAYLOAD = 1448 / 1514
_UPLINK = "uplink"
_MOST_MEMBERS = 200
_SUBNETS = 256


class TestbedError(Exception):
    """The machine does not do what a testbed needs."""

    __test__ = False  # pytest takes the name for a class of tests


def missing() -> list[str]:
    """What this machine lacks for a network of namespaces, in words; empty if nothing."""
    lacks = [f"{tool} (iproute2)" for tool in ("ip", "tc") if shutil.which(tool) is None]
    if os.geteuid() != 0:
        return [*lacks, "root"]
    if lacks:
        return lacks
    probe = f"{leftovers.prefix_of(os.getpid())}probe"
    with suppress(TestbedError):
        _run("ip", "netns", "delete", probe)  # of an older process of this number
    try:
        _run("ip", "netns", "add", probe)
        try:
            _run("tc", "-n", probe, "qdisc", "add", "dev", "lo", "root", *_bucket(1e6))
        finally:
            _run("ip", "netns", "delete", probe)
    except TestbedError as error:
        return [f"the right to make and shape networks ({error})"]
    return []


class Network:
    """A bridge in the root namespace and members in namespaces of their own. Use it as a context manager.

    Whatever ends this process, all that was made is removed: see `leftovers`.
    """

    def __init__(self) -> None:
        self.prefix = leftovers.prefix_of(os.getpid())
        self.members: dict[str, int] = {}
        self._bridge = f"{self.prefix}br"
        self._subnet = ""
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Network:
        leftovers.clean(self.prefix)  # of an older process of this number
        self._guard = subprocess.Popen(
            [sys.executable, str(Path(leftovers.__file__)), self.prefix], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            _run("ip", "link", "add", self._bridge, "type", "bridge")
            self._take_subnet()
            _run("ip", "link", "set", self._bridge, "up")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _take_subnet(self) -> None:
        """Give the bridge an address in a subnet that nobody has, nor has taken at the same moment."""
        for number in random.Random(self.prefix).sample(range(_SUBNETS), _SUBNETS):  # others try another order
            self._subnet = f"10.213.{number}"
            if f" {self._subnet}." in _run("ip", "-4", "addr"):
                continue
            _run("ip", "addr", "add", f"{self.host}/24", "dev", self._bridge)
            if _run("ip", "-4", "addr").count(f" {self.host}/") == 1:
                return
            _run("ip", "addr", "delete", f"{self.host}/24", "dev", self._bridge)
        raise TestbedError("a free subnet of 10.213.0.0/16 was wanted, and all are taken; end other testbeds")

    def _close(self) -> None:
        """Let the guard clean up, as it would if this process were killed."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()

    @property
    def host(self) -> str:
        """The root namespace's address."""
        return f"{self._subnet}.1"

    def add(self, name: str) -> str:
        """Make a namespace for a member, connect it, and return its address."""
        if len(self.members) >= _MOST_MEMBERS:
            raise TestbedError(f"at most {_MOST_MEMBERS} members have an address, got one more; take several bridges")
        number = self.members[name] = len(self.members) + 2
        space, outside, address = self.space(name), f"{self.prefix}{number}", f"{self._subnet}.{number}"
        _run("ip", "netns", "add", space)
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", _UPLINK, "netns", space)
        _run("ip", "link", "set", outside, "master", self._bridge, "up")
        _run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", _UPLINK)
        _run("ip", "-n", space, "link", "set", _UPLINK, "up")
        _run("ip", "-n", space, "link", "set", "lo", "up")
        return address

    def space(self, name: str) -> str:
        """Return the name of a member's namespace."""
        return f"{self.prefix}{self.members[name]}"

    def inside(self, name: str, command: list[str]) -> list[str]:
        """Return the command that runs another one in a member's namespace."""
        return ["ip", "netns", "exec", self.space(name), *command]

    def shape(self, name: str, payload_bps: float) -> None:
        """Let a member upload so many bit/s of payload."""
        _run("tc", "-n", self.space(name), "qdisc", "replace", "dev", _UPLINK, "root", *_bucket(payload_bps / PAYLOAD))


def _bucket(frames_bps: float) -> list[str]:
    # What a bucket holds goes at once, so it holds a frame and little more. The queue holds all that a device uploads:
    # radios repeat what they lose, and where a short queue dropped frames, TCP would be measured, not the rate.
    return ["tbf", "rate", f"{frames_bps:.0f}bit", "burst", "2kb", "limit", "16mb"]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TestbedError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
