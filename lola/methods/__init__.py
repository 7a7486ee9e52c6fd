"""The methods, each in one entry of one table: how it solves, what it proves, and what it cannot heed.

To add one, add its entry here: `lola.schedule`, verification, files, simulations, figures and the command know it then.
A new kind of proof is a class in `lola.proofs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lola.problem import Problem
from lola.proofs import HallProof, MultiplierProof, PriceProof, Proof
from lola.solvers.checks import FloatArray, IntArray, frozen, meant, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    from lola.rounds import Rounds
    from lola.solvers import BlockAllocation, CutAllocation

    METHODS: tuple[str, ...]

Outcome = tuple[FloatArray, IntArray]
Seed = int | np.random.Generator | None
Limit = Callable[[Problem], str]
SolveRounds = Callable[[Problem, "Rounds", int], Outcome]
# What differs between rounds, as solvers call it.
_OF_FLEET = ("speed", "memory_bytes", "spectral_efficiency")


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
    joint: bool = False
    exact: bool = False
    heeds_memory: bool = True
    limits: tuple[Limit, ...] = ()
    solve_rounds: SolveRounds | None = None
    style: Style | None = None
    by_default: bool = True

    def unsuited(self, problem: Problem) -> str:
        """Say in a few words what of the problem the method cannot heed; nothing if it can heed all."""
        return next((reason for limit in self.limits if (reason := limit(problem))), "")

    @property
    def claim(self) -> str:
        """Which schedules its bound holds for, in words; nothing if it claims none."""
        if self.proof is None:
            return ""
        return "no schedule" if self.joint else "no schedule under an equal split of the bandwidth"


def method_named(name: object) -> Method:
    """Return a method of the table.

    Raises
    ------
    LolaValueError
        If there is none of that name; the message names all.
    """
    if not isinstance(name, str) or name not in BY_NAME:
        raise LolaValueError(f"a method must be one of {', '.join(BY_NAME)}; got {shown(name)}{meant(name, BY_NAME)}")
    return BY_NAME[name]


def listed_methods(names: object) -> list[Method]:
    """Return different methods of the table, at least one, by a list of their names."""
    if isinstance(names, str):
        raise LolaValueError(f"methods must be different methods in a list, such as [{names!r}]; got one text")
    if not isinstance(names, Iterable):
        raise LolaTypeError(f"methods must be a list of methods, such as ['jbba']; got {shown(names)}")
    listed = list(names)
    if not listed or len(set(map(str, listed))) < len(listed):
        raise LolaValueError(f"methods must be different methods, at least one; got {shown(names)}")
    return [method_named(name) for name in listed]


def _no_subcarriers(problem: Problem) -> str:
    return "" if problem.subcarrier_hz is None else "knows no whole subcarriers"


def _no_pairs(problem: Problem) -> str:
    return "" if problem.allowed is None else "knows no pinned or forbidden pairs"


def _equal_uploads(problem: Problem) -> str:
    bits = problem.profile.upload_bits
    return "wants the same upload for every block" if (bits != bits[0]).any() else ""


def _rising_uploads(problem: Problem) -> str:
    return "wants uploads that do not fall with depth" if (np.diff(problem.profile.upload_bits) < 0).any() else ""


def _unpaired(problem: Problem) -> dict[str, Any]:
    """Return the arguments of a solver that knows no pinned or forbidden pairs."""
    return {name: value for name, value in problem.solver_arguments().items() if name != "allowed"}


def _jbba(problem: Problem, seed: Seed) -> Answer:
    from lola import solvers

    allocation = solvers.joint_allocation(**problem.solver_arguments(), subcarrier_hz=problem.subcarrier_hz)
    proof = PriceProof(frozen(allocation.block_price_hz), frozen(allocation.device_price_hz))
    return Answer(
        allocation.device_of_block, allocation.bandwidth_hz, allocation.lower_bound, proof, allocation.iterations
    )


def _jbba_rounds(problem: Problem, rounds: Rounds, seed: int) -> Outcome:
    from lola import solvers

    fleets = {name: getattr(rounds, name) for name in _OF_FLEET}
    return solvers.joint_allocation_batch(**_unpaired(problem) | fleets).objective, _no_wall(rounds)


def _dual_ascent(problem: Problem, seed: Seed) -> Answer:
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


def _ba(problem: Problem, seed: Seed) -> Answer:
    from lola import solvers

    return _with_violator(solvers.block_allocation(**problem.solver_arguments()))


def _ba_crunch(problem: Problem, seed: Seed) -> Answer:
    from lola import solvers

    return _with_violator(solvers.crunch(**_unpaired(problem)))


def _with_violator(allocation: BlockAllocation | CutAllocation) -> Answer:
    proof = HallProof(frozen(allocation.hall_violator))
    return Answer(
        allocation.device_of_block, allocation.bandwidth_hz, allocation.objective, proof, allocation.iterations
    )


def _one_by_one(solver: str) -> SolveRounds:
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


def _fastest(speed: FloatArray, spectral_efficiency: FloatArray, n_blocks: int, seed: Seed) -> IntArray:
    return np.argsort(-speed, kind="stable")[:n_blocks][::-1]


def _best_channels(speed: FloatArray, spectral_efficiency: FloatArray, n_blocks: int, seed: Seed) -> IntArray:
    return np.argsort(-spectral_efficiency, kind="stable")[:n_blocks]


def _anybody(speed: FloatArray, spectral_efficiency: FloatArray, n_blocks: int, seed: Seed) -> IntArray:
    return np.random.default_rng(seed).permutation(speed.size)[:n_blocks]


def _baseline(name: str, summary: str, choose: Callable[..., IntArray], style: Style) -> Method:
    """Make a method of a way to choose L devices, the one meant for depth 1 first."""

    def solve(problem: Problem, seed: Seed) -> Answer:
        fleet, n_blocks = problem.fleet, problem.n_blocks
        devices = choose(fleet.speed, fleet.spectral_efficiency, n_blocks, seed)
        return Answer(devices, np.full(n_blocks, problem.bandwidth_hz / n_blocks))

    def solve_rounds(problem: Problem, rounds: Rounds, seed: int) -> Outcome:
        n_blocks = problem.n_blocks
        rows = enumerate(zip(rounds.speed, rounds.spectral_efficiency, strict=True))
        chosen = [choose(*both, n_blocks, rounds.generator(row, seed)) for row, both in rows]
        return rounds.outcome(problem, np.stack(chosen), problem.bandwidth_hz / n_blocks)

    return Method(
        name,
        summary,
        solve,
        heeds_memory=False,
        limits=(_no_subcarriers, _no_pairs),
        solve_rounds=solve_rounds,
        style=style,
    )


_LISTED = (
    Method(
        "jbba",
        "blocks and bandwidth together, optimal (P2, Theorem 2).",
        _jbba,
        PriceProof,
        joint=True,
        exact=True,
        solve_rounds=_jbba_rounds,
        style=Style("#35618f", "o", "-"),
    ),
    Method(
        "jbba-dual-ascent",
        "the same as published, Algorithm 3: not optimal, and with a loose bound.",
        _dual_ascent,
        MultiplierProof,
        joint=True,
        limits=(_no_subcarriers, _equal_uploads),
        solve_rounds=_one_by_one("dual_ascent"),
        style=Style("#7da7cf", "v", "-"),
        by_default=False,  # takes a thousand times as long as the exact method
    ),
    Method(
        "ba",
        "blocks under an equal split of the bandwidth, optimal (P1, Theorem 1).",
        _ba,
        HallProof,
        exact=True,
        limits=(_no_subcarriers,),
        solve_rounds=_one_by_one("block_allocation"),
        style=Style("#e8a33d", "s", "-"),
    ),
    Method(
        "ba-crunch",
        "the same as published, Algorithm 2: optimal, slower.",
        _ba_crunch,
        HallProof,
        exact=True,
        limits=(_no_subcarriers, _no_pairs, _rising_uploads),
        solve_rounds=_one_by_one("crunch"),
        style=Style("#8a5a00", "x", ":"),
        by_default=False,  # gives what "ba" gives
    ),
    _baseline(
        "computation-aware",
        "the L fastest devices, the deepest block to the fastest; ignores memory.",
        _fastest,
        Style("#4c8c4a", "^", "--"),
    ),
    _baseline(
        "communication-aware",
        "the L devices with the best channels, depth 1 to the best; ignores memory. The paper does not say which block "
        "the best channel serves; this order, unlike the other, meets its Table I.",
        _best_channels,
        Style("#b3261e", "D", "--"),
    ),
    _baseline("random", "any L devices; ignores memory.", _anybody, Style("#777777", "P", "--")),
)
# The one table. A method that is added here, while lola runs or in this file, is known everywhere.
BY_NAME: dict[str, Method] = {method.name: method for method in _LISTED}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> tuple[str, ...]:
        """Return `METHODS`, the names of all methods, as the table is now."""
        if name == "METHODS":
            return tuple(BY_NAME)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
