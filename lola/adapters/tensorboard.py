"""A log of every round for TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lola.adapters.record import Record


@contextmanager
def tensorboard_log(folder: Path | None, version: int) -> Iterator[Callable[[Record], None]]:
    """Give a function that notes a round in ``folder/tensorboard``, or for nobody without a folder or TensorBoard."""
    if folder is None or find_spec("tensorboard") is None:
        yield lambda record: None
        return
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=version + 1)

    def note(record: Record) -> None:
        values = {name: getattr(record, name) for name in record.LOGGED}
        for name, value in (values | getattr(record, "numbers", {}) | record.scores).items():
            writer.add_scalar(name, value, record.version)

    try:
        yield note
    finally:
        writer.close()
