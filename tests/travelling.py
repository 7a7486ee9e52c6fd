"""One message of each kind, of a tiny model, and what makes two of them the same."""

import math

import torch
from cooperative import tiny_columns, tiny_problem

import lola
from lola.adapters import BlockTask, ModelUpdate, RoundPlan, block_gradient

KINDS = ("RoundPlan", "BlockTask", "ModelUpdate", "BlockGradient")


def messages_of(depths):
    """Messages of version 5, by kind."""
    depths.model.eval()
    plan = RoundPlan.from_schedule(lola.schedule(tiny_problem(3)), 5, local_steps=2)
    answer = block_gradient(depths, plan.tasks[1], [tiny_columns("bert", 4, seed=2)] * 2, 2)
    return {type(m).__name__: m for m in (plan, plan.tasks[0], ModelUpdate.from_depths(depths, 5), answer)}


def tensors_of(message):
    return getattr(message, "parameters", None) or getattr(message, "gradients", {})


def same(one, other):
    """Whether two messages are equal, to the last bit of their tensors and the order of their names."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BlockTask | RoundPlan):
        return one == other
    mine, theirs = tensors_of(one), tensors_of(other)
    plain = [name for name in ("version", "device", "depth", "loss") if hasattr(one, name)]
    return (
        all(getattr(one, name) == getattr(other, name) for name in plain)
        and list(mine) == list(theirs)
        and all(mine[name].dtype == theirs[name].dtype and torch.equal(mine[name], theirs[name]) for name in mine)
    )


def fits(message, depths):
    """Whether a message is possible with this model: every number in its range, every tensor as large as it must be."""
    if isinstance(message, RoundPlan):
        whole = [task.depth for task in message.tasks] == list(range(1, len(depths) + 1))
        return whole and message.latency_s > 0 and all(fits(task, depths) for task in message.tasks)
    if isinstance(message, BlockTask):
        numbers = message.version >= 0 and message.device >= 0 and message.local_steps >= 1
        return numbers and 1 <= message.depth <= len(depths) and 0 < message.bandwidth_hz < math.inf
    wanted = (
        depths.all_named_parameters() if isinstance(message, ModelUpdate) else depths.named_parameters(message.depth)
    )
    tensors = tensors_of(message)
    return list(tensors) == list(wanted) and all(
        (tensor.shape, tensor.dtype) == (wanted[name].shape, wanted[name].dtype) for name, tensor in tensors.items()
    )
