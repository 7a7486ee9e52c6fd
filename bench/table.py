"""One table of cases and contenders: it drives the benchmarks, the report and a test of correctness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

import lola
from lola.channel import CQI_EFFICIENCY, rayleigh_efficiency
from lola.files.problems import builtin_scenario
from lola.solvers import (
    block_allocation,
    bottleneck_assignment,
    conventional_allocation,
    crunch,
    dual_ascent,
    joint_allocation,
    linear_assignment,
    oracle,
    segment_allocation,
)

Solve = Callable[[], object]
Value = Callable[[object], float]


@dataclass(frozen=True)
class Case:
    """A problem, and contenders that answer it in their own form; `value` turns an answer into its objective, untimed.

    `reference` names the contender that the others must equal.
    """

    name: str
    size: tuple[int, int]
    contenders: dict[str, Solve]
    reference: str
    exact: frozenset[str]  # contenders that must equal the reference; the others must not be better
    values: dict[str, Value] = field(default_factory=dict)

    def value(self, name: str) -> float:
        answer = self.contenders[name]()
        return float(self.values[name](answer) if name in self.values else getattr(answer, "objective", answer))


# -- linear assignment ------------------------------------------------------------------------------------------------

SQUARE = ((10, 10), (50, 50), (200, 200), (1000, 1000), (3000, 3000))
WIDE = ((12, 20), (12, 50), (24, 1000), (100, 10_000), (12, 100_000))
FAMILIES = ("uniform", "integer ties", "product", "product, shuffled", "half forbidden", "measured profile")
# lapx pads wide matrices to square ones; beyond this side they no longer fit, or take minutes.
_PADDED_SIDE = 1500


def matrix(family: str, n_rows: int, n_columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if family == "uniform":
        return rng.random((n_rows, n_columns))
    if family == "integer ties":
        return rng.integers(0, 100, (n_rows, n_columns)).astype(float)
    if family == "product":
        return np.multiply.outer(np.arange(1.0, n_rows + 1), np.arange(1.0, n_columns + 1))
    if family == "product, shuffled":
        return np.multiply.outer(rng.permutation(n_rows) + 1.0, rng.permutation(n_columns) + 1.0)
    if family == "half forbidden":
        cost = rng.random((n_rows, n_columns))
        cost[rng.random((n_rows, n_columns)) < 0.5] = np.inf
        np.fill_diagonal(cost, 1.0)
        return cost
    depth = np.linspace(0.78, 1.45, n_rows)[:, None]
    load = 786_432 * n_rows / 100e6 / rayleigh_efficiency(n_columns, seed=rng)
    return 10 * depth / rng.uniform(0.5, 1.0, n_columns) + load


def assignment_case(family: str, shape: tuple[int, int]) -> Case:
    cost = matrix(family, *shape)
    rows = np.arange(shape[0])

    def by_pair(answer: object) -> float:
        return float(cost[answer[0], answer[1]].sum())

    def by_row(answer: object) -> float:
        return float(cost[rows, answer].sum())

    contenders: dict[str, Solve] = {
        "lola": lambda: linear_assignment(cost).column_of_row,
        "scipy": lambda: linear_sum_assignment(cost),
    }
    values: dict[str, Value] = {"lola": by_row, "scipy": by_pair}
    for name, solve, value in _native_peers(cost, family):
        contenders[name], values[name] = solve, {"pair": by_pair, "row": by_row, "total": float}[value]
    return Case(f"{family} {shape[0]}×{shape[1]}", shape, contenders, "scipy", frozenset(contenders), values)


def _native_peers(cost: np.ndarray, family: str) -> Iterator[tuple[str, Solve, str]]:
    """Every peer that can take the matrix, called in its quickest form, and the form of its answer."""
    import lap
    import lapjv
    import networkx
    from ortools.graph.python.linear_sum_assignment import SimpleLinearSumAssignment
    from scipy.sparse import coo_array

    square = cost.shape[0] == cost.shape[1]
    if square or cost.shape[1] <= _PADDED_SIDE:
        keywords = {"return_cost": False} | ({} if square else {"extend_cost": True})
        yield "lapx lapjvs", lambda: lap.lapjvs(cost, **keywords), "pair"
        if family != "measured profile" or cost.shape[0] <= 1000:  # minutes beyond
            yield "lapx lapjvx", lambda: lap.lapjvx(cost, **keywords), "pair"
            yield "lapx lapjvc", lambda: lap.lapjvc(cost, return_cost=False), "pair"
    if square and family != "half forbidden" and (family != "measured profile" or cost.shape[0] <= 50):
        # It takes no infinity, and minutes on larger measured profiles.
        yield "lapjv", lambda: lapjv.lapjv(cost, force_doubles=True)[0], "row"
    if square and family in ("integer ties", "product", "product, shuffled"):  # OR-Tools' costs are integers
        tails, heads = (index.ravel() for index in np.indices(cost.shape))
        integers = cost.ravel().astype(np.int64)

        def ortools() -> float:
            solver = SimpleLinearSumAssignment()
            solver.add_arcs_with_cost(tails, heads, integers)
            assert solver.solve() == solver.OPTIMAL
            return float(solver.optimal_cost())

        yield "OR-Tools", ortools, "total"
    if max(cost.shape) <= 50 and family != "half forbidden":
        bipartite = networkx.algorithms.bipartite
        graph = bipartite.from_biadjacency_matrix(coo_array(cost + 1.0))  # a stored zero would be no edge
        rows = range(cost.shape[0])

        def match() -> list[int]:
            mates = bipartite.minimum_weight_full_matching(graph, rows)
            return [mates[i] - cost.shape[0] for i in rows]

        yield "networkx", match, "row"


# -- block allocation (P1) --------------------------------------------------------------------------------------------

# Of a quantised fleet.
SPEEDS = (0.5, 0.75, 1.0)
MEMORIES_BYTES = (1e9, 1.5e9, 2e9)


def allocation(n_devices: int, n_blocks: int, seed: int = 0, *, quantised: bool = False) -> dict:
    """A fleet as in the paper and a profile that rises linearly, with memory that binds for some.

    Quantised, it has a few speeds, a few sizes of memory, and the channel qualities that radios report.
    """
    fleet = lola.Fleet.sample(n_devices, seed=seed)
    if quantised:
        rng = np.random.default_rng(seed)
        fleet = lola.Fleet(
            speed=rng.choice(SPEEDS, n_devices),
            memory_bytes=rng.choice(MEMORIES_BYTES, n_devices),
            spectral_efficiency=rng.choice(CQI_EFFICIENCY, n_devices),
        )
    memory = np.linspace(0.5e9, 1.5e9, n_blocks)
    room = fleet.memory_bytes.copy()
    room[:n_blocks] = np.maximum(room[:n_blocks], memory[-1])  # always feasible
    return {
        "latency_s": np.linspace(0.8, 1.5, n_blocks),
        "depth_memory_bytes": memory,
        "upload_bits": 786_432.0,
        "speed": fleet.speed.copy(),
        "memory_bytes": room,
        "spectral_efficiency": fleet.spectral_efficiency.copy(),
        "bandwidth_hz": 100e6,
        "local_steps": 10,
    }


def search_with_scipy(latency: np.ndarray) -> float:
    """Bisect the latencies; scipy's assignment of zeros and ones says whether a threshold is enough."""
    values = np.unique(latency[np.isfinite(latency)])
    low, high = -1, values.size - 1
    while high - low > 1:
        middle = (low + high) // 2
        blocked = (latency > values[middle]).astype(float)
        rows, columns = linear_sum_assignment(blocked)
        if blocked[rows, columns].sum() == 0:
            high = middle
        else:
            low = middle
    return float(values[high])


def block_case(n_devices: int, n_blocks: int, slow: bool) -> Case:
    arguments = allocation(n_devices, n_blocks)
    latency = oracle.equal_split_matrix(**arguments) if n_devices <= 100_000 else np.empty((0, 0))
    contenders: dict[str, Solve] = {
        "block_allocation": lambda: block_allocation(**arguments),
        "Hopcroft–Karp threshold": lambda: bottleneck_assignment(latency),
        "0/1 scipy threshold": lambda: search_with_scipy(latency),
        "CRUNCH": lambda: crunch(**arguments),
    }
    if slow:
        contenders["conventional"] = lambda: conventional_allocation(**arguments)
    name = f"P1, K = {n_devices}, L = {n_blocks}"
    return Case(name, (n_devices, n_blocks), contenders, "block_allocation", frozenset(contenders))


# -- joint allocation (P2) --------------------------------------------------------------------------------------------


def newton_with_scipy(
    latency_s: np.ndarray,
    depth_memory_bytes: np.ndarray,
    upload_bits: np.ndarray,
    speed: np.ndarray,
    memory_bytes: np.ndarray,
    spectral_efficiency: np.ndarray,
    *,
    bandwidth_hz: float,
    local_steps: int,
    allowed: None = None,
) -> float:
    """The method of `joint_allocation` in numpy and scipy: what a user could write in an hour."""
    n_blocks = latency_s.shape[0]
    compute = np.where(memory_bytes >= depth_memory_bytes[:, None], local_steps * latency_s[:, None] / speed, np.inf)
    load = np.broadcast_to(upload_bits, (n_blocks,))[:, None] / spectral_efficiency / bandwidth_hz
    rows, columns = linear_sum_assignment(compute + n_blocks * load)
    while True:
        chosen, need = compute[rows, columns], load[rows, columns]
        finish = (chosen + need).max()
        for _ in range(100):
            share = need / (finish - chosen)
            total = share.sum()
            step = (total - 1.0) * total / (share / (finish - chosen)).sum()
            if not finish + step > finish:
                break
            finish += step
        left = finish * (1 - 2.5e-13) - compute
        cost = np.minimum(np.divide(load, left, out=np.full_like(left, 2.0), where=left > 0), 2.0)
        rows, columns = linear_sum_assignment(cost)
        if cost[rows, columns].sum() > 1:
            return float(finish)


def joint_case(n_devices: int, n_blocks: int, *, scip_s: float = 0.0, ascent: bool = True) -> Case:
    arguments = allocation(n_devices, n_blocks)
    contenders: dict[str, Solve] = {
        "joint_allocation": lambda: joint_allocation(**arguments),
        "numpy + scipy Newton": lambda: newton_with_scipy(**arguments),
    }
    if ascent:
        contenders["dual ascent, 1,000 iterations"] = lambda: dual_ascent(**arguments)
    if scip_s:
        contenders["SCIP"] = lambda: oracle.joint_misocp(**arguments, time_limit_s=scip_s)
    exact = frozenset(contenders) - {"dual ascent, 1,000 iterations"}
    return Case(f"P2, K = {n_devices}, L = {n_blocks}", (n_devices, n_blocks), contenders, "joint_allocation", exact)


def paper_rounds(n_devices: int, count: int) -> Iterator[dict]:
    """Rounds as in the paper: the built-in profile and fleets of K devices, one seed each."""
    scenario = builtin_scenario()
    for seed in range(count):
        fleet = lola.Fleet.sample(n_devices, seed=seed)
        problem = lola.Problem(scenario.profile, fleet, scenario.bandwidth_hz, scenario.local_steps)
        yield problem.solver_arguments()


# -- segments (P3) ----------------------------------------------------------------------------------------------------


def segment_arguments(n_devices: int, n_blocks: int, seed: int = 0, *, quantised: bool = False) -> dict:
    """`allocation`, where one more block costs what it does in the built-in profile."""
    arguments = allocation(n_devices, n_blocks, seed, quantised=quantised)
    profile = builtin_scenario().profile
    return arguments | {
        "extra_latency_s": arguments["latency_s"][0] * np.mean(profile.extra_latency_s) / profile.latency_s[0],
        "extra_memory_bytes": np.mean(profile.extra_memory_bytes),
    }


def segment_case(n_devices: int, n_blocks: int) -> Case:
    arguments = segment_arguments(n_devices, n_blocks)
    contenders: dict[str, Solve] = {
        "segment_allocation": lambda: segment_allocation(**arguments),
        "MILP": lambda: oracle.segment_milp(**arguments),
    }
    name = f"P3, K = {n_devices}, L = {n_blocks}"
    return Case(name, (n_devices, n_blocks), contenders, "segment_allocation", frozenset(contenders))


def small_cases() -> list[Case]:
    """Cases that a test can afford, of every kind."""
    return [
        *(assignment_case(family, shape) for family in FAMILIES for shape in ((10, 10), (50, 50), (12, 20), (24, 200))),
        *(block_case(k, n, slow=k < 50) for k, n in ((12, 12), (20, 12), (100, 24))),
        *(joint_case(k, n) for k, n in ((12, 12), (20, 12), (100, 24))),
        joint_case(7, 3, scip_s=60.0),
        *(segment_case(k, n) for k, n in ((3, 5), (8, 6))),
    ]


def check(case: Case) -> None:
    """Assert that all contenders agree where they must."""
    wanted = case.value(case.reference)
    for name in case.contenders:
        value = case.value(name)
        if name in case.exact:
            assert abs(value - wanted) <= 1e-6 * abs(wanted), (case.name, name, value, wanted)
        else:
            assert value >= wanted * (1 - 1e-9), (case.name, name, value, wanted)
