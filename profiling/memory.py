"""Counting tensors: what backward keeps, and the largest sum of live ones. Works on real and on fake tensors."""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def weight_bytes(model: "nn.Module") -> int:
    """Return the bytes of parameters and buffers, each storage once."""
    return total_bytes(_weights(model))


def total_bytes(tensors: "Iterable[torch.Tensor]") -> int:
    """Return the bytes of tensors, each storage once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


def _weights(model: "nn.Module") -> "list[torch.Tensor]":
    return [*model.parameters(), *model.buffers()]


class SavedTensors:
    """How many bytes the forward pass saved for backward."""

    def __init__(self) -> None:
        self.bytes = 0


@contextmanager
def count_saved(model: "nn.Module") -> "Iterator[SavedTensors]":
    """Count what the forward pass saves within the context: each storage once, weights left out.

    Notes
    -----
    The storages stay alive until backward frees them, so their addresses are unique as long as backward runs outside.
    """
    import torch

    seen = {tensor.untyped_storage()._cdata for tensor in _weights(model)}
    saved = SavedTensors()

    def pack(tensor: "torch.Tensor") -> "torch.Tensor":
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            saved.bytes += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


@contextmanager
def track_peak(granularity_bytes: int = 1, counter: "PeakCounter | None" = None) -> "Iterator[PeakCounter]":
    """Count the storages that operators create and that are alive at once.

    Parameters
    ----------
    granularity_bytes : int
        Each storage is rounded up to a multiple of this, as allocators do; CUDA's is 512.
    counter : PeakCounter, optional
        One to go on with.

    Notes
    -----
    What a kernel allocates within itself is not seen. What was alive before the context is not counted.
    """
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    tracked = PeakCounter(granularity_bytes) if counter is None else counter

    class Tracker(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            for leaf in tree_leaves((args, kwargs)):
                tracked.know(leaf)
            result = func(*args, **(kwargs or {}))
            for leaf in tree_leaves(result):
                tracked.see(leaf)
            return result

    with Tracker():
        yield tracked


class PeakCounter:
    """Live and peak bytes of the storages that it was shown."""

    def __init__(self, granularity_bytes: int) -> None:
        self.bytes = self.peak_bytes = 0
        self._granularity = granularity_bytes
        self._alive: dict[int, weakref.ref[Any]] = {}

    def know(self, leaf: object) -> None:
        """Remember a storage that was there before, without counting it."""
        self._add(leaf, counted=False)

    def see(self, leaf: object) -> None:
        """Count a storage that an operator returned, unless it is known."""
        self._add(leaf, counted=True)

    def _add(self, leaf: object, *, counted: bool) -> None:
        import torch

        if not isinstance(leaf, torch.Tensor):
            return
        storage = leaf.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        size = -(-storage.nbytes() // self._granularity) * self._granularity if counted else 0

        def forget(_: object) -> None:
            self._alive.pop(key, None)
            self.bytes -= size

        self._alive[key] = weakref.ref(storage, forget)
        self.bytes += size
        self.peak_bytes = max(self.peak_bytes, self.bytes)
