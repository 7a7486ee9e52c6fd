"""Folders that are written whole or not at all, and never over something else."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lola.files.formats import FormatError, check_outputs, write_atomically

DRAFT = ".draft-"
SUMS = "SHA256SUMS"  # as sha256sum writes it, so that it can be checked without lola


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


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds something else than what lola wrote there.

    Raises
    ------
    FormatError
        Naming the folder.
    """
    if not folder.exists() or (folder.is_dir() and (not any(folder.iterdir()) or _is_sealed(folder))):
        return
    raise FormatError(
        f"{folder}: should be what lola wrote there, and holds something else, or what was changed since or has no "
        f"{SUMS}; move it elsewhere"
    )


def sums(folder: Path, names: Iterable[str]) -> str:
    """Return the digests of a folder's files, a line each.

    Raises
    ------
    FormatError
        If one is missing.
    """
    lines = []
    for name in sorted(names):
        if not (folder / name).is_file():  # nor a pipe, which would never end
            raise FormatError(f"{name} is missing")
        with open(folder / name, "rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)


def seal(folder: Path) -> None:
    """Write the digests of all files in a folder, by which lola knows it again."""
    write_atomically(folder / SUMS, sums(folder, _names(folder)))


def _is_sealed(folder: Path) -> bool:
    try:
        return (folder / SUMS).is_file() and (folder / SUMS).read_bytes() == sums(folder, _names(folder)).encode()
    except FormatError:
        return False


def _names(folder: Path) -> list[str]:
    names = (
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )
    return [name for name in names if name != SUMS]


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a draft to write into; flushed, it takes the folder's name at the end, and its place if it is empty.

    Raises
    ------
    OSError
        If it cannot be written, or the folder holds something. Then, as after any other error, no draft stays.
    """
    draft = target.with_name(f"{DRAFT}{target.name}")
    remove(draft)  # left by a run that was killed
    draft.mkdir()
    try:
        yield draft
        for path in (*draft.rglob("*"), draft):
            _flush(path)
        os.replace(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _flush(target.parent)


def put_in_place(new: Path, target: Path) -> None:
    """Give a folder another's name, and only then remove what lola wrote there before.

    Raises
    ------
    FormatError
        If the other holds something else; see `check_replaceable`. Then nothing is changed.
    OSError
        If it cannot be done.
    """
    check_replaceable(target)
    old = target.with_name(f".old-{target.name}")
    if target.exists():
        rename(target, old.name)
    os.replace(new, target)
    _flush(target.parent)
    remove(old)


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
