"""Many random rounds, and what each method makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lola.channel import Channel
from lola.fleet import Fleet
from lola.methods import method_named
from lola.problem import Problem, round_latency_s
from lola.scheduling import schedule
from lola.solvers.checks import FloatArray, IntArray
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
        As of a `Fleet` without headroom.
    """

    number: IntArray
    speed: FloatArray
    memory_bytes: FloatArray
    spectral_efficiency: FloatArray

    def fleet(self, row: int) -> Fleet:
        """Return the fleet of one round."""
        return Fleet(
            speed=self.speed[row],
            memory_bytes=self.memory_bytes[row],
            spectral_efficiency=self.spectral_efficiency[row],
        )

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

        Notes
        -----
        Who can hold a block can hold every smaller one. So there are enough if and only if the largest device can hold
        the largest block, the second largest the second largest, and so on.
        """
        largest = np.sort(self.memory_bytes, axis=1)[:, -problem.n_blocks :]
        enough = (largest >= np.sort(problem.profile.memory_bytes)).all(axis=1)
        if enough.sum() >= 2:
            return Rounds(
                self.number[enough], self.speed[enough], self.memory_bytes[enough], self.spectral_efficiency[enough]
            )
        failing = int(np.argmin(enough))
        try:
            schedule(Problem(problem.profile, self.fleet(failing), problem.bandwidth_hz), "ba")
        except InfeasibleError as error:
            message = (
                f"{enough.sum()} of {enough.size} rounds of {problem.n_devices} devices have the memory for the model, "
                f"and at least 2 are needed. In round {failing}, {error}"
            )
            raise InfeasibleError(message, error.violator, error.partners, error.bytes_needed) from None
        raise AssertionError("memory suffices for the solver alone")


def draw_rounds(fleet: Fleet, n_devices: int, channel: Channel, count: int, seed: int, redraw: str) -> Rounds:
    """Draw fleets and channels of many rounds; see `lola.simulate`."""
    shape = count, n_devices
    if redraw == "fleet":
        fleets = [Fleet.sample(n_devices, seed=np.random.default_rng([seed, r, _FLEET])) for r in range(count)]
        speed = np.stack([one.speed for one in fleets])
        memory = np.stack([one.memory_bytes for one in fleets]) * (1.0 - fleet.headroom[0])
    else:
        speed = np.broadcast_to(fleet.speed, shape)
        memory = np.broadcast_to(fleet.usable_memory_bytes, shape)
    clock_s = [np.random.default_rng([seed, r, _CLOCK]).uniform(0.0, _SPAN_S) for r in range(count)]
    efficiency = np.stack([channel(r, clock_s[r]) for r in range(count)])
    return Rounds(np.arange(count), speed, memory, efficiency)


def latencies(problem: Problem, name: str, rounds: Rounds, seed: int) -> tuple[FloatArray, IntArray]:
    """Latency of each round by the method of a name, and how many chosen devices lack the memory, (R,) each."""
    method = method_named(name)
    if method.solve_rounds is not None:
        return method.solve_rounds(problem, rounds, seed)
    answers = [
        method.solve(replace(problem, fleet=rounds.fleet(row)), rounds.generator(row, seed))
        for row in range(rounds.number.size)
    ]
    devices = np.stack([answer.device_of_block for answer in answers])
    return rounds.outcome(problem, devices, np.stack([answer.bandwidth_hz for answer in answers]))
