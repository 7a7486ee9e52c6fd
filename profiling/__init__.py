"""What a depth costs: measured, estimated, and judged. Needs no numba; torch is imported when something runs.

Names are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lola.profiling.depth import Depths as Depths
    from lola.profiling.depth import attach_lora as attach_lora
    from lola.profiling.depth import find_blocks as find_blocks
    from lola.profiling.estimation import REFERENCES as REFERENCES
    from lola.profiling.estimation import AloneMemory as AloneMemory
    from lola.profiling.estimation import ReferenceDevice as ReferenceDevice
    from lola.profiling.estimation import alone as alone
    from lola.profiling.estimation import bring_to_reference as bring_to_reference
    from lola.profiling.estimation import estimate as estimate
    from lola.profiling.judgement import Judgement as Judgement
    from lola.profiling.judgement import Line as Line
    from lola.profiling.judgement import judge as judge
    from lola.profiling.measurement import measure as measure
    from lola.profiling.predict import Grid as Grid
    from lola.profiling.workload import NotMonotoneError as NotMonotoneError
    from lola.profiling.workload import ProfilingError as ProfilingError
    from lola.profiling.workload import Workload as Workload

_HOME = {
    "Depths": "depth",
    "attach_lora": "depth",
    "find_blocks": "depth",
    "REFERENCES": "estimation",
    "AloneMemory": "estimation",
    "ReferenceDevice": "estimation",
    "alone": "estimation",
    "bring_to_reference": "estimation",
    "estimate": "estimation",
    "Judgement": "judgement",
    "Line": "judgement",
    "judge": "judgement",
    "measure": "measurement",
    "Grid": "predict",
    "NotMonotoneError": "workload",
    "ProfilingError": "workload",
    "Workload": "workload",
}
__all__ = sorted(_HOME)  # pyright: ignore


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
