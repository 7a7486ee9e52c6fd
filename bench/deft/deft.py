"""What the DEFT article shows, as lola gets it: writes a JSON file for each part, plots and RESULTS.md.

    python bench/deft/deft.py --glue FOLDER --model FOLDER              # about an hour on one core
    python bench/deft/deft.py one-device                                # seconds; needs no data
    python bench/deft/deft.py many-devices --glue FOLDER --model FOLDER # or any other part
    python bench/deft/deft.py --page                                    # the page and plots alone

A part's file is written after every run, and runs that it has for the same settings are not made again: a command that
was stopped goes on, and more seeds only add runs. GLUE is a folder with tasks of GLUE, MODEL one with all-MiniLM-L6-v2.
Needs lola-deft[plot,train].
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[1] / "paper"))

import part_file

HERE = Path(__file__).resolve().parent
# Each part with the module whose `run` measures it, and the options that are its arguments.
PARTS = {
    "one-device": ("one_device", ()),
    "many-devices": ("fused_prompts", ("model", "glue")),
    "ranks": ("rank_budgets", ("model", "glue")),
    "emulator": ("kept_blocks", ("model", "glue")),
    "boosting": ("boosted_prompts", ("model", "glue")),
}
RUNS_OF_A_SEED = {"many-devices": 3, "ranks": 3, "emulator": 5, "boosting": 3}  # of each task


def read_results(folder: Path = HERE) -> dict[str, Any]:
    """Return what was measured, by part, of seeds with all their runs; without parts that have none."""
    files = {part: folder / f"{part}.json" for part in PARTS}
    results = {part: json.loads(file.read_text(encoding="utf-8")) for part, file in files.items() if file.exists()}
    for part in results.keys() & RUNS_OF_A_SEED.keys():
        results[part] = part_file.whole_seeds(results[part], RUNS_OF_A_SEED[part])
    return {part: record for part, record in results.items() if record.get("runs", True)}


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
        import torch

        torch.set_num_threads(1)
        file, (module, needs) = HERE / f"{part}.json", PARTS[part]
        measure = import_module(module).run
        if needs:
            record = measure(file, *(getattr(options, need) for need in needs))
            print(f"{part}: {record['seconds']:.0f} s of the processor in all", flush=True)
        else:
            record = measure() | part_file.where()
        part_file.write(file, record)
    import deft_page

    deft_page.write(read_results())


if __name__ == "__main__":
    main()
