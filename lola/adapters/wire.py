"""The bytes of a message: a digest, a small JSON header and tensors as safetensors. Nothing in it can be executed.

    b"lola/1" and CR LF | SHA-256 of all that follows (32) | bytes of the header (4) | bytes of the tensors (8) | both

Integers are little-endian. The digest tells damage, not forgery: who may send is for the transport to say. So every
size, name, shape and type is compared with what is expected before a tensor is made.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lola.files.formats import FormatError, check_keys, integer, number, parse_json, table
from lola.solvers.checks import shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch

_MAGIC = b"lola/1\r\n"  # a transfer that takes bytes for text shows at once
_PREFIX = struct.Struct("<8s32sIQ")
DIGESTED = len(_MAGIC) + 32  # what is before the bytes that the digest is of; it tells messages apart
# What trained parameters may be, as safetensors calls it, and bytes a value.
_TYPES = {
    "torch.float64": ("F64", 8),
    "torch.float32": ("F32", 4),
    "torch.float16": ("F16", 2),
    "torch.bfloat16": ("BF16", 2),
}
_WIDTHS = dict(_TYPES.values())
HEADER_BYTES = 1024  # kind, numbers and their names


class Layout(NamedTuple):
    """What a tensor must be."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return _WIDTHS[self.dtype] * math.prod(self.shape)


def layouts_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, Layout]:
    """Return what tensors like these must be, or say which of them cannot travel."""
    layouts = {}
    for name, tensor in tensors.items():
        if str(tensor.dtype) not in _TYPES:
            raise LolaValueError(f"{name} is {tensor.dtype}, which does not travel; make it one of {', '.join(_TYPES)}")
        layouts[name] = Layout(_TYPES[str(tensor.dtype)][0], tuple(tensor.shape))
    return layouts


def room_for(layouts: Mapping[str, Layout]) -> int:
    """Most bytes that such tensors take, with their names."""
    listed = sum(200 + 6 * len(name) + 20 * len(layout.shape) for name, layout in layouts.items())
    return listed + sum(layout.size for layout in layouts.values())


def pack(kind: str, fields: Mapping[str, object], tensors: Mapping[str, torch.Tensor] | None = None) -> bytes:
    """Write a message.

    Raises
    ------
    ValueError
        If a field is nothing that JSON knows, or a tensor is not dense or of another type than floating point.
    """
    try:
        header = json.dumps({"kind": kind, **fields}, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise LolaValueError(f"a {kind} must hold plain finite numbers to be sent: {error}; convert them") from None
    packed = b""
    if tensors is not None:
        import torch
        from safetensors.torch import save

        layouts_of(tensors)
        for name, tensor in tensors.items():
            if tensor.layout != torch.strided or tensor.is_meta:
                raise LolaValueError(f"{name} must be dense and have values to be sent; send it with to_dense()")
        # Cloned: safetensors refuses what shares memory.
        packed = save(
            {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
        )
    body = _PREFIX.pack(_MAGIC, bytes(32), len(header), len(packed))[DIGESTED:] + header + packed
    return _MAGIC + hashlib.sha256(body).digest() + body


def unpack(
    kind: str,
    data: bytes,
    fields: Collection[str],
    limit: int | None,
    *,
    header_bytes: int = HEADER_BYTES,
    tensor_bytes: int = 0,
) -> tuple[dict[str, Any], bytes]:
    """Return the header of a message and its tensors' bytes, for `read_tensors`.

    Raises
    ------
    TypeError
        If `data` is not bytes.
    FormatError
        If it is no whole message of this kind with these fields, or longer than `limit` or, without one, than header
        and tensors can be.
    """
    if limit is None:
        limit = _PREFIX.size + header_bytes + tensor_bytes
    if not isinstance(data, bytes):
        raise LolaTypeError(f"a {kind} must be read from bytes, got {type(data).__name__}")
    if len(data) > limit:
        raise FormatError(
            f"a {kind} of at most {limit} bytes was wanted, got {len(data)}; raise its limit if it is one"
        )
    if len(data) < _PREFIX.size or not data.startswith(_MAGIC):
        raise FormatError(f"a {kind} was wanted, got {shown(data[: len(_MAGIC)])}…; does another version of lola send?")
    _, digest, header_size, tensor_size = _PREFIX.unpack_from(data)
    if header_size > header_bytes or tensor_size > tensor_bytes:
        raise FormatError(
            f"a {kind} of at most {header_bytes} bytes of header and {tensor_bytes} of tensors was wanted, got "
            f"{header_size} and {tensor_size}; is it of another model?"
        )
    if len(data) != _PREFIX.size + header_size + tensor_size:
        raise FormatError(
            f"a {kind} of {_PREFIX.size + header_size + tensor_size} bytes was wanted, got {len(data)}; send it whole"
        )
    if hashlib.sha256(memoryview(data)[DIGESTED:]).digest() != digest:
        raise FormatError(f"a {kind} came with another digest than was sent; was it damaged? Send it again")
    start = _PREFIX.size + header_size
    header = table(f"a {kind}'s header", parse_json(f"a {kind}'s header", _text(data[_PREFIX.size : start])))
    if header.pop("kind", None) != kind:
        raise FormatError(f"a {kind} was wanted, got a message of another kind; is it on the right topic?")
    check_keys(f"a {kind}'s header", header, fields)
    return header, data[start:]


def read_tensors(packed: bytes, wanted: Mapping[str, Layout]) -> dict[str, torch.Tensor]:
    """Make the tensors of a message, in the order wanted, once all of them are what they must be.

    Raises
    ------
    FormatError
        If they are not, before any is made.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    size = int.from_bytes(packed[:8], "little")
    data_size = len(packed) - 8 - size
    if data_size < 0:
        raise FormatError(
            f"a list of tensors of {size} bytes was wanted, got {len(packed)} bytes in all; send it whole"
        )
    listed = table("the list of tensors", parse_json("the list of tensors", _text(packed[8 : 8 + size])))
    if listed.keys() != wanted.keys():
        name = min(listed.keys() ^ wanted.keys())
        raise FormatError(
            f"{len(wanted)} tensors were wanted, got {len(listed)}, and {shown(name)} is "
            f"{'missing' if name in wanted else 'of none of them'}; is it of another model?"
        )
    spans = []
    for name, layout in wanted.items():
        entry = table(name, listed[name])
        check_keys(name, entry, ("dtype", "shape", "data_offsets"))
        if (entry["dtype"], entry["shape"]) != (layout.dtype, list(layout.shape)):
            raise FormatError(
                f"{name}: {layout.dtype} of shape {list(layout.shape)} was wanted, got {shown(entry['dtype'])} of "
                f"{shown(entry['shape'])}; is it of another model?"
            )
        if not isinstance(entry["data_offsets"], list) or len(entry["data_offsets"]) != 2:
            raise FormatError(f"{name}: two data_offsets were wanted, got {shown(entry['data_offsets'])}")
        start, end = (integer(f"{name}, data_offsets", value) for value in entry["data_offsets"])
        if end - start != layout.size:
            raise FormatError(f"{name}: {layout.size} bytes were wanted, got {shown(end - start)}")
        spans.append((start, end))
    # One after the other, from the first byte to the last: nothing is read twice, nothing hides between.
    edges = [0, *(edge for span in sorted(spans) for edge in span), data_size]
    if edges[::2] != edges[1::2]:
        raise FormatError(f"{data_size} bytes of values, each in one tensor, were wanted, got {shown(edges[1:-1])}")
    try:
        made = load(packed)
    except SafetensorError as error:
        raise FormatError(f"no tensors that safetensors can read: {shown(str(error))}") from None
    return {name: made[name] for name in wanted}


def count(where: str, entry: Mapping[str, Any], name: str, least: int, most: int = 2**53) -> int:
    """Return an integer of a header that lies where it must."""
    value = integer(f"{where}'s {name}", entry[name])
    if not least <= value <= most:
        raise FormatError(f"{where}'s {name} must lie in {least}…{most}, got {shown(value)}; is it of this model?")
    return value


def positive(where: str, entry: Mapping[str, Any], name: str) -> float:
    """Return a number of a header that is more than 0."""
    value = number(f"{where}'s {name}", entry[name])
    if value <= 0:
        raise FormatError(f"{where}'s {name} must be positive, got {value}")
    return value


def unlike(tensor: object, parameter: torch.nn.Parameter) -> str:
    """Say why this cannot stand for a parameter's value or gradient, or nothing."""
    import torch

    if type(tensor) is not torch.Tensor:  # a subclass computes what it likes
        return f"is a {type(tensor).__name__}, wanted a plain torch.Tensor"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "is not dense; send it with to_dense()"
    if tensor.is_meta:
        return "is on the meta device, without values; send them"
    if tensor.shape != parameter.shape:
        return f"has shape {tuple(tensor.shape)}, wanted {tuple(parameter.shape)}"
    if tensor.dtype != parameter.dtype:
        return f"is {tensor.dtype}, wanted {parameter.dtype}"
    if tensor.untyped_storage().data_ptr() == parameter.untyped_storage().data_ptr():
        return "shares its memory with the parameter itself; send a copy"
    if not tensor.isfinite().all():
        return "has a value that is not finite"
    return ""


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"UTF-8 text was wanted, got other bytes at {error.start}; send it again") from None
