"""Attention over prompts: how much each source's contributes to a target's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lola.models.seeding import seeded
from lola.solvers.checks import positive_integer, positive_number
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch
    from torch import nn


class PromptAttention:
    """A small network that scores prompts by what a task's texts look like.

    Parameters
    ----------
    width : int
        Of the prompts.
    bottleneck : int
        Of the layer between.
    temperature : float, optional
        What scores are divided by; left out, e times the width, as in ATTEMPT: then all prompts count about equally in
        the beginning.
    seed : int
        Of the first weights.
    dtype : torch.dtype, optional
        Of the weights; left out, torch's default.

    Attributes
    ----------
    network : torch.nn.Module
        From a task to what its prompts are compared with.
    width : int
    temperature : float

    Raises
    ------
    TypeError, ValueError
        If a number is not positive, or the seed none that torch takes.

    Notes
    -----
    Asai, Salehi, Peters, Hajishirzi, *ATTEMPT: Parameter-Efficient Multi-task Tuning via Attentional Mixtures of Soft
    Prompts* (2022), section 3.2: h = LayerNorm(U SiLU(D x̂)), weights = softmax(p̂_k·h / τ), where p̂_k is the largest
    value of each coordinate of prompt k, and x̂ that of a text. There, each text has weights of its own; here x̂ is the
    mean over the target's texts, so that a task has one vector of weights and its sources are summed once an iteration.
    """

    def __init__(
        self,
        width: int,
        *,
        bottleneck: int = 64,
        temperature: float | None = None,
        seed: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        from torch import nn

        self.width = positive_integer("width", width)
        positive_integer("bottleneck", bottleneck)
        self.temperature = math.e * width if temperature is None else positive_number("temperature", temperature)
        with seeded(seed):
            down, up = (nn.Linear(*sizes, bias=False) for sizes in ((width, bottleneck), (bottleneck, width)))
        self.network: nn.Module = nn.Sequential(down, nn.SiLU(), up, nn.LayerNorm(width)).to(dtype=dtype)

    def weights(self, task: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Return the weights of prompts for a task, (K,), which sum to one.

        Parameters
        ----------
        task : (width,) torch.Tensor
            From `pooled_texts`.
        prompts : (K, width) torch.Tensor
            From `pooled_prompt`, a row each.
        """
        weights: torch.Tensor = (prompts @ self.network(task) / self.temperature).softmax(dim=0)
        return weights


def pooled_prompt(prompt: torch.Tensor) -> torch.Tensor:
    """Return the largest value of each coordinate over a prompt's tokens, (width,)."""
    return prompt.amax(dim=0)


def pooled_texts(model: nn.Module, columns: Mapping[str, torch.Tensor], *, batch_size: int = 256) -> torch.Tensor:
    """Return what a task's texts look like: word embeddings, the largest over each text's tokens, the mean of texts.

    Parameters
    ----------
    model : torch.nn.Module
        Whose word embeddings are taken.
    columns : mapping of str to torch.Tensor
        ``input_ids`` and ``attention_mask``, (rows, length); tokens that are masked are left out.
    batch_size : int
        Texts at a time.

    Returns
    -------
    (width,) torch.Tensor
        Without gradients.

    Raises
    ------
    ValueError
        If there is no text, or a text has no token.
    """
    import torch

    positive_integer("batch_size", batch_size)
    ids, mask = columns["input_ids"], columns["attention_mask"].bool()
    if not len(ids) or not mask.any(dim=1).all():
        raise LolaValueError(f"texts with a token each were wanted, got {len(ids)} rows, some masked; leave these out")
    embed, parts = model.get_input_embeddings(), []  # type: ignore[operator]
    with torch.no_grad():
        for some, seen in zip(torch.split(ids, batch_size), torch.split(mask, batch_size), strict=True):
            words = embed(some).masked_fill(~seen[:, :, None], -torch.inf)
            parts.append(words.amax(dim=1).sum(dim=0))
    return torch.stack(parts).sum(dim=0) / len(ids)
