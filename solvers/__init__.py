"""Arrays in, arrays out: the solvers of lola, with a proof beside every answer.

Names are imported when they are first used, so that what needs no compiled solver need not load numba.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lola.solvers.bandwidth import BandwidthSplit as BandwidthSplit
    from lola.solvers.bandwidth import bandwidth_split as bandwidth_split
    from lola.solvers.errors import InfeasibleError as InfeasibleError
    from lola.solvers.hopcroft_karp import BottleneckAssignment as BottleneckAssignment
    from lola.solvers.hopcroft_karp import bottleneck_assignment as bottleneck_assignment
    from lola.solvers.nested_matching import BlockAllocation as BlockAllocation
    from lola.solvers.nested_matching import block_allocation as block_allocation
    from lola.solvers.newton import JointAllocation as JointAllocation
    from lola.solvers.newton import joint_allocation as joint_allocation
    from lola.solvers.shortest_augmenting_path import LinearAssignment as LinearAssignment
    from lola.solvers.shortest_augmenting_path import linear_assignment as linear_assignment

_HOME = {
    "InfeasibleError": "errors",
    "BottleneckAssignment": "hopcroft_karp",
    "bottleneck_assignment": "hopcroft_karp",
    "BlockAllocation": "nested_matching",
    "block_allocation": "nested_matching",
    "BandwidthSplit": "bandwidth",
    "JointAllocation": "newton",
    "bandwidth_split": "bandwidth",
    "joint_allocation": "newton",
    "LinearAssignment": "shortest_augmenting_path",
    "linear_assignment": "shortest_augmenting_path",
}
__all__ = sorted(_HOME)  # pyright: ignore


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
