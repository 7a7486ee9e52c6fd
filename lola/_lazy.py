"""How lola's modules are found: public names when they are first used, and what stands beside lola/ in a checkout."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

# Installed, they are inside lola/.
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


def attach(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package, as its ``__init__.pyi`` has them.

    Parameters
    ----------
    package, file : str
        The package's ``__name__`` and ``__file__``. Every line of the stub beside the file that begins with ``from``
        reads ``from MODULE import NAME as NAME``; a name that the package itself is said to have is a submodule.
    """
    home: dict[str, str] = {}
    for line in Path(file).with_name("__init__.pyi").read_text(encoding="utf-8").splitlines():
        if line.startswith("from "):
            _, module, _, name, *_ = line.split()
            home[name] = module

    def load(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = home[name]
        return import_module(f"{package}.{name}") if module == package else getattr(import_module(module), name)

    return load, lambda: sorted(home), sorted(home)
