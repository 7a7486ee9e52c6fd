"""Measured uplink traces as a channel."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from lola.channel import MOST_DB, spectral_efficiency
from lola.files.formats import FormatError, StrPath, check_separator, read_text
from lola.solvers.checks import (
    FloatArray,
    IntArray,
    frozen,
    positive_integer,
    positive_number,
    seed_number,
    shown,
    vector,
)
from lola.solvers.errors import LolaTypeError, LolaValueError

_CAPACITY_COLUMNS = ("trace", "direction", "t_s", "mbps")
_SNR_COLUMNS = ("trace", "SNR")
_DIRECTIONS = ("up", "down")


@dataclass(frozen=True, eq=False, init=False)
class TraceReplay:
    """A channel that replays traces: each device lives on one of them, from a second of its own.

    Parameters
    ----------
    traces : mapping of str to (T,) array_like
        Spectral efficiency in bit/s/Hz, one value a second, by name; see `load_traces`. Lengths may differ. A value of
        0 is an outage.
    n_devices : int
        Traces are dealt out evenly, in random order; several devices share one if there are fewer traces.
    seed : int
        Traces and first seconds of the devices follow from it.

    Raises
    ------
    TypeError, ValueError
        If there is no trace, one is not as described, or one is all outage.

    Notes
    -----
    At clock time t a device's channel is the sample of second ``offset + floor(t)`` of its trace, which starts again
    when it ends. A run that goes on after a stop meets the same channel. Arrays are read-only copies. A device in
    outage is not chosen; while too few others can serve, a round waits, which counts.
    """

    traces: Mapping[str, FloatArray]
    n_devices: int
    seed: int
    trace_of_device: tuple[str, ...]
    offset_s: IntArray

    def __init__(self, traces: Mapping[str, ArrayLike], n_devices: int, seed: int = 0) -> None:
        if not isinstance(traces, Mapping):
            raise LolaTypeError(
                f"traces must be a mapping of names to samples, got {shown(traces)}; lola.load_traces reads a file"
            )
        if not traces:
            raise LolaValueError("traces is empty; at least one trace is needed")
        checked = {
            name: frozen(vector(f"trace {shown(name)}", samples, positive=False)) for name, samples in traces.items()
        }
        _check_outages("traces", checked)
        count = positive_integer("n_devices", n_devices)
        rng = np.random.default_rng(seed_number("seed", seed))
        order = [list(checked)[i] for i in rng.permutation(len(checked))]
        trace_of_device = tuple(order[k % len(order)] for k in range(count))
        object.__setattr__(self, "traces", checked)
        object.__setattr__(self, "n_devices", count)
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "trace_of_device", trace_of_device)
        object.__setattr__(self, "offset_s", frozen(rng.integers([checked[name].size for name in trace_of_device])))

    @property
    def outages(self) -> int:
        """Number of samples without capacity, over all traces."""
        return sum(int((trace == 0).sum()) for trace in self.traces.values())

    def __str__(self) -> str:
        samples = sum(trace.size for trace in self.traces.values())
        text = f"{len(self.traces)} trace(s) replayed"
        if not self.outages:
            return f"{text}; no sample of {samples:,} is an outage"
        return (
            f"{text}; {self.outages:,} of {samples:,} samples ({self.outages / samples:.2%}) are outages: a device in "
            "one is not chosen, and a round waits while too few others can serve"
        )

    def __call__(self, round_index: int, clock_s: float) -> FloatArray:
        """Return the spectral efficiency of every device at a time, (K,) in bit/s/Hz; the round has no say."""
        if not 0 <= clock_s < np.inf:
            raise LolaValueError(f"clock_s must be finite and >= 0, got {clock_s}")
        second = self.offset_s + int(clock_s)
        samples = (self.traces[name] for name in self.trace_of_device)
        return np.array([trace[s % trace.size] for trace, s in zip(samples, second.tolist(), strict=True)])


def load_traces(path: StrPath, *, bandwidth_hz: float = 10e6) -> dict[str, FloatArray]:
    """Read traces of one sample a second from CSV, plain or compressed (``.gz``).

    Parameters
    ----------
    path : path-like
        Either of two formats, told apart by the header.

        Capacity: ``trace,direction,t_s,mbps``, as made from mahimahi's recordings of packet deliveries. The direction
        is ``up`` or ``down``, and rows that are ``down`` are passed over; ``t_s`` counts seconds without a gap. A
        second without a delivery, 0 Mbit/s, is an outage.

        SNR: columns ``trace`` and ``SNR`` in dB among others, as in the Irish 5G traces; the efficiency is
        ``log2(1 + SNR)``. Samples are taken to follow one another by a second. Those without an SNR (the phone had
        fallen back to a network that reports none) are left out, so that every value replayed was measured; so is a
        trace that has none at all.
    bandwidth_hz : float
        Spectrum over which the capacity was measured, by which it is divided. 10 MHz, a usual LTE carrier, is assumed.
        The SNR format needs none.

    Returns
    -------
    dict of str to (T,) float64 array
        bit/s/Hz by name of the trace, in the file's order, 0 in an outage; for `TraceReplay`.

    Raises
    ------
    FormatError
        Naming the file, the line, and the mend.
    OSError
        If the file cannot be read.
    """
    width = positive_number("bandwidth_hz", bandwidth_hz)
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    samples: dict[str, list[float]] = {}
    try:
        header = [column.strip() for column in next(reader, [])]
        check_separator(f"{path}, line 1", header)
        read = _reader(path, header)
        for row in reader:
            if row:
                where = f"{path}, line {reader.line_num}"
                if len(row) != len(header):
                    raise FormatError(f"{where}: {len(header)} columns are needed, got {len(row)}")
                read(where, dict(zip(header, row, strict=True)), samples)
    except csv.Error as error:
        raise FormatError(f"{path}, line {reader.line_num}: not valid CSV: {error}") from None
    if not samples:
        raise FormatError(f"{path}: no sample of an uplink; is it another kind of file?")
    if "mbps" in header:
        capacity = {name: np.array(mbps) * 1e6 / width for name, mbps in samples.items()}
        _check_outages(path, capacity)
        return capacity
    return {name: spectral_efficiency(snr_db) for name, snr_db in samples.items()}


def _text(path: StrPath) -> str:
    if Path(path).suffix != ".gz":
        return read_text(path)
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FormatError(f"{path}: not a whole gzip file: {error}") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None


def _reader(path: StrPath, header: list[str]) -> Callable[[str, dict[str, str], dict[str, list[float]]], None]:
    for columns, read in ((_CAPACITY_COLUMNS, _read_capacity), (_SNR_COLUMNS, _read_snr)):
        if all(header.count(column) == 1 for column in columns):
            return read
    raise FormatError(
        f"{path}, line 1: the columns {','.join(_CAPACITY_COLUMNS)} (capacity) or {','.join(_SNR_COLUMNS)} (in dB, "
        f"among others) are needed, each once; got {shown(','.join(header))}"
    )


def _read_capacity(where: str, row: dict[str, str], samples: dict[str, list[float]]) -> None:
    if row["direction"] not in _DIRECTIONS:
        raise FormatError(f"{where}, direction: must be one of {', '.join(_DIRECTIONS)}, got {shown(row['direction'])}")
    if row["direction"] == "down":
        return
    trace = samples.setdefault(row["trace"], [])
    mbps = _number(f"{where}, mbps", row["mbps"])
    if mbps < 0:
        raise FormatError(f"{where}, mbps: must be >= 0, got {mbps}")
    if _number(f"{where}, t_s", row["t_s"]) != len(trace):
        raise FormatError(f"{where}, t_s: second {len(trace)} of the trace was wanted, got {shown(row['t_s'])}")
    trace.append(mbps)


def _read_snr(where: str, row: dict[str, str], samples: dict[str, list[float]]) -> None:
    if row["SNR"].strip():
        snr_db = _number(f"{where}, SNR", row["SNR"])
        if not -MOST_DB < snr_db < MOST_DB:
            raise FormatError(f"{where}, SNR: must be a ratio in decibels, got {snr_db}")
        samples.setdefault(row["trace"], []).append(snr_db)


def _check_outages(where: object, traces: Mapping[str, FloatArray]) -> None:
    for name, trace in traces.items():
        if not trace.any():
            raise FormatError(
                f"{where}: trace {shown(name)} should have capacity in some second, and all its {trace.size} samples "
                "are 0; leave it out"
            )


def _number(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise FormatError(f"{where}: a finite number was wanted, got {shown(text)}")
    return value
