"""One session at a time in a run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import FileLock


def lock_of(folder: Path) -> FileLock:
    """Return the lock of a run's folder: a file that stays, held by whoever has locked it, gone with their process."""
    from filelock import FileLock

    return FileLock(folder / ".lock", thread_local=False)


@contextmanager
def held(lock: FileLock) -> Iterator[None]:
    """Hold a lock; its holder may take it again.

    Raises
    ------
    BlockingIOError
        If somebody else holds it, naming the folder.
    OSError
        If the folder cannot be locked.
    """
    from filelock import Timeout

    folder = Path(lock.lock_file).parent
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(blocking=False)
    except NotImplementedError:
        raise OSError(
            f"{folder}: a session must lock its folder, but this file system knows no locks; name a folder elsewhere"
        ) from None
    except Timeout:
        raise BlockingIOError(
            f"{folder}: a session must have its folder to itself, but another is at work there; wait until it ends, or "
            "name another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
