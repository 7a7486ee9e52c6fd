"""Reproduce the paper's figures and tables, and write RESULTS.md from the numbers that are there.

    python bench/paper/reproduce.py                # everything
    python bench/paper/reproduce.py latency        # one part; without computing anything: --tables

Each part is a module with ``run() -> dict``, kept as JSON, and ``sections(results) -> list of Markdown lines``.
"""

import argparse
import json
import time
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
PARTS = ("latency", "convergence")
HEAD = """# The paper's experiments, as lola runs them

Written by `python bench/paper/reproduce.py`; no number is edited by hand. The paper is LoLa-DEFT: H. Wu, X. Chen,
K. Huang, *Resource Management for Low-latency Cooperative Fine-tuning of Foundation Models at the Network Edge*,
section VI. Its figures are known here by what its text says of them.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all without")
    parser.add_argument("--tables", action="store_true", help="compute nothing, write RESULTS.md alone")
    options = parser.parse_args()
    for part in options.parts or PARTS:
        if part not in PARTS:
            parser.error(f"a part is one of {', '.join(PARTS)}; got {part!r}")
        if not options.tables:
            start = time.monotonic()
            results = import_module(part).run()
            (HERE / f"{part}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            print(f"{part}: {time.monotonic() - start:.0f} s", flush=True)
    (HERE / "RESULTS.md").write_text(document(), encoding="utf-8")


def document() -> str:
    """Write what the JSON files hold as Markdown."""
    lines = HEAD.splitlines()
    for part in PARTS:
        if (HERE / f"{part}.json").exists():
            lines += ["", *import_module(part).sections(json.loads((HERE / f"{part}.json").read_text()))]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
