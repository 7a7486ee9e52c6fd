"""What all figures share: matplotlib, imported when one is drawn, and a file in the format that was asked for."""

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

from lola.files.formats import StrPath
from lola.solvers.checks import shown
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)
# Of what matplotlib can write, what people put into pages and papers.
FORMATS = ("png", "svg", "pdf", "eps", "jpg", "jpeg", "tif", "webp")
# Comes with matplotlib, and has a box for every letter.
_BOXES = "Last Resort"
_REGULAR = 400


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
        If it is none of `FORMATS`.
    ImportError
        If matplotlib is missing.
    """
    name = Path(path).suffix[1:].lower() or "png"
    if name not in FORMATS:
        raise LolaValueError(f"{path}: a figure must end in one of {', '.join(FORMATS)}; got {shown(name)}")
    import_figure()
    return name


def save_figure(figure: "Figure", path: StrPath) -> None:
    """Write a figure in the format that the path's ending names; PNG without one.

    Raises
    ------
    ValueError
        If matplotlib cannot write that format, or this figure in it.
    """
    name = figure_format(path)
    with io.BytesIO() as image:
        try:
            figure.savefig(image, dpi=150, format=name)
        except (ValueError, RuntimeError) as error:  # too large
            raise LolaValueError(f"{path}: matplotlib cannot write it: {error}; try png, pdf or svg") from None
        Path(path).write_bytes(image.getvalue())
    _log.info("wrote %s", path)


def lettering(texts: Sequence[str], width: int) -> tuple[list[str], list[str]]:
    """Return texts as a figure shows them, `width` letters at most, and the names of the fonts to write them in.

    Letters that matplotlib's own font lacks come from whatever font here has the most of them. What no font has is
    written as Python's escapes, as a terminal that lacks them gets it: no box stands for it.
    """
    from matplotlib.font_manager import FontProperties, fontManager

    usual = FontProperties().get_name()
    wanted = {letter for text in texts for letter in text}
    fonts, missing = [usual], wanted - _letters(fontManager.findfont(usual), wanted)
    upright = [font for font in fontManager.ttflist if font.style == "normal" and not font.name.startswith(_BOXES)]
    regular_last = sorted(upright if missing else [], key=lambda font: font.weight == _REGULAR)
    found = {name: _letters(file, missing) for name, file in {font.name: font.fname for font in regular_last}.items()}
    while any(letters & missing for letters in found.values()):
        best = max(found, key=lambda name: len(found[name] & missing))
        fonts.append(best)
        missing = missing - found[best]
    written = ["".join(ascii(letter)[1:-1] if letter in missing else letter for letter in text) for text in texts]
    return [_shortened(text, width).replace("$", r"\$") for text in written], fonts


def _shortened(text: str, width: int) -> str:
    """Cut the middle out of a text that takes more than `width` letters of a figure, wide ones counted twice."""
    if _width(text) <= width:
        return text
    head = tail = ""
    for first, last in zip(text, reversed(text), strict=True):
        if _width(head + first + last + tail) >= width:
            break
        head, tail = head + first, last + tail
    return f"{head}…{tail}"


def _width(text: str) -> int:
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _letters(file: str, wanted: set[str]) -> set[str]:
    """Return those letters that a font has; none of a font that matplotlib cannot draw, such as one of pictures."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(file)
    except (OSError, RuntimeError):
        return set()
    return {letter for letter in wanted if font.get_char_index(ord(letter))}
