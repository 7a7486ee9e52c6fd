"""Which modules are a model's blocks: found, or given, and refused where they could not be."""

import model_support
import pytest
import transformers
from plain_model import Block, Plain, plain_batch
from tiny_models import save_config
from torch import nn

from lola.models import ModelError, attach_lora, find_blocks
from lola.profiling import Workload
from lola.profiling.building import build
from lola.profiling.iteration import backward


def test_the_longest_list_is_found_and_two_of_a_length_are_not_told_apart():
    two = nn.ModuleDict({"text": nn.ModuleList([Block(), Block()]), "image": nn.ModuleList([Block(), Block()])})
    with pytest.raises(ModelError, match="ModuleDict has lists of 2 modules at text and image, and nothing tells"):
        find_blocks(two)
    assert find_blocks(two, "image") == [two["image"][1], two["image"][0]]
    assert find_blocks(two, "image.0, text") == [two["text"][1], two["text"][0], two["image"][0]]
    two["text"].append(Block())
    assert find_blocks(two) == list(two["text"])[::-1]
    with pytest.raises(ModelError, match="no transformer blocks found in Sequential"):
        find_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))  # linear layers are no blocks


def test_a_model_cut_short_says_so_or_names_its_blocks(tmp_path):
    model, _ = build(Workload(save_config(tmp_path / "m", "bert")), "cpu")
    model.bert.encoder.layer = model.bert.encoder.layer[:2]
    with pytest.raises(ModelError, match="runs 3 layers on the weights of 2: .* set config.num_hidden_layers to 2"):
        attach_lora(model)
    assert attach_lora(model, blocks="bert.encoder.layer").blocks == list(model.bert.encoder.layer)[::-1]


def test_blocks_that_overlap_or_run_backwards_are_refused():
    model = Plain()
    one, two, *_ = model.stack
    for blocks, error, message in (
        (
            [one, two, one],
            ModelError,
            "blocks 1 and 3 of blocks share stack.0.mix: each block must have weights",
        ),
        ([one, one.mix], ModelError, "blocks 1 and 2 of blocks share stack.0.mix"),
        ([two, one], ModelError, "blocks 1 and 2 of blocks are not in the model's order: .* reverse them"),
        ([nn.ModuleList([two]), one], ModelError, "blocks 1 and 2 of blocks are not in the model's order"),
        ([one, Block()], ModelError, "block 2 of blocks has a Linear that is no part of Plain"),
        ([one, "two"], TypeError, "blocks must be modules of the model, got str as number 2"),
    ):
        with pytest.raises(error, match=message):
            attach_lora(model, blocks=blocks, targets=["mix"])
    assert not [name for name, _ in model.named_parameters() if "lora" in name]


class Pair(nn.Module):
    """Two modules of a model as one block, which never runs itself."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second


@pytest.mark.parametrize("joined", [Pair, lambda *members: nn.ModuleList(members)])
@pytest.mark.parametrize("order", [(2, 3, 0, 1), (0, 2, 1, 3)])
def test_blocks_of_parts_that_run_in_another_order_are_refused(joined, order):
    model = Plain(4, order=order)
    depths = attach_lora(model, blocks=[joined(*model.stack[:2]), joined(*model.stack[2:])], targets=["mix"])
    with pytest.raises(ModelError, match="depth 1: the block of depth 2, which was wanted below it, runs after it"):
        backward(depths, 1, plain_batch())
    model.order = range(4)
    backward(depths, 1, plain_batch())


def test_a_decoder_made_of_an_encoder_s_layers_is_a_decoder():
    small = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    for n_encoder, n_decoder in ((2, 2), (2, 3)):
        encoder = transformers.BertConfig(**small, num_hidden_layers=n_encoder)
        decoder = transformers.BertConfig(
            **small, num_hidden_layers=n_decoder, is_decoder=True, add_cross_attention=True
        )
        config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
        model = transformers.EncoderDecoderModel(config)
        blocks = [*model.encoder.encoder.layer, *model.decoder.bert.encoder.layer]
        assert find_blocks(model) == blocks[::-1]


@pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")  # the names that all of transformers 5 has
def test_a_refused_model_stays_as_it_was(tmp_path):
    model = Plain(2)
    model.stack[0].other = model.stack[0].mix
    del model.stack[0].mix
    message = "depth 2 has no module named mix; its block would upload nothing; name others"
    with pytest.raises(ModelError, match=message):
        attach_lora(model, targets=["mix"])
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    named = Plain(2)
    with pytest.raises(TypeError, match="targets must be a list of names, got 'mix'; put it in one"):
        attach_lora(named, targets="mix")
    # A linear layer that is a block itself is replaced in the model, not in the list of blocks.
    with pytest.raises(ModelError, match="depth 2 has no module named mix"):
        attach_lora(named, blocks=[named.stack[0].mix, named.stack[1]], targets=["mix"])
    assert len(attach_lora(named, targets=["mix"])) == 2
    checkpointed, _ = build(Workload(save_config(tmp_path / "m", "bert")), "cpu")
    checkpointed.gradient_checkpointing_enable()
    with pytest.raises(ModelError, match="gradient checkpointing is on"):
        attach_lora(checkpointed)
    assert not [name for name, _ in checkpointed.named_parameters() if "lora" in name]


def test_blocks_that_run_in_another_order_are_refused_when_they_run():
    depths = attach_lora(Plain(3, order=(2, 1, 0)), targets=["mix"])
    with pytest.raises(ModelError, match="depth 1: the block of depth 2, which was wanted below it, runs after it"):
        backward(depths, 1, plain_batch())
    depths = attach_lora(Plain(2, order=(0, 1, 1)), targets=["mix"])
    with pytest.raises(ModelError, match="depth 1: its block runs again on what it gave"):
        backward(depths, 1, plain_batch())
    twice = attach_lora(Plain(2), targets=["mix"])
    twice.select(1)
    with twice.guard(1):  # two passes are no loop
        (twice.model(**plain_batch()).loss + twice.model(**plain_batch()).loss).backward()


class Outside(Plain):
    """Calls the members of its stack, two by two, past the containers that hold them."""

    def __init__(self):
        super().__init__()
        self.stack = nn.ModuleList(nn.Sequential(Block(), Block()) for _ in range(2))
        self.order = ()

    def forward(self, x, labels):
        for pair in self.stack:
            for block in pair:
                x = block(x)
        return super().forward(x, labels)


@pytest.mark.parametrize("joined", [False, True], ids=["containers that never run", "a list made of blocks"])
def test_several_modules_make_one_block(joined):
    model = Plain() if joined else Outside()
    blocks = [nn.ModuleList(model.stack[:2]), nn.ModuleList(model.stack[2:])] if joined else None
    depths = attach_lora(model, blocks=blocks, targets=["mix"], zero_init=False, seed=0)
    assert len(depths) == 2
    assert len(depths.parameters(2)) == 4
    assert model_support.largest_deviation(depths, plain_batch()) < 1e-5
    for depth in (1, 2):
        depths.select(depth)
        for _ in range(2):
            backward(depths, depth, plain_batch())
        trapped = plain_batch()
        trapped["x"].requires_grad_(True)
        with pytest.raises(ModelError, match=f"depth {depth}: the input of its block requires a gradient"):
            backward(depths, depth, trapped)
