"""Watching, while a model runs, that backward will stop at the block that is trained."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lola.models.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def stopping_at(blocks: "Sequence[nn.Module]", depth: int) -> Iterator[None]:
    """Refuse, while a model runs, what would make backward run on below the block of a depth.

    Parameters
    ----------
    blocks : sequence of torch.nn.Module
        In depth order.
    depth : int

    Raises
    ------
    ModelError
        From within the forward pass.
    """
    watch = _Watch(depth)
    handles = []
    try:
        # A block may be a container that never runs itself: whichever of its modules runs first is its beginning. And
        # it may have prompts, which it puts in front of its input itself: that input must be seen before.
        for module in _with_weights(blocks[depth - 1]):
            handles.append(module.register_forward_pre_hook(watch.enter, with_kwargs=True, prepend=True))
            handles.append(module.register_forward_hook(watch.leave, always_call=True))
        for below, block in enumerate(blocks[depth:], start=depth + 1):
            refuse = watch.below(below)
            handles += [part.register_forward_pre_hook(refuse, with_kwargs=True) for part in _with_weights(block)]
        yield
    finally:
        for handle in handles:
            handle.remove()


def refuse_checkpointing(model: Any) -> None:
    """Refuse what makes backward run to the bottom, or run forward again.

    Raises
    ------
    ModelError
    """
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise ModelError(
            "gradient checkpointing is on: it recomputes the forward pass and makes the embeddings require a "
            "gradient, so memory and latency no longer depend on the depth; call gradient_checkpointing_disable()"
        )
    hooks = [getattr(model, name, None) for name in ("_require_grads_hook", "_require_grads_hooks")]
    if any(hooks):
        raise ModelError(
            "enable_input_require_grads() is on: it makes the embeddings require a gradient, so backward runs to "
            "the bottom whatever the depth; call disable_input_require_grads()"
        )


class _Watch:
    """What has run of a block in the forward pass under way."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._first: nn.Module | None = None
        self._inside = 0

    def enter(self, module: "nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._inside += 1
        if self._inside > 1 or self._first not in (None, module):
            return  # what follows the beginning may well depend on the block's own weights
        self._refuse(
            args,
            kwargs,
            "its block runs again on what it gave, so its weights are those of several layers and none has a gradient "
            "of its own; take a model whose layers have weights of their own",
        )
        self._first = module

    def leave(self, *_: object) -> None:
        self._inside -= 1

    def below(self, below: int) -> Callable[..., None]:
        why = (
            f"the block of depth {below}, which was wanted below it, runs after it; pass the blocks in the order in "
            "which they run, the one nearest the input first"
        )
        return lambda _, args, kwargs: self._refuse(args, kwargs, why)

    def _refuse(self, args: tuple[Any, ...], kwargs: dict[str, Any], once_begun: str) -> None:
        """Refuse an input that requires a gradient: for a reason of its own where the block has run already."""
        import torch
        from torch.utils._pytree import tree_leaves

        if not any(isinstance(value, torch.Tensor) and value.requires_grad for value in tree_leaves((args, kwargs))):
            return
        before = (
            "the input of its block requires a gradient, so backward would run on to the embeddings and every depth "
            "would cost the same. Something below requires grad, or makes its output require it "
            "(enable_input_require_grads does): turn that off"
        )
        raise ModelError(f"depth {self.depth}: {before if self._first is None else once_begun}")


def _with_weights(block: "nn.Module") -> "Iterator[nn.Module]":
    return (module for module in block.modules() if next(module.parameters(), None) is not None)
