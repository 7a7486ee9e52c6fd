"""Many random rounds, and what each method makes of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from lola.channel import Channel, can_hold, wait_for_devices
from lola.fleet import Fleet
from lola.methods import method_named
from lola.problem import Problem, of_a_round, round_latency_s
from lola.scheduling import schedule
from lola.solvers.checks import BoolArray, FloatArray, IntArray
from lola.solvers.errors import InfeasibleError

# What a round draws from its seed; a channel has randomness of its own.
_FLEET, _CLOCK, _METHOD = range(3)
# Long against any trace, so that a round meets each trace at any of its seconds alike.
_SPAN_S = 1e6


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
        if enough.sum() >= 2:
            return self.some(enough)
        failing = int(np.argmin(enough))
        try:
            schedule(of_a_round(problem, self.fleet(failing)), "ba")
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
        efficiency[r], waited[r] = wait_for_devices(channel, r, clock_s, memory[r], problem.profile.memory_bytes)
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
