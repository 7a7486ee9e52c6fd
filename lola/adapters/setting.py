"""How a session runs, by its scheme."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from lola.adapters.bound import NormBound
from lola.adapters.quarantine import Quarantine
from lola.methods import method_named
from lola.solvers.checks import BoolArray, positive_integer, real_number, seed_number, shown
from lola.solvers.errors import LolaValueError

AVERAGINGS = ("gradients", "tunables")


class Purpose(IntEnum):
    """What a random generator is for. A number stays its purpose's: published runs follow from it."""

    SCHEDULE = 0
    FAILURE = 1
    DROPOUT = 2
    PARTICIPATION = 3
    UPLINK = 4
    SERVER = 5
    EVALUATION = 6


class _Repeatable:
    """What settings of every scheme have: a seed, chances, and how often rounds are kept and evaluated."""

    seed: int
    participation: float
    failure: float
    checkpoint_every: int
    evaluate_every: int

    def _check(self) -> None:
        if not 0 < real_number("participation", self.participation) <= 1:
            raise LolaValueError(f"participation must be a chance in (0, 1], got {self.participation}")
        if not 0 <= real_number("failure", self.failure) < 1:
            raise LolaValueError(f"failure must be a chance in [0, 1), got {self.failure}")
        seed_number("seed", self.seed)
        positive_integer("checkpoint_every", self.checkpoint_every)
        positive_integer("evaluate_every", self.evaluate_every)

    def rng(self, version: int, purpose: Purpose, *of: int) -> np.random.Generator:
        """Make a generator that depends on seed, round and purpose alone, so that resuming needs no state of it."""
        return np.random.default_rng([self.seed, version, purpose, *of])

    def taking_part(self, version: int, n: int) -> BoolArray:
        """Draw which of the first n, devices or clients, take part in a round."""
        return self.rng(version, Purpose.PARTICIPATION).random(n) < self.participation

    def failing(self, version: int, n: int) -> BoolArray:
        """Draw which of them drop out in it."""
        return self.rng(version, Purpose.FAILURE).random(n) < self.failure


@dataclass(frozen=True)
class Setting(_Repeatable):
    """How a session runs.

    Parameters
    ----------
    method : str
        One of `lola.METHODS`.
    seed : int
        Everything random follows from it, the round and the device.
    participation : float
        Chance that a device takes part in a round. Where those who do cannot hold the model, everybody is called in.
    failure : float
        Chance that a scheduled device never answers.
    refuse_above : float, optional
        Refuse a gradient whose norm exceeds so many times the median of its block's recent ones; see `NormBound`.
    quarantine_after : int, optional
        Give a device no work whose answers were refused in so many of the last `quarantine_rounds` rounds; see
        `Quarantine`. Where the others cannot hold the model, everybody is called in, with a warning in the log.
    quarantine_rounds : int
    checkpoint_every, evaluate_every : int
        Rounds between checkpoints, where there is a folder for them, and between evaluations.

    Raises
    ------
    ValueError, TypeError
        If there is no such method, or a chance or a number of rounds is none.
    """

    method: str = "jbba"
    seed: int = 0
    participation: float = 1.0
    failure: float = 0.0
    refuse_above: float | None = None
    quarantine_after: int | None = None
    quarantine_rounds: int = 100
    checkpoint_every: int = 10
    evaluate_every: int = 10

    def __post_init__(self) -> None:
        method_named(self.method)
        self._check()
        if self.refuse_above is not None:
            NormBound(self.refuse_above)
        Quarantine(1 if self.quarantine_after is None else self.quarantine_after, self.quarantine_rounds)


@dataclass(frozen=True)
class ChainSetting(_Repeatable):
    """How a session over chains runs.

    Parameters
    ----------
    averaging : str
        What the server averages over the clusters: ``"gradients"``, and steps its optimizer with their mean, or
        ``"tunables"``, which every cluster has stepped by itself (FedAvg).
    local_steps : int
        Batches a round of every cluster: averaged at fixed parameters, or a step each.
    seed : int
        Everything random follows from it, the round and the client.
    participation : float
        Chance that a client takes part in a round. Where those who do cannot hold the model, everybody is called in.
    failure : float
        Chance that a planned client drops out in the middle of its cluster's last batch of the round.
    checkpoint_every, evaluate_every : int
        Rounds between checkpoints, where there is a folder for them, and between evaluations.

    Raises
    ------
    ValueError, TypeError
        If there is no such averaging, or a chance or a number is none.
    """

    averaging: str = "gradients"
    local_steps: int = 1
    seed: int = 0
    participation: float = 1.0
    failure: float = 0.0
    checkpoint_every: int = 10
    evaluate_every: int = 10

    def __post_init__(self) -> None:
        if self.averaging not in AVERAGINGS:
            raise LolaValueError(f"averaging must be one of {', '.join(AVERAGINGS)}; got {shown(self.averaging)}")
        positive_integer("local_steps", self.local_steps)
        self._check()


@dataclass(frozen=True)
class FederatedSetting(_Repeatable):
    """How a federated session runs.

    Parameters
    ----------
    local_steps : int
        Batches that each device draws in a round.
    seed : int
        Everything random follows from it, the round and the device.
    participation : float
        Chance that a device takes part in a round. Where nobody does, everybody is called in.
    failure : float
        Chance that a device that was asked drops out before it answers.
    checkpoint_every, evaluate_every : int
        Rounds between checkpoints, where there is a folder for them, and between evaluations.

    Raises
    ------
    ValueError, TypeError
        If a chance or a number is none.
    """

    local_steps: int = 1
    seed: int = 0
    participation: float = 1.0
    failure: float = 0.0
    checkpoint_every: int = 10
    evaluate_every: int = 10

    def __post_init__(self) -> None:
        positive_integer("local_steps", self.local_steps)
        self._check()
