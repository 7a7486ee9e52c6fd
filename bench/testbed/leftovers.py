"""What a testbed leaves on the machine, and how it goes: namespaces, links, control groups, processes.

    python bench/testbed/leftovers.py PREFIX    # waits until its input ends, then cleans what has this prefix

Whatever ends a testbed, kill -9 too, closes the pipe to this process, which then cleans up. Everything that a testbed
makes is named ``lola``, six hexadecimal digits of its process and a hyphen, and nothing else is ever touched.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

NAMED = re.compile(r"lola([0-9a-f]{6})-")
_PATIENCE_S = 10.0


def prefix_of(process: int) -> str:
    """Return what all names of a process's testbed begin with; with ten letters more they still name a link."""
    return f"lola{process:06x}-"


def cgroup_folders() -> dict[str, Path]:
    """Where control groups are: the folders of the controllers ``cpu`` and ``memory``; the same one in version 2."""
    folders: dict[str, Path] = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup":
            folders |= {name: Path(where) for name in ("cpu", "memory") if name in options.split(",")}
    if "cpu" in folders or "memory" in folders:
        return folders
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return {"cpu": Path(where), "memory": Path(where)}
    return {}


def namespaces() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def links() -> list[str]:
    listed = subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True).stdout
    return [link["ifname"] for link in json.loads(listed)]


def groups() -> list[Path]:
    """All control groups that some testbed made."""
    folders = {folder for folder in cgroup_folders().values() if folder.is_dir()}
    return [group for folder in folders for group in folder.iterdir() if NAMED.match(group.name) and group.is_dir()]


def left() -> dict[str, list[str]]:
    """What testbeds, ended or not, have on this machine, by prefix."""
    found: dict[str, list[str]] = {}
    for name in [*namespaces(), *links(), *(str(group) for group in groups())]:
        if (match := NAMED.match(Path(name).name)) is not None:
            found.setdefault(match[0], []).append(name)
    return found


def clean(prefix: str) -> None:
    """Kill what runs in the namespaces and control groups of one testbed, and remove them and its links."""
    ours = [name for name in namespaces() if name.startswith(prefix)]
    _kill(lambda: _inside(ours))
    for name in ours:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    for name in links():
        if name.startswith(prefix):
            subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)
    clean_groups(prefix)


def clean_groups(prefix: str) -> None:
    """Kill what runs in the control groups of one testbed, and remove them."""
    mine = [group for group in groups() if group.name.startswith(prefix)]
    _kill(lambda: _members(mine))
    end = time.monotonic() + _PATIENCE_S
    for group in mine:
        while group.is_dir() and time.monotonic() < end:
            try:
                group.rmdir()
            except OSError:  # until the kernel has let go of who was killed
                time.sleep(0.05)


def clean_all(beginning: str = "") -> dict[str, str]:
    """Clean after every testbed whose process has ended; say of each prefix, with that beginning, what was done."""
    done = {}
    for prefix in left():
        if not prefix.startswith(beginning):
            continue
        process = int(prefix[4:10], 16)
        if Path(f"/proc/{process}").exists():
            done[prefix] = f"left alone: process {process} is running"
        else:
            clean(prefix)
            done[prefix] = "removed"
    return done


def _kill(running: Callable[[], set[int]]) -> None:
    """Kill processes until there are none left, which they may start meanwhile."""
    end = time.monotonic() + _PATIENCE_S
    while (processes := {process for process in running() if not _is_dead(process)}) and time.monotonic() < end:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def _inside(names: list[str]) -> set[int]:
    found: set[int] = set()
    for name in names:
        listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
        found |= {int(word) for word in listed.split()}
    return found


def _members(mine: list[Path]) -> set[int]:
    found: set[int] = set()
    for group in mine:
        with suppress(OSError):
            found |= {int(word) for word in (group / "cgroup.procs").read_text().split()}
    return found


def _is_dead(process: int) -> bool:
    """Whether it has ended, and only its parent has not looked yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    clean(sys.argv[1])
