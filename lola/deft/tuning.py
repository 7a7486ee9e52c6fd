"""Training one prompt on one device's data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lola.deft.prompted import PromptedClassifier, with_prompt
from lola.solvers.checks import positive_integer, positive_number
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch
    from torch import nn

# Prompts want rates far above those of weights: at 1e-4 they stay at the majority class for most of a run.
LEARNING_RATE = 5e-3


def train_prompt(
    classifier: PromptedClassifier,
    prompt: torch.Tensor,
    batches: Iterable[Mapping[str, torch.Tensor]],
    *,
    steps: int,
    learning_rate: float = LEARNING_RATE,
) -> tuple[torch.Tensor, float]:
    """Train a prompt by Adam, a step a batch, and with it the classifier's head where that is trained.

    Parameters
    ----------
    classifier : PromptedClassifier
        In the mode that it is in: with dropout where its model is training. Its head is changed in place.
    prompt : (tokens, width) torch.Tensor
        To begin with; left as it is.
    batches : iterable of mapping of str to torch.Tensor
        As many as steps, or more, with ``labels``.
    steps : int
    learning_rate : float
        Of prompt and head.

    Returns
    -------
    prompt : (tokens, width) torch.Tensor
        Trained, without gradients.
    loss : float
        Mean over the steps, each before its step.

    Raises
    ------
    ModelError, TypeError, ValueError
        As `with_prompt` does; if a batch has no labels, there are fewer than steps, or a number is not as described.

    Notes
    -----
    A model that was never fine-tuned sits at the majority class for long, on MRPC for several epochs: rates between
    1e-3 and 1e-2, and patience, are what helps. A head without any training must be trained with the prompt, or before.
    """
    import torch

    positive_integer("steps", steps)
    positive_number("learning_rate", learning_rate)
    trained = prompt.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([trained, *classifier.head], lr=learning_rate)
    losses: list[torch.Tensor] = []
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_with_prompt(classifier.model, trained, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.detach())
        if len(losses) == steps:
            optimizer.zero_grad(set_to_none=True)
            return trained.detach(), float(torch.stack(losses).mean())
    raise LolaValueError(f"{steps} batches were wanted, one a step, got {len(losses)}; take fewer steps, or more data")


def loss_with_prompt(model: nn.Module, prompt: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss that a model's output has on a batch with a prompt, or say that it has no labels."""
    if "labels" not in batch:
        raise LolaValueError(f"a batch to train on must have labels, got {', '.join(sorted(batch))}; add them")
    loss: torch.Tensor = with_prompt(model, prompt, batch).loss
    return loss
