"""Public names are imported when they are first used; each is named once, in its package's stub."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path


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
