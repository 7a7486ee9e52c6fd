"""What ranks are worth, measured on a model and data: by singular values, and by |w·∇w|."""

import copy

import numpy as np
import pytest
import torch
from cooperative import random_state, tiny_columns, tiny_depths, weights_of
from tiny_models import save_config

import lola
from lola.air import put_over_the_air
from lola.models import ModelError, attach_lora
from lola.profiling import Workload, measure_importance
from lola.profiling.building import build

HIDDEN = 16


def batches(name="bert", count=3):
    columns = tiny_columns(name, 4 * count, seed=1)
    return [{key: column[at : at + 4] for key, column in columns.items()} for at in range(0, 4 * count, 4)]


def tiny_model(folder, name="bert"):
    model, _ = build(Workload(save_config(folder / name, name), batch_size=2, seed=0), "cpu")
    return model


def layers_of(block):
    return [module for module in block.modules() if hasattr(module, "lora_A")]


def state_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("measure", ["singular", "sensitivity"])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(tmp_path, measure, training):
    model = tiny_model(tmp_path).train(training)
    model.bert.embeddings.requires_grad_(False)
    model.classifier.bias.grad = torch.ones(2)
    before, wanted, drawn = state_of(model), {n: p.requires_grad for n, p in model.named_parameters()}, random_state()
    importance = measure_importance(model, batches(), measure=measure, max_rank=2, steps=2)
    assert random_state() == drawn
    assert {n: p.requires_grad for n, p in model.named_parameters()} == wanted
    after = state_of(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(module.training == training for module in model.modules())
    assert torch.equal(model.classifier.bias.grad, torch.ones(2))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert [n for n, p in model.named_parameters() if p.grad is not None] == ["classifier.bias"]
    assert importance.gain.shape == (3, 2)
    assert (importance.gain > 0).all()
    assert (np.diff(importance.gain) <= 0).all()
    assert importance.measure == measure


def test_what_a_rank_takes_and_where_it_comes_from(tmp_path):
    importance = measure_importance(tiny_model(tmp_path), batches(), max_rank=4, steps=1)
    assert importance.cost.tolist() == [2 * 2 * HIDDEN] * 3  # A and B, of query and value
    assert importance.rank_bits.tolist() == [32 * 4 * HIDDEN] * 3
    assert importance.fixed_bits.tolist() == [32 * (2 * HIDDEN + 2), 0, 0]
    assert importance.name == tuple(f"bert.encoder.layer.{i}" for i in (2, 1, 0))  # depth 1 is the last block
    origin = importance.provenance
    assert (origin.batch_size, origin.sequence_length, origin.lora_rank, origin.source) == (4, 8, 4, "measured")
    assert origin.lora_targets == ("query", "value")
    assert origin.note == "after 1 steps of Adam at 0.001 on 3 batches"
    depths = attach_lora(tiny_model(tmp_path), rank=3)
    assert [importance.upload_bits(np.array([3, 3, 3]))[i] for i in range(3)] == [
        depths.upload_bits(depth) for depth in (1, 2, 3)
    ]
    frozen = measure_importance(tiny_model(tmp_path), batches(), steps=1, max_rank=1, train_head=False, targets=["key"])
    assert frozen.fixed_bits.tolist() == [0, 0, 0]
    assert frozen.cost.tolist() == [2 * HIDDEN] * 3


@pytest.mark.parametrize("name", ["bert", "gpt2"])  # gpt2's Conv1D keeps its weight transposed
def test_gains_left_out_are_the_error_of_the_nearest_update(tmp_path, name):
    """Eckart and Young: of all updates of ρ ranks in each target, the cut one is off by what the gains beyond ρ say."""
    depths = tiny_depths(tmp_path, name, zero_init=False)
    importance = measure_importance(depths, batches(name), steps=0)
    for block, gain in zip(depths.blocks, importance.gain, strict=True):
        updates = [layer.get_delta_weight("default").detach().double().numpy() for layer in layers_of(block)]
        for rank in range(depths.rank + 1):
            error = 0.0
            for update in updates:
                left, values, right = np.linalg.svd(update)
                cut = left[:, :rank] * values[:rank] @ right[:rank]
                error += np.sum((update - cut) ** 2)
            assert gain[rank:].sum() == pytest.approx(error, rel=1e-5, abs=1e-9)


def test_sensitivity_is_the_mean_of_weight_times_gradient(tmp_path):
    depths = tiny_depths(tmp_path, zero_init=False, dtype=torch.float64)
    depths.select(1)
    importance = measure_importance(depths, batches(), measure="sensitivity", steps=0)
    twin = copy.deepcopy(depths)
    twin.model.eval()
    twin.select_all()
    scores = {}
    for batch in batches():
        twin.model.zero_grad()
        twin.model(**batch).loss.backward()
        for depth, block in enumerate(twin.blocks):
            for number, layer in enumerate(layers_of(block)):
                down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                for i in range(twin.rank):
                    score = (down[i] * down.grad[i]).abs().sum() + (up[:, i] * up.grad[:, i]).abs().sum()
                    scores[depth, number, i] = scores.get((depth, number, i), 0.0) + score.item() / 3
    for depth, gain in enumerate(importance.gain):
        wanted = sum(np.array(sorted((scores[depth, n, i] for i in range(2)), reverse=True)) for n in range(2))
        np.testing.assert_allclose(gain, wanted, rtol=1e-10)


def test_adapters_of_a_run_are_measured_and_stay_as_they_are(tmp_path):
    depths = tiny_depths(tmp_path, zero_init=False)
    depths.select(2)
    before = weights_of(depths), {name: p.requires_grad for name, p in depths.model.named_parameters()}
    now, later = (measure_importance(depths, batches(), steps=steps).gain for steps in (0, 3))
    assert not np.allclose(now, later, rtol=1e-3)
    assert all(map(torch.equal, before[0], weights_of(depths)))
    assert {name: p.requires_grad for name, p in depths.model.named_parameters()} == before[1]


def test_all_follows_from_the_seed_and_progress_is_told(tmp_path):
    model, said = tiny_model(tmp_path).train(), []
    once, again, other = (
        measure_importance(
            model,
            batches(),
            measure="sensitivity",
            max_rank=2,
            steps=2,
            seed=seed,
            progress=lambda *at: said.append(at),
        )
        for seed in (0, 0, 1)
    )
    assert np.array_equal(once.gain, again.gain)
    assert not np.array_equal(once.gain, other.gain)
    assert said[:5] == [("training", 1, 2), ("training", 2, 2), *(("scoring", n, 3) for n in (1, 2, 3))]


def test_more_ranks_than_a_module_is_wide_are_worth_nothing(tmp_path):
    importance = measure_importance(tiny_model(tmp_path), batches(), max_rank=HIDDEN + 2, steps=1)
    assert (importance.gain[:, HIDDEN:] == 0).all()


def test_a_block_that_the_loss_leaves_out_is_worth_nothing(tmp_path):
    def loss(model, batch):
        return model(**batch, output_hidden_states=True).hidden_states[1].square().mean()

    for measure in ("singular", "sensitivity"):
        gain = measure_importance(tiny_model(tmp_path), batches(), measure=measure, max_rank=2, loss=loss).gain
        assert (gain[2] > 0).all()
        assert (gain[:2] == 0).all()


@pytest.mark.parametrize(
    "order", [("labels", "input_ids", "attention_mask"), ("labels", "inputs_embeds", "attention_mask")]
)
def test_the_length_of_texts_is_found_whatever_comes_first(tmp_path, order):
    model = tiny_model(tmp_path)
    columns = batches()[0]
    columns["inputs_embeds"] = model.get_input_embeddings()(columns["input_ids"]).detach()
    batch = {name: columns[name] for name in order}
    origin = measure_importance(model, [batch], max_rank=1, steps=1).provenance
    assert (origin.batch_size, origin.sequence_length) == (4, 8)


def test_a_model_over_the_air_is_refused(tmp_path):
    depths, model = tiny_depths(tmp_path), tiny_model(tmp_path)
    for measured, at in ((depths, 1), (model, "bert.encoder.layer.2.output.dense")):
        refused = pytest.raises(
            lola.LolaError, match=r"not over the air was .* with bert.*layer\.2.* there; call the rem"
        )
        with put_over_the_air(measured, at, np.eye(4)), refused:
            measure_importance(measured, batches(), steps=1)
        assert measure_importance(measured, batches(), steps=1).gain.any()


@pytest.mark.parametrize("steps", [None, 0.0, 1.5, "1", -1, True])
def test_steps_are_whole(tmp_path, steps):
    with pytest.raises(lola.LolaError, match=r"steps must be (an integer, got|at least 1, got -1)"):
        measure_importance(tiny_depths(tmp_path), batches(), steps=steps)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"measure": "norm"}, ValueError, "measure must be singular or sensitivity, got 'norm'; name one of them"),
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"max_rank": 0}, ValueError, "max_rank must be at least 1, got 0"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be finite and > 0, got -1"),
        ({"batches": batches()[0]}, TypeError, r"must be a list of batches, .* got one batch; give \[batch\]"),
        ({"batches": 3}, TypeError, "must be a list of batches, each a mapping of names to tensors, got int"),
        (
            {"batches": [{name: column.tolist() for name, column in batches()[0].items()}]},
            TypeError,
            "a batch's columns must be tensors, got list for input_ids",
        ),
        ({"batches": []}, ValueError, "batches is empty; give at least one batch, with labels"),
        ({"blocks": ["a"]}, TypeError, "blocks must be a path within the model, which is copied, got list"),
        ({"model": "bert"}, TypeError, r"model must be a torch module or a lola.models.Depths, got str"),
        ({"learning_rate": 1e30, "steps": 4}, ModelError, "a finite loss was wanted to learn from, got nan"),
        (
            {"model": torch.nn.Identity()},
            ModelError,
            "parameters was wanted, got Identity without any; load its weights",
        ),
        (
            {"batches": [(1, 2)]},
            TypeError,
            "a batch must be a mapping of names to tensors, got tuple; name its columns",
        ),
        ({"loss": lambda *_: 1.0}, TypeError, "a loss must be a tensor of one value, got float; take the mean, and no"),
        (
            {"loss": lambda *_: torch.ones(2)},
            TypeError,
            r"a tensor of one value, got shape \(2,\); take the mean, and no",
        ),
        ({"loss": lambda *_: torch.ones(())}, ValueError, "loss depends on nothing that is trained; is it the model's"),
        (
            {"loss": lambda model, batch: 0 * model(**batch).loss},
            ModelError,
            "nothing was learnt: every rank is worth 0",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, changes, kind, message):
    options = {"model": tiny_model(tmp_path), "batches": batches(), "steps": 1} | changes
    with pytest.raises(kind, match=message):
        measure_importance(options.pop("model"), options.pop("batches"), **options)


def test_labels_that_the_head_has_not_are_named(tmp_path):
    wrong = [{**batch, "labels": torch.full((4,), 5)} for batch in batches()]
    with pytest.raises(ModelError, match="has 2 classes, labels 0 to 1, and got labels from 5 to 5; .*num_labels=6"):
        measure_importance(tiny_model(tmp_path), wrong, steps=1)


def test_depths_keep_their_own_ranks_and_targets(tmp_path):
    depths = tiny_depths(tmp_path)
    with pytest.raises(ValueError, match="train_head are those of the depths, got max_rank beside them; leave it out"):
        measure_importance(depths, batches(), max_rank=4)
    with pytest.raises(ValueError, match="got targets and train_head beside them; leave them out"):
        measure_importance(depths, batches(), targets=["query"], train_head=False)
    unequal = attach_lora(tiny_model(tmp_path), rank=(3, 1, 2))
    with pytest.raises(lola.LolaError, match="LoRA of one rank in every block was wanted.*ranks 3, 1, 2"):
        measure_importance(unequal, batches())
