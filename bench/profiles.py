"""Measure every shipped profile again, and write the figures and the table of estimate against measurement.

    python bench/profiles.py            # measures, on an otherwise idle machine: about half an hour on two cores
    python bench/profiles.py --tables   # only the figures, the table and the stages, from the profiles that are there
    python bench/profiles.py --extras   # what one more block costs, added to the profiles that are there: ten minutes

Needs lola-deft[plot,torch]. On CUDA: bench/gpu_profile.sh.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import profiles_page
from costs import alone_parts, frozen_roberta
from page import write_page

import lola
from lola.figures.picture import save_figure
from lola.figures.profile import draw_alone, draw_profile
from lola.profiling import (
    REFERENCES,
    Grid,
    Workload,
    alone,
    bring_to_reference,
    estimate,
    estimate_stages,
    measure,
    measure_extras,
)

ROOT = Path(__file__).resolve().parents[1]
PROFILES = ROOT / "lola" / "data" / "profiles"
# Batches of ViT and GPT-2 are what two cores can repeat.
WORKLOADS = {
    "roberta-base": frozen_roberta(),
    "vit-b-16": Workload("vit-b-16", batch_size=8),
    "gpt2": Workload("gpt2", batch_size=4, sequence_length=128),
}
GRID, ELSEWHERE = ((2, 32), (4, 32), (2, 64), (4, 64)), (8, 128)
SCENARIO = "roberta-base-snapdragon-8-gen-3"
AGAIN = ROOT / "bench" / "roberta-base-again.json"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    parser.add_argument("--extras", action="store_true", help="measure only what one more block costs")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--limit-s", type=float, default=400.0)
    parser.add_argument("--again", action="store_true", help="measure RoBERTa a second time, to compare")
    options = parser.parse_args()
    if options.extras:
        for name, workload in WORKLOADS.items():
            measure_extras_of(PROFILES / f"{name}.json", workload, options.threads, options.limit_s)
        for batch, length in (*GRID, ELSEWHERE):
            workload = Workload("minilm-l6", batch_size=batch, sequence_length=length)
            measure_extras_of(grid_path((batch, length)), workload, options.threads, 30.0)
    elif not options.tables:
        for name, workload in WORKLOADS.items():
            start = time.monotonic()
            profile = measured(workload, options)
            lola.save_profile(profile, PROFILES / f"{name}.json")
            print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
        measure_grid(options.threads)
        if options.again:
            profile = measured(WORKLOADS["roberta-base"], options)
            lola.save_profile(profile, AGAIN)
    write_tables()


def measured(workload, options):
    """Measure; where noise makes a median fall, the profile is made to rise, says so, and keeps the medians."""
    return measure(workload, threads=options.threads, limit_s=options.limit_s, exact=True, monotone="isotonic")


def measure_extras_of(path, workload, threads, limit_s):
    start = time.monotonic()
    lola.save_profile(measure_extras(lola.load_profile(path), workload, threads=threads, limit_s=limit_s), path)
    print(f"{path.stem}, one more block: {time.monotonic() - start:.0f} s", flush=True)


def write_tables():
    roberta, again = (lola.load_profile(path) for path in (PROFILES / "roberta-base.json", AGAIN))
    counted = {name: estimate(workload) for name, workload in WORKLOADS.items()}
    scaled = bring_to_reference(roberta, WORKLOADS["roberta-base"])
    lola.save_profile(scaled, PROFILES / f"{SCENARIO}.json")
    save_figure(draw_profile(roberta), ROOT / "docs" / "profile.png")
    needs = {dtype: memory_needs(dtype) for dtype in ("float16", "float32")}
    parts, cooperating = needs["float16"]  # Fig. 4(b), as the paper has it
    save_figure(draw_alone(cooperating, parts), ROOT / "docs" / "alone.png")
    models = [
        profiles_page.model(name, lola.load_profile(PROFILES / f"{name}.json"), counted[name]) for name in WORKLOADS
    ]
    blocks = [
        profiles_page.head(),
        *models,
        profiles_page.again(roberta, again),
        profiles_page.alone(needs),
        grid(),
        profiles_page.reference(REFERENCES["snapdragon-8-gen-3"], scaled, counted["roberta-base"]),
    ]
    write_page(ROOT / "bench" / "PROFILES.md", blocks)
    lola.save_stages(estimate_stages(WORKLOADS["roberta-base"]), ROOT / "lola" / "data" / "roberta-base-stages.json")


def memory_needs(dtype):
    """What one device alone needs, in parts, and the profile of cooperating ones, counted the same way."""
    workload = frozen_roberta(dtype)
    return alone_parts(alone(workload, allocator="cuda")), estimate(workload, allocator="cuda")


def measure_grid(threads):
    for batch, length in (*GRID, ELSEWHERE):
        workload = Workload("minilm-l6", batch_size=batch, sequence_length=length)
        profile = measure(workload, threads=threads, limit_s=30.0, exact=True, monotone="isotonic")
        lola.save_profile(profile, grid_path((batch, length)))


def grid():
    profiles = [lola.load_profile(path) for path in map(grid_path, (*GRID, ELSEWHERE))]
    counted = [estimate(Workload("minilm-l6", batch_size=b, sequence_length=s)) for b, s in (*GRID, ELSEWHERE)]
    return profiles_page.grid(
        GRID, Grid.fit(profiles[:-1]), profiles[-1], ELSEWHERE, Grid.fit(counted[:-1]), counted[-1]
    )


def grid_path(shape):
    batch, length = shape
    return ROOT / "bench" / "grid" / f"minilm-l6-{batch}x{length}.json"


if __name__ == "__main__":
    main()
