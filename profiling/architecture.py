"""A profile from the shape of a transformer encoder alone, by counting."""

from dataclasses import dataclass

import numpy as np
from lola.solvers.checks import positive_integer, positive_number

from lola.profile import Profile, Provenance

_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Encoder:
    """The shape of a BERT-like encoder. The defaults are RoBERTa-base."""

    name: str = "roberta-base"
    n_blocks: int = 12
    hidden: int = 768
    intermediate: int = 3072
    heads: int = 12
    vocabulary: int = 50265
    positions: int = 514

    def __post_init__(self) -> None:
        for field in ("n_blocks", "hidden", "intermediate", "heads", "vocabulary", "positions"):
            positive_integer(field, getattr(self, field))


def estimate(
    encoder: Encoder | None = None,
    *,
    batch_size: int = 32,
    sequence_length: int = 128,
    lora_rank: int = 8,
    dtype: str = "float16",
    flops_per_s: float = 1e12,
) -> Profile:
    """Estimate memory and latency of each depth with LoRA on query and value and all other weights frozen.

    Parameters
    ----------
    encoder : Encoder, optional
        RoBERTa-base by default.
    batch_size, sequence_length : int
    lora_rank : int
    dtype : {"float16", "bfloat16", "float32"}
        Of weights and activations. Gradients are uploaded in 32 bits.
    flops_per_s : float
        Rate that the reference device sustains.

    Returns
    -------
    Profile
        Its provenance says that it is an estimate.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    *Latency.* The forward pass of a block costs ``2·tokens·(4h² + 2hf)`` operations in its linear layers and
    ``4·tokens·s·h`` in attention. Going backward through a frozen linear layer costs its forward once more (the
    gradient of its input alone), through the two products of attention twice. Depth l does the whole forward
    and l blocks of backward.

    *Memory.* Weights, one block's activations in the making, and for each of the l blocks what backward reads: per
    token two layer-norm inputs, query, key, value, the input of the adapters and of the activation function; per
    token and head one row of attention before and after dropout, and its mask at one byte.
    """
    shape = Encoder() if encoder is None else encoder
    if dtype not in _BYTES:
        raise ValueError(f"dtype must be one of {', '.join(_BYTES)}; got {dtype!r}")
    batch = positive_integer("batch_size", batch_size)
    length = positive_integer("sequence_length", sequence_length)
    rank = positive_integer("lora_rank", lora_rank)
    rate = positive_number("flops_per_s", flops_per_s)
    tokens, hidden, wide, width = batch * length, shape.hidden, shape.intermediate, _BYTES[dtype]

    linear = 2 * tokens * (4 * hidden**2 + 2 * hidden * wide)
    attention = 4 * tokens * length * hidden
    depth = np.arange(1, shape.n_blocks + 1)
    flops = shape.n_blocks * (linear + attention) + depth * (linear + 2 * attention)

    weights = (shape.vocabulary + shape.positions) * hidden + shape.n_blocks * (4 * hidden**2 + 2 * hidden * wide)
    saved = tokens * (width * (6 * hidden + wide) + shape.heads * length * (2 * width + 1))
    adapter_values = 2 * 2 * hidden * rank  # two matrices on query and on value
    return Profile(
        memory_bytes=weights * width + saved * (1 + depth),
        latency_s=flops / rate,
        upload_bits=32.0 * adapter_values,
        provenance=Provenance(
            model=shape.name,
            batch_size=batch,
            sequence_length=length,
            dtype=dtype,
            source="estimated",
            hardware=f"assumed to sustain {rate / 1e12:g} TFLOP/s",
            note=f"counted from the architecture, LoRA rank {rank} on query and value; not measured",
        ),
    )
