"""The page on segments: its scripts run, and what it judges follows from the numbers."""

import copy
import json
from pathlib import Path

import pytest
import segments
import segments_page
import segments_plots

ROOT = Path(segments.__file__).resolve().parents[1]
STATE = json.loads((ROOT / "bench" / "segments.json").read_text())


def changed(section, change):
    data = copy.deepcopy(STATE[section])
    change(data)
    return data


def test_the_page_has_what_the_numbers_say():
    assert "\n\n".join(segments_page.blocks(STATE)) + "\n" == (ROOT / "bench" / "SEGMENTS.md").read_text()


def test_a_quick_run_makes_a_page_and_its_plots(tmp_path):
    where = {"machine": "m", "date": "d"}
    state = {name: section(True) | where for name, section in segments.SECTIONS.items()}
    state = json.loads(json.dumps(state, default=lambda array: array.tolist()))
    text = "\n".join(segments_page.blocks(state))
    segments_plots.draw_all(state, tmp_path)
    pictures = {f"plots/{path.name}" for path in tmp_path.iterdir()}
    assert len(pictures) == len(segments_plots.PICTURES)
    assert all(f"]({name})" in text for name in pictures)
    for family in ("as in the paper", "all unequal"):
        assert state["exactness"][family]["largest_difference"] <= 1e-6
    sizes = [line for line in state["gains"]["devices"] if line["one_feasible"] == 1]
    assert all(0 < line["ratio"][2] <= 1 + 1e-12 for line in sizes)
    one, some = state["participation"]["one block"], state["participation"]["segments"]
    assert one["devices"] == [0] * 12 + [50]
    assert sum(some["devices"]) == 50
    assert sum(some["share"]) == pytest.approx(sum(n * count for n, count in enumerate(some["devices"])) / 50)


def test_a_gain_is_said_only_where_there_is_one():
    assert "Even where one more block costs half of d(1), segments gain" in segments_page.gains(STATE["gains"])

    def dear(data):
        for line in data["extra"]:
            line["ratio"] = [1.0, 1.0, 1.0]

    assert "segments gain nothing at K = 20" in segments_page.gains(changed("gains", dear))


def test_the_trend_is_that_of_the_medians():
    assert "The longer uploads take, the more segments gain" in segments_page.gains(STATE["gains"])

    def bent(data):
        data["upload"][3]["ratio"] = [0.1, 0.1, 0.1]

    assert "Segments gain most at an upload × 0.562." in segments_page.gains(changed("gains", bent))


def test_fewer_devices_than_blocks_have_no_round_with_one_block_each():
    def impossible(data):
        data["devices"][0]["one_feasible"] = 0.5

    with pytest.raises(ValueError, match="a round with one block a device needs 12 devices"):
        segments_page.gains(changed("gains", impossible))


def test_who_never_takes_part_is_counted():
    assert "Every device takes part in some round" in segments_page.participation(STATE["participation"])

    def two_never(data):
        data["segments"]["share"][:2] = [0.0, 0.0]

    text = segments_page.participation(changed("participation", two_never))
    assert "Under segments 2 of 20 devices never take part" in text


def test_an_aim_is_met_only_if_it_is():
    def slow(data):
        for case in data["cell"]:
            case["seconds"]["segment_allocation"] = case["seconds"]["MILP"] / 50

    text = segments_page.timings(changed("timings", slow))
    assert "≥ 100 × | not met |" in text
    assert "≤ 2 ms | not met |" in text

    def quick(data):
        for case in data["cell"]:
            case["seconds"]["segment_allocation"] = case["seconds"]["MILP"] / 5000

    text = segments_page.timings(changed("timings", quick))
    assert "least 5,000 × | ≥ 100 × | met |" in text
    assert "≤ 2 ms | met |" in text


def test_the_timings_are_of_equal_answers():
    def wrong(data):
        data["cell"][0]["difference"] = 1e-5

    with pytest.raises(ValueError, match="the MILP and segment_allocation agree"):
        segments_page.timings(changed("timings", wrong))
