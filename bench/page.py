"""Pages whose prose is in templates/: code fills in numbers, and chooses or withholds what judges them.

A template is a Markdown file in parts, each under a line ``<!-- name -->``. Where a verdict may turn, each side of it
has a part or a word of its own, chosen from the data; a sentence without such a contrary is claimed, so that a page
that would no longer be true is not written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Formatter

TEMPLATES = Path(__file__).resolve().parent / "templates"


class Template:
    """The parts of ``templates/NAME.md``; called with a part's name and exactly its fields, it fills the part."""

    def __init__(self, name: str):
        _, *pieces = re.split(r"^<!-- (.*) -->\n", (TEMPLATES / f"{name}.md").read_text(encoding="utf-8"), flags=re.M)
        self.parts = dict(zip(pieces[::2], map(str.strip, pieces[1::2]), strict=True))

    def __call__(self, part: str, /, **fields: object) -> str:
        text = self.parts[part]
        wanted = {re.split(r"[.\[]", name)[0] for _, name, _, _ in Formatter().parse(text) if name is not None}
        if wanted != set(fields):
            raise ValueError(
                f"part {part!r} of a template must be given its fields, {sorted(wanted)}; got {sorted(fields)}: mend "
                "the template or the code that fills it"
            )
        return text.format(**fields)


def claim(true: bool, sentence: str) -> None:
    """Refuse to write a page on which a sentence no longer follows from the numbers."""
    if not true:
        raise ValueError(
            f"the page says that {sentence}, and what was measured says otherwise: look at the numbers, then mend the "
            "template and the claim"
        )


def write_page(path: Path, blocks: list[str]) -> None:
    """Write blocks of Markdown with a blank line between them."""
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def rows(cells: Iterable[Sequence[str]]) -> str:
    """Return rows of a Markdown table, below whatever head the template gives it."""
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in cells)
