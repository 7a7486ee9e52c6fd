"""Folders that are written whole or not at all, and never over something else."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lola.files.formats import FormatError, check_outputs

DRAFT = ".draft-"


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that could not be made, or that holds something.

    Raises
    ------
    FormatError, ValueError
        Naming the folder.
    """
    check_outputs([folder], [])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FormatError(f"{folder}: holds something already; name a new folder")


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a draft to write into; flushed, it takes the folder's name at the end, and its place if it is empty."""
    draft = target.with_name(f"{DRAFT}{target.name}")
    remove(draft)  # left by a run that was killed
    draft.mkdir()
    try:
        yield draft
        for path in (*draft.rglob("*"), draft):
            _flush(path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    os.replace(draft, target)
    _flush(target.parent)


def rename(path: Path, name: str) -> None:
    """Give a file, folder or link another name, whatever has that name."""
    remove(path.with_name(name))
    os.replace(path, path.with_name(name))


def remove(path: Path) -> None:
    """Remove a file, a folder or a link, not what a link points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
