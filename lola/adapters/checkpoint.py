"""Checkpoints of a session: trained weights, optimizer and clock, whole or not at all."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lola.adapters.identity import frozen_digest
from lola.adapters.record import KEPT_OF_SCHEME
from lola.files.folders import DRAFT, SUMS, remove, rename, sums, written_whole
from lola.files.formats import (
    FormatError,
    check_keys,
    integer,
    integers,
    number,
    numbers,
    read_json,
    write_atomically,
    write_json,
)

if TYPE_CHECKING:
    import torch

    from lola.adapters.tunables import Tunables

_FORMAT = "lola-checkpoint"
_DAMAGED = "damaged-"
_FILES = ("optimizer.safetensors", "state.json", "weights.safetensors")
# The latest, and one to fall back on should a disk lose it.
_KEPT = 2


def save(folder: Path, tunables: Tunables, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> Path:
    """Write ``round-NNNNNN/``: trained weights and the optimizer's tensors in safetensors, the rest in JSON, digests.

    Everything goes into a draft that is renamed at the end, so a kill at any moment leaves the checkpoint before it.
    ``metrics.csv`` has one line a round.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / _name(state["version"])
    if not target.exists():
        tensors, scalars = _split(optimizer.state_dict())
        weights = {name: weight.detach().contiguous() for name, weight in tunables.all_named_parameters().items()}
        kind = type(optimizer).__qualname__
        with written_whole(target) as draft:
            save_file(weights, draft / "weights.safetensors")
            save_file(tensors, draft / "optimizer.safetensors")
            write_json(draft / "state.json", _FORMAT, {"session": state, "optimizer": {"kind": kind, **scalars}})
            write_atomically(draft / SUMS, sums(draft, _FILES))
    for old in checkpoints(folder)[:-_KEPT]:
        rename(old, f"{DRAFT}{old.name}")  # half deleted, it must not look like a checkpoint
    for leftover in (*folder.glob(f"{DRAFT}round-*"), *folder.glob(".metrics.csv.*")):
        remove(leftover)
    metrics = folder / "metrics.csv"
    if metrics.is_symlink() or metrics.is_fifo():  # it may lead into a checkpoint, or to nobody who reads
        metrics.unlink(missing_ok=True)
    write_atomically(metrics, _csv(state["records"]))
    return target


def load_latest(
    folder: Path,
    tunables: Tunables,
    optimizer: torch.optim.Optimizer,
    identity: str | None,
    told_by: str,
    prepare: Callable[[dict[str, Any]], None] = lambda state: None,
) -> dict[str, Any] | None:
    """Put the newest intact checkpoint's weights and optimizer state in place, and return the session's state.

    Damaged ones that are newer are set aside under another name, with a warning that says so. `told_by` names what
    `identity` is of. `prepare` is called with the state before anything is put in place: what is trained may have grown
    since the run began.

    Raises
    ------
    FormatError
        If no checkpoint is intact, or that one is of another run, model or optimizer. Then nothing is changed.
    OSError
        If a checkpoint cannot be read though it is there, or a damaged one cannot be set aside.
    """
    damaged: dict[Path, str] = {}
    for path in reversed(checkpoints(folder)):
        try:
            data, stored, moments = _read(path)
        except (FormatError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            damaged[path] = str(error)
            continue
        _belongs(path, data, identity, told_by, type(optimizer).__qualname__)
        prepare(data["session"])
        _put(path, tunables, optimizer, data, stored, moments)
        for bad in damaged:
            rename(bad, f"{_DAMAGED}{bad.name}")
        if damaged:
            warnings.warn(
                f"{folder}: going on from {path.name}, for what is newer is damaged and now called {_DAMAGED}…: "
                f"{_told(damaged)}",
                stacklevel=4,  # load_latest, Session._go_on and the constructor lie between
            )
        session: dict[str, Any] = data["session"]
        return session
    if damaged:
        raise FormatError(f"{folder}: no checkpoint is intact; delete them to begin anew: {_told(damaged)}")
    return None


def _told(damaged: dict[Path, str]) -> str:
    return "; ".join(f"{path.name}: {why}" for path, why in damaged.items())


def checkpoints(folder: Path) -> list[Path]:
    """Return what is called as a checkpoint in a folder, the newest last."""
    names = {path: re.fullmatch("round-([0-9]{6,})", path.name) for path in folder.glob("round-*")}
    numbers = {path: int(match[1]) for path, match in names.items() if match}
    return sorted((path for path in numbers if path.name == _name(numbers[path])), key=numbers.__getitem__)


def version_of(checkpoint: Path) -> int:
    """Return the version that a checkpoint's name says it is of."""
    return int(checkpoint.name.removeprefix("round-"))


def _name(version: int) -> str:
    return f"round-{version:06d}"


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Read a checkpoint whole, or say what is wrong with it."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not (path / SUMS).is_file():
        raise FormatError(f"{SUMS} is missing; versions of lola that wrote none are not read any more")
    computed, wanted = sums(path, _FILES).encode(), (path / SUMS).read_bytes()
    if computed != wanted:
        raise FormatError(f"its files are not what was written: {SUMS} has other digests")
    data = read_json(path / "state.json", _FORMAT)
    try:
        check_keys("state.json", data, ("session", "optimizer"))
        check_keys("state.json, optimizer", data["optimizer"], ("kind", "scalars", "param_groups"))
        session = data["session"]
        scheme = session.get("scheme", "cooperative")
        if scheme not in KEPT_OF_SCHEME:
            raise FormatError(f"state.json: scheme must be one of {', '.join(KEPT_OF_SCHEME)}, got {scheme!r}")
        kept_record, required, optional = KEPT_OF_SCHEME[scheme]
        always = ("version", "clock_s", "records", "identity")
        check_keys("state.json, session", session, (*always, *required), ("frozen", "scheme", *optional))
        if integer("state.json, version", session["version"]) != version_of(path):
            raise FormatError(f"state.json is of version {session['version']}")
        number("state.json, clock_s", session["clock_s"])
        for depth, norms in session.get("norms", {}).items():
            numbers(f"state.json, norms of depth {int(depth)}", norms)
        for device, versions in session.get("refusals", {}).items():
            integers(f"state.json, refusals of device {int(device)}", versions)
        if len([kept_record.from_json(record) for record in session["records"]]) != session["version"]:
            raise FormatError("state.json has not one record a round")
        stored, moments = (load((path / f"{name}.safetensors").read_bytes()) for name in ("weights", "optimizer"))
    except (SafetensorError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise FormatError(f"it is not a checkpoint: {error}") from None
    for name, tensor in (*stored.items(), *moments.items()):
        if not tensor.isfinite().all():
            raise FormatError(f"{name} has a value that is not finite")
    return data, stored, moments


def _belongs(path: Path, data: dict[str, Any], identity: str | None, told_by: str, kind: str) -> None:
    """Refuse a checkpoint of another run, or of an optimizer of another kind."""
    if data["session"]["identity"] != identity:
        raise FormatError(
            f"{path}: the checkpoint is of another run ({told_by} differ); start this one in another folder"
        )
    if data["optimizer"]["kind"] != kind:
        raise FormatError(f"{path}: the checkpoint is of another optimizer, {data['optimizer']['kind']}; got {kind}")


def _put(
    path: Path,
    tunables: Tunables,
    optimizer: torch.optim.Optimizer,
    data: dict[str, Any],
    stored: dict[str, torch.Tensor],
    moments: dict[str, torch.Tensor],
) -> None:
    """Put weights and optimizer state in place, if they fit."""
    weights = _fitting(path, tunables, stored)
    try:
        optimizer.load_state_dict(_join(moments, data["optimizer"]))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: the checkpoint is of another optimizer: {error}") from None
    _copy(stored, weights)


def load_weights(path: Path, tunables: Tunables) -> dict[str, Any]:
    """Put a checkpoint's weights in place, whatever run it is of, and return the session's state.

    Raises
    ------
    FormatError
        If it is damaged, or of another model or other frozen weights. Then nothing is changed.
    OSError
        If it cannot be read.

    Warns
    -----
    UserWarning
        If it is of a version that noted nothing of the frozen weights: then other ones pass.
    """
    try:
        data, stored, _ = _read(path)
    except FormatError as error:
        raise FormatError(f"{path}: {error}; take another checkpoint") from None
    weights = _fitting(path, tunables, stored)
    session: dict[str, Any] = data["session"]
    if "frozen" not in session:
        warnings.warn(
            f"{path}: the checkpoint has no digest of the frozen weights, as older versions wrote none; see that the "
            "model's folder is what it was when the run began, or train anew",
            stacklevel=2,
        )
    elif session["frozen"] != frozen_digest(tunables):
        raise FormatError(
            f"{path}: the checkpoint's adapters were trained on other frozen weights than the model has now; put its "
            "folder back as it was when the run began, or train anew"
        )
    _copy(stored, weights)
    return session


def _fitting(path: Path, tunables: Tunables, stored: dict[str, torch.Tensor]) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that stored weights are of, or say that they are another model's."""
    weights = tunables.all_named_parameters()
    if stored.keys() != weights.keys() or any(
        (stored[name].shape, stored[name].dtype) != (weights[name].shape, weights[name].dtype) for name in weights
    ):
        raise FormatError(f"{path}: the checkpoint is of another model; start this run in another folder")
    return weights


def _copy(stored: dict[str, torch.Tensor], weights: dict[str, torch.nn.Parameter]) -> None:
    import torch

    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(stored[name])


def _csv(records: list[dict[str, Any]]) -> str:
    """One line a round; scores and a scheme's numbers have columns of their own, empty where there is none."""
    named = [{**record.get("numbers", {}), **record["scores"]} for record in records]
    columns = sorted({name for values in named for name in values})
    text = io.StringIO(newline="")
    plain = [name for name in records[0] if name not in ("numbers", "scores")] if records else []
    writer = csv.DictWriter(text, fieldnames=[*plain, *columns], lineterminator="\n")
    writer.writeheader()
    for record, values in zip(records, named, strict=True):
        writer.writerow({**{name: _cell(record[name]) for name in plain}, **values})
    return text.getvalue()


def _cell(value: object) -> object:
    """Put a list of numbers into one cell, with spaces between; of such lists, with semicolons."""
    if not isinstance(value, list):
        return value
    separator = "; " if any(isinstance(entry, list) for entry in value) else " "
    return separator.join(str(_cell(entry)) for entry in value)


def _split(state: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Part an optimizer's state into tensors by path, and JSON for the rest."""
    import torch

    tensors, scalars = {}, {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}/{name}"] = value.detach().contiguous()
            else:
                scalars[f"{index}/{name}"] = value
    return tensors, {"scalars": scalars, "param_groups": state["param_groups"]}


def _join(tensors: dict[str, torch.Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {}
    for path, value in (tensors | rest["scalars"]).items():
        index, name = path.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": rest["param_groups"]}
