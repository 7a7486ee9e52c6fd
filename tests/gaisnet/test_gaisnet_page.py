"""The page of GaisNet's questions has what its numbers say, and says the contrary where they turn."""

import copy
import json
from pathlib import Path

import gaisnet_page
import gaisnet_plots
import pytest
import service_rounds

import lola

HERE = Path(gaisnet_page.__file__).parent
RESULTS = json.loads((HERE / "results.json").read_text())
PAGE = (HERE / "RESULTS.md").read_text()


@pytest.fixture
def results():
    return copy.deepcopy(RESULTS)


def test_the_page_is_of_the_results():
    assert "\n\n".join(gaisnet_page.blocks(RESULTS)) + "\n" == PAGE


def test_the_plots_are_those_of_the_page(tmp_path):
    gaisnet_plots.draw(RESULTS, tmp_path)
    pictures = {f"plots/{path.name}" for path in tmp_path.iterdir()}
    assert len(pictures) == 5
    assert all(f"]({name})" in PAGE and (HERE / name).exists() for name in pictures)


def test_table_v_is_repeated():
    found = service_rounds.run()
    assert {name: sum(run["profit"]) for name, run in found["printed"].items()} == service_rounds.PRINTED_PROFIT
    assert sum(found["optimal"]["two levels up"]["profit"]) == 650
    assert sum(found["optimal"]["no cap"]["profit"]) == 725
    recorded = RESULTS["horizon"]
    assert (recorded["demand"], recorded["printed"]) == (found["demand"], found["printed"])
    for name, run in found["optimal"].items():  # a bound counts roundings, which machines may do differently
        assert recorded["optimal"][name] == run | {"bound": pytest.approx(run["bound"])}


def test_serving_always_is_what_the_paper_prints_for_immediate_profit():
    problem = lola.HorizonProblem(
        service_rounds.levels(2), service_rounds.COST, service_rounds.DEMAND, name=list("ABC")
    )
    profit = problem.immediate(problem.demand).profit.tolist()
    assert profit == service_rounds.replayed(service_rounds.PRINTED["immediate"], 2)


def test_a_plan_is_the_printed_one_only_where_it_is(results):
    results["horizon"]["optimal"]["two levels up"]["actions"] = "ccACCCCCCC"
    assert "earns what the paper's earns, by other actions" in gaisnet_page.horizon(results["horizon"])
    results["horizon"]["printed"]["random"]["profit"][0] += 1
    with pytest.raises(ValueError, match="the random policy's actions earn what is printed"):
        gaisnet_page.horizon(results["horizon"])


def test_a_rule_that_beats_the_optimum_is_not_written(results):
    results["splits"]["questions"]["inference"]["ratios"]["speed, best order"]["quantiles"][0] = 0.99
    with pytest.raises(ValueError, match="no rule is faster than lola's optimum"):
        gaisnet_page.splits(results["splits"])


def test_clusters_that_cannot_hold_the_model_are_told(results):
    results["splits"]["left_out"] = 0
    assert "Every cluster that was drawn can hold the model." in gaisnet_page.splits(results["splits"])
    results["splits"]["left_out"] = 7
    assert "7 clusters that cannot hold the model" in gaisnet_page.splits(results["splits"])


def test_a_broken_ceiling_is_told(results):
    runs = results["classes"]["runs"]
    runs[0]["accuracy"][-1] = 0.5
    text = gaisnet_page.classes(results["classes"])
    assert "Ours exceed it by more than two standard errors" in text
    runs[0]["accuracy"][-1] = 1 / 3
    runs[-1]["accuracy"][-1] = runs[1]["accuracy"][-1] = 0.4
    text = gaisnet_page.classes(results["classes"])
    assert "Ours keep below it" in text
    assert "hardly learns the task" in text


def test_clusters_help_only_where_they_do(results):
    runs = gaisnet_page.cluster_runs(results)
    task = next(iter(runs))
    for run in runs[task]["runs"]:
        run["accuracy"] = 0.6
    assert f"On {gaisnet_plots.NAMES[task]} nothing is shown: 0.600 with one" in gaisnet_page.clusters(runs)
    runs[task]["runs"][-1]["accuracy"] = 0.9
    assert "rises from 0.600 with one cluster to 0.900" in gaisnet_page.clusters(runs)


def test_pretraining_and_adapters_are_judged_by_the_numbers(results):
    data = results["pretraining"]
    by = {(run["pretrained"], run["tuned"]): run for run in data["runs"]}
    for run in by.values():
        run["accuracy"][-1] = 0.7
    text = gaisnet_page.pretraining(data)
    assert "not seen in so few rows" in text
    assert "no worse within" in text
    by[True, "adapters"]["accuracy"][-1] = 0.8
    by[True, "everything"]["accuracy"][-1] = 0.95
    text = gaisnet_page.pretraining(data)
    assert "Pretraining decides" in text
    assert "unlike Fig. 7" in text
