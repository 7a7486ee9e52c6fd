"""Where a model keeps its blocks, and which of their modules LoRA adapts: by structure, whatever the model's type."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lola.models.errors import ModelError
from lola.solvers.errors import LolaTypeError

if TYPE_CHECKING:
    from torch import nn

# Query and value, or the joint projection where a model has but that; PEFT's table has further types.
_TARGETS = (
    ("query", "value"),
    ("q_proj", "v_proj"),
    ("c_attn",),
    ("q_lin", "v_lin"),
    ("qkv_proj",),
    ("Wqkv",),
    ("in_proj",),
)
_HEADS = ("classifier", "score", "pre_classifier", "classification_head")
_PART = re.compile("encoder|decoder")
_ELSE = (
    "say which modules are the blocks: attach_lora(model, blocks=[...]), the one nearest the input first, or --blocks"
)


def find_blocks(model: "nn.Module", paths: str | None = None) -> "list[nn.Module]":
    """Find a model's transformer blocks.

    Parameters
    ----------
    model : torch.nn.Module
    paths : str, optional
        Where they are, for example ``"encoder.layer"``: a list of modules, or a module; several, in the model's order,
        with commas between. Left out: the longest list of modules of one class within the model, and of an encoder
        and a decoder the longest of each.

    Returns
    -------
    list of torch.nn.Module
        In depth order: entry 0 is depth 1, the block nearest the output.

    Raises
    ------
    ModelError
        If there is no such list, or there are two and nothing tells which; if a path leads nowhere; or if the layers
        share their weights.
    """
    if paths is not None:
        return [block for path in paths.split(",") for block in _at(model, path.strip())][::-1]
    found = _stacks(model)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        parts = [
            {path: stack for path, stack in found.items() if _outermost_part(path) == part}
            for part in ("encoder", "decoder")
        ]
    else:
        parts = [found]
    chosen = [stack for part in parts if part for stack in [_longest(model, part)]]
    if not chosen:
        raise ModelError(
            f"no transformer blocks found in {type(model).__name__} (a list of modules of one class was wanted, with "
            f"linear layers in them); {_ELSE}"
        )
    blocks = [block for stack in chosen for block in stack]
    layers = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    if isinstance(layers, int) and layers > len(blocks):
        raise ModelError(
            f"{type(model).__name__} runs {layers} layers on the weights of {len(blocks)}: layers that share weights "
            "have no gradient of their own, so they are no blocks; take a model whose layers have weights of their "
            f"own. If layers were cut off, set config.num_hidden_layers to {len(blocks)}"
        )
    return blocks[::-1]


def find_targets(model: "nn.Module", blocks: "Sequence[nn.Module]", names: Sequence[str] | None) -> tuple[str, ...]:
    """Choose the modules of the blocks to adapt: those named, or query and value, or what PEFT adapts in the type.

    Raises
    ------
    ModelError
        If the blocks have none of a wanted name.
    TypeError
        If `names` is a text.
    """
    if isinstance(names, str):
        raise LolaTypeError(f"targets must be a list of names, got {names!r}; put it in one")
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_TARGETS

    inside = {name.split(".")[-1] for block in blocks for name, module in block.named_modules() if can_adapt(module)}
    if names is None:
        kind = getattr(getattr(model, "config", None), "model_type", None)
        choices = (*_TARGETS, PEFT_TARGETS.get(str(kind), ()))
        chosen = next((choice for choice in choices if choice and inside.issuperset(choice)), ())
    else:
        chosen = tuple(names) if inside.issuperset(names) else ()
    if chosen:
        return tuple(chosen)
    missing = "query and value" if names is None else ", ".join(name for name in names if name not in inside)
    raise ModelError(
        f"LoRA has no target: the blocks have no {missing or 'module of an empty list'}. Modules that can be "
        f"adapted are {', '.join(sorted(inside)) or 'none'}; name some of them: attach_lora(targets=[...]), "
        "Workload(lora_targets=[...]) or --targets"
    )


def head_names(model: "nn.Module") -> list[str]:
    """Return what a model calls the modules of its classifier head."""
    return [name for name in _HEADS if getattr(model, name, None) is not None]


def check_blocks(model: "nn.Module", blocks: "Sequence[nn.Module]") -> None:
    """Refuse blocks, given in the model's order, that are none of the model's, that overlap, or that run backwards.

    Raises
    ------
    ModelError, TypeError
    """
    from torch import nn

    if not blocks:
        raise ModelError("blocks is empty; pass at least one module")
    within = {id(module): name for name, module in model.named_modules()}
    owner: dict[int, int] = {}
    for number, block in enumerate(blocks, start=1):
        if not isinstance(block, nn.Module):
            raise LolaTypeError(f"blocks must be modules of the model, got {type(block).__name__} as number {number}")
        for module in filter(can_adapt, block.modules()):
            if id(module) not in within:
                raise ModelError(
                    f"block {number} of blocks has a {type(module).__name__} that is no part of "
                    f"{type(model).__name__}; pass modules of that model, not of a copy"
                )
            other = owner.setdefault(id(module), number)
            if other != number:
                raise ModelError(
                    f"blocks {other} and {number} of blocks share {within[id(module)]}: each block must have weights "
                    "of its own; name every module once"
                )
    place = {
        id(member): (id(stack), index)
        for stack in model.modules()
        if isinstance(stack, nn.ModuleList | nn.Sequential)
        for index, member in enumerate(stack)
    }
    places = [next((place[id(m)] for m in block.modules() if id(m) in place), (id(block), 0)) for block in blocks]
    for number, (before, after) in enumerate(pairwise(places), start=1):
        if before[0] == after[0] and before[1] > after[1]:
            raise ModelError(
                f"blocks {number} and {number + 1} of blocks are not in the model's order: the one nearest the input "
                "was wanted first; reverse them"
            )


def can_adapt(module: "nn.Module") -> bool:
    """Say whether LoRA is put on a module of this kind."""
    return type(module).__name__ in ("Linear", "Conv1D")


def _stacks(model: "nn.Module") -> "dict[str, list[nn.Module]]":
    """Find the lists of modules of one class with linear layers in them, by path; those within one are left out."""
    found: dict[str, list[nn.Module]] = {}
    for path, members in _lists(model):
        inner = any(path.startswith(f"{outer}.") for outer in found)
        alike = len({type(member) for member in members}) == 1
        if alike and not inner and all(_is_block(member) for member in members):
            found[path] = members
    return found


def _outermost_part(path: str) -> str:
    """Say what of an encoder and a decoder a path belongs to: the layers of a decoder may be an encoder's."""
    return next(iter(_PART.findall(path)), "")


def _lists(model: "nn.Module") -> "Iterator[tuple[str, list[nn.Module]]]":
    from torch import nn

    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList | nn.Sequential):
            yield path, list(module)


def _is_block(module: "nn.Module") -> bool:
    return not can_adapt(module) and any(map(can_adapt, module.modules()))


def _longest(model: "nn.Module", stacks: "dict[str, list[nn.Module]]") -> "list[nn.Module]":
    length = max(map(len, stacks.values()))
    paths = [path for path, stack in stacks.items() if len(stack) == length]
    if len(paths) > 1:
        raise ModelError(
            f"{type(model).__name__} has lists of {length} modules at {' and '.join(paths)}, and nothing tells which "
            f"are the blocks; {_ELSE}"
        )
    return stacks[paths[0]]


def _at(model: "nn.Module", path: str) -> "list[nn.Module]":
    from torch import nn

    try:
        module: Any = model.get_submodule(path)
    except AttributeError:
        lists = ", ".join(name for name, members in _lists(model) if name and len(members) > 1) or "none"
        raise ModelError(
            f"{type(model).__name__} has no module {path!r}, where blocks were wanted; its lists of modules are {lists}"
        ) from None
    return list(module) if isinstance(module, nn.ModuleList | nn.Sequential) else [module]
