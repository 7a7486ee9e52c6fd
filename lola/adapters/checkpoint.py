"""Checkpoints of a session: trained weights, optimizer and clock, whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lola.formats import FormatError, read_json, write_atomically, write_json

if TYPE_CHECKING:
    import torch

    from lola.profiling import Depths

_FORMAT = "lola-checkpoint"
_PREFIX = "round-"
_DRAFT = ".draft-"
# The latest, and one to fall back on should a disk lose it.
_KEPT = 2


def save(folder: Path, depths: Depths, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> Path:
    """Write ``round-NNNNNN/``: trained weights and the optimizer's tensors in safetensors, the rest in JSON.

    Everything goes into a draft that is renamed at the end, so a kill at any moment leaves the checkpoint before it.
    ``metrics.csv`` has one line a round.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{_PREFIX}{state['version']:06d}"
    if not target.exists():
        tensors, scalars = _split(optimizer.state_dict())
        draft = folder / f"{_DRAFT}{target.name}"
        shutil.rmtree(draft, ignore_errors=True)  # left by a run that was killed
        draft.mkdir()
        weights = {name: weight.detach().contiguous() for name, weight in _trained(depths).items()}
        save_file(weights, draft / "weights.safetensors")
        save_file(tensors, draft / "optimizer.safetensors")
        kind = type(optimizer).__qualname__
        write_json(draft / "state.json", _FORMAT, {"session": state, "optimizer": {"kind": kind, **scalars}})
        for path in (*draft.iterdir(), draft):
            _flush(path)
        os.replace(draft, target)
        _flush(folder)
    for old in _complete(folder)[:-_KEPT]:
        os.replace(old, folder / f"{_DRAFT}{old.name}")  # half deleted, it must not look like a checkpoint
    for draft in folder.glob(f"{_DRAFT}*"):
        shutil.rmtree(draft)
    for draft in folder.glob(".metrics.csv.*"):
        draft.unlink()
    write_atomically(folder / "metrics.csv", _csv(state["records"]))
    return target


def load_latest(
    folder: Path, depths: Depths, optimizer: torch.optim.Optimizer, identity: str | None
) -> dict[str, Any] | None:
    """Put the newest checkpoint's weights and optimizer state in place, and return the session's state.

    Raises
    ------
    FormatError
        If the checkpoint is damaged, or of another run, model or optimizer. Then nothing is changed.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found = _complete(folder)
    if not found:
        return None
    path = found[-1]
    try:
        data = read_json(path / "state.json", _FORMAT)
        stored, moments = (load_file(path / f"{name}.safetensors") for name in ("weights", "optimizer"))
    except (OSError, FormatError, SafetensorError) as error:
        raise FormatError(
            f"{path}: the checkpoint is damaged ({error}); delete that folder to go on from "
            f"{found[-2].name if len(found) > 1 else 'the start'}"
        ) from None
    if data["session"]["identity"] != identity:
        raise FormatError(
            f"{path}: the checkpoint is of another run (setting, fleet, profile, channel, data or frozen weights "
            "differ); start this one in another folder"
        )
    weights, kind = _trained(depths), type(optimizer).__qualname__
    if stored.keys() != weights.keys() or any(stored[name].shape != weights[name].shape for name in weights):
        raise FormatError(f"{path}: the checkpoint is of another model; start this run in another folder")
    if data["optimizer"].get("kind") != kind:
        raise FormatError(
            f"{path}: the checkpoint is of another optimizer, {data['optimizer'].get('kind')}; got {kind}"
        )
    try:
        optimizer.load_state_dict(_join(moments, data["optimizer"]))
    except (ValueError, KeyError) as error:
        raise FormatError(f"{path}: the checkpoint is of another optimizer: {error}") from None
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(stored[name])
    session: dict[str, Any] = data["session"]
    return session


def _complete(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest last."""
    found = [path for path in folder.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(_PREFIX)))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _trained(depths: Depths) -> dict[str, torch.nn.Parameter]:
    return {
        name: parameter
        for depth in range(1, len(depths) + 1)
        for name, parameter in depths.named_parameters(depth).items()
    }


def _csv(records: list[dict[str, Any]]) -> str:
    """One line a round; scores have columns of their own, empty where nothing was evaluated."""
    scored = sorted({name for record in records for name in record["scores"]})
    text = io.StringIO(newline="")
    plain = [name for name in records[0] if name != "scores"] if records else []
    writer = csv.DictWriter(text, fieldnames=[*plain, *scored], lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({**{name: record[name] for name in plain}, **record["scores"]})
    return text.getvalue()


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
