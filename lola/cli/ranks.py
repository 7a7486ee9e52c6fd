"""``lola ranks``: how many ranks of LoRA each block gets. Only the standard library is imported before it runs."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from lola.problem import Problem
    from lola.ranks.importance import Importance
    from lola.ranks.plan import RankPlan

# What is measured where no budget is named, as a part of all ranks.
_USUAL_PART = 2
# None of them is told unless it was given, so that those without a model to measure are noticed.
_TRAINING = ("lr", "batch", "seq", "freeze_head", "seed")
_MEASURING = ("measure", "max_rank", "steps", *_TRAINING, "threads")


@dataclass(frozen=True)
class Settings:
    """What the options say."""

    importance: str | None
    model: str | None
    task: str | None
    data: str | None
    measure: str | None
    max_rank: int | None
    steps: int | None
    lr: float | None
    batch: int | None
    seq: int | None
    freeze_head: bool | None
    seed: int | None
    threads: int | None
    out: str | None
    budget: float | None
    uniform_rank: int | None
    deadline_s: float | None
    scenario: str | None
    fleet: str | None
    profile: str | None
    bandwidth_hz: float | None
    local_steps: int | None
    min_rank: int
    equal_bandwidth: bool
    json: str | None
    figure: str | None

    def told(self, *names: str) -> dict[str, Any]:
        """Return those of these options that were given."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def problem(self) -> "Problem | None":
        """Read the round that a deadline is of; None without one."""
        from lola.cli.common import naming_options
        from lola.files.problems import builtin_scenario, load_scenario
        from lola.solvers.errors import LolaValueError

        changes = self.told("bandwidth_hz", "local_steps")
        files: Any = {"fleet": self.fleet, "profile": self.profile}
        if self.deadline_s is None:
            told = [_option(name) for name in self.told("fleet", "profile", *changes, "scenario")]
            if told or self.equal_bandwidth:
                told += ["--equal-bandwidth"] if self.equal_bandwidth else []
                raise LolaValueError(
                    f"{', '.join(told)} is of a round by --deadline-s, got it without one; give --deadline-s, or leave "
                    "it out"
                )
            return None
        scenario = load_scenario(self.scenario, **files) if self.scenario else builtin_scenario(**files)
        with naming_options(*changes):
            return replace(scenario, **changes) if changes else scenario


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "importance", nargs="?", metavar="importance.json", help="what ranks are worth (default: the built-in MiniLM's)"
    )
    parser.add_argument("--model", help="measure it: folder or hub name of a BERT, RoBERTa or ELECTRA")
    parser.add_argument("--task", help="on cola, mrpc, rte, stsb, sst2, qnli, mnli or qqp")
    parser.add_argument("--data", help="folder of GLUE, or hub (needs the package datasets)")
    parser.add_argument("--measure", help="singular (default: values of the update) or sensitivity")
    parser.add_argument("--max-rank", type=int, metavar="R", help="the most ranks to measure (default 8)")
    parser.add_argument("--steps", type=int, metavar="N", help="of training before (default 50)")
    parser.add_argument("--lr", type=float, help="Adam's learning rate in them (default 1e-3)")
    parser.add_argument("--batch", type=int, help="texts in a batch (default 32)")
    parser.add_argument("--seq", type=int, help="tokens of a text at most (default 128)")
    parser.add_argument(
        "--freeze-head", action="store_true", default=None, help="do not train the classifier head with depth 1"
    )
    parser.add_argument("--seed", type=int, help="of rows, head and adapters (default 0)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--out", metavar="i.json", help="save what was measured")
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument(
        "--budget", type=float, metavar="P", help="parameters that LoRA may have in all blocks together"
    )
    limits.add_argument(
        "--uniform-rank",
        type=int,
        metavar="R",
        help="as many parameters as this rank in every block takes (default: half of the ranks measured)",
    )
    limits.add_argument(
        "--deadline-s",
        type=float,
        metavar="S",
        help="seconds in which a round must end, instead; needs --profile or --scenario of the model",
    )
    parser.add_argument("--scenario", metavar="scenario.toml", help="of that round; without it, the built-in scenario")
    parser.add_argument("--fleet", metavar="f.csv", help="devices, in place of the scenario's")
    parser.add_argument("--profile", metavar="p.json", help="what each depth costs, in place of the scenario's")
    parser.add_argument("--bandwidth-hz", type=float, metavar="HZ", help="uplink spectrum in hertz")
    parser.add_argument("--local-steps", type=int, metavar="M", help="local iterations in a round")
    parser.add_argument("--equal-bandwidth", action="store_true", help="split the spectrum equally over the blocks")
    parser.add_argument(
        "--min-rank", type=int, default=1, metavar="R", help="of every block (default 1; 0 may leave it out)"
    )
    parser.add_argument("--json", metavar="out.json", help="save the ranks with their proof (-: print them)")
    parser.add_argument("--figure", metavar="out.png", help="draw importance and ranks (needs lola-deft[plot])")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.common import check_files, data_output, naming_options, settings_of
    from lola.files.formats import check_outputs
    from lola.files.ranks import save_ranks
    from lola.ranks.allocation import allocate_ranks

    settings = settings_of(Settings, options)
    inputs = [settings.importance, settings.scenario, settings.fleet, settings.profile]
    check_files(settings.json, settings.figure, inputs)
    check_outputs([settings.out], [*inputs, settings.json, settings.figure])
    problem = settings.problem()
    importance = _importance(settings)
    budget = settings.budget
    if budget is None and problem is None:
        budget = _uniform_budget(importance, settings.uniform_rank, settings.min_rank)
    with naming_options("budget", "deadline_s", "min_rank"), _naming_mends():
        plan = allocate_ranks(
            importance,
            budget=budget,
            deadline_s=settings.deadline_s,
            problem=problem,
            min_rank=settings.min_rank,
            equal_bandwidth=settings.equal_bandwidth,
        )
    with data_output(settings.json) as data:
        _print(plan, importance, problem)
        if data:
            save_ranks(plan, importance, data, problem=problem)
    if settings.figure:
        from lola.figures.picture import save_figure
        from lola.figures.ranks import draw_ranks

        save_figure(draw_ranks(plan, importance), settings.figure)


@contextmanager
def _naming_mends() -> Iterator[None]:
    """Let the error that no ranks fit name the options that would mend it."""
    from lola.solvers.errors import InfeasibleError

    try:
        yield
    except InfeasibleError as error:
        text = str(error).replace("deadline_s", "--deadline-s").replace("min_rank", "--min-rank")
        raise InfeasibleError(text, error.violator, error.partners, error.bytes_needed) from error


def _importance(settings: Settings) -> "Importance":
    """Read what ranks are worth, or measure it."""
    from lola.files.importance import builtin_importance, load_importance, save_importance
    from lola.solvers.errors import LolaValueError

    asked = {"--model": settings.model, "--task": settings.task, "--data": settings.data}
    missing = [name for name, value in asked.items() if value is None]
    if len(missing) == len(asked):
        if settings.out:
            raise LolaValueError(
                "--out saves what is measured, and nothing is: give --model, --task and --data, or leave it out"
            )
        if told := settings.told(*_MEASURING):
            raise LolaValueError(
                f"{', '.join(map(_option, told))} is of a measurement, and nothing is measured: give --model, --task "
                "and --data, or leave it out"
            )
        return load_importance(settings.importance) if settings.importance else builtin_importance()
    if missing:
        raise LolaValueError(f"--model, --task and --data go together, and {', '.join(missing)} is missing; give it")
    if settings.importance:
        raise LolaValueError(
            f"either a file or a model was wanted, got {settings.importance} and --model; leave one of them out"
        )
    importance = _measured(settings)
    if settings.out:
        save_importance(importance, settings.out)
    return importance


def _measured(settings: Settings) -> "Importance":
    from lola.cli.common import naming_options, need_extras, progress_bar, set_up_torch, wait_quietly

    need_extras("train")
    wait_quietly()
    from lola.tasks.importance import measure_task_importance
    from lola.tasks.settings import TrainingSettings

    ranks: dict[str, Any] = {} if settings.max_rank is None else {"rank": settings.max_rank}
    with naming_options("measure", "steps", rank="--max-rank"):
        training = TrainingSettings(**settings.told("model", "task", "data", *_TRAINING), **ranks)
        set_up_torch(settings.threads)
        with progress_bar("loading") as report:
            return measure_task_importance(training, **settings.told("measure", "steps"), progress=report)


def _uniform_budget(importance: "Importance", uniform_rank: int | None, min_rank: int) -> float:
    """Return as many parameters as one rank for all blocks takes."""
    from lola.cli.common import naming_options
    from lola.solvers.checks import positive_integer
    from lola.solvers.errors import LolaValueError

    rank = max(importance.max_rank // _USUAL_PART, 1)
    if uniform_rank is not None:
        with naming_options("uniform_rank"):
            rank = positive_integer("uniform_rank", uniform_rank)
        if rank > importance.max_rank:
            raise LolaValueError(
                f"--uniform-rank must be at most {importance.max_rank}, as many as were measured, got {rank}; lower "
                "it, or measure more (--max-rank)"
            )
    if rank < min_rank <= importance.max_rank:
        raise LolaValueError(
            f"--min-rank must be at most {rank}, the rank in every block that the budget is of, got {min_rank}; lower "
            f"it, or {'raise' if uniform_rank is not None else 'give'} --uniform-rank"
        )
    return float(rank * int(importance.cost.sum()))


def _print(plan: "RankPlan", importance: "Importance", problem: "Problem | None") -> None:
    from lola.cli.common import laid_out
    from lola.cli.tables import seconds

    print(laid_out(_table(plan, importance, problem)))
    bits = plan.upload_bits.sum()
    print(f"ranks: {plan.parameters.sum():,} parameters of LoRA; a round uploads {bits / 1e6:,.3f} Mbit, with the head")
    if problem is not None:
        assert plan.latency_s is not None
        ends = problem.broadcast_s + plan.latency_s
        print(f"deadline: {seconds(plan.deadline_s or 0.0)}; the round ends after {seconds(ends)}")
    print(f"worth: {plan.objective:.6g} of {importance.gain.sum():.6g}, {_beside_uniform(plan)}")
    print(proof_line(plan))
    print(f"importance: {importance.measure}, {importance.provenance or 'of unknown provenance'}")
    if importance.provenance is not None and importance.provenance.note:
        print(f"measured: {importance.provenance.note}")


def proof_line(plan: "RankPlan") -> str:
    """Say what is proven of ranks."""
    by = (
        "a price of a parameter"
        if plan.proof is None
        else f"prices of bandwidth in {plan.proof.price.size} box(es) of ranks"
    )
    return f"proof: by {by}, no ranks that fit are worth more than {plan.upper_bound:.6g} (gap {plan.gap:.2g})"


def _beside_uniform(plan: "RankPlan") -> str:
    if not plan.uniform_rank:
        return "where not even rank 1 fits every block"
    more = f", {100 * (plan.objective / plan.uniform_objective - 1):.3g} % more" if plan.uniform_objective > 0 else ""
    return f"rank {plan.uniform_rank} in every block {plan.uniform_objective:.6g}{more}"


def _table(plan: "RankPlan", importance: "Importance", problem: "Problem | None") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("depth", justify="right")
    table.add_column("block", overflow="fold")
    headings = ["importance", "chosen", "rank", "parameters", "upload\nMbit"]
    for heading in [*headings, *([] if problem is None else ["device", "band\nMHz"])]:
        table.add_column(heading, justify="right", no_wrap=heading != "device")
    for depth, row in enumerate(plan.rows(), start=1):
        gain = importance.gain[depth - 1]
        cells = [f"{gain.sum():.4g}", f"{gain[: row['rank']].sum():.4g}", str(row["rank"]), f"{row['parameters']:,}"]
        cells += [f"{row['upload_bits'] / 1e6:.3f}"]
        if problem is not None:
            device = "–" if row["device"] < 0 else problem.fleet.label(row["device"])
            cells += [device, f"{row['bandwidth_hz'] / 1e6:.3f}"]
        table.add_row(str(depth), Text(importance.label(depth)), *map(Text, cells))
    return table
