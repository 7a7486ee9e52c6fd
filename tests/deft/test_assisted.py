"""Prompt encoders with a server's help: one gradient that is autograd's, training that is centralised, both uplinks."""

import copy

import numpy as np
import pytest
import torch
from cooperative import tiny_depths
from federated import DEVICES, adam, assisted_session, classifier, federated_data

import lola
from lola.adapters import ShardedData
from lola.air import AirUplink, DigitalUplink
from lola.deft import AssistedScheme, FederatedSetting, prompt_encoder, with_prompt

SAME = (4,) * DEVICES
WIDTH = 16


class Recorder(torch.optim.SGD):
    """Keeps the gradients of its last step."""

    def step(self):
        self.seen = [parameter.grad.clone() for group in self.param_groups for parameter in group["params"]]
        super().step()


def recorder(parameters):
    return Recorder(parameters, lr=0.01)


def places(encoder):
    return encoder(torch.arange(encoder.total_virtual_tokens)[None])[0]


def union(data, version=0, of=range(DEVICES), steps=1):
    drawn = [batch for shard in of for _, batch in zip(range(steps), data.batches(shard, version), strict=False)]
    return {name: torch.cat([batch[name] for batch in drawn]) for name in drawn[0]}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("name", "kind"), [("bert", "LSTM"), ("roberta", "MLP")])
def test_the_gradient_through_all_encoders_is_autograds_of_the_whole(name, kind, dtype, tolerance, tmp_path):
    """Devices whose batches differ in rows, and so in what their prompts weigh; beside the largest value."""
    data = federated_data()
    data.collate = lambda batch: {key: column[: 1 + int(batch["input_ids"][0, 0]) % 4] for key, column in batch.items()}
    session = assisted_session(
        tmp_path,
        name=name,
        kind=kind,
        dtype=dtype,
        optimizer=recorder,
        data=data,
        setting=FederatedSetting(local_steps=2),
    )
    scheme = session.scheme
    scheme.classifier.model.eval()
    rows = [len(union(data, of=[device], steps=2)["labels"]) for device in range(DEVICES)]
    assert len({*rows}) > 1
    whole = copy.deepcopy(scheme.tunables.model)
    prompts = [places(encoder) * (own / sum(rows)) for encoder, own in zip(whole["encoders"], rows, strict=True)]
    loss = with_prompt(whole["model"], sum(prompts), union(data, steps=2)).loss
    wanted = dict(whole.named_parameters())
    names = [key.replace("classifier.", "model.classifier.", 1) for key in scheme.tunables.all_named_parameters()]
    gradients = torch.autograd.grad(loss, [wanted[key] for key in names])
    (record,) = session.run(1)
    for part in ("encoders.0", "encoders.1", "encoders.2", "model.classifier"):
        of_part = [number for number, key in enumerate(names) if key.startswith(part)]
        ours, theirs = (
            torch.cat([values[number].flatten() for number in of_part])
            for values in (session.optimizer.seen, gradients)
        )
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))
        assert theirs.any()
    assert record.loss == pytest.approx(loss.item(), rel=tolerance)
    assert record.uploaded_values == DEVICES * 2 * WIDTH
    assert record.delivered_bits == DEVICES * 2 * WIDTH * (32 if dtype == torch.float32 else 64)


def rates(rate, momentum=0.5):
    """An optimizer of plain steps, the head's as usual and the encoders' longer."""

    def make(parameters):
        own, head = parameters[:-2], parameters[-2:]
        groups = [{"params": own, "lr": rate}, {"params": head, "lr": 0.2}]
        return torch.optim.SGD(groups, lr=0.2, momentum=momentum)

    return make


@pytest.mark.parametrize(
    ("weighted", "federated", "alone", "tolerance"),
    [
        (True, rates(0.2 * DEVICES), rates(0.2), 1e-10),
        (False, rates(0.2), rates(0.2), 1e-10),
        (True, adam, adam, 1e-2),
    ],
    ids=["rate times devices", "as returned", "Adam"],
)
def test_equal_encoders_are_centralised_training_for_fifty_steps(weighted, federated, alone, tolerance, tmp_path):
    """Adam divides by a gradient's size, but for its eps: a third of the gradient makes almost the same step."""
    session = assisted_session(tmp_path, kind="MLP", seeds=SAME, optimizer=federated, weighted=weighted)
    session.scheme.classifier.model.eval()
    single = copy.deepcopy(session.scheme.encoders[0])
    model = copy.deepcopy(session.scheme.classifier.model)
    head = [*model.classifier.parameters()]
    optimizer = alone([*single.parameters(), *head])
    start = [parameter.detach().clone() for parameter in single.parameters()]
    losses = []
    for version in range(50):
        loss = with_prompt(model, places(single), union(session.data, version)).loss
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    records = list(session.run(50))
    assert [record.loss for record in records] == pytest.approx(losses, rel=tolerance)
    for encoder in session.scheme.encoders:
        for ours, theirs in zip(encoder.parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(session.scheme.classifier.head, head, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    moved = [(now - then).abs().max().item() for now, then in zip(single.parameters(), start, strict=True)]
    assert max(moved) > 0.05
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


@pytest.mark.parametrize(
    "uplink",
    [DigitalUplink(bits=8, snr_db=20.0, bandwidth_hz=1e6), AirUplink(snr_db=20.0, bandwidth_hz=1e6)],
    ids=["digital", "over the air"],
)
def test_prompts_arrive_over_either_uplink_and_are_learnt_from(uplink, tmp_path):
    session = assisted_session(tmp_path, kind="MLP", optimizer=adam, uplink=uplink)
    perfect = assisted_session(tmp_path, kind="MLP", optimizer=adam)
    records, wanted = list(session.run(15)), list(perfect.run(3))
    n_values = 2 * WIDTH
    digital_s = DEVICES * n_values * 8 / (1e6 * np.log2(101))
    expected_s = digital_s if isinstance(uplink, DigitalUplink) else n_values / 1e6
    assert [record.uplink_s for record in records] == pytest.approx([expected_s] * 15, rel=1e-9)
    assert all(0 < record.uplink_mse < 1 for record in records)
    assert [record.loss for record in records[:3]] != [record.loss for record in wanted]
    assert np.mean([record.loss for record in records[-5:]]) < np.mean([record.loss for record in records[:5]])
    assert {record.applied for record in records} == {DEVICES}
    assert all(record.refused == "" for record in records)


def test_a_device_that_drops_out_neither_sends_nor_learns_and_its_data_are_left_out(tmp_path):
    session = assisted_session(tmp_path, setting=FederatedSetting(failure=0.5, seed=2))
    session.scheme.classifier.model.eval()
    before = [copy.deepcopy(encoder) for encoder in session.scheme.encoders]
    (record,) = session.run(1)
    assert record.lost_devices
    assert record.devices_used
    assert record.delivered_bits == len(record.devices_used) * 2 * WIDTH * 64
    for device, (encoder, then) in enumerate(zip(session.scheme.encoders, before, strict=True)):
        same = all(torch.equal(a, b) for a, b in zip(encoder.parameters(), then.parameters(), strict=True))
        assert same == (device in record.lost_devices)
    fresh = assisted_session(tmp_path)
    mean = sum(places(before[device]) for device in record.devices_used) / len(record.devices_used)
    fresh.scheme.classifier.model.eval()
    loss = with_prompt(fresh.scheme.classifier.model, mean, union(session.data, of=record.devices_used)).loss
    assert record.loss == pytest.approx(loss.item(), rel=1e-12)


def test_what_is_not_finite_is_refused_on_a_device_and_at_the_server(tmp_path):
    session = assisted_session(tmp_path)
    with torch.no_grad():
        session.scheme.encoders[1].embedding.weight.fill_(float("nan"))
    (record,) = session.run(1)
    assert (record.refused, record.devices_used) == ("device 1: prompt is not finite", (0, 2))
    session = assisted_session(tmp_path)
    before = [parameter.detach().clone() for parameter in session.tunables.all_parameters()]
    with torch.no_grad():
        session.scheme.classifier.model.bert.embeddings.LayerNorm.bias.fill_(float("nan"))
    (record,) = session.run(1)
    assert (record.refused, record.applied) == ("the server: the loss is not finite", 0)
    now = session.tunables.all_parameters()
    assert all(torch.equal(a, b) for a, b in zip(now, before, strict=True))


def test_a_head_may_stay_frozen_and_the_mean_prompt_is_what_is_evaluated(tmp_path):
    frozen = classifier(tmp_path, train_head=False)
    encoders = [prompt_encoder(frozen.model, tokens=2, kind="MLP", seed=seed) for seed in range(3)]
    scheme = AssistedScheme(frozen, encoders)
    assert all(name.startswith("encoders.") for name in scheme.tunables.all_named_parameters())
    mean = sum(places(encoder) for encoder in encoders) / 3
    torch.testing.assert_close(scheme.prompt(), mean.detach(), rtol=1e-12, atol=1e-12)
    head = [parameter.detach().clone() for parameter in frozen.model.classifier.parameters()]
    session = lola.deft.FederatedSession(
        scheme,
        adam(scheme.tunables.all_parameters()),
        federated_data(),
        evaluate=lambda: {"size": scheme.prompt().norm()},
    )
    (record,) = session.run(1)
    assert record.scores["size"] != pytest.approx(mean.norm().item(), rel=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(head, frozen.model.classifier.parameters(), strict=True))


def test_the_mean_of_embedded_data_is_mixup_and_no_mean_gradient(tmp_path):
    """Adapters in front of a model: averaging what they give for different data loses the data; a prompt has none."""
    model = tiny_depths(tmp_path, dtype=torch.float64, zero_init=False).model.eval()
    batch = next(federated_data(batch_size=8).batches(0, 0))
    words = model.get_input_embeddings()(batch["input_ids"]).detach()
    adapter = torch.eye(WIDTH, dtype=torch.float64, requires_grad=True)
    targets = torch.nn.functional.one_hot(batch["labels"], 2).double()

    def gradient(embedded, labels):
        logits = model(inputs_embeds=embedded @ adapter).logits
        return torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), adapter)[0]

    halves = [(words[:4], targets[:4]), (words[4:], targets[4:])]
    mean = sum(gradient(*half) for half in halves) / 2
    torch.testing.assert_close(gradient(words, targets), mean, rtol=1e-9, atol=1e-12)
    mixed = gradient(*(sum(parts) / 2 for parts in zip(*halves, strict=True)))
    assert ((mixed - mean).norm() / mean.norm()).item() > 0.1


def encoders_of(folder, **changes):
    served = classifier(folder)
    return served, [prompt_encoder(served.model, **({"tokens": 2, "seed": seed} | changes)) for seed in range(DEVICES)]


def test_what_is_wrong_with_encoders_is_said(tmp_path):
    served, encoders = encoders_of(tmp_path)
    with pytest.raises(TypeError, match=r"classifier must be a lola\.deft\.PromptedClassifier, got BertFor"):
        AssistedScheme(served.model, encoders)
    with pytest.raises(TypeError, match="encoders must be of peft's PromptEncoder, got Linear"):
        AssistedScheme(served, [*encoders, torch.nn.Linear(1, 1)])
    with pytest.raises(ValueError, match="encoders must hold one for each device, got none"):
        AssistedScheme(served, [])
    with pytest.raises(ValueError, match="every encoder must have weights of its own"):
        AssistedScheme(served, [encoders[0], encoders[0]])
    longer = prompt_encoder(served.model, tokens=3, seed=0)
    with pytest.raises(ValueError, match="prompts must be of one length, and of width 16"):
        AssistedScheme(served, [encoders[0], longer])
    with pytest.raises(ValueError, match=r"dtype torch\.float64 as the model's words are; got .*float32"):
        AssistedScheme(served, [encoder.float() for encoder in encoders])
    scheme = AssistedScheme(served, encoders_of(tmp_path)[1])
    fewer = ShardedData(federated_data().columns, [[0], [1]], batch_size=1, seed=0)
    with pytest.raises(ValueError, match="data must have a shard for each of 3 encoders, got 2"):
        lola.deft.FederatedSession(scheme, adam(scheme.tunables.all_parameters()), fewer)
    columns = {name: column for name, column in federated_data().columns.items() if name != "labels"}
    unlabelled = ShardedData(columns, [[0], [1], [2]], batch_size=1, seed=0)
    session = lola.deft.FederatedSession(scheme, adam(scheme.tunables.all_parameters()), unlabelled)
    with pytest.raises(ValueError, match="a batch to train on must have labels, got attention_mask, input_ids; add th"):
        list(session.run(1))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kind": "GRU"}, ValueError, "kind must be one of LSTM, MLP; got 'GRU'"),
        ({"tokens": 0}, ValueError, "tokens must be at least 1"),
        ({"hidden": 1.5}, TypeError, "hidden must be an integer"),
        ({"seed": "x"}, TypeError, "seed must be an integer"),
    ],
)
def test_what_is_wrong_with_a_prompt_encoders_numbers_is_said(changes, error, message, tmp_path):
    with pytest.raises(error, match=message):
        encoders_of(tmp_path, **changes)


def test_a_model_without_words_has_no_prompts():
    with pytest.raises(lola.models.ModelError, match="a model with word embeddings was wanted, got Linear"):
        prompt_encoder(torch.nn.Linear(1, 1), tokens=2, seed=0)
