"""``lola profile``: measure or estimate what a depth costs. Only the standard library is imported before it runs."""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    from lola.chains.stages import StageProfile
    from lola.profile import Profile
    from lola.profiling import Judgement, Workload


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--model", required=True, help="built-in configuration, folder, or hub name")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, or estimate: without running it")
    parser.add_argument("--exact", action="store_true", help="run every depth, not four and the line between them")
    parser.add_argument("--batch", type=int, default=32, help="examples in a batch (default 32)")
    parser.add_argument("--seq", type=int, help="tokens of a text (default 128); an image has its own")
    parser.add_argument("--dtype", default="fp32", help="fp32 (default), fp16 or bf16")
    parser.add_argument("--out", metavar="p.json", help="save the profile")
    parser.add_argument("--figure", metavar="p.png", help="draw memory and latency (needs lola-deft[plot])")
    parser.add_argument("--lora-rank", type=int, default=8, metavar="R", help="default 8")
    parser.add_argument("--blocks", metavar="PATH", help="where the blocks are, such as encoder.layer (default: found)")
    parser.add_argument(
        "--targets", "--lora-targets", metavar="A,B", help="modules to adapt (default: query and value)"
    )
    parser.add_argument("--head", default="trained", help="trained (default, with depth 1) or frozen")
    parser.add_argument("--attention", default="eager", help="eager (default) or sdpa")
    parser.add_argument("--mode", default="train", help="train (default) or eval: without dropout")
    parser.add_argument("--seed", type=int, default=0, help="of weights, adapters and batch (default 0)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument(
        "--repeats",
        type=int,
        help="iterations of each depth, at least, whatever --limit-s says (default 5, on cuda 30; 3 once it is over)",
    )
    parser.add_argument(
        "--limit-s",
        type=float,
        help="begin no repeats beyond --repeats after this (default 60, with --exact 600)",
    )
    parser.add_argument("--check-process", action="store_true", help="on the cpu: a child process's peak memory, too")
    parser.add_argument("--monotone", metavar="isotonic", help="make a latency rise that falls by more than noise, too")
    parser.add_argument("--reference", metavar="DEVICE", help="bring latency to it, such as snapdragon-8-gen-3")
    parser.add_argument("--prompts", type=int, metavar="P", help="train P tokens in front of each block, not LoRA")
    parser.add_argument("--stages", action="store_true", help="what each module costs a client of a chain, instead")
    parser.add_argument("--force", action="store_true", help="write over the profile of something else")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.common import need_extras, progress_bar, wait_quietly

    need_extras("torch", *(["plot"] if options.figure else []))
    wait_quietly()
    from lola.profiling import NotMonotoneError, ProfilingError, Workload, bring_to_reference, estimate, measure

    targets = tuple(options.targets.split(",")) if options.targets else None
    workload = Workload(
        model=options.model,
        batch_size=options.batch,
        sequence_length=options.seq,
        dtype=options.dtype,
        attention=options.attention,
        mode=options.mode,
        lora_rank=options.lora_rank,
        lora_targets=targets,
        head=options.head,
        seed=options.seed,
        blocks=options.blocks,
        prompts=options.prompts,
    )
    if options.stages:
        from lola.cli.stages import run_stages
        from lola.files.stages import load_stages

        _check_outputs(options, workload, load_stages)
        run_stages(options, workload)
        return
    from lola.files.profiles import load_profile

    _check_outputs(options, workload, load_profile)
    profile: Profile
    try:
        with progress_bar("building") as report:
            if options.device == "estimate":
                reference = {"reference": options.reference} if options.reference else {}
                profile = estimate(workload, progress=report, **reference)
            else:
                profile = measure(
                    workload,
                    device=options.device,
                    exact=options.exact,
                    threads=options.threads,
                    repeats=options.repeats,
                    limit_s=options.limit_s,
                    monotone=options.monotone,
                    check_process=options.check_process,
                    progress=report,
                    announce=_announce,
                )
                if options.reference:
                    profile = bring_to_reference(profile, workload, options.reference)
    except NotMonotoneError as error:
        if not options.out or error.profile is None:
            raise
        from lola.files.profiles import save_profile

        kept = Path(options.out).with_suffix(".isotonic.json")
        save_profile(error.profile, kept)
        raise ProfilingError(f"{error}. What was measured is kept in {kept}, with that regression") from None
    _print(profile)
    if options.out:
        from lola.files.profiles import save_profile

        save_profile(profile, options.out)
    if options.figure:
        from lola.figures.picture import save_figure
        from lola.figures.profile import draw_profile

        save_figure(draw_profile(profile), options.figure)


def _check_outputs(
    options: argparse.Namespace, workload: "Workload", load: "Callable[[str], Profile | StageProfile]"
) -> None:
    """Refuse, before anything is measured, an unknown device, a missing folder or a file that holds something else."""
    from lola.cli.common import STANDARD_OUTPUT, check_files
    from lola.profiling.estimation import reference_device

    if options.reference:
        reference_device(options.reference)
    if options.out == STANDARD_OUTPUT:
        raise LolaValueError("--out must be a file, got '-'; name one, such as p.json")
    model = Path(options.model)
    check_files(options.out, options.figure, model.iterdir() if model.is_dir() else [])
    if options.force or not options.out or not Path(options.out).is_file():
        return
    from lola.profiling.workload import DTYPES

    there = load(options.out).provenance
    wanted: dict[str, Any] = {
        "model": workload.model,
        "batch_size": workload.batch_size,
        "dtype": DTYPES[workload.dtype],
        "source": "estimated" if options.device == "estimate" else "measured",
    }
    if workload.sequence_length is not None:
        wanted["sequence_length"] = workload.sequence_length
    differing = [name for name, value in wanted.items() if getattr(there, name, None) != value]
    if differing:
        raise LolaValueError(
            f"{options.out}: holds another profile ({there or 'of unknown provenance'}), which differs in "
            f"{', '.join(differing)}; write elsewhere, or over it with --force"
        )


def _announce(expected_s: float, most_s: float) -> None:
    """Say on standard error how long it will take; the table is to have standard output for itself."""
    texts = [f"{value:.0f} s" if value < 100 else f"{value / 60:.0f} min" for value in (expected_s, most_s)]
    print(f"lola: measuring takes about {texts[0]}, at most {texts[1]} where runs are noisy", file=sys.stderr)


def _print(profile: "Profile") -> None:
    from lola.cli.common import laid_out
    from lola.cli.tables import percent, profile_table
    from lola.profiling import judge

    verdict = judge(profile)
    print(laid_out(profile_table(profile)))
    if profile.provenance is not None and profile.provenance.memory is not None:
        print(f"needs: {profile.provenance.memory}")
    if profile.memory_note:
        print(f"note: {profile.memory_note}")
    for name, line, unit, scale in (("memory", verdict.memory, "GB", 1e9), ("latency", verdict.latency, "s", 1.0)):
        left_out = f"; a depth left out is predicted to {percent(line.left_out_error)}"
        print(
            f"{name}: {line.intercept / scale:.4g} + {line.slope / scale:.4g}·depth {unit}, R² {line.r_squared:.5f}, "
            f"off by at most {line.residual / scale:.2g} {unit}{left_out if line.left_out_error >= 0 else ''}"
        )
    print(f"d(L)/d(1): {profile.latency_s[-1] / profile.latency_s[0]:.3f}")
    if profile.extra_latency_s is not None and profile.extra_memory_bytes is not None and profile.n_blocks > 1:
        extra_s, extra_bytes = profile.extra_latency_s[:-1].mean(), profile.extra_memory_bytes[:-1].mean()
        share = 100 * extra_s / profile.latency_s[0]
        print(f"one more block on the way: {extra_s:.3g} s ({share:.2g} % of d(1)) and {extra_bytes / 1e6:.3g} MB each")
    for text in _about_runs(profile, verdict):
        print(text)
    print(f"profile: {profile.provenance}")
    if profile.provenance is not None and profile.provenance.latency_note:
        print(f"latency: as {profile.provenance.source}, {profile.provenance.latency_note}")


def _about_runs(profile: "Profile", verdict: "Judgement") -> Iterator[str]:
    """Say what was run, how far the runs spread, and what was made of medians that fall."""
    evidence = profile.evidence
    if evidence is None or evidence.measured is None or evidence.latency_iqr_s is None:
        return
    at = evidence.measured - 1
    medians = profile.latency_s if evidence.raw_latency_s is None else evidence.raw_latency_s
    if len(at) < profile.n_blocks:
        run = ", ".join(map(str, evidence.measured))
        yield f"run: depth {run}; the others lie on the line between them (--exact runs all)"
    spread = (evidence.latency_iqr_s[at] / medians[at]).max()
    yield f"spread: the middle half of a depth's runs spans at most {100 * spread:.2g} % of its median"
    if evidence.raw_latency_s is not None:
        change = abs(profile.latency_s[at] / medians[at] - 1).max()
        explained = "more than noise explains" if verdict.falls else "no more than noise explains"
        yield (
            f"made to rise: the latency fell with depth, by {explained}; isotonic regression changed a median by at "
            f"most {100 * change:.2g} %"
        )
    yield from (f"not monotone: {text}" for text in verdict.falls)
    if verdict.noisy:
        depths = ", ".join(map(str, verdict.noisy))
        yield f"noisy: the median is not known to 3 % at depth {depths}; repeat it when idle"
