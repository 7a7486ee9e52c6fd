"""The kinds of JSON files, and who takes them."""

from lola.solvers.checks import shown

_TAKEN_BY = {
    "lola-schedule": "lola verify takes it",
    "lola-chain": "lola verify takes it",
    "lola-horizon": "lola verify takes it",
    "lola-ranks": "lola verify and lola train --ranks take it",
    "lola-importance": "lola ranks takes it",
    "lola-profile": "--profile takes it",
    "lola-stages": "lola split --stages takes it",
}


def came_instead(kind: object) -> str:
    """Say which kind of file came in place of another, and who takes it."""
    if kind is None:
        return "none; is it another kind of file?"
    taken = _TAKEN_BY.get(kind) if isinstance(kind, str) else None
    return f"{shown(kind)}; {taken or 'is it another kind of file?'}"
