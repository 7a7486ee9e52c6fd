"""Optimal block and bandwidth allocation for fine-tuning one transformer across many devices.

Names are imported when they are first used: ``import lola`` alone loads neither numpy nor numba.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lola.channel import RayleighFading as RayleighFading
    from lola.evidence import Evidence as Evidence
    from lola.files import load_fleet as load_fleet
    from lola.files import load_profile as load_profile
    from lola.files import load_scenario as load_scenario
    from lola.files import save_fleet as save_fleet
    from lola.files import save_profile as save_profile
    from lola.fleet import Fleet as Fleet
    from lola.formats import FormatError as FormatError
    from lola.problem import Problem as Problem
    from lola.profile import Profile as Profile
    from lola.profile import Provenance as Provenance
    from lola.schedule_file import load_schedule as load_schedule
    from lola.schedule_file import save_schedule as save_schedule
    from lola.scheduling import METHODS as METHODS
    from lola.scheduling import schedule as schedule
    from lola.simulation import Simulation as Simulation
    from lola.simulation import simulate as simulate
    from lola.solution import HallProof as HallProof
    from lola.solution import MultiplierProof as MultiplierProof
    from lola.solution import PriceProof as PriceProof
    from lola.solution import Schedule as Schedule
    from lola.solvers.errors import InfeasibleError as InfeasibleError
    from lola.traces import TraceReplay as TraceReplay
    from lola.traces import load_traces as load_traces
    from lola.verification import VerificationError as VerificationError

_HOME = {
    "Evidence": "evidence",
    "FormatError": "formats",
    "load_fleet": "files",
    "load_profile": "files",
    "load_scenario": "files",
    "load_schedule": "schedule_file",
    "save_fleet": "files",
    "save_profile": "files",
    "save_schedule": "schedule_file",
    "Fleet": "fleet",
    "Problem": "problem",
    "Profile": "profile",
    "Provenance": "profile",
    "METHODS": "scheduling",
    "schedule": "scheduling",
    "Simulation": "simulation",
    "simulate": "simulation",
    "HallProof": "solution",
    "MultiplierProof": "solution",
    "PriceProof": "solution",
    "Schedule": "solution",
    "InfeasibleError": "solvers.errors",
    "RayleighFading": "channel",
    "TraceReplay": "traces",
    "load_traces": "traces",
    "VerificationError": "verification",
}
_SUBMODULES = ("adapters", "channel", "profiling", "solvers")
__all__ = [*sorted(_HOME), *_SUBMODULES]  # pyright: ignore

# In a checkout, solvers/ and profiling/ stand beside this folder; installed, they are inside it.
_HERE = Path(__file__).parent
if not (_HERE / "solvers").is_dir():
    if not (_HERE.parent / "solvers").is_dir():
        raise ImportError(
            f"lola at {_HERE} is incomplete: its solvers are missing. Import it from a whole checkout, or install it "
            "with 'pip install .' from the checkout's root"
        )
    __path__.append(str(_HERE.parent))


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
