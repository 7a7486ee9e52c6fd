"""What the GaisNet paper shows, as lola gets it: writes results.json, plots and RESULTS.md.

    python bench/gaisnet/gaisnet.py --fleet FILE --glue FOLDER --model FOLDER   # a quarter of an hour on one core
    python bench/gaisnet/gaisnet.py horizon                                     # seconds; needs no data
    python bench/gaisnet/gaisnet.py splits --fleet FILE                         # a minute or two
    python bench/gaisnet/gaisnet.py --page                                      # the page and plots alone

FILE is a fleet of phones, such as phones_333.csv; GLUE a folder with SST-2 and MNLI, MODEL one with all-MiniLM-L6-v2.
Needs lola-deft[plot,train].
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[1] / "paper"))

from report import machine

from lola.files.formats import write_atomically

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
NEEDS = {
    "horizon": (),
    "splits": ("fleet",),
    "pretraining": ("model", "glue"),
    "classes": ("model", "glue"),
    "clusters-sst2": ("model", "glue"),
    "clusters-mnli": ("model", "glue"),
}


def sections() -> dict[str, Callable[..., Any]]:
    """Return what measures each part; the options that it needs are its arguments."""
    import edge_training
    import phone_splits
    import service_rounds

    return {
        "horizon": service_rounds.run,
        "splits": phone_splits.run,
        "pretraining": edge_training.pretraining,
        "classes": edge_training.classes_seen,
        "clusters-sst2": lambda *folders: edge_training.clusters(*folders, "sst2"),
        "clusters-mnli": lambda *folders: edge_training.clusters(*folders, "mnli"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(NEEDS)}; all without")
    parser.add_argument("--fleet", help="for splits: a CSV of phones")
    parser.add_argument("--glue", help="for training: a folder with tasks of GLUE")
    parser.add_argument("--model", help="for training: a folder with all-MiniLM-L6-v2")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page from results.json")
    options = parser.parse_args()
    parts = [] if options.page else options.parts or list(NEEDS)
    if unknown := [part for part in parts if part not in NEEDS]:
        parser.error(f"a part is one of {', '.join(NEEDS)}; got {unknown[0]!r}")
    if lacking := [f"{part} needs --{need}" for part in parts for need in NEEDS[part] if not getattr(options, need)]:
        parser.error(f"{lacking[0]}; give it, or name other parts")
    for part in parts:
        begun = time.process_time()
        import torch

        torch.set_num_threads(1)
        measured = sections()[part](*(getattr(options, need) for need in NEEDS[part]))
        where = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "seconds": time.process_time() - begun}
        # Read again: another part may have been measured meanwhile.
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        write_atomically(RESULTS, json.dumps(results | {part: measured | where}, indent=1) + "\n")
        print(f"{part}: {where['seconds']:.0f} s of the processor", flush=True)
    import gaisnet_page

    gaisnet_page.write(json.loads(RESULTS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
