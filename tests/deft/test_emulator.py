"""An emulator: the model with some of its blocks, whose gradients step the whole; what skipping blocks would cost."""

import copy
from contextlib import suppress

import numpy as np
import pytest
import torch
import transformers
from cooperative import n_blocks_of, tiny_depths
from federated import federated_data, federated_session, sgd
from tiny_models import TINY, every_model

import lola
from lola.deft import EmulatorScheme, FederatedSession, FederatedSetting
from lola.deft.emulator import without_blocks
from lola.profiling import measure_distortion
from lola.profiling.memory import weight_bytes

MODELS = ("bert", "roberta", "vit", "gpt2")


def kept_in(name):
    """The blocks of a tiny model but the second, counted from the input."""
    return [number for number in range(1, n_blocks_of(name) + 1) if number != 2]


def rebuilt(depths, kept):
    """A copy of the model whose list of blocks was made anew of those kept."""
    model = copy.deepcopy(depths.model)
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ModuleList) and len(child) == len(depths):
                setattr(module, name, torch.nn.ModuleList(child[number - 1] for number in kept))
                return model
    raise AssertionError("the model has no list of blocks")


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_with_all_blocks_kept_it_is_the_plain_run_to_the_last_bit(name, tmp_path):
    setting = FederatedSetting(local_steps=2)
    plain = federated_session(tmp_path, name=name, setting=setting)
    whole = [*range(1, n_blocks_of(name) + 1)]
    emulated = federated_session(tmp_path, lambda depths: EmulatorScheme(depths, whole), name=name, setting=setting)
    records, others = list(plain.run(4)), list(emulated.run(4))
    assert [record.loss for record in records] == [record.loss for record in others]
    for ours, theirs in zip(emulated.tunables.all_parameters(), plain.tunables.all_parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_model_built_without_the_blocks_and_step_the_whole(name, tmp_path):
    kept = kept_in(name)
    session = federated_session(
        tmp_path, lambda depths: EmulatorScheme(depths, np.array(kept)), name=name, optimizer=sgd
    )
    model = session.tunables.model.eval()
    session.tunables.select_all()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    emulator = rebuilt(session.tunables, kept)
    batches = [next(session.data.batches(device, 0)) for device in range(3)]
    loss = sum(emulator(**batch).loss / 3 for batch in batches)
    loss.backward()
    gradients = [one.grad for one in emulator.parameters() if one.grad is not None]
    (record,) = session.run(1)
    assert record.loss == pytest.approx(loss.item(), rel=1e-6)
    after = model.state_dict()
    assert after.keys() == before.keys()
    moved = [key for key in after if not torch.equal(after[key], before[key])]
    assert set(moved) <= set(session.scheme.trained())
    assert len(session.scheme.trained()) == len(gradients) < len(session.tunables.all_parameters())
    steps = sorted((before[key] - after[key]).norm().item() for key in session.scheme.trained())
    assert steps == pytest.approx(sorted(0.1 * gradient.norm().item() for gradient in gradients), rel=1e-3, abs=1e-7)
    assert record.uploaded_values == 3 * sum(gradient.numel() for gradient in gradients)


def test_each_device_downloads_the_emulator_once(tmp_path):
    setting = FederatedSetting(participation=0.4, failure=0.3, seed=1)
    session = federated_session(tmp_path, lambda depths: EmulatorScheme(depths, [1]), name="roberta", setting=setting)
    scheme, had = session.scheme, set()
    assert scheme.emulator_bits == 8 * weight_bytes(rebuilt(session.tunables, [1]))
    trained = 32 * sum(one.numel() for one in scheme.trained().values())
    for record in session.run(6):
        asked = {*record.devices_used, *record.lost_devices}
        assert record.delivered_bits == len(asked) * trained + len(asked - had) * scheme.emulator_bits
        had |= asked
    assert scheme.kept() == {"downloaded": sorted(had)}


def test_a_round_that_was_interrupted_delivered_nothing_and_a_new_session_begins_without_emulators(tmp_path):
    session = federated_session(tmp_path, lambda depths: EmulatorScheme(depths, [1]), name="roberta")
    scheme = session.scheme

    def interrupted(work, device):
        raise KeyboardInterrupt

    scheme.answer = interrupted
    with pytest.raises(KeyboardInterrupt):
        next(session.run(1))
    del scheme.answer
    first, second = session.run(2)
    assert first.delivered_bits - second.delivered_bits == 3 * scheme.emulator_bits
    again = FederatedSession(scheme, sgd(scheme.tunables.all_parameters()), session.data)
    (record,) = again.run(1)
    assert record.delivered_bits == first.delivered_bits


def test_a_model_is_whole_again_whatever_happens_in_between(tmp_path):
    depths = tiny_depths(tmp_path)
    names, blocks = [*depths.model.state_dict()], [*depths.blocks]
    with suppress(RuntimeError), without_blocks(depths, [2]):
        assert [*depths.model.bert.encoder.layer] == [blocks[1]]
        raise RuntimeError
    assert [*depths.model.state_dict()] == names
    assert [*depths.model.bert.encoder.layer] == blocks[::-1]


def test_modules_joined_into_a_block_are_skipped_together(tmp_path):
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(**(TINY["bert"] | {"num_hidden_layers": 4}))
    )
    layers = [*model.bert.encoder.layer]
    pairs = [torch.nn.ModuleList(layers[:2]), torch.nn.ModuleList(layers[2:])]
    depths = lola.models.attach_lora(model, blocks=pairs)
    with without_blocks(depths, [2]):
        assert [*model.bert.encoder.layer] == layers[2:]
    assert [*model.bert.encoder.layer] == layers


@every_model
def test_distortion_is_how_far_hidden_states_are_apart(name, tmp_path):
    depths = tiny_depths(tmp_path, name, zero_init=False)
    depths.model.train()
    depths.blocks[0].eval()
    modes = [module.training for module in depths.model.modules()]
    data = federated_data(name)
    batches = [next(data.batches(device, 0)) for device in range(2)]
    distortion = measure_distortion(depths, batches)
    assert [module.training for module in depths.model.modules()] == modes
    n_blocks = len(depths)
    assert distortion.shape == (n_blocks + 1, n_blocks + 1)
    assert (distortion[np.tril_indices(n_blocks + 1)] == 0).all()
    assert (distortion[np.triu_indices(n_blocks + 1, 1)] > 0).all()
    depths.model.eval()
    states = []
    handles = [
        block.register_forward_pre_hook(
            lambda _, args, kwargs: states.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
        )
        for block in depths.blocks
    ]
    for batch in batches:
        depths.model(**batch)
    for handle in handles:
        handle.remove()
    for first in range(n_blocks):
        for last in range(first + 1, n_blocks):
            pairs = [(states[first + at].double(), states[last + at].double()) for at in (0, n_blocks)]
            apart = sum((one - other).square().sum() for one, other in pairs)
            wanted = apart / sum(other.square().sum() for _, other in pairs)
            assert distortion[first, last] == pytest.approx(float(wanted), rel=1e-9)


def test_padding_does_not_count(tmp_path):
    depths = tiny_depths(tmp_path, zero_init=False)
    batch = next(federated_data().batches(0, 0))
    padded = {
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 4), value=9),
        "attention_mask": torch.nn.functional.pad(batch["attention_mask"], (0, 4)),
    }
    wanted = measure_distortion(depths, [batch])
    assert measure_distortion(depths, [padded]) == pytest.approx(wanted, rel=1e-4)
    without_mask = measure_distortion(depths, [padded | {"attention_mask": torch.ones_like(padded["input_ids"])}])
    assert without_mask != pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize("kept", [[], [0, 1], [1, 4], [2, 1], [1, 1], [1.0, 2.0], [[1, 2]], 1, [True, True]])
def test_what_numbers_no_blocks_is_refused(kept, tmp_path):
    with pytest.raises(ValueError, match=r"kept must number blocks in 1…3, one at least, ascending, 1 nearest"):
        EmulatorScheme(tiny_depths(tmp_path), kept)


def test_a_model_that_cannot_do_without_a_block_is_refused(tmp_path):
    depths = tiny_depths(tmp_path)
    depths.model.config.layer_types = ["full_attention", "sliding_attention", "full_attention"]
    with pytest.raises(lola.models.ModelError, match=r"are of several kinds \(full_attention, sliding_attention\)"):
        EmulatorScheme(depths, [1, 3])
    depths.model.config.is_encoder_decoder = True
    with pytest.raises(lola.models.ModelError, match="has an encoder and a decoder"):
        EmulatorScheme(depths, [1, 3])
    assert EmulatorScheme(depths, [1, 2, 3]).kept_blocks == (1, 2, 3)
    alone = tiny_depths(tmp_path)
    alone.blocks[1] = torch.nn.Linear(2, 2)
    with pytest.raises(lola.models.ModelError, match="one of them stands in no list"):
        EmulatorScheme(alone, [1, 3])


def test_a_choice_of_layers_is_asked_for_what_it_keeps(tmp_path):
    layers = lola.solvers.emulator_layers(np.zeros((4, 4)), 2)
    with pytest.raises(TypeError, match=r"kept must number blocks, got EmulatorLayers; give its .kept"):
        EmulatorScheme(tiny_depths(tmp_path), layers)


def test_distortion_of_nothing_is_refused(tmp_path):
    depths = tiny_depths(tmp_path)
    batch = next(federated_data().batches(0, 0))
    with pytest.raises(TypeError, match="depths must be a Depths, got BertForSequenceClassification"):
        measure_distortion(depths.model, [batch])
    with pytest.raises(ValueError, match="batches must hold one at least, got none"):
        measure_distortion(depths, [])
    with pytest.raises(TypeError, match="a batch must be a mapping of names to tensors, got list"):
        measure_distortion(depths, [[1]])
    with pytest.raises(TypeError, match=r"batches must be a list of batches, .* got one batch; give \[batch\]"):
        measure_distortion(depths, batch)
    with pytest.raises(TypeError, match="a batch's columns must be tensors, got list for input_ids"):
        measure_distortion(depths, [{"input_ids": [[1, 2]]}])
    with torch.no_grad():
        depths.model.bert.embeddings.LayerNorm.weight.fill_(float("nan"))
    with pytest.raises(lola.models.ModelError, match="must give hidden states that are finite and not all zero"):
        measure_distortion(depths, [batch])
