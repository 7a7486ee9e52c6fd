"""Blocks whose ranks differ: trained over rounds, kept, sent, gone on with, and taken home by PEFT."""

import json
import warnings

import numpy as np
import pytest
import torch
from cooperative import tiny_columns, tiny_problem, weights_of
from peft import PeftModel
from tiny_models import save_checkpoint
from transformers import AutoModelForSequenceClassification

import lola
from lola.adapters import CooperativeSession, ModelUpdate, Setting, ShardedData, iid_shards
from lola.models import ModelError, attach_lora
from lola.models.patterns import check_ranks

HIDDEN = 16
A_RANK = 2 * 2 * HIDDEN  # parameters: A and B, on query and value
HEAD = HIDDEN * 2 + 2
IDS = torch.randint(5, 50, (6, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("base"))


def adapted(base, rank, **others):
    model = AutoModelForSequenceClassification.from_pretrained(base, attn_implementation="eager")
    model.classifier.weight.data.normal_(generator=torch.Generator().manual_seed(3))
    return attach_lora(model, rank=rank, seed=0, **others)


def session_of(base, folder, rank=(3, 1, 2)):
    depths = adapted(base, rank)
    depths.model.train()
    uploads = [depths.upload_bits(depth) for depth in range(1, len(depths) + 1)]
    profile = lola.Profile(memory_bytes=[1e9] * len(depths), latency_s=[1.0] * len(depths), upload_bits=uploads)
    problem = tiny_problem(len(depths), profile=profile)
    data = ShardedData(tiny_columns("bert", 60, seed=1), iid_shards(60, 7, seed=2), batch_size=4, seed=5)
    optimizer = torch.optim.Adam(depths.all_parameters(), lr=1e-2)
    return CooperativeSession(depths, optimizer, problem, data, setting=Setting(checkpoint_every=2), folder=folder)


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def test_each_block_has_its_rank_and_all_are_scaled_alike(base):
    depths = adapted(base, [3, 1, 2], alpha=5)
    assert (len(depths), depths.rank, depths.alpha) == (3, (3, 1, 2), 5.0)
    assert "LoRA of ranks 3, 1, 2 in query, value" in repr(depths)
    for block, rank in zip(depths.blocks, (3, 1, 2), strict=True):
        layers = [module for module in block.modules() if hasattr(module, "lora_A")]
        assert [(layer.r["default"], layer.lora_A["default"].out_features) for layer in layers] == [(rank, rank)] * 2
        assert [layer.scaling["default"] for layer in layers] == pytest.approx([5 / 3] * 2)
    assert [depths.upload_bits(depth) / 32 for depth in (1, 2, 3)] == [3 * A_RANK + HEAD, A_RANK, 2 * A_RANK]


def test_equal_ranks_are_one_rank(base):
    one, each = adapted(base, 2), adapted(base, np.array([2, 2, 2]))
    assert each.rank == 2
    assert each.model.peft_config["default"].rank_pattern == {}
    assert all(map(torch.equal, weights_of(one), weights_of(each)))


def test_a_pattern_fits_one_module_alone(tmp_path):
    """Of eleven layers, that of the name layer.1 is no part of layer.10; PEFT compares the ends of names, too."""
    folder = save_checkpoint(tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 11}))
    ranks = (1, *[4] * 8, 2, 3)  # layer.10 … layer.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights of the other layers are drawn
        depths = adapted(folder, ranks)
    assert [block.attention.self.query.r["default"] for block in depths.blocks] == list(ranks)


def test_a_block_of_rank_0_is_no_depth(base):
    depths = adapted(base, (3, 0, 2), train_head=False)
    layers = depths.model.bert.encoder.layer
    assert (len(depths), depths.rank, depths.blocks) == (2, (3, 2), [layers[2], layers[0]])
    assert [depths.upload_bits(depth) / 32 for depth in (1, 2)] == [3 * A_RANK, 2 * A_RANK]
    assert not any("lora_" in name for name, _ in layers[1].named_parameters())
    assert adapted(base, (0, 2, 2), train_head=False).rank == 2
    head_alone = adapted(base, (0, 2, 2))
    assert (len(head_alone), head_alone.rank) == (3, (0, 2, 2))
    assert list(head_alone.named_parameters(1)) == ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("rank", [(3, 1, 2), (0, 2, 1), (2, 0, 2)])
def test_rounds_go_on_to_the_same_bits_and_come_home(base, tmp_path, rank):
    whole, parted = session_of(base, tmp_path / "whole", rank), session_of(base, tmp_path / "parted", rank)
    start = weights_of(whole)
    for _ in whole.run(4):
        pass
    for _ in parted.run(2):
        pass
    again = session_of(base, tmp_path / "parted", rank)
    assert again.version == 2
    for _ in again.run(4):
        pass
    trained = weights_of(whole)
    assert all(map(torch.equal, trained, weights_of(again)))
    assert not any(torch.equal(before, after) for before, after in zip(start, trained, strict=True))
    update = ModelUpdate.from_bytes(ModelUpdate.from_depths(whole.depths, 4).to_bytes(), whole.depths)
    fresh = adapted(base, rank)
    update.apply_to(fresh)
    assert all(map(torch.equal, trained, weights_of(fresh)))
    whole.depths.save_pretrained(tmp_path / "adapter")
    whole.depths.save_pretrained(tmp_path / "merged", merged=True)
    wanted = logits(whole.depths.model)
    loaded = AutoModelForSequenceClassification.from_pretrained(base, attn_implementation="eager")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # peft asks transformers by an old name
        assert torch.equal(logits(PeftModel.from_pretrained(loaded, tmp_path / "adapter")), wanted)
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged", attn_implementation="eager")
    torch.testing.assert_close(logits(merged), wanted, rtol=1e-5, atol=1e-6)


def test_a_plan_is_asked_for_its_ranks(base):
    plan = lola.allocate_ranks(lola.Importance([[9.0, 4.0], [3.0, 1.0]], cost=[100, 100]), budget=300)
    with pytest.raises(TypeError, match=r"rank must be an integer or .*, got RankPlan: .*; give its \.rank"):
        adapted(base, plan)


def test_a_run_goes_on_with_its_own_ranks_alone(base, tmp_path):
    for _ in session_of(base, tmp_path / "run").run(2):
        pass
    with pytest.raises(lola.FormatError, match="of another run"):
        session_of(base, tmp_path / "run", (3, 2, 1))
    with pytest.raises(lola.FormatError, match=r"F32 of shape \[2, 16\] was wanted, got .* of \[1, 16\]"):
        ModelUpdate.from_bytes(
            ModelUpdate.from_depths(adapted(base, (3, 1, 2)), 0).to_bytes(), adapted(base, (3, 2, 1))
        )


@pytest.mark.parametrize(
    ("rank", "kind", "message"),
    [
        (0, ValueError, "rank must be at least 1, got 0"),
        ("all", TypeError, "rank must be an integer, got str"),
        ((3, 1), ValueError, "one of each of 3, depth 1 first; got 2 of them"),
        ((3, -1, 2), ValueError, "integers >= 0, got -1 at depth 2; 0 leaves a block out"),
        ((3, 1.5, 2), TypeError, "rank must hold integers, got 1.5 at depth 2"),
        ((3, 1, True), TypeError, "rank must hold integers, got True at depth 3"),
        ((0, 0, 0), ValueError, "rank must leave a block its adapters, got none above 0"),
    ],
)
def test_what_is_no_rank_is_refused(base, rank, kind, message):
    with pytest.raises(kind, match=message):
        adapted(base, rank)


def test_a_rank_that_peft_has_not_made_is_noticed(base):
    depths = adapted(base, (3, 1, 2))
    path = "bert.encoder.layer.1.attention.self.query"
    check_ranks(depths.model, {path: 1}, 2.0)
    with pytest.raises(ModelError, match=r"query: LoRA of rank 2 scaled by 2 was wanted, and PEFT made one of rank 1"):
        check_ranks(depths.model, {path: 2}, 2.0)
    with pytest.raises(ModelError, match="scaled by 3 was wanted, and PEFT made one of rank 1 scaled by 2"):
        check_ranks(depths.model, {path: 1}, 3.0)
