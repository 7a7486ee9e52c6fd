"""What all file formats share: reading, strict keys, and errors that say where and how to mend."""

import csv
import errno
import io
import json
import logging
import math
import os
import re
import tempfile
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from lola.files.kinds import came_instead
from lola.solvers.checks import meant, shown
from lola.solvers.errors import LolaValueError

_log = logging.getLogger(__name__)
StrPath = str | os.PathLike[str]

# What files that cannot be read as another kind may be, and where they belong.
_KINDS = {
    ".csv": "a fleet, which --fleet takes, or traces, which --trace takes",
    ".json": "a profile, which --profile takes, or a schedule, which lola verify takes",
    ".toml": "a scenario, which lola schedule takes",
}
# tomllib takes time in the square of a dotted key's parts; no key here has more than two.
_MOST_DOTS = 200
# Longer messages lose their middle when they are printed.
_LONGEST = 4000


class FormatError(LolaValueError):
    """A file or a message does not hold what its format asks for; the text names it, the line or key, and the mend."""


def plain(text: str) -> str:
    """Return text that a terminal shows and does not obey; for what a command prints and others may have written.

    Controls and what reorders letters become Python's escapes; lines stay, and the middle of a very long text goes.
    """
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def check_outputs(outputs: Iterable[StrPath | None], inputs: Iterable[StrPath | None]) -> None:
    """Refuse, before anything is computed, to write where there is no folder, over an input, or twice to one file.

    Links are followed; a pipe or a device may be named as often as one likes.

    Raises
    ------
    ValueError
        Naming the output and what it would overwrite.
    """
    read = [Path(path) for path in inputs if path]
    written: list[Path] = []
    for path in (Path(path) for path in outputs if path):
        if not path.parent.is_dir():
            raise LolaValueError(f"{path}: the folder to write into does not exist")
        for other in read:
            if _same_file(path, other):
                raise LolaValueError(f"{path}: is an input; write to another file than {other}")
        for other in written:
            if _same_file(path, other):
                raise LolaValueError(f"{path}: is named for two outputs; write each to a file of its own")
        written.append(path)


def _same_file(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.is_file() and one.samefile(other)  # hard links, and names that differ in case alone, too
    return one.resolve() == other.resolve()


def read_text(path: StrPath, newline: str | None = None) -> str:
    """Read a UTF-8 file, or say where it stops being one; `newline` as in `open`."""
    try:
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    _log.info("read %s", path)
    return text


def write_atomically(path: StrPath | TextIO, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part; a stream, as it is."""
    if not isinstance(path, str | os.PathLike):
        path.write(text)
        return
    target = Path(path).resolve()  # a link stays a link
    if target.exists() and not target.is_file():  # a pipe or a device
        target.write_text(text, encoding="utf-8")
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the folder to write into does not exist", str(target))
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        os.chmod(temporary, mode)
        os.replace(temporary, target)
        _log.info("wrote %s", path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def parse_json(where: object, text: str) -> Any:
    """Parse JSON in which every number is finite and no key stands twice, or say what is wrong with it."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_distinct_keys)
    except json.JSONDecodeError as error:
        raise FormatError(
            f"{where}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}; is it cut short?"
        ) from None
    except (ValueError, RecursionError) as error:  # refused below, or an integer of thousands of digits
        raise FormatError(f"{where}: {error}") from None


def format_of(path: StrPath) -> object:
    """Return which format a file says that it has; None where it is no JSON object, or says nothing of it."""
    try:
        data = parse_json(path, read_text(path))
    except FormatError:
        return None
    return data.get("format") if isinstance(data, dict) else None


def read_json(path: StrPath, format_name: str) -> dict[str, Any]:
    """Read a versioned JSON object and drop its ``format`` and ``version`` once they are right."""
    text = read_text(path)
    try:
        data = parse_json(path, text)
    except FormatError as error:
        raise FormatError(f"{error}{other_kind(path, format_name.replace('-', ' '), '.json')}") from None
    if not isinstance(data, dict):
        raise FormatError(f"{path}: a JSON object was wanted, got {type(data).__name__}")
    kind = data.pop("format", None)
    if kind != format_name:
        raise FormatError(f'{path}: "format" must be "{format_name}", got {came_instead(kind)}')
    version = data.pop("version", None)
    if version != 1 or isinstance(version, bool):
        raise FormatError(f'{path}: "version" must be 1, got {shown(version)}; a newer lola may have written it')
    return data


def write_json(path: StrPath | TextIO, format_name: str, data: Mapping[str, Any]) -> None:
    """Write a versioned JSON object."""
    text = json.dumps({"format": format_name, "version": 1, **data}, indent=1, allow_nan=False, ensure_ascii=False)
    write_atomically(path, text + "\n")


class _RefusedJsonError(ValueError):
    """Valid to Python's parser, not to a reader who wants every number finite and every key once."""


def _refuse_constant(text: str) -> float:
    raise _RefusedJsonError(f"{text} is not a number that JSON knows; write a finite one")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique: dict[str, Any] = {}
    for key, value in pairs:
        if key in unique:
            raise _RefusedJsonError(f"the key {shown(key)} stands twice in one object; drop one")
        unique[key] = value
    return unique


def read_toml(path: StrPath, wanted: str) -> dict[str, Any]:
    """Read TOML, or say where it stops being that, and which other kind of file it may be."""
    text = read_text(path)
    for at, line in enumerate(text.split("\n"), start=1):
        # A dotted key stands in one line; numbers have dots too, but one each, so that of a key's at least half remain.
        if line.count(".") > _MOST_DOTS and re.sub(r"\d\.\d", "", line).count(".") > _MOST_DOTS:
            raise FormatError(
                f"{path}, line {at}: at most {_MOST_DOTS} dots that are in no number were wanted, got more; "
                "shorten the key, or break the list over several lines"
            )
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        hint = other_kind(path, wanted, ".toml")
        raise FormatError(f"{path}: not valid TOML: {plain(str(error))}{hint and f'.{hint}'}") from None


def check_keys(where: str, keys: Collection[str], required: Collection[str], optional: Collection[str] = ()) -> None:
    """Refuse missing and unknown keys, and guess what was meant."""
    known = list(dict.fromkeys([*required, *optional]))  # what stands in for a key is optional, too
    for key in keys:
        if key not in known:
            hint = meant(key, known) or "."
            raise FormatError(f"{where}: unknown key {shown(key)}{hint} Known are {', '.join(known)}")
    for key in required:
        if key not in keys:
            raise FormatError(f"{where}: {shown(key)} is missing")


def other_kind(path: StrPath, wanted: str, suffix: str) -> str:
    """Guess from its name which other kind of file was given where one of another suffix was wanted."""
    given = Path(path).suffix.lower()
    return f" A {wanted} was wanted; is it {_KINDS[given]}?" if given in _KINDS and given != suffix else ""


def check_separator(where: str, header: Sequence[str]) -> None:
    """Refuse CSV that another character separates, as spreadsheets write it where commas are for decimals."""
    for character, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and character in header[0]:
            raise FormatError(
                f"{where}: columns separated by commas were wanted, got {name}; save it with commas, and points for "
                "decimals"
            )


def read_csv(path: StrPath, wanted: str) -> tuple[list[str], Iterator[tuple[str, list[str]]]]:
    """Read the header of a CSV file, and the rows below it as they are asked for, each with the line it stands in.

    Raises
    ------
    FormatError
        If it is no CSV, empty (`wanted` says what its first line must be), or a row has not as many columns.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        lines = [(f"{path}, line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise FormatError(f"{path}, line {reader.line_num}: not valid CSV: {error}") from None
    if not lines:
        raise FormatError(f"{path}: the file is empty; the first line must be {wanted}")
    (where, first), *rest = lines
    header = [column.strip() for column in first]
    check_separator(where, header)

    def rows() -> Iterator[tuple[str, list[str]]]:
        for where, row in rest:
            if row and len(row) != len(header):
                raise FormatError(f"{where}: {len(header)} columns are needed, got {len(row)}")
            if row:
                yield where, row

    return header, rows()


def csv_number(where: str, text: str) -> float:
    """Return the finite number that a cell holds, or say what stands in its place."""
    try:
        if "_" in text or not text.isascii():  # Python reads these, other programs do not
            raise ValueError
        value = float(text)
    except ValueError:
        raise FormatError(f"{where}: a plain number was wanted (no unit, no separator), got {shown(text)}") from None
    return number(where, value)


def number(where: str, value: object) -> float:
    """Return a finite number, or say what stands in its place."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(f"{where}: a plain number was wanted (the unit is in the key's name), got {shown(value)}")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise FormatError(f"{where}: must be finite, got {shown(value)}")
    return result


def integer(where: str, value: object) -> int:
    """Return an integer, or say what stands in its place."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FormatError(f"{where}: an integer was wanted, got {shown(value)}")
    return value


def numbers(where: str, value: object) -> list[float]:
    """Return a list of finite numbers, or say which entry is none."""
    if not isinstance(value, list):
        raise FormatError(f"{where}: a list of numbers was wanted, got {shown(value)}")
    return [number(f"{where}[{i}]", entry) for i, entry in enumerate(value)]


def integers(where: str, value: object) -> list[int]:
    """Return a list of integers of 64 bits, or say which entry is none."""
    if not isinstance(value, list):
        raise FormatError(f"{where}: a list of integers was wanted, got {shown(value)}")
    entries = [integer(f"{where}[{i}]", entry) for i, entry in enumerate(value)]
    if any(not -(2**63) <= entry < 2**63 for entry in entries):
        raise FormatError(f"{where}: an entry does not fit 64 bits")
    return entries


def table(where: str, value: object) -> dict[str, Any]:
    """Return an object (a TOML table), or say what stands in its place."""
    if not isinstance(value, dict):
        raise FormatError(f"{where}: a table (keys with values) was wanted, got {shown(value)}")
    return value


# What stands for no limit on the blocks of a device: TOML has no null.
NO_LIMIT = "all"


def block_limit(where: str, value: object) -> int | None:
    """Return the most blocks that a device may take, None for ``"all"``, or say what stands in its place."""
    if value == NO_LIMIT:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 2**53:
        raise FormatError(f'{where}: a whole number from 1 on was wanted, or "all", got {shown(value)}')
    return value
