"""What the shipped profiles say: PROFILES.md, part by part."""

import numpy as np
from costs import as_measured
from page import Template, claim, rows

from lola.profiling import judge
from lola.profiling.judgement import PRECISION, fit_line

LINE = 0.99  # R² from which a cost is called a line in the depth

say = Template("profiles")


def head():
    return say("head", line=LINE)


def model(name, measured, estimated):
    verdict, ours, theirs = judge(measured), measured.evidence, estimated.evidence
    lines = []
    for i in range(measured.n_blocks):
        cells = [f"{array[i] / 1e6:.1f} MB" for array in (ours.saved_bytes, theirs.saved_bytes)]
        cells += [f"{array[i] / 1e6:.1f} MB" for array in (ours.peak_bytes, theirs.peak_bytes)]
        cells += [f"{measured.latency_s[i]:.3f} s", f"{ours.latency_iqr_s[i]:.3f} s", f"{ours.repeats[i]:.0f}"]
        lines.append([str(i + 1), *cells, f"{theirs.flops[i] / 1e12:.4f}"])
    return say(
        "model",
        name=name,
        provenance=measured.provenance,
        software=measured.provenance.software,
        rows=rows(lines),
        off=100 * np.abs(theirs.saved_bytes / ours.saved_bytes - 1).max(),
        off_peak=100 * np.abs(theirs.peak_bytes / ours.peak_bytes - 1).max(),
        memory_is=is_line(verdict.memory),
        memory_r2=verdict.memory.r_squared,
        memory_left_out=100 * verdict.memory.left_out_error,
        latency_is=is_line(verdict.latency),
        latency_r2=verdict.latency.r_squared,
        latency_left_out=100 * verdict.latency.left_out_error,
        last=measured.n_blocks,
        ratio=measured.latency_s[-1] / measured.latency_s[0],
        counted=theirs.flops[-1] / theirs.flops[0],
        more="\n".join([*resident(measured), rising(measured, verdict), *extras(measured, estimated)]),
    )


def is_line(fitted):
    return "is" if fitted.r_squared >= LINE else "is not"


def resident(measured):
    """Say how far a process's resident memory lies above what is counted, where that was measured."""
    evidence = measured.evidence
    if evidence.process_peak_bytes is None:
        return []
    above = evidence.process_peak_bytes / (measured.memory_bytes - evidence.saved_bytes + evidence.peak_bytes)
    return [say("resident", least=above.min(), most=above.max())]


def rising(measured, verdict):
    """Say whether the medians rise by themselves, and which are not known well."""
    depths = f"depth {', '.join(map(str, verdict.noisy))}" if verdict.noisy else "none"
    noisy = say("noisy", precision=100 * PRECISION, depths=depths)
    medians = as_measured(measured)
    if (np.diff(medians) >= 0).all():
        return say("rises", noisy=noisy)
    return say(
        "made to rise",
        regression=measured.provenance.monotone.capitalize(),
        changed=100 * np.abs(measured.latency_s / medians - 1).max(),
        falls=len(verdict.falls),
        noisy=noisy,
    )


def extras(measured, estimated):
    """Say what one more trained block costs, measured and counted, where that was measured."""
    ours, theirs = measured.evidence, estimated.evidence
    if ours.segment_repeats is None:
        return []
    last = measured.n_blocks
    starts = np.flatnonzero(ours.segment_repeats > 0)
    seconds = ours.segment_latency_s - ours.segment_latency_s[-1]
    kept, counted = (evidence.segment_saved_bytes - evidence.segment_saved_bytes[-1] for evidence in (ours, theirs))
    flops = 100 * (theirs.segment_flops - theirs.segment_flops[-1]) / theirs.flops[0]
    lines = []
    for i in starts[:-1]:
        cells = [f"{i + 1} to {last}", f"{seconds[i]:+.3f} s", f"{ours.segment_latency_iqr_s[i]:.3f} s"]
        cells += [f"{ours.segment_repeats[i]:.0f}", f"{flops[i]:.3f} %", f"{kept[i] / 1e6:.2f} MB"]
        lines.append([*cells, f"{counted[i] / 1e6:.2f} MB"])
    fitted = fit_line(ours.segment_latency_s[starts], starts + 1)
    off = 100 * np.abs(counted[starts[:-1]] / kept[starts[:-1]] - 1).max()
    claim(off <= 2.0, "what one more block keeps is estimated to 2 %")
    extra_s = measured.extra_latency_s[:-1].mean()
    return [
        "",  # a paragraph of its own, after the list
        say(
            "extras",
            last=last,
            rows=rows(lines),
            seconds=extra_s,
            share=100 * extra_s / measured.latency_s[0],
            operations=flops[0] / (last - 1),
            megabytes=measured.extra_memory_bytes[:-1].mean() / 1e6,
            off=off,
            is_line=is_line(fitted),
            r2=fitted.r_squared,
            residual=fitted.residual,
            spread=ours.segment_latency_iqr_s[starts].max(),
        ),
    ]


def again(first, second):
    once, twice = as_measured(first), as_measured(second)
    change = twice / once - 1
    same = (first.memory_bytes == second.memory_bytes).all()
    return say(
        "again",
        depths=" | ".join(str(i + 1) for i in range(first.n_blocks)),
        rule="--:|" * first.n_blocks,
        first_runs=int(first.evidence.repeats.min()),
        second_runs=int(second.evidence.repeats.min()),
        first=" | ".join(f"{value:.3f}" for value in once),
        second=" | ".join(f"{value:.3f}" for value in twice),
        difference=" | ".join(f"{100 * value:+.1f} %" for value in change),
        largest=100 * np.abs(change).max(),
        memory="is the same" if same else "differs",
    )


def alone(needs):
    """Table of what one device alone needs and what cooperating ones do; `needs` gives both for each dtype."""
    lines = []
    for dtype, (parts, cooperating) in needs.items():
        memory = cooperating.memory_bytes
        cells = [sum(parts.values()), *parts.values(), memory[0], memory[-1], memory.mean()]
        lines.append(["roberta-base", dtype, *(f"{cell / 1e9:.3f} GB" for cell in cells)])
    return say("alone", rows=rows(lines))


def grid(shapes, fitted, measured, elsewhere, counted, counted_elsewhere):
    """Say how well a small grid of profiles predicts another batch and sequence length, measured and counted."""
    memory, latency = (100 * error for error in fitted.errors(measured))
    counted_memory, operations = (100 * error for error in counted.errors(counted_elsewhere))
    memory_left_out, latency_left_out = (100 * error for error in fitted.left_out_error)
    return say(
        "grid",
        shapes=", ".join(f"{batch}×{length}" for batch, length in shapes),
        n_shapes=len(shapes),
        hardware=measured.provenance.hardware,
        elsewhere="×".join(map(str, elsewhere)),
        memory=memory,
        latency=latency,
        memory_left_out=memory_left_out,
        latency_left_out=latency_left_out,
        counted_memory=counted_memory,
        operations=operations,
    )


def reference(device, scaled, estimated):
    """Say what the scenario's latency was scaled to."""
    at_this_rate = estimated.evidence.flops.sum() / device.flops_per_s
    claim(np.isclose(scaled.latency_s.sum(), at_this_rate), "the scaled latency adds up to the operations at this rate")
    return say(
        "reference",
        device=device.name,
        tflops=device.flops_per_s / 1e12,
        uncertainty=device.uncertainty,
        source=device.source,
        factor=scaled.provenance.latency_factor,
    )
