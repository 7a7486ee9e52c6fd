"""Reproduce the paper's figures and tables, and write RESULTS.md from the numbers that are there.

    python bench/paper/reproduce.py --encoder FOLDER --data FOLDER    # everything: about an hour on two cores
    python bench/paper/reproduce.py latency                           # Figs. 4, 5, 6 and 8: minutes
    python bench/paper/reproduce.py --tables                          # RESULTS.md alone

ENCODER is a folder with all-MiniLM-L6-v2, DATA one with the tasks of GLUE. Needs lola-deft[plot,train].
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import convergence
import convergence_page
import latency
import latency_page
from page import Template, write_page

HERE = Path(__file__).parent
PARTS = ("latency", "convergence")
say = Template("paper")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all without")
    parser.add_argument("--encoder", help="for convergence: a folder with all-MiniLM-L6-v2")
    parser.add_argument("--data", help="for convergence: a folder with the tasks of GLUE")
    parser.add_argument("--tables", action="store_true", help="compute nothing, write RESULTS.md alone")
    options = parser.parse_args()
    parts = [] if options.tables else options.parts or PARTS
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"a part is one of {', '.join(PARTS)}; got {unknown[0]!r}")
    if "convergence" in parts and not (options.encoder and options.data):
        parser.error("convergence needs --encoder and --data; or name the part latency alone")
    start = time.monotonic()
    if "latency" in parts:
        text = json.dumps(latency.run(), indent=1) + "\n"
        (HERE / "latency.json").write_text(text, encoding="utf-8")
    if "convergence" in parts:
        convergence_page.draw(convergence.run(options.encoder, options.data))
    print(f"{time.monotonic() - start:.0f} s")
    write_page(HERE / "RESULTS.md", blocks())


def blocks() -> list[str]:
    """Return what the JSON files hold as blocks of Markdown."""
    parts = [say("head", near=latency_page.NEAR)]
    for part, page in (("latency", latency_page), ("convergence", convergence_page)):
        if (HERE / f"{part}.json").exists():
            parts += page.blocks(json.loads((HERE / f"{part}.json").read_text()))
    return parts


if __name__ == "__main__":
    main()
