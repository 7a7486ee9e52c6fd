"""What a session trains: the seam between its rounds and a model."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class Tunables(Protocol):
    """A model and what is trained in it, or beside it; `lola.models.Depths` is one."""

    @property
    def model(self) -> nn.Module:
        """What is evaluated. All of it that is not trained must be the same where a run goes on."""
        ...

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held while the model is at work."""
        ...

    def all_parameters(self) -> list[nn.Parameter]:
        """Return what is trained: what the optimizer is made over."""
        ...

    def all_named_parameters(self) -> dict[str, nn.Parameter]:
        """Return what a checkpoint keeps, by names that are the same where a run goes on: all that is trained."""
        ...


@dataclass(frozen=True, eq=False)
class Trained:
    """A model and some parameters, which are trained and keep their names; they may be the model's own or not.

    Attributes
    ----------
    model : torch.nn.Module
    named : dict of str to torch.nn.Parameter
    lock : threading.RLock
    """

    model: nn.Module
    named: dict[str, nn.Parameter]
    lock: AbstractContextManager[Any] = field(default_factory=threading.RLock, repr=False)

    def all_parameters(self) -> list[nn.Parameter]:
        """Return the parameters."""
        return list(self.named.values())

    def all_named_parameters(self) -> dict[str, nn.Parameter]:
        """Return them by name."""
        return dict(self.named)
