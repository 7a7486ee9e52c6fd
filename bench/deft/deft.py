"""What the DEFT article shows, as lola gets it: writes a JSON file for each part, plots and RESULTS.md.

    python bench/deft/deft.py --glue FOLDER --model FOLDER              # an hour and a half on one core
    python bench/deft/deft.py one-device                                # seconds; needs no data
    python bench/deft/deft.py many-devices --glue FOLDER --model FOLDER # or any other part
    python bench/deft/deft.py --page                                    # the page and plots alone

GLUE is a folder with tasks of GLUE, MODEL one with all-MiniLM-L6-v2. Needs lola-deft[plot,train].
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from report import machine

from lola.files.formats import write_atomically

HERE = Path(__file__).resolve().parent
# Each part with the module whose `run` measures it, and the options that are its arguments.
PARTS = {
    "one-device": ("one_device", ()),
    "many-devices": ("fused_prompts", ("model", "glue")),
    "ranks": ("rank_budgets", ("model", "glue")),
    "emulator": ("kept_blocks", ("model", "glue")),
    "boosting": ("boosted_prompts", ("model", "glue")),
}
PACKAGES = ("lola-deft", "torch", "transformers", "peft", "numpy")


def read_results() -> dict[str, Any]:
    """Return what was measured, by part; a part whose file is not there has not been."""
    files = {part: HERE / f"{part}.json" for part in PARTS}
    return {part: json.loads(file.read_text(encoding="utf-8")) for part, file in files.items() if file.exists()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all without")
    parser.add_argument("--glue", help="for training: a folder with tasks of GLUE")
    parser.add_argument("--model", help="for training: a folder with all-MiniLM-L6-v2")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page from the JSON files")
    options = parser.parse_args()
    parts = [] if options.page else options.parts or list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"a part is one of {', '.join(PARTS)}; got {unknown[0]!r}")
    if lacking := [f"{part} needs --{need}" for part in parts for need in PARTS[part][1] if not getattr(options, need)]:
        parser.error(f"{lacking[0]}; give it, or name other parts")
    for part in parts:
        begun = time.process_time()
        import torch

        torch.set_num_threads(1)
        module, needs = PARTS[part]
        measured = import_module(module).run(*(getattr(options, need) for need in needs))
        where = {
            "machine": machine(),
            "versions": {name: version(name) for name in PACKAGES},
            "date": time.strftime("%Y-%m-%d"),
            "seconds": time.process_time() - begun,
        }
        write_atomically(HERE / f"{part}.json", json.dumps(measured | where, indent=1) + "\n")
        print(f"{part}: {where['seconds']:.0f} s of the processor", flush=True)
    import deft_page

    deft_page.write(read_results())


if __name__ == "__main__":
    main()
