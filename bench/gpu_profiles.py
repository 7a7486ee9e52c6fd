"""What bench/gpu_profile.sh runs: measure on CUDA, estimate, compare. Needs no numba; matplotlib for figures."""

import json
import sys
import time
import traceback
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from costs import as_measured, frozen_roberta

import lola
from lola.profiling import Workload, estimate, judge, measure

# name: workload, and seconds after which no further repeats are begun
WORKLOADS = {
    "roberta-base-fp16": (frozen_roberta("fp16"), 20.0),
    "roberta-base-bf16": (frozen_roberta("bf16"), 20.0),
    "roberta-base-fp32": (frozen_roberta("fp32"), 30.0),
    "tinyllama-1.1b-bf16": (Workload("tinyllama-1.1b", batch_size=8, dtype="bf16"), 40.0),
    "llama-2-7b-bf16": (Workload("llama-2-7b", batch_size=4, dtype="bf16"), 60.0),
}
BUDGET_S = 540.0


def main(out):
    start, rows, failed = time.monotonic(), [], {}
    for name, (workload, limit_s) in WORKLOADS.items():
        left = BUDGET_S - (time.monotonic() - start)
        if left < 30:
            failed[name] = "not begun: the time was up"
            continue
        try:
            rows.append(compare(name, workload, min(limit_s, left), out))
        except Exception:  # one that fails must not cost the others
            failed[name] = traceback.format_exc()
        (out / "TABLE.md").write_text("\n".join(table(rows, failed)) + "\n", encoding="utf-8")
        print(f"{name}: {time.monotonic() - start:.0f} s so far", flush=True)
    print((out / "TABLE.md").read_text())
    (out / "failed.json").write_text(json.dumps(failed, indent=1))
    return 1 if failed else 0


def compare(name, workload, limit_s, out):
    # A latency that falls is wanted on file, too: isotonic regression keeps the medians beside it, if scipy is there.
    monotone = "isotonic" if find_spec("scipy") else None
    measured = measure(workload, device="cuda", exact=True, limit_s=limit_s, monotone=monotone)
    lola.save_profile(measured, out / f"{name}.json")
    estimated = estimate(workload, allocator="cuda")
    lola.save_profile(estimated, out / f"{name}-estimated.json")
    try:
        from lola.figures.picture import save_figure
        from lola.figures.profile import draw_profile

        save_figure(draw_profile(measured), out / f"{name}.png")
    except ImportError:
        pass  # no matplotlib here; `lola.figures.profile` draws a saved profile elsewhere
    return name, measured, estimated


def table(rows, failed):
    lines = [
        "| model | memory(1) measured | estimated | memory(L) measured | estimated | worst depth | R² memory | d(1) "
        "| d(L)/d(1) | by operations | R² latency | worst spread | falls | reserved(L) |",
        "|---|" + "--:|" * 13,
    ]
    for name, measured, estimated in rows:
        verdict, evidence = judge(measured), measured.evidence
        raw = as_measured(measured)
        worst = 100 * np.abs(estimated.memory_bytes / measured.memory_bytes - 1).max()
        cells = [
            f"{value / 1e9:.3f} GB" for i in (0, -1) for value in (measured.memory_bytes[i], estimated.memory_bytes[i])
        ]
        cells += [
            f"{worst:.2f} %",
            f"{verdict.memory.r_squared:.6f}",
            f"{1e3 * raw[0]:.2f} ms",
            f"{raw[-1] / raw[0]:.3f}",
        ]
        cells += [f"{estimated.latency_s[-1] / estimated.latency_s[0]:.3f}", f"{verdict.latency.r_squared:.4f}"]
        cells += [f"{100 * (evidence.latency_iqr_s / raw).max():.1f} %", str(len(verdict.falls))]
        lines.append(f"| {name} | {' | '.join(cells)} | {evidence.reserved_bytes[-1] / 1e9:.3f} GB |")
    return lines + [f"\n{name} failed:\n\n```\n{reason}\n```" for name, reason in failed.items()]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
