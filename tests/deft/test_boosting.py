"""FlyBoosting: who is asked is who the solver says, prompts come and go, and in the end all are satisfied."""

import itertools

import numpy as np
import pytest
import torch
from boosted import CHANNEL, COMPUTE_S, DEVICES, HELD_OUT, ROWS, boosting, session, tasks
from prompting import TOKENS, WIDTH, sharded, tiny_classifier

import lola
from lola.adapters.setting import Purpose
from lola.air import AirUplink, DigitalUplink
from lola.deft import (
    BoostingScheme,
    PromptEnsemble,
    draw_prompt,
)
from lola.deft.boosting import SCHEDULERS, selected_by
from lola.deft.ensemble import effectiveness


def wrong_answers(ensemble, data):
    """Each device's, on what it holds out, by asking the ensemble anew."""
    counts = []
    for rows in HELD_OUT:
        columns = {name: column[torch.from_numpy(rows)] for name, column in data.columns.items()}
        counts.append(int((ensemble.predict(columns) != columns["labels"].numpy()).sum()))
    return counts


def worth(devices, wrong):
    return sum(wrong[device] for device in devices)


def test_all_are_satisfied_in_the_end_by_rounds_in_which_the_most_wrong_answers_are_served():
    """Which devices are selected is compared with all subsets of the candidates, from scores taken anew."""
    data = tasks()
    scheme = boosting(data, head_steps=40, threshold=0.65)
    run, news = session(scheme, data, seed=4), 1
    scarce = 0
    for number, rounds in enumerate(itertools.repeat(run, 40)):
        wrong, count = wrong_answers(scheme.ensemble, data), len(scheme.ensemble)
        record = next(rounds.run(number + 1))
        candidates = [device for device in range(DEVICES) if 1 - wrong[device] / ROWS < 0.65]
        need_hz = 32 * TOKENS * WIDTH / (CHANNEL(number, 0.0) * (1.0 - np.array(COMPUTE_S)))
        subsets = [some for size in range(5) for some in itertools.combinations(candidates, size)]
        fitting = [some for some in subsets if need_hz[[*some]].sum() <= 700.0]
        best = max(worth(some, wrong) for some in fitting)
        assert record.devices_used in fitting
        assert worth(record.devices_used, wrong) == best
        assert record.numbers == {
            "prompts": min(count + record.applied, 6),
            "satisfied": DEVICES - len(candidates),
            "candidates": len(candidates),
            "wrong": worth(candidates, wrong),
            "needed_hz": pytest.approx(need_hz[[*record.devices_used]].sum(), rel=1e-12),
        }
        assert record.latency_s == 1.0
        sending_s = [1.0 - COMPUTE_S[device] for device in record.devices_used]
        assert record.uplink_s == pytest.approx(max(sending_s, default=0.0), rel=1e-12)
        assert record.uploaded_values == record.applied * TOKENS * WIDTH
        assert record.delivered_bits == DEVICES * news * 32 * TOKENS * WIDTH
        news, scarce = record.applied, scarce + (best < worth(candidates, wrong))
        if not candidates:
            break
    assert record.numbers["satisfied"] == DEVICES
    assert number >= 2
    assert scarce >= 1
    assert record.clock_s == number + 1
    assert np.isnan(record.loss)


def test_the_schedulers_select_what_their_names_say():
    wrong, need_hz = np.array([5, 9, 5, 6]), np.array([2.0, 6.0, 3.0, np.inf])
    selected = {name: selected_by(name, wrong, need_hz, 6.0).tolist() for name in SCHEDULERS}
    assert selected == {"exact": [0, 2], "ratio": [0, 2], "score": [1], "channel": [0, 2]}
    # By wrong answers a hertz, 7 of 3 come first and leave no room for twice 4 of 2.
    wrong, need_hz = np.array([7, 4, 4]), np.array([3.0, 2.0, 2.0])
    selected = {name: selected_by(name, wrong, need_hz, 4.0).tolist() for name in SCHEDULERS}
    assert selected == {"exact": [1, 2], "ratio": [0], "score": [0], "channel": [1, 2]}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_each_scheduler_runs_and_heeds_the_band(scheduler):
    data = tasks()
    for record in session(boosting(data, scheduler=scheduler), data, local_steps=1).run(2):
        assert 1 <= record.applied <= record.numbers["candidates"]
        assert record.numbers["needed_hz"] <= 700.0


def test_who_cannot_be_done_by_the_deadline_is_never_asked(caplog):
    data = tasks()
    scheme = boosting(data, bandwidth_hz=1e9, threshold=1.0)
    late = session(scheme, data, local_steps=1, compute_s=(0.1, 1.0, 0.1, 2.0), seed=1)
    assert [record.devices_used for record in late.run(2)] == [(0, 2)] * 2
    assert not caplog.messages
    nobody = session(boosting(data, bandwidth_hz=1e-3), data, local_steps=1)
    (record,) = nobody.run(1)
    assert (record.asked, record.latency_s, record.numbers["needed_hz"]) == (0, 1.0, 0.0)
    assert record.numbers["candidates"] > 0
    assert "can send a prompt by the deadline of 1 s; the least that one needs is" in caplog.text
    next(session(boosting(data), data, local_steps=1, compute_s=1.0).run(1))
    assert "by the deadline of 1 s; all of them compute until then, or are in outage" in caplog.text


def test_a_value_takes_the_bits_that_the_uplink_gives_it():
    """Of a prompt in an eighth of the bits as many fit into an eighth of the band, whatever band the uplink has."""
    asked = []
    for bandwidth_hz, uplink in ((1400.0, None), (175.0, DigitalUplink(bits=4, snr_db=90.0, bandwidth_hz=100.0))):
        data = tasks()
        run = session(boosting(data, bandwidth_hz=bandwidth_hz, threshold=1.0), data, local_steps=1, uplink=uplink)
        (record,) = run.run(1)
        assert record.numbers["needed_hz"] <= bandwidth_hz
        assert (record.latency_s, record.uplink_s) == (1.0, 1.0 - COMPUTE_S[record.devices_used[0]])
        asked.append((record.devices_used, record.numbers["needed_hz"] / bandwidth_hz))
    assert asked[0] == asked[1]
    assert 1 < record.applied < DEVICES


def test_who_drops_out_adds_no_prompt():
    data = tasks()
    scheme = boosting(data, limit=20, bandwidth_hz=1e9, threshold=1.0)
    lost, before = 0, 1
    for record in session(scheme, data, local_steps=1, failure=0.5, participation=0.8, seed=3).run(4):
        assert record.numbers["prompts"] == before + record.applied == len(scheme.ensemble)
        assert record.participants == record.numbers["candidates"] + record.numbers["satisfied"]
        before, lost = len(scheme.ensemble), lost + len(record.lost_devices)
    assert lost > 0
    assert before > 1


def test_a_prompts_first_words_are_drawn_for_nothing_else():
    """A step as good as none leaves the words: they are the session's seed's, and of no number drawn for a purpose."""
    drawn = {}
    for seed in (0, 1):
        data = tasks()
        scheme = boosting(data, limit=20, bandwidth_hz=1e9, threshold=1.0, learning_rate=1e-30)
        run = session(scheme, data, local_steps=1, seed=seed)
        (record,) = run.run(1)
        assert record.devices_used == (0, 1, 2, 3)
        drawn[seed] = scheme.ensemble.prompts[1:]
        for purpose in Purpose:
            elsewhere = int(run.setting.rng(0, purpose).integers(2**63))
            taken = draw_prompt(scheme.ensemble.model, tokens=TOKENS, seed=elsewhere)
            assert not any(torch.equal(prompt, taken) for prompt in drawn[seed])
    every = [tuple(prompt.flatten().tolist()) for prompts in drawn.values() for prompt in prompts]
    assert len({*every}) == 2 * DEVICES


def test_a_run_that_is_stopped_goes_on_to_the_same_bits(tmp_path):
    uplink = DigitalUplink(bits=6, snr_db=10.0, bandwidth_hz=1e6)
    ends = []
    for folder, stops in (("whole", (5,)), ("stopped", (2, 3, 5))):
        for rounds in stops:
            data = tasks()
            scheme = boosting(data, limit=5, first=2, bandwidth_hz=1e3, threshold=1.0)
            scheme.ensemble.model.train()
            torch.manual_seed(rounds)
            run = session(
                scheme, data, uplink=uplink, folder=tmp_path / folder, local_steps=1, failure=0.3, participation=0.8
            )
            list(run.run(rounds))
        ends.append(([record.to_json() for record in run.records], scheme.ensemble.prompts))
    (whole, first), (stopped, second) = ends
    assert str(whole) == str(stopped)  # where nobody answered the loss is no number
    assert len(first) == 5
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert {record["applied"] for record in whole} > {0, 1}
    for kept, said in (
        ({"prompts": 5, "news": 0}, "2…4 prompts was wanted, got one of 5"),
        ({"prompts": 0, "news": 0}, "count"),
    ):
        with pytest.raises(ValueError, match=said):
            boosting(data, limit=4, first=2).restore(kept)


def test_a_second_session_tests_on_its_own_data():
    """What devices answered on the first one's is not theirs any more."""
    data = tasks()
    other = sharded({name: column.flip(0) for name, column in data.columns.items()}, data.shards, batch_size=8)
    scheme = boosting(data, head_steps=40, bandwidth_hz=1e-3)
    for rows in (data, other):
        (record,) = session(scheme, rows).run(1)
        wrong = wrong_answers(scheme.ensemble, rows)
        assert record.numbers["wrong"] == sum(count for count in wrong if 1 - count / ROWS < 0.75)
        assert record.numbers["satisfied"] == sum(1 - count / ROWS >= 0.75 for count in wrong)


def test_the_least_useful_prompt_makes_room():
    """Of three prompts, by hand: without the second no answer is wrong, so that one goes first."""
    labels = torch.tensor([0, 1, 1])
    sure = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    misled = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.95, 0.05]])
    careful = torch.tensor([[0.6, 0.4], [0.4, 0.6], [0.4, 0.6]])
    test = effectiveness([sure, misled, careful], labels)
    assert (test.rows, test.wrong, test.wrong_without.tolist()) == (3, 2, [2, 0, 2])
    assert test.score == pytest.approx(1 / 3)
    alone = effectiveness([misled], labels)
    assert (alone.wrong, alone.wrong_without.tolist()) == (2, [3])

    classifier = tiny_classifier(train_head=False)
    prompts = [torch.full((TOKENS, WIDTH), float(value)) for value in range(7)]
    ensemble = PromptEnsemble(classifier, prompts[:3], limit=4)

    def there():
        return [int(prompt[0, 0]) for prompt in ensemble.prompts]

    assert ensemble.add([prompts[3]], [1, 0, 2]) == 1
    assert there() == [0, 1, 2, 3]
    assert ensemble.add(prompts[4:6], [1, 3, 0, 2]) == 2
    assert there() == [0, 2, 4, 5]
    assert ensemble.add([*prompts[1:4], *prompts[5:7]], [0, 1, 2, 3]) == 4
    assert there() == [1, 2, 3, 5]
    prompts[1] += 10.0
    assert there()[0] == 1


def test_an_ensemble_answers_by_the_mean_of_probabilities():
    data = tasks()
    ensemble = boosting(data, first=3).ensemble
    columns = {name: column[:20] for name, column in data.columns.items()}
    each = torch.stack([ensemble.classifier.probabilities(prompt, columns) for prompt in ensemble.prompts])
    assert np.array_equal(ensemble.predict(columns), each.mean(dim=0).argmax(dim=1).numpy())
    assert "3 prompts of shape (3, 16), 6 at most" in repr(ensemble)


def test_what_does_not_fit_is_refused():
    data = tasks()
    scheme = boosting(data)
    classifier, prompts = scheme.ensemble.classifier, list(scheme.ensemble.prompts)
    for name, wrong, said in (
        ("ensemble", prompts, "ensemble must be a lola.deft.PromptEnsemble, got list"),
        ("channel", 1.0, "channel must be called with a round and a clock, as a lola.RayleighFading is; got 1.0"),
    ):
        options = {"ensemble": scheme.ensemble, "held_out": HELD_OUT, "channel": CHANNEL, name: wrong}
        with pytest.raises(TypeError, match=said):
            BoostingScheme(**options, bandwidth_hz=1.0, deadline_s=1.0)
    for changes, said in (
        ({"scheduler": "best"}, "scheduler must be one of exact, ratio, score, channel; got 'best'"),
        ({"threshold": 1.5}, r"threshold must be a share of right answers, in \(0, 1\]; got 1.5"),
        ({"bandwidth_hz": 0.0}, "bandwidth_hz must be"),
        ({"deadline_s": -1.0}, "deadline_s must be"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
    ):
        with pytest.raises(ValueError, match=said):
            boosting(data, **changes)
    for held_out, said in (
        (HELD_OUT[:2], "held_out must have rows for each of the 4 devices with a shard, got 2"),
        ([*HELD_OUT[:3], [999]], "held_out of device 3 must hold rows in 0…191, at least one"),
        ([*HELD_OUT[:3], []], "held_out of device 3 must hold rows in 0…191, at least one"),
        (
            [[*HELD_OUT[0], 5], *HELD_OUT[1:]],
            "device 0 must not test on what it trains on, but 1 rows are .* as 5;",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            session(BoostingScheme(scheme.ensemble, held_out, CHANNEL, bandwidth_hz=1.0, deadline_s=1.0), data)
    with pytest.raises(TypeError, match="DigitalUplink or PerfectUplink was wanted, got AirUplink; take one of these"):
        session(scheme, data, uplink=AirUplink())
    few = BoostingScheme(scheme.ensemble, HELD_OUT, lola.RayleighFading(2), bandwidth_hz=1.0, deadline_s=1.0)
    with pytest.raises(ValueError, match=r"must give the spectral efficiency of 4 devices, got shape \(2,\)"):
        next(session(few, data).run(1))
    with pytest.raises(ValueError, match="share a head, which must be trained before; .* with train_head=False"):
        PromptEnsemble(tiny_classifier(), prompts, limit=3)
    for wrong in ([], prompts * 4):
        with pytest.raises(ValueError, match=r"an ensemble must begin with 1…3 prompts, its limit, got"):
            PromptEnsemble(classifier, wrong, limit=3)
    with pytest.raises(ValueError, match="an ensemble's prompts must have one shape, got"):
        PromptEnsemble(classifier, [prompts[0], prompts[0][1:]], limit=3)
