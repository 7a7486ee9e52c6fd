"""``lola train``: fine-tune over a simulated fleet. Only the standard library is imported before it runs."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lola.cli.common import add_max_blocks

if TYPE_CHECKING:
    from lola.adapters import CooperativeSession
    from lola.problem import Problem
    from lola.tasks import Training, TrainingSettings

# Where there is no terminal for a bar, a line is printed at least this often, once a round has ended.
_LINE_EVERY_S = 30.0
_USUAL_RANK = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_setting(parser)
    parser.add_argument("--fleet", metavar="f.csv", help="devices (default: the built-in scenario's)")
    parser.add_argument(
        "--channel",
        default="static",
        help="static (default: the fleet's), rayleigh (new each round, around each mean SNR of --fleet), or a file of "
        "traces (capacity: of 10 MHz)",
    )
    parser.add_argument("--failure", type=float, default=0.0, metavar="P", help="a device's chance never to answer")
    parser.epilog = "TensorBoard finds the scalars in FOLDER/tensorboard if the package tensorboard is installed."


def add_setting(parser: argparse.ArgumentParser) -> None:
    """Declare what a run is set up by, whoever its devices are."""
    parser.add_argument("--model", required=True, help="folder or hub name of a BERT, RoBERTa or ELECTRA")
    parser.add_argument("--task", required=True, help="cola, mrpc, rte, stsb, sst2, qnli, mnli or qqp")
    parser.add_argument("--data", required=True, help="folder of GLUE, or hub (needs the package datasets)")
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="checkpoints, metrics, model; goes on if a run is there"
    )
    parser.add_argument(
        "--method",
        default="jbba",
        help="jbba (default), or another method of lola schedule; some want --freeze-head",
    )
    parser.add_argument("--profile", metavar="p.json", help="what each depth costs (default: estimated for the model)")
    parser.add_argument(
        "--bandwidth-hz", type=float, default=100e6, metavar="HZ", help="uplink spectrum (default 100e6)"
    )
    add_max_blocks(parser, default=1)
    parser.add_argument("--participation", type=float, default=1.0, metavar="P", help="a device's chance to take part")
    parser.add_argument(
        "--refuse-above", type=float, metavar="X", help="refuse gradients X times the median norm of their block's last"
    )
    parser.add_argument(
        "--quarantine-after", type=int, metavar="N", help="no work for who was refused in N of the last 100 rounds"
    )
    parser.add_argument("--alpha", type=float, metavar="A", help="skew labels over devices: Dirichlet (default: even)")
    parser.add_argument("--train-rows", type=int, metavar="N", help="train on so many rows (default: all)")
    parser.add_argument(
        "--rounds", type=int, default=100, metavar="N", help="in all, resumed ones included (default 100)"
    )
    parser.add_argument(
        "--local-steps", type=int, default=1, metavar="M", help="batches of a block a round (default 1)"
    )
    parser.add_argument("--batch", type=int, default=32, help="texts in a batch (default 32)")
    parser.add_argument("--seq", type=int, default=128, help="tokens of a text at most (default 128)")
    # Without a default of its own: argparse takes the default, given beside --ranks, for one that was left out.
    ranks = parser.add_mutually_exclusive_group()
    ranks.add_argument("--rank", type=int, metavar="R", help=f"of LoRA (default {_USUAL_RANK})")
    ranks.add_argument("--ranks", metavar="r.json", help="a rank of each block instead, as lola ranks saves them")
    parser.add_argument("--lora-alpha", type=float, metavar="A", help="of the largest rank (default: twice that)")
    parser.add_argument(
        "--freeze-head", action="store_true", help="do not train the classifier head; then all blocks upload the same"
    )
    parser.add_argument(
        "--optimizer", choices=("adam", "adamw", "sgd"), default="adam", help="the server's (default adam)"
    )
    parser.add_argument("--lr", type=float, default=1e-3, help="its learning rate (default 1e-3)")
    parser.add_argument("--seed", type=int, default=0, help="all that is random follows from it (default 0)")
    parser.add_argument("--eval-every", type=int, default=10, metavar="N", help="rounds between scores (default 10)")
    parser.add_argument("--checkpoint-every", type=int, default=1, metavar="N", help="rounds between (default 1)")
    parser.add_argument("--threads", type=int, help="CPU threads")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.common import heeded_interruption, need_extras, set_up_torch, settings_of, wait_quietly
    from lola.solvers.checks import positive_integer

    need_extras("train")
    wait_quietly()
    from lola.adapters.checkpoint import checkpoints
    from lola.files.formats import plain
    from lola.tasks.folder import check_folder, write_settings
    from lola.tasks.settings import TrainingSettings
    from lola.tasks.training import prepare_training

    settings = settings_of(TrainingSettings, with_ranks(options))
    positive_integer("rounds", options.rounds)
    out = Path(options.out)
    check_folder(out, settings)
    try:
        set_up_torch(options.threads)
        training = prepare_training(settings, folder=out)
        session = training.session
        notes = [*training.notes, *_planned_otherwise(options.ranks, session.problem)]
        print(*map(plain, notes), sep="\n", flush=True)
        with heeded_interruption() as heed, session.alone():
            check_folder(out, settings)  # another run may have begun there meanwhile
            write_settings(out, settings)
            _train(session, options.rounds, heed)
            session.save()  # a run that was killed between its last checkpoint and its metrics lacks but the metrics
            summarise(session, settings.recorded(), out, session.problem.n_devices)
            home = bring_home(training, settings, out)
        print(plain(f"written: {out}"))
        print(plain(f"the model: {home}, for PEFT; lola export makes one for transformers alone, or of another round"))
    except KeyboardInterrupt:
        latest = next((path.name for path in reversed(checkpoints(out))), "the start")
        raise KeyboardInterrupt(f"the same command goes on from {latest} of {out}") from None


def with_ranks(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options with one rank for all blocks, or in its place those that a file has, proven."""
    rank: int | tuple[int, ...] = _USUAL_RANK if options.rank is None else options.rank
    if options.ranks is not None:
        from lola.files.ranks import load_ranks

        plan, importance, problem = load_ranks(options.ranks)
        plan.verify(importance, problem)
        rank = tuple(plan.rank.tolist())
    return argparse.Namespace(**{**vars(options), "rank": rank})


def _planned_otherwise(ranks: str | None, problem: "Problem") -> list[str]:
    """Note in what the round that is trained differs from the one in which ranks end by their deadline."""
    import numpy as np

    from lola.files.ranks import load_ranks

    plan, _, planned = (None, None, None) if ranks is None else load_ranks(ranks)
    if plan is None or planned is None:
        return []
    then, now = plan.to_profile(planned.profile), problem.profile
    differs = [
        f"{name} {getattr(planned, name):g} (here {getattr(problem, name):g})"
        for name in ("bandwidth_hz", "local_steps")
        if getattr(planned, name) != getattr(problem, name)
    ]
    if not all(np.array_equal(getattr(then, name), getattr(now, name)) for name in ("latency_s", "memory_bytes")):
        differs.append("profile")
    of_fleet = ("speed", "memory_bytes", "spectral_efficiency")
    if not all(np.array_equal(getattr(planned.fleet, name), getattr(problem.fleet, name)) for name in of_fleet):
        differs.append("fleet")
    if not differs:
        return []
    return [
        f"the ranks end a round by {plan.deadline_s:g} s with another {', '.join(differs)}; for that round, give what "
        "lola ranks was given as --profile, --fleet, --bandwidth-hz and --local-steps"
    ]


def _train(session: "CooperativeSession", rounds: int, heed: Callable[[], None]) -> None:
    from time import monotonic

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from lola.cli.tables import seconds

    console = Console(stderr=True)
    columns = (TextColumn("round"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", completed=session.version, total=rounds)
        scores = last_scores(session)
        said_at = monotonic()
        for record in session.run(rounds):
            heed()
            scores = record.scores or scores
            said = [f"loss {record.loss:.4f}", f"{seconds(record.clock_s)} simulated"]
            said += [f"{name} {value:.4f}" for name, value in scores.items()]
            bar.update(task, completed=record.version, description=", ".join(said))
            due = record.scores or monotonic() - said_at >= _LINE_EVERY_S
            if due and not console.is_terminal:
                said_at = monotonic()
                print(f"round {record.version}: {', '.join(said)}", flush=True)


def last_scores(session: "CooperativeSession") -> dict[str, float]:
    """Return the scores of the latest round that was scored; none if there is none."""
    return next((record.scores for record in reversed(session.records) if record.scores), {})


def summarise(
    session: "CooperativeSession",
    settings: dict[str, Any],
    out: Path,
    n_devices: int,
    measured_s: float | None = None,
) -> None:
    """Write the summary and print it as a table; where rounds were real, with the seconds that they took."""
    from rich.table import Table

    from lola.adapters.record import count_devices_used
    from lola.cli.common import laid_out
    from lola.cli.tables import seconds
    from lola.tasks.folder import write_summary
    from lola.tasks.glue import glue_task

    scores = last_scores(session)
    walled = sum(record.memory_wall > 0 for record in session.records)
    missing = sum(record.missing for record in session.records)
    refusals = [record.refused for record in session.records if record.refused]
    used = count_devices_used(session.records)
    summary = {
        "task": settings["task"],
        "headline": glue_task(settings["task"]).metrics[0],
        "scores": {name: value if value == value else None for name, value in scores.items()},  # JSON has no NaN
        "rounds": session.version,
        "simulated_s": session.clock_s,
        "devices": n_devices,
        "devices_used": used,
        "blocks_missing": missing,
        "memory_wall_rounds": walled,
        "rounds_with_refusals": len(refusals),
        "profile": str(session.problem.profile.provenance or "of unknown provenance"),
        "notes": session.problem.notes,
        "settings": settings,
    }
    clock = "simulated"
    if measured_s is not None:
        summary["measured_s"], clock = measured_s, "scheduled"
    write_summary(out, summary)
    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = {
        "method": settings["method"],
        "rounds": str(session.version),
        **{name: f"{value:.4f}" for name, value in scores.items()},
        clock: seconds(session.clock_s),
        **({} if measured_s is None else {"measured": seconds(measured_s)}),
        "blocks\nmissing": str(missing),
        "rounds at the\nmemory wall": str(walled),
    }
    for heading in cells:
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    table.add_row(*cells.values())
    print(laid_out(table), end="")
    if used is not None:
        print(f"devices whose gradients were used: {used} of {n_devices}")
    if refusals:
        print(f"rounds without somebody's gradient: {len(refusals)}; the last time, {refusals[-1]}")


def bring_home(training: "Training", settings: "TrainingSettings", out: Path) -> Path:
    """Write what PEFT loads, then put it in place of what an earlier end of this run left there."""
    from lola.files.folders import put_in_place, remove
    from lola.tasks.export import take_home
    from lola.tasks.folder import MODEL

    home, new = out / MODEL, out / f".new-{MODEL}"
    remove(new)  # left by a run that was killed
    session = training.session
    profile = str(session.problem.profile.provenance or "of unknown provenance")
    take_home(new, settings, training.classifier, session.depths, session.records, profile=profile)
    put_in_place(new, home)
    return home
