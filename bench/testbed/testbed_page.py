"""What results.json says: RESULTS.md and its plots."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from page import Template, rows, write_page

from lola.figures.picture import import_figure, save_figure

HERE = Path(__file__).resolve().parent
LIMITS = (0.10, 0.25)  # of the error of a round: the median, and nine of ten
GREY = f"grey: within {100 * LIMITS[0]:.0f} %"
IDLE = 0.5  # load of a machine that does nothing else
LOLAS = ("jbba", "ba")
COLOURS = ("#33608c", "#6fa8dc", "#e8a33d", "#b0473a", "#777777")

say = Template("testbed")
Record = dict[str, Any]


def write(results: Record) -> None:
    """Write the page and its plots."""
    draw(results, HERE / "plots")
    write_page(HERE / "RESULTS.md", blocks(results))


def blocks(results: Record) -> list[str]:
    """Return what was measured as blocks of Markdown."""
    return [*head(results), devices(results), schemes(results), errors(results), wall(results)]


def head(results: Record) -> list[str]:
    where = results["provenance"]
    parts = [
        say("head"),
        say(
            "where",
            **{name: where[name] for name in ("hardware", "cores", "kernel", "software", "date", "limits")},
            load=where["load_before"],
            setup=where["setup_s"],
            n_rounds=len(results["rounds"]),
            took=where["rounds_s"] / 60,
        ),
    ]
    busy = where["load_before"] > IDLE
    return [*parts, say("busy", load=where["load_before"], cores=where["cores"])] if busy else parts


def devices(results: Record) -> str:
    scenario, profile = results["scenario"], results["profile"]
    model = scenario["model"]
    lines = [
        [
            one["name"],
            f"{one['speed']:.2f}",
            f"{one['efficiency']:.1f}",
            str(one["holds"]),
            f"{results['memory_bytes'][one['name']] / 1e6:.0f} MB",
        ]
        for one in scenario["devices"]
    ]
    return say(
        "devices",
        layers=model["layers"],
        hidden=model["hidden"],
        batch=model["batch_size"],
        length=model["sequence_length"],
        rank=model["lora_rank"],
        n_devices=len(lines),
        together=sum(one["speed"] for one in scenario["devices"]),
        bandwidth=scenario["bandwidth_hz"] / 1e6,
        first=profile["latency_s"][0],
        last=profile["latency_s"][-1],
        upload=float(np.mean(profile["upload_bits"])) / 1e6,
        fading=100 * scenario["fading"],
        headers=100 * (1 - results["provenance"]["payload_of_a_frame"]),
        rows=rows(lines),
    )


def rounds_of(results: Record, scheme: str) -> list[Record]:
    return [record for record in results["rounds"] if record["scheme"] == scheme]


def complete(records: list[Record]) -> list[Record]:
    """Return the rounds in which everybody answered."""
    return [record for record in records if record["measured_s"] is not None]


def comparable(results: Record) -> list[str]:
    """Return the schemes most of whose rounds were complete: those whose latencies can be compared."""
    names = [scheme["name"] for scheme in results["scenario"]["schemes"]]
    return [name for name in names if 2 * len(complete(rounds_of(results, name))) > len(rounds_of(results, name))]


def mean_s(records: list[Record], which: str) -> float:
    return float(np.mean([record[which] for record in records]))


def schemes(results: Record) -> str:
    lines, names = [], comparable(results)
    for scheme in results["scenario"]["schemes"]:
        records = rounds_of(results, scheme["name"])
        ended = complete(records)
        cells = [scheme["name"], str(len(records)), str(len(ended))]
        if scheme["name"] in names:
            predicted, measured = (mean_s(ended, which) for which in ("predicted_s", "measured_s"))
            lines.append([*cells, f"{predicted:.2f} s", f"{measured:.2f} s", f"{measured / predicted:.3f}"])
        else:
            lines.append([*cells, f"({mean_s(records, 'predicted_s'):.2f} s)", "–", "–"])
    orders = {
        which: sorted(names, key=lambda name: mean_s(complete(rounds_of(results, name)), which))
        for which in ("predicted_s", "measured_s")
    }
    told = {which: " < ".join(order) for which, order in orders.items()}
    if orders["predicted_s"] == orders["measured_s"]:
        order = say("the order holds", order=told["predicted_s"])
    else:
        order = say("the order differs", predicted=told["predicted_s"], measured=told["measured_s"])
    agree = in_order(results, names)
    ordered = {"order": order, "pairs": len(agree), "agree": 100 * np.mean(agree)}
    return say("schemes", rows=rows(lines), fewer=fewer_rounds(results), **ordered)


def fewer_rounds(results: Record) -> str:
    """Say which schemes ran fewer rounds than others, if any did."""
    counts = {one["name"]: len(rounds_of(results, one["name"])) for one in results["scenario"]["schemes"]}
    most = max(counts.values())
    told = ", ".join(f"{name} ran {count}" for name, count in counts.items() if count < most)
    return say("fewer rounds", most=most, told=told) + "\n\n" if told else ""


def in_order(results: Record, names: list[str]) -> list[bool]:
    """Say of each pair of schemes in the same round whether the faster one was predicted; ties are left out."""
    by_round: dict[int, list[Record]] = {}
    for name in names:
        for record in complete(rounds_of(results, name)):
            by_round.setdefault(record["round"], []).append(record)
    pairs = [pair for records in by_round.values() for pair in combinations(records, 2)]
    return [
        (one["predicted_s"] < other["predicted_s"]) == (one["measured_s"] < other["measured_s"])
        for one, other in pairs
        if one["predicted_s"] != other["predicted_s"]
    ]


def block_pairs(records: list[Record], what: str) -> np.ndarray:
    """Return predicted and measured seconds of every block that was measured, (n, 2)."""
    pairs = [
        (block["predicted"][what], block["measured"][what])
        for record in records
        for block in record["blocks"]
        if block["measured"][what] is not None
    ]
    return np.array(pairs).reshape(-1, 2)


def round_pairs(records: list[Record]) -> np.ndarray:
    """Return predicted and measured seconds of every complete round, (n, 2)."""
    return np.array([(record["predicted_s"], record["measured_s"]) for record in complete(records)]).reshape(-1, 2)


def lolas(results: Record) -> list[Record]:
    """Return the rounds of the schemes that heed memory."""
    ours = {scheme["name"] for scheme in results["scenario"]["schemes"] if scheme["method"] in LOLAS}
    return [record for record in results["rounds"] if record["scheme"] in ours]


def deviations(pairs: np.ndarray) -> np.ndarray:
    return pairs[:, 1] / pairs[:, 0] - 1


def errors(results: Record) -> str:
    records, ours = results["rounds"], lolas(results)
    others = [record for record in records if record not in ours]
    kinds = {
        "compute, every block": block_pairs(records, "compute_s"),
        "upload, every block": block_pairs(records, "upload_s"),
        "round, lola's schemes": round_pairs(ours),
        "round, the others": round_pairs(others),
    }
    lines = []
    for name, pairs in kinds.items():
        if len(pairs):
            off = deviations(pairs)
            numbers = (np.median(abs(off)), np.quantile(abs(off), 0.9))
            lines.append(
                [name, str(len(off)), *(f"{100 * value:.1f} %" for value in numbers), f"{100 * np.median(off):+.1f} %"]
            )
    off = abs(deviations(kinds["round, lola's schemes"]))
    met = np.median(off) <= LIMITS[0] and np.quantile(off, 0.9) <= LIMITS[1]
    begun = [
        block["measured"]["begun_s"]
        for record in records
        for block in record["blocks"]
        if block["measured"]["begun_s"] is not None
    ]
    return say(
        "errors",
        rows=rows(lines),
        verdict=say("within" if met else "not within", median_limit=100 * LIMITS[0], tail_limit=100 * LIMITS[1]),
        begun_ms=1e3 * np.median(begun),
    )


def wall(results: Record) -> str:
    lines, differ = [], 0
    limited = [scheme["name"] for scheme in results["scenario"]["schemes"] if scheme["memory_limits"]]
    for name in limited:
        records = rounds_of(results, name)
        counts = {
            what: [sum(block[what] for block in record["blocks"]) for record in records]
            for what in ("short_of_memory", "killed")
        }
        cells = [str(sum(count > 0 for count in counts[what])) for what in counts]
        lines.append([name, str(len(records)), *cells, " / ".join(str(sum(counts[what])) for what in counts)])
        differ += sum(block["short_of_memory"] != block["killed"] for record in records for block in record["blocks"])
    kept = results["provenance"]["limits"]
    who = "the kernel" if kept.startswith("control groups") else "the testbed"
    mine = any(block["killed"] for record in lolas(results) for block in record["blocks"])
    if differ or mine:
        asked = sum(len(record["blocks"]) for name in limited for record in rounds_of(results, name))
        verdict = say("the wall is not met as predicted", who=who, differ=differ, asked=asked)
    else:
        verdict = say("the wall is met", who=who)
    return say("wall", rows=rows(lines), verdict=verdict) + own_killed(results)


def own_killed(results: Record) -> str:
    """Say who was killed in the rounds of lola's schemes, and how narrow the limits of those were."""
    profile = results["profile"]["memory_bytes"]
    holds = {one["name"]: one["holds"] for one in results["scenario"]["devices"]}
    ours = [(record, block) for record in lolas(results) for block in record["blocks"]]
    killed = [(record, block) for record, block in ours if block["killed"]]
    if not killed:
        return ""
    margins = [results["memory_bytes"][one["device"]] - profile[holds[one["device"]] - 1] for _, one in killed]
    who = "; ".join(f"{block['device']} in round {record['round']} of {record['scheme']}" for record, block in killed)
    largest, least = max(margins) / 1e6, min(margins) / 1e6
    return "\n\n" + say("lola's own killed", n=len(killed), asked=len(ours), who=who, least=least, largest=largest)


def draw(results: Record, plots: Path) -> None:
    """Draw blocks.png, rounds.png and schemes.png."""
    plots.mkdir(exist_ok=True)
    colours = colours_of(results)
    draw_blocks(results, colours, plots / "blocks.png")
    draw_rounds(results, colours, plots / "rounds.png")
    draw_schemes(results, colours, plots / "schemes.png")


def colours_of(results: Record) -> dict[str, str]:
    """Return a colour of each scheme; the same one with memory to spare."""
    kinds: list[tuple[str, object]] = []
    colours = {}
    for scheme in results["scenario"]["schemes"]:
        kind = (scheme["method"], scheme["max_blocks"])
        if kind not in kinds:
            kinds.append(kind)
        colours[scheme["name"]] = COLOURS[kinds.index(kind) % len(COLOURS)]
    return colours


def draw_blocks(results: Record, colours: dict[str, str], path: Path) -> None:
    figure = import_figure()(figsize=(8.8, 5.3), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("compute_s", "upload_s"), strict=True):
        names = {name: block_pairs(rounds_of(results, name), what) for name in colours}
        _scatter(axes, names, colours)
        axes.set_title(f"{what.removesuffix('_s')} of every block; {GREY}", loc="left", fontsize=10)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    save_figure(figure, path)


def draw_rounds(results: Record, colours: dict[str, str], path: Path) -> None:
    figure = import_figure()(figsize=(5.6, 5.6), layout="constrained")
    axes = figure.subplots()
    _scatter(axes, {name: round_pairs(rounds_of(results, name)) for name in colours}, colours)
    axes.set_title(f"complete rounds; {GREY}", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    save_figure(figure, path)


def _scatter(axes: Any, pairs_of: dict[str, np.ndarray], colours: dict[str, str]) -> None:
    """Draw predicted against measured seconds, with the diagonal; hollow with memory to spare."""
    values = np.concatenate([pairs.ravel() for pairs in pairs_of.values()])
    ends = (0.9 * values.min(), 1.08 * values.max())
    axes.plot(ends, ends, color="black", lw=1, zorder=0)
    axes.fill_between(ends, *(np.array(ends) * (1 + side * LIMITS[0]) for side in (-1, 1)), color="#eeeeee", zorder=-1)
    seen: set[str] = set()
    for name, pairs in pairs_of.items():
        again = colours[name] in seen
        seen.add(colours[name])
        if len(pairs):
            colour = {"facecolors": "none" if again else colours[name], "edgecolors": colours[name]}
            axes.scatter(*pairs.T, s=18, linewidths=0.8, alpha=0.8, label=name, **colour)
    axes.set(xlabel="predicted, s", ylabel="measured, s", xlim=ends, ylim=ends)
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


def draw_schemes(results: Record, colours: dict[str, str], path: Path) -> None:
    """Draw the mean complete round of each scheme that has most of them, and the range of what was measured."""
    names = sorted(comparable(results), key=lambda name: mean_s(complete(rounds_of(results, name)), "predicted_s"))
    figure = import_figure()(figsize=(8.5, 0.9 + 0.62 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        records = complete(rounds_of(results, name))
        predicted, measured = mean_s(records, "predicted_s"), mean_s(records, "measured_s")
        spread = [record["measured_s"] for record in records]
        axes.barh(place - 0.19, predicted, 0.36, color=colours[name], alpha=0.45)
        axes.barh(place + 0.19, measured, 0.36, color=colours[name])
        axes.plot([min(spread), max(spread)], [place + 0.19] * 2, color="black", lw=1)
        axes.text(max(predicted, *spread), place, f"  {predicted:.2f} → {measured:.2f} s", va="center", fontsize=8)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(names)), [name.replace(", memory", ",\nmemory") for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * axes.get_xlim()[1])
    axes.set_xlabel("mean latency of a round, s (pale: predicted; full: measured; line: least to most measured)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    save_figure(figure, path)
