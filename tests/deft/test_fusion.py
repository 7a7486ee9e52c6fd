"""Prompt transfer and fusion: the gradient is that of the whole sum, and who is silent is left out of it."""

import numpy as np
import pytest
import torch
from prompting import LENGTH, TOKENS, WIDTH, sharded, texts, tiny_classifier

from lola.air import AirUplink, DigitalUplink
from lola.deft import (
    FederatedSession,
    FederatedSetting,
    FusionScheme,
    PromptAttention,
    PromptedClassifier,
    draw_prompt,
    with_prompt,
)

SOURCES, ROWS = 4, 12


def fusion(*, dtype=torch.float32, sources=SOURCES, temperature=2.0, seed=0, train_head=True, **changes):
    """A scheme whose attention is sharp enough to matter, and its target's data."""
    classifier = tiny_classifier(seed=seed, dtype=dtype, train_head=train_head, **changes)
    prompts = [draw_prompt(classifier.model, tokens=TOKENS, seed=10 + k) for k in range(sources)]
    own = draw_prompt(classifier.model, tokens=TOKENS, seed=99)
    attention = PromptAttention(WIDTH, bottleneck=5, temperature=temperature, seed=3, dtype=dtype)
    columns = {**texts(ROWS), "labels": torch.arange(ROWS) % 2}
    return FusionScheme(classifier, prompts, own, attention=attention), sharded(columns, [range(ROWS)])


def session(scheme, data, *, rate=0.05, uplink=None, folder=None, **setting):
    optimizer = torch.optim.Adam(scheme.tunables.all_parameters(), lr=rate)
    return FederatedSession(scheme, optimizer, data, setting=FederatedSetting(**setting), uplink=uplink, folder=folder)


class CaughtError(Exception):
    """Ends a round once its gradients are known."""


def caught_gradients(scheme, data, **setting):
    """The gradients that a scheme steps with in its first round, by name, and the loss."""
    seen = {}

    def note(work, answers, weights):
        seen["work"], seen["sources"] = work, [*answers]
        seen["gradients"], seen["loss"] = type(scheme).gradients(scheme, work, answers, weights)
        raise CaughtError

    scheme.gradients = note
    with pytest.raises(CaughtError):
        next(session(scheme, data, **setting).run(1))
    del scheme.gradients
    return seen


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("failure", [0.0, 0.5])
def test_the_gradient_is_that_of_the_whole_sum(dtype, close, failure):
    """Sources compute their products by themselves; autograd, which sees all of it at once, is the oracle."""
    scheme, data = fusion(dtype=dtype)
    seen = caught_gradients(scheme, data, local_steps=2, failure=failure, seed=1)
    heard = seen["sources"]
    assert (len(heard) < SOURCES) == (failure > 0)
    weights = scheme.weights(heard)
    whole = scheme.own * (1 + weights[-1]) + sum(
        weight * scheme.sources[source] for weight, source in zip(weights, heard, strict=False)
    )
    batches = seen["work"].batches(0)
    loss = sum(with_prompt(scheme.model, whole, batch).loss for batch in batches) / len(batches)
    named = scheme.tunables.all_named_parameters()
    wanted = dict(zip(named, torch.autograd.grad(loss, [*named.values()]), strict=True))
    assert seen["gradients"].keys() == wanted.keys()
    assert {name.split(".")[0] for name in wanted} == {"own", "attention", "classifier"}
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(seen["gradients"][name], gradient, rtol=close, atol=close)
    assert seen["loss"] == pytest.approx(float(loss.detach()), rel=1e-6)


def test_the_weights_follow_from_the_task_and_the_prompts_as_by_hand():
    scheme, data = fusion(dtype=torch.float64)
    session(scheme, data)
    words = scheme.model.get_input_embeddings().weight.detach()
    pooled = []
    for ids, mask in zip(data.columns["input_ids"], data.columns["attention_mask"], strict=True):
        pooled.append(torch.stack([words[i] for i, seen in zip(ids, mask, strict=True) if seen]).max(dim=0).values)
    task = sum(pooled) / len(pooled)
    down, _, up, norm = scheme.attention.network
    hidden = down.weight @ task
    query = up.weight @ (hidden / (1 + torch.exp(-hidden)))
    query = (query - query.mean()) / (query.var(unbiased=False) + norm.eps).sqrt() * norm.weight + norm.bias
    scores = torch.stack([prompt.max(dim=0).values @ query for prompt in (*scheme.sources, scheme.own)]) / 2.0
    wanted = scores.exp() / scores.exp().sum()
    torch.testing.assert_close(scheme.weights(range(SOURCES)), wanted)
    fused = scheme.own * (1 + wanted[-1]) + sum(w * p for w, p in zip(wanted, scheme.sources, strict=False))
    torch.testing.assert_close(scheme.prompt(), fused.detach())


def test_one_source_with_all_the_attention_is_answered_as_by_its_prompt():
    """The target's own prompt is nothing, and scores far less: what arrives is the source's, and so is the answer."""
    scheme, data = fusion(sources=1, train_head=False)
    session(scheme, data)
    source = scheme.sources[0]
    source += 5.0
    with torch.no_grad():
        scheme.own.zero_()
        scheme.attention.network[-1].weight.zero_()
        scheme.attention.network[-1].bias.fill_(1e3)
    assert scheme.weights([0]).tolist() == [1.0, 0.0]
    assert torch.equal(scheme.prompt(), source)
    seen = caught_gradients(scheme, data)
    (batch,) = seen["work"].batches(0)
    assert seen["loss"] == float(with_prompt(scheme.model, source, batch).loss)
    assert np.array_equal(scheme.classifier.predict(scheme.prompt(), batch), scheme.classifier.predict(source, batch))


def test_who_is_silent_leaves_its_weight_to_the_others():
    scheme, data = fusion()
    records = list(session(scheme, data, failure=0.5, seed=1).run(6))
    counted = 0
    for record in records:
        weights = [record.numbers[f"weight.{source}"] for source in range(SOURCES)]
        silent = [source for source, weight in enumerate(weights) if weight == 0]
        assert silent == [source for source in range(SOURCES) if source not in record.devices_used]
        assert sum(weights) + record.numbers["weight.target"] == pytest.approx(1.0, rel=1e-5)
        assert record.uploaded_values == len(record.devices_used) * TOKENS * WIDTH
        counted += len(silent)
    assert 0 < counted < SOURCES * len(records)


def test_the_attention_runs_once_for_all_sources_and_once_for_those_that_answer():
    scheme, data = fusion()
    runs = []
    scheme.attention.network.register_forward_hook(lambda *_: runs.append(1))
    for record in session(scheme, data, failure=0.3).run(3):
        assert len(runs) == 2 * record.version


def test_an_iteration_in_which_nobody_answers_is_lost():
    scheme, data = fusion(sources=1)
    before = [parameter.detach().clone() for parameter in scheme.tunables.all_parameters()]
    lost = 0
    for record in session(scheme, data, failure=0.6, seed=0).run(4):
        now = [parameter.detach().clone() for parameter in scheme.tunables.all_parameters()]
        silent = not record.devices_used
        assert silent == all(torch.equal(old, new) for old, new in zip(before, now, strict=True))
        assert np.isnan(record.loss) == silent
        assert (record.numbers["weight.target"] == 1.0) == silent
        before, lost = now, lost + silent
    assert 0 < lost < 4


def test_a_run_that_is_stopped_goes_on_to_the_same_bits(tmp_path):
    uplink = DigitalUplink(bits=6, snr_db=10.0, bandwidth_hz=1e6)
    ends = []
    for folder, stops in (("whole", (5,)), ("stopped", (2, 3, 5))):
        for rounds in stops:
            torch.manual_seed(rounds)
            scheme, data = fusion(hidden_dropout_prob=0.3)
            scheme.model.train()
            run = session(scheme, data, uplink=uplink, folder=tmp_path / folder, failure=0.3, participation=0.8, seed=4)
            records = list(run.run(rounds)) and run.records
        ends.append(
            (
                [record.to_json() for record in records],
                [parameter.detach().clone() for parameter in scheme.tunables.all_parameters()],
            )
        )
    (whole, first), (stopped, second) = ends
    assert whole == stopped
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_target_learns_and_the_clock_is_the_uplinks():
    scheme, data = fusion()
    uplink = DigitalUplink(bits=8, snr_db=20.0, bandwidth_hz=20e6)
    frozen = [parameter.detach().clone() for parameter in scheme.model.bert.parameters()]
    records = list(session(scheme, data, uplink=uplink, local_steps=3).run(40))
    assert records[-1].loss < 0.5 * records[0].loss
    assert all(torch.equal(old, new) for old, new in zip(frozen, scheme.model.bert.parameters(), strict=True))
    assert scheme.own.grad is None
    upload_s = SOURCES * TOKENS * WIDTH * 8 / (20e6 * np.log2(1 + 100))
    assert records[-1].clock_s == pytest.approx(40 * upload_s, rel=1e-9)
    assert records[0].delivered_bits == 32 * SOURCES * (1 + TOKENS * WIDTH)


def test_over_the_air_the_sum_takes_one_prompts_time_and_is_as_exact_as_the_channel():
    errors = []
    for snr_db in (20.0, 60.0, 100.0):
        uplink = AirUplink(snr_db=snr_db, bandwidth_hz=20e6)
        (scheme, data), (clean, same) = fusion(), fusion()
        (record,) = session(scheme, data, uplink=uplink).run(1)
        (without,) = session(clean, same).run(1)
        assert record.uplink_s == TOKENS * WIDTH / 20e6
        assert record.uplink_mse > 0
        errors.append(abs(record.loss - without.loss))
        assert record.numbers == without.numbers
    assert errors[2] < 1e-4 < 1e-2 > errors[1]
    assert errors[0] > errors[2]


def test_tensorboard_gets_the_schemes_numbers_and_a_score_may_not_hide_one(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    scheme, data = fusion()
    run = session(scheme, data, uplink=AirUplink(), folder=tmp_path)
    records = list(run.run(3))
    log = EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    noted = {name: [event.value for event in log.Scalars(name)] for name in (*records[0].numbers, "uplink_mse")}
    wanted = {name: [record.numbers[name] for record in records] for name in records[0].numbers}
    wanted["uplink_mse"] = [record.uplink_mse for record in records]
    for name, values in wanted.items():
        np.testing.assert_allclose(noted[name], values, rtol=1e-6)
    run.evaluate = lambda: {"weight.target": 1.0}
    with pytest.raises(ValueError, match="got weight.target a second time"):
        next(run.run(4))


def test_what_does_not_fit_is_refused():
    scheme, data = fusion()
    classifier, prompts, own = scheme.classifier, scheme.sources, scheme.own.detach()
    with pytest.raises(ValueError, match="the weights follow from the target's texts: give the scheme to a session"):
        scheme.weights([0])
    with pytest.raises(TypeError, match="classifier must be a lola.deft.PromptedClassifier, got BertFor"):
        FusionScheme(classifier.model, prompts, own)
    for wrong in ([], [[1.0]]):
        with pytest.raises(TypeError, match="sources must be tensors, one at least, and own another"):
            FusionScheme(classifier, wrong, own)
    for wrong in (own[1:], own.double(), own[0]):
        with pytest.raises(ValueError, match=r"must have one dtype and one shape, \(tokens, width\), got .*as many"):
            FusionScheme(classifier, prompts, wrong)
    with pytest.raises(ValueError, match="the attention must be as wide as the prompts, 16, got 8"):
        FusionScheme(classifier, prompts, own, attention=PromptAttention(8))
    with pytest.raises(ValueError, match=r"a prompt must be of shape \(tokens, 16\), as wide .*, got \(3, 7\); draw"):
        FusionScheme(classifier, [torch.zeros(3, 7)], torch.zeros(3, 7))
    with pytest.raises(ValueError, match="a prompt must be finite, got a value that is not; draw or train it anew"):
        FusionScheme(classifier, prompts, own * float("nan"))
    with pytest.raises(ValueError, match="one shard was wanted, got 2; sources need none"):
        session(scheme, sharded(data.columns, [range(4), range(4, 8)]))
    with pytest.raises(ValueError, match="texts with an attention_mask were wanted, got input_ids, labels"):
        session(scheme, sharded({name: data.columns[name] for name in ("input_ids", "labels")}, [range(4)]))
    unlabelled = {name: data.columns[name] for name in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="a batch to train on must have labels, got attention_mask, input_ids; add th"):
        next(session(scheme, sharded(unlabelled, [range(4)])).run(1))
    empty = {**data.columns, "attention_mask": torch.zeros(ROWS, LENGTH, dtype=torch.int64)}
    with pytest.raises(ValueError, match="texts with a token each were wanted, got 4 rows, some masked"):
        session(scheme, sharded(empty, [range(4)]))
    for name, wrong in (("width", 0), ("bottleneck", 0), ("temperature", 0.0)):
        with pytest.raises(ValueError, match=f"{name} must be"):
            PromptAttention(**{"width": 4, name: wrong})
    assert "4 sources, prompts of shape (3, 16)" in repr(scheme)
    assert isinstance(scheme.classifier, PromptedClassifier)


def test_a_source_that_the_softmax_forgets_still_answers():
    scheme, data = fusion()
    sources = [100 * prompt for prompt in scheme.sources]
    sharp = PromptAttention(scheme.own.shape[1], temperature=1e-6)
    one = FusionScheme(scheme.classifier, sources, scheme.own.detach(), attention=sharp)
    (record,) = session(one, data).run(1)
    assert 0.0 in record.numbers.values()  # to rounding
    assert record.refused == ""
    assert record.devices_used == tuple(range(len(sources)))
