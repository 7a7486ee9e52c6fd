"""Tables and plots of convergence.json: Table I, Fig. 7, and the same accuracy after as many steps."""

from pathlib import Path

import numpy as np
from convergence import CENTRALISED, METHODS, TASKS, channel_of, jobs, round_problem
from parameters import TABLE_I
from parameters import TASKS as PUBLISHED_TASKS

import lola
from lola.figure import import_figure, save_figure

PLOTS = Path(__file__).parent / "plots"
DESIRED = 0.9
_LAST = 3  # evaluations whose mean is the score at the end
_COLOURS = {"communication-aware": "#b0473a", "ba": "#e8a33d", "jbba-dual-ascent": "#6a9f58", "jbba": "#33608c"}


class Runs:
    """Every run by task, seed and method, with clocks for the methods that share one."""

    def __init__(self, results):
        self.runs = {(run["task"], run["seed"], run["method"]): run for run in results["runs"]}
        self.clocks = {}

    def tasks(self):
        """Return the tasks that have such a seed."""
        return [task for task in TASKS if self.seeds(task)]

    def seeds(self, task):
        """Return the seeds for which every scheme has run that has a run of its own."""
        wanted = {(seed, method) for name, seed, method in jobs() if name == task}
        missing = {seed for seed, method in wanted if (task, seed, method) not in self.runs}
        return [seed for seed in TASKS[task]["seeds"] if seed not in missing]

    def curve(self, task, seed, method):
        """Return rounds, simulated seconds and headline scores, (n,) each; no seconds for the centralised run."""
        own = self.runs.get((task, seed, method))
        run = own or self.runs[task, seed, "jbba"]  # only where there is one seed: see convergence.jobs
        rounds = np.array([step for step, _, _ in run["history"]])
        scores = np.array([values[run["metric"]] for _, _, values in run["history"]], dtype=float)
        if own:
            return rounds, np.array([clock for _, clock, _ in run["history"]], dtype=float), scores
        return rounds, self.clock(seed, method, rounds[-1])[rounds - 1], scores

    def clock(self, seed, method, rounds):
        """Simulated seconds after each round, (rounds,)."""
        if (seed, method, rounds) not in self.clocks:
            problem, channel = round_problem(seed), channel_of(seed)
            latency = []
            for version in range(rounds):
                fleet = lola.Fleet(problem.fleet.speed, problem.fleet.memory_bytes, channel(version, 0.0))
                now = lola.Problem(problem.profile, fleet, problem.bandwidth_hz)
                latency.append(lola.schedule(now, method).latency_s)
            self.clocks[seed, method, rounds] = np.cumsum(latency)
        return self.clocks[seed, method, rounds]

    def desired(self, task, seed):
        """Return 90 % of the centralised run's best score, as in the paper; NaN if it learnt nothing."""
        best = np.nanmax(self.curve(task, seed, CENTRALISED)[2])
        return DESIRED * best if best > 0 else np.nan

    def until(self, task, seed, method):
        """Rounds and simulated minutes until the desired score is first seen; NaN if it never is."""
        rounds, seconds, scores = self.curve(task, seed, method)
        reached = np.flatnonzero(scores >= self.desired(task, seed))
        return (rounds[reached[0]], seconds[reached[0]] / 60) if reached.size else (np.nan, np.nan)


def sections(results):
    """Markdown lines, from the numbers alone."""
    runs, scale = Runs(results), results["scale"]
    return [
        "## Table I and Figure 7: real fine-tuning against the simulated clock",
        "",
        f"The model is all-MiniLM-L6-v2, a pretrained sentence encoder of 6 layers × 384, under a linear head: not "
        "RoBERTa, so scores cannot be compared with the paper's, only ratios of times. The server steps Adam (learning "
        f"rate {scale['learning_rate']:g}); LoRA has rank {scale['lora_rank']} on query and value. A device draws "
        f"{scale['batch_size']} rows of its shard in a round; at most {scale['train_rows']} training rows are dealt at "
        f"random to {scale['n_devices']} devices; texts are cut to {scale['sequence_length']} tokens.",
        "",
        "The clock is the paper's scenario, with RoBERTa-base's twelve layers in six blocks of two: depth l of six "
        "takes the memory and the time of depth 2·l of twelve, and uploads two layers' adapters. Channels fade from "
        f"round to round. M = {scale['local_steps']} local steps of 32 rows, fitted to Table I above, are on the clock "
        "alone: one batch is computed.",
        "",
        "The desired score is 90 % of the best that centralised training sees in as many steps, as in the paper. In "
        "*italics*: the scheme shares JBBA's run (data are dealt at random, so who computes a block changes nothing in "
        "distribution) and has a clock of its own.",
        "",
        *table(runs),
        "",
        *same_accuracy(runs),
        "",
        *memory_wall(runs),
        "",
        "![Score against simulated time](plots/figure-7.png)",
    ]


def table(runs):
    head = ["task", "seeds", "metric", "centralised", "majority", "desired", "rounds", *METHODS]
    lines = [f"| {' | '.join(head)} | BA / comm. | paper | JBBA / BA | paper |", f"|---|--:|---|{'--:|' * 12}"]
    for task in runs.tasks():
        seeds = runs.seeds(task)
        central = [runs.runs[task, seed, CENTRALISED] for seed in seeds]
        best = np.mean([runs.desired(task, seed) for seed in seeds]) / DESIRED
        majority = central[0].get("majority")
        cells = [
            task,
            str(len(seeds)),
            central[0]["metric"],
            f"{best:.3f}",
            "–" if majority is None else f"{majority:.3f}",
        ]
        cells.append(f"{DESIRED * best:.3f}")
        reached = {method: [runs.until(task, seed, method) for seed in seeds] for method in METHODS}
        cells.append(number(np.mean([rounds for rounds, _ in reached["jbba"]]), "{:.0f}"))
        minutes = {method: np.mean([minute for _, minute in reached[method]]) for method in METHODS}
        for method in METHODS:
            text = number(minutes[method], "{:.2f} min")
            cells.append(text if (task, seeds[0], method) in runs.runs else f"*{text}*")
        paper = {scheme: TABLE_I[scheme][[name.lower() for name in PUBLISHED_TASKS].index(task)] for scheme in TABLE_I}
        for faster, slower in (("ba", "communication-aware"), ("jbba", "ba")):
            cells += [number(minutes[faster] / minutes[slower], "{:.2f}"), f"{paper[faster] / paper[slower]:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def number(value, form):
    return form.format(value) if np.isfinite(value) else "not reached"


def end(runs, task, seed, method):
    """Mean of the last evaluations."""
    return float(runs.curve(task, seed, method)[2][-_LAST:].mean())


def same_accuracy(runs):
    task = "sst2"
    lines = [
        f"### The same accuracy: SST-2 after {TASKS[task]['rounds']} steps",
        "",
        f"Mean of the last {_LAST} evaluations on the whole dev split.",
        "",
        "| seed | majority | centralised | " + " | ".join(METHODS) + " |",
        "|--:|--:|--:|" + "--:|" * len(METHODS),
    ]
    rows = []
    for seed in runs.seeds(task):
        rows.append([end(runs, task, seed, method) for method in (CENTRALISED, *METHODS)])
        majority = runs.runs[task, seed, CENTRALISED]["majority"]
        lines.append(f"| {seed} | {majority:.3f} | " + " | ".join(f"{value:.3f}" for value in rows[-1]) + " |")
    lines.append("| mean | | " + " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0)) + " |")
    return lines


def memory_wall(runs):
    lines = ["### The memory wall", ""]
    for method in METHODS:
        found = [run for (_, _, name), run in runs.runs.items() if name == method]
        wall, missing = (100 * np.mean([run[name] for run in found]) for name in ("wall_rounds", "missing"))
        lines.append(
            f"* {method}: in {wall:.0f} % of the rounds a device lacks the memory for its block; {missing:.1f} % of "
            "the gradients never come."
        )
    return lines


def draw(results):
    """Draw Fig. 7: mean over the seeds, and their range, for the tasks that have several."""
    runs = Runs(results)
    figure = import_figure()(figsize=(10.5, 4.4), layout="constrained")
    tasks = [task for task in runs.tasks() if len(runs.seeds(task)) > 1]
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(tasks))), tasks, strict=True):
        seeds = runs.seeds(task)
        for method in METHODS:
            curves = [runs.curve(task, seed, method) for seed in seeds]
            minutes = np.mean([seconds for _, seconds, _ in curves], axis=0) / 60
            scores = np.array([score for _, _, score in curves])
            axes.plot(minutes, scores.mean(axis=0), color=_COLOURS[method], label=method)
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
