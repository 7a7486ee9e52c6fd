"""``lola simulate``: the latency of many rounds. Only the standard library is imported before it runs."""

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lola.cli.common import add_max_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lola.problem import Problem
    from lola.simulation import Simulation

# Which option each argument of `lola.simulate` comes from.
_SAME = ("bandwidth_hz", "local_steps", "methods", "rounds", "seed", "redraw")
_OTHER = {"transmit_snr_db": "--snr-db", "n_devices": "--devices"}


@dataclass(frozen=True)
class Settings:
    """What the options say."""

    scenario: str | None
    snr_db: "Sequence[float] | None"
    bandwidth_hz: "Sequence[float] | None"
    devices: "Sequence[int] | None"
    local_steps: "Sequence[int] | None"
    max_blocks: "int | Literal['all'] | None"
    methods: "Sequence[str] | None"
    rounds: int
    seed: int
    redraw: str | None
    trace: str | None
    trace_bandwidth_hz: float
    csv: str | None
    figure: str | None

    def problem(self) -> "Problem":
        """Read the scenario."""
        from lola.files.formats import FormatError
        from lola.files.problems import builtin_scenario, load_scenario
        from lola.rounds import of_one_round

        if not self.scenario:
            return builtin_scenario(max_blocks=self.max_blocks)
        problem = load_scenario(self.scenario, max_blocks=self.max_blocks)
        if keys := of_one_round(problem):
            raise FormatError(
                f"{self.scenario}, {' and '.join(keys)}: many rounds heed no pairs or subcarriers, which are of one "
                "round; leave them out of the scenario that is simulated"
            )
        return problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("scenario", nargs="?", metavar="scenario.toml", help="without it, the built-in scenario")
    sweep = parser.add_argument_group("sweep", "one value each, or several values of one of them, separated by commas")
    sweep.add_argument(
        "--snr-db",
        type=_floats,
        metavar="A,B,C",
        help="transmit SNR over a path loss of 30 dB, so received 30 dB lower, the same for every device (default: 10 "
        "where the fleet is redrawn, else each device's own mean SNR: the received one, such as a fleet's snr_db)",
    )
    sweep.add_argument("--bandwidth-hz", type=_floats, metavar="A,B,C", help="uplink spectrum")
    sweep.add_argument("--devices", type=_integers, metavar="A,B,C", help="fleet sizes")
    sweep.add_argument("--local-steps", type=_integers, metavar="A,B,C", help="local iterations in a round")
    add_max_blocks(parser)
    parser.add_argument(
        "--methods",
        type=_names,
        metavar="A,B,C",
        help="default: all but the published algorithms that can heed the problem",
    )
    parser.add_argument("--rounds", type=int, default=2000, metavar="N", help="at each point (default 2000)")
    parser.add_argument("--seed", type=int, default=0, help="everything random follows from it (default 0)")
    parser.add_argument(
        "--redraw",
        choices=("fleet", "channel"),
        help="what each round draws anew: speed and memory too, as in the paper, so that only the size of the fleet "
        "counts (fleet: default of the built-in fleet), or the channel alone (channel: default of your own)",
    )
    parser.add_argument("--trace", metavar="t.csv.gz", help="replay measured uplink traces in place of Rayleigh fading")
    parser.add_argument(
        "--trace-bandwidth-hz",
        type=float,
        default=10e6,
        metavar="HZ",
        help="spectrum over which a trace of capacity was measured (default 10 MHz)",
    )
    parser.add_argument("--csv", metavar="out.csv", help="save the numbers (-: print them)")
    parser.add_argument("--figure", metavar="out.png", help="draw them (needs lola-deft[plot])")


def _floats(text: str) -> list[float]:
    return _list(text, float, "numbers")


def _integers(text: str) -> list[int]:
    return _list(text, int, "integers")


def _list(text: str, kind: type, what: str) -> list:  # type: ignore[type-arg]
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        from lola.solvers.checks import shown

        raise argparse.ArgumentTypeError(f"{what} separated by commas were wanted, got {shown(text)}") from None


def _names(text: str) -> list[str]:
    return text.split(",")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.common import check_files, data_output, naming_options, progress_bar, settings_of
    from lola.files.problems import scenario_files
    from lola.files.traces import load_traces
    from lola.simulation import simulate

    settings = settings_of(Settings, options)
    check_files(settings.csv, settings.figure, [*scenario_files(settings.scenario), settings.trace])
    problem = settings.problem()
    with naming_options(bandwidth_hz="--trace-bandwidth-hz"):
        traces = load_traces(settings.trace, bandwidth_hz=settings.trace_bandwidth_hz) if settings.trace else None
    with progress_bar("drawing") as report, naming_options(*_SAME, **_OTHER):
        simulation = simulate(
            problem,
            settings.methods,
            rounds=settings.rounds,
            seed=settings.seed,
            transmit_snr_db=settings.snr_db,
            bandwidth_hz=settings.bandwidth_hz,
            n_devices=settings.devices,
            local_steps=settings.local_steps,
            redraw=settings.redraw,
            traces=traces,
            progress=report,
        )
    with data_output(settings.csv) as data:
        _print(simulation, settings, problem)
        if data:
            simulation.save_csv(data)
    if settings.figure:
        from lola.figures.picture import save_figure
        from lola.figures.simulation import draw_simulation

        save_figure(draw_simulation(simulation), settings.figure)


def _print(simulation: "Simulation", settings: Settings, problem: "Problem") -> None:
    import math

    from lola.cli.common import laid_out
    from lola.cli.tables import blocks_allowed, seconds, simulation_table
    from lola.files.formats import plain
    from lola.rounds import PARAMETERS, REDRAWN

    print(laid_out(simulation_table(simulation)))
    point = simulation.points[0]
    constant = [
        f"{label} {getattr(point, name) / scale:.6g} {unit}".rstrip()
        for name, (label, unit, scale) in PARAMETERS.items()
        if name != simulation.axis and not math.isnan(getattr(point, name))
    ]
    if problem.broadcast_s:
        constant.append(f"broadcast {seconds(problem.broadcast_s)}")
    print(f"{', '.join(constant)}; each round draws {REDRAWN[simulation.redraw]} anew (seed {settings.seed})")
    source = f"{plain(settings.trace)}, " if settings.trace else ""
    if problem.max_blocks != 1:
        print(f"segments: each device may take {blocks_allowed(problem.max_blocks)} consecutive blocks")
    print(f"channel: {source}{simulation.channel}")
    if simulation.waited_s.any():
        waits = simulation.waited_s > 0
        print(f"waited: {waits.mean():.1%} of the rounds, {seconds(simulation.waited_s[waits].mean())} each on average")
    if simulation.wall.any():
        print("wall: % of rounds in which a chosen device lacks the memory for its block, % of chosen devices that do")
    left_out = (~simulation.feasible).sum(axis=1)
    if left_out.any():
        print(
            f"infeasible: {left_out.min():,} to {left_out.max():,} of {settings.rounds:,} rounds at a point lack the "
            "memory for the model, whoever takes which block; they are left out for every method"
        )
