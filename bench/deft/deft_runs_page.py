"""What the training runs say: their sections of RESULTS.md."""

from __future__ import annotations

from typing import Any

import numpy as np
from boosted_prompts import SCHEDULERS
from fused_prompts import AIR, DIGITAL, SCRATCH
from glue_rows import NAMES, PAIRS, standard_error
from page import Template, claim, rows
from rank_budgets import MEASURES, UNIFORM

say = Template("deft")
Record = dict[str, Any]
BY = {"singular": "singular values", "sensitivity": "|w·∇w|"}
MANY = 2.0  # standard errors of a difference that is told


def by_seed(runs: list[Record], name: str, **of: object) -> np.ndarray:
    """Return what runs of a kind have by this name, a row a seed."""
    return np.array([run[name] for run in runs if all(run[key] == value for key, value in of.items())])


def spread(values: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean over seeds; infinite for one seed, by which nothing is shown."""
    if len(values) == 1:
        return np.full(values.shape[1:], np.inf)
    return np.asarray(values.std(axis=0, ddof=1) / len(values) ** 0.5)


def told(values: np.ndarray, sign: str = "") -> str:
    return f"{values.mean():{sign}.3f}" + (f" ± {spread(values):.3f}" if len(values) > 1 else "")


def seeds_of(runs: list[Record]) -> str:
    """Say of how many seeds there are runs."""
    count = len({run["seed"] for run in runs})
    return "one seed" if count == 1 else f"{count} seeds"


# -- prompts of many devices ------------------------------------------------------------------------------------------


def many_devices(data: Record) -> str:
    runs, scale = data["runs"], data["scale"]
    accuracy = {arm: by_seed(runs, "accuracy", arm=arm) for arm in (DIGITAL, AIR)}
    seconds = {arm: by_seed(runs, "clock_s", arm=arm) for arm in (DIGITAL, AIR)}
    ratio = seconds[DIGITAL][:, 1:] / seconds[AIR][:, 1:]
    claim(np.ptp(ratio) < 1e-9 * ratio.max(), "the ratio of the seconds is the same in every row")
    lines = [
        [
            str(epoch),
            *(told(accuracy[arm][:, epoch]) for arm in accuracy),
            *(f"{seconds[arm][0, epoch]:.3f}" for arm in seconds),
        ]
        for epoch in range(scale["epochs"] + 1)
    ]
    digital, analog = (accuracy[arm][:, -1].mean() for arm in accuracy)
    error, apart = standard_error(digital, data["dev_rows"]), abs(digital - analog)
    learnt = min(digital, analog) > data["majority"] + MANY * error
    return say(
        "many devices",
        target=NAMES[data["target"]],
        rows=scale["rows"],
        batch=scale["batch_size"],
        iterations=data["iterations"],
        seeds=seeds_of(runs),
        devices=len(data["sources"]),
        tokens=data["tokens"],
        sources=", ".join(dict.fromkeys(NAMES[task] for task in data["sources"])),
        source_rows=scale["source_rows"],
        snr=data["snr_db"],
        pair_rows=PAIRS["rows"],
        dev_rows=data["dev_rows"],
        error=error,
        values=data["values"],
        lines=rows(lines),
        verdict=say(
            "the curves end together" if apart <= error else "the curves end apart",
            digital=digital,
            analog=analog,
            apart=apart,
        ),
        chance=say("above the majority" if learnt else "at the majority", majority=data["majority"]),
        ratio=ratio.mean(),
        air=by_seed(runs, "mse", arm=AIR).mean(),
        digital=by_seed(runs, "mse", arm=DIGITAL).mean(),
    )


def fusion(data: Record) -> str:
    runs = data["runs"]
    accuracy = {arm: by_seed(runs, "accuracy", arm=arm) for arm in (SCRATCH, DIGITAL, AIR)}
    mean = {arm: values.mean(axis=0) for arm, values in accuracy.items()}
    score = min(curve.max() for curve in mean.values())
    epochs = {arm: int(np.argmax(curve >= score)) for arm, curve in mean.items()}
    names = {SCRATCH: SCRATCH, DIGITAL: "transfer, digital", AIR: "transfer, AirComp"}
    lines = [
        [
            names[arm],
            *(told(values[:, at]) for at in (0, 1, -1)),
            str(epochs[arm]),
            f"{by_seed(runs, 'loss', arm=arm)[:, -1].mean():.3f}",
        ]
        for arm, values in accuracy.items()
    ]
    fused = max(epochs[arm] for arm in (DIGITAL, AIR))
    difference = (accuracy[DIGITAL][:, -1] + accuracy[AIR][:, -1]) / 2 - accuracy[SCRATCH][:, -1]
    error = max(float(spread(difference)), standard_error(mean[SCRATCH][-1], data["dev_rows"]))
    apart = float(difference.mean())
    verdicts = [
        say(
            "transfer is faster" if fused < epochs[SCRATCH] else "transfer is not faster",
            fused=fused,
            scratch=epochs[SCRATCH],
        ),
        say(
            "transfer ends apart" if abs(apart) > MANY * error else "transfer ends together",
            apart=apart,
            error=f"{MANY * error:.3f}" if np.isfinite(error) else "unknown, of one seed",
        ),
    ]
    return say("fusion", score=score, lines=rows(lines), verdict=" ".join(verdicts))


# -- blocks -----------------------------------------------------------------------------------------------------------


def ranks(data: Record) -> str:
    runs, scale, lines, verdicts = data["runs"], data["scale"], [], []
    for task in data["tasks"]:
        uniform = by_seed(runs, "accuracy", task=task, arm=UNIFORM)
        error = standard_error(uniform.mean(), data["dev_rows"][task])
        beyond = uniform.mean() > data["majority"][task] + MANY * error
        for arm in (UNIFORM, *MEASURES):
            accuracy = by_seed(runs, "accuracy", task=task, arm=arm)
            difference = accuracy - uniform
            first = " ".join(map(str, by_seed(runs, "rank", task=task, arm=arm)[0]))
            apart = "" if arm == UNIFORM else told(difference, "+")
            lines.append([NAMES[task], arm, first, told(accuracy), apart, f"{error:.3f}"])
            if arm == UNIFORM:
                continue
            if abs(difference.mean()) <= MANY * max(float(spread(difference)), error):
                verdict, size = "ranks do not matter", difference.mean()
            else:
                verdict = "ranks help" if difference.mean() > 0 else "ranks hurt"
                size = abs(difference.mean())
            verdicts.append(say(verdict, task=NAMES[task], measure=BY[arm], difference=size))
        if not beyond:
            verdicts.append(say("ranks at the majority", task=NAMES[task], majority=data["majority"][task]))
    trained = [
        f"{NAMES[task]}: {of['rows']} rows, {of['epochs']} epochs, "
        + seeds_of([run for run in runs if run["task"] == task])
        for task, of in data["tasks"].items()
    ]
    return say(
        "ranks",
        uniform=scale["uniform_rank"],
        most=scale["max_rank"],
        steps=scale["measured_steps"],
        rows_of="; ".join(trained),
        lines=rows(lines),
        verdicts=" ".join(verdicts),
    )


def emulator(data: Record) -> str:
    runs, scale, lines = data["runs"], data["scale"], []
    counts = sorted({run["n_kept"] for run in runs})
    whole = {count: by_seed(runs, "accuracy", n_kept=count) for count in counts}
    for count in counts:
        of_seeds = [" ".join(map(str, kept)) for kept in by_seed(runs, "kept", n_kept=count)]
        lines.append(
            [
                str(count),
                "; ".join(dict.fromkeys(of_seeds)),
                f"{by_seed(runs, 'emulator_bits', n_kept=count)[0] / 8e6:.1f}",
                f"{by_seed(runs, 'distortion', n_kept=count).mean():.3f}",
                told(whole[count]),
                told(by_seed(runs, "emulator_accuracy", n_kept=count)),
            ]
        )
    least, most = counts[0], counts[-1]
    difference = whole[most] - whole[least]
    error = standard_error(whole[most].mean(), data["dev_rows"])
    costs = difference.mean() > MANY * max(float(spread(difference)), error)
    numbers = {"all_blocks": most, "whole": whole[most].mean(), "least": least, "part": whole[least].mean()}
    if costs:
        verdict = say("fewer blocks cost", **numbers, apart=difference.mean())
    else:
        verdict = say("fewer blocks cost nothing", **numbers)
    return say(
        "emulator",
        task=NAMES[data["task"]],
        devices=scale["devices"],
        rows=scale["rows"],
        rounds=scale["rounds"],
        batch=scale["batch_size"],
        rank=scale["lora_rank"],
        seeds=seeds_of(runs),
        dev_rows=data["dev_rows"],
        error=error,
        lines=rows(lines),
        verdict=verdict,
        majority=data["majority"],
    )


# -- boosting ---------------------------------------------------------------------------------------------------------


def rounds_of(run: Record, limit: int) -> int:
    """Return after how many rounds of new prompts all devices were satisfied; one more than the limit if never."""
    return len(run["candidates"]) - 1 if run["candidates"][-1] == 0 else limit + 1


def sent_of_candidates(runs: list[Record], first: int) -> str:
    """Say how many prompts came in, of how many devices that were not satisfied, in a round with such devices."""
    rounds = max(sum(count > 0 for run in runs for count in run["candidates"]), 1)
    sent = sum(run["prompts"][-1] - first for run in runs)
    return f"{sent / rounds:.1f} of {sum(sum(run['candidates']) for run in runs) / rounds:.1f}"


def boosting(data: Record) -> str:
    scale = data["scale"]
    limit = scale["rounds"]
    needed = {
        name: np.array([rounds_of(run, limit) for run in data["runs"] if run["scheduler"] == name])
        for name in SCHEDULERS
    }
    lines = []
    for name, counts in needed.items():
        runs = [run for run in data["runs"] if run["scheduler"] == name]
        lines.append(
            [
                name,
                ", ".join(f"not within {limit}" if count > limit else str(count) for count in counts),
                ("at least " if counts.max() > limit else "") + f"{counts.mean():.1f}",
                f"{np.mean([run['prompts'][-2:][0] for run in runs]):.1f}",
                f"{np.mean([run['satisfied'][-1] for run in runs]):.1f} of {scale['devices']}",
                f"{np.mean([run['wrong'][-1] for run in runs]):.1f}",
                sent_of_candidates(runs, scale["first_prompts"]),
                "" if name == SCHEDULERS[0] else told(counts - needed[SCHEDULERS[0]], "+"),
            ]
        )
    order = sorted(needed, key=lambda name: needed[name].mean())
    difference = needed[order[-1]] - needed[order[0]]
    error = float(spread(difference))
    done = sum(int((counts <= limit).sum()) for counts in needed.values())
    numbers = {"done": done, "runs": len(data["runs"]), "limit": limit + 1, "seeds": seeds_of(data["runs"])}
    differing = {
        "best": " and ".join(name for name in order if needed[name].mean() == needed[order[0]].mean()),
        "worst": " and ".join(name for name in order if needed[name].mean() == needed[order[-1]].mean()),
        "few": needed[order[0]].mean(),
        "many": needed[order[-1]].mean(),
        "difference": told(difference),
    }
    if not done:
        verdict = say("nobody is done", rounds=limit, seeds=numbers["seeds"])
    elif not difference.mean():
        verdict = say("schedulers are alike", **numbers)
    elif difference.mean() > MANY * error:
        verdict = say("schedulers differ", **numbers, **differing)
    else:
        verdict = say("schedulers do not differ", **numbers, **differing)
    return say(
        "boosting",
        task=NAMES[data["task"]],
        devices=scale["devices"],
        rows=scale["rows"],
        held_out=scale["held_out"],
        low=scale["least_positive"],
        high=scale["most_positive"],
        first=scale["first_prompts"],
        seeds=seeds_of(data["runs"]),
        threshold=scale["threshold"],
        steps=scale["local_steps"],
        bandwidth=scale["bandwidth_hz"] / 1e6,
        deadline=1e3 * scale["deadline_s"],
        snr=scale["mean_snr_db"],
        rounds=limit,
        lines=rows(lines),
        verdict=verdict,
    )
