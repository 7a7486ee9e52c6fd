"""The machine that measures: its threads, its allocator, its name, and the software on it."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lola.solvers.checks import positive_integer, shown
from lola.solvers.errors import LolaValueError

_MOST_THREADS = 1024


def thread_count(threads: object) -> int:
    """Return a number of CPU threads, or say why it is none; torch dies of far too many."""
    count = positive_integer("threads", threads)
    if count > _MOST_THREADS:
        raise LolaValueError(f"threads must be at most {_MOST_THREADS}, got {shown(threads)}; one a core is usual")
    return count


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Run torch on so many CPU threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Let glibc keep what is freed: handing it back and faulting it in again costs as much as half an iteration.

    Without this the cost lands on the deep depths, which allocate most, and d(L)/d(1) doubles.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    trim_threshold, mmap_max = -1, -4  # names in malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    libc.mallopt(trim_threshold, -1)
    libc.mallopt(mmap_max, 0)
    try:
        yield
    finally:
        libc.mallopt(trim_threshold, 128 * 1024)
        libc.mallopt(mmap_max, 65536)
        libc.malloc_trim(0)


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def software() -> str:
    """Return the versions of what ran."""
    import peft
    import torch
    import transformers

    modules: tuple[Any, ...] = (torch, transformers, peft)
    return ", ".join(f"{module.__name__} {module.__version__.split('+')[0]}" for module in modules)
