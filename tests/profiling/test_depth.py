"""Depths: found from the output, trained alone, and their gradients the same as in full backpropagation."""

import re

import pytest
import torch
from tiny_models import TINY, every_model, save_config

from lola.profiling import ProfilingError, Workload, attach_lora, find_blocks
from lola.profiling.building import build, make_batch
from lola.profiling.iteration import backward


def tiny(tmp_path, name, *, zero_init=True, train_head=True, targets=None, **changes):
    workload = Workload(save_config(tmp_path / name, name, **changes), batch_size=2, sequence_length=None)
    if name != "vit":
        workload = Workload(workload.model, batch_size=2, sequence_length=6)
    model, weights = build(workload, "cpu")
    assert weights == "random"
    batch = make_batch(workload, model.config)
    depths = attach_lora(model, rank=2, targets=targets, train_head=train_head, zero_init=zero_init)
    return depths, batch


@every_model
def test_a_gradient_at_a_depth_equals_the_one_of_full_backpropagation(tmp_path, name):
    depths, batch = tiny(tmp_path, name, zero_init=False)
    depths.model.eval()
    depths.select_all()
    backward(depths, None, batch)
    full = {id(p): p.grad.clone() for depth in range(1, len(depths) + 1) for p in depths.parameters(depth)}
    assert len(depths) == TINY[name].get("num_hidden_layers", TINY[name].get("n_layer"))
    for depth in range(1, len(depths) + 1):
        depths.select(depth)
        backward(depths, depth, batch)
        chosen = depths.parameters(depth)
        for parameter in chosen:
            assert parameter.grad.abs().max() > 0  # neither A nor B starts at zero
            torch.testing.assert_close(parameter.grad, full[id(parameter)], rtol=1e-5, atol=1e-7)
        own = {id(p) for p in chosen}
        assert all(p.grad is None for p in depths.model.parameters() if id(p) not in own)


@every_model
def test_gradients_of_neighbouring_depths_equal_those_of_full_backpropagation(tmp_path, name):
    """One backward pass gives those of a whole range, and stops at the deepest: the guard sees no gradient below."""
    depths, batch = tiny(tmp_path, name, zero_init=False)
    depths.model.eval().double()
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    depths.select_all()
    backward(depths, None, batch)
    full = {id(p): p.grad.clone() for p in depths.all_parameters()}
    for first in range(1, len(depths) + 1):
        for last in range(first, len(depths) + 1):
            depths.select(range(first, last + 1))
            backward(depths, range(first, last + 1), batch)
            chosen = {id(p) for depth in range(first, last + 1) for p in depths.parameters(depth)}
            for parameter in depths.model.parameters():
                assert (parameter.grad is not None) == (id(parameter) in chosen)
                if id(parameter) in chosen:
                    torch.testing.assert_close(parameter.grad, full[id(parameter)], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("wrong", [range(2, 2), range(0, 2), range(2, 5), range(1, 4, 2), range(3, 1, -1)])
def test_what_is_no_range_of_depths_is_refused(tmp_path, wrong):
    depths, _ = tiny(tmp_path, "bert")
    for refuse in (depths.select, lambda wrong: depths.guard(wrong).__enter__()):
        with pytest.raises(ValueError, match=r"depths must be neighbours between 1 and 3.*range\(1, 4\) for all; got"):
            refuse(wrong)


@every_model
def test_depth_one_is_the_block_nearest_the_output(tmp_path, name):
    depths, batch = tiny(tmp_path, name)
    order = []
    handles = [
        block.register_forward_pre_hook(lambda *_, depth=depth: order.append(depth))
        for depth, block in enumerate(depths.blocks, start=1)
    ]
    depths.model(**batch)
    for handle in handles:
        handle.remove()
    assert order == list(range(len(depths), 0, -1))


def test_uploads_are_counted_and_the_head_goes_with_depth_one(tmp_path):
    depths, _ = tiny(tmp_path, "roberta")
    adapters = 2 * 2 * 16 * 2  # A and B, on query and value, of rank 2
    head = 16 * 16 + 16 + 16 * 2 + 2
    assert depths.targets == ("query", "value")
    assert depths.head == "trained"
    assert [depths.upload_bits(depth) for depth in (1, 2, 3, 4)] == [32 * (adapters + head)] + [32 * adapters] * 3
    frozen, _ = tiny(tmp_path, "roberta", train_head=False)
    assert frozen.head == "frozen"
    assert frozen.upload_bits(1) == 32 * adapters


def test_other_models_are_profiled_by_a_list_of_modules():
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = torch.nn.Linear(4, 4)

        def forward(self, hidden):
            return hidden + torch.tanh(self.mix(hidden))

    class Stack(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Block(), Block()

        def forward(self, x):
            return type("Output", (), {"loss": self.second(self.first(x)).square().mean()})

    model = Stack()
    with pytest.raises(ProfilingError, match=r"no transformer blocks found in Stack .* attach_lora\(model, blocks="):
        find_blocks(model)
    with pytest.raises(ProfilingError, match="blocks is empty"):
        attach_lora(model, blocks=[])
    depths = attach_lora(model, blocks=[model.first, model.second], targets=["mix"], rank=1)
    assert depths.blocks == [model.second, model.first]
    backward(depths, 1, {"x": torch.ones(3, 4)})
    assert all(p.grad is not None for p in depths.parameters(1))
    with pytest.raises(ProfilingError, match="requires a gradient, so backward would run on to the embeddings"):
        backward(depths, 1, {"x": torch.ones(3, 4, requires_grad=True)})


@pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")  # the names that all of transformers 5 has
def test_the_checkpointing_trap_is_refused(tmp_path):
    depths, batch = tiny(tmp_path, "bert")
    depths.model.gradient_checkpointing_enable()
    with pytest.raises(ProfilingError, match="gradient checkpointing is on: it recomputes the forward pass"):
        depths.select(2)
    depths, batch = tiny(tmp_path, "bert")
    depths.model.enable_input_require_grads()
    with pytest.raises(ProfilingError, match=r"enable_input_require_grads\(\) is on"):
        depths.select(2)
    depths.model.disable_input_require_grads()
    depths.select(2)
    handle = depths.model.get_input_embeddings().register_forward_hook(lambda m, a, out: out.requires_grad_(True))
    with pytest.raises(ProfilingError, match="depth 2: the input of its block requires a gradient"):
        backward(depths, 2, batch)
    handle.remove()
    backward(depths, 2, batch)


def test_what_cannot_be_adapted_is_refused(tmp_path):
    message = "LoRA has no target: the blocks have no qkv. Modules that can be adapted are dense, key, query, value"
    with pytest.raises(ProfilingError, match=re.escape(message)):
        tiny(tmp_path, "bert", targets=["qkv", "value"])
    with pytest.raises(ProfilingError, match="the blocks have no module of an empty list"):
        tiny(tmp_path, "bert", targets=[])
    with pytest.raises(ProfilingError, match=r"some.*attach_lora\(targets=.*, Workload\(lora_targets=.* --targets"):
        tiny(tmp_path, "bert", targets=["qkv"])
    with pytest.raises(ValueError, match="depth must be at most 3, the number of blocks; got 4"):
        tiny(tmp_path, "bert")[0].select(4)
    with pytest.raises(ValueError, match="rank must be at least 1"):
        attach_lora(torch.nn.Linear(1, 1), rank=0)
    layer = torch.nn.ModuleDict({"mix": torch.nn.Linear(4, 4)})
    with pytest.raises(ProfilingError, match=r"LoRA of rank \d+ finds no memory: .*; take a smaller rank"):
        attach_lora(torch.nn.Sequential(layer), rank=2**50, blocks=[layer], targets=["mix"])
    with pytest.raises(ValueError, match="alpha must be finite and > 0, got 0.0"):
        attach_lora(torch.nn.Linear(1, 1), alpha=0)


def test_alpha_scales_what_an_adapter_adds(tmp_path):
    """Twice the rank unless told; the output moves in proportion to it."""

    def hidden(alpha):
        torch.manual_seed(0)
        model, mix = torch.nn.Sequential(), torch.nn.ModuleDict({"mix": torch.nn.Linear(4, 4, bias=False)})
        model.append(mix)
        plain = mix["mix"](torch.ones(1, 4)).detach()
        depths = attach_lora(model, rank=2, alpha=alpha, blocks=[mix], targets=["mix"], zero_init=False, seed=1)
        return depths.alpha, mix["mix"](torch.ones(1, 4)).detach() - plain

    (usual, added), (_, same), (half, less) = hidden(None), hidden(4), hidden(2.0)
    assert (usual, half) == (4.0, 2.0)
    assert torch.equal(added, same)
    torch.testing.assert_close(less, added / 2)
    assert added.abs().min() > 0


def test_a_block_without_an_adapter_is_refused():
    class Stack(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Sequential(torch.nn.Tanh())
            self.second = torch.nn.ModuleDict({"mix": torch.nn.Linear(4, 4)})

    model = Stack()
    with pytest.raises(ProfilingError, match="depth 2 has no module named mix; its block would upload nothing"):
        attach_lora(model, blocks=[model.first, model.second], targets=["mix"])


def test_a_model_without_a_loss_is_refused(tmp_path):
    depths, batch = tiny(tmp_path, "bert")
    del batch["labels"]
    with pytest.raises(ProfilingError, match="BertForSequenceClassification gives no loss for its labels"):
        backward(depths, 1, batch)


def test_a_parameter_that_cannot_be_frozen_is_refused(tmp_path):
    depths, _ = tiny(tmp_path, "bert")
    depths.model.requires_grad_ = lambda flag: None
    with pytest.raises(ProfilingError, match="depth 2: .*lora_A.* requires a gradient, though another depth owns it"):
        depths.select(2)


def test_a_model_is_adapted_once(tmp_path):
    depths, _ = tiny(tmp_path, "bert")
    with pytest.raises(ProfilingError, match=r"the model has adapters already, such as .*lora_A.*; adapt it once"):
        attach_lora(depths.model)
