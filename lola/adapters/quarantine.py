"""Who was refused again and again gets no work for a while."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lola.solvers.checks import IntArray, positive_integer


class Quarantine:
    """Keeps devices out whose answers were refused in `after` of the last `rounds` rounds.

    So a device gets out by itself as its refusals age, and one that never mends costs at most `after` of its answers in
    any `rounds` rounds. Only answers that came count: who is late, gone or short of memory did not try to spoil
    anything.

    Parameters
    ----------
    after, rounds : int
    refusals : dict of int to list of int, optional
        Of each device the versions that it was refused at, the oldest first, where a run goes on.

    Raises
    ------
    TypeError, ValueError
        If a number is no positive integer.
    """

    def __init__(self, after: int, rounds: int = 100, refusals: Mapping[int, list[int]] | None = None) -> None:
        self.after = positive_integer("quarantine_after", after)
        self.rounds = positive_integer("quarantine_rounds", rounds)
        self.refusals = {device: list(versions) for device, versions in (refusals or {}).items()}

    def holds(self, device: int, version: int) -> bool:
        """Whether a device gets no work at a version of the model."""
        return len(self._recent(device, version)) >= self.after

    def free(self, devices: IntArray, version: int) -> IntArray:
        """Return those of the devices numbered that may get work."""
        held = [self.holds(device, version) for device in devices.tolist()]
        return np.asarray(devices[~np.array(held, dtype=bool)])

    def note(self, device: int, version: int) -> str:
        """Note that an answer was refused; say what follows for the device, or nothing."""
        earlier = [one for one in self._recent(device, version) if one != version]  # a round counts once
        self.refusals[device] = [*earlier, version][-self.after :]
        if not self.holds(device, version):
            return ""
        return (
            f"; refused in {self.after} of the last {self.rounds} rounds, it gets no work before version "
            f"{self.refusals[device][0] + self.rounds}"
        )

    def _recent(self, device: int, version: int) -> list[int]:
        return [one for one in self.refusals.get(device, []) if one > version - self.rounds]
