"""The pages as text: their blocks, the files they show, and their tables."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CHANGELOG.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
BY_ITSELF = ("docs/deft.md",)  # a page whose Python runs in order and needs nothing of the reader's
DATA = ("csv", "toml", "json")  # blocks that are files
# What is appended to a command, so that it takes seconds; the last of two equal options counts.
SMALL = {
    "simulate": ["--rounds=10"],
    "ranks": ["--steps=2", "--batch=3", "--seq=16", "--threads=1"],
    "profile": ["--model=tiny", "--batch=1", "--seq=8", "--repeats=1", "--monotone=isotonic"],
    "train": ["--rounds=2", "--batch=3", "--seq=16", "--threads=1"],
}
# The same of commands that run beside others.
BESIDE = {
    "serve": ["--rounds=2", "--batch=3", "--seq=16", "--threads=1", "--port={port}"],
    "device": ["--threads=1", "--broker=127.0.0.1:{port}"],
}


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page):
    return re.findall(r"^```(\w*)\n(.*?)^```", text(page), flags=re.DOTALL | re.MULTILINE)


def files(page):
    """Return the files that a page shows, each after a line that names it."""
    named = re.findall(r"^`([\w.-]+)`:\n\n```(\w+)\n(.*?)^```", text(page), flags=re.DOTALL | re.MULTILINE)
    shown = {name: body for name, language, body in named if language in DATA}
    assert len(shown) == len([1 for language, _ in blocks(page) if language in DATA]), f"{page}: a file without a name"
    return shown


def tables(page):
    """Return by its first heading cell the rows of each table, without those of headings."""
    found = {}
    for table in re.findall(r"^\|.*\n\|[-:| ]+\|\n(?:\|.*\n)+", text(page), flags=re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        found.setdefault(head[0], []).append(rows)
    return found
