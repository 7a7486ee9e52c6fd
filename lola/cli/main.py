"""The command ``lola``. Only the standard library is imported before a command runs."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from lola.cli import docs as docs_command
from lola.cli import profile as profile_command
from lola.cli import simulate as simulate_command
from lola.cli import train as train_command

if TYPE_CHECKING:
    from lola.problem import Problem
    from lola.solution import Schedule

EXIT_OK = 0
EXIT_NOT_VERIFIED = 1
EXIT_INFEASIBLE = 2
EXIT_BAD_INPUT = 64
EXIT_PIPE_CLOSED = 141
# Narrower terminals than this would break the table; pipes and files get it too.
_MIN_WIDTH = 100


class _Parser(argparse.ArgumentParser):
    """argparse, but bad usage ends with 64, because 2 says that a problem is infeasible."""

    def error(self, message: str) -> NoReturn:
        from lola.files.formats import plain

        self.print_usage(sys.stderr)
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: {plain(message)}\n")


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"lola {version('lola-deft')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lola", description="Schedule rounds of cooperative fine-tuning, with proof of optimality.")
    parser.add_argument(
        "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="print lola's version and exit"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    schedule = commands.add_parser("schedule", help="decide who takes which block, with how much bandwidth")
    schedule.set_defaults(run=_schedule)
    schedule.add_argument("scenario", nargs="?", metavar="scenario.toml", help="without it, the built-in scenario")
    schedule.add_argument("--fleet", metavar="f.csv", help="devices, in place of the scenario's")
    schedule.add_argument("--profile", metavar="p.json", help="what each depth costs, in place of the scenario's")
    schedule.add_argument("--bandwidth-hz", type=float, metavar="HZ", help="uplink spectrum in hertz")
    schedule.add_argument("--subcarrier-hz", type=float, metavar="HZ", help="give bandwidth in whole subcarriers")
    schedule.add_argument("--local-steps", type=int, metavar="M", help="local iterations in a round")
    schedule.add_argument("--method", default="jbba", help="jbba (default), ba, or a baseline; see --compare")
    schedule.add_argument("--seed", type=int, default=0, help="of the method 'random' (default 0)")
    schedule.add_argument("--json", metavar="out.json", help="save the schedule with its proof")
    schedule.add_argument("--figure", metavar="out.png", help="draw the round (needs lola-deft[plot])")
    schedule.add_argument("--compare", action="store_true", help="all methods side by side")

    verify = commands.add_parser("verify", help="prove a saved schedule again, from the file alone")
    verify.set_defaults(run=_verify)
    verify.add_argument("schedule", metavar="out.json")
    verify.add_argument(
        "--oracle",
        choices=("milp", "misocp"),
        help="also solve it again: by OR-Tools, or (jbba) as a cone program by SCIP (needs lola-deft[oracle])",
    )
    verify.add_argument("--time-limit-s", type=float, default=60.0, metavar="S", help="for the oracle (default 60)")

    profile = commands.add_parser("profile", help="measure or estimate what each depth of a model costs")
    profile_command.add_arguments(profile)

    simulate = commands.add_parser("simulate", help="compare methods over many random rounds; nothing is trained")
    simulate_command.add_arguments(simulate)

    train = commands.add_parser(
        "train", help="fine-tune a text classifier over a simulated fleet (needs lola-deft[train])"
    )
    train_command.add_arguments(train)

    docs_command.add_arguments(commands.add_parser("docs", help="read the pages that docstrings cite"))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 not verified, 2 infeasible, 64 bad usage or input."""
    options = _parser().parse_args(arguments)
    from lola.files.formats import plain
    from lola.solvers.errors import InfeasibleError, LolaError, VerificationError

    def complain(text: str) -> None:
        print(plain(f"lola: {text}"), file=sys.stderr)

    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except VerificationError as error:
        complain(f"not verified: {error}")
        return EXIT_NOT_VERIFIED
    except InfeasibleError as error:
        complain(f"infeasible: {error}")
        return EXIT_INFEASIBLE
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return EXIT_BAD_INPUT
    except (LolaError, ImportError) as error:
        complain(str(error))
        return EXIT_BAD_INPUT
    return code


def _schedule(options: argparse.Namespace) -> int:
    from rich.console import Console

    from lola.cli.tables import comparison_table, proof_line, round_table, seconds
    from lola.files.formats import check_outputs
    from lola.files.problems import scenario_files
    from lola.files.schedules import save_schedule
    from lola.methods import BY_NAME
    from lola.scheduling import schedule

    inputs = scenario_files(options.scenario, fleet=options.fleet, profile=options.profile)
    check_outputs([options.json, options.figure], inputs)
    problem = _problem(options)
    answer = schedule(problem, options.method, seed=options.seed)
    answer.verify(problem)
    console = Console(highlight=False)
    console.width = max(console.width, _MIN_WIDTH)
    with console.capture() as tables:
        console.print(round_table(answer, problem))
        if options.compare:
            console.print()
            console.print(comparison_table({method: _attempt(problem, method, options.seed) for method in BY_NAME}))
    print(tables.get())
    print(f"round: {seconds(answer.latency_s)} ({answer.method}, {problem.n_devices} devices)")
    print(proof_line(answer, problem))
    provenance = problem.profile.provenance
    print(f"profile: {provenance or 'of unknown provenance'}")
    if provenance is not None and provenance.latency_note:
        print(f"latency: as {provenance.source}, {provenance.latency_note}")
    if options.json:
        save_schedule(answer, problem, options.json)
    if options.figure:
        from lola.figures.picture import save_figure
        from lola.figures.round import draw_round

        save_figure(draw_round(answer, problem), options.figure)
    return EXIT_OK


def _problem(options: argparse.Namespace) -> "Problem":
    """Read the scenario and put in place what the options name."""
    from lola.files.problems import builtin_scenario, load_scenario

    files = {"fleet": options.fleet, "profile": options.profile}
    scenario = load_scenario(options.scenario, **files) if options.scenario else builtin_scenario(**files)
    named = {name: getattr(options, name) for name in ("bandwidth_hz", "subcarrier_hz", "local_steps")}
    changes: Any = {name: value for name, value in named.items() if value is not None}
    return replace(scenario, **changes) if changes else scenario


def _attempt(problem: "Problem", method: str, seed: int) -> "Schedule | str":
    """Schedule and verify, or return in a word why there is no schedule."""
    from lola.methods import method_named
    from lola.scheduling import schedule
    from lola.solvers.errors import InfeasibleError

    if reason := method_named(method).unsuited(problem):
        return reason
    try:
        answer = schedule(problem, method, seed=seed)
    except InfeasibleError:
        return "infeasible"
    answer.verify(problem)
    return answer


def _verify(options: argparse.Namespace) -> int:
    from lola.cli.tables import proof_line, seconds
    from lola.files.formats import plain
    from lola.files.schedules import load_schedule

    answer, problem = load_schedule(options.schedule)
    answer.verify(problem)
    print(f"{plain(options.schedule)}: the schedule holds, {seconds(answer.latency_s)} ({answer.method})")
    print(proof_line(answer, problem))
    if options.oracle:
        from lola.cli.oracle import ask

        print(ask(options.oracle, answer, problem, options.time_limit_s))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
