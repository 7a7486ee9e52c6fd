"""What a device's process may take: a quota of the CPU, and a limit of memory.

Control groups where they can be written, and the kernel keeps the quota and kills who exceeds the memory. Elsewhere
this process does both, by signals: see `Signals`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from leftovers import cgroup_folders

# Short against a gradient, so that it makes no difference where in a period one begins; long against the caches that
# are filled anew after each switch between processes: with 20 ms gradients took about a tenth longer.
PERIOD_US = 100_000
_SIGNALLED_S = 0.05
_SHELL = 'for group in "$1" "$2"; do echo $$ > "$group/cgroup.procs" || exit 97; done; shift 2; exec "$@"'


class Limits(Protocol):
    """Processes by name, and what they may take."""

    kind: str

    def start(self, name: str, command: list[str], **options: Any) -> subprocess.Popen[str]:
        """Run a command within the limits that were set for that name."""

    def set(self, name: str, share: float | None, memory_bytes: float | None) -> None:
        """Let it take so much of one core, and so many bytes; None is no limit."""

    def peak_bytes(self, name: str) -> float:
        """Return the most that it has taken."""

    def kills(self, name: str) -> int:
        """Return how often a process of that name was killed for its memory."""


class ControlGroups:
    """Limits kept by the kernel."""

    def __init__(self, prefix: str):
        folders = cgroup_folders()
        self.prefix, self.folders = prefix, folders
        self.second = folders["cpu"] == folders["memory"]
        self.kind = f"control groups, version {2 if self.second else 1}"

    def start(self, name: str, command: list[str], **options: Any) -> subprocess.Popen[str]:
        where = [str(self._made(controller, name)) for controller in ("cpu", "memory")]
        return subprocess.Popen(["sh", "-c", _SHELL, "sh", *where, *command], text=True, **options)

    def set(self, name: str, share: float | None, memory_bytes: float | None) -> None:
        cpu, memory = self._made("cpu", name), self._made("memory", name)
        quota = None if share is None else round(share * PERIOD_US)
        # Others on this machine must not slow who has a quota; who has none must not slow them.
        weight, usual, most = ("cpu.weight", "100", "10000") if self.second else ("cpu.shares", "1024", "262144")
        (cpu / weight).write_text(usual if quota is None else most)
        if self.second:
            (cpu / "cpu.max").write_text(f"{'max' if quota is None else quota} {PERIOD_US}")
            (memory / "memory.max").write_text("max" if memory_bytes is None else f"{memory_bytes:.0f}")
            with suppress(OSError):  # where the kernel counts no swap, there is none
                (memory / "memory.swap.max").write_text("0")
        else:
            (cpu / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (cpu / "cpu.cfs_quota_us").write_text("-1" if quota is None else str(quota))
            (memory / "memory.limit_in_bytes").write_text("-1" if memory_bytes is None else f"{memory_bytes:.0f}")

    def peak_bytes(self, name: str) -> float:
        peak = "memory.peak" if self.second else "memory.max_usage_in_bytes"
        return float((self._made("memory", name) / peak).read_text())

    def kills(self, name: str) -> int:
        events = "memory.events" if self.second else "memory.oom_control"
        pairs = dict(line.split() for line in (self._made("memory", name) / events).read_text().splitlines())
        return int(pairs["oom_kill"])

    def _made(self, controller: str, name: str) -> Path:
        """Return a group, made when it is first asked for."""
        folder = self.folders[controller] / f"{self.prefix}{name}"
        if not folder.exists():
            folder.mkdir()
        return folder


class Signals:
    """Limits kept by this process, with what a machine without control groups has.

    A process of share f runs for f of every 50 ms and is stopped for the rest, and is killed when its resident memory
    is found above its limit, which is looked at as often.
    """

    kind = "signals of the testbed"

    def __init__(self) -> None:
        self._limits: dict[str, tuple[float | None, float | None]] = {}
        self._peaks: dict[str, float] = {}
        self._kills: dict[str, int] = {}

    def start(self, name: str, command: list[str], **options: Any) -> subprocess.Popen[str]:
        self._limits.setdefault(name, (None, None))
        process = subprocess.Popen(command, text=True, **options)
        threading.Thread(target=self._keep, args=(name, process), daemon=True).start()
        return process

    def set(self, name: str, share: float | None, memory_bytes: float | None) -> None:
        self._limits[name] = (share, memory_bytes)

    def peak_bytes(self, name: str) -> float:
        return self._peaks[name]

    def kills(self, name: str) -> int:
        return self._kills.get(name, 0)

    def _keep(self, name: str, process: subprocess.Popen[str]) -> None:
        pages = os.sysconf("SC_PAGE_SIZE")
        while process.poll() is None:
            share, memory_bytes = self._limits[name]
            with suppress(OSError):
                resident = pages * float(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                self._peaks[name] = max(self._peaks.get(name, 0.0), resident)
                if memory_bytes is not None and resident > memory_bytes:
                    self._kills[name] = self.kills(name) + 1
                    process.kill()
                    return
            time.sleep(_SIGNALLED_S * (1.0 if share is None else share))
            if share is not None and share < 1:
                process.send_signal(signal.SIGSTOP)
                time.sleep(_SIGNALLED_S * (1 - share))
                process.send_signal(signal.SIGCONT)


def without_groups() -> str:
    """Say why control groups cannot be used here; empty if they can."""
    folders = cgroup_folders()
    if {"cpu", "memory"} - set(folders):
        return "no control groups with the controllers cpu and memory are mounted"
    for controller, folder in folders.items():
        probe = folder / f"lola{os.getpid():06x}-probe"
        try:
            probe.mkdir(exist_ok=True)  # an older process of this number may have left it
            try:
                names = ("cpu.max", "memory.max") if len(set(folders.values())) == 1 else ("cgroup.procs",)
                lacks = [name for name in names if not (probe / name).exists()]
            finally:
                probe.rmdir()
        except OSError as error:
            return f"control groups cannot be made: {error}"
        if lacks:
            return f"{folder} does not hand on the controller {controller} ({lacks[0]} is missing in groups below it)"
    return ""


def limits_here(prefix: str) -> Limits:
    """Return the strictest limits that this machine lets be set."""
    return Signals() if without_groups() else ControlGroups(prefix)
