"""The paper page's verdicts follow its numbers: other data make it say the contrary, or it is not written."""

import copy
import json
from pathlib import Path

import convergence_page
import latency
import latency_page
import numpy as np
import pytest

PAPER = Path(latency.__file__).parent
LATENCY, CONVERGENCE = (json.loads((PAPER / f"{name}.json").read_text()) for name in ("latency", "convergence"))


def changed(data, **entries):
    """A deep copy with entries replaced; a name like ``a__b`` is of b in a."""
    data = copy.deepcopy(data)
    for name, value in entries.items():
        *path, last = name.split("__")
        inner = data
        for key in path:
            inner = inner[key]
        inner[last] = value
    return data


# -- the paper's figures ----------------------------------------------------------------------------------------------


def with_row(results, what, **entries):
    """The variations with one of them changed."""
    return changed(results, why=[{**row, **entries} if row["what"] == what else row for row in results["why"]])


def with_figure(results, name, scale):
    """A figure with every mean multiplied by what `scale` gives for a row."""
    return changed(results, **{name: [{**row, "mean_s": row["mean_s"] * scale(row)} for row in results[name]]})


def test_the_nearer_order_is_said_to_be_taken_only_if_it_is():
    assert "lola takes the first, the nearer." in latency_page.parameters(LATENCY)
    worse = changed(LATENCY, fit__shallowest__residual=0.2)
    assert "lola takes the first, although the second is nearer." in latency_page.parameters(worse)
    with pytest.raises(ValueError, match="M = 16 is fitted to Table I"):
        latency_page.parameters(changed(LATENCY, fit__shallowest__factor=20.0))


def test_figure_4_is_near_only_where_it_is():
    costs_of = LATENCY["4"]
    text = latency_page.figure_4(costs_of)
    assert "GB, near the published figure (within 15 %)" in text
    assert "about a third is the share of depth 3." in text
    small = changed(costs_of, **{"sequence 512__alone_bytes": 10.1e9})
    assert "not near the published figure (not within 15 %)" in latency_page.figure_4(small)
    alone = changed(costs_of, alone_bytes={"weights": 1.02 * max(costs_of["memory_bytes"])})
    few = changed(alone, memory_bytes=[0.9 * max(costs_of["memory_bytes"]), max(costs_of["memory_bytes"])])
    assert "about a third is the share of no depth." in latency_page.figure_4(few)
    with pytest.raises(ValueError, match="what a cooperating device needs grows with depth"):
        latency_page.figure_4(changed(costs_of, memory_bytes=costs_of["memory_bytes"][::-1]))
    for wrong in ({"memory_bytes": [1e9, 7e9]}, {"sequence 512__memory_bytes": [1e9, 5e9]}):
        with pytest.raises(ValueError, match="a device can hold depth 12 at 128 tokens, and none at 512"):
            latency_page.figure_4(changed(costs_of, **wrong))


@pytest.mark.parametrize(
    "name, said, scale, contrary",
    [
        ("5", "at 10 dB (not met: 30 %)", {"ba": 0.9}, "at 10 dB (met: 37 %)"),
        ("5", "JBBA is lower still (met)", {"jbba": 2.0}, "JBBA is lower still (not met)"),
        ("6", "BA is below the baseline (met)", {"ba": 2.0}, "BA is below the baseline (not met)"),
        ("6", "JBBA is lower still (met)", {"jbba": 2.0}, "JBBA is lower still (not met)"),
        ("8", "40 % of the baseline (not met: 62 %)", {"jbba": 0.65}, "40 % of the baseline (met: 40 %)"),
        ("8", "60 % of BA (not met: 92 %)", {"jbba": 0.65}, "60 % of BA (met: 60 %)"),
    ],
)
def test_a_figure_says_what_is_met(name, said, scale, contrary):
    assert said in latency_page.figure(name, LATENCY)
    assert contrary in latency_page.figure(name, with_figure(LATENCY, name, lambda row: scale.get(row["method"], 1.0)))


@pytest.mark.parametrize("name, axis", [("5", "transmit_snr_db"), ("6", "bandwidth_hz")])
def test_a_figure_says_whether_latency_falls(name, axis):
    assert "(met)" in next(part for part in latency_page.figure(name, LATENCY).split(";") if "latency falls" in part)
    last = latency.SWEEPS[name][axis][-1]
    rising = with_figure(LATENCY, name, lambda row: 2.0 if row[axis] == last else 1.0)
    verdict = next(part for part in latency_page.figure(name, rising).split(";") if "latency falls" in part)
    assert "(not met)" in verdict


def widening(row):
    """What makes JBBA's advantage grow with K, and what Figure 8 states hold at K = 50."""
    return {"jbba": 0.65 * (50 / row["n_devices"]) ** 2}.get(row["method"], 1.0)


def test_figure_8_is_met_only_if_all_of_it_is():
    assert "the gaps widen as K grows (not met)" in latency_page.figure("8", LATENCY)
    assert "**Figure 8 is not met.**" in latency_page.why(LATENCY)
    met = with_figure(LATENCY, "8", widening)
    assert "the gaps widen as K grows (met)" in latency_page.figure("8", met)
    assert "**Figure 8 is met.**" in latency_page.why(met)
    assert "not met" not in latency_page.why(met)


def test_what_would_meet_figure_8_is_close_only_if_it_is():
    text = latency_page.why(LATENCY)
    assert "0.57 and 0.42, close to the published" in text
    assert "and Table I agrees." in text
    far = with_row(LATENCY, latency.SPLIT_50, large=[0.8, 0.8])
    assert "0.80 and 0.64, not close to the published" in latency_page.why(far)
    for split in (latency.SPLIT_20, latency.SPLIT_50):
        assert "but Table I does not agree." in latency_page.why(with_row(LATENCY, split, residual=0.001))
    with pytest.raises(ValueError, match="no M brings JBBA near Figure 8"):
        latency_page.why({**LATENCY, "least at 50": [0.62, 0.613]})


@pytest.mark.parametrize(
    "doctored, sentence",
    [
        (with_row(LATENCY, "M = 64", small=[0.671, 0.7]), "is worth the most where uploads rule"),
        (with_row(LATENCY, "M = 256", small=[0.659, 0.94]), "draw level where computation rules"),
        (changed(LATENCY, published=[0.5, 0.85]), "Table I lies between"),
        (changed(LATENCY, published=[0.7, 0.99]), "Table I lies between"),
        (changed(LATENCY, fit__shallowest__residual=0.05), "one M meets both ratios"),
        (with_row(LATENCY, "M = 16, best channel deepest", small=[0.71, 0.85]), "the order of the baseline counts"),
        (with_row(LATENCY, latency.FOUR_GB, small=[0.7, 0.77]), "the more memory a depth needs, the less BA gains"),
    ],
)
def test_what_is_said_to_decide_is_withheld_if_it_does_not(doctored, sentence):
    with pytest.raises(ValueError, match=sentence):
        latency_page.why(doctored)


@pytest.mark.parametrize(
    "method, entries, sentence",
    [
        ("random", {"wall_rounds": 0.0}, "every baseline's latency flatters it"),
        ("ba", {"wall_rounds": 0.1}, "only baselines meet the wall"),
        ("jbba-dual-ascent", {"mean_s": 1.0}, "dual ascent is above the optimum"),
    ],
)
def test_the_schemes_are_as_is_said_of_them(method, entries, sentence):
    assert "dual ascent, is 1.8% above" in latency_page.schemes(LATENCY["schemes"])
    doctored = [{**row, **entries} if row["method"] == method else row for row in LATENCY["schemes"]]
    with pytest.raises(ValueError, match=sentence):
        latency_page.schemes(doctored)


# -- Table I and Figure 7 ---------------------------------------------------------------------------------------------


def runs_where(change=lambda run: None, a_round=lambda method: 60.0):
    """The runs, each changed, whose rounds all last as long as said, so that nothing is scheduled."""
    results = copy.deepcopy(CONVERGENCE)
    for run in results["runs"]:
        change(run)
    runs = convergence_page.Runs(results)
    for seed in range(3):
        for method in convergence_page.SCHEMES:
            runs.latencies[seed, method] = [a_round(method)] * 200
    return runs


def scoring(task, method, value):
    """Change what a task's runs by a method score, at every evaluation."""

    def change(run):
        if (run["task"], run["method"]) == (task, method):
            run["history"] = [[step, clock, {run["metric"]: value}] for step, clock, _ in run["history"]]

    return change


@pytest.mark.parametrize(
    "gains, said",
    [
        ([(0.7, 0.7), (0.92, 0.85)], ["BA gains as much on the baseline as published: 0.70", "JBBA gains less on BA"]),
        ([(0.72, 0.7), (0.80, 0.85)], ["BA gains as much on the baseline as published", "JBBA gains more on BA than"]),
        ([(0.8, 0.7), (0.85, 0.85)], ["BA gains less on the baseline than published", "JBBA gains as much on BA as"]),
        ([(0.6, 0.7), (0.86, 0.85)], ["BA gains more on the baseline than published", "JBBA gains as much on BA as"]),
    ],
)
def test_a_gain_is_compared_with_the_published_one(gains, said):
    remarks = convergence_page.gain_remarks(gains)
    for sentence, remark in zip(said, remarks, strict=True):
        assert sentence in remark
    assert ("Six of twenty channels" in "".join(remarks)) == ("JBBA gains less" in remarks[1])


def test_gains_are_geometric_means_over_the_tasks():
    seconds = {"communication-aware": 100.0, "ba": 50.0, "jbba": 40.0, "jbba-dual-ascent": 45.0, "segments": 30.0}
    lines, gains = convergence_page.table(runs_where(a_round=seconds.get))
    np.testing.assert_allclose(gains[:, 0], [0.5, 0.8])
    assert [line[-1] for line in lines] == ["0.75"] * len(lines)
    assert "BA gains more on the baseline" in convergence_page.gain_remarks(gains)[0]


def test_what_is_hardly_learnt_is_named_only_then():
    easy, hardly = convergence_page.task_remarks(runs_where())
    assert "In mrpc, rte the majority class alone" in easy
    assert "In rte, cola the centralised run comes less than 10 % of the way" in hardly
    assert "CoLA asks for grammar" in hardly
    _, hardly = convergence_page.task_remarks(runs_where(scoring("cola", "centralised", 0.5)))
    assert "In rte the centralised run" in hardly
    assert "CoLA" not in hardly
    _, hardly = convergence_page.task_remarks(runs_where(scoring("sst2", "centralised", 0.52)))
    assert "In sst2, rte, cola the centralised run" in hardly

    def learnt(run):
        scoring(run["task"], "centralised", 0.95)(run)

    assert convergence_page.task_remarks(runs_where(learnt)) == []


def test_chance_weighs_only_where_a_longer_round_wins():
    rounds = {"communication-aware": 30.0, "ba": 20.0, "jbba-dual-ascent": 20.0, "jbba": 10.0, "segments": 10.0}

    def alike(run):
        if run["method"] in rounds:
            scoring(run["task"], run["method"], 1.0)(run)
            run["latency_s"] = rounds[run["method"]]

    assert (
        convergence_page.chance(runs_where(alike, rounds.get))
        == "here this nowhere weighs more than what a round lasts"
    )

    def late(run):
        alike(run)
        if run["method"] == "jbba":
            run["history"] = [[step, clock, {run["metric"]: float(step > 60)}] for step, clock, _ in run["history"]]
            run["history"][-1][2][run["metric"]] = 1.0

    said = convergence_page.chance(runs_where(late, rounds.get))
    assert said.startswith(
        "here this weighs more than what a round lasts: in sst2 communication-aware is sooner than jbba"
    )


def test_accuracy_is_the_same_only_within_the_noise():
    said = convergence_page.same_accuracy(runs_where(), "sst2")["same"]
    assert said.startswith("The same accuracy: the means lie within 0.017 (at most 0.03). With segments it is ")
    said = convergence_page.same_accuracy(runs_where(scoring("sst2", "jbba", 0.7)), "sst2")["same"]
    assert said.startswith("Not the same accuracy: the means lie 0.109 apart (more than 0.03). ")
    assert said.endswith("With segments it is +0.098 from JBBA's: not the same.")
    level = convergence_page.same_accuracy(runs_where(), "sst2")["scores"].splitlines()[-1].split("|")[-3]
    for score, verdict in ((float(level) + 0.01, "the same, too"), (float(level) - 0.05, "not the same")):
        said = convergence_page.same_accuracy(runs_where(scoring("sst2", "segments", score)), "sst2")["same"]
        assert said.endswith(f"from JBBA's: {verdict}.")


def test_the_baseline_meets_the_wall_only_if_it_did():
    def roomy(run):
        run["wall_rounds"] = 0.0

    assert convergence_page.baseline_wall(runs_where()) == "the baseline's too, though it would meet the memory wall"
    assert convergence_page.baseline_wall(runs_where(roomy)) == "the baseline's too, which meets no memory wall here"


def test_what_segments_change_is_of_their_own_runs():
    def halved(run):
        run["latency_s"] = 10.0 if run["method"] == "segments" else 20.0
        run["history"] = run["history"][:1]

    runs = runs_where(halved)
    devices = [
        len(set(convergence_page.schedule_of(run["seed"], "segments", version).device_of_block.tolist()))
        for run in runs.of("segments")
        for version in range(run["history"][0][0])
    ]
    assert len(devices) == 3 * (10 + 5)
    said = f"rounds then last 0.50 of the time, and {np.mean(devices):.1f} devices take part in the mean, not 6."
    assert said in convergence_page.segment_remark(runs)
