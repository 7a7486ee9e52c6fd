"""What models are run on, and what is said of inputs that are not theirs."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lola.models.errors import ModelError
from lola.solvers.errors import LolaError, LolaTypeError

if TYPE_CHECKING:
    import torch
    from torch import nn


@contextmanager
def evaluating(model: "nn.Module") -> Iterator[None]:
    """Have a model in eval mode while this lasts, and then each of its modules in the mode that it was in."""
    # Parts of a model may be in other modes than the whole, such as what was loaded to be evaluated and is trained.
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def running(model: Any, batch: Mapping[str, "torch.Tensor"]) -> Iterator[None]:
    """Say of a model that fails on a batch which one, on what, and what would do.

    Raises
    ------
    ModelError
        If what is run raises what models say of inputs that are not theirs.
    """
    try:
        yield
    except LolaError:
        raise
    except (IndexError, TypeError, ValueError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot be run on {', '.join(batch)}: {error}. {_mend(model, batch)}"
        ) from error


def _mend(model: Any, batch: Mapping[str, "torch.Tensor"]) -> str:
    """Name the classes that a classifier has where a label is none of them."""
    n_labels = getattr(getattr(model, "config", None), "num_labels", None)
    labels = batch.get("labels")
    if isinstance(n_labels, int) and labels is not None and labels.dim() == 1 and not labels.is_floating_point():
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= n_labels:
            return (
                f"It has {n_labels} classes, labels 0 to {n_labels - 1}, and got labels from {least} to {most}; load "
                f"it with num_labels={most + 1}, or mend the labels"
            )
    return "Give it a batch of its own inputs"


def expect_tensors(name: str, columns: Mapping[str, object]) -> None:
    """Refuse columns of a table, or of a batch, that are no tensors.

    Raises
    ------
    TypeError
        Naming the first.
    """
    import torch

    for key, column in columns.items():
        if not isinstance(column, torch.Tensor):
            raise LolaTypeError(
                f"{name} must be tensors, got {type(column).__name__} for {key}; give torch.tensor(…) of it"
            )


def expect_batch(batch: object) -> None:
    """Refuse what is no batch.

    Raises
    ------
    TypeError
        If it is no mapping, or a column is no tensor.
    """
    if not isinstance(batch, Mapping):
        raise LolaTypeError(
            f"a batch must be a mapping of names to tensors, got {type(batch).__name__}; name its columns"
        )
    expect_tensors("a batch's columns", batch)


def expect_batches(batches: object) -> None:
    """Refuse one batch where several are wanted.

    Raises
    ------
    TypeError
        If it is a mapping, or cannot be iterated over.
    """
    if isinstance(batches, Mapping) or not isinstance(batches, Iterable):
        raise LolaTypeError(
            "batches must be a list of batches, each a mapping of names to tensors, got "
            f"{'one batch' if isinstance(batches, Mapping) else type(batches).__name__}; give [batch]"
        )
