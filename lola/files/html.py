"""Results as tables for a notebook."""

from collections.abc import Mapping, Sequence
from html import escape


def html_table(caption: str, rows: Sequence[Mapping[str, object]]) -> str:
    """Lay out rows of the same keys under a caption; whatever they say is shown, and never obeyed."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    lines = ("".join(f"<td>{escape(_short(value))}</td>" for value in row.values()) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
