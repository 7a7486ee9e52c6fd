"""What lola knows of a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lola.problem import Problem
from lola.proofs import Proof
from lola.solvers.checks import FloatArray, IntArray

if TYPE_CHECKING:
    from lola.rounds import Rounds

Outcome = tuple[FloatArray, IntArray]
Seed = int | np.random.Generator | None
Limit = Callable[[Problem], str]
SolveRounds = Callable[[Problem, "Rounds", int], Outcome]


class Answer(NamedTuple):
    """What a method finds: a device and its bandwidth for each block, (L,) each, and why nothing beats the bound."""

    device_of_block: IntArray
    bandwidth_hz: FloatArray
    lower_bound_s: float = np.nan
    proof: Proof | None = None
    iterations: int = 0


class Style(NamedTuple):
    """How figures draw a method, in matplotlib's words."""

    color: str
    marker: str
    line: str


@dataclass(frozen=True)
class Method:
    """Everything that lola knows of a method.

    Parameters
    ----------
    name : str
    summary : str
        What it does, in words.
    solve : callable
        ``solve(problem, seed)`` returns an `Answer`, or raises `lola.InfeasibleError`.
    proof : type, optional
        Kind of the proof of its bound, a class of `lola.proofs`; without one it claims no bound.
    segment_proof : type, optional
        The same where devices may take several blocks, ``max_blocks != 1``; without one it cannot heed that.
    joint : bool
        Whether it chooses the bandwidths, (P2); the others split the spectrum equally, (P1).
    exact : bool
        Whether its latency is its bound.
    heeds_memory : bool
        Whether no device is given more than it can hold.
    limits : tuple of callables
        What it cannot heed: each says of a problem in a few words why it does not suit, or nothing.
    solve_rounds : callable, optional
        ``solve_rounds(problem, rounds, seed)`` returns the latency of each round and how many chosen devices lack the
        memory, (R,) each; for rounds that differ from the problem in the fleet alone. Without it, `solve` is called
        for one round after the other.
    style : Style, optional
        How figures draw it; as matplotlib sees fit if left out.
    by_default : bool
        Whether `lola.simulate` compares it where no methods are named.
    """

    name: str
    summary: str
    solve: Callable[[Problem, Seed], Answer]
    proof: type[Proof] | None = None
    segment_proof: type[Proof] | None = None
    joint: bool = False
    exact: bool = False
    heeds_memory: bool = True
    limits: tuple[Limit, ...] = ()
    solve_rounds: SolveRounds | None = None
    style: Style | None = None
    by_default: bool = True

    def unsuited(self, problem: Problem) -> str:
        """Say in a few words what of the problem the method cannot heed; nothing if it can heed all."""
        if problem.max_blocks != 1 and self.segment_proof is None:
            return "gives each device one block (max_blocks 1)"
        return next((reason for limit in self.limits if (reason := limit(problem))), "")

    def proof_for(self, problem: Problem) -> type[Proof] | None:
        """Return the kind of proof of its bound on a problem."""
        return self.proof if problem.max_blocks == 1 else self.segment_proof

    @property
    def claim(self) -> str:
        """Which schedules its bound holds for, in words; nothing if it claims none."""
        if self.proof is None:
            return ""
        return "no schedule" if self.joint else "no schedule under an equal split of the bandwidth"
