"""One iteration of one depth, or of a few at once: backward, and what it keeps in memory."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

from lola.models.depths import Depths, loss_of_output
from lola.profiling.memory import count_saved, track_peak

if TYPE_CHECKING:
    import torch


def backward(depths: Depths, selected: int | range | None, batch: "dict[str, torch.Tensor]") -> None:
    """Run forward and backward for the depths that are selected, from no gradient.

    Parameters
    ----------
    depths : Depths
    selected : int, range or None
        What the guard watches; None for no guard, as where all depths are trained and there is nothing below.
    batch : dict of str to torch.Tensor

    Raises
    ------
    lola.models.ModelError
        If the model gives no loss, or backward would not stop at the block.
    """
    depths.model.zero_grad(set_to_none=True)
    _loss(depths, selected, batch).backward()


def count_tensors(
    depths: Depths, selected: int | range | None, batch: "dict[str, torch.Tensor]", granularity_bytes: int = 1
) -> tuple[int, int]:
    """Run one iteration and return the bytes that it saves for backward and its peak, without weights.

    Parameters
    ----------
    depths : Depths
    selected : int, range or None
        What is trained; None for all depths at once.
    batch : dict of str to torch.Tensor
        Real or fake tensors.
    granularity_bytes : int
        See `lola.profiling.memory.track_peak`.
    """
    depths.select_all() if selected is None else depths.select(selected)
    depths.model.zero_grad(set_to_none=True)
    with track_peak(granularity_bytes) as peak:
        inputs = {name: tensor.clone() for name, tensor in batch.items()}
        with count_saved(depths.model) as saved:
            loss = _loss(depths, selected, inputs)
        loss.backward()
    depths.model.zero_grad(set_to_none=True)
    return saved.bytes, peak.peak_bytes


def _loss(depths: Depths, selected: int | range | None, batch: "dict[str, torch.Tensor]") -> "torch.Tensor":
    with nullcontext() if selected is None else depths.guard(selected):
        return loss_of_output(depths.model, batch)
