"""``lola schedule``: one round. Only the standard library is imported before it runs."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lola.problem import Problem
    from lola.solution import Schedule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("scenario", nargs="?", metavar="scenario.toml", help="without it, the built-in scenario")
    parser.add_argument("--fleet", metavar="f.csv", help="devices, in place of the scenario's")
    parser.add_argument("--profile", metavar="p.json", help="what each depth costs, in place of the scenario's")
    parser.add_argument("--bandwidth-hz", type=float, metavar="HZ", help="uplink spectrum in hertz")
    parser.add_argument("--subcarrier-hz", type=float, metavar="HZ", help="give bandwidth in whole subcarriers")
    parser.add_argument("--local-steps", type=int, metavar="M", help="local iterations in a round")
    parser.add_argument("--method", default="jbba", help="jbba (default), ba, or a baseline; see --compare")
    parser.add_argument("--seed", type=int, default=0, help="of the method 'random' (default 0)")
    parser.add_argument("--json", metavar="out.json", help="save the schedule with its proof")
    parser.add_argument("--figure", metavar="out.png", help="draw the round (needs lola-deft[plot])")
    parser.add_argument("--compare", action="store_true", help="all methods side by side")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.common import check_files, laid_out
    from lola.cli.tables import comparison_table, proof_line, round_table, seconds
    from lola.files.problems import scenario_files
    from lola.files.schedules import save_schedule
    from lola.methods import BY_NAME
    from lola.scheduling import schedule

    inputs = scenario_files(options.scenario, fleet=options.fleet, profile=options.profile)
    check_files(options.json, options.figure, inputs)
    problem = _problem(options)
    answer = schedule(problem, options.method, seed=options.seed)
    answer.verify(problem)
    tables = [round_table(answer, problem)]
    if options.compare:
        tables.append(comparison_table({method: _attempt(problem, method, options.seed) for method in BY_NAME}))
    print(laid_out(*tables))
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
