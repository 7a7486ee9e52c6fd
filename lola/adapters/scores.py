"""What an evaluation gives, and names in metrics.csv."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from lola.adapters.record import Record
from lola.solvers.checks import shown
from lola.solvers.errors import LolaTypeError, LolaValueError


def checked_scores(scores: object, record: Record) -> dict[str, float]:
    """Return what `evaluate` gave as scores of a record, or say why they cannot be."""
    if not isinstance(scores, Mapping) or not all(isinstance(name, str) for name in scores):
        raise LolaTypeError(f"evaluate must return scores by name, such as {{'accuracy': 0.9}}; got {shown(scores)}")
    data = record.to_json()
    refuse_taken_names("scores", scores, (*data, *data.get("numbers", {})))
    return {name: _number(name, score) for name, score in scores.items()}


def refuse_taken_names(whose: str, names: Iterable[str], taken: Container[str]) -> None:
    """Refuse what would hide something else in metrics.csv."""
    if both := sorted(name for name in names if name in taken):
        raise LolaValueError(
            f"{whose} must have names of their own in metrics.csv, got {', '.join(both)} a second time; rename it"
        )


def _number(name: str, score: object) -> float:
    """Return a score, which may be a tensor or an array of one number, as a float."""
    try:
        return float(score)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError) as error:
        raise LolaTypeError(f"evaluate must return a number for {name}, got {shown(score)}") from error
