"""``lola train``: fine-tune over a simulated fleet. Only the standard library is imported before it runs."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    from lola.adapters import CooperativeSession, Setting
    from lola.channel import Channel
    from lola.profile import Profile
    from lola.tasks.texts import TextClassifier

_INTERRUPTED = 130
_SETTINGS, _SETTINGS_FORMAT = "settings.json", "lola-training-settings"
_SUMMARY, _SUMMARY_FORMAT = "summary.json", "lola-training"
# These do not change what a round does, so a run may go on with others.
_FREE = ("run", "out", "rounds", "eval_every", "checkpoint_every", "threads")
_PATHS = ("model", "data", "fleet", "profile", "channel")
_SUBSET = 4  # what a random generator is for; shards and the dev split have the numbers before it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.set_defaults(run=run)
    parser.add_argument("--model", required=True, help="folder or hub name of a BERT, RoBERTa or ELECTRA")
    parser.add_argument("--task", required=True, help="cola, mrpc, rte, stsb, sst2, qnli, mnli or qqp")
    parser.add_argument("--data", required=True, help="folder of GLUE, or hub (needs the package datasets)")
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="checkpoints, metrics; goes on if a run is there"
    )
    parser.add_argument("--method", default="jbba", help="jbba (default), ba, as published, or a baseline")
    parser.add_argument("--fleet", metavar="f.csv", help="devices (default: the built-in scenario's)")
    parser.add_argument("--profile", metavar="p.json", help="what each depth costs (default: estimated for the model)")
    parser.add_argument(
        "--bandwidth-hz", type=float, default=100e6, metavar="HZ", help="uplink spectrum (default 100e6)"
    )
    parser.add_argument(
        "--channel",
        default="static",
        help="static (default: the fleet's), rayleigh (new each round), or a file of traces (capacity: of 10 MHz)",
    )
    parser.add_argument("--participation", type=float, default=1.0, metavar="P", help="a device's chance to take part")
    parser.add_argument("--failure", type=float, default=0.0, metavar="P", help="a device's chance never to answer")
    parser.add_argument(
        "--refuse-above", type=float, metavar="X", help="refuse gradients X times the median norm of their block's last"
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
    parser.add_argument("--rank", type=int, default=8, metavar="R", help="of LoRA (default 8)")
    parser.add_argument(
        "--optimizer", choices=("adam", "adamw", "sgd"), default="adam", help="the server's (default adam)"
    )
    parser.add_argument("--lr", type=float, default=1e-3, help="its learning rate (default 1e-3)")
    parser.add_argument("--seed", type=int, default=0, help="all that is random follows from it (default 0)")
    parser.add_argument("--eval-every", type=int, default=10, metavar="N", help="rounds between scores (default 10)")
    parser.add_argument("--checkpoint-every", type=int, default=1, metavar="N", help="rounds between (default 1)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.epilog = "TensorBoard finds the scalars in FOLDER/tensorboard if the package tensorboard is installed."


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    # Threads that spin while they wait lose the processor to whatever else runs, just when they need it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from lola.adapters.checkpoint import checkpoints
    from lola.files.formats import write_json

    out = Path(options.out)
    try:
        setting, settings = check(options), _settings(options)
        _check_folder(out, settings)
        session = prepare(options, setting)
        with session.alone():
            _check_folder(out, settings)  # another run may have begun there meanwhile
            write_json(out / _SETTINGS, _SETTINGS_FORMAT, settings)
            _train(session, options)
            session.save()  # a run that was killed between its last checkpoint and its metrics lacks but the metrics
            _summarise(session, settings, out)
    except KeyboardInterrupt:
        latest = next((path.name for path in reversed(checkpoints(out))), "the start")
        print(f"lola: interrupted; the same command goes on from {latest} of {out}", file=sys.stderr)
        return _INTERRUPTED
    return 0


def check(options: argparse.Namespace) -> "Setting":
    """Refuse, before anything is loaded, what cannot be run."""
    from lola.adapters import Setting
    from lola.solvers.checks import positive_integer, positive_number
    from lola.tasks.glue import glue_task

    glue_task(options.task)
    for name in ("rounds", "local_steps", "batch", "seq", "rank", "train_rows", "threads"):
        if getattr(options, name) is not None:
            positive_integer(name, getattr(options, name))
    positive_number("lr", options.lr)
    return Setting(
        method=options.method,
        seed=options.seed,
        participation=options.participation,
        failure=options.failure,
        refuse_above=options.refuse_above,
        checkpoint_every=options.checkpoint_every,
        evaluate_every=options.eval_every,
    )


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a run that goes on must have in common with the one that was stopped, and the summary states."""
    settings = {name: value for name, value in vars(options).items() if name not in _FREE}
    for name in _PATHS:
        if settings[name] is not None and Path(settings[name]).exists():
            settings[name] = str(Path(settings[name]).resolve())
    return settings


def _check_folder(out: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that holds another run, or something else."""
    from lola.adapters.checkpoint import checkpoints
    from lola.files.formats import FormatError, read_json

    if not out.parent.is_dir():
        raise LolaValueError(f"{out}: the folder to make it in does not exist")
    if not (out / _SETTINGS).is_file():
        if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
            raise FormatError(f"{out}: holds something else than a run of lola train; name a new folder")
        return
    if not checkpoints(out):  # nothing of that run is left to protect
        return
    there = read_json(out / _SETTINGS, _SETTINGS_FORMAT)
    differing = sorted(name for name in {*settings, *there} if settings.get(name) != there.get(name))
    if differing:
        changes = ", ".join(f"{name} ({there.get(name)}, now {settings.get(name)})" for name in differing)
        raise FormatError(f"{out}: holds another run, which differs in {changes}; name a new folder")


def prepare(options: argparse.Namespace, setting: "Setting") -> "CooperativeSession":
    """Read, load, tokenise, adapt and deal out; say what was done."""
    from lola.models.loading import import_transformers

    transformers = import_transformers()
    import numpy as np
    import torch

    from lola.adapters import CooperativeSession, ShardedData, dirichlet_shards, iid_shards, trim_padding
    from lola.files.problems import builtin_scenario, load_fleet, load_profile
    from lola.problem import Problem
    from lola.profiling import attach_lora
    from lola.tasks.glue import glue_task, read_glue, score
    from lola.tasks.texts import load_classifier

    score(options.task, [0], [0])  # a missing package is better missed now than at the first evaluation
    transformers.logging.set_verbosity_error()  # what it has to say of a new head is no news here
    transformers.logging.disable_progress_bar()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    seed = options.seed
    found = read_glue(options.task, options.data, seed=seed)
    train = found.train
    if options.train_rows is not None:
        if options.train_rows > len(train):
            raise LolaValueError(f"train-rows asks for {options.train_rows} rows, but there are {len(train)}")
        chosen = np.random.default_rng([seed, _SUBSET]).permutation(len(train))[: options.train_rows]
        train = train.take(np.sort(chosen))
    fleet = load_fleet(options.fleet) if options.fleet else builtin_scenario().fleet
    if options.alpha is None:
        shards, dealt = iid_shards(len(train), fleet.n_devices, seed=seed), "evenly"
    else:
        shards = dirichlet_shards(train.labels.astype(np.int64), fleet.n_devices, alpha=options.alpha, seed=seed)
        dealt = f"by Dirichlet({options.alpha:g})"
    classifier = load_classifier(options.model, glue_task(options.task).n_labels, seed=seed)
    depths = attach_lora(classifier.model, rank=options.rank)
    columns, dev = classifier.encode(train, options.seq), classifier.encode(found.dev, options.seq)
    profile = load_profile(options.profile) if options.profile else _estimated(classifier, options)
    optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[options.optimizer]
    depths.model.train()
    session = CooperativeSession(
        depths,
        optimizer(depths.all_parameters(), lr=options.lr),
        Problem(profile, fleet, options.bandwidth_hz, options.local_steps),
        ShardedData(columns, shards, batch_size=options.batch, seed=seed, collate=trim_padding),
        setting=setting,
        channel=_channel(options, fleet.n_devices),
        evaluate=lambda: score(options.task, classifier.predict(dev), found.dev.labels),
        folder=options.out,
    )
    print(f"data: {found.source}")
    print(f"{len(train)} rows to train on, dealt {dealt} to {fleet.n_devices} devices; {len(found.dev)} to score")
    print(f"profile: {profile.provenance or 'of unknown provenance'}")
    known = profile.provenance
    if known is not None and (known.batch_size, known.sequence_length) != (options.batch, options.seq):
        print(f"note: the clock is of that batch and sequence; {options.batch} and {options.seq} are trained")
    if session.version:
        print(f"goes on from round {session.version} in {options.out}")
    sys.stdout.flush()
    return session


def _channel(options: argparse.Namespace, n_devices: int) -> "Channel | None":
    from lola.channel import RayleighFading
    from lola.files.traces import TraceReplay, load_traces

    if options.channel == "static":
        return None
    if options.channel == "rayleigh":
        return RayleighFading(n_devices, seed=options.seed)
    if not Path(options.channel).is_file():
        raise LolaValueError(f"channel must be static, rayleigh, or a file of traces; got {options.channel!r}")
    return TraceReplay(load_traces(options.channel), n_devices, seed=options.seed)


def _estimated(classifier: "TextClassifier", options: argparse.Namespace) -> "Profile":
    """Estimate the profile of the very model, whose head its folder may not know."""
    from lola.profile import Profile
    from lola.profiling import Workload, estimate

    with TemporaryDirectory() as folder:
        classifier.model.config.save_pretrained(folder)
        workload = Workload(
            folder, batch_size=options.batch, sequence_length=options.seq, lora_rank=options.rank, seed=options.seed
        )
        found = estimate(workload)
    assert found.provenance is not None
    # The same wherever the model lies, so that a run may go on from another working folder.
    name = Path(options.model).resolve().name if Path(options.model).is_dir() else options.model
    provenance = replace(found.provenance, model=name)
    return Profile(found.memory_bytes, found.latency_s, found.upload_bits, provenance, found.evidence)


def _train(session: "CooperativeSession", options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from lola.cli.tables import seconds

    console = Console(stderr=True)
    columns = (TextColumn("round"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", completed=session.version, total=options.rounds)
        scores = _last_scores(session)
        for record in session.run(options.rounds):
            scores = record.scores or scores
            said = [f"loss {record.loss:.4f}", f"{seconds(record.clock_s)} simulated"]
            said += [f"{name} {value:.4f}" for name, value in scores.items()]
            bar.update(task, completed=record.version, description=", ".join(said))
            if record.scores and not console.is_terminal:
                print(f"round {record.version}: {', '.join(said)}", flush=True)


def _last_scores(session: "CooperativeSession") -> dict[str, float]:
    return next((record.scores for record in reversed(session.records) if record.scores), {})


def _summarise(session: "CooperativeSession", settings: dict[str, Any], out: Path) -> None:
    """Write the summary and print it as a table."""
    from rich.console import Console
    from rich.table import Table

    from lola.cli.tables import seconds
    from lola.files.formats import write_json
    from lola.tasks.glue import glue_task

    scores = _last_scores(session)
    walled = sum(record.memory_wall > 0 for record in session.records)
    missing = sum(record.missing for record in session.records)
    refusals = [record.refused for record in session.records if record.refused]
    summary = {
        "task": settings["task"],
        "headline": glue_task(settings["task"]).metrics[0],
        "scores": {name: value if value == value else None for name, value in scores.items()},  # JSON has no NaN
        "rounds": session.version,
        "simulated_s": session.clock_s,
        "blocks_missing": missing,
        "memory_wall_rounds": walled,
        "rounds_with_refusals": len(refusals),
        "profile": str(session.problem.profile.provenance or "of unknown provenance"),
        "settings": settings,
    }
    write_json(out / _SUMMARY, _SUMMARY_FORMAT, summary)
    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = {
        "method": settings["method"],
        "rounds": str(session.version),
        **{name: f"{value:.4f}" for name, value in scores.items()},
        "simulated": seconds(session.clock_s),
        "blocks\nmissing": str(missing),
        "rounds at the\nmemory wall": str(walled),
    }
    for heading in cells:
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    table.add_row(*cells.values())
    console = Console(highlight=False)
    with console.capture() as said:
        console.print(table)
    print(said.get(), end="")
    if refusals:
        print(f"in {len(refusals)} rounds a gradient was refused; the last time, {refusals[-1]}")
    print(f"written: {out}")
