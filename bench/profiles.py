"""Measure every shipped profile again, and write the figures and the table of estimate against measurement.

    python bench/profiles.py            # measures, on an otherwise idle machine: about half an hour on two cores
    python bench/profiles.py --tables   # only the figures and the table, from the profiles that are there

Needs lola-deft[plot,torch]. On CUDA: bench/gpu_profile.sh.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

import lola
from lola.figures.picture import save_figure
from lola.figures.profile import draw_alone, draw_profile
from lola.profiling import REFERENCES, Grid, Workload, alone, bring_to_reference, estimate, judge, measure

ROOT = Path(__file__).resolve().parents[1]
PROFILES = ROOT / "lola" / "data" / "profiles"
# The paper uploads adapters alone, so RoBERTa's head is frozen. Batches of ViT and GPT-2 are what two cores can repeat.
WORKLOADS = {
    "roberta-base": Workload("roberta-base", batch_size=32, sequence_length=128, head="frozen"),
    "vit-b-16": Workload("vit-b-16", batch_size=8),
    "gpt2": Workload("gpt2", batch_size=4, sequence_length=128),
}
GRID, ELSEWHERE = ((2, 32), (4, 32), (2, 64), (4, 64)), (8, 128)
SCENARIO = "roberta-base-snapdragon-8-gen-3"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--limit-s", type=float, default=400.0)
    parser.add_argument("--again", action="store_true", help="measure RoBERTa a second time, to compare")
    options = parser.parse_args()
    if not options.tables:
        for name, workload in WORKLOADS.items():
            start = time.monotonic()
            profile = measured(workload, options)
            lola.save_profile(profile, PROFILES / f"{name}.json")
            print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
        measure_grid(options.threads)
        if options.again:
            profile = measured(WORKLOADS["roberta-base"], options)
            lola.save_profile(profile, ROOT / "bench" / "roberta-base-again.json")
    write_tables()


def measured(workload, options):
    """Measure; where noise makes a median fall, the profile is made to rise, says so, and keeps the medians."""
    return measure(workload, threads=options.threads, limit_s=options.limit_s, monotone="isotonic")


def write_tables():
    roberta = lola.load_profile(PROFILES / "roberta-base.json")
    lola.save_profile(bring_to_reference(roberta, WORKLOADS["roberta-base"]), PROFILES / f"{SCENARIO}.json")
    save_figure(draw_profile(roberta), ROOT / "docs" / "profile.png")
    lines = HEAD.splitlines()
    for name, workload in WORKLOADS.items():
        lines += section(name, lola.load_profile(PROFILES / f"{name}.json"), estimate(workload))
    lines += again() + memory_alone() + grid() + reference()
    (ROOT / "bench" / "PROFILES.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


HEAD = """# Profiles: estimate against measurement

Written by `python bench/profiles.py`; do not edit. *Saved* are the tensors that the forward pass saves for backward,
each storage once, without weights; *peak* is the largest sum of live tensors in an iteration, without weights."""


def section(name, measured, estimated):
    verdict, ours, theirs = judge(measured), measured.evidence, estimated.evidence
    off = 100 * np.abs(theirs.saved_bytes / ours.saved_bytes - 1).max()
    off_peak = 100 * np.abs(theirs.peak_bytes / ours.peak_bytes - 1).max()
    ratio = measured.latency_s[-1] / measured.latency_s[0]
    counted = theirs.flops[-1] / theirs.flops[0]
    lines = [
        "",
        f"## {name}",
        "",
        f"{measured.provenance}; {measured.provenance.software}",
        "",
        "| depth | saved, measured | estimated | peak, measured | estimated | latency | spread | runs | TFLOP |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for i in range(measured.n_blocks):
        cells = [f"{array[i] / 1e6:.1f} MB" for array in (ours.saved_bytes, theirs.saved_bytes)]
        cells += [f"{array[i] / 1e6:.1f} MB" for array in (ours.peak_bytes, theirs.peak_bytes)]
        cells += [f"{measured.latency_s[i]:.3f} s", f"{ours.latency_iqr_s[i]:.3f} s", f"{ours.repeats[i]:.0f}"]
        lines.append(f"| {i + 1} | {' | '.join(cells)} | {theirs.flops[i] / 1e12:.4f} |")
    lines += [
        "",
        f"* The estimate differs from the measured saved tensors by at most {off:.3f} %, from the measured peak by "
        f"{off_peak:.3f} %.",
        f"* Memory is a line with R² {verdict.memory.r_squared:.6f}; a depth left out is predicted to "
        f"{100 * verdict.memory.left_out_error:.2g} %.",
        f"* Latency is a line with R² {verdict.latency.r_squared:.4f}; a depth left out is predicted to "
        f"{100 * verdict.latency.left_out_error:.2g} %. d({measured.n_blocks})/d(1) is {ratio:.3f}, by operations "
        f"{counted:.3f}.",
    ]
    if ours.process_peak_bytes is not None:
        above = ours.process_peak_bytes / (measured.memory_bytes - ours.saved_bytes + ours.peak_bytes)
        lines.append(
            f"* A child process's resident memory peaks at {above.min():.2f} to {above.max():.2f} times weights and "
            "peak."
        )
    noisy = f"Not known to 3 %: {'depth ' + ', '.join(map(str, verdict.noisy)) if verdict.noisy else 'none'}."
    if measured.provenance.monotone:
        changed = 100 * np.abs(measured.latency_s / as_measured(measured) - 1).max()
        lines.append(
            f"* {measured.provenance.monotone.capitalize()} regression, asked for, changed a median by at most "
            f"{changed:.1f} %; {len(verdict.falls)} fall(s) beyond the spread. {noisy}"
        )
    else:
        lines.append(f"* The medians rise as measured, without regression. {noisy}")
    return lines


def again():
    path = ROOT / "bench" / "roberta-base-again.json"
    if not path.exists():
        return []
    first, second = lola.load_profile(PROFILES / "roberta-base.json"), lola.load_profile(path)
    once, twice = as_measured(first), as_measured(second)
    change = twice / once - 1
    runs = [int(profile.evidence.repeats.min()) for profile in (first, second)]
    return [
        "",
        "## RoBERTa-base, measured twice",
        "",
        "| depth | " + " | ".join(str(i + 1) for i in range(first.n_blocks)) + " |",
        "|--:|" + "--:|" * first.n_blocks,
        f"| first, s, {runs[0]} runs | " + " | ".join(f"{value:.3f}" for value in once) + " |",
        f"| second, s, {runs[1]} runs | " + " | ".join(f"{value:.3f}" for value in twice) + " |",
        "| difference | " + " | ".join(f"{100 * value:+.1f} %" for value in change) + " |",
        "",
        f"Medians as measured. The largest difference in latency is {100 * np.abs(change).max():.1f} %; memory "
        f"{'is the same' if (first.memory_bytes == second.memory_bytes).all() else 'differs'}.",
    ]


def as_measured(profile):
    """Medians before any regression."""
    return profile.latency_s if profile.evidence.raw_latency_s is None else profile.evidence.raw_latency_s


def memory_alone():
    """Fig. 4(b): in half precision, as the paper has it, and counted the same way for both."""
    lines = ["", "## One device alone against a cooperating one", ""]
    lines += [
        "| model | dtype | alone | weights | iteration | Adam | depth 1 | depth L | mean |",
        "|---|---|" + "--:|" * 7,
    ]
    for dtype in ("float16", "float32"):
        workload = Workload("roberta-base", batch_size=32, sequence_length=128, dtype=dtype, head="frozen")
        needs, cooperating = alone(workload, allocator="cuda"), estimate(workload, allocator="cuda")
        parts = {
            "weights": needs.weight_bytes,
            "activations and gradients": needs.activation_bytes,
            "Adam's moments": needs.moment_bytes,
        }
        if dtype == "float16":
            save_figure(draw_alone(cooperating, parts), ROOT / "docs" / "alone.png")
        b = cooperating.memory_bytes
        cells = [needs.total_bytes, *parts.values(), b[0], b[-1], b.mean()]
        lines.append(f"| roberta-base | {dtype} | " + " | ".join(f"{cell / 1e9:.3f} GB" for cell in cells) + " |")
    return lines


def measure_grid(threads):
    for batch, length in (*GRID, ELSEWHERE):
        workload = Workload("minilm-l6", batch_size=batch, sequence_length=length)
        profile = measure(workload, threads=threads, limit_s=30.0, monotone="isotonic")
        lola.save_profile(profile, ROOT / "bench" / "grid" / f"minilm-l6-{batch}x{length}.json")


def grid():
    """How well a small grid of profiles predicts another batch and sequence length."""
    folder = ROOT / "bench" / "grid"
    profiles = [lola.load_profile(folder / f"minilm-l6-{batch}x{length}.json") for batch, length in GRID]
    batch, length = ELSEWHERE
    measured = lola.load_profile(folder / f"minilm-l6-{batch}x{length}.json")
    fitted = Grid.fit(profiles)
    memory, latency = (100 * error for error in fitted.errors(measured))
    left = [100 * error for error in fitted.left_out_error]
    shapes = ", ".join(f"{b}×{s}" for b, s in GRID)
    lines = [
        "",
        "## Another batch and sequence length",
        "",
        f"From measurements of minilm-l6 at {shapes} (batch × sequence; {measured.provenance.hardware}), the profile "
        f"at {batch}×{length} is predicted to {memory:.2g} % of what was measured there (memory) and {latency:.2g} % "
        f"(latency), at the worst depth; one of the four, left out, to {left[0]:.2g} % and {left[1]:.2g} %.",
    ]
    counted = [estimate(Workload("minilm-l6", batch_size=b, sequence_length=s)) for b, s in (*GRID, ELSEWHERE)]
    memory, latency = (100 * error for error in Grid.fit(counted[:-1]).errors(counted[-1]))
    return [*lines, f"From estimates in place of measurements: {memory:.2g} % (memory), {latency:.2g} % (operations)."]


def reference():
    device = REFERENCES["snapdragon-8-gen-3"]
    scaled = lola.load_profile(PROFILES / f"{SCENARIO}.json").provenance
    return [
        "",
        "## The reference device",
        "",
        f"`{device.name}`: {device.flops_per_s / 1e12:g} TFLOP/s in half precision, uncertain by a factor of "
        f"{device.uncertainty:g} either way. {device.source}.",
        "",
        f"The scenario's RoBERTa-base latency is the measured one × {scaled.latency_factor:.6g}: over all depths it "
        "adds up to the operations at this rate.",
    ]


if __name__ == "__main__":
    main()
