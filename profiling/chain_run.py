"""A model as the modules of a chain, and one batch through its stages, with autograd cut between them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

from lola.models.depths import Depths, loss_of_output
from lola.profiling.workload import ProfilingError

if TYPE_CHECKING:
    import torch
    from torch import nn

Watch = Callable[[int, Literal["forward", "backward"]], AbstractContextManager[object]]
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
        ProfilingError
            From within the forward pass, if a block does not run once and in its turn, or is given more that requires a
            gradient than what the block before it gave.
        """
        expected = 1

        def next_module(index: int, block: "nn.Module") -> None:
            nonlocal expected
            if index != expected:
                raise ProfilingError(
                    f"a chain runs each block once, one after the other: block {expected} was wanted, and "
                    f"{type(block).__name__} of block {index} runs; take a model whose blocks do"
                )
            expected += 1

        def begin(index: int) -> Callable[..., Any]:
            def hook(block: "nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                next_module(index, block)
                hidden, others = _parted(block, args, kwargs)
                if any(other.requires_grad for other in others):
                    raise ProfilingError(
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
            block.register_forward_pre_hook(begin(index), with_kwargs=True, prepend=True)
            for index, block in enumerate(self.blocks, start=1)
        ]
        handles.append(self.blocks[-1].register_forward_hook(end))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        if expected != len(self):
            raise ProfilingError(
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
        raise ProfilingError(
            f"a chain hands on hidden states: a tensor was wanted as the first argument of {type(block).__name__}, got "
            f"{type(hidden).__name__}; name other blocks (blocks=..., --blocks)"
        )
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf is not hidden]
    return hidden, leaves


def run_stages(
    chain: ModuleChain,
    starts: Sequence[int],
    batch: "dict[str, torch.Tensor]",
    watch: Watch,
    *,
    inference: bool = False,
) -> Any:
    """Run one batch through a chain's stages and back, each stage as on a client of its own.

    What is handed on is copied, as if it had been received: activations with what else a block is called with, such as
    a mask, and gradients.

    Parameters
    ----------
    chain : ModuleChain
    starts : sequence of int
        First module of each stage, rising, from 0.
    batch : dict of str to torch.Tensor
        Real or fake tensors.
    watch : callable
        Makes the context within which a stage, by its number, runs forward or backward.
    inference : bool
        Forward alone, without gradients.

    Returns
    -------
    object
        What the model gives in inference; else nothing.

    Raises
    ------
    ProfilingError
        If the model is no chain, or gives no loss.
    """
    import torch

    borders: list[tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]] = []
    stage = 0
    arrived: object = None
    chain.model.zero_grad(set_to_none=True)
    with ExitStack() as running, torch.set_grad_enabled(not inference):

        def cut(module: int, hidden: "torch.Tensor", others: "list[torch.Tensor]") -> "torch.Tensor":
            nonlocal stage, arrived
            arrived = None
            if module not in starts:
                return hidden
            running.close()
            stage += 1
            running.enter_context(watch(stage, "forward"))
            received = hidden.detach().clone().requires_grad_(hidden.requires_grad)
            beside = [other.detach().clone() for other in others]
            if inference:
                arrived = received, beside  # who calls a block has its input as long as it runs
            else:
                borders.append((hidden, received, beside))
            return received

        with chain.cut_by(cut):
            running.enter_context(watch(0, "forward"))
            inputs = {name: tensor.clone() for name, tensor in batch.items()}
            if inference:
                return chain.model(**inputs)
            sent = loss_of_output(chain.model, inputs)
    gradient: torch.Tensor | None = None
    while sent.requires_grad:
        with watch(stage, "backward"):
            torch.autograd.backward(sent, None if gradient is None else gradient.clone())
        if not borders:
            break
        sent, received, _ = borders.pop()
        gradient, stage = received.grad, stage - 1
    chain.model.zero_grad(set_to_none=True)
    return None
