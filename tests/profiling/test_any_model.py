"""Any model: tiny ones of many types, and modules that transformers knows nothing of."""

import dataclasses
import re
import time

import model_support
import numpy as np
import pytest
import torch
from plain_model import Plain, plain_batch
from tiny_models import save_config
from torch import nn

from lola.cli.main import main
from lola.models import ModelError
from lola.models.loading import load_config
from lola.profiling import Workload, alone, bring_to_reference, estimate, measure
from lola.profiling.building import build, make_batch

QUICK = {"threads": 1, "repeats": 1, "limit_s": 0.01, "monotone": "isotonic"}


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
