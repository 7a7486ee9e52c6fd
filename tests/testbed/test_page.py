"""The page of the testbed has what its numbers say, and says the contrary where they turn."""

import copy
import json
from pathlib import Path

import pytest
import testbed
import testbed_page

HERE = Path(testbed_page.__file__).parent
RESULTS = json.loads((HERE / "results.json").read_text())
PAGE = (HERE / "RESULTS.md").read_text()


@pytest.fixture
def results():
    return copy.deepcopy(RESULTS)


def test_the_page_is_of_the_results():
    assert "\n\n".join(testbed_page.blocks(RESULTS)) + "\n" == PAGE


def test_every_block_of_every_round_is_recorded():
    scenario, layers = RESULTS["scenario"], RESULTS["scenario"]["model"]["layers"]
    for scheme in scenario["schemes"]:
        records = testbed_page.rounds_of(RESULTS, scheme["name"])
        assert [record["round"] for record in records] == list(range(scheme["rounds"]))
    for record in RESULTS["rounds"]:
        depths = [depth for block in record["blocks"] for depth in range(block["depths"][0], block["depths"][1] + 1)]
        assert depths == list(range(1, layers + 1))
        slowest = max(sum(block["predicted"].values()) for block in record["blocks"])
        assert slowest == pytest.approx(record["predicted_s"])
        answered = [block["measured"]["answered_s"] for block in record["blocks"]]
        assert record["measured_s"] == (None if None in answered else max(answered))
        for block in record["blocks"]:
            assert block["killed"] <= (block["measured"]["answered_s"] is None)
            assert bool(block["why"]) == (block["measured"]["answered_s"] is None)


def test_the_plots_are_those_of_the_page(tmp_path):
    testbed_page.draw(RESULTS, tmp_path)
    pictures = {f"plots/{path.name}" for path in tmp_path.iterdir()}
    assert len(pictures) == 3
    assert all(f"]({name})" in PAGE and (HERE / name).exists() for name in pictures)


def test_an_order_holds_only_where_it_does(results):
    records = [record for record in results["rounds"] if record["scheme"] == "JBBA"]
    for record in records:
        record["measured_s"] = record["predicted_s"] = 0.1
    for record in testbed_page.lolas(results):
        record["measured_s"] = record["predicted_s"] + (record["scheme"] == "BA")
    text = testbed_page.schemes(results)
    assert "is that predicted: JBBA < JBBA, segments < BA" in text
    for record in records:
        record["measured_s"] = 100.0
    text = testbed_page.schemes(results)
    assert "The order of the schemes is not that predicted: predicted JBBA < JBBA, segments" in text
    assert text.count("< JBBA.") == 1


def test_a_scheme_without_complete_rounds_has_no_latency(results):
    records = [record for record in results["rounds"] if record["scheme"] == "BA"]
    for record in records:
        record["measured_s"], record["predicted_s"] = 2.5, 2.0
    records[0]["measured_s"] = None
    records[0]["predicted_s"] = 50.0
    assert "| BA | 15 | 14 | 2.00 s | 2.50 s | 1.250 |" in testbed_page.schemes(results)
    for record in records[1:8]:
        record["measured_s"] = None
    assert "BA" not in testbed_page.comparable(results)
    assert "| BA | 15 | 7 | (5.20 s) | – | – |" in testbed_page.schemes(results)


def test_errors_are_within_the_limits_only_where_they_are(results):
    for record in testbed_page.lolas(results):
        record["measured_s"] = 1.05 * record["predicted_s"]
    text = testbed_page.errors(results)
    assert "| round, lola's schemes | 45 | 5.0 % | 5.0 % | +5.0 % |" in text
    assert "are predicted within 10 % in the median and within 25 % in nine of ten." in text
    for record in testbed_page.lolas(results)[:7]:
        record["measured_s"] = 1.3 * record["predicted_s"]
    assert "in nine of ten, and are not." in testbed_page.errors(results)
    for record in testbed_page.lolas(results):
        record["measured_s"] = 0.89 * record["predicted_s"]
    text = testbed_page.errors(results)
    assert "| round, lola's schemes | 45 | 11.0 % | 11.0 % | -11.0 % |" in text
    assert "in nine of ten, and are not." in text


def test_a_wall_is_met_only_by_those_for_whom_it_was_predicted(results):
    for record in results["rounds"]:
        for block in record["blocks"]:
            block["killed"] = block["short_of_memory"]
    assert "was killed by the kernel, and nobody else was: lola's schedules have none." in testbed_page.wall(results)
    results["provenance"]["limits"] = "signals of the testbed"
    assert "was killed by the testbed, and" in testbed_page.wall(results)
    testbed_page.lolas(results)[0]["blocks"][0]["killed"] = True
    text = testbed_page.wall(results)
    assert "Who was killed by the testbed is not in every case who was given a block beyond its memory: 1 of " in text
    assert "| JBBA, segments | 15 | 0 | 1 | 0 / 1 |" in text


def test_a_machine_that_had_other_work_is_said_to(results):
    results["provenance"]["load_before"] = 0.4
    assert len(testbed_page.head(results)) == 2
    results["provenance"]["load_before"] = 3.0
    assert (
        "The machine was loaded.** Before the run began its load was 3.0 on 2 cores" in testbed_page.head(results)[-1]
    )


def test_what_was_killed_of_lola_s_own_is_said_with_the_reason(results):
    own = [block for record in testbed_page.lolas(results) for block in record["blocks"]]
    assert not any(block["killed"] for block in own)
    assert "lola's own schemes" not in testbed_page.wall(results)
    record = next(record for record in testbed_page.lolas(results) if record["scheme"] == "JBBA")
    record["blocks"][0] |= {"device": "cem", "killed": True}
    results["memory_bytes"]["cem"] = results["profile"]["memory_bytes"][1] + 12e6
    text = testbed_page.wall(results)
    assert f"**Of lola's own schemes 1 of {len(own)} processes were killed**" in text
    assert f"beyond its memory: cem in round {record['round']} of JBBA. " in text
    assert "here 12 to 12 MB above what their deepest block took" in text


def test_who_ran_fewer_rounds_is_said_to(results):
    assert "Not all ran" not in testbed_page.schemes(results)
    few = ("communication-aware", "random")
    results["rounds"] = [one for one in results["rounds"] if one["scheme"] not in few or one["round"] < 5]
    text = testbed_page.schemes(results)
    assert "Not all ran 15 rounds: communication-aware ran 5, random ran 5." in text


def test_the_model_is_said_beside_one_in_use(results):
    assert "with 6 blocks of width 384 (MiniLM-L6 has six of 384)," in testbed_page.devices(results)
    results["scenario"]["model"] |= {"layers": 3, "hidden": 96}
    assert "random weights with 3 blocks of width 96 (MiniLM-L6 has six of 384)," in testbed_page.devices(results)


def test_a_round_is_told_in_a_line(results):
    record = next(record for record in results["rounds"] if record["measured_s"] is not None)
    record |= {"scheme": "BA", "round": 3, "predicted_s": 2.0, "measured_s": 2.126}
    assert testbed.line(record) == "BA 3: predicted 2.00 s, measured 2.13 s"
    record["blocks"][0]["killed"] = True
    record["measured_s"] = None
    killed = record["blocks"][0]["device"]
    assert testbed.line(record) == f"BA 3: predicted 2.00 s, measured incomplete; killed for memory: {killed}"
