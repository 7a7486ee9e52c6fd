"""One message of each kind, of a tiny model, what makes two of them the same, and what damages them."""

import hashlib
import math

import torch
from cooperative import tiny_columns, tiny_problem

import lola
from lola.adapters import BlockTask, ModelUpdate, RoundPlan, block_gradient

FIXED = 52  # magic 8, digest 32, sizes 4 and 8
ALONE = ("RoundPlan", "BlockTask", "ModelUpdate", "BlockGradient")
KINDS = (*ALONE, "RoundPlan of segments", "BlockTask of a segment", "BlockGradient of a segment")


def messages_of(depths):
    """Messages of version 5, by kind."""
    depths.model.eval()
    plan = RoundPlan.from_schedule(lola.schedule(tiny_problem(3)), 5, local_steps=2)
    two = plan_of([(4, range(1, 3)), (1, range(3, 4))], 5, local_steps=2)
    batches = [tiny_columns("bert", 4, seed=2)] * 2
    answer, of_two = (block_gradient(depths, task, batches, 2) for task in (plan.tasks[1], two.tasks[0]))
    update = ModelUpdate.from_depths(depths, 5)
    return dict(zip(KINDS, (plan, plan.tasks[0], update, answer, two, two.tasks[0], of_two), strict=True))


def plan_of(segments, version=0, *, local_steps=1):
    """Make a plan of pairs of a device and what it takes."""
    tasks = (BlockTask(version, device, depths, 1e6 * device + 1e6, local_steps) for device, depths in segments)
    return RoundPlan(version, tuple(tasks), 3.5)


def tensors_of(message):
    return getattr(message, "parameters", None) or getattr(message, "gradients", {})


def same(one, other):
    """Whether two messages are equal, to the last bit of their tensors and the order of their names."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BlockTask | RoundPlan):
        return one == other
    mine, theirs = tensors_of(one), tensors_of(other)
    plain = [name for name in ("version", "device", "depths", "loss") if hasattr(one, name)]
    return (
        all(getattr(one, name) == getattr(other, name) for name in plain)
        and list(mine) == list(theirs)
        and all(mine[name].dtype == theirs[name].dtype and torch.equal(mine[name], theirs[name]) for name in mine)
    )


def fits(message, depths):
    """Whether a message is possible with this model: every number in its range, every tensor as large as it must be."""
    if isinstance(message, RoundPlan):
        whole = [depth for task in message.tasks for depth in task.depths] == list(range(1, len(depths) + 1))
        return whole and message.latency_s > 0 and all(fits(task, depths) for task in message.tasks)
    if isinstance(message, BlockTask):
        numbers = message.version >= 0 and message.device >= 0 and message.local_steps >= 1
        possible = 1 <= message.depths.start < message.depths.stop <= len(depths) + 1 and message.depths.step == 1
        return numbers and possible and 0 < message.bandwidth_hz < math.inf
    chosen = range(1, len(depths) + 1) if isinstance(message, ModelUpdate) else message.depths
    wanted = {name: tensor for depth in chosen for name, tensor in depths.named_parameters(depth).items()}
    tensors = tensors_of(message)
    return list(tensors) == list(wanted) and all(
        (tensor.shape, tensor.dtype) == (wanted[name].shape, wanted[name].dtype) for name, tensor in tensors.items()
    )


def damaged(rng, valid):
    """Bytes flipped, cut, doubled, put in, overwritten, cut off, or nothing but noise."""
    data = bytearray(valid)
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(2 * len(valid)))
    for _ in range(rng.choice((1, 1, 1, 3))):
        at, length = rng.randrange(len(data) + 1), rng.randint(1, 30)
        # Half of it where the sizes and names are.
        at = min(at, rng.randrange(FIXED + 200)) if rng.random() < 0.5 else at
        kind = rng.randrange(7)
        if kind == 0:
            del data[at : at + length]
        elif kind == 1:
            data[at:at] = data[at : at + length]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 4))
        elif kind == 3:
            data[at : at + 3] = rng.choice((b"NaN", b"-1", b"1e9", b"null", b"true", b"[[[", b'"', b"\xff", b"\0\0\0"))
        elif kind == 4:
            del data[at:]
        elif at < len(data):
            data[at] = data[at] ^ 1 << rng.randrange(8) if kind == 5 else rng.randrange(256)
    return bytes(data)


def signed(data):
    """Give bytes the digest that fits: what a sender could have written on purpose."""
    return data[:8] + hashlib.sha256(data[40:]).digest() + data[40:]


def sized(data):
    """Let the sizes fit as well, where there is a header."""
    if len(data) < FIXED:
        return signed(data)
    header = int.from_bytes(data[40:44], "little")
    return signed(data[:44] + max(len(data) - FIXED - header, 0).to_bytes(8, "little") + data[FIXED:])
