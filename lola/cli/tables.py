"""Schedules, profiles and stages as tables for a terminal."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from lola.chains.stages import StageProfile
from lola.methods import method_named
from lola.problem import Problem, segments, span
from lola.profile import Profile
from lola.rounds import PARAMETERS
from lola.simulation import Simulation
from lola.solution import Schedule
from lola.solvers.checks import FloatArray, IntArray

if TYPE_CHECKING:
    from lola.chains.chain import Chain
    from lola.chains.clusters import Clusters
    from lola.chains.horizon import HorizonProblem
    from lola.chains.metrics import ChainMetrics
    from lola.chains.problem import ChainProblem
    from lola.solvers.horizon import HorizonPlan, HorizonRun

# What a column's numbers are divided by, and its name: the usual unit, and that of tiny models.
Unit = tuple[float, str]
_BYTES: tuple[Unit, Unit] = ((1e9, "GB"), (1e6, "MB"))
_SECONDS: tuple[Unit, Unit] = ((1.0, "s"), (1e-3, "ms"))
_TIMES = ("compute", "upload", "total")
# Of a chain's rows: a stage forward and backward, and what it and the next stage send each other.
_BOTH_WAYS = (("forward_s", "backward_s"), ("hop_s", "return_s"))


def round_table(schedule: Schedule, problem: Problem) -> Table:
    """Lay out one line per block, or segment of blocks: who takes it, what it needs, and how long it takes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("depth", justify="right")
    table.add_column("block", justify="right")
    table.add_column("device", overflow="fold")
    totals = schedule.compute_s + schedule.upload_s + problem.broadcast_s
    needs = problem.memory_bytes_of(schedule.device_of_block)
    (giga, bytes_), (whole, time) = _scale(needs, *_BYTES), _scale(totals, *_SECONDS)
    memory, times = (f"needs\n{bytes_}", f"offers\n{bytes_}"), (f"{what}\n{time}" for what in _TIMES)
    for heading in (*memory, "band\nMHz", *times):
        table.add_column(heading, justify="right", no_wrap=True)
    for depths in segments(schedule.device_of_block):
        i, deepest = depths.start - 1, depths[-1]
        device, wall = int(schedule.device_of_block[i]), bool(schedule.hits_memory_wall[i])
        table.add_row(
            span(depths),
            span(range(problem.n_blocks - i, problem.n_blocks - deepest, -1)),
            Text(problem.fleet.label(device)),
            _short(needs[i] / giga, 2),
            Text(_short(problem.fleet.usable_memory_bytes[device] / giga, 2), style="red" if wall else ""),
            _short(schedule.bandwidth_hz[i:deepest].sum() / 1e6, 3),
            _short(schedule.compute_s[i] / whole, 3),
            _short(schedule.upload_s[i] / whole, 3),
            _short(totals[i] / whole, 3),
        )
    return table


def _scale(values: FloatArray, unit: Unit, smaller: Unit) -> Unit:
    """Choose the unit of a column: the smaller one where all that matters would have fewer than two digits."""
    return smaller if 0 < values.max() < 0.1 * unit[0] else unit


def _short(value: float, decimals: int) -> str:
    """Write fixed decimals where they say enough, significant digits elsewhere."""
    return f"{value:.{decimals}f}" if value == 0 or 10.0**-decimals <= value < 1e4 else f"{value:.3g}"


def blocks_allowed(max_blocks: int | None) -> str:
    """Say how many blocks a device may take, where that may be several."""
    return "any number of" if max_blocks is None else f"up to {max_blocks}"


def segments_line(schedule: Schedule, problem: Problem) -> str:
    """Say in one line how many devices share the blocks."""
    used, allowed = len(schedule.segments), blocks_allowed(problem.max_blocks)
    return f"segments: {used} device(s) take part; each may take {allowed} consecutive blocks"


def proof_line(schedule: Schedule, problem: Problem) -> str:
    """Say in one line what is proven about a round that was verified."""
    method = method_named(schedule.method)
    if not method.claim:
        line = f"no bound: {method.name} claims nothing about other schedules"
        walled = [problem.fleet.label(k) for k in schedule.device_of_block[schedule.hits_memory_wall].tolist()]
        if walled:
            line += f"; {len(walled)} device(s) lack the memory for their block: {', '.join(walled)}"
        return line
    bound = f"{method.claim} is faster than {seconds(schedule.lower_bound_s)}, verified"
    if method.exact:
        return f"optimal: {bound}"
    return f"bound: {bound}; this one may be up to {schedule.gap:.1%} from the optimum"


def percent(share: float) -> str:
    """Per cent in two digits, but for what is mere rounding."""
    return "less than 0.01 %" if share < 1e-4 else f"{100 * share:.2g} %"


def seconds(value: float) -> str:
    """Seconds with enough digits to tell two rounds apart."""
    return f"{value:.6f} s" if 1e-3 <= value < 1e6 else f"{value:.9g} s"


def comparison_table(schedules: Mapping[str, Schedule | str]) -> Table:
    """Lay out one line per method; a text stands for a method that gave no schedule, and says why.

    What hits the memory wall cannot be run, so it is never the best possible.
    """
    solved = [schedule for schedule in schedules.values() if isinstance(schedule, Schedule)]
    possible = [schedule.latency_s for schedule in solved if not schedule.hits_memory_wall.any()]
    best = min(possible, default=math.nan)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method")
    for heading in ("round\ns", "against the\nbest possible", "gap to\nits bound", "devices at the\nmemory wall"):
        table.add_column(heading, justify="right", no_wrap=True)
    for method, schedule in schedules.items():
        if isinstance(schedule, str):
            table.add_row(method, "-", "-", schedule, "-")
            continue
        gap = "none" if schedule.proof is None else f"{max(schedule.gap, 0.0):.1e}"
        table.add_row(
            method,
            _short(schedule.latency_s, 3),
            f"{schedule.latency_s / best:.3f}",
            gap,
            str(int(schedule.hits_memory_wall.sum())),
        )
    return table


def horizon_table(problem: "HorizonProblem", demand: IntArray, runs: "Mapping[str, HorizonRun]") -> Table:
    """Lay out one line per round: what is asked for, and what each way to act does with it and has earned by then."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("round", justify="right")
    table.add_column("demand", overflow="fold")
    totals = []
    for label, run in runs.items():
        table.add_column(label, overflow="fold")
        for heading in ("profit", "in all"):
            table.add_column(heading, justify="right", no_wrap=True)
        totals.append(run.profit.cumsum())
    for t, model in enumerate(demand.tolist()):
        cells: list[Text | str] = []
        for run, total in zip(runs.values(), totals, strict=True):
            raised = int(run.upgraded[t])
            done = "serve" if raised < 0 else f"fine-tune {problem.label(raised)}"
            cells += [Text(done), f"{run.profit[t]:.6g}", f"{total[t]:.6g}"]
        table.add_row(str(t + 1), Text(problem.label(model)), *cells)
    return table


def plan_proof_line(plan: "HorizonPlan", problem: "HorizonProblem") -> str:
    """Say in one line what is proven about a plan that was verified."""
    what = "policy is expected to earn" if problem.demand is None else "plan earns"
    return f"optimal: no {what} more than {plan.upper_bound:.6g}, verified"


def profile_table(profile: Profile) -> Table:
    """Lay out one line per depth: what it needs, how long it takes, what it uploads, and costs on another's way."""
    evidence = profile.evidence.to_dict() if profile.evidence else {}
    table = Table(box=None, pad_edge=False, header_style="bold")
    (giga, bytes_), (whole, time) = _scale(profile.memory_bytes, *_BYTES), _scale(profile.latency_s, *_SECONDS)
    columns = {f"needs\n{bytes_}": profile.memory_bytes / giga, f"latency\n{time}": profile.latency_s / whole}
    extra = (
        (f"spread\n{time}", "latency_iqr_s", whole),
        ("runs", "repeats", 1.0),
        (f"saved\n{bytes_}", "saved_bytes", giga),
        (f"peak\n{bytes_}", "peak_bytes", giga),
        (f"reserved\n{bytes_}", "reserved_bytes", giga),
        (f"process\n{bytes_}", "process_peak_bytes", giga),
        ("TFLOP", "flops", 1e12),
    )
    columns |= {heading: evidence[name] / scale for heading, name, scale in extra if name in evidence}
    columns["upload\nMbit"] = profile.upload_bits / 1e6
    if profile.extra_latency_s is not None:
        columns[f"extra\n{time}"] = profile.extra_latency_s / whole
    if profile.extra_memory_bytes is not None:
        columns["extra\nMB"] = profile.extra_memory_bytes / 1e6
    table.add_column("depth", justify="right")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for i in range(profile.n_blocks):
        cells = [f"{int(v[i])}" if heading == "runs" else _short(float(v[i]), 3) for heading, v in columns.items()]
        if "repeats" in evidence and not evidence["repeats"][i]:  # on the line between two depths that were run
            cells = [
                "-" if heading in (f"spread\n{time}", "runs") else c for heading, c in zip(columns, cells, strict=True)
            ]
        table.add_row(str(i + 1), *cells)
    return table


def stages_table(stages: StageProfile) -> Table:
    """Lay out one line per module: how long it takes, what it holds in training and inference, what it hands on."""
    whole, time = _scale(np.append(stages.forward_s, stages.backward_s), *_SECONDS)
    giga, bytes_ = _scale(stages.memory_bytes, *_BYTES)
    columns = {
        f"forward\n{time}": stages.forward_s / whole,
        f"backward\n{time}": stages.backward_s / whole,
        f"training\n{bytes_}": stages.memory_bytes / giga,
        f"workspace\n{bytes_}": stages.workspace_bytes / giga,
        f"inference\n{bytes_}": stages.inference_memory_bytes / giga,
        "tunable\nMbit": stages.tunable_bits / 1e6,
        "hop\nMbit": stages.hop_bits / 1e6,
        "return\nMbit": stages.return_bits / 1e6,
    }
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("module", no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for i, name in enumerate(stages.module):
        table.add_row(name, *(_short(float(v[i]), 3) if i < len(v) else "-" for v in columns.values()))
    return table


def simulation_table(simulation: Simulation) -> Table:
    """Lay out one line per point and method: mean latency, against the first method's, median, and the memory wall."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    if simulation.axis:
        label, unit, scale = PARAMETERS[simulation.axis]
        table.add_column(f"{label}\n{unit}".rstrip(), justify="right", no_wrap=True)
    table.add_column("method", no_wrap=True)
    first = f"against\n{simulation.methods[0]}"
    for heading in ("mean\ns", "95 %\n± s", first, "median\ns", "wall, %\nrounds", "wall, %\ndevices", "rounds"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = simulation.rows()
    for i, row in enumerate(rows):
        new = i % len(simulation.methods) == 0
        if new and i:
            table.add_row()
        at = [f"{row[simulation.axis] / scale:.6g}" if new else ""] if simulation.axis else []
        table.add_row(
            *at,
            row["method"],
            _short(row["mean_s"], 3),
            _short(row["half_width_s"], 3),
            f"{row['mean_s'] / rows[i - i % len(simulation.methods)]['mean_s']:.3f}",
            _short(row["median_s"], 3),
            f"{100 * row['wall_rounds']:.1f}",
            f"{100 * row['wall_devices']:.1f}",
            f"{row['rounds']:,}",
        )
    return table


def chain_table(chain: "Chain", problem: "ChainProblem") -> Table:
    """Lay out one line per stage: who takes which modules, what they need, and how long they and the hop after take."""
    from lola.chains.times import modules_in_words

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("modules", overflow="fold")
    table.add_column("client", overflow="fold")
    rows = chain.rows()
    needs = [problem.stages.peak_bytes(run, inference=problem.inference) for _, run in chain.stages]
    compute, hop = ([row[one] + row[other] for row in rows] for one, other in _BOTH_WAYS)
    (giga, bytes_), (whole, time) = _scale(np.array(needs), *_BYTES), _scale(np.array([*compute, *hop]), *_SECONDS)
    for heading in (f"needs\n{bytes_}", f"offers\n{bytes_}", f"compute\n{time}", f"hop\n{time}", f"total\n{time}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for (client, run), need, computed, sent in zip(chain.stages, needs, compute, hop, strict=True):
        table.add_row(
            Text(modules_in_words(problem.stages, run)),
            Text(problem.clients.label(client)),
            _short(need / giga, 2),
            _short(problem.clients.memory_bytes[client] / giga, 2),
            *(_short(seconds / whole, 3) for seconds in (computed, sent, computed + sent)),
        )
    return table


def metrics_table(metrics: "ChainMetrics", chain: "Chain", problem: "ChainProblem") -> Table:
    """Lay out one line per stage, and their sums: seconds and joules, and bytes by kind of link."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("client", overflow="fold")
    energy = metrics.energy_j
    columns = {
        "busy\ns": (metrics.busy_s, 2),
        **({} if energy is None else {"energy\nJ": (energy, 1)}),
        "to clients\nMB": (metrics.d2d_bytes / 1e6, 2),
        "delivered\nMB": (metrics.downlink_bytes / 1e6, 2),
        "uploaded\nMB": (metrics.uplink_bytes / 1e6, 2),
        "full model\nMB": (metrics.model_bytes / 1e6, 2),
    }
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for stage, (client, _) in enumerate(chain.stages):
        cells = (_short(values[stage], decimals) for values, decimals in columns.values())
        table.add_row(Text(problem.clients.label(client)), *cells)
    table.add_row("in all", *(_short(values.sum(), decimals) for values, decimals in columns.values()), style="bold")
    return table


def chain_proof_line(chain: "Chain", problem: "ChainProblem") -> str:
    """Say in one line what is proven about a chain that was verified."""
    unit = "s, weighted with energy" if problem.energy_weight else "s"
    number = seconds(chain.lower_bound_s).removesuffix(" s")
    what = (
        "no split has less than" if problem.objective == "max" or problem.energy_weight else "no split is faster than"
    )
    bound = f"{what} {number} {unit}, verified"
    if chain.is_proven_optimal:
        return f"optimal: {bound}"
    return f"bound: {bound}; this one may be up to {chain.gap:.1%} from the optimum"


def clusters_line(clusters: "Clusters") -> str:
    """Say in one line what is proven about chains that were verified."""
    if clusters.goal == "slowest":
        value, claim = seconds(clusters.objective), f"no {len(clusters.chains)} chains have a faster slowest one than"
        bound = seconds(clusters.bound)
    else:
        value, claim = f"{clusters.objective:.6g} batches a second", "no chains together make more than"
        bound = f"{clusters.bound:.6g}"
    how = "all sets of clients compared" if clusters.proof is None else "verified"
    line = f"clusters: {value}; {claim} {bound}, {how}"
    return line if clusters.gap <= 1e-12 else f"{line}; these may be up to {clusters.gap:.1%} from the optimum"
