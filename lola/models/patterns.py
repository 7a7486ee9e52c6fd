"""A rank of each block as PEFT wants it: patterns of names, each of which fits one module alone."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lola.models.errors import ModelError
from lola.solvers.checks import positive_integer, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn

_LARGEST_RANK = 2**53
_LARGEST_DEVIATION = 1e-12  # of alpha / rank: a product and two quotients


def checked_ranks(rank: object) -> int | tuple[int, ...]:
    """Return one rank for all blocks, or a rank of each in depth order; 0 is a block without adapters.

    Raises
    ------
    TypeError, ValueError
        If they are no ranks, or all 0.
    """
    if hasattr(rank, "rank"):  # a RankPlan, which this module would have to import from above it
        raise LolaTypeError(
            f"rank must be an integer or a sequence of them, got {type(rank).__name__}: {shown(rank)}; give its .rank"
        )
    values = rank.tolist() if isinstance(rank, np.ndarray) else rank
    if isinstance(values, str) or not isinstance(values, Sequence):
        return positive_integer("rank", values)
    for depth, value in enumerate(values, start=1):
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
            raise LolaTypeError(f"rank must hold integers, got {shown(value)} at depth {depth}; 0 leaves a block out")
        if value < 0:
            raise LolaValueError(
                f"rank must hold integers >= 0, got {shown(value)} at depth {depth}; 0 leaves a block out"
            )
        if value > _LARGEST_RANK:
            raise LolaValueError(
                f"rank must hold integers up to 2**53, got one of {int(value).bit_length()} bits at depth {depth}; "
                "lower it"
            )
    if not any(values):
        raise LolaValueError("rank must leave a block its adapters, got none above 0; give one of them a rank")
    return tuple(map(int, values))


def rank_by_depth(rank: int | tuple[int, ...], n_blocks: int) -> tuple[int, ...]:
    """Return a rank of each of so many blocks.

    Raises
    ------
    ValueError
        If there is one for each of another number of blocks.
    """
    ranks = (rank,) * n_blocks if isinstance(rank, int) else rank
    if len(ranks) != n_blocks:
        raise LolaValueError(
            f"rank must be one for all blocks, or one of each of {n_blocks}, depth 1 first, got {len(ranks)} of them; "
            "give each its rank"
        )
    return ranks


def lora_config(model: "nn.Module", rank_of: Mapping[str, int], alpha: float, zero_init: bool) -> "LoraConfig":
    """Return what PEFT adapts these modules by, by their paths, and no others; alpha is that of the largest rank.

    PEFT compares the ends of paths, and of several patterns that fit takes the first: so each pattern is a whole path,
    and other modules whose paths end like one of these are excluded.
    """
    from peft import LoraConfig

    largest = max(rank_of.values())
    other = {f"^{re.escape(path)}": rank for path, rank in rank_of.items() if rank != largest}
    ends = tuple(f".{path}" for path in rank_of)
    alike = [re.escape(name) for name, _ in model.named_modules() if name.endswith(ends) and name not in rank_of]
    return LoraConfig(
        r=largest,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft declares an integer, but divides it like any number
        target_modules=list(rank_of),
        exclude_modules="|".join(alike) or None,
        rank_pattern=other,
        alpha_pattern={pattern: alpha * rank / largest for pattern, rank in other.items()},
        fan_in_fan_out=any(type(model.get_submodule(path)).__name__ == "Conv1D" for path in rank_of),
        init_lora_weights=zero_init,
    )


def check_ranks(model: "nn.Module", rank_of: Mapping[str, int], scaling: float) -> None:
    """Look at each adapter that PEFT has made: it says nothing of a pattern that fits no module.

    Raises
    ------
    ModelError
        If other modules are adapted, or one has another rank, or is scaled differently, than was asked for.
    """
    from peft.tuners.lora import LoraLayer

    layers: dict[str, Any] = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    if unlike := sorted(layers.keys() ^ rank_of.keys()):
        raise ModelError(
            f"LoRA in {len(rank_of)} modules was wanted, and PEFT adapted {len(layers)}, which differ in {unlike[0]}; "
            "load the model anew, with the PEFT that lola names"
        )
    for path, rank in rank_of.items():
        layer = layers[path]
        (name,) = layer.r
        if layer.r[name] != rank or abs(layer.scaling[name] / scaling - 1) > _LARGEST_DEVIATION:
            raise ModelError(
                f"{path}: LoRA of rank {rank} scaled by {scaling:g} was wanted, and PEFT made one of rank "
                f"{layer.r[name]} scaled by {layer.scaling[name]:g}; load the model anew, with the PEFT that lola names"
            )
