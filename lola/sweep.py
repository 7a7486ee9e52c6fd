"""Where rounds are simulated, what each draws anew, and what makes no sense over many rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lola.files.problems import builtin_scenario
from lola.fleet import Fleet
from lola.methods import listed_methods
from lola.problem import Problem, enough_devices
from lola.solvers.checks import positive_integer, shown
from lola.solvers.errors import LolaValueError

# What a round may draw anew, in words.
REDRAWN = {"fleet": "speed, memory and channel", "channel": "the channel"}
# How a parameter is written: its name, its unit, and what it is divided by.
PARAMETERS = {
    "transmit_snr_db": ("transmit SNR", "dB", 1.0),
    "bandwidth_hz": ("bandwidth", "MHz", 1e6),
    "n_devices": ("devices K", "", 1.0),
    "local_steps": ("local steps M", "", 1.0),
}


@dataclass(frozen=True)
class Point:
    """Where rounds are simulated.

    Attributes
    ----------
    transmit_snr_db : float
        NaN where traces are replayed, or each device fades around its own mean SNR.
    bandwidth_hz : float
    n_devices, local_steps : int
    """

    transmit_snr_db: float
    bandwidth_hz: float
    n_devices: int
    local_steps: int


def usual_redraw(fleet: Fleet) -> str:
    """Return what is drawn anew if nobody says: a fleet of one's own stays, the built-in one stands for the paper's."""
    builtin = builtin_scenario().fleet
    fields = ("speed", "memory_bytes", "spectral_efficiency")
    same = fleet.n_devices == builtin.n_devices and all(
        (getattr(fleet, name) == getattr(builtin, name)).all() for name in fields
    )
    return "fleet" if same else "channel"


def points_of(
    problem: Problem,
    transmit_snr_db: float | Sequence[float],
    bandwidth_hz: float | Sequence[float] | None,
    n_devices: int | Sequence[int] | None,
    local_steps: int | Sequence[int] | None,
) -> tuple[str | None, list[Point]]:
    """Lay out the sweep, and name its axis."""
    parameters = {
        "transmit_snr_db": transmit_snr_db,
        "bandwidth_hz": problem.bandwidth_hz if bandwidth_hz is None else bandwidth_hz,
        "n_devices": problem.n_devices if n_devices is None else n_devices,
        "local_steps": problem.local_steps if local_steps is None else local_steps,
    }
    swept = {name: list(value) for name, value in parameters.items() if isinstance(value, Sequence | np.ndarray)}
    for name, values in swept.items():
        if not values or len(set(values)) < len(values):
            raise LolaValueError(f"{name} must hold different values, at least one; got {values}")
    several = [name for name, values in swept.items() if len(values) > 1]
    if len(several) > 1:
        raise LolaValueError(f"one parameter can be swept at a time, got several values for {' and '.join(several)}")
    axis = several[0] if several else None
    fixed: dict[str, Any] = {name: swept[name][0] if name in swept else value for name, value in parameters.items()}
    return axis, [Point(**fixed | {axis: value}) for value in swept[axis]] if axis else [Point(**fixed)]


def of_one_round(problem: Problem) -> list[str]:
    """Name what of a problem cannot be heeded over many rounds."""
    keys = ("pinned", "forbidden", "subcarrier_hz")
    return [key for key in keys if getattr(problem, key)]


def check_rounds(problem: Problem, methods: Sequence[str], redraw: str, points: Sequence[Point]) -> None:
    """Refuse what makes no sense over many rounds."""
    if keys := of_one_round(problem):
        raise LolaValueError(
            f"{' and '.join(keys)}: many rounds heed no pairs or subcarriers, which are of one round; leave them "
            "out of the problem"
        )
    for method in listed_methods(methods):
        if reason := method.unsuited(problem):
            raise LolaValueError(f"{method.name!r} {reason}; leave it out")
    if redraw not in REDRAWN:
        raise LolaValueError(f"redraw must be one of {', '.join(REDRAWN)}; got {shown(redraw)}")
    for point in points:
        enough_devices(positive_integer("n_devices", point.n_devices), problem.n_blocks)
    if redraw == "channel" and any(point.n_devices != problem.n_devices for point in points):
        raise LolaValueError(
            f"n_devices can differ from the fleet's {problem.n_devices} only where the fleet is redrawn; "
            "leave it out, or let redraw be 'fleet'"
        )
    if redraw == "fleet" and np.ptp(problem.fleet.headroom) > 0:
        raise LolaValueError("headroom must be the same for every device where the fleet is redrawn; give one number")
