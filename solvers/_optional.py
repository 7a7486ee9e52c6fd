"""Packages of the extra ``oracle``, imported when they are used."""

from types import ModuleType


def optional(name: str) -> ModuleType:
    """Import an optional package, or say which extra brings it."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise ImportError(
            f"this oracle needs {name.split('.')[0]}: install lola-deft with its extra 'oracle'"
        ) from None
