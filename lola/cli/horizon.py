"""``lola horizon``: fine-tune or serve, round by round. Only the standard library is imported before it runs."""

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lola.chains.horizon import HorizonProblem
    from lola.solvers.checks import IntArray
    from lola.solvers.horizon import HorizonPlan, HorizonRun


@dataclass(frozen=True)
class Settings:
    """What the options say."""

    case: str | None
    seed: int
    json: str | None
    figure: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("case", nargs="?", metavar="horizon.toml", help="without it, the built-in case")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the random actions, and of the demand that a Markov chain draws (default 0)",
    )
    parser.add_argument("--json", metavar="out.json", help="save the plan with its proof (-: print it)")
    parser.add_argument("--figure", metavar="out.png", help="draw the cumulated profit (needs lola-deft[plot])")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.common import check_files, data_output, naming_options, settings_of
    from lola.files.horizons import builtin_horizon, load_horizon, save_horizon_plan

    settings = settings_of(Settings, options)
    check_files(settings.json, settings.figure, [settings.case])
    problem = load_horizon(settings.case) if settings.case else builtin_horizon()
    plan = problem.plan()
    problem.verify(plan)
    with naming_options("seed"):
        demand = problem.draw_demand(settings.seed)
        runs = {
            "optimal": plan.follow(demand),
            "immediate": problem.immediate(demand),
            "random": problem.random(demand, settings.seed),
        }
    with data_output(settings.json) as data:
        _print(problem, plan, demand, runs, settings.seed)
        if data:
            save_horizon_plan(plan, problem, data)
    if settings.figure:
        from lola.figures.horizon import draw_horizon
        from lola.figures.picture import save_figure

        save_figure(draw_horizon(problem, demand, runs), settings.figure)


def _print(
    problem: "HorizonProblem", plan: "HorizonPlan", demand: "IntArray", runs: "dict[str, HorizonRun]", seed: int
) -> None:
    from lola.cli.common import laid_out
    from lola.cli.tables import horizon_table, plan_proof_line

    print(laid_out(horizon_table(problem, demand, runs)))
    sums = ", ".join(f"{run.profit.sum():.6g} {label}" for label, run in runs.items())
    print(f"profit: {sums} (seed {seed})")
    if problem.demand is None:
        print(f"expected: {plan.objective:.6g} over all demands; the rounds above are of one that was drawn")
    print(plan_proof_line(plan, problem))
