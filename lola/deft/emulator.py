"""Federated fine-tuning with an emulator: devices compute gradients on some of a model's blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lola.adapters.answer import Answer
from lola.adapters.shards import ShardedData
from lola.deft.plain import PlainScheme
from lola.deft.scheme import FederatedRound
from lola.models.depths import Depths, Loss, loss_of_output
from lola.models.errors import ModelError
from lola.profiling.memory import weight_bytes
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    from torch import nn

    from lola.air.uplink import Uplink


class EmulatorScheme(PlainScheme):
    """Gradients of an emulator, the model with some of its blocks; the server steps the whole model with their mean.

    The devices have the embedding, the blocks kept and the head. Adapters in the other blocks are not trained: they
    stay as they are, in the whole model.

    Parameters
    ----------
    depths : lola.models.Depths
        The model with its adapters, from `lola.models.attach_lora`.
    kept : (M,) int array_like
        Numbers of the blocks kept, ascending, **1 nearest the input**: ``lola.solvers.emulator_layers(…).kept``, chosen
        by what `lola.profiling.measure_distortion` measures, for example.
    loss : callable, optional
        See `PlainScheme`.

    Attributes
    ----------
    kept_blocks : tuple of int
    emulator_bits : float
        Of the emulator's weights. A device downloads them once, in the first round in which it is asked.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    lola.models.ModelError
        If the model cannot run without a block: it has an encoder and a decoder, blocks of several kinds in turn, or
        blocks outside of a list.

    Notes
    -----
    Wu, Chen and Huang, "Device-Edge Cooperative Fine-Tuning of Foundation Models as a 6G Service", section 5.1. There
    an emulator is also distilled; here its blocks are the model's own. With all blocks kept it is a `PlainScheme`.
    """

    def __init__(self, depths: Depths, kept: ArrayLike, *, loss: Loss = loss_of_output) -> None:
        super().__init__(depths, loss=loss)
        if hasattr(kept, "kept"):  # told without the solver's module, which is slow to load
            raise LolaTypeError(f"kept must number blocks, got {type(kept).__name__}; give its .kept")
        numbers = np.asarray(kept)
        if (
            numbers.ndim != 1
            or numbers.dtype.kind not in "iu"
            or not numbers.size
            or (np.diff(numbers.astype(np.int64)) <= 0).any()
            or not 1 <= numbers[0] <= numbers[-1] <= len(depths)
        ):
            raise LolaValueError(
                f"kept must number blocks in 1…{len(depths)}, one at least, ascending, 1 nearest the input; got "
                f"{numbers.tolist()}"
            )
        self.kept_blocks = tuple(map(int, numbers))
        self._downloaded: set[int] = set()
        with without_blocks(depths, self.kept_blocks):
            there = {id(parameter) for parameter in depths.model.parameters()}
            self.emulator_bits = 8.0 * weight_bytes(depths.model)
        self._names = [name for name, one in depths.all_named_parameters().items() if id(one) in there]

    @property
    def identity(self) -> tuple[object, ...]:
        """The adapters, and which blocks are kept."""
        return *super().identity, self.kept_blocks

    def trained(self) -> dict[str, nn.Parameter]:
        """Return what of the emulator is trained, by its name in the whole model."""
        named = self.depths.all_named_parameters()
        return {name: named[name] for name in self._names}

    def answer(self, work: FederatedRound, device: int) -> Answer:
        """Average the emulator's gradients of the device's batches, by their rows."""
        with without_blocks(self.depths, self.kept_blocks):
            return super().answer(work, device)

    def begin(self, data: ShardedData, uplink: Uplink) -> int:
        """Return how many shards there are; nobody has the emulator as yet."""
        self._downloaded = set()
        return super().begin(data, uplink)

    def delivered_bits(self, work: FederatedRound) -> float:
        """Count what is trained, and the emulator for each device that has not had it yet."""
        new = {*work.asked} - self._downloaded
        self._downloaded |= new
        return super().delivered_bits(work) + len(new) * self.emulator_bits

    def kept(self) -> dict[str, Any]:
        """Return who has the emulator."""
        return {"downloaded": sorted(self._downloaded)}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take over who has the emulator."""
        self._downloaded = {*kept["downloaded"]}


@contextmanager
def without_blocks(depths: Depths, kept: Sequence[int]) -> Iterator[None]:
    """Run a model without some of its blocks while this lasts; nothing of them is changed or built anew.

    Parameters
    ----------
    depths : lola.models.Depths
    kept : sequence of int
        Numbers of the blocks that stay, 1 nearest the input.

    Raises
    ------
    lola.models.ModelError
        If the model cannot run without a block; see `EmulatorScheme`.
    """
    blocks = depths.blocks[::-1]
    skipped = {id(part) for number, block in enumerate(blocks, 1) if number not in kept for part in _parts(block)}
    if not skipped:
        yield
        return
    _refuse_models_of_other_kinds(depths)
    stacks = [(stack, stack._modules) for stack in _lists(depths.model) if any(id(part) in skipped for part in stack)]
    if skipped - {id(part) for stack, _ in stacks for part in stack}:
        raise ModelError(
            f"an emulator leaves blocks out of the list that {type(depths.model).__name__} runs, and one of them "
            "stands in no list; keep all blocks, or name others (blocks=...)"
        )
    try:
        for stack, whole in stacks:
            stay = [part for part in whole.values() if id(part) not in skipped]
            stack._modules = {str(place): part for place, part in enumerate(stay)}
        yield
    finally:
        for stack, whole in stacks:
            stack._modules = whole


def _refuse_models_of_other_kinds(depths: Depths) -> None:
    config = getattr(depths.model, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{type(depths.model).__name__} has an encoder and a decoder, and an emulator is of one stack of blocks; "
            "take a model of one"
        )
    kinds = {*(getattr(config, "layer_types", None) or ())}
    if len(kinds) > 1:
        raise ModelError(
            f"the blocks of {type(depths.model).__name__} are of several kinds ({', '.join(sorted(kinds))}), told by "
            "their place, which changes in an emulator; take a model whose blocks are alike"
        )


def _lists(model: nn.Module) -> list[nn.ModuleList]:
    from torch import nn

    return [module for module in model.modules() if isinstance(module, nn.ModuleList)]


def _parts(block: nn.Module) -> Iterator[nn.Module]:
    """Give the modules that are joined into one block, or the block itself."""
    from torch import nn

    if not isinstance(block, nn.ModuleList):
        yield block
        return
    for part in block:
        yield from _parts(part)
