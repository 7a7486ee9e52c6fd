"""Arrays in, arrays out: the solvers of lola, with a proof beside every answer.

Names are imported when they are first used, so that what needs no compiled solver need not load numba.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lola.solvers import oracle as oracle
    from lola.solvers.bandwidth import BandwidthSplit as BandwidthSplit
    from lola.solvers.bandwidth import bandwidth_split as bandwidth_split
    from lola.solvers.batch import JointAllocationBatch as JointAllocationBatch
    from lola.solvers.batch import joint_allocation_batch as joint_allocation_batch
    from lola.solvers.cutting import CutAllocation as CutAllocation
    from lola.solvers.cutting import conventional_allocation as conventional_allocation
    from lola.solvers.cutting import crunch as crunch
    from lola.solvers.errors import InfeasibleError as InfeasibleError
    from lola.solvers.hopcroft_karp import BottleneckAssignment as BottleneckAssignment
    from lola.solvers.hopcroft_karp import bottleneck_assignment as bottleneck_assignment
    from lola.solvers.joint import JointAllocation as JointAllocation
    from lola.solvers.joint import joint_allocation as joint_allocation
    from lola.solvers.lagrangian import DualAscent as DualAscent
    from lola.solvers.lagrangian import dual_ascent as dual_ascent
    from lola.solvers.nested_matching import BlockAllocation as BlockAllocation
    from lola.solvers.nested_matching import block_allocation as block_allocation
    from lola.solvers.relaxation import lagrangian_bound as lagrangian_bound
    from lola.solvers.shortest_augmenting_path import LinearAssignment as LinearAssignment
    from lola.solvers.shortest_augmenting_path import linear_assignment as linear_assignment

_HOME = {
    "lagrangian_bound": "relaxation",
    "BandwidthSplit": "bandwidth",
    "bandwidth_split": "bandwidth",
    "JointAllocationBatch": "batch",
    "joint_allocation_batch": "batch",
    "CutAllocation": "cutting",
    "conventional_allocation": "cutting",
    "crunch": "cutting",
    "DualAscent": "lagrangian",
    "dual_ascent": "lagrangian",
    "InfeasibleError": "errors",
    "BottleneckAssignment": "hopcroft_karp",
    "bottleneck_assignment": "hopcroft_karp",
    "BlockAllocation": "nested_matching",
    "block_allocation": "nested_matching",
    "JointAllocation": "joint",
    "joint_allocation": "joint",
    "LinearAssignment": "shortest_augmenting_path",
    "linear_assignment": "shortest_augmenting_path",
}
__all__ = [*sorted(_HOME), "oracle"]  # pyright: ignore


def __getattr__(name: str) -> object:
    if name == "oracle":
        return import_module(f"{__name__}.oracle")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
