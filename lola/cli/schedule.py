"""``lola schedule``: one round. Only the standard library is imported before it runs."""

import argparse
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from lola.cli.common import add_max_blocks

if TYPE_CHECKING:
    from lola.problem import Problem
    from lola.solution import Schedule


@dataclass(frozen=True)
class Settings:
    """What the options say; those of the same name replace the scenario's."""

    scenario: str | None
    fleet: str | None
    profile: str | None
    bandwidth_hz: float | None
    subcarrier_hz: float | None
    local_steps: int | None
    broadcast_s: float | None
    max_blocks: "int | Literal['all'] | None"
    method: str
    seed: int
    json: str | None
    figure: str | None
    compare: bool

    def problem(self) -> "Problem":
        """Read the scenario and put in place what the options name."""
        from lola.cli.common import naming_options
        from lola.files.problems import builtin_scenario, load_scenario

        asked: Any = {"fleet": self.fleet, "profile": self.profile, "max_blocks": self.max_blocks}
        scenario = load_scenario(self.scenario, **asked) if self.scenario else builtin_scenario(**asked)
        named = {name: getattr(self, name) for name in ("bandwidth_hz", "subcarrier_hz", "local_steps", "broadcast_s")}
        changes: Any = {name: value for name, value in named.items() if value is not None}
        with naming_options(*changes):
            return replace(scenario, **changes) if changes else scenario


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("scenario", nargs="?", metavar="scenario.toml", help="without it, the built-in scenario")
    parser.add_argument("--fleet", metavar="f.csv", help="devices, in place of the scenario's")
    parser.add_argument("--profile", metavar="p.json", help="what each depth costs, in place of the scenario's")
    parser.add_argument("--bandwidth-hz", type=float, metavar="HZ", help="uplink spectrum in hertz")
    parser.add_argument("--subcarrier-hz", type=float, metavar="HZ", help="give bandwidth in whole subcarriers")
    parser.add_argument("--local-steps", type=int, metavar="M", help="local iterations in a round")
    parser.add_argument("--broadcast-s", type=float, metavar="S", help="seconds that the downlink adds to the round")
    add_max_blocks(parser)
    parser.add_argument("--method", default="jbba", help="jbba (default), or another of --compare")
    parser.add_argument("--seed", type=int, default=0, help="of the method 'random' (default 0)")
    parser.add_argument("--json", metavar="out.json", help="save the schedule with its proof (-: print it)")
    parser.add_argument("--figure", metavar="out.png", help="draw the round (needs lola-deft[plot])")
    parser.add_argument(
        "--compare", action="store_true", help="all methods side by side, and one block a device beside several"
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.common import check_files, data_output, naming_options, settings_of
    from lola.files.problems import scenario_files
    from lola.files.schedules import save_schedule
    from lola.scheduling import schedule

    settings = settings_of(Settings, options)
    inputs = scenario_files(settings.scenario, fleet=settings.fleet, profile=settings.profile)
    check_files(settings.json, settings.figure, inputs)
    problem = settings.problem()
    with naming_options("seed"):
        answer = schedule(problem, settings.method, seed=settings.seed)
    answer.verify(problem)
    with data_output(settings.json) as data:
        _print(answer, problem, settings)
        if data:
            save_schedule(answer, problem, data)
    if settings.figure:
        from lola.figures.picture import save_figure
        from lola.figures.round import draw_round

        save_figure(draw_round(answer, problem), settings.figure)


def _print(answer: "Schedule", problem: "Problem", settings: Settings) -> None:
    from lola.cli.common import laid_out
    from lola.cli.tables import comparison_table, proof_line, round_table, seconds, segments_line

    tables, left_out = [round_table(answer, problem)], ""
    if settings.compare:
        answers, left_out = _compared(problem, settings.seed)
        tables.append(comparison_table(answers))
    print(laid_out(*tables))
    if left_out:
        print(f"left out: all methods with one block a device ({left_out})")
    print(f"round: {seconds(answer.latency_s)} ({answer.method}, {problem.n_devices} devices)")
    if problem.max_blocks != 1:
        print(segments_line(answer, problem))
    if problem.broadcast_s:
        print(f"broadcast: {seconds(problem.broadcast_s)} of it, from the server to all devices before they begin")
    print(proof_line(answer, problem))
    provenance = problem.profile.provenance
    print(f"profile: {provenance or 'of unknown provenance'}")
    if provenance is not None and provenance.latency_note:
        print(f"latency: as {provenance.source}, {provenance.latency_note}")


def _compared(problem: "Problem", seed: int) -> "tuple[dict[str, Schedule | str], str]":
    """Answer by all methods, one block a device where that is possible, and by segments where the profile knows them.

    As many blocks as are asked for, or any number of them. Return, too, why one block a device is impossible, if it is.
    """
    from lola.cli.tables import blocks_allowed
    from lola.problem import of_a_round
    from lola.scheduling import compare
    from lola.solvers.errors import LolaValueError

    asked = None if problem.max_blocks == 1 else problem.max_blocks
    answers: dict[str, Schedule | str] = {}
    with suppress(LolaValueError):  # where the profile does not know what more than one would cost
        several = of_a_round(problem, problem.fleet, max_blocks=asked)
        label = f"jbba, {blocks_allowed(asked)} blocks a device"
        answers[label] = "not proven"
        answers[label] = compare(several, ["jbba"])["jbba"]
    try:
        one = of_a_round(problem, problem.fleet, max_blocks=1)
    except LolaValueError:
        few = f"{problem.n_devices} devices for {problem.n_blocks} blocks, one each"
        return answers, few if problem.n_devices < problem.n_blocks else "a device is pinned to several"
    return answers | compare(one, seed=seed), ""
