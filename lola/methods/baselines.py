"""Methods that choose devices by a rule and claim nothing: the LoLa-DEFT paper's benchmarks, section VI-A."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lola.methods.limits import no_pairs, no_subcarriers
from lola.methods.method import Answer, Method, Outcome, Seed, Style
from lola.problem import Problem
from lola.solvers.checks import FloatArray, IntArray

if TYPE_CHECKING:
    from lola.rounds import Rounds


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
        limits=(no_subcarriers, no_pairs),
        solve_rounds=solve_rounds,
        style=style,
    )


BASELINES = (
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
