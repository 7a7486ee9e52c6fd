"""The rules of thumb that lola's splits are held against are computed as lola computes its own."""

import numpy as np
import phone_splits
import pytest

import lola
from lola.chains.clients import spread
from lola.chains.times import chain_times, module_runs, objective_s
from lola.files.stages import builtin_stages

STAGES = builtin_stages()
ORDERS = np.array([[0, 1, 2, 3], [3, 1, 0, 2]])


def problem(question, seed=1, **changed):
    rng = np.random.default_rng(seed)
    clients = {"speed": rng.uniform(0.1, 1.0, 4), "memory_bytes": rng.uniform(5e8, 2e9, 4)} | changed
    return lola.ChainProblem(
        STAGES, lola.Clients.from_positions(spread(4, 20.0, rng), **clients), **phone_splits.QUESTIONS[question]
    )


@pytest.mark.parametrize("question", phone_splits.QUESTIONS)
@pytest.mark.parametrize("rule", phone_splits.RULES)
def test_a_rule_takes_what_a_chain_takes(question, rule):
    asked = problem(question)
    chains = phone_splits.dealt(asked, rule, ORDERS)
    seconds, fits = phone_splits.by_rule(asked, chains)
    for chain, taken, fit in zip(chains, seconds, fits, strict=True):
        assert taken == pytest.approx(objective_s(asked, chain, chain_times(asked, chain)))
        offered = asked.clients.memory_bytes
        needs = [asked.stages.peak_bytes(run, inference=asked.inference) for run in module_runs(chain)]
        assert fit == all(
            need <= offered[chain[run.start]] for need, run in zip(needs, module_runs(chain), strict=True)
        )


def test_blocks_are_dealt_in_proportion():
    asked = problem("inference", speed=[0.1, 0.3, 0.2, 0.005], memory_bytes=[2e9, 1e9, 1e9, 2e9])
    first, second = phone_splits.dealt(asked, "speed", ORDERS)
    assert first.tolist() == [0] * 3 + [1] * 6 + [2] * 5
    assert second.tolist() == [1] * 7 + [0] * 2 + [2] * 5
    first, second = phone_splits.dealt(asked, "memory", ORDERS)
    assert first.tolist() == [0] * 5 + [1] * 2 + [2] * 2 + [3] * 5
    first, _ = phone_splits.dealt(asked, "equal", ORDERS)
    assert first.tolist() == [0] * 4 + [1] * 3 + [2] * 3 + [3] * 4


@pytest.mark.parametrize("question", phone_splits.QUESTIONS)
def test_no_rule_is_faster_than_the_optimum(question):
    ratios = phone_splits.compare(problem(question, memory_bytes=np.full(4, 2e9)))
    assert ratios.pop("used") <= 4
    assert len(ratios) == 1 + 3 * len(phone_splits.RULES)
    assert all(1 - 1e-9 <= ratio < np.inf for ratio in ratios.values())


def test_what_is_beyond_memory_is_counted_and_has_no_ratio():
    asked = problem("training, a batch", memory_bytes=[4e9, 1e8, 1e8, 1e8])
    assert phone_splits.compare(asked)["equal, best order"] == np.inf
    told = phone_splits.summary({"used": [1.0, 3.0], "equal, drawn order": [np.inf, 2.0]})
    assert told["alone"] == 0.5
    assert told["ratios"]["equal, drawn order"]["beyond_memory"] == 0.5
    assert set(told["ratios"]["equal, drawn order"]["quantiles"]) == {2.0}


def test_a_small_run_is_the_same_twice(tmp_path, monkeypatch):
    fleet = tmp_path / "phones.csv"
    names = "".join(f"phone,{0.1 * number},{number}000000000\n" for number in range(1, 9))  # a name may repeat
    fleet.write_text("name,speed,memory_bytes\n" + names)
    monkeypatch.setattr(phone_splits, "CLUSTERS", 2)
    once = phone_splits.run(str(fleet))
    assert once == phone_splits.run(str(fleet))
    assert once["of"] == 8
    assert len(once["questions"]["inference"]["ratios"]["speed, drawn order"]["quantiles"]) == 101
