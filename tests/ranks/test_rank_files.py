"""Files of importance and of ranks: read as they were written, and refused where they are of something else."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rank_toys import PROVENANCE, toy
from scenario import small_problem

import lola


@pytest.mark.parametrize("measure, provenance", [("singular", PROVENANCE), ("sensitivity", None)])
def test_an_importance_is_read_as_it_was_written(tmp_path, measure, provenance):
    saved = toy(measure=measure, provenance=provenance, name=None)
    lola.save_importance(saved, tmp_path / "i.json")
    read = lola.load_importance(tmp_path / "i.json")
    for field in ("gain", "cost", "rank_bits", "fixed_bits"):
        assert np.array_equal(getattr(read, field), getattr(saved, field))
    assert (read.measure, read.provenance, read.name, read.label(2)) == (measure, provenance, None, "depth 2")


@pytest.mark.parametrize("limit", [{"budget": 650.5}, {"deadline_s": 4.2}, {"deadline_s": 3.2, "min_rank": 0}])
def test_ranks_are_read_as_they_were_written_and_proven_again(tmp_path, limit):
    importance, problem = toy(), small_problem() if "deadline_s" in limit else None
    plan = lola.allocate_ranks(importance, problem=problem, **limit)
    lola.save_ranks(plan, importance, tmp_path / "r.json", problem=problem)
    again, asked, round_of = lola.load_ranks(tmp_path / "r.json")
    again.verify(asked, round_of)
    assert again.rank.tolist() == plan.rank.tolist()
    for field in ("objective", "upper_bound", "price", "deadline_s", "latency_s", "uniform_rank", "name", "min_rank"):
        assert getattr(again, field) == getattr(plan, field), field
    assert (round_of is None) == (problem is None)
    with pytest.raises(lola.VerificationError):
        lola.save_ranks(replace(plan, objective=99.0), importance, tmp_path / "r.json", problem=problem)


@pytest.mark.parametrize(
    "where, value, message",
    [
        (("plan", "rank"), [1, 2], "rank must have 3 entries between 0 and 3, as the importance has"),
        (("plan", "rank"), [1, 2, 4], "rank must have 3 entries between 0 and 3"),
        (("plan", "uniform_rank"), 9, "uniform_rank be such a rank; got .* and 9"),
        (("plan", "objective"), 30.0, r"plan, objective: is 30.0, but the ranks are worth 28.0; was it edited\?"),
        (
            ("plan", "upper_bound"),
            27.9,
            "plan, upper_bound: is 27.9, below what the ranks are worth, 28.0; was it edited",
        ),
        (
            ("plan", "upper_bound"),
            -5,
            "plan, upper_bound: is -5.*, below what the ranks are worth, 28.0; was it edited",
        ),
        (("plan", "equal_bandwidth"), 1, "equal_bandwidth: true or false was wanted, got 1"),
        (("plan", "proof", "price"), 1.0, "price and device_price must be lists of one length"),
        (("plan", "proof", "device_price"), [], "price and device_price must be lists of one length"),
        (("importance", "gain"), 1.0, "importance, gain: a list of rows was wanted, one a block, got 1.0"),
        (("importance", "gain"), [[1.0], [1.0, 2.0]], r"rows of one length were wanted, got \[1, 2\]"),
        (("importance", "cost"), [1, 2, None], r"importance, cost\[2\]: a plain number was wanted"),
        (("importance", "cost"), None, "importance, cost: a list .* was wanted, got None"),
        (("importance", "gain"), None, "importance, gain: a list of rows was wanted, one a block, got None"),
        (("problem", "bandwidth_hz"), -1.0, "problem: bandwidth_hz must be finite and > 0"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, where, value, message):
    importance, problem = toy(), small_problem()
    plan = lola.allocate_ranks(importance, deadline_s=4.2, problem=problem)
    lola.save_ranks(plan, importance, tmp_path / "r.json", problem=problem)
    data = json.loads((tmp_path / "r.json").read_text())
    part = data
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(lola.FormatError, match=message):
        lola.load_ranks(tmp_path / "r.json")
