"""Namespaces, shaped uplinks, quotas and limits are what was asked for, and nothing of them stays."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import leftovers
import pytest
from fleets import until
from limits import PERIOD_US, ControlGroups, Signals, limits_here, without_groups
from network import Network, TestbedError, missing

LACKS = missing()
# Where CI is set, .ci/run has installed the tools; what is not there then is the right to use them.
INSTALLABLE = os.environ.get("CI") and os.geteuid() == 0 and not (shutil.which("ip") and shutil.which("tc"))
needs_network = pytest.mark.skipif(bool(LACKS) and not INSTALLABLE, reason=f"this machine lacks {', '.join(LACKS)}")
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as out:
    out.sendall(bytes(int(sys.argv[3])))
"""
# Works for so many seconds, and says how much of them it got.
WORK = """
import sys, time
begun = time.monotonic()
while time.monotonic() < begun + float(sys.argv[1]):
    pass
print(time.process_time() / (time.monotonic() - begun))
"""


def named(prefix):
    """What there is of a testbed."""
    return leftovers.left().get(prefix, [])


@needs_network
def test_an_uplink_has_its_rate_and_a_closed_network_leaves_nothing():
    wanted_bps, n_bytes = 4e6, 500_000
    with Network() as network, socket.socket() as server:
        first, second = (network.add(name) for name in ("ann", "bob"))
        assert first != second
        assert len(named(network.prefix)) == 5  # a bridge, and of each member a namespace and a link
        server.bind((network.host, 0))
        server.listen()
        network.shape("ann", wanted_bps)
        command = [sys.executable, "-c", SEND, network.host, str(server.getsockname()[1]), str(n_bytes)]
        errors = []
        for _ in range(3):  # a machine with other work reads late, but not each time
            started = time.monotonic()
            with subprocess.Popen(network.inside("ann", command)) as sender:
                connection, (address, _) = server.accept()
                assert address == first
                with connection:
                    begun, received = time.monotonic(), 0
                    while chunk := connection.recv(2**16):
                        received += len(chunk)
                    ended = time.monotonic()
            assert sender.returncode == 0
            assert received == n_bytes
            assert 8 * n_bytes / (ended - started) < 1.1 * wanted_bps
            errors.append(abs(8 * n_bytes / (ended - begun) / wanted_bps - 1))
        assert min(errors) < 0.1
    assert not named(network.prefix)


@needs_network
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_testbed_that_is_killed_leaves_nothing(number):
    code = """
import subprocess, sys
from network import Network
from limits import limits_here
with Network() as network:
    network.add("ann")
    sleeper = limits_here(network.prefix).start("ann", network.inside("ann", ["sleep", "600"]))
    print(sleeper.pid, flush=True)
    sleeper.wait()
"""
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    testbed = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=where)
    sleeper = int(testbed.stdout.readline())
    prefix = leftovers.prefix_of(testbed.pid)
    assert named(prefix)
    testbed.send_signal(number)
    testbed.communicate()
    until(lambda: not named(prefix), 60)
    until(lambda: not Path(f"/proc/{sleeper}").exists(), 60)


@needs_network
def test_cleaning_touches_what_the_dead_have_left_and_no_more():
    with subprocess.Popen(["true"]) as process:
        pass
    dead = leftovers.prefix_of(process.pid)
    others = f"lolatest-{os.getpid()}"
    try:
        for name in (f"{dead}2", others):
            subprocess.run(["ip", "netns", "add", name], check=True)
        with Network() as network:
            network.add("ann")
            assert leftovers.clean_all(network.prefix) == {
                network.prefix: f"left alone: process {os.getpid()} is running"
            }
            assert len(named(network.prefix)) == 3
            assert leftovers.clean_all(others) == {}
            assert leftovers.clean_all(dead) == {dead: "removed"}
        assert others in leftovers.namespaces()
        assert f"{dead}2" not in leftovers.namespaces()
    finally:
        for name in (f"{dead}2", others):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@needs_network
def test_two_networks_that_take_the_same_subnet_at_once_end_in_different_ones(tmp_path, monkeypatch):
    """A rival takes each address that is asked for just before it is given, twice."""
    real, rival = shutil.which("ip"), f"{leftovers.prefix_of(os.getpid())}else"
    script = tmp_path / "ip"
    script.write_text(f"""#!/bin/sh
if [ "$1 $2" = "addr add" ] && [ ! -e {tmp_path}/2 ]; then
    [ -e {tmp_path}/1 ] && touch {tmp_path}/2 || {{ touch {tmp_path}/1; {real} link add {rival} type bridge; }}
    {real} addr add "$3" dev {rival}
fi
exec {real} "$@"
""")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with Network() as network:
        assert len(addresses_of(rival)) == 2
        assert f"{network.host}/24" not in addresses_of(rival)
        assert addresses_of(f"{network.prefix}br") == [f"{network.host}/24"]
    assert not named(network.prefix)


def addresses_of(link):
    listed = subprocess.run(["ip", "-4", "addr", "show", "dev", link], capture_output=True, text=True, check=True)
    return [line.split()[1] for line in listed.stdout.splitlines() if line.split()[0] == "inet"]


@needs_network
def test_what_a_network_cannot_do_is_said_and_cleaned_up():
    with Network() as network:
        network.add("ann")
        with pytest.raises(TestbedError, match=r"tc -n lola[0-9a-f]{6}-2 qdisc replace .*rate"):
            network.shape("ann", -1.0)
    with pytest.raises(RuntimeError, match="a fault"), Network() as network:
        raise RuntimeError("a fault")
    assert not named(network.prefix)


def test_a_machine_without_tools_or_rights_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert missing()[:2] == ["ip (iproute2)", "tc (iproute2)"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert missing()[-1] == "root"


@pytest.fixture(params=["control groups", "signals"])
def limits(request):
    if request.param == "signals":
        yield Signals()
        return
    if why := without_groups():
        pytest.skip(why)
    prefix = leftovers.prefix_of(os.getpid())
    leftovers.clean_groups(prefix)  # of an older process of this number
    yield ControlGroups(prefix)
    leftovers.clean_groups(prefix)


def test_a_quota_is_kept(limits):
    limits.set("ann", 0.3, None)
    worker = limits.start("ann", [sys.executable, "-c", WORK, "1.5"], stdout=subprocess.PIPE)
    share = float(worker.communicate()[0])
    assert 0.02 < share < 0.4
    assert limits.kills("ann") == 0


def test_who_takes_more_memory_than_it_has_is_killed(limits):
    code = """
import sys
sys.stdin.readline()
taken = b'x' * int(sys.argv[1])
print("taken", flush=True)
sys.stdin.readline()
print(len(taken))
"""
    for n_bytes, died in ((20_000_000, False), (300_000_000, True)):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with limits.start("ann", [sys.executable, "-c", code, str(n_bytes)], **pipes) as process:
            limits.set("ann", None, 100e6)
            process.stdin.write("\n")
            process.stdin.flush()
            process.stdout.readline()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30.0 if died else 1.0)
            said, _ = process.communicate("\n")
        assert (process.returncode == -signal.SIGKILL) == died
        assert said == ("" if died else f"{n_bytes}\n")
        assert limits.kills("ann") == int(died)
    assert limits.peak_bytes("ann") > 20e6


def test_the_strictest_limits_are_taken_and_a_period_is_short():
    kind = "signals" if without_groups() else "control groups"
    assert limits_here(leftovers.prefix_of(os.getpid())).kind.startswith(kind)
    assert PERIOD_US <= 100_000  # against gradients of seconds
