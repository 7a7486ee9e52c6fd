"""The page of DEFT has what its numbers say, Fig. 5's and Fig. 6's claims hold, and verdicts turn with the numbers."""

import copy
import re
import statistics
from pathlib import Path

import boosted_prompts
import deft
import deft_page
import deft_plots
import deft_runs_page
import fused_prompts
import one_device
import pytest
import rank_budgets

HERE = Path(deft_page.__file__).parent
RESULTS = deft.read_results()
PAGE = (HERE / "RESULTS.md").read_text()
KINDS = {"many-devices": "arm", "ranks": "arm", "emulator": "n_kept", "boosting": "scheduler"}


@pytest.fixture
def results():
    return copy.deepcopy(RESULTS)


def test_the_page_is_of_the_results():
    assert "\n\n".join(deft_page.blocks(RESULTS)) + "\n" == PAGE


def test_the_plots_are_those_of_the_page(tmp_path):
    deft_plots.draw(RESULTS, tmp_path)
    pictures = {f"plots/{path.name}" for path in tmp_path.iterdir()}
    assert pictures == {f"plots/{path.name}" for path in (HERE / "plots").iterdir()}
    assert all(f"]({name})" in PAGE for name in pictures)


def test_one_device_is_fitted_again_to_the_same_numbers():
    fitted, recorded = one_device.run(), RESULTS["one-device"]
    assert recorded["encoder_weights"] == fitted["encoder_weights"] == 132_175_872
    for name in ("raw_bits", "device_s", "deft_s", "centralised_s"):
        assert recorded["fit"][name] == pytest.approx(fitted["fit"][name], rel=1e-12)
    for before, other in zip(recorded["others"], fitted["others"], strict=True):
        for name in ("device_s", "model_s", "raw_bits", "floor_s", "ratio_at_ends"):
            assert before[name] == pytest.approx(other[name], rel=1e-12)


@pytest.mark.parametrize(
    ("curve", "at", "times", "claimed"),
    [
        ("centralised_s", 30, 1.001, "DEFT is five times as fast at 10 dB"),
        ("centralised_s", 50, 1.3, "the gap narrows"),
        ("deft_s", -1, 1.3, "DEFT's latency levels off"),
    ],
)
def test_a_figure_of_another_shape_is_not_written(results, curve, at, times, claimed):
    results["one-device"]["fit"][curve][at] *= times
    with pytest.raises(ValueError, match=claimed):
        deft_page.one_device(results["one-device"])


def test_every_part_is_there():
    assert RESULTS.keys() == deft.PARTS.keys()
    assert RESULTS["ranks"]["tasks"].keys() == rank_budgets.TASKS.keys()
    for part in deft.RUNS_OF_A_SEED:
        assert len({run["seed"] for run in RESULTS[part]["runs"]}) >= 2, part
    arms = {part: {run[name] for run in RESULTS[part]["runs"]} for part, name in KINDS.items()}
    assert arms == {
        "many-devices": {fused_prompts.DIGITAL, fused_prompts.AIR, fused_prompts.SCRATCH},
        "ranks": {rank_budgets.UNIFORM, *rank_budgets.MEASURES},
        "emulator": set(range(2, RESULTS["emulator"]["blocks"] + 1)),
        "boosting": set(boosted_prompts.SCHEDULERS),
    }
    assert {part: len(kinds) for part, kinds in arms.items()} == deft.RUNS_OF_A_SEED


def test_the_two_curves_of_fig_6_end_within_one_standard_error():
    data = RESULTS["many-devices"]
    ends = {
        arm: statistics.mean(run["accuracy"][-1] for run in data["runs"] if run["arm"] == arm)
        for arm in (fused_prompts.DIGITAL, fused_prompts.AIR)
    }
    digital, analog = ends.values()
    assert abs(digital - analog) <= (digital * (1 - digital) / data["dev_rows"]) ** 0.5
    assert f"The two curves end at {digital:.3f} and {analog:.3f}" in PAGE
    assert "apart: within one standard error, as in the article's figure" in PAGE


@pytest.mark.parametrize("part", ["many-devices", "ranks", "emulator", "boosting"])
def test_a_part_of_one_seed_shows_nothing_and_says_so(results, part, tmp_path):
    data = results[part]
    data["runs"] = [run for run in data["runs"] if run["seed"] == 0]
    text = "\n".join(deft_page.blocks({part: data}))
    assert "one seed" in text
    assert not re.search(r"\d seeds|nan|inf\b|(better|worse) than uniform|: more than two", text), text
    deft_plots.draw({part: data}, tmp_path)


def test_rounds_of_boosting_are_told_where_they_are_known(results):
    data = results["boosting"]
    limit, first = data["scale"]["rounds"], data["scale"]["first_prompts"]
    never = [1] * (limit + 1)
    for run in data["runs"]:
        run["candidates"] = [2, 1, 0] if run["scheduler"] == "exact" else never
        run["satisfied"] = [4 - count for count in run["candidates"]]
        run["prompts"], run["wrong"] = ([count] * len(run["candidates"]) for count in (first + 3, 0))
    text = deft_runs_page.boosting(data)
    seeds = len(data["runs"]) // 3
    assert f"| exact | {', '.join(['2'] * seeds)} | 2.0 |" in text
    assert f"| score | {', '.join([f'not within {limit}'] * seeds)} | at least {limit + 1:.1f} |" in text
    assert "| 1.5 of 1.5 | |\n| score" in text  # 3 prompts in 2 rounds, of 2 candidates and 1
    assert f"Fewest rounds: exact, 2.0 in the mean; most: score and channel, {limit + 1:.1f};" in text
    assert text.count(f"| +{limit - 1:.3f} ± 0.000 |") == 2
    assert f"{limit - 1:.3f} ± 0.000, more than two standard errors" in text
    for run in data["runs"]:
        run["candidates"] = [2, 1, 0]
    assert "need as many rounds in the mean" in deft_runs_page.boosting(data)
    for run in data["runs"]:
        run["candidates"] = never
    assert f"In no run were all devices satisfied within {limit} rounds" in deft_runs_page.boosting(data)


def test_the_two_curves_end_together_only_where_they_do(results):
    data = results["many-devices"]
    for run in data["runs"]:
        run["accuracy"][-1] = 0.8
    text = deft_runs_page.many_devices(data)
    assert "within one standard error, as in the article's figure" in text
    assert "both have learnt something" in text
    for run in data["runs"]:
        if run["arm"] == fused_prompts.AIR:
            run["accuracy"][-1] = data["majority"]
    text = deft_runs_page.many_devices(data)
    assert "more than one standard error, unlike the article's figure" in text
    assert "little is learnt of the task" in text


def test_transfer_is_faster_only_where_it_is(results):
    data = results["many-devices"]
    for run in data["runs"]:
        run["accuracy"] = [0.5, 0.5, 0.5, 0.5, 0.5, 0.7]
    assert "not seen here" in deft_runs_page.fusion(data)
    for run in data["runs"]:
        if run["arm"] != fused_prompts.SCRATCH:
            run["accuracy"] = [0.5, 0.7, 0.7, 0.7, 0.7, 0.9]
    text = deft_runs_page.fusion(data)
    assert "Transfer gets there in fewer epochs: 1 against 5." in text
    assert "+0.200 (transfer − scratch), more than two standard errors" in text


def test_ranks_are_judged_by_what_they_change(results):
    data = results["ranks"]
    for run in data["runs"]:
        run["accuracy"] = {"uniform": 0.8, "singular": 0.9, "sensitivity": 0.7}[run["arm"]] + 0.001 * run["seed"]
    text = deft_runs_page.ranks(data)
    assert "On SST-2 ranks by singular values are better than uniform ones by 0.100, more than two" in text
    assert "On MRPC ranks by |w·∇w| are worse than uniform ones by 0.100, more than two" in text
    assert "The majority class" not in text
    for run in data["runs"]:
        run["accuracy"] = data["majority"][run["task"]]
    text = deft_runs_page.ranks(data)
    assert "On MRPC nothing is shown for ranks by |w·∇w|: +0.000 is within two standard errors." in text
    assert "The majority class of SST-2 alone is 0.509, so little is learnt there" in text


def test_what_fewer_blocks_cost_is_judged(results):
    data = results["emulator"]
    for run in data["runs"]:
        run["accuracy"] = 0.5 + 0.05 * run["n_kept"]
    assert "0.200 less: more than two standard errors" in deft_runs_page.emulator(data)
    for run in data["runs"]:
        run["accuracy"] = 0.7
    assert "nothing is shown to be lost" in deft_runs_page.emulator(data)
