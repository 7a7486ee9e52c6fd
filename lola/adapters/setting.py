"""How a session runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from lola.adapters.bound import NormBound
from lola.methods import method_named
from lola.solvers.checks import positive_integer, real_number, seed_number
from lola.solvers.errors import LolaValueError


class Purpose(IntEnum):
    """What a random generator is for. A number stays its purpose's: published runs follow from it."""

    SCHEDULE = 0
    FAILURE = 1
    DROPOUT = 2
    PARTICIPATION = 3


@dataclass(frozen=True)
class Setting:
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
    checkpoint_every: int = 10
    evaluate_every: int = 10

    def __post_init__(self) -> None:
        method_named(self.method)
        if not 0 < real_number("participation", self.participation) <= 1:
            raise LolaValueError(f"participation must be a chance in (0, 1], got {self.participation}")
        if not 0 <= real_number("failure", self.failure) < 1:
            raise LolaValueError(f"failure must be a chance in [0, 1), got {self.failure}")
        if self.refuse_above is not None:
            NormBound(self.refuse_above)
        seed_number("seed", self.seed)
        positive_integer("checkpoint_every", self.checkpoint_every)
        positive_integer("evaluate_every", self.evaluate_every)

    def rng(self, version: int, purpose: Purpose, *of: int) -> np.random.Generator:
        """Make a generator that depends on seed, round and purpose alone, so that resuming needs no state of it."""
        return np.random.default_rng([self.seed, version, purpose, *of])
