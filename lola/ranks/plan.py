"""The answer: how many ranks each block gets, and why no others are worth more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lola.files.html import html_table
from lola.problem import Problem
from lola.profile import Profile
from lola.ranks.importance import Importance
from lola.ranks.rounds import trained_profile
from lola.ranks.verification import verify
from lola.solvers.checks import FloatArray, IntArray, expect, frozen
from lola.solvers.deadline_proof import RankProof
from lola.solvers.errors import LolaValueError


@dataclass(frozen=True, eq=False)
class RankPlan:
    """Ranks of all blocks, under a budget of parameters or by a deadline. Arrays begin with depth 1, as profiles do.

    Attributes
    ----------
    rank : (L,) int64 array
        0 is a block without adapters. `lola.models.attach_lora` takes it as it is.
    objective, upper_bound : float
        What the ranks are worth together, and what none that fit are worth more than.
    min_rank : int
        What every block had to get.
    parameters : (L,) int64 array
        Of LoRA, by block.
    upload_bits : (L,) float64 array
        By block, the head included.
    uniform_rank : int
        The largest rank that all blocks can have alike within the same budget or deadline; 0 if not even 1 fits.
    uniform_objective : float
        What that is worth; never more than `objective`.
    budget : float or None
        Parameters that LoRA may have in all.
    price : float or None
        Gain per parameter, which proves the bound under a budget.
    deadline_s : float or None
        When a round must have ended.
    equal_bandwidth : bool
        Whether the spectrum is split equally over all L blocks; else shares are chosen with the ranks.
    device_of_block : (L,) int64 array or None
        Who takes each block by the deadline, −1 one that uploads nothing.
    bandwidth_hz : (L,) float64 array or None
        The blocks' shares.
    latency_s : float or None
        When the round ends, from the broadcast's end on; `lola.schedule` of `to_problem` is no slower.
    proof : RankProof or None
        Proves the bound by a deadline.
    name : (L,) tuple of str or None
        The blocks, where the importance names them.
    """

    rank: IntArray
    objective: float
    upper_bound: float
    min_rank: int
    parameters: IntArray
    upload_bits: FloatArray
    uniform_rank: int
    uniform_objective: float
    budget: float | None = None
    price: float | None = None
    deadline_s: float | None = None
    equal_bandwidth: bool = False
    device_of_block: IntArray | None = None
    bandwidth_hz: FloatArray | None = None
    latency_s: float | None = None
    proof: RankProof | None = None
    name: tuple[str, ...] | None = None

    @classmethod
    def of_ranks(
        cls, importance: Importance, rank: IntArray, upper_bound: float, min_rank: int, uniform_rank: int, **limits: Any
    ) -> RankPlan:
        """Count what ranks take and are worth, beside one rank for all; `limits` are the fields that remain.

        A solver adds up block by block; the bound that it met may lie a rounding below the worth as counted here.
        """
        objective = importance.worth(rank)
        return cls(
            rank=frozen(rank),
            objective=objective,
            upper_bound=max(upper_bound, objective),
            min_rank=min_rank,
            parameters=frozen(importance.parameters(rank)),
            upload_bits=frozen(importance.upload_bits(rank)),
            uniform_rank=uniform_rank,
            uniform_objective=importance.worth(np.full_like(rank, uniform_rank)),
            name=importance.name,
            **limits,
        )

    @property
    def gap(self) -> float:
        """What may be missing to the best ranks, of the bound; 0 to rounding where these are proven the best."""
        return max(self.upper_bound - self.objective, 0.0) / abs(self.upper_bound) if self.upper_bound else 0.0

    @property
    def trained(self) -> IntArray:
        """The depths (1 … L) that have something to train: adapters, or the head. They are `Depths` in this order."""
        return np.asarray(np.flatnonzero(self.upload_bits) + 1)

    def verify(self, importance: Importance, problem: Problem | None = None) -> None:
        """Check every limit, number and the proof, by comparisons and sums alone.

        That `uniform_rank` is the largest by a deadline is computed anew, by assignments; no bound rests on it.

        Parameters
        ----------
        importance : Importance
        problem : Problem, optional
            Profile, fleet and bandwidth that the deadline is kept with; none under a budget.

        Raises
        ------
        lola.VerificationError
            Naming the first line that fails.

        Examples
        --------
        >>> import lola
        >>> importance = lola.Importance([[9.0, 4.0], [3.0, 1.0]], cost=[100, 100])
        >>> plan = lola.allocate_ranks(importance, budget=300)
        >>> plan.verify(importance)  # silent: every line holds, and no ranks are worth more than the bound
        >>> plan.rank.tolist(), plan.objective
        ([2, 1], 16.0)
        """
        verify(self, importance, problem)

    def to_profile(self, profile: Profile) -> Profile:
        """Return a profile of what is trained: uploads are those of the ranks, and other blocks are no depths.

        A block that is left out still is passed on the way to a deeper one, so the depths that stay cost what they did;
        a rank's own share in memory and time is small, and stays that of the profile.

        Raises
        ------
        ValueError
            If the profile has another number of blocks.
        """
        expect("profile", profile, Profile)
        return trained_profile(profile, self.rank, self.trained, self.upload_bits[self.trained - 1])

    def to_problem(self, problem: Problem) -> Problem:
        """Return the problem of a round in which these ranks are trained, for `lola.schedule` or a session.

        Raises
        ------
        ValueError
            If the problem has another number of blocks, or pinned or forbidden pairs, whose depths may be no more.
        """
        expect("problem", problem, Problem)
        if problem.pinned or problem.forbidden:
            raise LolaValueError(
                "pinned and forbidden pairs name depths, and ranks change which there are: a problem without was "
                "wanted; leave them out"
            )
        return replace(problem, profile=self.to_profile(problem.profile))

    def rows(self) -> list[dict[str, Any]]:
        """Return one line per block, depth 1 first, ready for a data frame."""
        columns: dict[str, Any] = {
            **({} if self.name is None else {"name": self.name}),
            "rank": self.rank.tolist(),
            "parameters": self.parameters.tolist(),
            "upload_bits": self.upload_bits.tolist(),
            **({} if self.device_of_block is None else {"device": self.device_of_block.tolist()}),
            **({} if self.bandwidth_hz is None else {"bandwidth_hz": self.bandwidth_hz.tolist()}),
        }
        lines = zip(*columns.values(), strict=True)
        return [{"depth": depth, **dict(zip(columns, line, strict=True))} for depth, line in enumerate(lines, start=1)]

    def __repr__(self) -> str:
        return f"<RankPlan {self}>"

    def _repr_html_(self) -> str:
        return html_table(str(self), self.rows())

    def __str__(self) -> str:
        limit = f"of {self.budget:.6g}" if self.budget is not None else f"by {self.deadline_s:.6g} s"
        ranks = ", ".join(map(str, self.rank.tolist()))
        proven = f"proven to within {self.gap:.2g}"
        return f"ranks {ranks}: {self.parameters.sum()} parameters {limit}, worth {self.objective:.6g}, {proven}"
