"""Turn what segments.py measured into SEGMENTS.md."""

from __future__ import annotations

import numpy as np
from page import Template, claim, rows

RARE = 0.05  # a device that takes part in fewer rounds is named rare
# What was asked for: seconds, times the MILP's, rounds a second, reads, and the fleet's own memory.
CELL_S, MILP_RATIO, THOUSAND_S, ROUNDS_PER_S, CITY_READS = 2e-3, 100.0, 0.1, 4000.0, 400.0

say = Template("segments")


def blocks(state: dict) -> list[str]:
    """Return Markdown, from the numbers alone."""
    parts = [head(state)]
    for name, section in SECTIONS.items():
        parts += [section(state[name]), say("where", machine=state[name]["machine"], date=state[name]["date"])]
    return parts


def head(state: dict) -> str:
    data = state["gains"]
    share, extra_bytes = data["measured_extra"]
    few, some, many = (next(line for line in data["devices"] if line["devices"] == k) for k in (data["blocks"], 20, 50))
    slowest = int(np.argmin(state["participation"]["speed"]))
    claim(state["participation"]["segments"]["share"][slowest] < RARE, "the slowest hardly ever take part")
    return say(
        "head",
        share=share,
        megabytes=extra_bytes / 1e6,
        blocks=data["blocks"],
        few=few["devices"],
        few_ratio=few["ratio"][1],
        some=some["devices"],
        some_ratio=some["ratio"][1],
        many=many["devices"],
        many_ratio=many["ratio"][1],
        devices=some["taking_part"][1],
    )


def three(values: list[float] | None, form: str = "{:.2f}") -> str:
    return "–" if values is None else " / ".join(form.format(value) for value in values)


def middle(values: list[float] | None, form: str = "{:.2f}") -> str:
    return "–" if values is None else form.format(values[1])


def medians(lines: list[dict], key: str) -> np.ndarray:
    """Return medians over the fleets, (n,); NaN where no fleet has a round."""
    return np.array([np.nan if line[key] is None else line[key][1] for line in lines])


def gains(data: dict) -> str:
    by_devices, by_upload = data["devices"], data["upload"]
    n_blocks = data["blocks"]
    fewest = by_devices[0]
    claim(
        all(line["one_feasible"] == 0 for line in by_devices if line["devices"] < n_blocks),
        f"a round with one block a device needs {n_blocks} devices",
    )
    few = say(
        "few",
        below=round(fewest["feasible"] * data["fleets"]),
        fleets=data["fleets"],
        fewest=fewest["devices"],
    )
    ratio = medians(by_upload, "ratio")
    if (np.diff(ratio) < 0).all():
        trend = say("longer uploads, larger gain")
    else:
        trend = say("longer uploads, not always a larger gain", best=by_upload[int(ratio.argmin())]["factor"])
    (half,) = (line for line in data["extra"] if line["devices"] == 20 and line["extra"].startswith("50 %"))
    gain = 1 - half["ratio"][1]
    return say(
        "gains",
        fleets=data["fleets"],
        blocks=n_blocks,
        few=few,
        devices=rows(
            [
                str(line["devices"]),
                f"{line['one_feasible']:.0%}",
                middle(line["one_s"]),
                f"{line['feasible']:.0%}",
                middle(line["seconds"]),
                three(line["ratio"]),
                three(line["taking_part"], "{:.0f}"),
            ]
            for line in by_devices
        ),
        trend=trend,
        upload=rows(
            [
                f"{line['factor']:g}",
                middle(line["compute_to_upload"]),
                middle(line["one_s"]),
                middle(line["seconds"]),
                three(line["ratio"]),
                three(line["taking_part"], "{:.0f}"),
            ]
            for line in by_upload
        ),
        dear=say("dear", dear=gain) if gain > 0 else say("too dear"),
        extra=rows(
            [
                str(line["devices"]),
                line["extra"],
                middle(line["seconds"]),
                three(line["ratio"]),
                three(line["taking_part"], "{:.0f}"),
            ]
            for line in data["extra"]
        ),
        longest=rows(
            [
                str(line["devices"]),
                longest_name(line["longest"]),
                f"{line['feasible']:.0%}",
                middle(line["seconds"]),
                three(line["ratio"]),
                three(line["taking_part"], "{:.0f}"),
            ]
            for line in data["longest"]
        ),
    )


def longest_name(longest: int | None) -> str:
    return "all" if longest is None else str(longest)


def spread(counts: list[int]) -> tuple[int, float, int]:
    """Return the least, mean and largest number of devices in a round, of how many rounds had how many."""
    present = np.flatnonzero(counts)
    return int(present[0]), float(np.average(np.arange(len(counts)), weights=counts)), int(present[-1])


def participation(data: dict) -> str:
    one, segments = data["one block"], data["segments"]
    (low_one, mean_one, high_one), (low, mean, high) = spread(one["devices"]), spread(segments["devices"])
    n_devices = len(segments["share"])
    never = int((np.array(segments["share"]) == 0).sum())
    return say(
        "participation",
        devices=n_devices,
        rounds=data["rounds"],
        one_mean=mean_one,
        mean=mean,
        fraction=mean / mean_one,
        ratio=segments["mean_s"] / one["mean_s"],
        one_s=one["mean_s"],
        s=segments["mean_s"],
        one_range=f"{low_one} / {mean_one:.1f} / {high_one}",
        range=f"{low} / {mean:.1f} / {high}",
        one_least=min(one["share"]),
        least=min(segments["share"]),
        one_median=np.median(one["share"]),
        median=np.median(segments["share"]),
        one_most=max(one["share"]),
        most=max(segments["share"]),
        rare=RARE,
        one_rare=int((np.array(one["share"]) < RARE).sum()),
        rare_devices=int((np.array(segments["share"]) < RARE).sum()),
        one_hour=3600 / one["mean_s"] * mean_one,
        hour=3600 / segments["mean_s"] * mean,
        never=say("some never", names=never, devices=n_devices) if never else say("none never"),
    )


def exactness(data: dict) -> str:
    families = {name: family for name, family in data.items() if isinstance(family, dict)}
    lines = []
    for name, family in families.items():
        solved = sum(family["critical"])
        lines.append(
            [
                name,
                f"{solved:,}",
                f"{family['infeasible']:,}",
                f"{family['critical'][0]:,} ({family['critical'][0] / solved:.2%})",
                str(len(family["critical"]) - 1),
                f"{family['most_states']:,}",
                str(family["held"]),
                f"{family['largest_difference']:.0e}",
            ]
        )
    return say("exactness", instances=sum(family["instances"] for family in families.values()), rows=rows(lines))


def timings(data: dict) -> str:
    cell, thousand, city, batch = (data[name] for name in ("cell", "thousand", "city", "batch"))
    ours = np.array([case["seconds"]["segment_allocation"] for case in cell])
    one = np.array([case["seconds"]["joint_allocation"] for case in cell])
    milp = np.array([case["seconds"]["MILP"] for case in cell])
    size = f"K = {cell[0]['devices']}, L = {cell[0]['blocks']}"
    each = batch["seconds_each"]
    rate = 1 / each["segment_allocation_batch"]
    extra = max(value for name, value in city["extra_bytes"].items() if name.startswith("segment"))
    reads = {name: value / city["seconds"]["read"] for name, value in city["seconds"].items()}
    most_reads = max(value for name, value in reads.items() if name.startswith("segment"))
    seconds = thousand["seconds"]
    lines = [
        [
            f"{size}: median of {len(cell)} fleets; worst",
            f"{np.median(ours) * 1e3:.2f} ms; {ours.max() * 1e3:.2f} ms",
            f"`joint_allocation` {np.median(one) * 1e6:.0f} µs: {np.median(ours / one):.0f} ×",
            f"≤ {CELL_S * 1e3:g} ms",
            met(ours.max() <= CELL_S),
        ],
        [
            "the MILP on the same fleets, as precise",
            f"{np.median(milp):.2f} s; {milp.max():.2f} s",
            f"{np.median(milp / ours):,.0f} × `segment_allocation`; least {(milp / ours).min():,.0f} ×",
            f"≥ {MILP_RATIO:g} ×",
            met((milp / ours).min() >= MILP_RATIO),
        ],
        [
            f"K = {thousand['devices']:,}, L = 24",
            f"{seconds['segment_allocation'] * 1e3:.1f} ms",
            f"`joint_allocation` {seconds['joint_allocation'] * 1e3:.2f} ms",
            f"≤ {THOUSAND_S * 1e3:g} ms",
            met(seconds["segment_allocation"] <= THOUSAND_S),
        ],
        [
            f"a city, K = {city['devices']:,}, L = 24, one thread: the slower fleet",
            f"{most_reads:.0f} reads",
            f"`joint_allocation` {max(v for n, v in reads.items() if n.startswith('joint')):.0f} reads",
            f"≤ {CITY_READS:g} reads",
            met(most_reads <= CITY_READS),
        ],
        [
            "the same: extra memory",
            f"{extra / 1e6:.1f} MB",
            f"the fleet's own {city['fleet_bytes'] / 1e6:.1f} MB",
            "below the fleet's own",
            met(extra < city["fleet_bytes"]),
        ],
        [
            f"a batch, K = 20, L = 12, {batch['rounds']:,} rounds of fading, {batch['threads']} cores",
            f"{rate:,.0f} rounds a second",
            f"one thread {1 / each['segment_allocation_batch, one thread']:,.0f}; "
            f"`joint_allocation_batch` {1 / each['joint_allocation_batch']:,.0f}",
            f"≥ {ROUNDS_PER_S:,.0f}",
            met(rate >= ROUNDS_PER_S),
        ],
    ]
    claim(all(case["difference"] <= 1e-6 for case in cell), "the MILP and segment_allocation agree")
    solvers = dict.fromkeys(name.split(",")[0] for name in city["extra_bytes"])
    city_rows = []
    for solver in solvers:
        kinds = [f"{solver}, {kind}" for kind in ("continuous", "quantised")]
        most = max(city["extra_bytes"][kind] for kind in kinds) / city["fleet_bytes"]
        city_rows.append([solver, *(f"{reads[kind]:.1f}" for kind in kinds), f"{most:.2f}"])
    return say(
        "timings",
        rows=rows(lines),
        read_ms=city["seconds"]["read"] * 1e3,
        city=city["devices"],
        city_rows=rows(city_rows),
    )


def met(true: bool) -> str:
    return "met" if true else "not met"


SECTIONS = {"gains": gains, "participation": participation, "exactness": exactness, "timings": timings}
