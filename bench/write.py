"""Turn measured results into RESULTS.md and plots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

# Orders as published or proven, in K and in L; "–" where none is claimed.
THEORY = {
    "block_allocation": ("K", "L"),
    "Hopcroft–Karp threshold": ("K log K", "L^1.5 log L"),
    "0/1 scipy threshold": ("K log K", "L² log L"),
    "CRUNCH": ("K² (published)", "L"),
    "conventional": ("K⁴ (published, K ≥ L)", "L"),
    "joint_allocation": ("K", "L² to L³"),
    "numpy + scipy Newton": ("K", "L² to L³"),
    "dual ascent, 1,000 iterations": ("K", "L² to L³"),
}


def slope(points: list) -> float:
    """Exponent fitted over the three largest sizes, where the leading term shows."""
    sizes, seconds = np.array(points[-3:], dtype=float).T
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def write_results(state: dict, path: Path, plots: Path) -> None:
    plots.mkdir(exist_ok=True)
    parts = [
        "# What lola's solvers cost, and what the alternatives cost\n",
        "Written by `python bench/report.py`; no figure is edited by hand. Contenders of a case are timed in turn in one "
        "process; figures are medians, and only ratios within one run are claimed. `bench/table.py` holds the cases, and "
        "`tests/test_bench_table.py` checks that the contenders give the same answers.\n",
    ]
    writers = {
        "city": _city,
        "batch": _batch,
        "scip": _scip,
        "growth": _growth,
        "grid": _grid,
        "ascent": _ascent,
    }
    for name, write in writers.items():
        if name in state:
            where = f"*{state[name]['machine']}, {state[name]['date']}.*\n"
            parts += [*write(state[name], plots), where]
    path.write_text("\n".join(parts))


def _city(data: dict, _: Path) -> list[str]:
    seconds, extra, fleet = data["seconds"], data["extra_bytes"], data["fleet_bytes"]
    rows = []
    for solver in data["solvers"]:
        plain, tied = (seconds[f"{solver}, {kind}"] for kind in ("continuous", "quantised"))
        most = max(extra[f"{solver}, {kind}"] for kind in ("continuous", "quantised"))
        rows.append(
            f"| {solver} | {plain / seconds['read']:.1f} | {tied / seconds['read']:.1f} | {tied / plain:.2f} "
            f"| {most / fleet:.2f} |"
        )
    return [
        f"## A city: K = {data['devices']:,} devices, L = 24 blocks, one thread\n",
        "In units of *read*, the time of `numpy.sum` over the three fleet vectors "
        f"({seconds['read'] * 1e3:.2f} ms here). Validation and proof included. The quantised fleet has three speeds, "
        "three sizes of memory and the fifteen channel qualities that radios report, so that thousands of devices tie; "
        "subcarriers are 180 kHz wide.\n",
        "| solver | reads | reads, quantised | quantised / continuous | extra memory / fleet's own |"
        "\n|---|---:|---:|---:|---:|",
        *rows,
        "",
    ]


def _batch(data: dict, _: Path) -> list[str]:
    each = data["seconds_each"]
    slowest = each["numpy + scipy Newton"]
    rows = [f"| {name} | {seconds * 1e6:.1f} | {slowest / seconds:.1f} × |" for name, seconds in each.items()]
    return [
        f"## Many rounds: K = 20, L = 12, {data['rounds']:,} rounds of Rayleigh fading, {data['threads']} cores\n",
        "The same Newton method each time; answers differ by at most "
        f"{data['largest_difference']:.0e}. Validation and proof are included except in the last line, which proves "
        "nothing.\n",
        "| | µs a round | faster than the last line |\n|---|---:|---:|",
        *rows,
        "",
    ]


def _scip(data: dict, _: Path) -> list[str]:
    rows = [
        f"| {c['size'][0]} × {c['size'][1]} | {c['scip_s']:.2f} | {c['ours_s'] * 1e6:.0f} | "
        f"{c['scip_s'] / c['ours_s']:,.0f} × | {c['difference']:.0e} |"
        for c in data["cases"]
    ]
    return [
        "## (P2) against SCIP's cone program\n",
        "Cases K × L of growing size until SCIP no longer finishes within a minute.\n",
        "| K × L | SCIP, s | `joint_allocation`, µs | ratio | difference |\n|---|---:|---:|---:|---:|",
        *rows,
        "",
    ]


def _growth(data: dict, plots: Path) -> list[str]:
    figure = Figure(figsize=(11, 8), layout="constrained")
    colours: dict[str, str] = {}
    for axes, (key, label) in zip(
        figure.subplots(2, 2).ravel(),
        (("P1 K", "K, L = 24"), ("P1 L", "L, K = 200"), ("P2 K", "K, L = 24"), ("P2 L", "L, K = 200")),
        strict=True,
    ):
        for name, points in data[key].items():
            colour = colours.setdefault(name, f"C{len(colours)}")
            axes.loglog(*np.array(points).T, marker="o", markersize=3, color=colour, label=name)
        if key.endswith("L"):
            sizes = [int(size) for size, _ in next(iter(data[key].values()))]
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.set_xticks([], minor=True)
        axes.set_xlabel(label)
        axes.set_ylabel("seconds")
        axes.set_title(f"({key[:2]})", loc="left")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    figure.savefig(plots / "growth.png", dpi=120)
    rows = []
    for problem in ("P1", "P2"):
        for name in data[f"{problem} K"]:
            k, n = data[f"{problem} K"][name], data[f"{problem} L"].get(name, [])
            in_l = f"{slope(n):.2f}" if len(n) > 1 else "–"
            rows.append(f"| ({problem}) {name} | {slope(k):.2f} | {THEORY[name][0]} | {in_l} | {THEORY[name][1]} |")
    thousand = {
        problem: {name: dict(map(tuple, points)).get(1000) for name, points in data[f"{problem} K"].items()}
        for problem in ("P1", "P2")
    }
    fast = {"P1": "block_allocation", "P2": "joint_allocation"}
    ratios = [
        f"| ({problem}) {name} | {seconds / times[fast[problem]]:,.1f} × |"
        for problem, times in thousand.items()
        for name, seconds in times.items()
        if seconds and name != fast[problem]
    ]
    return [
        "## How cost grows\n",
        "![Time against K and against L, log-log](plots/growth.png)\n",
        "Exponents fitted over the three largest sizes of each, beside the order as published or proven. Published orders "
        "are worst cases: a search that stops early, or a vectorised pass, can stay below them.\n",
        "| algorithm | fitted in K | order in K | fitted in L | order in L |\n|---|---:|---|---:|---|",
        *rows,
        "\nAt K = 1,000 and L = 24, slower than lola's solver of the same problem by\n",
        "| algorithm | |\n|---|---:|",
        *ratios,
        "",
    ]


def _grid(data: dict, plots: Path) -> list[str]:
    cells = {(tuple(c["shape"]), c["family"]): c for c in data["cells"]}
    shapes, families = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    ratio = np.array([[cells[s, f]["ours"] / cells[s, f]["peer_s"] for f in families] for s in shapes])
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.log2(ratio), cmap="RdYlGn_r", vmin=-3, vmax=3, aspect="auto")
    axes.set_xticks(range(len(families)), [name.replace(" ", "\n") for name in families])
    axes.set_yticks(range(len(shapes)), [f"{n} × {m}" for n, m in shapes])
    for (i, j), value in np.ndenumerate(ratio):
        peer = cells[shapes[i], families[j]]["peer"].removeprefix("lapx ")
        axes.text(j, i, f"{value:.2f}\n{peer}", ha="center", va="center", fontsize=8)
    axes.set_title("linear_assignment: time / fastest peer's", loc="left")
    figure.colorbar(image, label="log2 of the ratio")
    figure.savefig(plots / "grid.png", dpi=120)
    rows = [
        f"| {n} × {m} | "
        + " | ".join(f"{ratio[i, j]:.2f} ({cells[(n, m), f]['peer']})" for j, f in enumerate(families))
        + " |"
        for i, (n, m) in enumerate(shapes)
    ]
    above = int((ratio > 1.5).sum())
    return [
        "## `linear_assignment` against every peer\n",
        "Time divided by that of the fastest peer in the cell (its name in brackets). Peers: scipy, lapx (three variants), "
        "lapjv, OR-Tools (integer costs), networkx (small ones); those that take no infinity, pad wide matrices beyond a "
        "side of 1,500, or take minutes, are left out where they do. The time is of the whole call from Python until the "
        "assignment is at hand; lola's includes validation, the objective and the duals.\n",
        "![Grid of ratios](plots/grid.png)\n",
        f"Geometric mean {data['geometric_mean']:.2f}; largest {data['worst']:.2f}; {above} of {ratio.size} cells above "
        "1.5.\n",
        "| | " + " | ".join(families) + " |\n|---|" + "---|" * len(families),
        *rows,
        "",
    ]


def _ascent(data: dict, plots: Path) -> list[str]:
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    curve, primal, bound = figure.subplots(1, 3)
    rows = []
    for i, n_devices in enumerate(("20", "50")):
        part = data[n_devices]
        low, middle, high = np.array(part["iterations"]) * 100
        steps = np.arange(1, middle.size + 1)
        curve.plot(steps, middle, color=f"C{i}", label=f"K = {n_devices}")
        curve.fill_between(steps, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
        primal.hist(np.array(part["primal"]) * 100, bins=15, alpha=0.6, color=f"C{i}", label=f"K = {n_devices}")
        bound.hist(np.array(part["bound"]) * 100, bins=15, alpha=0.6, color=f"C{i}", label=f"K = {n_devices}")
        cells = [np.quantile(part[side], [0.5, 0.9, 1.0]) * 100 for side in ("primal", "crunched", "bound")]
        rows.append(
            f"| {n_devices} | "
            + " | ".join(f"{a:.1f} / {b:.1f} / {c:.1f} %" for a, b, c in cells)
            + f" | {min(part['bound_reached']):.1%} |"
        )
    curve.set_xlabel("iteration")
    curve.set_ylabel("best schedule above the optimum, %")
    curve.set_xscale("log")
    primal.set_xlabel("schedule above the optimum, %")
    bound.set_xlabel("bound below the optimum, %")
    primal.set_ylabel("rounds")
    for axes in (curve, primal, bound):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(plots / "dual_ascent.png", dpi=120)
    count = sum(len(data[k]["primal"]) for k in ("20", "50"))
    return [
        "## Dual ascent against the optimum\n",
        f"{count} rounds as in the paper (L = 12), 1,000 iterations each of Algorithm 3 with what it leaves open chosen in "
        "its favour: λ kept on the simplex, adaptive Polyak steps, and the best schedule recovered on the way from the "
        "inner assignment and from the devices of Lemma 1, its bandwidth split optimally. Median / 90 % / worst. The last "
        "column is the worst of ten rounds against the best bound that any multipliers can give, from a cone program.\n",
        "![Gap over iterations, and its distribution](plots/dual_ascent.png)\n",
        "| K | schedule above the optimum | the same, crunched | bound below the optimum | bound / best possible |\n"
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
