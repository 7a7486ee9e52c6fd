"""What results.json says: RESULTS.md."""

from __future__ import annotations

from itertools import chain
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
from gaisnet_plots import NAMES, TABLE_III, draw, two_errors
from page import Template, claim, rows, write_page
from phone_splits import CHOSEN, RULES
from service_rounds import COST, FIRST, PRINTED, PRINTED_PROFIT, STEP, most_raised

HERE = Path(__file__).resolve().parent

NEARLY = 1.05
ORDERS = ("best order", "drawn order", CHOSEN)

say = Template("gaisnet")
Record = dict[str, Any]


def write(results: Record) -> None:
    """Write the page and its plots."""
    draw(results, HERE / "plots")
    write_page(HERE / "RESULTS.md", blocks(results))


def blocks(results: Record) -> list[str]:
    """Return what was measured as blocks of Markdown."""
    where = dict.fromkeys(f"{part['machine']}, {part['date']}" for part in results.values())
    sections = {
        "horizon": horizon,
        "splits": splits,
        "classes": classes,
        "clusters": clusters,
        "pretraining": pretraining,
    }
    measured = {**results, "clusters": cluster_runs(results)}
    told = [tell(measured[part]) for part, tell in sections.items() if measured.get(part)]
    return [say("head", machine="; ".join(where)), *told]


def cluster_runs(results: Record) -> dict[str, Record]:
    """Return what was measured of clusters, by task."""
    return {task: results[f"clusters-{task}"] for task in NAMES if f"clusters-{task}" in results}


# -- fine-tune or serve -----------------------------------------------------------------------------------------------


def horizon(data: Record) -> str:
    optimal, printed = data["optimal"], data["printed"]
    lines = [
        [f"optimal, {cap}", "lola", f"`{plan['actions']}`", f"{sum(plan['profit']):g}", ""]
        for cap, plan in optimal.items()
    ]
    for name, run in printed.items():
        profit = sum(run["profit"])
        claim(profit == PRINTED_PROFIT[name], f"the {name} policy's actions earn what is printed")
        signed = f"{profit:g}".replace("-", "−")
        lines.append([name, "the paper", f"`{run['actions']}`", signed, signed])
    capped, uncapped = (sum(optimal[cap]["profit"]) for cap in ("two levels up", "no cap"))
    claim(capped == PRINTED_PROFIT["proposed"], "the proposed policy is optimal with two levels up")
    claim(uncapped > capped and most_raised(PRINTED["random"]) > 2, "the printed policies need two caps")
    proven = all(abs(plan["bound"] - sum(plan["profit"])) < 1e-6 for plan in optimal.values())
    claim(proven, "both optima are verified")
    same = optimal["two levels up"]["actions"] == PRINTED["proposed"]
    return say(
        "horizon",
        first=FIRST,
        step=STEP,
        cost=COST,
        demand=data["demand"],
        rows=rows(lines),
        same=say("the printed plan" if same else "another plan of the same profit"),
        uncapped=f"{uncapped:g}",
        raised=f"{most_raised(PRINTED['random'])}",
    )


# -- splits -----------------------------------------------------------------------------------------------------------


def beyond_and_times(told: Record) -> list[str]:
    """Return the share of clusters that do not fit, and of those that do the median, with the deciles at both ends."""
    low, median, high = (told["quantiles"][place] for place in (10, 50, 90))
    return [f"{100 * told['beyond_memory']:.0f} %", f"{median:.2f} ({low:.2f} … {high:.2f})"]


def splits(data: Record) -> str:
    lines, itself = [], []
    for question, asked in data["questions"].items():
        ratios = asked["ratios"]
        claim(all(told["quantiles"][0] >= 1 for told in ratios.values()), "no rule is faster than lola's optimum")
        for rule in RULES:
            cells = [beyond_and_times(ratios[f"{rule}, {order}"]) for order in ORDERS]
            lines.append([question, rule, *chain(*cells)])
        itself.append(f"{ratios['fixed order']['quantiles'][90]:.2f} × ({question})")
    inference = data["questions"]["inference"]
    training = {question: asked for question, asked in data["questions"].items() if question.startswith("training")}
    used = [asked["mean_used"] for asked in training.values()]
    claim(max(used) < data["phones"], "lola leaves phones out")
    chosen = {rule: [asked["ratios"][f"{rule}, {CHOSEN}"] for asked in training.values()] for rule in RULES}
    fits = [
        f"by {rule} in " + " and ".join(f"{100 * (1 - told['beyond_memory']):.0f} %" for told in chosen[rule])
        for rule in ("speed", "memory")
    ]
    medians = [told["quantiles"][50] for rule in ("speed", "memory") for told in chosen[rule]]
    claim(max(medians) < NEARLY, "a rule that is told which phones to take, and fits, is as fast as lola in the median")
    return say(
        "splits",
        **{name: data[name] for name in ("clusters", "phones", "of", "side_m", "offered", "little", "profile")},
        orders=factorial(data["phones"]),
        rows=rows(lines),
        itself=", ".join(itself),
        redrawn=say("redrawn", left_out=data["left_out"]) if data["left_out"] else say("none redrawn"),
        why=say(
            "why",
            used=" and ".join(f"{mean:.1f}" for mean in used),
            phones=data["phones"],
            fits=", ".join(fits),
            least=min(medians),
            most=max(medians),
            which="; ".join(training),
            alone=say("alone", alone=inference["alone"]) if inference["alone"] > 0.5 else "",
        ).strip(),
    )


# -- training ---------------------------------------------------------------------------------------------------------


def classes(data: Record) -> str:
    scale, total = data["scale"], data["n_classes"]
    error = two_errors(scale["dev_rows"])
    lines = [
        [str(run["seen"]), f"{run['seen'] / total:.3f}", *(f"{run['accuracy'][at]:.3f}" for at in (0, -1))]
        for run in data["runs"]
    ]
    printed = [
        [str(seen), f"{seen / len(TABLE_III):.3f}", *(f"{value:.3f}" for value in pair)]
        for seen, pair in TABLE_III.items()
    ]
    shares = [end * len(TABLE_III) / seen for seen, (_, end) in TABLE_III.items()]
    ends = [run["accuracy"][-1] for run in data["runs"]]
    broken = any(end > run["seen"] / total + error for end, run in zip(ends, data["runs"], strict=True))
    helped = ends[-1] > max(ends[:-1])
    learnt = {"task": NAMES[scale["task"]], "accuracy": ends[-1]}
    return say(
        "classes",
        **{name: scale[name] for name in ("rows", "epochs", "batch_size", "lora_rank", "dev_rows")},
        task=NAMES[scale["task"]],
        n_classes=total,
        error=error,
        lines=rows(lines),
        printed=rows(printed),
        least=min(shares),
        most=max(shares),
        ceiling=say("the ceiling is broken" if broken else "the ceiling holds"),
        learnt=say("all classes help", **learnt, above=ends[-1] - 1 / total)
        if helped
        else say("all classes do not help", **learnt),
    )


def clusters(of: dict[str, Record]) -> str:
    scale = next(iter(of.values()))["scale"]
    accuracy = {task: [run["accuracy"] for run in data["runs"]] for task, data in of.items()}
    lines = [
        [str(count), str(count * scale["rows"]), *(f"{values[count - 1]:.3f}" for values in accuracy.values())]
        for count in range(1, scale["most"] + 1)
    ]
    errors = ", ".join(f"{two_errors(data['scale']['dev_rows']):.3f} on {NAMES[task]}" for task, data in of.items())
    verdicts = []
    for task, values in accuracy.items():
        risen = values[-1] - values[0] > two_errors(of[task]["scale"]["dev_rows"]) * 2**0.5
        told = {"task": NAMES[task], "first": values[0], "last": values[-1], "most": scale["most"]}
        part = "it rises" if risen else "it does not rise"
        verdicts.append(say(part, **told, chance=1 / of[task]["n_classes"]))
    one = next(iter(of.values()))["runs"][0]
    return say(
        "clusters",
        **{name: scale[name] for name in ("rows", "rounds", "batch_size")},
        errors=errors,
        tasks=" | ".join(NAMES[task] for task in of),
        rule="---:|" * len(of),
        lines=rows(lines),
        verdicts=" ".join(verdicts),
        delivered=one["delivered_bytes"] / 1e6,
        full=one["full_delivery_bytes"] / 1e6,
    )


def pretraining(data: Record) -> str:
    scale = data["scale"]
    by = {(run["pretrained"], run["tuned"]): run for run in data["runs"]}
    error = two_errors(scale["dev_rows"])
    seconds = {key: float(np.median(run["epoch_s"])) for key, run in by.items()}
    lines = [
        [
            "pretrained" if pretrained else "random",
            tuned,
            f"{run['tunable'] / 1e6:.2f} of {run['whole'] / 1e6:.1f} million",
            f"{run['accuracy'][1]:.3f}",
            f"{run['accuracy'][-1]:.3f}",
            f"{seconds[pretrained, tuned]:.1f}",
        ]
        for (pretrained, tuned), run in by.items()
    ]
    end = {key: run["accuracy"][-1] for key, run in by.items()}
    ours, blank = end[True, "adapters"], max(end[False, tuned] for tuned in ("adapters", "everything"))
    matters = ours - blank > error * 2**0.5
    compared = {"adapters": ours, "everything": end[True, "everything"]}
    as_good = ours >= end[True, "everything"] - error
    verdicts = [
        say("pretraining matters" if matters else "pretraining is not seen", with_it=ours, without=blank),
        say("adapters do as well" if as_good else "adapters do worse", **compared),
        say("time", ratio=seconds[True, "everything"] / seconds[True, "adapters"]),
    ]
    used = ("rows", "batch_size", "epochs", "dev_rows", "learning_rate", "full_learning_rate", "lora_rank")
    return say(
        "pretraining",
        **{name: scale[name] for name in used},
        task=NAMES[scale["task"]],
        error=error,
        lines=rows(lines),
        verdicts=" ".join(verdicts),
    )
