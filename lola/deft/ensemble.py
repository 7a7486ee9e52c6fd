"""Several prompts whose answers count together, and how useful each of them is."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lola.deft.prompted import PromptedClassifier, expect_prompts
from lola.solvers.checks import IntArray, positive_integer
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, eq=False)
class Effectiveness:
    """How an ensemble does on somebody's data.

    Attributes
    ----------
    rows, wrong : int
        Texts, and those of them that the ensemble answers wrongly.
    wrong_without : (P,) int64 array
        Wrong answers if a prompt were left out; of an ensemble of one, all.
    """

    rows: int
    wrong: int
    wrong_without: IntArray

    @property
    def score(self) -> float:
        """The share of right answers: the local-effectiveness score."""
        return (self.rows - self.wrong) / self.rows  # 93 of 100 are 0.93 exactly, 1 − 7/100 are less


class PromptEnsemble:
    """Prompts for one frozen classifier; what they answer together is the mean of each class's probability.

    Parameters
    ----------
    classifier : PromptedClassifier
        With a frozen head: prompts of several devices cannot have a head each.
    prompts : sequence of (tokens, width) torch.Tensor
        To begin with, of one shape; at least one.
    limit : int
        The most prompts.

    Attributes
    ----------
    prompts : list of torch.nn.Parameter
        In the order in which they came. Each stays as it is.
    lock : threading.RLock
        Held while the classifier is at work.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    The article on DEFT, section 5.2, lets a generative model fill in the blanks of reasoning paths with the prompts of
    an ensemble; here, prompts are a classifier's.

    Examples
    --------
    >>> import torch, transformers, lola
    >>> sizes = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    >>> model = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, intermediate_size=4))
    >>> prompts = [lola.deft.draw_prompt(model, tokens=2, seed=seed) for seed in range(3)]
    >>> ensemble = lola.deft.PromptEnsemble(lola.deft.PromptedClassifier(model, train_head=False), prompts, limit=3)
    >>> columns = {"input_ids": torch.tensor([[1, 2, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
    >>> ensemble.predict(columns).shape
    (1,)
    """

    def __init__(self, classifier: PromptedClassifier, prompts: Sequence[torch.Tensor], *, limit: int) -> None:
        if classifier.head:
            raise LolaValueError(
                "the prompts of an ensemble share a head, which must be trained before; got a classifier that trains "
                "its own; make it with train_head=False"
            )
        positive_integer("limit", limit)
        if not 1 <= len(prompts) <= limit:
            raise LolaValueError(f"an ensemble must begin with 1…{limit} prompts, its limit, got {len(prompts)}")
        shapes = {tuple(prompt.shape) for prompt in prompts}
        if len(shapes) > 1:
            raise LolaValueError(f"an ensemble's prompts must have one shape, got {sorted(shapes)}; cut the longer")
        expect_prompts(classifier.model, prompts)
        self.classifier, self.limit, self.lock = classifier, limit, threading.RLock()
        self.prompts = [_kept(prompt) for prompt in prompts]

    def __repr__(self) -> str:
        shape = tuple(self.prompts[0].shape)
        return f"<PromptEnsemble of {len(self.prompts)} prompts of shape {shape}, {self.limit} at most>"

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def model(self) -> nn.Module:
        """The classifier's model, all of it frozen."""
        return self.classifier.model

    def all_parameters(self) -> list[nn.Parameter]:
        """Return the prompts."""
        return list(self.prompts)

    def all_named_parameters(self) -> dict[str, nn.Parameter]:
        """Return the prompts by name, ``prompt.0`` the oldest."""
        return {f"prompt.{place}": prompt for place, prompt in enumerate(self.prompts)}

    def predict(self, columns: Mapping[str, torch.Tensor], *, batch_size: int = 64) -> IntArray:
        """Return the class of each row that is likeliest on average over the prompts, (rows,) int64."""
        each = (self.classifier.probabilities(prompt, columns, batch_size=batch_size) for prompt in self.prompts)
        return np.asarray(sum(each).argmax(dim=1).cpu().numpy())  # type: ignore[union-attr]

    def add(self, prompts: Sequence[torch.Tensor], least_useful: Sequence[int]) -> int:
        """Take prompts in, in place of the least useful ones where there would be too many.

        Parameters
        ----------
        prompts : sequence of (tokens, width) torch.Tensor
        least_useful : sequence of int
            Which of those that are there may go, the first first.

        Returns
        -------
        int
            How many of them are in: of new ones, no more than the limit.
        """
        leaving = {*least_useful[: max(len(self) + len(prompts) - self.limit, 0)]}
        kept = [prompt for place, prompt in enumerate(self.prompts) if place not in leaving]
        new = [_kept(prompt) for prompt in prompts[: self.limit - len(kept)]]
        self.prompts = kept + new
        return len(new)

    def grow(self, count: int) -> None:
        """Make room for so many prompts in all, to be filled from a checkpoint.

        Raises
        ------
        ValueError
            If there are more already, or the limit is lower.
        """
        if not len(self) <= positive_integer("count", count) <= self.limit:
            raise LolaValueError(f"an ensemble of {len(self)}…{self.limit} prompts was wanted, got one of {count}")
        self.prompts += [_kept(self.prompts[0]) for _ in range(count - len(self))]


def _kept(prompt: torch.Tensor) -> nn.Parameter:
    """Copy a prompt, so that whoever gave it may go on with it."""
    import torch

    return torch.nn.Parameter(prompt.detach().clone(), requires_grad=False)


def effectiveness(probabilities: Sequence[torch.Tensor], labels: torch.Tensor) -> Effectiveness:
    """Say how the prompts of an ensemble do together, and without each of them.

    Parameters
    ----------
    probabilities : sequence of (rows, classes) torch.Tensor
        From `PromptedClassifier.probabilities`, a prompt each.
    labels : (rows,) torch.Tensor

    Returns
    -------
    Effectiveness
    """
    import torch

    each = torch.stack(list(probabilities))
    together = each.sum(dim=0)

    def wrong(summed: torch.Tensor) -> torch.Tensor:
        return (summed.argmax(dim=-1) != labels).sum(dim=-1)

    rows = len(labels)
    without = wrong(together - each) if len(each) > 1 else torch.tensor([rows])
    return Effectiveness(rows, int(wrong(together)), np.asarray(without.cpu().numpy()))
