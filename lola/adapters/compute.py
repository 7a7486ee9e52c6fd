"""A device's part of a round: the gradients of its blocks."""

from __future__ import annotations

from collections.abc import Iterable

from lola.adapters.messages import BlockGradient, BlockTask
from lola.models.depths import Batch, Depths, Loss, loss_of_output
from lola.solvers.checks import positive_integer
from lola.solvers.errors import LolaTypeError, LolaValueError


def block_gradient(
    depths: Depths,
    task: BlockTask,
    batches: Iterable[Batch],
    local_steps: int | None = None,
    *,
    loss: Loss = loss_of_output,
) -> BlockGradient:
    """Compute the gradient of a block, or of several neighbours: a device's part of a round.

    Everything else is frozen, backward stops at the deepest, and gives the gradients of all in one pass. Those of
    `local_steps` batches are averaged at fixed parameters, so that a round is one step of the server's optimizer on
    `local_steps` batches per block.

    Parameters
    ----------
    depths : lola.models.Depths
        The model with its adapters, from `lola.models.attach_lora`. Left with the task's depths selected and without
        gradients.
    task : BlockTask
    batches : iterable of mapping of str to torch.Tensor
        The device's data; the first `local_steps` are used. A DataLoader begins anew in every round: let it shuffle.
    local_steps : int, optional
        M ≥ 1; the task's if left out.
    loss : callable, optional
        ``loss(model, batch)`` gives a scalar; by default the model's own output has it.

    Returns
    -------
    BlockGradient

    Notes
    -----
    Threads that share a model take turns: see `lola.models.Depths`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or there are fewer batches than `local_steps`.
    lola.models.ModelError
        If backward would not stop at the deepest block.
    """
    if not isinstance(depths, Depths):
        raise LolaTypeError(f"depths must be a Depths, got {type(depths).__name__}; make it of a model by attach_lora")
    if not isinstance(task, BlockTask):
        raise LolaTypeError(f"task must be a BlockTask, got {type(task).__name__}; take one of a RoundPlan's tasks")
    local_steps = positive_integer("local_steps", task.local_steps if local_steps is None else local_steps)
    with depths.lock:
        return _gradient(depths, task, batches, local_steps, loss)


def _gradient(depths: Depths, task: BlockTask, batches: Iterable[Batch], local_steps: int, loss: Loss) -> BlockGradient:
    depths.select(task.depths)
    model = depths.model
    model.zero_grad(set_to_none=True)
    total, done = 0.0, 0
    with depths.guard(task.depths):
        for batch in batches:
            value = loss(model, batch) / local_steps
            value.backward()  # type: ignore[no-untyped-call]
            total += float(value.detach())
            done += 1
            if done == local_steps:
                break
    if done < local_steps:
        raise LolaValueError(
            f"{local_steps} local batches are needed, device {task.device} has {done}; give it more data"
        )
    gradients = {}
    for depth in task.depths:
        for name, parameter in depths.named_parameters(depth).items():
            if parameter.grad is None:
                raise LolaValueError(
                    f"the loss does not depend on {name}, which depth {depth} trains; is it the model's loss?"
                )
            gradients[name] = parameter.grad.detach().to("cpu", copy=True)
    model.zero_grad(set_to_none=True)
    return BlockGradient(task.version, task.device, task.depths, gradients, total)
