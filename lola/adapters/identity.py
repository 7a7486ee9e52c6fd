"""What tells one run from another, and one model's frozen weights from another's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from lola.models import Depths


def told(value: object) -> str:
    """Tell a value as its repr does, but arrays by all their bytes: their repr leaves out digits, and most of many."""
    import torch

    if isinstance(value, torch.Tensor):
        return f"tensor({value.dtype}, {tuple(value.shape)}, {hashlib.sha256(tensor_bytes(value)).hexdigest()})"
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"array({value.dtype.str}, {value.shape}, {digest})"
    if is_dataclass(value) and not isinstance(value, type):
        inner = ", ".join(f"{field.name}={told(getattr(value, field.name))}" for field in fields(value) if field.repr)
        return f"{type(value).__qualname__}({inner})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {told(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, list | tuple):
        inner = ", ".join(map(told, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    return repr(value)


def frozen_parts(depths: Depths) -> Iterator[bytes]:
    """Give what is not trained of a model, each with its name."""
    trained = {id(parameter) for parameter in depths.all_parameters()}
    for name, parameter in depths.model.named_parameters():
        if id(parameter) not in trained:
            yield name.encode() + tensor_bytes(parameter)


def frozen_digest(depths: Depths) -> str:
    """SHA-256 of what is not trained of a model, in hexadecimal."""
    state = hashlib.sha256()
    for part in frozen_parts(depths):
        state.update(part)
    return state.hexdigest()


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """Return a tensor's values as they lie in memory."""
    import torch

    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
