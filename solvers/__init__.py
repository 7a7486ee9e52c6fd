"""Arrays in, arrays out: the solvers of lola, with a proof beside every answer."""

from lola.solvers.errors import InfeasibleError
from lola.solvers.hopcroft_karp import BottleneckAssignment, bottleneck_assignment

__all__ = ["BottleneckAssignment", "InfeasibleError", "bottleneck_assignment"]
