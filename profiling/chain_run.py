"""One batch through the stages of a chain, with autograd cut between them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Literal

from lola.models.cutting import ModuleChain
from lola.models.depths import loss_of_output

if TYPE_CHECKING:
    import torch

Watch = Callable[[int, Literal["forward", "backward"]], AbstractContextManager[object]]


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
    lola.models.ModelError
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
