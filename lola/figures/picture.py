"""What all figures share: matplotlib, imported when one is drawn, and a file in the format that was asked for."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from lola.files.formats import StrPath
from lola.solvers.checks import shown
from lola.solvers.errors import LolaValueError

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


def figure_format(path: StrPath) -> str:
    """Return the format that a path's ending names; PNG without one.

    Raises
    ------
    ValueError
        If matplotlib cannot write it.
    ImportError
        If matplotlib is missing.
    """
    import_figure()
    from matplotlib.backend_bases import FigureCanvasBase

    name, known = Path(path).suffix[1:].lower() or "png", FigureCanvasBase.get_supported_filetypes()
    if name not in known:
        raise LolaValueError(f"{path}: a figure must end in one of {', '.join(sorted(known))}; got {shown(name)}")
    return name


def save_figure(figure: "Figure", path: StrPath) -> None:
    """Write a figure in the format that the path's ending names; PNG without one.

    Raises
    ------
    ValueError
        If matplotlib cannot write that format, or this figure in it.
    """
    name = figure_format(path)
    with warnings.catch_warnings(), io.BytesIO() as image:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a name in a script the font lacks
        try:
            figure.savefig(image, dpi=150, format=name)
        except (ValueError, RuntimeError) as error:  # too large, or without the program that this format needs
            raise LolaValueError(f"{path}: matplotlib cannot write it: {error}; try png, pdf or svg") from None
        Path(path).write_bytes(image.getvalue())
