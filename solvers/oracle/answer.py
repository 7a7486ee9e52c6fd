"""What an oracle answers."""

from dataclasses import dataclass
from enum import Enum

from lola.solvers.checks import IntArray, positive_number

# Longer limits overflow in OR-Tools; nobody waits for thirty years.
_LONGEST_S = 1e9


class Status(Enum):
    """What an oracle says of its answer."""

    OPTIMAL = "the solver proved the answer optimal"
    INFEASIBLE = "the solver proved that there is no answer"
    TIME_LIMIT = "the solver stopped at the time limit; give it more time"
    FAILED = "the solver gave up without an answer; its own log says why"


@dataclass(frozen=True, eq=False)
class OracleAnswer:
    """An oracle's answer.

    Attributes
    ----------
    status : Status
        Never ``OPTIMAL`` without the solver's own word.
    objective : float
        Cost or latency found: of its assignment (bottleneck), the attainable end of the bisection, or SCIP's own; inf
        without an answer.
    assignment : (n,) int64 array or None
        Column of each row, or device of each block.
    seconds : float
        Wall-clock time that the solver took.
    """

    status: Status
    objective: float
    assignment: IntArray | None
    seconds: float


def time_limit(seconds: float) -> float:
    """Return a limit that every solver bears."""
    return min(positive_number("time_limit_s", seconds), _LONGEST_S)
