"""``lola profile --stages``: measure or estimate what each module costs a client of a chain."""

import argparse
from typing import TYPE_CHECKING

from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    from lola.chains.stages import StageProfile
    from lola.profiling import Workload

# Of depths alone, by what they are without.
_OF_DEPTHS = {"exact": False, "check_process": False, "monotone": None}


def run_stages(options: argparse.Namespace, workload: "Workload") -> None:
    """Run the command for the modules of a chain; its outputs are known to be writable.

    Raises
    ------
    ValueError
        If an option is of depths alone, or the device is another than the CPU.
    """
    from lola.cli.common import laid_out, progress_bar
    from lola.cli.tables import stages_table
    from lola.profiling import bring_stages_to_reference, estimate_stages, measure_stages

    for name, usual in _OF_DEPTHS.items():
        if getattr(options, name) != usual:
            option = f"--{name.replace('_', '-')}"
            raise LolaValueError(f"{option} is of depths, and --stages of modules was wanted; leave one of them out")
    if options.device not in ("cpu", "estimate"):
        raise LolaValueError(
            f"--device must be cpu or estimate with --stages, got {options.device!r}; take one of them"
        )
    stages: StageProfile
    if options.device == "estimate":
        stages = estimate_stages(workload, **({"reference": options.reference} if options.reference else {}))
    else:
        with progress_bar("building") as report:
            stages = measure_stages(
                workload,
                threads=options.threads,
                repeats=options.repeats,
                limit_s=options.limit_s,
                progress=report,
            )
        if options.reference:
            stages = bring_stages_to_reference(stages, workload, options.reference)
    print(laid_out(stages_table(stages)))
    whole = range(stages.n_modules)
    for what, inference in (("training", False), ("inference", True)):
        print(f"one client alone, {what}: {stages.peak_bytes(whole, inference=inference) / 1e9:.4g} GB at its peak")
    print(f"a batch: {stages.forward_s.sum():.4g} s forward, {stages.backward_s.sum():.4g} s backward")
    print(f"stages: {stages.provenance}")
    if stages.provenance is not None and stages.provenance.latency_note:
        print(f"seconds: as {stages.provenance.source}, {stages.provenance.latency_note}")
    if options.out:
        from lola.files.stages import save_stages

        save_stages(stages, options.out)
    if options.figure:
        from lola.figures.picture import save_figure
        from lola.figures.stages import draw_stages

        save_figure(draw_stages(stages), options.figure)
