"""What all figures share: matplotlib, imported when one is drawn, and a file in the format that was asked for."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from lola.files.formats import StrPath

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def import_figure() -> "type[Figure]":
    """Return matplotlib's figure class.

    Raises
    ------
    ImportError
        If matplotlib is missing; it names the extra to install.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "figures need matplotlib: install lola-deft with its extra 'plot', or matplotlib itself"
        ) from None
    return Figure


def save_figure(figure: "Figure", path: StrPath) -> None:
    """Write a figure in the format that the path's ending names; PNG without one.

    Raises
    ------
    ValueError
        If matplotlib cannot write that format.
    """
    with warnings.catch_warnings(), io.BytesIO() as image:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a name in a script the font lacks
        figure.savefig(image, dpi=150, format=Path(path).suffix[1:] or "png")
        Path(path).write_bytes(image.getvalue())
