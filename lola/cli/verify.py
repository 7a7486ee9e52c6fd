"""``lola verify``: prove again what was saved. Only the standard library is imported before it runs."""

import argparse

from lola.cli.common import MISOCP_SIZE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "schedule", metavar="out.json", help="what lola schedule, lola split, lola horizon or lola ranks has saved"
    )
    parser.add_argument(
        "--oracle",
        choices=("milp", "misocp"),
        help="also solve it again: milp by OR-Tools; misocp (jbba alone, one block a device) as a cone program by "
        f"SCIP, which proves up to about {MISOCP_SIZE} in a minute, not the built-in scenario's 20 and 12 (needs "
        "lola-deft[oracle])",
    )
    parser.add_argument(
        "--time-limit-s",
        type=float,
        default=60.0,
        metavar="S",
        help="for the oracle (default 60; code 3 if it has proven nothing by then)",
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.tables import proof_line, seconds, segments_line
    from lola.files.chains import CHAIN_FORMAT
    from lola.files.formats import FormatError, format_of, plain
    from lola.files.horizons import HORIZON_FORMAT
    from lola.files.kinds import came_instead
    from lola.files.ranks import RANKS_FORMAT
    from lola.files.schedules import SCHEDULE_FORMAT, load_schedule

    kind = format_of(options.schedule)
    if kind == CHAIN_FORMAT:
        _verify_chain(options)
        return
    if kind == HORIZON_FORMAT:
        _verify_plan(options)
        return
    if kind == RANKS_FORMAT:
        _verify_ranks(options)
        return
    if kind not in (None, SCHEDULE_FORMAT):
        wanted = ", ".join((SCHEDULE_FORMAT, CHAIN_FORMAT, HORIZON_FORMAT, RANKS_FORMAT))
        raise FormatError(f'{options.schedule}: "format" must be one of {wanted}, got {came_instead(kind)}')
    answer, problem = load_schedule(options.schedule)
    answer.verify(problem)
    walls = int(answer.hits_memory_wall.sum())
    verdict = "the schedule holds"
    if walls:
        verdict = f"cannot run, {walls} device(s) lack the memory for their block; its numbers hold"
    print(f"{plain(options.schedule)}: {verdict}, {seconds(answer.latency_s)} ({answer.method})")
    if problem.max_blocks != 1:
        print(segments_line(answer, problem))
    print(proof_line(answer, problem))
    if options.oracle:
        from lola.cli.oracle import ask

        print(ask(options.oracle, answer, problem, options.time_limit_s))


def _verify_chain(options: argparse.Namespace) -> None:
    from lola.cli.tables import chain_proof_line, seconds
    from lola.files.chains import load_chain
    from lola.files.formats import plain
    from lola.solvers.errors import LolaValueError

    if options.oracle:
        raise LolaValueError(f"--oracle needs a schedule, got a chain, {options.schedule}; leave it out")
    chain, problem = load_chain(options.schedule)
    chain.verify(problem)
    clients = f"{len(chain.stages)} of {problem.n_clients} clients"
    print(f"{plain(options.schedule)}: the chain holds, {seconds(chain.latency_s)} a batch over {clients}")
    print(chain_proof_line(chain, problem))


def _verify_plan(options: argparse.Namespace) -> None:
    from lola.cli.tables import plan_proof_line
    from lola.files.formats import plain
    from lola.files.horizons import load_horizon_plan
    from lola.solvers.errors import LolaValueError

    if options.oracle:
        raise LolaValueError(f"--oracle needs a schedule, got a plan, {options.schedule}; leave it out")
    plan, problem = load_horizon_plan(options.schedule)
    problem.verify(plan)
    print(f"{plain(options.schedule)}: the plan holds, profit {plan.objective:.6g} in {problem.inputs.rounds} rounds")
    print(plan_proof_line(plan, problem))


def _verify_ranks(options: argparse.Namespace) -> None:
    from lola.cli.ranks import proof_line
    from lola.files.formats import plain
    from lola.files.ranks import load_ranks
    from lola.solvers.errors import LolaValueError

    if options.oracle:
        raise LolaValueError(f"--oracle needs a schedule, got ranks, {options.schedule}; leave it out")
    plan, importance, problem = load_ranks(options.schedule)
    plan.verify(importance, problem)
    print(f"{plain(options.schedule)}: the ranks hold, {plan.parameters.sum():,} parameters worth {plan.objective:.6g}")
    print(proof_line(plan))
