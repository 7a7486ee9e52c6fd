"""What each module of a chain costs: counted by hand, measured as estimated, and a stage the sum of its parts."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_models import TINY, save_config

import lola
from lola.models.cutting import ModuleChain
from lola.profiling import (
    REFERENCES,
    ProfilingError,
    Workload,
    bring_stages_to_reference,
    estimate,
    estimate_stages,
    measure,
    measure_stages,
)
from lola.profiling.building import adapted, build, make_batch
from lola.profiling.chain_run import run_stages
from lola.profiling.iteration import backward
from lola.profiling.memory import total_bytes
from lola.profiling.stage_memory import stage_memory

FOUR = ("bert", "roberta", "vit", "gpt2")
four_models = pytest.mark.parametrize("name", FOUR)
both_ways = pytest.mark.parametrize("prompts", [None, 5], ids=["lora", "prompts"])


def workload(tmp_path, name, *, changes=None, **more):
    length = {} if name == "vit" else {"sequence_length": 6}
    return Workload(
        save_config(tmp_path / name, name, **changes or {}), **({"batch_size": 2, "lora_rank": 2, **length} | more)
    )


def chain_of(given):
    model, _ = build(given, "cpu")
    chain = ModuleChain(adapted(given, model))
    chain.depths.select_all()
    return chain, make_batch(given, model.config)


@pytest.mark.parametrize("head", ["trained", "frozen"])
def test_operations_equal_a_hand_count(tmp_path, head):
    """Roberta: 4 blocks, hidden 16, intermediate 32, rank 2, 2 labels; 2 examples of 6 tokens. Two per multiply-add."""
    batch, s, h, f, r, labels = 2, 6, 16, 32, 2, 2
    t = batch * s
    linear = 2 * t * (4 * h * h + 2 * h * f)
    attention = 2 * 2 * batch * s * s * h
    lora = 2 * 2 * t * 2 * h * r
    classifier = 2 * batch * (h * h + h * labels)
    # Every adapter wants the gradients of both its matrices, and passes on that of its input; only in block 1 is there
    # nobody below who wants one of query, key, value and their adapters' inputs.
    whole = linear + 2 * attention + 2 * lora
    first = 2 * t * (h * h + 2 * h * f) + 3 * attention // 2 + 2 * 3 * 2 * t * h * r
    stages = estimate_stages(workload(tmp_path, "roberta", head=head))
    rate = REFERENCES["snapdragon-8-gen-3"].flops_per_s
    np.testing.assert_allclose(stages.forward_s * rate, [0, *[linear + attention + lora] * 4, classifier], rtol=1e-12)
    last = classifier * (2 if head == "trained" else 1)
    np.testing.assert_allclose(stages.backward_s * rate, [0, first, whole, whole, whole, last], rtol=1e-12)


@four_models
@both_ways
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_estimate_counts_what_a_measurement_counts(tmp_path, name, prompts, attention):
    given = workload(tmp_path, name, prompts=prompts, attention=attention)
    estimated, measured = estimate_stages(given), measure_stages(given, threads=1, repeats=1, limit_s=0.01)
    for what in ("inference_memory_bytes", "hop_bits", "return_bits", "tunable_bits"):
        np.testing.assert_array_equal(getattr(estimated, what), getattr(measured, what))
    assert estimated.result_bits == measured.result_bits
    np.testing.assert_allclose(estimated.memory_bytes, measured.memory_bytes, rtol=0.03)
    np.testing.assert_allclose(estimated.kept_bytes, measured.kept_bytes, rtol=0.03)
    # Without data nobody sees that a mask hides nothing and may be left out; in models as tiny as these it counts.
    for i in range(estimated.n_modules):
        for inference in (False, True):
            peaks = [stages.peak_bytes(range(i, i + 1), inference=inference) for stages in (estimated, measured)]
            assert peaks[0] == pytest.approx(peaks[1], rel=0.06)
    assert (measured.forward_s > 0).all()
    assert (measured.backward_s[1:] > 0).all()
    assert measured.backward_s[0] == estimated.backward_s[0] == 0
    assert (measured.forward_iqr_s == 0).all()  # of one batch


@four_models
@both_ways
def test_what_crosses_a_cut_and_what_is_tunable_equal_a_hand_count(tmp_path, name, prompts):
    given = workload(tmp_path, name, prompts=prompts, head="frozen")
    stages = estimate_stages(given)
    blocks = TINY[name].get("num_hidden_layers", TINY[name].get("n_layer"))
    tokens = 5 if name == "vit" else 6  # prompts do not cross
    hop = 32 * 2 * tokens * 16
    np.testing.assert_array_equal(stages.hop_bits, [hop] * (blocks + 1))
    np.testing.assert_array_equal(stages.return_bits, [0, *[hop] * blocks])
    # A and B on query and on value; GPT-2 has the joint projection alone, three times as wide.
    lora = 2 * (16 + 48) if name == "gpt2" else 2 * 2 * (16 + 16)
    per_block = lora if prompts is None else 5 * 16
    np.testing.assert_array_equal(stages.tunable_bits, [0, *[32 * per_block] * blocks, 0])
    labels = {"vit": 2 * 2 * 32, "gpt2": 2 * 6 * 64}  # two scores, or the number of a word of 50
    assert stages.result_bits == labels.get(name, 2 * 2 * 32)
    assert stages.module == ("embedding", *(f"block {i}" for i in range(1, blocks + 1)), "head")
    assert stages.batch_size == 2
    known = stages.provenance
    assert (known.prompts, known.lora_rank) == (prompts, 2 if prompts is None else None)
    assert (known.lora_targets is None) == (prompts is not None)


def test_weights_are_counted_where_they_run(tmp_path):
    """Roberta's by hand: embeddings of words, positions and types with their norm; blocks with LoRA; two layers."""
    stages = estimate_stages(workload(tmp_path, "roberta"))
    norm, lora = 2 * 16, 4 * 16 * 2
    block = 4 * (16 * 16 + 16) + (16 * 32 + 32) + (32 * 16 + 16) + 2 * norm + lora
    head = (16 * 16 + 16) + (16 * 2 + 2)
    ids = 8 * 2 * 24  # buffers of positions and types
    batch, output = 8 * (2 * 2 * 6 + 2), 4 * 2 * 6 * 16  # ids, mask and labels; what the embedding gives
    assert stages.inference_memory_bytes.tolist() == [
        4 * (50 + 24 + 1) * 16 + 4 * norm + ids + batch + output,
        *[4 * block] * 4,
        4 * head,
    ]
    kept = stages.memory_bytes - stages.inference_memory_bytes
    assert kept[0] == -output  # of inference alone
    assert stages.kept_bytes[0] == 0
    assert kept[1] > (4 + 8) * lora
    tied = estimate_stages(workload(tmp_path, "gpt2"))
    words = 4 * 50 * 16  # the head uses the embedding's again
    assert tied.inference_memory_bytes[0] == words + 4 * 24 * 16 + 8 * 3 * 2 * 6 + output
    assert tied.inference_memory_bytes[-1] == words + 4 * norm


@four_models
@both_ways
def test_the_peak_of_each_stage_is_as_estimated(tmp_path, name, prompts):
    """Real tensors of stages of one to all modules, against the sum of their modules' without data; 5 % is allowed."""
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4}
    sizes = {"n_embd": 64, "n_layer": 4} if name == "gpt2" else sizes
    shape = {"image_size": 32} if name == "vit" else {"vocab_size": 1000}
    length = {} if name == "vit" else {"sequence_length": 20}
    given = workload(tmp_path, name, prompts=prompts, changes=sizes | shape, batch_size=8, **length)
    estimated = estimate_stages(given)
    chain, batch = chain_of(given)
    if "attention_mask" in batch:
        batch["attention_mask"][1, 17:] = 0
    for starts in ([0, 1, 2, 3, 4, 5], [0, 3], [0, 1, 5], [0, 2, 4], [0]):
        measured = stage_memory(chain, starts, batch)
        for i, stage in enumerate(range(*pair) for pair in zip(starts, [*starts[1:], 6], strict=True)):
            parts = [weights_of(chain, module) for module in stage]  # what two of them share counts in both
            weights = sum(map(total_bytes, parts))
            tunable = sum(tensor.numel() for part in parts for tensor in part if tensor.requires_grad)
            trains = weights + 8 * tunable + measured.peak_bytes[i]
            assert estimated.peak_bytes(stage) == pytest.approx(trains, rel=0.05), stage
            answers = weights + measured.inference_peak_bytes[i]
            assert estimated.peak_bytes(stage, inference=True) == pytest.approx(answers, rel=0.05), stage


def test_counting_leaves_each_module_in_its_mode(tmp_path):
    chain, batch = chain_of(workload(tmp_path, "bert"))
    chain.blocks[0].eval()
    modes = [module.training for module in chain.model.modules()]
    stage_memory(chain, [0, 2], batch)
    assert [module.training for module in chain.model.modules()] == modes


def weights_of(chain, module):
    """Parameters and buffers of a module, by their names, not by where they were seen to run."""
    if 0 < module < len(chain) - 1:
        block = chain.blocks[module - 1]
        return [*block.parameters(), *block.buffers()]
    inside = {id(t) for block in chain.blocks for t in (*block.parameters(), *block.buffers())}
    names = [*chain.model.named_parameters(remove_duplicate=False), *chain.model.named_buffers()]
    outside = {name: tensor for name, tensor in names if id(tensor) not in inside}
    first = {name for name in outside if any(part in name for part in ("embeddings", "wte", "wpe"))}
    return [tensor for name, tensor in outside.items() if (name in first) == (module == 0)]


@four_models
@both_ways
def test_stages_give_the_gradients_of_the_whole(tmp_path, name, prompts):
    chain, batch = chain_of(workload(tmp_path, name, prompts=prompts, mode="eval"))
    with torch.no_grad():
        for parameter in chain.depths.all_parameters():
            parameter.normal_()  # LoRA's B starts at zero
    chain.model.double()
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    backward(chain.depths, None, batch)
    whole = {key: p.grad.clone() for key, p in chain.depths.all_named_parameters().items()}
    seen = {}
    for key, p in chain.depths.all_named_parameters().items():
        p.register_post_accumulate_grad_hook(lambda p, key=key: seen.update({key: p.grad.clone()}))
    order = []

    class Watch:
        def __init__(self, *at):
            self.at = at

        def __enter__(self):
            order.append(self.at)

        def __exit__(self, *_):
            pass

    n = len(chain)
    run_stages(chain, [0, 1, n - 1], batch, Watch)
    assert order == [*((i, "forward") for i in range(3)), (2, "backward"), (1, "backward")]
    assert set(seen) == set(whole)
    for key, gradient in whole.items():
        torch.testing.assert_close(seen[key], gradient, rtol=1e-10, atol=1e-12)
    assert all(p.grad is None for p in chain.model.parameters())


def test_a_measurement_says_how_it_was_made(tmp_path):
    given = workload(tmp_path, "bert", seed=5)
    said = []
    stages = measure_stages(given, threads=1, repeats=2, limit_s=0.001, progress=lambda *what: said.append(what))
    known = stages.provenance
    assert (known.source, known.weights, known.threads, known.seed) == ("measured", "random", 1, 5)
    assert known.note == "medians of 2 batches"
    assert known.memory == "weights, gradients and Adam's moments of what is tunable, and saved tensors"
    assert known.hardware.endswith(", 1 thread")
    assert said == [("memory", 0, 1), ("seconds", 0, 2), ("seconds", 1, 2)]
    assert measure_stages(given, threads=1, limit_s=0.001).provenance.note == "medians of 3 batches"


def test_seconds_are_medians_and_go_on_until_they_are_known(tmp_path, monkeypatch):
    batches = iter([np.full((2, 5), seconds) for seconds in (1.0, 3.0, 2.0, 9.0, 2.0, 2.0, *[2.0] * 40)])
    monkeypatch.setattr("lola.profiling.stages._seconds", lambda *_: next(batches))
    said = []
    stages = measure_stages(
        workload(tmp_path, "bert"), threads=1, progress=lambda what, *_: said.append(what), limit_s=1000
    )
    assert stages.forward_s.tolist() == stages.backward_s.tolist() == [2.0] * 5
    assert stages.forward_iqr_s.tolist() == [0.0] * 5
    assert said.count("seconds") == 5
    assert 0 < said.count("repeating what is noisy") < 15


def test_what_takes_a_hundredth_of_a_batch_may_be_noisy(tmp_path, monkeypatch):
    noise = iter([0.001, 0.009] * 20)

    def seconds(*_):
        times = np.full((2, 5), 2.0)
        times[0, 0] = next(noise)
        return times

    monkeypatch.setattr("lola.profiling.stages._seconds", seconds)
    assert measure_stages(workload(tmp_path, "bert"), threads=1).provenance.note == "medians of 5 batches"


def test_seconds_are_brought_to_a_reference(tmp_path, monkeypatch):
    monkeypatch.setattr("lola.profiling.stages._seconds", lambda *_: np.full((2, 5), 2.0))
    given = workload(tmp_path, "bert")
    stages, estimated = measure_stages(given, threads=1), estimate_stages(given)
    scaled = bring_stages_to_reference(stages, given)
    total = estimated.forward_s.sum() + estimated.backward_s.sum()
    assert scaled.forward_s.sum() + scaled.backward_s.sum() == pytest.approx(total, rel=1e-12)
    assert scaled.forward_s[0] == scaled.backward_s[2] == pytest.approx(total / 10)
    assert scaled.provenance.reference == "snapdragon-8-gen-3"
    with pytest.raises(ProfilingError, match="the stages have 5 modules, .*roberta has 6; give its own"):
        bring_stages_to_reference(stages, workload(tmp_path, "roberta"))
    with pytest.raises(ValueError, match="reference must be one of snapdragon-8-gen-3; got 'x'"):
        bring_stages_to_reference(stages, given, "x")


def test_prompts_are_profiled_by_depth_too(tmp_path):
    given = workload(tmp_path, "bert", prompts=4)
    estimated = estimate(given)
    assert (estimated.provenance.prompts, estimated.provenance.lora_rank, estimated.provenance.lora_targets) == (
        4,
        None,
        None,
    )
    assert (estimated.upload_bits[1:] == 32 * 4 * 16).all()
    measured = measure(given, threads=1, monotone="isotonic", limit_s=0.01)
    assert measured.provenance.prompts == 4
    np.testing.assert_allclose(estimated.evidence.saved_bytes, measured.evidence.saved_bytes, rtol=0.03)


def test_longer_inputs_by_prompts_keep_more(tmp_path):
    few, many = (estimate_stages(workload(tmp_path, "bert", prompts=prompts)) for prompts in (1, 20))
    assert (many.memory_bytes[1:-1] > 2 * few.memory_bytes[1:-1] - few.inference_memory_bytes[1:-1]).all()
    np.testing.assert_array_equal(few.hop_bits, many.hop_bits)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"repeats": 2.5}, "repeats must be an integer, got float"),
        ({"limit_s": 0}, "limit_s must be finite and > 0, got 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, options, message):
    with pytest.raises(lola.LolaError, match=message):
        measure_stages(workload(tmp_path, "bert"), **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"prompts": 0}, "prompts must be at least 1, got 0"),
        ({"prompts": 2.0}, "prompts must be an integer, got float"),
        (
            {"prompts": 2, "lora_targets": ("query",)},
            r"lora_targets must be left out with prompts, which are trained instead of LoRA; got \('query',\)",
        ),
    ],
)
def test_prompts_of_a_workload_are_checked(options, message):
    with pytest.raises(lola.LolaError, match=message):
        Workload("roberta-base", **options)
    with pytest.raises(lola.LolaError, match="prompts must be at least 1, got 0"):
        dataclasses.replace(lola.Provenance("a", 1, 1, "b", "measured", "c"), prompts=0)


def test_an_estimate_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="reference must be one of"):
        estimate_stages(workload(tmp_path, "bert"), reference="x")
    with pytest.raises(ValueError, match="allocator must be one of cpu, cuda; got 'x'"):
        estimate_stages(workload(tmp_path, "bert"), allocator="x")
    on_cuda = estimate_stages(workload(tmp_path, "bert", batch_size=8), allocator="cuda")
    assert on_cuda.provenance.memory.endswith("saved tensors, counted as on cuda")
    on_cpu = estimate_stages(workload(tmp_path, "bert", batch_size=8))
    assert (on_cuda.kept_bytes[1:] < on_cpu.kept_bytes[1:]).all()  # masks of one byte a value
    assert on_cuda.peak_bytes(range(1), inference=True) > on_cpu.peak_bytes(range(1), inference=True)  # rounded up
