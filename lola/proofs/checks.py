"""What checks of certificates share: numbers, prices, and the pairs of devices and blocks that they go over."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lola.files.formats import FormatError, integers, numbers
from lola.problem import Problem
from lola.solvers.checks import BoolArray, FloatArray, require

# Numbers that are computed again here by the formula they came from may differ by a few roundings.
ROUNDING = 1e-12
# Prices and multipliers beyond this prove nothing that smaller ones do not, and could overflow when added up.
LARGEST = 1e200
# Devices checked at a time, so that a city's fleet needs no K×L array.
CHUNK = 1 << 15


def check_sane(what: str, *parts: FloatArray) -> None:
    """Refuse what cannot be added up: NaN, infinity, and numbers that would overflow."""
    sane = all((np.abs(part) <= LARGEST).all() for part in parts)
    require(sane, "proof", f"a {what} is not finite, or beyond {LARGEST:g}")


def floats(where: str, data: dict[str, Any], name: str) -> FloatArray:
    """Read a vector of numbers from a JSON object."""
    return np.array(numbers(f"{where}, {name}", data[name]), dtype=np.float64)


def prices_to_json(device_price_hz: FloatArray) -> dict[str, Any]:
    """Write prices of devices: most of a large fleet have price 0, and are left out."""
    priced = np.flatnonzero(device_price_hz)
    return {"device_price_hz": device_price_hz[priced].tolist(), "priced_devices": priced.tolist()}


def prices_from_json(where: str, data: dict[str, Any], n_devices: int) -> FloatArray:
    """Read what `prices_to_json` wrote."""
    listed = floats(where, data, "device_price_hz")
    priced = np.array(integers(f"{where}, priced_devices", data["priced_devices"]), dtype=np.int64)
    inside = (priced >= 0) & (priced < n_devices)
    if listed.shape != priced.shape or not inside.all() or np.unique(priced).size != priced.size:
        raise FormatError(
            f"{where}: priced_devices must list distinct devices of the fleet, one for each of device_price_hz"
        )
    prices = np.zeros(n_devices)
    prices[priced] = listed
    return prices


def chunks(problem: Problem) -> Iterator[tuple[FloatArray, FloatArray, BoolArray]]:
    """Yield seconds of computation, bits over efficiency, and whether the pair is possible; devices by blocks."""
    require(problem.max_blocks == 1, "proof", "is of one block a device, but the problem lets one take several")
    profile, fleet = problem.profile, problem.fleet
    memory = fleet.usable_memory_bytes
    work = problem.local_steps * profile.latency_s
    for first in range(0, problem.n_devices, CHUNK):
        chunk = slice(first, first + CHUNK)
        possible = memory[chunk, None] >= profile.memory_bytes
        if problem.allowed is not None:
            possible &= problem.allowed[chunk]
        yield (
            work / fleet.speed[chunk, None],
            profile.upload_bits / fleet.spectral_efficiency[chunk, None],
            possible,
        )
