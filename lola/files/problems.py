"""Fleets (CSV) and scenarios (TOML) as files."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lola.channel import MOST_DB
from lola.files.formats import (
    FormatError,
    StrPath,
    block_limit,
    check_keys,
    csv_number,
    integer,
    number,
    numbers,
    read_csv,
    read_toml,
    write_atomically,
)
from lola.files.profiles import load_profile
from lola.fleet import Fleet
from lola.problem import Pair, Problem
from lola.solvers.checks import expect, shown

_FLEET_COLUMNS = ("name", "speed", "memory_bytes")
_CHANNEL_COLUMNS = ("spectral_efficiency", "snr_db")
_PAIR_KEYS = ("device", "depth")
_PAIR_EXAMPLE = '{device = "phone", depth = 1}'


def load_fleet(path: StrPath) -> Fleet:
    """Read a fleet from CSV: ``name,speed,memory_bytes`` and one of ``spectral_efficiency`` or ``snr_db``.

    Parameters
    ----------
    path : path-like
        A header, then one device a line. Speed is relative to the reference device, memory in bytes, efficiency in
        bit/s/Hz, SNR (received, in dB) goes through Shannon's formula.

    Raises
    ------
    FormatError
        Naming the file, the line or column, and the mend.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import lola
    >>> lola.save_fleet(lola.Fleet.sample(3, seed=1), "fleet.csv")
    >>> lola.load_fleet("fleet.csv")
    <Fleet of 3 devices>
    """
    columns = read_members(path, "device", _FLEET_COLUMNS, _CHANNEL_COLUMNS, _check_device)
    if len([column for column in _CHANNEL_COLUMNS if column in columns]) != 1:
        raise FormatError(f"{path}, line 1: exactly one of {' and '.join(_CHANNEL_COLUMNS)} is needed")
    return Fleet(**columns)


def read_members(
    path: StrPath,
    kind: str,
    required: Sequence[str],
    optional: Sequence[str],
    check: Callable[[str, dict[str, Any]], None],
) -> dict[str, list[Any]]:
    """Read a group from CSV by columns, one member a line: a name that no other has, and numbers.

    Parameters
    ----------
    path : path-like
    kind : str
        What a member is.
    required, optional : sequence of str
        Columns, in any order.
    check : callable
        ``check(where, member)`` raises where a number cannot be.

    Raises
    ------
    FormatError
        Naming the file, the line or column, and the mend.
    """
    header, rows = read_csv(path, ",".join([*required, *optional[-1:]]))
    check_keys(f"{path}, line 1", header, required, optional)
    if len(set(header)) != len(header):
        raise FormatError(f"{path}, line 1: a column stands twice")
    columns: dict[str, list[Any]] = {column: [] for column in header}
    line_of_name: dict[str, str] = {}
    for where, row in rows:
        for column, text in zip(header, row, strict=True):
            columns[column].append(text.strip() if column == "name" else csv_number(f"{where}, {column}", text))
        name = columns["name"][-1]
        if not name:
            raise FormatError(f"{where}: the name is empty")
        check(where, {column: values[-1] for column, values in columns.items()})
        if name in line_of_name:
            raise FormatError(f"{where}: {shown(name)} is already in {line_of_name[name]}; names must differ")
        line_of_name[name] = where.removeprefix(f"{path}, ")
    if not line_of_name:
        raise FormatError(f"{path}: no {kind} after the header")
    return columns


def _check_device(where: str, device: dict[str, Any]) -> None:
    if device["speed"] <= 0:
        raise FormatError(f"{where}, speed: must be > 0, got {device['speed']}; leave out a device that is off")
    if device["memory_bytes"] < 0:
        raise FormatError(f"{where}, memory_bytes: must be >= 0, got {device['memory_bytes']}")
    if device.get("spectral_efficiency", 1.0) <= 0:
        raise FormatError(f"{where}, spectral_efficiency: must be > 0, got {device['spectral_efficiency']}")
    if not -MOST_DB < device.get("snr_db", 0.0) < MOST_DB:
        raise FormatError(f"{where}, snr_db: must be a ratio in decibels, got {device['snr_db']}")


def save_fleet(fleet: Fleet, path: StrPath) -> None:
    """Write a fleet as CSV, every digit kept; the headroom belongs to the scenario and is not written."""
    expect("fleet", fleet, Fleet)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FLEET_COLUMNS, "spectral_efficiency"])
    for k in range(fleet.n_devices):
        values = (fleet.speed[k], fleet.memory_bytes[k], fleet.spectral_efficiency[k])
        writer.writerow([fleet.label(k), *(repr(float(value)) for value in values)])
    write_atomically(path, text.getvalue())


def load_scenario(
    path: StrPath,
    *,
    fleet: StrPath | None = None,
    profile: StrPath | None = None,
    max_blocks: int | Literal["all"] | None = None,
) -> Problem:
    """Read a scenario from TOML: a fleet file, a profile file, the bandwidth and the local steps.

    Parameters
    ----------
    path : path-like
        Keys ``fleet`` and ``profile`` (paths, relative to the scenario's folder), ``bandwidth_hz``, and optionally
        ``local_steps`` (1), ``headroom`` (0; the fraction of each device's memory to keep free, one number or one per
        device), and lists ``pinned`` and ``forbidden`` of tables with keys ``device`` (name or index from 0) and
        ``depth`` (from 1, the block nearest the output), ``subcarrier_hz`` for bandwidths in whole subcarriers, and
        ``broadcast_s`` (0), which the downlink adds to every round, and ``max_blocks`` (1), the most consecutive blocks
        that a device may take, or ``"all"``.
    fleet, profile : path-like, optional
        Files to read in place of those that the scenario names.
    max_blocks : int or "all", optional
        In place of the scenario's.

    Raises
    ------
    FormatError
        Naming the file, the key, and the mend.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> from importlib import resources
    >>> import lola
    >>> with resources.as_file(resources.files("lola.data")) as folder:  # the built-in scenario
    ...     problem = lola.load_scenario(folder / "scenario.toml")
    >>> problem.n_devices, problem.n_blocks
    (20, 12)
    """
    data, builtin = read_toml(path, "scenario"), Path(path).parent == Path(str(resources.files("lola.data")))
    optional = ("local_steps", "headroom", "pinned", "forbidden", "subcarrier_hz", "broadcast_s", "max_blocks")
    replaced = {"fleet": fleet, "profile": profile}
    required = [key for key, override in replaced.items() if override is None]
    check_keys(str(path), data, (*required, "bandwidth_hz"), (*replaced, *optional))
    fleet = fleet or _beside(path, "fleet", data["fleet"])
    profile = profile or _beside(path, "profile", data["profile"])
    devices, costs = load_fleet(fleet), load_profile(profile)
    headroom: Any = data.get("headroom")
    if headroom is not None:
        headroom = (numbers if isinstance(headroom, list) else number)(f"{path}, headroom", headroom)
    bandwidth_hz = number(f"{path}, bandwidth_hz", data["bandwidth_hz"])
    local_steps = integer(f"{path}, local_steps", data.get("local_steps", 1))
    width = number(f"{path}, subcarrier_hz", data["subcarrier_hz"]) if "subcarrier_hz" in data else None
    broadcast_s = number(f"{path}, broadcast_s", data.get("broadcast_s", 0.0))
    pairs = {key: _pairs(f"{path}, {key}", data.get(key, [])) for key in ("pinned", "forbidden")}
    longest = block_limit(f"{path}, max_blocks", data.get("max_blocks", 1) if max_blocks is None else max_blocks)
    try:
        if longest == 1 and devices.n_devices < costs.n_blocks:
            Problem(costs, _repeated(devices, costs.n_blocks), bandwidth_hz, local_steps)  # says its notes all the same
            its = "the built-in profile (--profile names yours), " if replaced["profile"] is None and builtin else ""
            raise FormatError(
                f"{fleet}: at least as many devices as blocks are needed, {costs.n_blocks} for {its}{profile}; got "
                f"{devices.n_devices}; add devices, take a profile of fewer blocks, or let a device take several "
                "(max_blocks; --max-blocks all)"
            )
        if longest != 1 and (costs.extra_latency_s is None or costs.extra_memory_bytes is None):
            raise FormatError(
                f"{profile}: knows no extra_latency_s and extra_memory_bytes, what one more block costs a device, "
                "which max_blocks needs; profile the model anew, or add both (0 where it costs nothing)"
            )
        roomy = devices if headroom is None else replace(devices, headroom=headroom)
        return Problem(
            costs,
            roomy,
            bandwidth_hz,
            local_steps,
            **pairs,
            subcarrier_hz=width,
            broadcast_s=broadcast_s,
            max_blocks=longest,
        )
    except FormatError:
        raise
    except (TypeError, ValueError) as error:
        raise FormatError(f"{path}: {error}") from None


def _repeated(fleet: Fleet, n_devices: int) -> Fleet:
    """Return a fleet with as many devices, the same ones over and over."""
    fields = ("speed", "memory_bytes", "spectral_efficiency")
    return Fleet(**{name: np.resize(getattr(fleet, name), n_devices) for name in fields})


def scenario_files(
    path: StrPath | None = None, *, fleet: StrPath | None = None, profile: StrPath | None = None
) -> list[StrPath]:
    """Return what `load_scenario` reads (without a path: `builtin_scenario`) and what the scenario names besides.

    Raises
    ------
    FormatError
        If the scenario is not valid TOML, or names no path where one belongs.
    OSError
        If the scenario cannot be read.
    """
    if path is None:
        with resources.as_file(resources.files("lola.data")) as folder:
            return scenario_files(folder / "scenario.toml", fleet=fleet, profile=profile)
    data = read_toml(path, "scenario")
    named = [_beside(path, key, data[key]) for key in ("fleet", "profile") if key in data]
    return [path, *named, *(file for file in (fleet, profile) if file is not None)]


def _beside(path: StrPath, key: str, value: object) -> Path:
    if not isinstance(value, str) or "\0" in value:
        raise FormatError(f"{path}, {key}: a path was wanted, got {shown(value)}")
    return Path(path).parent / value


def _pairs(where: str, value: object) -> list[Pair]:
    if not isinstance(value, list):
        raise FormatError(f"{where}: a list of tables like {_PAIR_EXAMPLE} was wanted, got {shown(value)}")
    pairs: list[Pair] = []
    for i, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise FormatError(f"{where}[{i}]: a table like {_PAIR_EXAMPLE} was wanted, got {shown(entry)}")
        pair = entry
        check_keys(f"{where}[{i}]", pair, _PAIR_KEYS)
        pairs.append((pair["device"], integer(f"{where}[{i}], depth", pair["depth"])))
    return pairs


def builtin_scenario(
    *,
    fleet: StrPath | None = None,
    profile: StrPath | None = None,
    max_blocks: int | Literal["all"] | None = None,
) -> Problem:
    """Return the scenario that ``lola schedule`` runs on without arguments, with what is given in place of its own."""
    with resources.as_file(resources.files("lola.data")) as folder:
        return load_scenario(folder / "scenario.toml", fleet=fleet, profile=profile, max_blocks=max_blocks)
