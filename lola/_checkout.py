"""In a checkout, solvers/, profiling/ and docs/ stand beside lola/; installed, they are inside it."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

_BESIDE = ("solvers", "profiling", "docs")


class _Beside:
    """Finds these packages beside lola, and nothing else that lies there."""

    def __init__(self, root: Path) -> None:
        self.packages = {f"lola.{name}": root / name for name in _BESIDE}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        folder = self.packages.get(name)
        if folder is None:
            return None
        return spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])


def find_packages(lola: Path) -> None:
    """Let ``lola.solvers``, ``lola.profiling`` and the pages of ``lola.docs`` be imported from where they are.

    Raises
    ------
    ImportError
        If they are nowhere.
    """
    if (lola / "solvers").is_dir():
        return
    if not (lola.parent / "solvers").is_dir():
        raise ImportError(
            f"lola at {lola} is incomplete: its solvers are missing. Import it from a whole checkout, or install it "
            "with 'pip install .' from the checkout's root"
        )
    sys.meta_path.insert(0, _Beside(lola.parent))  # before an installed lola has its say
