"""A model as the modules of a chain: its own forward pass, in which what goes from block to block can be replaced."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lola.models.depths import Depths
from lola.models.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

# Called with the module that begins, its hidden states, and whatever else it is called with; gives hidden states.
Cut = Callable[[int, "torch.Tensor", "list[torch.Tensor]"], "torch.Tensor"]


class ModuleChain:
    """A model's modules in order: what runs before its blocks, each block from the input up, and what runs after them.

    Parameters
    ----------
    depths : Depths
        The model, with adapters or prompts.
    """

    def __init__(self, depths: Depths) -> None:
        self.depths, self.model, self.blocks = depths, depths.model, depths.blocks[::-1]

    def __len__(self) -> int:
        return len(self.blocks) + 2

    @contextmanager
    def cut_by(self, cut: Cut) -> Iterator[None]:
        """Let a function replace, while the model runs, what each module but the first is given.

        Raises
        ------
        ModelError
            From within the forward pass, if a block does not run once and in its turn, or is given more that requires a
            gradient than what the block before it gave.
        """
        expected = 1

        def next_module(index: int, block: "nn.Module") -> None:
            nonlocal expected
            if index != expected:
                raise ModelError(
                    f"a chain runs each block once, one after the other: block {expected} was wanted, and "
                    f"{type(block).__name__} of block {index} runs; take a model whose blocks do"
                )
            expected += 1

        def begin(index: int) -> Callable[..., Any]:
            def hook(block: "nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                next_module(index, block)
                hidden, others = _parted(block, args, kwargs)
                if any(other.requires_grad for other in others):
                    raise ModelError(
                        f"a chain hands on hidden states alone, and {type(block).__name__} of block {index} is given "
                        "another tensor that requires a gradient, such as an encoder's output; take an encoder or a "
                        "decoder alone"
                    )
                handed = cut(index, hidden, others)
                return ((handed, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": handed})

            return hook

        def end(block: "nn.Module", _: object, output: Any) -> Any:
            next_module(len(self) - 1, block)
            hidden, *others = output if isinstance(output, tuple) else (output,)
            handed = cut(len(self) - 1, hidden, [])
            return (handed, *others) if isinstance(output, tuple) else handed

        # Before a block's own hook puts prompts in front, and after its last one has dropped them.
        handles = [
            innermost(block, 0).register_forward_pre_hook(begin(index), with_kwargs=True, prepend=True)
            for index, block in enumerate(self.blocks, start=1)
        ]
        handles.append(innermost(self.blocks[-1], -1).register_forward_hook(end))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        if expected != len(self):
            raise ModelError(
                f"a chain runs each block once, one after the other: block {expected} did not run; take a model whose "
                "blocks do"
            )


def _parted(
    block: "nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any]
) -> "tuple[torch.Tensor, list[torch.Tensor]]":
    """Part what a block is called with into hidden states and all other tensors."""
    import torch
    from torch.utils._pytree import tree_leaves

    hidden = args[0] if args else kwargs.get("hidden_states")
    if not isinstance(hidden, torch.Tensor):
        raise ModelError(
            f"a chain hands on hidden states: a tensor was wanted as the first argument of {type(block).__name__}, got "
            f"{type(hidden).__name__}; name other blocks (blocks=..., --blocks)"
        )
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf is not hidden]
    return hidden, leaves


def innermost(block: "nn.Module", end: int) -> "nn.Module":
    """Return what runs first, or last, of modules joined into one block: their list itself never runs."""
    from torch import nn

    while isinstance(block, nn.ModuleList):
        block = block[end]
    return block
