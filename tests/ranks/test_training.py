"""Blocks whose ranks differ: trained over rounds, kept, sent, gone on with, and taken home by PEFT."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from cooperative import tiny_columns, tiny_problem, weights_of
from peft import PeftModel
from safetensors.torch import load_file
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
    assert adapted(base, list(np.array([3, 1, 2]))).rank == (3, 1, 2)
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
    assert depths.trained == (1, 3)
    assert [depths.upload_bits(depth) / 32 for depth in (1, 2)] == [3 * A_RANK, 2 * A_RANK]
    assert not any("lora_" in name for name, _ in layers[1].named_parameters())
    assert adapted(base, (0, 2, 2), train_head=False).rank == 2
    head_alone = adapted(base, (0, 2, 2))
    assert (len(head_alone), head_alone.rank, head_alone.trained) == (3, (0, 2, 2), (1, 2, 3))
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
        ((3, 1), ValueError, "one of each of 3, depth 1 first, got 2 of them; give each its rank"),
        ((3, -1, 2), ValueError, "integers >= 0, got -1 at depth 2; 0 leaves a block out"),
        ((3, 1.5, 2), TypeError, "rank must hold integers, got 1.5 at depth 2"),
        ((3, 1, True), TypeError, "rank must hold integers, got True at depth 3"),
        ((3, 1, np.True_), TypeError, r"rank must hold integers, got np.True_ at depth 3"),
        (
            (3, 10**30, 2),
            ValueError,
            r"rank must hold integers up to 2\*\*53, got one of 100 bits at depth 2; lower it",
        ),
        ((3, 1, -(10**5000)), ValueError, "rank must hold integers >= 0, got .* at depth 3; 0 leaves a block out"),
        (10**30, ValueError, r"rank must be at most 2\*\*53, got one of 100 bits"),
        ((0, 0, 0), ValueError, "rank must leave a block its adapters, got none above 0"),
    ],
)
def test_what_is_no_rank_is_refused(base, rank, kind, message):
    with pytest.raises(kind, match=message):
        adapted(base, rank)


def test_an_adapter_that_peft_has_not_made_is_noticed(base):
    depths = adapted(base, (3, 1, 2))
    paths = [name for name, module in depths.model.named_modules() if hasattr(module, "lora_A")]
    rank_of = {path: {"0": 2, "1": 1, "2": 3}[path.split(".")[3]] for path in paths}
    path = "bert.encoder.layer.1.attention.self.query"
    check_ranks(depths.model, rank_of, 2.0)
    with pytest.raises(ModelError, match=r"query: LoRA of rank 2 scaled by 2 was wanted, and PEFT made one of rank 1"):
        check_ranks(depths.model, rank_of | {path: 2}, 2.0)
    with pytest.raises(ModelError, match="scaled by 3 was wanted, and PEFT made one of rank 2 scaled by 2"):
        check_ranks(depths.model, rank_of, 3.0)
    with pytest.raises(ModelError, match=r"in 7 modules was wanted, and PEFT adapted 6, which differ in bert.pooler"):
        check_ranks(depths.model, rank_of | {"bert.pooler": 1}, 2.0)
    rank_of.pop(path)
    with pytest.raises(ModelError, match=f"in 5 modules was wanted, and PEFT adapted 6, which differ in {path}; load"):
        check_ranks(depths.model, rank_of, 2.0)


class Twofold(torch.nn.Module):
    """Blocks, and beside them others of the same names, which nobody asks to adapt."""

    def __init__(self, n_blocks):
        super().__init__()
        self.layer = torch.nn.ModuleList(
            torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in ("query", "value")}) for _ in range(n_blocks)
        )
        self.aux = torch.nn.ModuleDict({"layer": copy.deepcopy(self.layer)})

    def forward(self, x):
        for block in (*self.layer, *self.aux["layer"]):
            x = x + torch.tanh(block["query"](x)) * block["value"](x)
        return x


@pytest.mark.parametrize("rank", [2, (1, 0, 2), (1, *[2] * 11)])  # of 20 targets and more, PEFT shortens the list
def test_no_module_is_adapted_that_nobody_asks_for(tmp_path, rank):
    torch.manual_seed(0)
    n_blocks = 3 if isinstance(rank, int) else len(rank)
    model = Twofold(n_blocks)
    base = copy.deepcopy(model)
    depths = attach_lora(model, rank=rank, targets=["query", "value"], blocks=list(model.layer), zero_init=False)
    trained = depths.all_named_parameters()
    assert set(trained) == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert not any(name.startswith("aux") for name in trained)
    depths.save_pretrained(tmp_path / "adapter")
    x = torch.randn(5, 4)
    assert torch.equal(PeftModel.from_pretrained(base, tmp_path / "adapter")(x), model(x))
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {name.removeprefix("base_model.model.").replace(".weight", ".default.weight") for name in stored} == set(
        trained
    )


def test_an_adapter_of_a_usual_model_lists_its_modules_and_excludes_none(base, tmp_path):
    config = json.loads((adapted(base, (3, 0, 2)).save_pretrained(tmp_path / "a") / "adapter_config.json").read_text())
    assert config["target_modules"] == [
        f"bert.encoder.layer.{i}.attention.self.{name}" for i in (0, 2) for name in ("query", "value")
    ]
    assert config["exclude_modules"] is None
