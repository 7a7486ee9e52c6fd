"""Prompts in every block: learnable tokens in front of its input, which leave with its output."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lola.models.blocks import check_blocks, find_blocks
from lola.models.depths import Depths
from lola.models.errors import ModelError
from lola.models.guard import refuse_checkpointing
from lola.models.loading import import_transformers
from lola.models.seeding import seeded
from lola.solvers.checks import positive_integer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_NAME = "prompts"
_USUAL_SPREAD = 0.02  # of first weights, in the configurations of all usual models
# By module and class, what to call them: the tests compare each with its block run by hand, all tokens seeing the
# prompts. Others build masks of their own, count tokens, or mix them without a mask; then prompts would be lost unseen.
_WORKS = {
    "bert.BertLayer": "BERT",
    "roberta.RobertaLayer": "RoBERTa",
    "xlm_roberta.XLMRobertaLayer": "XLM-RoBERTa",
    "electra.ElectraLayer": "ELECTRA",
    "distilbert.TransformerBlock": "DistilBERT",
    "mpnet.MPNetLayer": "MPNet",
    "vit.ViTLayer": "ViT",
    "gpt2.GPT2Block": "GPT-2",
    "gpt_bigcode.GPTBigCodeBlock": "GPTBigCode",
    "opt.OPTDecoderLayer": "OPT",
}


class PromptedDepths(Depths):
    """A model with prompts in every block, one depth or a range of them trainable. Made by `attach_prompts`.

    Attributes
    ----------
    tokens : int
        In front of each block's input.

    Notes
    -----
    All that `Depths` has; LoRA's rank is 0 and its targets are none.
    """

    _adapter = _NAME

    def __init__(self, model: "nn.Module", blocks: "list[nn.Module]", tokens: int, train_head: bool) -> None:
        super().__init__(model, blocks, 0, 1.0, (), train_head, tuple(range(1, len(blocks) + 1)))
        self.tokens = tokens

    def __repr__(self) -> str:
        return (
            f"<PromptedDepths of {type(self.model).__name__}: {len(self)} blocks, {self.tokens} prompts in each, "
            f"head {self.head}>"
        )

    def save_pretrained(self, *_: Any, **__: Any) -> "Path":
        """Refuse: PEFT has no such adapter.

        Raises
        ------
        ModelError
        """
        raise ModelError(
            "an adapter that PEFT loads was wanted, and it has none of prompts in front of each block; save "
            "all_named_parameters(), and load them after attach_prompts"
        )


def attach_prompts(
    model: "nn.Module",
    *,
    tokens: int = 10,
    blocks: "str | Sequence[nn.Module] | None" = None,
    train_head: bool = True,
    seed: int | None = None,
) -> PromptedDepths:
    """Put learnable tokens in front of each block's input, once, in place.

    Parameters
    ----------
    model : torch.nn.Module
        A BERT, RoBERTa, XLM-RoBERTa, ELECTRA, DistilBERT, MPNet, ViT, GPT-2, GPTBigCode or OPT of transformers, whose
        output has a loss. It is changed: each block has a parameter more, ``prompts``, of
        shape (tokens, width), and its configuration no longer asks for a cache.
    tokens : int
    blocks, train_head
        As for `lola.models.attach_lora`.
    seed : int, optional
        Of the prompts. Left out, they are drawn from torch's random state.

    Returns
    -------
    PromptedDepths
        With depth 1 selected.

    Raises
    ------
    ModelError
        If there are no blocks, they are not those of one of these models, or the model has adapters or prompts; when it
        runs, if the blocks fill a cache. The model is as it was.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    As deep visual prompt tuning does, and GaisNet: a block sees its prompts before the tokens, and what becomes of them
    is dropped, for the next block has its own. So what goes from block to block is as large as without prompts, and the
    first token stays the first. PEFT's prefix tuning puts keys and values into each block's cache instead: that is no
    part of a block's input, and of the models here it runs in GPT-2 alone.
    """
    import_transformers()
    import torch

    positive_integer("tokens", tokens)
    if adapted := [name for name, _ in model.named_parameters() if "lora_" in name or name.endswith(f".{_NAME}")]:
        raise ModelError(f"the model has adapters already, such as {adapted[0]}; adapt it once, or load it anew")
    deepest_first = find_blocks(model, blocks) if blocks is None or isinstance(blocks, str) else list(blocks)[::-1]
    check_blocks(model, deepest_first[::-1])
    if any(isinstance(block, torch.nn.ModuleList) for block in deepest_first):
        raise ModelError(
            "prompts stand in front of what a block is called with: modules that are called were wanted, got a "
            "torch.nn.ModuleList of several; name the first of them"
        )
    _refuse_untried(deepest_first)
    config: Any = getattr(model, "config", None)
    width = getattr(config, "hidden_size", None)
    if not isinstance(width, int):
        raise ModelError(
            f"prompts are as wide as the blocks' input: a configuration with a hidden_size was wanted, got "
            f"{type(model).__name__} without; take a model of transformers"
        )
    depths = PromptedDepths(model, deepest_first, tokens, train_head)
    refuse_checkpointing(model)
    config.use_cache = False
    spread = getattr(config, "initializer_range", _USUAL_SPREAD)
    with seeded(seed):
        for block in deepest_first[::-1]:
            like = next(parameter for parameter in block.parameters() if parameter.is_floating_point())
            prompts = torch.empty((tokens, width), dtype=like.dtype, device=like.device).normal_(0.0, spread)
            block.register_parameter(_NAME, torch.nn.Parameter(prompts))
            block.register_forward_pre_hook(_put_in_front, with_kwargs=True)
            block.register_forward_hook(_drop)
    depths.select(1)
    return depths


def _refuse_untried(blocks: "Sequence[nn.Module]") -> None:
    """Refuse blocks of which it is not known that all their tokens see the prompts."""
    for block in blocks:
        package, *_, name = type(block).__module__.split(".")
        if package != "transformers" or f"{name.removeprefix('modeling_')}.{type(block).__name__}" not in _WORKS:
            raise ModelError(
                f"blocks that were tried with prompts were wanted, those of {', '.join(_WORKS.values())}, got "
                f"{type(block).__name__}; take one of these models, or train LoRA in this one"
            )


def _put_in_front(
    block: "nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put a block's prompts in front of its input, and let every token attend to them."""
    import torch

    _refuse_what_counts_tokens(block, args, kwargs)
    hidden, *others = args
    tokens, length = len(block.get_parameter(_NAME)), hidden.shape[1]
    prompts = block.get_parameter(_NAME).expand(len(hidden), -1, -1)

    def seen(value: Any) -> Any:
        return _lengthened(value, tokens, length)

    longer = torch.cat([prompts, hidden], dim=1)
    return (longer, *map(seen, others)), {name: seen(value) for name, value in kwargs.items()}


def _refuse_what_counts_tokens(block: "nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse what a block is given that would have to know of its prompts."""
    import torch

    kind = type(block).__name__
    if not args or not isinstance(args[0], torch.Tensor) or args[0].dim() != 3:
        raise ModelError(
            "prompts stand in front of a block's first argument: hidden states (batch, tokens, width) were wanted, and "
            f"{kind} got something else; train LoRA in this model"
        )
    if any(hasattr(value, "get_seq_length") for value in (*args, *kwargs.values())):
        raise ModelError(
            f"prompts are put in front in each call, so no cache was wanted, got one for {kind}; call the model with "
            "use_cache=False"
        )


def _lengthened(value: Any, tokens: int, length: int) -> Any:
    """Let a mask of attention, (batch, heads, 1 or length, length), allow all to see the prompts; leave all else alone.

    What the prompts themselves see does not matter, for nothing reads what becomes of them.
    """
    import torch

    if not isinstance(value, torch.Tensor) or value.dim() != 4 or value.shape[-1] != length:
        return value
    rows = tokens if value.shape[-2] == length else 0
    return torch.nn.functional.pad(value, (tokens, 0, rows, 0), value=value.dtype == torch.bool)


def _drop(block: "nn.Module", _: object, output: Any) -> Any:
    """Drop what became of the prompts from a block's output: a tensor, or a tuple that begins with it."""
    tokens = len(block.get_parameter(_NAME))
    if isinstance(output, tuple):
        return (output[0][:, tokens:], *output[1:])
    return output[:, tokens:]
