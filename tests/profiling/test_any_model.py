"""Any model: tiny ones of many types, and modules that transformers knows nothing of."""

import dataclasses
import re
import time

import model_support
import numpy as np
import pytest
import torch
import transformers
from tiny_models import save_config
from torch import nn

from lola.cli.main import main
from lola.models import ModelError, attach_lora, find_blocks
from lola.models.loading import load_config
from lola.profiling import Workload, alone, bring_to_reference, estimate, measure
from lola.profiling.building import build, make_batch
from lola.profiling.iteration import backward

QUICK = {"threads": 1, "repeats": 1, "limit_s": 0.01, "monotone": "isotonic"}


class Block(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.norm, self.mix, self.back = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, hidden):
        return hidden + self.back(torch.tanh(self.mix(self.norm(hidden))))


class Plain(nn.Module):
    """A model of one's own: its blocks are called in the order that `order` gives."""

    def __init__(self, n_blocks=4, order=None):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.stack = nn.ModuleList(Block() for _ in range(n_blocks))
        self.classifier = nn.Linear(8, 2)
        self.order = order or range(n_blocks)
        self.scale = torch.tensor(0.5)  # neither a parameter nor a buffer

    def forward(self, x, labels):
        hidden = self.first(x) * self.scale
        for number in self.order:
            hidden = self.stack[number](hidden)
        logits = self.classifier(hidden)
        return type("Output", (), {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits})


def plain_batch(rows=6):
    generator = torch.Generator().manual_seed(0)
    return {"x": torch.randn(rows, 8, generator=generator), "labels": torch.arange(rows) % 2}


# -- types of transformers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", list(model_support.MODELS))
def test_a_model_has_the_row_of_the_page(tmp_path, architecture):
    """Gradients are compared with full backpropagation there: a row of others is not written."""
    support = model_support.tried(architecture, tmp_path / "m")
    assert model_support.row(architecture, support) in model_support.PAGE.read_text().splitlines()


def test_the_page_has_no_other_rows():
    page = model_support.PAGE.read_text()
    table = page.split(model_support.FIRST)[1].split(model_support.LAST)[0].splitlines()
    assert [line.split("`")[1] for line in table[2:]] == list(model_support.MODELS)
    assert model_support.filled(page, table[2:]) == page


def test_a_row_of_other_gradients_is_not_written():
    for deviation in (1e-3, float("nan")):
        with pytest.raises(ValueError, match="BertModel: gradients differ by .* from full backpropagation"):
            model_support.row("BertModel", model_support.Support(("h",), ("q",), deviation))


@pytest.mark.parametrize("architecture", ["T5EncoderModel", "MixtralForCausalLM", "WhisperForAudioClassification"])
def test_other_kinds_of_batches_are_measured(tmp_path, architecture):
    profile = measure(model_support.tiny_workload(architecture, tmp_path / "m"), **QUICK)
    assert profile.n_blocks == 2
    assert profile.provenance.sequence_length == 6
    assert (np.diff(profile.memory_bytes) > 0).all()


def test_shared_layers_are_refused_with_the_reason(tmp_path, capsys):
    workload = model_support.tiny_workload("AlbertForSequenceClassification", tmp_path / "m")
    reason = "AlbertForSequenceClassification runs 2 layers on the weights of 1: layers that share weights have no"
    with pytest.raises(ModelError, match=reason):
        estimate(workload)
    there = dataclasses.replace(workload, blocks="albert.encoder.albert_layer_groups")
    with pytest.raises(ModelError, match="depth 1: its block runs again on what it gave, so its weights are those of"):
        estimate(there)
    assert main(["profile", "--model", workload.model, "--device", "estimate"]) == 64
    assert reason in capsys.readouterr().err


def test_experts_are_not_estimated(tmp_path):
    workload = model_support.tiny_workload("MixtralForCausalLM", tmp_path / "m")
    with pytest.raises(
        ModelError, match="MixtralForCausalLM cannot run on tensors without data: .*; measure it instead"
    ):
        estimate(workload)


def test_a_backbone_alone_gets_the_head_of_its_kind(tmp_path):
    for wanted, backbone in (
        ("T5ForConditionalGeneration", "T5Model"),
        ("MambaForCausalLM", "MambaModel"),
        ("ViTForImageClassification", "ViTModel"),
    ):
        workload = model_support.tiny_workload(wanted, tmp_path / wanted)
        config = tmp_path / wanted / "config.json"
        config.write_text(config.read_text().replace(f'"{wanted}"', f'"{backbone}"'))
        model, _ = build(workload, "cpu")
        assert type(model).__name__ == wanted


def test_sound_has_its_own_length(tmp_path):
    workload = model_support.tiny_workload("WhisperForAudioClassification", tmp_path / "m", sequence_length=7)
    with pytest.raises(
        ModelError, match="hears 6 tokens of sound; leave the sequence length 7 out, or change max_source"
    ):
        estimate(workload)


def test_blocks_and_targets_are_said_on_the_command_line(tmp_path, capsys):
    folder = model_support.tiny_workload("T5ForConditionalGeneration", tmp_path / "m").model
    arguments = ["profile", "--model", folder, "--batch", "2", "--seq", "6", "--device", "estimate"]
    for option in ("--targets", "--lora-targets"):
        assert main([*arguments, "--blocks", "decoder.block", option, "k,o"]) == 0
        assert len(re.findall(r"^ +\d+ ", capsys.readouterr().out, flags=re.MULTILINE)) == 2
    assert main([*arguments, "--blocks", "decoder.blocks"]) == 64
    error = capsys.readouterr().err
    assert "T5ForConditionalGeneration has no module 'decoder.blocks', where blocks were wanted; its lists" in error
    assert "are encoder.block, encoder.block.0.layer" in error


@pytest.mark.filterwarnings("ignore")  # of the hub's client
def test_a_misspelt_name_is_refused_at_once_with_a_suggestion(monkeypatch):
    """Asked once, with a limit: a hub that does not answer at all takes half a minute of transformers."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    load_config("gpt2")  # imports
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"robreta-base: not a built-in configuration \(did you mean roberta-base\?\)"):
        load_config("robreta-base")
    assert time.monotonic() - start < 8


# -- modules ----------------------------------------------------------------------------------------------------------


def test_a_module_with_a_batch_is_measured_and_estimated_and_stays_as_it_is():
    model, batch = Plain(), plain_batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    workload = Workload(model, batch=batch, lora_targets=["mix"], lora_rank=2)
    assert (workload.name, workload.batch_size, workload.sequence_length) == ("Plain", 6, 8)
    measured, estimated = measure(workload, **QUICK), estimate(workload)
    np.testing.assert_allclose(estimated.evidence.saved_bytes, measured.evidence.saved_bytes)
    assert (np.diff(estimated.evidence.flops) > 0).all()
    for profile in (measured, estimated):
        known = profile.provenance
        assert (profile.n_blocks, known.model, known.batch_size, known.sequence_length) == (4, "Plain", 6, 8)
        assert (known.dtype, known.attention, known.head, known.lora_targets) == ("float32", "own", "trained", ("mix",))
    assert measured.provenance.weights == "given"
    assert bring_to_reference(measured, workload).latency_s.sum() == pytest.approx(estimated.latency_s.sum())
    assert alone(workload).total_bytes > 0
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_module_of_transformers_costs_what_its_configuration_does(tmp_path, attention):
    named = Workload(save_config(tmp_path / "m", "bert"), batch_size=2, sequence_length=6, attention=attention)
    model, _ = build(named, "cpu")
    given = Workload(model, batch=make_batch(named, model.config), attention=attention)
    assert (given.batch_size, given.sequence_length, given.attention) == (2, 6, attention)
    by_name, by_module = estimate(named), estimate(given)
    np.testing.assert_array_equal(by_module.memory_bytes, by_name.memory_bytes)
    np.testing.assert_array_equal(by_module.evidence.flops, by_name.evidence.flops)


def test_attention_of_ones_own_is_counted():
    """The counter knows no fused attention on the CPU; taken apart, it has two products of queries, keys and values."""

    class Attends(Plain):
        def forward(self, x, labels):
            hidden = nn.functional.scaled_dot_product_attention(x[None], x[None], x[None])[0]
            return super().forward(hidden, labels)

    with_it, without = (
        estimate(Workload(kind(), batch=plain_batch(), lora_targets=["mix"])).evidence.flops
        for kind in (Attends, Plain)
    )
    np.testing.assert_array_equal(with_it - without, 2 * 2 * 6 * 6 * 8)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"batch": None}, TypeError, "batch must be a mapping of names to tensors, labels .* Plain .*; got NoneType"),
        ({"batch": {}}, TypeError, "batch must be a mapping of names to tensors, .*; got {}"),
        ({"batch": {"x": 3}}, TypeError, r"batch must be a mapping of names to tensors, .*; got {'x': 3}"),
        ({"batch_size": 3}, ValueError, "batch_size of Plain and its batch is 6, got 3; leave it out"),
        ({"batch_size": 32}, ValueError, "batch_size of Plain and its batch is 6, got 32; leave it out"),
        ({"sequence_length": 128}, ValueError, "sequence_length of Plain and its batch is 8, got 128; leave it out"),
        ({"dtype": "bf16"}, ValueError, "dtype of Plain and its batch is 'float32', got 'bf16'; leave it out"),
        (
            {"model": Plain().to(torch.bfloat16), "dtype": "fp32"},
            ValueError,
            "dtype of Plain and its batch is 'bfloat16', got 'fp32'; leave it out",
        ),
        ({"attention": "eager"}, ValueError, "attention of Plain and its batch is 'own', got 'eager'; leave it out"),
        ({"attention": "sdpa"}, ValueError, "attention of Plain and its batch is 'own', got 'sdpa'; leave it out"),
        ({"model": 3}, TypeError, "model must be a name, a folder or a torch module, got int"),
        (
            {"model": "gpt2"},
            ValueError,
            "batch goes with a module, got the name 'gpt2'; leave it out",
        ),
        ({"blocks": ["stack"]}, TypeError, "blocks must be a path within the model, got list"),
        ({"lora_targets": "mix"}, TypeError, "lora_targets must be a list of names, got 'mix'; put it in one"),
    ],
)
def test_bad_workloads_of_modules_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        Workload(**({"model": Plain(), "batch": plain_batch()} | change))


def test_what_a_module_cannot_be_run_on_is_said():
    odd = {"y": torch.ones(6, 8), "labels": torch.zeros(6, dtype=torch.long)}
    with pytest.raises(ModelError, match="Plain cannot be run on y, labels: .*unexpected keyword argument 'y'"):
        estimate(Workload(Plain(), batch=odd, lora_targets=["mix"]))
    stages, given = [], Workload(Plain(), batch=plain_batch(), lora_targets=["mix"])
    with pytest.raises(ModelError, match="the child process builds its model from a name or a folder, got a Plain"):
        measure(given, **QUICK, check_process=True, progress=lambda stage, *_: stages.append(stage))
    assert stages == ["child process"]  # before anything is measured


# -- blocks -----------------------------------------------------------------------------------------------------------


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
