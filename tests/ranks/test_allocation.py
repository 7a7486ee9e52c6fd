"""Ranks under a budget and by a deadline: what they are worth, what proves them, and files that keep them."""

import itertools
import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from rank_toys import toy
from scenario import small_problem

import lola
from lola.figures.ranks import draw_ranks
from lola.files.importance import builtin_importance
from lola.solvers import multiple_choice_knapsack


def ranks_within(importance, min_rank, fits):
    """The most that ranks of a few blocks which fit are worth, by trying all."""
    choices = itertools.product(range(min_rank, importance.max_rank + 1), repeat=importance.n_blocks)
    return max((importance.worth(np.array(rank)) for rank in choices if fits(np.array(rank))), default=None)


@pytest.mark.parametrize("equal", [True, False])
def test_no_ranks_within_a_budget_are_worth_more(instances, equal):
    rng = np.random.default_rng(3)
    for _ in range(instances(60)):
        n_blocks, most = rng.integers(1, 5), rng.integers(1, 5)
        gain = rng.normal(size=(n_blocks, most)) if rng.random() < 0.5 else -np.sort(-rng.random((n_blocks, most)))
        cost = np.full(n_blocks, 7) if equal else rng.integers(1, 9, n_blocks)
        importance, least = lola.Importance(gain, cost), int(rng.integers(0, 2))
        budget = float(least * cost.sum() + rng.integers(0, 30))
        plan = lola.allocate_ranks(importance, budget=budget, min_rank=least)
        best = ranks_within(importance, least, lambda rank, cost=cost, budget=budget: cost @ rank <= budget)
        assert plan.objective == pytest.approx(best, abs=1e-12)
        assert plan.upper_bound >= best - 1e-12
        assert plan.parameters.sum() == cost @ plan.rank <= budget
        alike = min(int(budget // cost.sum()), most)
        assert (plan.uniform_rank, plan.uniform_objective) == (alike, importance.worth(np.full(n_blocks, alike)))


def test_a_search_that_was_stopped_is_worth_no_less_than_one_rank_for_all(monkeypatch):
    monkeypatch.setattr(multiple_choice_knapsack, "MOST_SUMS", 0)
    importance = lola.Importance([[5.0, 0.0], [4.0, 7.0], [8.0, 0.0]], cost=[2, 2, 4])
    plan = lola.allocate_ranks(importance, budget=8, min_rank=0)
    assert (plan.rank.tolist(), plan.objective, plan.uniform_objective) == ([1, 1, 1], 17.0, 17.0)


def in_time(importance, problem, deadline_s):
    """Say of ranks whether a round of theirs ends by the deadline, by scheduling it."""

    def fits(rank):
        bits = importance.upload_bits(rank)
        kept = np.flatnonzero(bits)
        if not kept.size:
            return True
        profile = problem.profile
        trained = lola.Profile(
            memory_bytes=profile.memory_bytes[kept], latency_s=profile.latency_s[kept], upload_bits=bits[kept]
        )
        return lola.schedule(replace(problem, profile=trained)).latency_s <= deadline_s

    return fits


@pytest.mark.parametrize("least, deadline_s", [(0, 3.2), (0, 3.8), (1, 4.4), (1, 4.6), (1, 40.0)])
def test_no_ranks_by_a_deadline_are_worth_more_and_the_round_ends_in_time(least, deadline_s):
    importance, problem = toy(), small_problem(broadcast_s=0.25)
    plan = lola.allocate_ranks(importance, deadline_s=deadline_s, problem=problem, min_rank=least)
    best = ranks_within(importance, least, in_time(importance, problem, deadline_s))
    assert plan.objective == pytest.approx(best, abs=1e-12)
    assert plan.objective <= plan.upper_bound <= best + 1e-9
    scheduled = lola.schedule(plan.to_problem(problem))
    assert scheduled.latency_s <= (problem.broadcast_s + plan.latency_s) * (1 + 1e-12) <= deadline_s * (1 + 1e-12)
    fits = in_time(importance, problem, deadline_s)
    alike = [rank for rank in range(1, 4) if fits(np.full(3, rank))]
    assert plan.uniform_rank == max(alike, default=0)
    equal = lola.allocate_ranks(toy(), deadline_s=8.0, problem=problem, min_rank=0, equal_bandwidth=True)
    assert set(equal.bandwidth_hz) <= {0.0, problem.bandwidth_hz / 3}


def test_sums_by_block_and_of_all_may_differ_by_a_rounding():
    """The solver adds up gains block by block, a plan all at once; a bound that is met is met for both."""
    fleet = lola.Fleet.sample(3, seed=0)
    profile = lola.Profile(memory_bytes=[1e8] * 3, latency_s=[0.1, 0.2, 0.3], upload_bits=1e5)
    problem = lola.Problem(profile, fleet, bandwidth_hz=1e8)
    gains = -np.sort(-np.random.default_rng(0).random((200, 3, 3)))
    cancelling = np.array([[1e20, 1.0, -1e20], [1.0, 1.0, 1.0], [3.0, 2.0, 1.0]])
    for gain, least in [(gain, 1) for gain in gains] + [(cancelling, 3)]:
        plan = lola.allocate_ranks(lola.Importance(gain, [100] * 3), deadline_s=1e4, problem=problem, min_rank=least)
        assert plan.rank.tolist() == [3, 3, 3]
        assert plan.objective == math.fsum(gain.ravel())
        assert plan.gap <= 1e-15


def test_a_deadline_that_nothing_meets_is_infeasible():
    with pytest.raises(lola.InfeasibleError, match="no ranks fit"):
        lola.allocate_ranks(toy(), deadline_s=2.5, problem=small_problem())


def test_blocks_of_rank_0_are_left_out_of_the_round():
    importance = toy(gain=[[9.0, 8.0], [0.1, 0.1], [7.0, 6.0]], fixed_bits=[0, 0, 0])
    plan = lola.allocate_ranks(importance, budget=400, min_rank=0)
    assert (plan.rank.tolist(), plan.trained.tolist()) == ([2, 0, 2], [1, 3])
    profile = small_problem().profile
    trained = plan.to_profile(replace(profile, extra_latency_s=[1, 2, 3], extra_memory_bytes=[4, 5, 6]))
    assert trained.latency_s.tolist() == [1.0, 1.4]
    assert trained.memory_bytes.tolist() == [1e9, 2e9]
    assert trained.upload_bits.tolist() == [2e5, 2e5]
    assert (trained.extra_latency_s.tolist(), trained.extra_memory_bytes.tolist()) == ([1, 3], [4, 6])
    assert trained.provenance.note == "LoRA of ranks 2, 0, 2 by depth"
    head = lola.allocate_ranks(toy(gain=[[0.1], [7.0], [6.0]]), budget=200, min_rank=0)
    assert (head.rank.tolist(), head.trained.tolist()) == ([0, 1, 1], [1, 2, 3])
    nothing = lola.allocate_ranks(importance, budget=0, min_rank=0)
    with pytest.raises(ValueError, match="ranks of something to train were wanted, got 0 at every depth"):
        nothing.to_problem(small_problem())


def test_a_plan_tells_of_itself():
    plan = lola.allocate_ranks(toy(), budget=600)
    assert str(plan) == "ranks 2, 3, 1: 600 parameters of 600, worth 29, proven to within 0"
    assert repr(plan) == f"<RankPlan {plan}>"
    assert plan.rows()[0] == {"depth": 1, "name": "c", "rank": 2, "parameters": 200, "upload_bits": 250000.0}
    assert "<td>c</td>" in plan._repr_html_()
    assert not any(array.flags.writeable for array in (plan.rank, plan.parameters, plan.upload_bits))
    assert replace(plan, upper_bound=32.0).gap == 3 / 32
    assert [toy().label(depth) for depth in (1, 3)] == ["c", "a"]
    for kept in (plan, toy()):
        with pytest.raises(FrozenInstanceError):
            kept.name = None
    timed = lola.allocate_ranks(toy(), deadline_s=4.4, problem=small_problem())
    assert "by 4.4 s" in str(timed)
    assert timed.rows()[0].keys() == {"depth", "name", "rank", "parameters", "upload_bits", "device", "bandwidth_hz"}


def test_a_plan_is_checked_with_what_it_was_made_of():
    importance, problem = toy(), small_problem()
    plan, timed = (
        lola.allocate_ranks(importance, **limit) for limit in ({"budget": 600}, {"deadline_s": 4.2, "problem": problem})
    )
    with pytest.raises(ValueError, match="one under a budget without: no problem was wanted, got one"):
        plan.verify(importance, problem)
    with pytest.raises(ValueError, match="the problem of its round was wanted, got none"):
        timed.verify(importance)
    with pytest.raises(
        ValueError, match="an importance of 3 blocks was wanted, as many as the plan has ranks; got one of 2"
    ):
        plan.verify(lola.Importance([[1.0], [1.0]], [100, 100]))
    with pytest.raises(lola.VerificationError, match="objective: is 29.0, but the ranks are worth"):
        plan.verify(toy(gain=[[9.0, 4.0, 1.0], [6.0, 3.0, 2.5], [5.0, 0.5, 0.25]]))
    for n_blocks in (2, 4):
        other = lola.Profile(memory_bytes=[1] * n_blocks, latency_s=[1] * n_blocks, upload_bits=1)
        with pytest.raises(ValueError, match=f"of 3 blocks was wanted, one for each rank; got one of {n_blocks}"):
            plan.to_profile(other)
        with pytest.raises(ValueError, match=f"of 3 blocks was wanted, as many as the importance has; got {n_blocks}"):
            timed.verify(importance, replace(problem, profile=other))
    with pytest.raises(ValueError, match="pinned and forbidden pairs name depths, and ranks change which there are"):
        plan.to_problem(small_problem(pinned=[(4, 1)]))


@pytest.mark.parametrize(
    "options, kind, message",
    [
        ({}, ValueError, "either budget or deadline_s must be given, got neither"),
        ({"budget": 1e3, "deadline_s": 1.0}, ValueError, "either budget or deadline_s must be given, got both"),
        ({"deadline_s": 4.0}, ValueError, "problem goes with deadline_s, got deadline_s without the other"),
        ({"budget": 1e3, "problem": small_problem()}, ValueError, "goes with deadline_s, got problem without"),
        ({"budget": 299}, ValueError, r"at least 300 parameters, 1 rank\(s\) of every block, got 299; raise it"),
        ({"budget": np.inf}, ValueError, "budget must be finite and at least 300"),
        ({"budget": "many"}, TypeError, "budget must be a number, got str"),
        (
            {"budget": 1e3, "min_rank": 4},
            ValueError,
            "min_rank must lie between 0 and 3, .*; got 4; choose one",
        ),
        ({"budget": 1e3, "min_rank": 1.0}, TypeError, "min_rank must be an integer, got float"),
        ({"budget": 1e3, "equal_bandwidth": True}, ValueError, "equal_bandwidth is of rounds by a deadline"),
        ({"deadline_s": 0.0, "problem": small_problem()}, ValueError, "deadline_s must be finite and > 0, got 0"),
        (
            {"deadline_s": 4.0, "problem": small_problem(broadcast_s=4.0)},
            ValueError,
            "deadline_s must leave time after the broadcast of 4 s, got 4",
        ),
        ({"deadline_s": 4.0, "problem": small_problem(subcarrier_hz=1e3)}, ValueError, "without whole subcarriers"),
        ({"deadline_s": 4.0, "problem": small_problem(forbidden=[(0, 1)])}, ValueError, "without whole subcarriers"),
        ({"deadline_s": 4.0, "problem": "round"}, TypeError, "problem must be a lola.Problem, got str"),
        (
            {
                "deadline_s": 4.0,
                "problem": small_problem(profile=lola.Profile(memory_bytes=[1, 2], latency_s=[1, 2], upload_bits=1e5)),
            },
            ValueError,
            "a profile of 3 blocks was wanted, as many as the importance has; got 2",
        ),
    ],
)
def test_limits_that_are_none_are_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        lola.allocate_ranks(toy(), **options)


BAD = [
    ({"gain": [[1.0, np.nan]] * 3}, "gain must be finite .* got nan for rank 2 of depth 1"),
    ({"gain": [[1.0], [1e-60], [1.0]]}, "from 1e-50 to 1e50 in size.*got 1e-60 for rank 1 of depth 2"),
    ({"gain": [[1.0], [-1e51], [1.0]]}, r"in size.*got -1e\+51 for rank 1 of depth 2"),
    ({"gain": [[], [], []]}, r"1 to 65536 columns, one a rank; got shape \(3, 0\)"),
    ({"gain": [1.0, 2.0, 3.0]}, r"gain must have 2 axis\(es\), got shape \(3,\)"),
    ({"cost": [1, 2]}, "cost must have 3 entries, as many as the rows of gain; got 2"),
    ({"cost": [1, 2, 0]}, "cost must be finite and > 0, got 0.0 at index 2"),
    ({"cost": [1, 2.5, 3]}, r"cost must be whole numbers of parameters up to 2\*\*53, got \[1.0, 2.5, 3.0\]"),
    (
        {"cost": [2**52, 1, 1]},
        r"all ranks of all blocks have up to 2\*\*53 parameters, got 13510798882111494 in all; count those of one",
    ),
    ({"cost": [2**53, 2**53, 2**53]}, "cost must let all ranks .* got 81064793292668928 in all; count those of one"),
    ({"rank_bits": [1, -1, 1]}, "rank_bits must be finite and > 0, got -1"),
    ({"fixed_bits": [1, -1, 1]}, "fixed_bits must be finite and >= 0, got -1"),
    ({"name": ["a", "b"]}, "name must have 3 entries, as many as gain has rows; got 2"),
    ({"name": ["a", "b", "c", "d"]}, "name must have 3 entries, as many as gain has rows; got 4"),
    ({"name": "abc"}, "name must be a list of texts, one a block, got 'abc'"),
    ({"name": 5}, "name must be a list of texts, one a block, got 5; give one, or leave it out"),
    ({"name": ["a", "b", "\x1b"]}, "name must hold printable texts in one line"),
    ({"name": ["a", "b", "a"]}, "name must hold each name once"),
    ({"measure": "norm"}, "measure must be one of singular, sensitivity; got 'norm'; name what"),
    ({"provenance": {}}, "provenance must be a lola.Provenance, got dict"),
]


@pytest.mark.parametrize("change, message", BAD)
def test_what_is_no_importance_is_refused(change, message):
    with pytest.raises((lola.LolaError), match=message):
        toy(**change)


def test_the_picture_has_every_rank_and_those_of_a_deadline_too():
    importance = builtin_importance()
    plan = lola.allocate_ranks(importance, budget=float(4 * importance.cost.sum()), min_rank=0)
    figure = draw_ranks(plan, importance)
    worth, ranks, *_ = figure.axes
    assert [bar.get_width() for bar in ranks.patches] == plan.rank.tolist()
    assert f"{100 * plan.objective / importance.gain.sum():.1f} % of the worth of all" in worth.get_title(loc="left")
    assert ranks.get_title(loc="left") == "36,864 parameters of 36,864"
    assert worth.get_yticklabels()[0].get_text() == "1  bert.encoder.layer.5"
    losses = toy(gain=np.full((3, 2), -1.0), name=None)
    nothing = draw_ranks(lola.allocate_ranks(losses, deadline_s=4.4, problem=small_problem()), losses)
    assert nothing.axes[1].get_title(loc="left") == "300 parameters by 4.4 s"
    for drawn in (figure, nothing):
        drawn.canvas.draw()


def test_the_built_in_importance_is_of_minilm():
    importance = builtin_importance()
    assert (importance.n_blocks, importance.max_rank) == (6, 16)
    assert importance.cost.tolist() == [4 * 384] * 6
    assert (np.diff(importance.gain) <= 0).all()
    assert importance.provenance.note.startswith("sst2, after 100 steps")
