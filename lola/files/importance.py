"""What ranks are worth, and plans of ranks, as files (JSON)."""

from importlib import resources
from typing import Any, TextIO

from lola.files.formats import FormatError, StrPath, check_keys, numbers, read_json, write_json
from lola.files.profiles import provenance_from_json
from lola.ranks.importance import Importance
from lola.solvers.checks import expect, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

_FORMAT = "lola-importance"
_KEYS = ("gain", "cost", "rank_bits", "fixed_bits", "name", "measure", "provenance")


def load_importance(path: StrPath) -> Importance:
    """Read from JSON what ranks are worth.

    Raises
    ------
    FormatError
        Naming the file, the key, and the mend.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import lola
    >>> lola.save_importance(lola.Importance([[9.0, 4.0], [3.0, 1.0]], cost=[100, 100]), "importance.json")
    >>> lola.load_importance("importance.json")
    <Importance of 2 blocks, 2 ranks of each, singular: no provenance>
    """
    return importance_from_json(str(path), read_json(path, _FORMAT))


def save_importance(importance: Importance, path: StrPath | TextIO) -> None:
    """Write what ranks are worth as versioned JSON into a file or a stream, with its provenance."""
    expect("importance", importance, Importance)
    write_json(path, _FORMAT, importance_to_json(importance))


def builtin_importance() -> Importance:
    """Return the importance that ``lola ranks`` works on without arguments."""
    with resources.as_file(resources.files("lola.data")) as folder:
        return load_importance(folder / "minilm-l6-importance.json")


def importance_to_json(importance: Importance) -> dict[str, Any]:
    """Return what `importance_from_json` reads."""
    return {
        "measure": importance.measure,
        "name": None if importance.name is None else list(importance.name),
        "gain": importance.gain.tolist(),
        "cost": importance.cost.tolist(),
        "rank_bits": importance.rank_bits.tolist(),
        "fixed_bits": importance.fixed_bits.tolist(),
        "provenance": None if importance.provenance is None else importance.provenance.to_dict(),
    }


def importance_from_json(where: str, data: dict[str, Any]) -> Importance:
    """Build an importance from a JSON object."""
    check_keys(where, data, ("gain", "cost"), [key for key in _KEYS if key not in ("gain", "cost")])
    rows = data["gain"]
    if not isinstance(rows, list):
        raise FormatError(f"{where}, gain: a list of rows was wanted, one a block, got {shown(rows)}")
    gain = [numbers(f"{where}, gain[{i}]", row) for i, row in enumerate(rows)]
    if len({len(row) for row in gain}) > 1:
        raise FormatError(f"{where}, gain: rows of one length were wanted, got {sorted({len(row) for row in gain})}")
    vectors: dict[str, Any] = {
        key: numbers(f"{where}, {key}", data[key])
        for key in ("cost", "rank_bits", "fixed_bits")
        if key == "cost" or data.get(key) is not None  # those that may be left out may be null
    }
    try:
        return Importance(
            gain,
            **vectors,
            name=data.get("name"),
            **({"measure": data["measure"]} if "measure" in data else {}),
            provenance=provenance_from_json(where, data.get("provenance")),
        )
    except FormatError:
        raise
    except (LolaTypeError, LolaValueError) as error:
        raise FormatError(f"{where}: {error}") from None
