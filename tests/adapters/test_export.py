"""A fine-tuned model taken home: PEFT and transformers give what the trained model gave."""

import json
import warnings

import pytest
import torch
from cooperative import weights_of
from peft import PeftModel
from tiny_models import save_checkpoint
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertModel,
    DistilBertModel,
    OPTModel,
)

from lola.files.formats import FormatError
from lola.models import ModelError, attach_lora

IDS = torch.randint(5, 50, (6, 9), generator=torch.Generator().manual_seed(1))
SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "pad_token_id": 1}


def bert(folder):
    """An encoder that was saved without its pooler, which is drawn anew, frozen, wherever it is loaded."""
    save_checkpoint(folder)
    BertModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(folder)
    return AutoModelForSequenceClassification, {"num_labels": 3}, {}


def roberta(folder):
    save_checkpoint(folder, "roberta")
    return AutoModelForSequenceClassification, {"num_labels": 1}, {"targets": ["query", "key", "dense"]}


def distilbert(folder):
    """Its pre_classifier, which the encoder lacks, ends like the classifier: PEFT takes one for the other."""
    config = AutoConfig.for_model("distilbert", vocab_size=50, dim=16, hidden_dim=32, n_layers=2, n_heads=2)
    DistilBertModel(config).save_pretrained(folder)
    return AutoModelForSequenceClassification, {}, {"blocks": "distilbert.transformer.layer", "targets": ["q_lin"]}


def opt(folder):
    config = AutoConfig.for_model("opt", **SMALL, ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=24)
    OPTModel(config).save_pretrained(folder)
    return AutoModelForSequenceClassification, {}, {"blocks": "model.decoder.layers", "targets": ["v_proj"]}


def gpt2(folder):
    """Conv1D, which keeps its weight transposed; embeddings that are tied; no head to train."""
    save_checkpoint(folder, "gpt2")
    return AutoModelForCausalLM, {}, {}


def frozen_head(folder):
    save_checkpoint(folder)
    return AutoModelForSequenceClassification, {}, {"train_head": False}


def load(automatic, *arguments, **options):
    return automatic.from_pretrained(*arguments, attn_implementation="eager", **options)


def adapted(folder, make):
    """Return a model's class and options, and its depths as if they were trained."""
    torch.manual_seed(0)
    automatic, options, changes = make(folder)
    model = load(automatic, folder, **options)
    blocks = changes.pop("blocks", None)
    depths = attach_lora(model, rank=4, alpha=5, blocks=blocks and list(model.get_submodule(blocks)), **changes)
    with torch.no_grad():
        for parameter in depths.all_parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return automatic, options, depths


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def on_base(base, folder):
    """Load with PEFT. A key that is missing would be a warning, and so an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # peft asks transformers by an old name
        return PeftModel.from_pretrained(base, folder)


@pytest.mark.parametrize("make", [bert, roberta, distilbert, opt, gpt2, frozen_head])
def test_what_comes_home_is_what_was_trained(tmp_path, make):
    automatic, options, depths = adapted(tmp_path / "base", make)
    depths.model.train()
    before = weights_of(depths), {name: p.requires_grad for name, p in depths.model.named_parameters()}
    state = torch.get_rng_state()
    assert depths.save_pretrained(tmp_path / "adapter") == tmp_path / "adapter"
    depths.save_pretrained(tmp_path / "whole", merged=True)
    assert torch.equal(state, torch.get_rng_state())
    assert depths.model.training
    assert all(map(torch.equal, before[0], weights_of(depths)))
    assert before[1] == {name: p.requires_grad for name, p in depths.model.named_parameters()}
    wanted = logits(depths.model)
    assert wanted.std() > 0.01
    base = load(automatic, tmp_path / "base", **options)
    assert not torch.allclose(logits(base), wanted, atol=1e-3)
    assert torch.equal(logits(on_base(base, tmp_path / "adapter")), wanted)
    torch.testing.assert_close(logits(load(automatic, tmp_path / "whole")), wanted, rtol=0, atol=1e-5)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 5.0)
    assert config["base_model_name_or_path"] == str(tmp_path / "base")
    assert config["target_modules"] == sorted(config["target_modules"])
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter", "whole"}


def test_what_the_base_lacks_is_kept_and_nothing_else(tmp_path):
    for make, wanted in (
        (bert, ["bert.pooler.dense", "classifier"]),
        (roberta, ["classifier"]),
        (distilbert, ["classifier", "pre_classifier"]),
        (opt, ["score"]),
        (gpt2, None),
    ):
        _, _, depths = adapted(tmp_path / make.__name__, make)
        out = depths.save_pretrained(tmp_path / f"{make.__name__}-out")
        kept = json.loads((out / "adapter_config.json").read_text())["modules_to_save"]
        assert (kept and sorted(kept)) == wanted


def test_a_tokenizer_and_a_card_go_beside_it(tmp_path):
    from transformers import AutoTokenizer

    _, _, depths = adapted(tmp_path / "base", bert)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    out = depths.save_pretrained(tmp_path / "out", tokenizer=tokenizer, card="# Mine")
    assert (out / "README.md").read_text() == "# Mine"
    assert AutoTokenizer.from_pretrained(out)("w1 w2")["input_ids"] == tokenizer("w1 w2")["input_ids"]


def test_what_cannot_go_home_is_refused_and_leaves_nothing(tmp_path):
    _, _, depths = adapted(tmp_path / "base", bert)
    full = tmp_path / "full"
    full.mkdir()
    (full / "photo").touch()
    for merged in (False, True):
        with pytest.raises(FormatError, match=f"{full}: holds something already; name a new folder"):
            depths.save_pretrained(full, merged=merged)
        with pytest.raises(ValueError, match="the folder to write into does not exist"):
            depths.save_pretrained(tmp_path / "no" / "out", merged=merged)
    (full / "photo").unlink()
    weight = depths.model.get_submodule("bert.encoder.layer.1.attention.self.query.base_layer").weight
    with torch.no_grad():
        weight += 1
    message = r"1.attention.self.query.weight is not what .*base has; export the whole model, merged=True"
    with pytest.raises(ModelError, match=message):
        depths.save_pretrained(tmp_path / "out")
    (tmp_path / "base" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="the adapter's base cannot be loaded; export the whole model, merged=True: "):
        depths.save_pretrained(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"base", "full"}
    depths.save_pretrained(full, merged=True)  # an empty folder is as good as a new one
    whole = load(AutoModelForSequenceClassification, full)
    torch.testing.assert_close(logits(whole), logits(depths.model), rtol=0, atol=1e-5)


class Plain(torch.nn.Module):
    """A module of one's own, which transformers does not know."""

    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Sequential(torch.nn.Linear(4, 4)) for _ in range(2))
        self.classifier = torch.nn.Linear(4, 2)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.classifier(x)


def test_a_module_of_ones_own_goes_home_as_an_adapter(tmp_path):
    torch.manual_seed(0)
    model, base = Plain(), Plain()
    base.blocks.load_state_dict(model.blocks.state_dict())  # its maker has kept these, but not the head
    depths = attach_lora(model, blocks=list(model.blocks), targets=["0"], zero_init=False)
    with pytest.raises(ModelError, match="is written by transformers, and Plain is none of its models"):
        depths.save_pretrained(tmp_path / "out", merged=True)
    depths.save_pretrained(tmp_path / "out")
    x = torch.randn(3, 4)
    assert not torch.equal(base(x), model(x))
    assert torch.equal(on_base(base, tmp_path / "out")(x), model(x))
