"""Models from configurations, folders and names; what cannot be had or run says why."""

import json

import pytest
import torch
from tiny_models import save_config

from lola.models.loading import CONFIGS, load_config, sequence_length
from lola.profiling import ProfilingError, Workload, estimate
from lola.profiling.building import build, make_batch


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_every_builtin_configuration_is_one_of_transformers():
    for name in CONFIGS:
        config = load_config(name)
        assert config.architectures, name
        assert sequence_length(name, config) == (197 if name == "vit-b-16" else 128)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "weights_only"])
def test_weights_come_from_a_folder(tmp_path, safe):
    folder = save_config(tmp_path / "m", "bert")
    model, _ = build(Workload(folder, seed=3), "cpu")
    if safe:
        model.save_pretrained(folder)
    else:
        torch.save(model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    loaded, weights = build(Workload(folder, seed=4), "cpu")
    assert weights == f"{folder} ({'safetensors' if safe else 'weights_only'})"
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    folder = save_config(tmp_path / "m", "bert")
    torch.save({"x": Evil()}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(Exception, match="[Ww]eights_only|Weights only load failed"):
        build(Workload(folder), "cpu")
    assert not (tmp_path / "ran").exists()


def test_random_weights_and_batches_follow_the_seed(tmp_path):
    folder = save_config(tmp_path / "m", "roberta")

    def first(seed):
        workload = Workload(folder, seed=seed, sequence_length=6, batch_size=3)
        model, _ = build(workload, "cpu")
        return next(model.parameters()), make_batch(workload, model.config)["input_ids"]

    assert all(torch.equal(one, other) for one, other in zip(first(1), first(1), strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(first(1), first(2), strict=True))


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"sequence_length": 0}, ValueError, "sequence_length must be at least 1"),
        ({"lora_rank": 1.5}, TypeError, "lora_rank must be an integer"),
        ({"dtype": "int8"}, ValueError, "dtype must be one of fp32, fp16, bf16, .* got 'int8'"),
        ({"attention": "flash"}, ValueError, "attention must be one of eager, sdpa; got 'flash'"),
        ({"mode": "test"}, ValueError, "mode must be one of train, eval; got 'test'"),
        ({"head": "none"}, ValueError, "head must be one of trained, frozen; got 'none'"),
        ({"model": ""}, TypeError, "model must be a name or a folder, got ''"),
    ],
)
def test_bad_workloads_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        Workload(**({"model": "roberta-base"} | change))


def test_models_that_cannot_be_had_are_refused(tmp_path):
    with pytest.raises(ProfilingError, match=r"nobody/nothing: not a built-in configuration \(roberta-base, .*the hub"):
        load_config("nobody/nothing")
    with pytest.raises(ProfilingError, match=r"the folder has no config.json; name the folder of one saved model"):
        load_config(str(tmp_path))
    folder = save_config(tmp_path / "m", "bert", architectures=["NoSuchModel"])
    with pytest.raises(ProfilingError, match=r"names no architecture that transformers has \(got \['NoSuchModel'\]\)"):
        build(Workload(folder), "cpu")
    (tmp_path / "m" / "config.json").write_text(json.dumps({"model_type": "no-such-type"}))
    with pytest.raises(ProfilingError, match="not a folder that transformers can read"):
        load_config(folder)


@pytest.mark.parametrize(
    "change, reason",
    [
        (
            {"hidden_size": "wide"},
            "Validation error for field 'hidden_size': TypeError: Field 'hidden_size' expected int",
        ),
        ({"hidden_size": 0}, "ZeroDivisionError: "),
        ({"hidden_size": -1}, "negative dimension"),
        ({"hidden_size": 17}, r"The hidden size \(17\) is not a multiple of the number of attention heads \(2\)"),
        ({"hidden_act": "none"}, "KeyError: 'none'"),
        ({"pad_token_id": 99}, "AssertionError: Padding_idx must be within num_embeddings"),
        ({"id2label": 3}, "AttributeError: "),
        ({"num_labels": 0}, "there are 0 labels; give it one at least"),
        ({"architectures": [3]}, r"names no architecture that transformers has \(got \[\]\)"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_whatever_a_strange_configuration_leads_to_names_the_model(tmp_path, change, reason, device):
    folder = save_config(tmp_path / "m", "bert", **change)
    with pytest.raises(ProfilingError, match=f"^{folder}: .*{reason}"):
        build(Workload(folder), device)


@pytest.mark.parametrize("config", ["3", "null", "[]", "{", ""])
def test_a_configuration_that_is_none_names_the_model(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ProfilingError, match=f"^{tmp_path}: .*not a folder that transformers can read"):
        load_config(str(tmp_path))


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_weights_name_the_model(tmp_path, weights):
    folder = save_config(tmp_path / "m", "bert")
    (tmp_path / "m" / weights).write_bytes(b"cut short")
    with pytest.raises(ProfilingError, match=f"^{folder}: no model that transformers can build: "):
        build(Workload(folder), "cpu")


def test_lengths_that_a_model_has_not_are_refused(tmp_path):
    for name, positions in (("bert", 24), ("roberta", 22)):
        config = load_config(save_config(tmp_path / name, name))
        assert sequence_length("m", config, positions) == positions
        with pytest.raises(ProfilingError, match=f"m has {positions} positions; shorten the sequence from 99"):
            sequence_length("m", config, 99)
    config = load_config(save_config(tmp_path / "vit", "vit"))
    with pytest.raises(ProfilingError, match="m cuts an image into 5 tokens; leave the sequence length 128 out"):
        sequence_length("m", config, 128)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ImportError, match="a model needs peft: install lola-deft with its extra 'torch'"):
        load_config("gpt2")


def test_an_encoder_alone_gets_a_head(tmp_path):
    folder = save_config(tmp_path / "m", "bert", architectures=["BertModel"])
    model, _ = build(Workload(folder, batch_size=2, sequence_length=6), "cpu")
    assert type(model).__name__ == "BertForSequenceClassification"
    profile = estimate(Workload(folder, batch_size=2, sequence_length=6))
    assert profile.n_blocks == 3
