"""Prompts in every block: seen by all tokens, dropped again, trained depth by depth, and nothing else is changed."""

import copy
import pickle
import re

import pytest
import torch
import transformers
from tiny_models import save_config

import lola
from lola.models import ModelError, attach_lora, attach_prompts, find_blocks
from lola.profiling import Workload
from lola.profiling.building import build, make_batch
from lola.profiling.iteration import backward

TOKENS = 3
# What differs from a tiny model of another architecture.
VARIANTS = {
    "xlm-roberta": ("roberta", {"architectures": ["XLMRobertaForSequenceClassification"]}),
    "electra": ("bert", {"architectures": ["ElectraForSequenceClassification"], "embedding_size": 16}),
    "distilbert": (
        "bert",
        {"architectures": ["DistilBertForSequenceClassification"], "dim": 16, "hidden_dim": 32}
        | {"n_layers": 2, "n_heads": 2},
    ),
    "mpnet": ("bert", {"architectures": ["MPNetForSequenceClassification"]}),
    "opt": ("bert", {"architectures": ["OPTForCausalLM"], "ffn_dim": 32, "word_embed_proj_dim": 16}),
    "gpt_bigcode": ("gpt2", {"architectures": ["GPTBigCodeForCausalLM"]}),
}
CAUSAL = ("gpt2", "opt", "gpt_bigcode")
four_models = pytest.mark.parametrize("name", ["bert", "roberta", "vit", "gpt2"])
ALL = ("bert", "roberta", "vit", "gpt2", *VARIANTS)


def plain(tmp_path, name, attention="eager", **changes):
    """A tiny model in eval mode and double precision, and its batch, of which one text is shorter."""
    length = None if name == "vit" else 6
    base, differing = VARIANTS.get(name, (name, {}))
    folder = save_config(tmp_path / name, base, **({"model_type": name} | differing | changes))
    workload = Workload(folder, batch_size=2, sequence_length=length, attention=attention)
    model, _ = build(workload, "cpu")
    batch = make_batch(workload, model.config)
    if "attention_mask" in batch:
        batch["attention_mask"][1, 4:] = 0
    return model.eval().double(), {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}


def naive_logits(model, batch, prompts):
    """Run a model without prompts block by block, each on its prompts and the tokens, under a mask made by hand."""
    blocks = find_blocks(model)[::-1]
    causal = model.config.model_type in CAUSAL

    def instead(block, own, args, forward):
        hidden = args[0]
        rows, length = hidden.shape[:2]
        seen = batch.get("attention_mask", torch.ones(rows, length)).bool()
        seen = seen[:, None, :].expand(rows, length, length)
        if causal:
            seen = seen & torch.ones(length, length).tril().bool()
        whole = torch.ones(rows, 1, TOKENS + length, TOKENS + length, dtype=torch.bool)
        whole[:, 0, TOKENS:, TOKENS:] = seen
        mask = torch.zeros(whole.shape, dtype=torch.double).masked_fill(~whole, torch.finfo(torch.double).min)
        longer = torch.cat([own.expand(rows, -1, -1), hidden], 1)
        options = {"attention_mask": mask}
        if model.config.model_type == "mpnet":  # prompts have no position
            options["position_bias"] = torch.zeros(*args[2].shape[:2], *whole.shape[2:], dtype=torch.double)
            options["position_bias"][:, :, TOKENS:, TOKENS:] = args[2]
        output = forward(longer, **options)
        return (output[0][:, TOKENS:],) if isinstance(output, tuple) else output[:, TOKENS:]

    for block, own in zip(blocks, prompts, strict=True):
        forward = block.forward
        block.forward = lambda *args, block=block, own=own, forward=forward, **_: instead(block, own, args, forward)
    try:
        return model(**batch).logits
    finally:
        for block in blocks:
            del block.forward


@pytest.mark.parametrize(
    ("name", "attention"),
    [(name, attention) for name in ALL for attention in ("eager", "sdpa") if (name, attention) != ("mpnet", "sdpa")],
)
def test_a_model_with_prompts_is_each_block_on_its_prompts_and_the_tokens(tmp_path, name, attention):
    model, batch = plain(tmp_path, name)
    other, _ = plain(tmp_path, name, attention)
    other.load_state_dict(model.state_dict())
    depths = attach_prompts(other, tokens=TOKENS, seed=1)
    prompts = [block.prompts.detach() for block in depths.blocks[::-1]]
    wanted, without = naive_logits(model, batch, prompts), model(**batch).logits
    got = other(**batch).logits
    exact = {"rtol": 1e-9, "atol": 1e-12} if attention == "eager" else {"rtol": 1e-6, "atol": 1e-8}
    torch.testing.assert_close(got, wanted, **exact)  # eager attention of some models takes its softmax in float32
    assert (got - without).abs().max() > 1e-9
    assert got.shape == without.shape


@four_models
def test_every_depth_trains_its_prompts_and_its_gradient_is_that_of_all(tmp_path, name):
    model, batch = plain(tmp_path, name)
    depths = attach_prompts(model, tokens=TOKENS, seed=1)
    width = model.config.hidden_size
    depths.select_all()
    backward(depths, None, batch)
    full = {name: p.grad.clone() for name, p in depths.all_named_parameters().items()}
    assert all(gradient.abs().max() > 0 for gradient in full.values())
    for depth in range(1, len(depths) + 1):
        depths.select(depth)
        backward(depths, depth, batch)
        own = depths.named_parameters(depth)
        assert [name for name in own if name.endswith("prompts")] == [next(iter(own))]
        assert next(iter(own.values())).shape == (TOKENS, width)
        for name_of, parameter in own.items():
            torch.testing.assert_close(parameter.grad, full[name_of], rtol=1e-9, atol=1e-12)
    assert depths.upload_bits(2) == 32 * TOKENS * width
    assert sum(p.numel() for p in depths.all_parameters()) == sum(g.numel() for g in full.values())


def test_what_a_token_of_a_language_model_sees_does_not_depend_on_later_ones(tmp_path):
    model, batch = plain(tmp_path, "gpt2")
    attach_prompts(model, tokens=TOKENS, seed=1)
    changed = batch | {"input_ids": batch["input_ids"].clone()}
    changed["input_ids"][:, -1] = 7
    before, after = model(**batch).logits, model(**changed).logits
    torch.testing.assert_close(before[:, :-1], after[:, :-1], rtol=0, atol=0)
    assert (before[:, -1] - after[:, -1]).abs().max() > 0


def test_prompts_follow_the_seed_and_leave_the_random_state_alone(tmp_path):
    drawn = []
    for seed in (1, 1, 2):
        model, _ = plain(tmp_path, "bert", initializer_range=0.5)
        state = torch.get_rng_state()
        drawn.append(attach_prompts(model, seed=seed).blocks[0].prompts)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert 0.3 < drawn[0].std() < 0.7
    assert drawn[0].dtype == torch.double


def test_a_copy_has_prompts_of_its_own(tmp_path):
    model, batch = plain(tmp_path, "vit")
    depths = attach_prompts(model, tokens=TOKENS, train_head=False)
    for other in (copy.deepcopy(depths), pickle.loads(pickle.dumps(depths))):
        assert torch.equal(other.model(**batch).logits, model(**batch).logits)
        with torch.no_grad():
            other.blocks[0].prompts.add_(1)
        assert not torch.equal(other.model(**batch).logits, model(**batch).logits)
        assert repr(other) == "<PromptedDepths of ViTForImageClassification: 2 blocks, 3 prompts in each, head frozen>"


def test_blocks_may_be_named(tmp_path):
    model, _ = plain(tmp_path, "bert")
    assert len(attach_prompts(model, blocks=list(model.bert.encoder.layer)[1:])) == 2
    assert not hasattr(model.bert.encoder.layer[0], "prompts")


def refused(message, model, **options):
    with pytest.raises(lola.LolaError, match=message):
        attach_prompts(model, **options)
    assert not any(name.endswith("prompts") for name, _ in model.named_parameters())


def test_what_cannot_have_prompts_is_refused(tmp_path):
    model, _ = plain(tmp_path, "bert")
    refused("tokens must be at least 1, got 0", model, tokens=0)
    refused("tokens must be an integer, got float", model, tokens=2.0)
    refused("seed must be an integer, got str", model, seed="1")
    refused(
        "BertForSequenceClassification has no module 'bert.layers', where blocks were wanted",
        model,
        blocks="bert.layers",
    )
    layers = model.bert.encoder.layer
    refused(r"modules that are called were wanted, got a torch\.nn\.ModuleList", model, blocks=[layers])
    layers[0].gradient_checkpointing = True
    refused("gradient checkpointing is on", model)
    refused(
        "a configuration with a hidden_size was wanted, got Sequential without; take a model of transformers",
        torch.nn.Sequential(*plain(tmp_path, "bert")[0].bert.encoder.layer),
    )


def test_a_model_is_adapted_once(tmp_path):
    model, _ = plain(tmp_path, "bert")
    attach_prompts(model)
    with pytest.raises(
        ModelError, match=r"has adapters already, such as bert\.encoder\.layer\.0\.prompts; adapt it once"
    ):
        attach_prompts(model)
    other, _ = plain(tmp_path, "roberta")
    attach_lora(other)
    refused("has adapters already, such as .*lora_A", other)


HIDDEN = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}
BLOCKS_THAT_LOSE_PROMPTS = {
    "MptBlock": ("Mpt", "ForCausalLM", {"vocab_size": 50, "d_model": 16, "n_layers": 2, "n_heads": 2}),
    "BloomBlock": ("Bloom", "ForCausalLM", {"vocab_size": 50, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "DebertaLayer": ("Deberta", "ForSequenceClassification", HIDDEN | {"num_attention_heads": 2}),
    "XLNetLayer": (
        "XLNet",
        "ForSequenceClassification",
        {"vocab_size": 50, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32},
    ),
    "FNetLayer": ("FNet", "ForSequenceClassification", HIDDEN),
    "SwinStage": (
        "Swin",
        "ForImageClassification",
        {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "image_size": 16, "patch_size": 2, "window_size": 4},
    ),
    "LlamaDecoderLayer": ("Llama", "ForCausalLM", HIDDEN | {"num_attention_heads": 2}),
    "GPTNeoBlock": (  # a token of a local block sees but so many before it, not the prompts
        "GPTNeo",
        "ForCausalLM",
        {"vocab_size": 50, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "window_size": 2}
        | {"attention_types": [[["local"], 2]], "max_position_embeddings": 16},
    ),
}


@pytest.mark.parametrize("block", BLOCKS_THAT_LOSE_PROMPTS)
def test_blocks_whose_tokens_might_not_see_the_prompts_are_refused(block):
    family, task, sizes = BLOCKS_THAT_LOSE_PROMPTS[block]
    model = getattr(transformers, family + task)(getattr(transformers, f"{family}Config")(**sizes))
    refused(
        f"blocks that were tried with prompts were wanted, those of BERT, .* OPT, got {block}; take one of these",
        model,
    )


def test_blocks_of_other_packages_are_refused():
    class BertLayer(torch.nn.Linear):
        pass

    model = torch.nn.Sequential(*(BertLayer(4, 4) for _ in range(2)))
    refused("those of BERT, .*, got BertLayer", model, blocks=list(model))


def test_a_cache_is_refused_when_the_model_runs(tmp_path):
    model, batch = plain(tmp_path, "gpt2")
    model.config.use_cache = True
    attach_prompts(model)
    assert model.config.use_cache is False
    with pytest.raises(
        ModelError, match="no cache was wanted, got one for GPT2Block; call the model with use_cache=False"
    ):
        model(**batch, use_cache=True)


def test_blocks_that_are_called_otherwise_are_refused_when_they_run(tmp_path):
    model, _ = plain(tmp_path, "bert")
    depths = attach_prompts(model)
    with pytest.raises(
        ModelError, match=re.escape("hidden states (batch, tokens, width) were wanted, and BertLayer got")
    ):
        depths.blocks[0](hidden_states=torch.zeros(1, 2, 16))
    with pytest.raises(ModelError, match="BertLayer got something else; train LoRA in this model"):
        depths.blocks[0](torch.zeros(2, 16))


def test_no_adapter_is_written_that_peft_could_not_load(tmp_path):
    model, _ = plain(tmp_path, "bert")
    with pytest.raises(
        ModelError, match=r"it has none of prompts in front of each block; save all_named_parameters\(\)"
    ):
        attach_prompts(model).save_pretrained(tmp_path / "adapter")
