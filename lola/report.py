"""Schedules as tables for a terminal."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from lola.problem import Problem
from lola.solution import Schedule


def round_table(schedule: Schedule, problem: Problem) -> Table:
    """Lay out one line per block: who takes it, what it needs, and how long it takes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("depth", justify="right")
    table.add_column("block", justify="right")
    table.add_column("device", overflow="fold")
    for heading in ("needs\nGB", "offers\nGB", "band\nMHz", "compute\ns", "upload\ns", "total\ns"):
        table.add_column(heading, justify="right", no_wrap=True)
    totals = schedule.compute_s + schedule.upload_s
    for i, device in enumerate(schedule.device_of_block.tolist()):
        wall = bool(schedule.hits_memory_wall[i])
        table.add_row(
            str(i + 1),
            str(problem.n_blocks - i),
            Text(problem.fleet.label(device)),
            f"{problem.profile.memory_bytes[i] / 1e9:.2f}",
            Text(f"{problem.fleet.usable_memory_bytes[device] / 1e9:.2f}", style="red" if wall else ""),
            f"{schedule.bandwidth_hz[i] / 1e6:.3f}",
            f"{schedule.compute_s[i]:.3f}",
            f"{schedule.upload_s[i]:.3f}",
            f"{totals[i]:.3f}",
        )
    return table


def proof_line(schedule: Schedule, *, verified: bool) -> str:
    """Say what is proven about the round, in one line."""
    walls = int(schedule.hits_memory_wall.sum())
    if schedule.proof is None:
        line = f"no bound: {schedule.method} claims nothing about other schedules"
        if walls:
            line += f"; {walls} device(s) lack the memory for their block and would hit the memory wall"
        return line
    split = "" if schedule.method == "jbba" else " under an equal split of the bandwidth"
    check = ", verified" if verified else ""
    return f"optimal: no schedule{split} is faster than {schedule.lower_bound_s:.6f} s{check}"


def comparison_table(schedules: Mapping[str, Schedule | str]) -> Table:
    """Lay out one line per method; a text stands for a method that gave no schedule, and says why."""
    found = [schedule.latency_s for schedule in schedules.values() if isinstance(schedule, Schedule)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method")
    for heading in ("round\ns", "against\nthe best", "gap to\nits bound", "devices at the\nmemory wall"):
        table.add_column(heading, justify="right", no_wrap=True)
    for method, schedule in schedules.items():
        if isinstance(schedule, str):
            table.add_row(method, "–", "–", schedule, "–")
            continue
        gap = "none" if schedule.proof is None else f"{max(schedule.gap, 0.0):.1e}"
        table.add_row(
            method,
            f"{schedule.latency_s:.3f}",
            f"{schedule.latency_s / min(found):.3f}×",
            gap,
            str(int(schedule.hits_memory_wall.sum())),
        )
    return table
