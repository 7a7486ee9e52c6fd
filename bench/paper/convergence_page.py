"""What convergence.json says: Table I, Fig. 7, and the accuracy after as many steps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from convergence import CENTRALISED, METHODS, SEGMENTS, TASKS, channel_of, jobs, round_problem, scheduled_by
from page import Template, rows
from parameters import TABLE_I
from parameters import TASKS as PUBLISHED_TASKS

import lola
from lola.figures.picture import import_figure, save_figure

PLOTS = Path(__file__).parent / "plots"
DESIRED = 0.9
PUBLISHED = {name.lower(): column for column, name in enumerate(PUBLISHED_TASKS)}
SAME_GAIN = 0.03  # a gain is the published one if the ratios of latency differ by no more
HARDLY_LEARNT = 0.1  # of the way from the majority class to a perfect score
SAME_ACCURACY = 0.03  # two standard errors of a score of 0.8 on SST-2's 872 rows
BASELINE = "communication-aware"
PAIRS = (("ba", BASELINE), ("jbba", "ba"))
SCHEMES = (*METHODS, SEGMENTS)
NAMES = {BASELINE: "the baseline", "ba": "BA", "jbba": "JBBA"}
_LAST = 3  # evaluations whose mean is the score at the end
_COLOURS = {"communication-aware": "#b0473a", "ba": "#e8a33d", "jbba-dual-ascent": "#6a9f58", "jbba": "#33608c"}
_COLOURS[SEGMENTS] = "#7a4f9a"


say = Template("paper")


class Runs:
    """Every run by task, seed and method, and how long a seed's rounds last under every method."""

    def __init__(self, results):
        self.runs = {(run["task"], run["seed"], run["method"]): run for run in results["runs"]}
        self.latencies = {}

    def tasks(self):
        """Return the tasks for one seed of which, at least, every run is there."""
        return [task for task in TASKS if self.seeds(task)]

    def seeds(self, task):
        """Return the seeds of which every run of a task is there."""
        wanted = {(seed, method) for name, seed, method in jobs() if name == task}
        missing = {seed for seed, method in wanted if (task, seed, method) not in self.runs}
        return [seed for seed in TASKS[task]["seeds"] if seed not in missing]

    def of(self, method):
        """Return a scheme's runs."""
        return [run for (_, _, name), run in self.runs.items() if name == method]

    def curve(self, task, seed, method):
        """Return rounds, simulated seconds (NaN for the centralised run) and headline scores, (n,) each."""
        run = self.runs[task, seed, method]
        history = [(step, clock, values[run["metric"]]) for step, clock, values in run["history"]]
        return np.array(history, dtype=float).T

    def minutes(self, seed, method, rounds):
        """Return the simulated minutes after so many rounds of a seed's channels; NaN for NaN."""
        if np.isnan(rounds):
            return np.nan
        latency = self.latencies.setdefault((seed, method), [])
        while len(latency) < rounds:
            latency.append(schedule_of(seed, method, len(latency)).latency_s)
        return sum(latency[: int(rounds)]) / 60

    def best(self, task, seed):
        """Return the centralised run's best score."""
        return np.nanmax(self.curve(task, seed, CENTRALISED)[2])

    def majority(self, task):
        """Return what the majority class scores; 0 for a regression, whose constant correlates with nothing."""
        return self.runs[task, self.seeds(task)[0], CENTRALISED].get("majority", 0.0)

    def desired(self, task, seed):
        """Return 90 % of the centralised run's best score, as in the paper; NaN if it learnt nothing."""
        best = self.best(task, seed)
        return DESIRED * best if best > 0 else np.nan

    def until(self, task, seed, method):
        """Return the rounds until a run first shows the desired score; NaN if it never does."""
        rounds, _, scores = self.curve(task, seed, method)
        reached = np.flatnonzero(scores >= self.desired(task, seed))
        return rounds[reached[0]] if reached.size else np.nan

    def whole(self, task):
        """Yield (seed, method) of the runs in which every gradient came."""
        for seed in self.seeds(task):
            yield from ((seed, method) for method in METHODS[1:] if (task, seed, method) in self.runs)


def schedule_of(seed, method, version):
    """Return how a scheme schedules a round of a seed's channels."""
    problem = round_problem(seed, method)
    now = replace(problem, fleet=problem.fleet.with_channel(channel_of(seed)(version, 0.0)))
    return lola.schedule(now, scheduled_by(method))


def blocks(results):
    """Return Markdown, from the numbers alone."""
    runs, scale = Runs(results), results["scale"]
    lines, gains = table(runs)
    used = ("learning_rate", "lora_rank", "batch_size", "train_rows", "n_devices", "sequence_length", "local_steps")
    return [
        say(
            "convergence",
            **{name: scale[name] for name in used},
            desired=f"{100 * DESIRED:.0f} %",
            methods=" | ".join(SCHEMES),
            rule="--:|" * (9 + len(SCHEMES)),
            method_rule="--:|" * len(SCHEMES),
            baseline_wall=baseline_wall(runs),
            rows=rows(lines),
            remarks="\n".join([*gain_remarks(gains), segment_remark(runs), *task_remarks(runs)]),
            chance=chance(runs),
            own_runs=rows(own_runs(runs)),
            **same_accuracy(runs, "sst2"),
            walls="\n".join(
                say("wall", method=method, wall=100 * walls, missing=100 * missing)
                for method in SCHEMES
                for walls, missing in [wall(runs, method)]
            ),
        )
    ]


def table(runs):
    """Return the rows of Table I, and the geometric means of its ratios: ours and the published one of each pair."""
    lines, ratios, shorter = [], [], []
    for task in runs.tasks():
        central = [runs.runs[task, seed, CENTRALISED] for seed in runs.seeds(task)]
        best = np.mean([runs.best(task, seed) for seed in runs.seeds(task)])
        majority = central[0].get("majority")
        reached = [(seed, runs.until(task, seed, method)) for seed, method in runs.whole(task)]
        minutes = {m: np.mean([runs.minutes(seed, m, rounds) for seed, rounds in reached]) for m in SCHEMES}
        cells = [task, str(len(reached)), central[0]["metric"], f"{best:.3f}"]
        cells += ["–" if majority is None else f"{majority:.3f}", f"{DESIRED * best:.3f}" if best > 0 else "–"]
        cells.append(number(np.mean([rounds for _, rounds in reached]), "{:.1f}"))
        cells += [number(minutes[method], "{:.2f}") for method in SCHEMES]
        pairs = [(minutes[a] / minutes[b], TABLE_I[a][PUBLISHED[task]] / TABLE_I[b][PUBLISHED[task]]) for a, b in PAIRS]
        for ours, published in pairs:
            cells += [number(ours, "{:.2f}"), f"{published:.2f}"]
        shorter.append(minutes[SEGMENTS] / minutes["jbba"])
        lines.append([*cells, number(shorter[-1], "{:.2f}")])
        ratios.append(pairs)
    mean = np.exp(np.nanmean(np.log(ratios), axis=0))
    means = [f"{ratio:.2f}" for ratio in (*mean.ravel(), np.exp(np.nanmean(np.log(shorter))))]
    return [*lines, ["*geometric mean*", *[""] * (len(lines[0]) - len(means) - 1), *means]], mean


def gain_remarks(gains):
    """Say whether each scheme gains as much on the other as published, and why JBBA does not."""
    remarks = []
    for (scheme, other), (ours, published) in zip(PAIRS, gains, strict=True):
        if abs(ours - published) <= SAME_GAIN:
            gain, conjunction = "as much", "as"
        else:
            gain, conjunction = "more" if ours < published else "less", "than"
        reason = " " + say("why jbba gains less") if (scheme, gain) == ("jbba", "less") else ""
        remark = say(
            "gain",
            scheme=NAMES[scheme],
            other=NAMES[other],
            gain=gain,
            conjunction=conjunction,
            ours=ours,
            published=published,
        )
        remarks.append(remark + reason)
    return remarks


def segment_remark(runs):
    """Say how long rounds with segments last, and how many devices' data they see."""
    ran = [(run, runs.runs[run["task"], run["seed"], "jbba"]) for run in runs.of(SEGMENTS)]
    return say(
        "segments",
        ratio=np.mean([run["latency_s"] / one["latency_s"] for run, one in ran]),
        devices=np.mean(
            [
                np.unique(schedule_of(run["seed"], SEGMENTS, version).device_of_block).size
                for run, _ in ran
                for version in range(run["history"][-1][0])
            ]
        ),
        n_blocks=round_problem(0).n_blocks,
    )


def task_remarks(runs):
    """Return the tasks whose times say little, and those in which little is learnt."""
    easy, hardly = [], []
    for task in runs.tasks():
        majority = runs.majority(task)
        best = np.mean([runs.best(task, seed) for seed in runs.seeds(task)])
        desired = np.mean([runs.desired(task, seed) for seed in runs.seeds(task)])
        if not desired > majority:
            easy.append(task)
        if best - majority < HARDLY_LEARNT * (1 - majority):
            hardly.append(task)
    remarks = [say("easy", tasks=", ".join(easy))] if easy else []
    if hardly:
        reason = " " + say("grammar") if "cola" in hardly else ""
        remarks.append(say("hardly learnt", tasks=", ".join(hardly), part=f"{100 * HARDLY_LEARNT:.0f} %") + reason)
    return remarks


def number(value, form):
    """Format a number, or say that it was not reached."""
    return form.format(value) if np.isfinite(value) else "–"


def several(runs):
    """Return the tasks with several seeds."""
    return [task for task in runs.tasks() if len(runs.seeds(task)) > 1]


def own_run(runs, task, method):
    """Return rounds and minutes to the desired score of each of a scheme's own runs, and seconds a round."""
    seeds = [seed for seed in runs.seeds(task) if (task, seed, method) in runs.runs]
    rounds = np.array([runs.until(task, seed, method) for seed in seeds])
    minutes = np.array([runs.minutes(seed, method, r) for seed, r in zip(seeds, rounds, strict=True)])
    return rounds, minutes, np.mean([runs.runs[task, seed, method]["latency_s"] for seed in seeds])


def own_runs(runs):
    """Return rounds and minutes of each scheme's own runs."""
    lines = []
    for task in several(runs):
        for method in SCHEMES:
            rounds, minutes, latency = own_run(runs, task, method)
            cells = [f"{v.mean():.1f} ({v.min():.1f} to {v.max():.1f})" for v in (rounds, minutes)]
            lines.append([task, method, str(len(rounds)), *cells, f"{latency:.2f} s"])
    return lines


def chance(runs):
    """Say where a scheme reaches the desired score sooner in the mean than one whose rounds are shorter."""
    pairs = []
    for task in several(runs):
        ran = {method: own_run(runs, task, method) for method in SCHEMES}
        pairs += [
            say("a pair", task=task, sooner=sooner, later=later)
            for sooner in SCHEMES
            for later in SCHEMES
            if ran[sooner][1].mean() < ran[later][1].mean() and ran[sooner][2] > ran[later][2]
        ]
    return say("chance weighs", pairs="; ".join(pairs)) if pairs else say("chance does not weigh")


def end(runs, task, seed, method):
    """Mean of the last evaluations."""
    return float(runs.curve(task, seed, method)[2][-_LAST:].mean())


def same_accuracy(runs, task):
    """Return the fields about the scores after the last step: each seed's, their means, and whether they differ."""
    schemes = (CENTRALISED, *SCHEMES)
    scores = np.array(
        [
            [end(runs, task, seed, m) if (task, seed, m) in runs.runs else np.nan for m in schemes]
            for seed in runs.seeds(task)
        ]
    )
    lines = [
        [str(seed), f"{runs.majority(task):.3f}", *(number(value, "{:.3f}") for value in row)]
        for seed, row in zip(runs.seeds(task), scores, strict=True)
    ]
    means = np.nanmean(scores, axis=0)
    *of_the_paper, segments = means
    spread, apart = np.ptp(of_the_paper), segments - of_the_paper[-1]
    verdict = "the same accuracy" if spread <= SAME_ACCURACY else "not the same accuracy"
    also = "as accurate with segments" if abs(apart) <= SAME_ACCURACY else "not as accurate with segments"
    return {
        "steps": TASKS[task]["rounds"],
        "last": _LAST,
        "dev_rows": TASKS[task]["dev_rows"],
        "same": " ".join([say(verdict, spread=spread, limit=SAME_ACCURACY), say(also, apart=apart)]),
        "scores": rows([*lines, ["mean", "", *(f"{value:.3f}" for value in means)]]),
    }


def baseline_wall(runs):
    """Say whether the baseline meets the memory wall."""
    return say("the baseline meets the wall" if wall(runs, BASELINE)[0] > 0 else "the baseline fits")


def wall(runs, method):
    """Return a scheme's share of rounds with a device at the memory wall, and of gradients that never came."""
    ran = runs.of(method)
    return [np.mean([run[name] for run in ran]) for name in ("wall_rounds", "missing")]


def draw(results):
    """Draw Fig. 7: mean over the seeds, and their range, for the tasks that have several."""
    runs = Runs(results)
    figure = import_figure()(figsize=(10.5, 4.4), layout="constrained")
    tasks = several(runs)
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(tasks))), tasks, strict=True):
        seeds = runs.seeds(task)
        for method in SCHEMES:
            curves = [runs.curve(task, seed, method) for seed in seeds if (task, seed, method) in runs.runs]
            minutes = np.mean([seconds for _, seconds, _ in curves], axis=0) / 60
            scores = np.array([score for _, _, score in curves])
            label = method if len(curves) == len(seeds) else f"{method} (seed {seeds[0]})"
            axes.plot(minutes, scores.mean(axis=0), color=_COLOURS[method], label=label)
            axes.fill_between(minutes, scores.min(axis=0), scores.max(axis=0), color=_COLOURS[method], alpha=0.15, lw=0)
        axes.axhline(np.mean([runs.desired(task, seed) for seed in seeds]), color="black", ls="--", lw=1)
        axes.set(xlabel="simulated minutes", ylabel=runs.runs[task, seeds[0], CENTRALISED]["metric"])
        axes.set_title(
            f"{task}: mean and range of {len(seeds)} seeds; dashed: 90 % of centralised", loc="left", fontsize=9
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    PLOTS.mkdir(exist_ok=True)
    save_figure(figure, PLOTS / "figure-7.png")
