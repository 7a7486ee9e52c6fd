"""Many random rounds: where, what is drawn, who waits for whom, and what each method makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lola.channel import Channel
from lola.files.problems import builtin_scenario
from lola.fleet import Fleet
from lola.methods import listed_methods, method_named
from lola.outages import can_hold, can_serve, wait_for_devices
from lola.problem import Problem, enough_devices, of_a_round, round_latency_s
from lola.scheduling import schedule
from lola.solvers.checks import BoolArray, FloatArray, IntArray, positive_integer, shown
from lola.solvers.errors import InfeasibleError, LolaValueError

# What a round draws from its seed; a channel has randomness of its own.
_FLEET, _CLOCK, _METHOD = range(3)
# Long against any trace, so that a round meets each trace at any of its seconds alike.
_SPAN_S = 1e6
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
        enough_devices(positive_integer("n_devices", point.n_devices), problem.n_blocks, problem.max_blocks)
    if redraw == "channel" and any(point.n_devices != problem.n_devices for point in points):
        raise LolaValueError(
            f"n_devices can differ from the fleet's {problem.n_devices} only where the fleet is redrawn; "
            "leave it out, or let redraw be 'fleet'"
        )
    if redraw == "fleet" and np.ptp(problem.fleet.headroom) > 0:
        raise LolaValueError("headroom must be the same for every device where the fleet is redrawn; give one number")


@dataclass(frozen=True, eq=False)
class Rounds:
    """The fleets of R rounds.

    Attributes
    ----------
    number : (R,) int64 array
        Of each round, from 0; what it draws depends on the seed and on this alone.
    speed, memory_bytes, spectral_efficiency : (R, K) float64 arrays
        As of a `Fleet` without headroom; an efficiency of 0 is an outage.
    waited_s : (R,) float64 array
        How long each round waited for devices to come out of outage.
    """

    number: IntArray
    speed: FloatArray
    memory_bytes: FloatArray
    spectral_efficiency: FloatArray
    waited_s: FloatArray

    def fleet(self, row: int) -> Fleet:
        """Return the fleet of one round: who is in outage is left out."""
        serving = self.spectral_efficiency[row] > 0
        return Fleet(
            speed=self.speed[row, serving],
            memory_bytes=self.memory_bytes[row, serving],
            spectral_efficiency=self.spectral_efficiency[row, serving],
        )

    def some(self, rows: BoolArray) -> Rounds:
        """Return some of the rounds."""
        return Rounds(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def generator(self, row: int, seed: int) -> np.random.Generator:
        """Return what a method draws from in one round."""
        return np.random.default_rng([seed, int(self.number[row]), _METHOD])

    def outcome(
        self, problem: Problem, device_of_block: IntArray, bandwidth_hz: FloatArray | float
    ) -> tuple[FloatArray, IntArray]:
        """Latency of each round, (R,), if the devices given, (R, L), have the hertz given; how many lack the memory."""
        profile = problem.profile
        speed, memory, efficiency = (
            np.take_along_axis(array, device_of_block, axis=1)
            for array in (self.speed, self.memory_bytes, self.spectral_efficiency)
        )
        compute = problem.local_steps * profile.latency_s / speed
        upload = profile.upload_bits / bandwidth_hz / efficiency
        return round_latency_s(compute, upload), (memory < profile.memory_bytes).sum(axis=1)

    def that_can_hold(self, problem: Problem) -> Rounds:
        """Return the rounds in which there are devices enough with the memory for all blocks.

        Raises
        ------
        InfeasibleError
            If there are fewer than two, the least that an interval needs.
        """
        enough = can_hold(self.memory_bytes, self.spectral_efficiency, problem.profile.memory_bytes)
        if problem.max_blocks != 1:
            rows = zip(self.memory_bytes, self.spectral_efficiency, strict=True)
            enough = np.array([can_serve(problem, *row) for row in rows])
        if enough.sum() >= 2:
            return self.some(enough)
        failing = int(np.argmin(enough))
        try:
            schedule(of_a_round(problem, self.fleet(failing)))
        except InfeasibleError as error:
            message = (
                f"{enough.sum()} of {enough.size} rounds of {self.speed.shape[1]} devices have the memory for the "
                f"model, and at least 2 are needed. In round {failing}, {error}"
            )
            raise InfeasibleError(message, error.violator, error.partners, error.bytes_needed) from None
        raise AssertionError("memory suffices for the solver alone")


def draw_rounds(problem: Problem, n_devices: int, channel: Channel, count: int, seed: int, redraw: str) -> Rounds:
    """Draw fleets and channels of many rounds; see `lola.simulate`."""
    shape, fleet = (count, n_devices), problem.fleet
    if redraw == "fleet":
        fleets = [Fleet.sample(n_devices, seed=np.random.default_rng([seed, r, _FLEET])) for r in range(count)]
        speed = np.stack([one.speed for one in fleets])
        memory = np.stack([one.memory_bytes for one in fleets]) * (1.0 - fleet.headroom[0])
    else:
        speed = np.broadcast_to(fleet.speed, shape)
        memory = np.broadcast_to(fleet.usable_memory_bytes, shape)
    efficiency, waited = np.empty(shape), np.empty(count)
    for r in range(count):
        clock_s = np.random.default_rng([seed, r, _CLOCK]).uniform(0.0, _SPAN_S)
        efficiency[r], waited[r] = wait_for_devices(problem, channel, r, clock_s, memory[r])
    return Rounds(np.arange(count), speed, memory, efficiency, waited)


def latencies(problem: Problem, name: str, rounds: Rounds, seed: int) -> tuple[FloatArray, IntArray]:
    """Latency of each round by the method of a name, and how many chosen devices lack the memory, (R,) each.

    What goes before a schedule, waiting and the broadcast, counts.
    """
    method, count = method_named(name), rounds.number.size
    latency, wall = np.empty(count), np.empty(count, dtype=np.int64)
    whole = np.zeros(count, dtype=np.bool_)
    if method.solve_rounds is not None:
        whole = np.asarray((rounds.spectral_efficiency > 0).all(axis=1))
    if method.solve_rounds is not None and whole.any():
        latency[whole], wall[whole] = method.solve_rounds(problem, rounds.some(whole), seed)
    for row in np.flatnonzero(~whole).tolist():
        one = of_a_round(problem, rounds.fleet(row))
        answer = method.solve(one, rounds.generator(row, seed))
        devices = answer.device_of_block
        latency[row] = round_latency_s(one.compute_s(devices), one.upload_s(devices, answer.bandwidth_hz))
        wall[row] = (one.fleet.memory_bytes[devices] < one.profile.memory_bytes).sum()
    return problem.broadcast_s + rounds.waited_s + latency, wall
