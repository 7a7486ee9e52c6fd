"""What latency.json says: the parameters, Figures 4, 5, 6 and 8, and what decides the ratios."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from latency import BASELINE, FLOAT32, FOUR_GB, NO_LACK, SPLIT_20, SPLIT_50, SWEEPS, steps_label
from page import Template, claim, rows
from parameters import residual

from lola.rounds import PARAMETERS as AXES

NEAR = 0.05  # a share or a ratio is met within this
LEVEL = 0.05  # two schemes draw level within this
MET_BY_ONE_M = 0.02  # root mean square of both ratios' logarithms
ROUNDING = 0.1  # M is rounded from the best one by no more than this part of it
# One device alone, as published, and the most that any device offers.
PUBLISHED_ALONE, NEAR_ALONE, OFFERED = 12e9, 0.15, 6e9
BLIND = ("computation-aware", "communication-aware", "random")  # to memory
# JBBA over BA and over the baseline at K = 50.
FIGURE_8 = (0.6, 0.4)

say = Template("paper")
Means = dict[str, np.ndarray]  # seconds over a sweep, of each method
Check = Callable[[Means, list], tuple[bool, str]]  # whether a statement is met, and ours where it is a number


def order(*methods: str) -> Check:
    """The first scheme is faster than the next, and so on, at every point."""

    def check(means: Means, _: list) -> tuple[bool, str]:
        return all((means[lower] < means[upper]).all() for lower, upper in pairwise(methods)), ""

    return check


def falls(means: Means, _: list) -> tuple[bool, str]:
    """Every scheme is the faster the farther along the axis."""
    return all((np.diff(seconds) < 0).all() for seconds in means.values()), ""


def gaps_widen(means: Means, _: list) -> tuple[bool, str]:
    """JBBA's share of every other scheme's latency falls along the axis."""
    shares = [means["jbba"] / seconds for method, seconds in means.items() if method != "jbba"]
    return all((np.diff(share) < 0).all() for share in shares), ""


def share(lower: str, upper: str, point: float, published: float, *, below: bool = False) -> Check:
    """A scheme's share of another's latency at one point, or what is missing from the whole."""

    def check(means: Means, at: list) -> tuple[bool, str]:
        ours = float(means[lower][at.index(point)] / means[upper][at.index(point)])
        ours = 1 - ours if below else ours
        return abs(ours - published) <= NEAR, f": {100 * ours:.0f} %"

    return check


# What the paper's text says of each figure.
STATED: dict[str, tuple[tuple[str, Check], ...]] = {
    "5": (
        ("BA is nearly 40 % below the baseline at 10 dB", share("ba", BASELINE, 10.0, 0.4, below=True)),
        ("JBBA is lower still", order("jbba", "ba")),
        ("latency falls as the SNR rises", falls),
    ),
    "6": (
        ("latency falls as the bandwidth grows", falls),
        ("BA is below the baseline", order("ba", BASELINE)),
        ("JBBA is lower still", order("jbba", "ba")),
    ),
    "8": (
        ("at K = 50 JBBA is 40 % of the baseline", share("jbba", BASELINE, 50, FIGURE_8[1])),
        ("it is 60 % of BA", share("jbba", "ba", 50, FIGURE_8[0])),
        ("the gaps widen as K grows", gaps_widen),
    ),
}


def blocks(results: dict) -> list[str]:
    """Return the results as blocks of Markdown."""
    figures = [figure(name, results) for name in SWEEPS]
    return [parameters(results), figure_4(results["4"]), *figures, schemes(results["schemes"]), why(results)]


def parameters(results: dict) -> str:
    used, fit = results["parameters"], results["fit"]
    steps, wanted = used["local_steps"], results["published"]
    off = residual(np.array(fit["chosen"]), np.array(wanted))
    claim(abs(steps / fit["shallowest"]["factor"] - 1) <= ROUNDING, f"M = {steps} is fitted to Table I")
    lines = [["*Table I*", "", *(f"*{ratio:.3f}*" for ratio in wanted), ""]]
    for name, key in (("depth 1", "shallowest"), ("depth 12", "deepest")):
        ratios = [f"{ratio:.3f}" for ratio in fit[key]["ratios"]]
        lines.append([name, f"{fit[key]['factor']:.1f}", *ratios, f"{fit[key]['residual']:.1%}"])
    chosen = [f"{ratio:.3f}" for ratio in fit["chosen"]]
    lines.append([f"depth 1; used below, {results['rounds']:,} rounds", str(steps), *chosen, f"{off:.1%}"])
    shallowest, deepest = (fit[key]["residual"] for key in ("shallowest", "deepest"))
    return say(
        "parameters",
        n_devices=used["n_devices"],
        bandwidth_mhz=used["bandwidth_hz"] / 1e6,
        snr_db=used["transmit_snr_db"],
        steps=steps,
        rows=rows(lines),
        shallowest=shallowest,
        deepest=deepest,
        taken=say("the nearer is taken" if shallowest <= deepest else "the farther is taken"),
    )


def figure_4(costs: dict) -> str:
    memory, latency = (np.array(costs[name]) for name in ("memory_bytes", "latency_s"))
    total, long = sum(costs["alone_bytes"].values()), costs["sequence 512"]
    step, shares = np.diff(memory), memory / total
    claim((step > 0).all(), "what a cooperating device needs grows with depth")
    claim(memory[-1] <= OFFERED < long["memory_bytes"][-1], "a device can hold depth 12 at 128 tokens, and none at 512")
    third = int(np.abs(shares - 1 / 3).argmin())
    near = abs(long["alone_bytes"] / PUBLISHED_ALONE - 1) <= NEAR_ALONE
    has_third = abs(shares[third] - 1 / 3) <= NEAR
    return say(
        "figure 4",
        first=memory[0] / 1e9,
        last=memory[-1] / 1e9,
        least_step=step.min() / 1e9,
        largest_step=step.max() / 1e9,
        ratio=latency[-1] / latency[0],
        alone=total / 1e9,
        first_share=shares[0],
        last_share=shares[-1],
        mean_share=shares.mean(),
        long_alone=long["alone_bytes"] / 1e9,
        long_last=long["memory_bytes"][-1] / 1e9,
        offered=OFFERED / 1e9,
        nearness=say("near twelve" if near else "far from twelve", tolerance=f"{100 * NEAR_ALONE:.0f} %"),
        third=say("a third", depth=third + 1) if has_third else say("no third"),
    )


def stated(name: str, results: dict) -> list[tuple[str, bool, str]]:
    """Return what the paper states of a figure, whether that is met, and ours."""
    ((axis, at),) = SWEEPS[name].items()
    means: Means = {}
    for row in results[name]:
        means.setdefault(row["method"], np.full(len(at), np.nan))[at.index(row[axis])] = row["mean_s"]
    return [(sentence, *check(means, at)) for sentence, check in STATED[name]]


def figure(name: str, results: dict) -> str:
    ((axis, at),) = SWEEPS[name].items()
    label, unit, scale = AXES[axis]
    left_out = max(row["infeasible_rounds"] for row in results[name])
    lines = []
    for point in at:
        here = {row["method"]: row for row in results[name] if row[axis] == point}
        jbba, ba, base = (here[method]["mean_s"] for method in ("jbba", "ba", BASELINE))
        cells = [f"{here[m]['mean_s']:.2f} ± {here[m]['half_width_s']:.2f}" for m in ("jbba", "ba", BASELINE)]
        ratios = [f"{ratio:.3f}" for ratio in (ba / base, jbba / base, jbba / ba)]
        lines.append([f"{point / scale:g}", *cells, *ratios])
    verdicts = (f"{sentence} ({'met' if met else 'not met'}{ours})" for sentence, met, ours in stated(name, results))
    return say(
        "figure",
        figure=name,
        label=label,
        published="; ".join(verdicts),
        rounds=results["rounds"],
        left_out=say("rounds left out", rounds=left_out) if left_out else "",
        axis=", ".join(filter(None, (label, unit))),
        rows=rows(lines),
    )


def schemes(points: list[dict]) -> str:
    at = {row["method"]: row for row in points}
    claim(all(at[method]["wall_rounds"] > 0 for method in BLIND), "every baseline's latency flatters it")
    claim(all(row["wall_rounds"] == 0 for name, row in at.items() if name not in BLIND), "only baselines meet the wall")
    above = at["jbba-dual-ascent"]["mean_s"] / at["jbba"]["mean_s"] - 1
    claim(above >= 0, "dual ascent is above the optimum")
    lines = [
        [
            row["method"],
            f"{row['mean_s']:.2f} ± {row['half_width_s']:.2f}",
            f"{row['median_s']:.2f}",
            f"{row['wall_rounds']:.1%}",
            f"{row['wall_devices']:.1%}",
        ]
        for row in points
    ]
    return say("schemes", rows=rows(lines), rounds=points[0]["rounds"], above=above)


def gain(ratio: float) -> str:
    """What a ratio of latencies saves, in words."""
    return f"{100 * (1 - ratio):.0f} %"


def why(results: dict) -> str:
    steps, (ba, jbba) = results["parameters"]["local_steps"], results["published"]
    published = [f"*{ratio:.3f}*" for ratio in (2 / 3, FIGURE_8[0], FIGURE_8[1])]
    lines = [["*published*", f"*{ba:.3f}*", f"*{jbba:.3f}*", "", *published]]
    for row in results["why"]:
        small, large = row["small"], row["large"]
        lines.append(
            [row["what"], f"{small[0]:.3f}", f"{small[1]:.3f}", f"{row['residual']:.1%}"]
            + [f"{ratio:.3f}" for ratio in (*large, large[0] * large[1])]
        )
    fewest, most = _along_steps(results)
    chosen, deepest = results["fit"]["chosen"], _deepest_and_memory(results)
    return say(
        "why",
        steps=steps,
        rows=rows(lines),
        fewest=fewest["factor"],
        most=most["factor"],
        spectrum=gain(fewest["small"][1]),
        level=f"{100 * LEVEL:.0f} %",
        speeds=gain(most["small"][0]),
        deepest=gain(deepest),
        shallowest=gain(chosen[0]),
        figure_8=_figure_8(results),
        ba=gain(chosen[0]),
        ba_published=gain(ba),
        jbba=gain(np.prod(chosen)),
        jbba_published=gain(ba * jbba),
    )


def _along_steps(results: dict) -> tuple[dict, dict]:
    """Return the variations with the fewest and the most local steps, having checked what is said of them."""
    along = [row for row in results["why"] if row["what"] == steps_label(row["factor"])]
    small = np.array([row["small"] for row in along])
    wanted = np.array(results["published"])
    claim((np.diff(small[:, 1]) > 0).all(), "dividing the spectrum is worth the most where uploads rule")
    claim(small[-1, 1] >= 1 - LEVEL, "BA and JBBA draw level where computation rules")
    claim(
        bool(((small.min(axis=0) < wanted) & (wanted < small.max(axis=0))).all()), "Table I lies between the two ends"
    )
    claim(results["fit"]["shallowest"]["residual"] <= MET_BY_ONE_M, "one M meets both ratios of Table I")
    return along[0], along[-1]


def _deepest_and_memory(results: dict) -> float:
    """Return BA over the baseline whose best channel serves the deepest block, having checked what is said."""
    by_name = {row["what"]: row for row in results["why"]}
    label = steps_label(results["parameters"]["local_steps"])
    deepest = by_name[f"{label}, best channel deepest"]["small"][0]
    claim(deepest - results["fit"]["chosen"][0] > NEAR, "the order of the baseline counts")
    needs = (NO_LACK, label, FLOAT32, FOUR_GB)
    shares = [by_name[name]["small"][0] for name in needs]
    claim((np.diff(shares) > 0).all(), "the more memory a depth needs, the less BA gains")
    return deepest


def _figure_8(results: dict) -> str:
    if all(met for _, met, _ in stated("8", results)):
        return say("figure 8 met")
    by_name = {row["what"]: row for row in results["why"]}
    least, published = np.array(results["least at 50"]), np.array(FIGURE_8)
    claim((least > published + NEAR).all(), "no M brings JBBA near Figure 8 at K = 50")
    ba_over_baseline, over_ba = by_name[SPLIT_50]["large"]
    split = np.array([over_ba, ba_over_baseline * over_ba])
    ours = by_name[steps_label(results["parameters"]["local_steps"])]["residual"]
    agrees = all(ours < by_name[name]["residual"] for name in (SPLIT_20, SPLIT_50))
    return say(
        "figure 8 not met",
        least_ba=least[0],
        least_baseline=least[1],
        split_ba=split[0],
        split_baseline=split[1],
        close="close to" if (np.abs(split - published) <= NEAR).all() else "not close to",
        agreement="and Table I agrees" if agrees else "but Table I does not agree",
    )
