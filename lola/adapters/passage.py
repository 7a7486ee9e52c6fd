"""What a batch takes on its way through a chain: seconds and bytes of every stage and hop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lola.models.depths import Batch
from lola.profiling.memory import SavedTensors, count_saved
from lola.solvers.checks import FloatArray
from lola.solvers.errors import LolaError

if TYPE_CHECKING:
    import torch
    from torch import nn

# What of a batch others than the first client need: everybody the mask, the last one the labels.
_BESIDE = ("attention_mask", "labels")


@dataclass(frozen=True, eq=False)
class ChainPass:
    """What a batch took on its way through a chain.

    Attributes
    ----------
    loss : float
        NaN without one.
    forward_s, backward_s : (S,) float64 array
        Wall-clock seconds of each stage on this machine; backward 0 where nothing had to be computed.
    kept_bytes : (S,) float64 array
        What each stage saved for its backward, weights left out; NaN unless it was asked for.
    hop_bytes, return_bytes : tuple of int
        Of the hidden states that were sent on, and of their gradients that were sent back, at each cut. A hidden state
        that nothing before it is trained for has no gradient.
    beside_bytes : int
        Of the attention mask and the labels, which go along at every cut, in sum.
    result_bytes : int
        What the last client sends back to the first: the logits of an inference; 0 while training, or for one client.
    """

    loss: float
    forward_s: FloatArray
    backward_s: FloatArray
    kept_bytes: FloatArray
    hop_bytes: tuple[int, ...]
    return_bytes: tuple[int, ...]
    beside_bytes: int
    result_bytes: int

    @property
    def seconds(self) -> float:
        """All stages one after the other, hops left out."""
        return float(self.forward_s.sum() + self.backward_s.sum())


class ClientLostError(LolaError):
    """A client dropped out in the middle of a batch.

    Attributes
    ----------
    client : int
    passed : ChainPass
        What the batch had taken until then.
    """

    def __init__(self, client: int, passed: ChainPass) -> None:
        super().__init__(f"client {client} dropped out in the middle of a batch; plan anew without it")
        self.client, self.passed = client, passed

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.client, self.passed)


class Passage:
    """What is noted of a batch on its way."""

    def __init__(self, n_stages: int, batch: Batch, *, on_cuda: bool) -> None:
        self.loss, self.result_bytes = float("nan"), 0
        self.hops: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.hop_bytes: list[int] = []
        self.return_bytes = [0] * (n_stages - 1)
        self.forward_s: list[float] = []
        self.backward_s = [0.0] * n_stages
        self._beside = sum(bytes_of(batch[name]) for name in _BESIDE if name in batch) * (n_stages - 1)
        self._on_cuda = on_cuda
        self._began = 0.0
        self._saved: SavedTensors | None = None
        self._saved_bytes: list[float] = [0.0]

    @contextmanager
    def counting(self, model: nn.Module) -> Iterator[None]:
        """Count what is saved for backward, while this lasts."""
        with count_saved(model) as self._saved:
            yield

    def begin(self) -> None:
        """Let a stage begin."""
        self._began = self._now()

    def elapsed_s(self) -> float:
        """Return the seconds since the stage began."""
        return self._now() - self._began

    def end_forward(self) -> None:
        """Let a stage's forward pass end."""
        self.forward_s.append(self.elapsed_s())
        self._saved_bytes.append(float("nan") if self._saved is None else self._saved.bytes)

    def cross(self, hidden: torch.Tensor) -> torch.Tensor:
        """Send a hidden state to the next client: it gets the values, and nothing of what they were computed from."""
        self.end_forward()
        received = hidden.detach().clone().requires_grad_(hidden.requires_grad)
        self.hops.append((hidden, received))
        self.hop_bytes.append(bytes_of(hidden))
        self.begin()
        return received

    def passed(self) -> ChainPass:
        """Return what was noted until now."""
        return ChainPass(
            loss=self.loss,
            forward_s=np.array(self.forward_s),
            backward_s=np.array(self.backward_s),
            kept_bytes=np.diff(self._saved_bytes),
            hop_bytes=tuple(self.hop_bytes),
            return_bytes=tuple(self.return_bytes),
            beside_bytes=self._beside,
            result_bytes=self.result_bytes,
        )

    def _now(self) -> float:
        if self._on_cuda:
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()


def bytes_of(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor's values."""
    return tensor.numel() * tensor.element_size()
