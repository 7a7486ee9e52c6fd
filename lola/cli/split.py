"""``lola split``: a model over a chain of clients. Only the standard library is imported before it runs."""

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lola.chains.chain import Chain
    from lola.chains.clients import Clients
    from lola.chains.problem import ChainProblem


@dataclass(frozen=True)
class Settings:
    """What the options say."""

    clients: str | None
    rates: str | None
    spread_m: float | None
    seed: int | None
    place: str | None
    bandwidth_hz: float | None
    stages: str | None
    objective: str | None
    micro_batches: int | None
    start: str | None
    order: str | None
    inference: bool
    energy_weight: float
    batches: int | None
    clusters: int | None
    goal: str | None
    json: str | None
    figure: str | None

    def linked_clients(self) -> "Clients":
        """Read the clients, with links from a file or from where they are; without any, the built-in home."""
        from lola.chains.radio import Radio
        from lola.files.clients import builtin_clients, load_clients
        from lola.solvers.errors import LolaValueError

        if self.seed is not None and self.spread_m is None:
            raise LolaValueError(
                f"--seed is of the draw by --spread-m, got {self.seed} where nothing is drawn; add --spread-m, or "
                "leave --seed out"
            )
        seed = 0 if self.seed is None else self.seed
        named = {"place": self.place, "bandwidth_hz": self.bandwidth_hz}
        on_air: Any = {name: value for name, value in named.items() if value is not None}
        radio = Radio(**on_air) if on_air else None
        if self.clients is None:
            return builtin_clients(self.rates, spread_m=self.spread_m, seed=seed, radio=radio)
        return load_clients(self.clients, self.rates, spread_m=self.spread_m, seed=seed, radio=radio)

    def problem(self) -> "ChainProblem":
        """Read what the options name, and put it together."""
        from lola.chains.problem import ChainProblem
        from lola.cli.common import naming_options
        from lola.files.stages import builtin_stages, load_stages

        with naming_options("place", "bandwidth_hz", "spread_m", "seed"):
            clients = self.linked_clients()
        stages = load_stages(self.stages) if self.stages else builtin_stages()
        objective: Any = self.objective or ("sum" if self.micro_batches is None else "pipeline")
        with naming_options("objective", "micro_batches", "start", "order", "energy_weight"):
            return ChainProblem(
                stages,
                clients,
                objective=objective,
                micro_batches=1 if self.micro_batches is None else self.micro_batches,
                start=self.start,
                order=None if self.order is None else [name.strip() for name in self.order.split(",")],
                inference=self.inference,
                energy_weight=self.energy_weight,
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--clients", metavar="c.csv", help="clients, or a fleet; without it, the built-in home")
    parser.add_argument("--rates", metavar="r.csv", help="bits a second of the links, from each client to each")
    parser.add_argument("--spread-m", type=float, metavar="M", help="draw where clients are: in a square of this side")
    parser.add_argument("--seed", type=int, metavar="N", help="of that draw (default 0)")
    parser.add_argument("--place", metavar="indoor|outdoor", help="whose path loss links have (default: indoor)")
    parser.add_argument("--bandwidth-hz", type=float, metavar="HZ", help="spectrum of a link in hertz (default 20e6)")
    parser.add_argument("--stages", metavar="s.json", help="what each module costs; without it, RoBERTa-base")
    parser.add_argument("--objective", metavar="sum|max|pipeline", help="what is to be short (default: sum)")
    parser.add_argument("--micro-batches", type=int, metavar="N", help="cut a batch into so many: a pipeline")
    parser.add_argument("--start", metavar="NAME", help="who takes the first stage (default: whoever has data)")
    parser.add_argument("--order", metavar="A,B,…", help="who may take part, in this order (default: all, in any)")
    parser.add_argument("--inference", action="store_true", help="forward alone, the answer back to the start")
    parser.add_argument(
        "--energy-weight", type=float, default=0.0, metavar="W", help="seconds that a joule is worth (default 0)"
    )
    parser.add_argument(
        "--batches", type=int, metavar="N", help="show what a round of so many costs: seconds, joules, bytes by link"
    )
    parser.add_argument("--clusters", type=int, metavar="N", help="so many chains at once, over disjoint clients")
    parser.add_argument("--goal", choices=("slowest", "throughput"), help="of them (default: slowest)")
    parser.add_argument("--json", metavar="out.json", help="save the chain with its proof (-: print it)")
    parser.add_argument("--figure", metavar="out.png", help="draw a batch going through (needs lola-deft[plot])")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.chains.scheduling import split
    from lola.cli.common import check_files, data_output, settings_of
    from lola.files.chains import save_chain
    from lola.solvers.errors import LolaValueError

    settings = settings_of(Settings, options)
    check_files(settings.json, settings.figure, [settings.clients, settings.rates, settings.stages])
    problem = settings.problem()
    if settings.clusters is not None:
        _print_clusters(problem, settings, settings.clusters)
        return
    if settings.goal is not None:
        raise LolaValueError(
            f"--goal is of several chains, got {settings.goal!r} and no --clusters; add --clusters, or leave --goal out"
        )
    chain = split(problem)
    chain.verify(problem)
    with data_output(settings.json) as data:
        _print(chain, problem, settings.batches)
        if data:
            save_chain(chain, problem, data)
    if settings.figure:
        from lola.figures.chain import draw_chain
        from lola.figures.picture import save_figure

        save_figure(draw_chain(chain, problem), settings.figure)


def _print_clusters(problem: "ChainProblem", settings: Settings, count: int) -> None:
    from lola.chains.scheduling import split_clusters
    from lola.cli.common import laid_out, naming_options
    from lola.cli.tables import chain_table, clusters_line, seconds
    from lola.solvers.errors import LolaValueError

    alone = {"--json": settings.json, "--figure": settings.figure, "--batches": settings.batches}
    if asked := [option for option, value in alone.items() if value is not None]:
        raise LolaValueError(f"--clusters prints its chains, got {asked[0]} as well, which is of one; leave one out")
    with naming_options(n_clusters="--clusters", start="--start"):
        clusters = split_clusters(problem, count, settings.goal or "slowest")
    clusters.verify(problem)
    print(laid_out(*(chain_table(chain, problem) for chain in clusters.chains)))
    for number, chain in enumerate(clusters.chains, start=1):
        print(f"chain {number}: {seconds(chain.latency_s)} a batch, from {problem.clients.label(chain.stages[0][0])}")
    print(clusters_line(clusters))


def _print(chain: "Chain", problem: "ChainProblem", batches: int | None) -> None:
    from lola.chains.metrics import chain_metrics
    from lola.cli.common import laid_out, naming_options
    from lola.cli.tables import chain_proof_line, chain_table, metrics_table, seconds

    tables = [chain_table(chain, problem)]
    counted = None
    if batches is not None:
        with naming_options("batches"):
            counted = chain_metrics(chain, problem, batches=batches)
        tables.append(metrics_table(counted, chain, problem))
    print(laid_out(*tables))
    parts = f", in {problem.micro_batches} parts, of one of which the table speaks" if problem.micro_batches > 1 else ""
    what = "inference" if problem.inference else "training"
    used = f"{len(chain.stages)} of {problem.n_clients} clients"
    print(f"batch: {seconds(chain.latency_s)} ({what} over {used}){parts}")
    if problem.objective == "max":
        print(f"where many are under way: one every {seconds(chain.objective_s)}")
    if counted is not None:
        print(f"round of {counted.batches}: {seconds(counted.latency_s)}, without delivery and upload")
    print(chain_proof_line(chain, problem))
    print(f"profile: {problem.stages.provenance or 'of unknown provenance'}")
