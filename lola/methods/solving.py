"""From the solvers' answers to those of methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lola.methods.method import Answer, Outcome, Seed, SolveRounds
from lola.problem import Problem
from lola.proofs.hall import HallProof
from lola.proofs.multipliers import MultiplierProof
from lola.proofs.potentials import PotentialProof
from lola.proofs.prices import PriceProof
from lola.solvers.checks import IntArray, frozen

if TYPE_CHECKING:
    from lola.rounds import Rounds
    from lola.solvers import BlockAllocation, CutAllocation

# What differs between rounds, as solvers call it.
_OF_FLEET = ("speed", "memory_bytes", "spectral_efficiency")


def _unpaired(problem: Problem) -> dict[str, Any]:
    """Return the arguments of a solver that knows no pinned or forbidden pairs."""
    return {name: value for name, value in problem.solver_arguments().items() if name != "allowed"}


def jbba(problem: Problem, seed: Seed) -> Answer:
    """Allocate blocks, or segments of them, and bandwidth together."""
    from lola import solvers

    width = problem.subcarrier_hz
    if problem.max_blocks == 1:
        one = solvers.joint_allocation(**problem.solver_arguments(), subcarrier_hz=width)
        prices = PriceProof(frozen(one.block_price_hz), frozen(one.device_price_hz))
        return Answer(one.device_of_block, one.bandwidth_hz, one.lower_bound, prices, one.iterations)
    several = solvers.segment_allocation(
        **problem.solver_arguments(), **problem.segment_arguments(), subcarrier_hz=width
    )
    counter = several.counter_of_device
    counters = tuple(frozen(np.flatnonzero(counter == c)) for c in range(counter.max() + 1))
    potentials = PotentialProof(frozen(several.potential_hz), frozen(several.device_price_hz), counters)
    return Answer(several.device_of_block, several.bandwidth_hz, several.lower_bound, potentials, several.iterations)


def jbba_rounds(problem: Problem, rounds: Rounds, seed: int) -> Outcome:
    """Do the same in many rounds."""
    from lola import solvers

    arguments = _unpaired(problem) | {name: getattr(rounds, name) for name in _OF_FLEET}
    if problem.max_blocks == 1:
        return solvers.joint_allocation_batch(**arguments).objective, _no_wall(rounds)
    batch = solvers.segment_allocation_batch(**arguments, **problem.segment_arguments())
    return batch.objective, _no_wall(rounds)


def dual_ascent(problem: Problem, seed: Seed) -> Answer:
    """Allocate both by the published dual ascent."""
    from lola import solvers

    allocation = solvers.dual_ascent(**problem.solver_arguments())
    proof = MultiplierProof(
        frozen(allocation.latency_multiplier),
        allocation.bandwidth_multiplier,
        frozen(allocation.involvement_multiplier),
        frozen(allocation.block_dual_s),
        frozen(allocation.device_dual_s),
    )
    return Answer(
        allocation.device_of_block, allocation.bandwidth_hz, allocation.lower_bound, proof, allocation.iterations
    )


def ba(problem: Problem, seed: Seed) -> Answer:
    """Allocate blocks under an equal split of the bandwidth."""
    from lola import solvers

    return _with_violator(solvers.block_allocation(**problem.solver_arguments()))


def ba_crunch(problem: Problem, seed: Seed) -> Answer:
    """Do the same by the published algorithm."""
    from lola import solvers

    return _with_violator(solvers.crunch(**_unpaired(problem)))


def _with_violator(allocation: BlockAllocation | CutAllocation) -> Answer:
    proof = HallProof(frozen(allocation.hall_violator))
    return Answer(
        allocation.device_of_block, allocation.bandwidth_hz, allocation.objective, proof, allocation.iterations
    )


def one_by_one(solver: str) -> SolveRounds:
    """Solve rounds by the solver of this name, which is much quicker than a `Problem` for each."""

    def solve_rounds(problem: Problem, rounds: Rounds, seed: int) -> Outcome:
        from lola import solvers

        solve, shared = getattr(solvers, solver), _unpaired(problem)
        rows = zip(*(getattr(rounds, name) for name in _OF_FLEET), strict=True)
        latency = [solve(**shared | dict(zip(_OF_FLEET, row, strict=True))).objective for row in rows]
        return np.array(latency), _no_wall(rounds)

    return solve_rounds


def _no_wall(rounds: Rounds) -> IntArray:
    return np.zeros(rounds.number.size, dtype=np.int64)
