"""Turn measured results into RESULTS.md and plots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from page import Template, claim, rows, write_page
from table import CQI_EFFICIENCY, MEMORIES_BYTES, SPEEDS

# Orders as published or proven, in K and in L, with the exponent of the leading term.
THEORY = {
    "block_allocation": (("K", 1.0), ("L", 1.0)),
    "Hopcroft–Karp threshold": (("K log K", 1.0), ("L^1.5 log L", 1.5)),
    "0/1 scipy threshold": (("K log K", 1.0), ("L² log L", 2.0)),
    "CRUNCH": (("K² (published)", 2.0), ("L", 1.0)),
    "conventional": (("K⁴ (published, K ≥ L)", 4.0), ("L", 1.0)),
    "joint_allocation": (("K", 1.0), ("L² to L³", 3.0)),
    "numpy + scipy Newton": (("K", 1.0), ("L² to L³", 3.0)),
    "dual ascent, 1,000 iterations": (("K", 1.0), ("L² to L³", 3.0)),
}
OURS = {"P1": "block_allocation", "P2": "joint_allocation"}
# What a logarithm and a small size can add to an exponent that is fitted over a decade.
ABOVE_ORDER = 0.25
SLOW_CELL = 1.5  # a cell of the grid is named slow from this ratio on
SCIP_LIMIT_S, SCIP_MOST_BLOCKS = 60.0, 39

say = Template("results")


def slope(points: list) -> float:
    """Exponent fitted over the three largest sizes, where the leading term shows."""
    sizes, seconds = np.array(points[-3:], dtype=float).T
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def write_results(state: dict, path: Path, plots: Path) -> None:
    plots.mkdir(exist_ok=True)
    for name, draw in {"growth": draw_growth, "grid": draw_grid, "ascent": draw_ascent}.items():
        if name in state:
            draw(state[name], plots)
    write_page(path, [say("head"), *(block for name in SECTIONS if name in state for block in section(name, state))])


def section(name: str, state: dict) -> list[str]:
    """Return the text of a section, and where and when it was measured."""
    data = state[name]
    return [SECTIONS[name](data), say("where", machine=data["machine"], date=data["date"])]


def city(data: dict) -> str:
    seconds, extra, fleet = data["seconds"], data["extra_bytes"], data["fleet_bytes"]
    lines = []
    for solver in data["solvers"]:
        plain, tied = (seconds[f"{solver}, {kind}"] for kind in ("continuous", "quantised"))
        most = max(extra[f"{solver}, {kind}"] for kind in ("continuous", "quantised"))
        reads = [f"{time / seconds['read']:.1f}" for time in (plain, tied)]
        lines.append([solver, *reads, f"{tied / plain:.2f}", f"{most / fleet:.2f}"])
    kinds = [len(SPEEDS), len(MEMORIES_BYTES), len(CQI_EFFICIENCY)]
    return say(
        "city",
        devices=data["devices"],
        read_ms=seconds["read"] * 1e3,
        speeds=kinds[0],
        memories=kinds[1],
        qualities=kinds[2],
        alike=data["devices"] // int(np.prod(kinds)),
        rows=rows(lines),
    )


def batch(data: dict) -> str:
    each = data["seconds_each"]
    *_, (last, slowest) = each.items()
    claim(last == "numpy + scipy Newton", "what is in the last line proves nothing")
    lines = [[name, f"{seconds * 1e6:.1f}", f"{slowest / seconds:.1f} ×"] for name, seconds in each.items()]
    return say(
        "batch",
        rounds=data["rounds"],
        threads=data["threads"],
        difference=data["largest_difference"],
        rows=rows(lines),
    )


def scip(data: dict) -> str:
    cases = data["cases"]
    claim(all(case["scip_s"] <= SCIP_LIMIT_S for case in cases), "SCIP finished these cases within a minute")
    lines = [
        [
            f"{case['size'][0]} × {case['size'][1]}",
            f"{case['scip_s']:.2f}",
            f"{case['ours_s'] * 1e6:.0f}",
            f"{case['scip_s'] / case['ours_s']:,.0f} ×",
            f"{case['difference']:.0e}",
        ]
        for case in cases
    ]
    stops = cases[-1]["size"][1] < SCIP_MOST_BLOCKS
    return say("scip", reach=say("scip stops" if stops else "scip does not stop"), rows=rows(lines))


def growth(data: dict) -> str:
    lines, above, ratios = [], [], []
    for problem, ours in OURS.items():
        series = {axis: data[f"{problem} {axis}"] for axis in ("K", "L")}
        for name in series["K"]:
            cells = [f"({problem}) {name}"]
            for axis, (order, exponent) in zip(("K", "L"), THEORY[name], strict=True):
                points = series[axis].get(name, [])
                fitted = slope(points) if len(points) > 1 else np.nan
                cells += ["–" if np.isnan(fitted) else f"{fitted:.2f}", order]
                if fitted > exponent + ABOVE_ORDER:
                    above.append(f"{cells[0]} in {axis}")
            lines.append(cells)
        thousand = {name: dict(map(tuple, points)).get(1000) for name, points in series["K"].items()}
        ratios += [
            [f"({problem}) {name}", f"{seconds / thousand[ours]:,.1f} ×"]
            for name, seconds in thousand.items()
            if seconds and name != ours
        ]
    names = {"names": ", ".join(above)} if above else {}
    return say(
        "growth",
        above=say("growth above" if above else "growth nowhere above", tolerance=ABOVE_ORDER, **names),
        rows=rows(lines),
        ratios=rows(ratios),
    )


def grid_ratios(data: dict) -> tuple[dict, list, list, np.ndarray]:
    """Return the cells by shape and family, both axes, and lola's time over the fastest peer's."""
    cells = {(tuple(cell["shape"]), cell["family"]): cell for cell in data["cells"]}
    shapes, families = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    ratio = np.array([[cells[s, f]["ours"] / cells[s, f]["peer_s"] for f in families] for s in shapes])
    return cells, shapes, families, ratio


def grid(data: dict) -> str:
    cells, shapes, families, ratio = grid_ratios(data)
    lines = [
        [f"{n} × {m}"] + [f"{ratio[i, j]:.2f} ({cells[(n, m), f]['peer']})" for j, f in enumerate(families)]
        for i, (n, m) in enumerate(shapes)
    ]
    return say(
        "grid",
        mean=np.exp(np.log(ratio).mean()),
        largest=ratio.max(),
        above=int((ratio > SLOW_CELL).sum()),
        limit=SLOW_CELL,
        cells=ratio.size,
        table="| | " + " | ".join(families) + " |\n|---|" + "---|" * len(families) + "\n" + rows(lines),
    )


def ascent(data: dict) -> str:
    lines, counts, reached = [], [], []
    for n_devices in ("20", "50"):
        part = data[n_devices]
        cells = [np.quantile(part[side], [0.5, 0.9, 1.0]) * 100 for side in ("primal", "crunched", "bound")]
        lines.append(
            [n_devices]
            + [f"{a:.1f} / {b:.1f} / {c:.1f} %" for a, b, c in cells]
            + [f"{min(part['bound_reached']):.1%}"]
        )
        counts.append(len(part["primal"]))
        reached.append(len(part["bound_reached"]))
    claim(reached[0] == reached[1], f"the last column is of {reached[0]} rounds for every K")
    return say("ascent", count=sum(counts), reached=reached[0], rows=rows(lines))


SECTIONS = {"city": city, "batch": batch, "scip": scip, "growth": growth, "grid": grid, "ascent": ascent}


def draw_growth(data: dict, plots: Path) -> None:
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


def draw_grid(data: dict, plots: Path) -> None:
    cells, shapes, families, ratio = grid_ratios(data)
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


def draw_ascent(data: dict, plots: Path) -> None:
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    curve, primal, bound = figure.subplots(1, 3)
    for i, n_devices in enumerate(("20", "50")):
        part = data[n_devices]
        low, middle, high = np.array(part["iterations"]) * 100
        steps = np.arange(1, middle.size + 1)
        curve.plot(steps, middle, color=f"C{i}", label=f"K = {n_devices}")
        curve.fill_between(steps, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
        primal.hist(np.array(part["primal"]) * 100, bins=15, alpha=0.6, color=f"C{i}", label=f"K = {n_devices}")
        bound.hist(np.array(part["bound"]) * 100, bins=15, alpha=0.6, color=f"C{i}", label=f"K = {n_devices}")
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
