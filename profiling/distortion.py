"""How much a model's hidden state would be off if blocks were skipped: what an emulator's layers are chosen by."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from lola.models.cutting import ModuleChain
from lola.models.depths import Batch, Depths
from lola.models.errors import ModelError
from lola.models.running import evaluating, expect_batch, expect_batches
from lola.solvers.checks import FloatArray
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch


def measure_distortion(depths: Depths, batches: Iterable[Batch]) -> FloatArray:
    """Measure what skipping blocks would cost: how far apart the hidden states before and behind them are.

    Parameters
    ----------
    depths : lola.models.Depths
        The model, with adapters as they are. It is run in eval mode, once a batch.
    batches : iterable of mapping of str to torch.Tensor
        One at least. Where a batch has an ``attention_mask`` as its hidden states have tokens, padding is left out.

    Returns
    -------
    (L+1, L+1) float64 array
        What `lola.solvers.emulator_layers` takes, for L blocks: with 0 the embedding's output, 1 the block nearest the
        input and L+1 the head, entry [i, j-1] is what it costs to feed what i gives straight to j: the mean squared
        difference from what j is given in the whole model, over the mean square of that. Zero on the diagonal, where
        nothing is skipped, and below it, where nothing is asked.

    Raises
    ------
    TypeError, ValueError
        If `depths` is none, or there is no batch.
    ModelError
        If the model does not run each block once on one hidden state, or one of those is not finite, or all zero.

    Notes
    -----
    The costs of several gaps add up in an emulator only as far as a later gap's does not depend on an earlier one, so
    their sum is a proxy of the emulator's distortion. It takes one forward pass a batch, where running the model with
    each gap would take L(L+1)/2.

    Examples
    --------
    >>> import torch, transformers, lola
    >>> config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=8, vocab_size=50)
    >>> depths = lola.models.attach_lora(transformers.GPT2LMHeadModel(config), seed=0)
    >>> lola.profiling.measure_distortion(depths, [{"input_ids": torch.arange(8).reshape(2, 4)}]).shape
    (3, 3)
    """
    import torch

    if not isinstance(depths, Depths):
        raise LolaTypeError(f"depths must be a Depths, got {type(depths).__name__}; make it of a model by attach_lora")
    expect_batches(batches)
    n_states = len(depths) + 1
    apart, size, n_batches = np.zeros((n_states, n_states)), np.zeros(n_states), 0
    with depths.lock, torch.no_grad(), evaluating(depths.model):
        for batch in batches:
            n_batches += 1
            states = _states(depths, batch)
            size += [float(state.square().sum()) for state in states]
            for first in range(n_states):
                for last in range(first + 1, n_states):
                    apart[first, last] += float((states[first] - states[last]).square().sum())
    if not n_batches:
        raise LolaValueError("batches must hold one at least, got none; draw some from the data of the task")
    if not (np.isfinite(size).all() and size.all()):
        raise ModelError(
            f"{type(depths.model).__name__} must give hidden states that are finite and not all zero, got squares that "
            f"sum to {size.tolist()}; look at its weights and at the batches"
        )
    return apart / size


def _states(depths: Depths, batch: Batch) -> "list[torch.Tensor]":
    """Return what each block is given, and then the head, without padding and in double precision."""
    expect_batch(batch)
    states: list[torch.Tensor] = []
    mask = batch.get("attention_mask")

    def note(module: int, hidden: "torch.Tensor", _: object) -> "torch.Tensor":
        of_text = hidden if mask is None or mask.shape != hidden.shape[:2] else hidden[mask.bool()]
        states.append(of_text.double())
        return hidden

    with ModuleChain(depths).cut_by(note):
        depths.model(**batch)
    return states
