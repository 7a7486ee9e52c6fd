"""Loading a classifier, turning texts into tensors, and predicting."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_checkpoint, save_config

from lola.profiling import ProfilingError
from lola.tasks.glue import Examples
from lola.tasks.texts import load_classifier

PAIRS = Examples(["w1 w2 w3", "w4", "w5 nobody w7 w8"], ["w9", "w10", "w11 w12"], np.array([0, 2, 1]))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("bert"))


def test_texts_become_tensors(bert):
    columns = load_classifier(bert, 3, seed=0).encode(PAIRS, 20)
    assert list(columns) == ["input_ids", "attention_mask", "token_type_ids", "labels"]
    assert all(column.dtype == torch.int64 for column in columns.values())
    # [CLS] 1, [SEP] 2, [UNK] 3; w0 is 5. Padded on the right with 0, to the longest.
    assert columns["input_ids"].tolist() == [
        [1, 6, 7, 8, 2, 14, 2, 0, 0],
        [1, 9, 2, 15, 2, 0, 0, 0, 0],
        [1, 10, 3, 12, 13, 2, 16, 17, 2],
    ]
    assert columns["attention_mask"].sum(dim=1).tolist() == [7, 5, 9]
    assert columns["token_type_ids"][0].tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0]
    assert columns["labels"].tolist() == [0, 2, 1]


def test_long_texts_are_cut_and_targets_stay_numbers(bert):
    classifier = load_classifier(bert, 1, seed=0)
    single = Examples(["w1 " * 30, "w2"], None, np.array([4.5, 0.25]))
    columns = classifier.encode(single, 8)
    assert columns["input_ids"].shape == (2, 8)
    assert columns["labels"].dtype == torch.float32
    assert columns["labels"].tolist() == [4.5, 0.25]
    output = classifier.model(**columns)
    wanted = ((output.logits[:, 0] - columns["labels"]) ** 2).mean()
    assert output.loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    with pytest.raises(ProfilingError, match="has 24 positions; shorten the sequence from 25"):
        classifier.encode(single, 25)
    with pytest.raises(ValueError, match="3 tokens are special ones, so a sequence must be longer; got 3"):
        classifier.encode(PAIRS, 3)


def test_many_texts_are_as_few(bert, monkeypatch):
    classifier = load_classifier(bert, 3, seed=0)
    whole = classifier.encode(PAIRS, 20)
    monkeypatch.setattr("lola.tasks.texts._CHUNK", 2)
    assert all(torch.equal(column, whole[name]) for name, column in classifier.encode(PAIRS, 20).items())


def test_roberta_pads_where_it_should_and_knows_no_second_text_type(tmp_path):
    classifier = load_classifier(save_checkpoint(tmp_path, "roberta"), 2, seed=0)
    columns = classifier.encode(PAIRS.take([1, 2]), 16)
    assert list(columns) == ["input_ids", "attention_mask", "labels"]
    assert columns["input_ids"][0].tolist() == [0, 9, 2, 15, 2, 1, 1, 1, 1]
    short = {name: column[:1, :5] for name, column in columns.items() if name != "labels"}
    alone = classifier.model(**short).logits.argmax(dim=1).tolist()
    assert classifier.predict(columns).tolist()[:1] == alone


@pytest.mark.parametrize("n_labels", [1, 3])
def test_predictions_come_in_the_order_of_the_rows(bert, n_labels):
    classifier = load_classifier(bert, n_labels, seed=0)
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 45, size=rng.integers(1, 18))) for _ in range(23)]
    examples = Examples(texts, None, np.zeros(23))
    columns = classifier.encode(examples, 20)
    with torch.no_grad():
        classifier.model.classifier.bias -= classifier.model(**columns).logits.mean(dim=0)  # no class always wins
    found = classifier.predict(columns, batch_size=4)
    single = [classifier.predict(classifier.encode(examples.take([row]), 20))[0] for row in range(23)]
    np.testing.assert_allclose(found, single, rtol=1e-4)
    assert len(set(np.round(found, 3).tolist())) > 1


def test_encoder_is_the_checkpoint_and_head_follows_the_seed(bert):
    first, again, other = (load_classifier(bert, 2, seed=seed).model.state_dict() for seed in (5, 5, 6))
    stored = load_file(f"{bert}/model.safetensors")
    for name, tensor in stored.items():
        assert torch.equal(first[f"bert.{name}"], tensor), name
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_a_head_that_fits_is_kept_and_another_is_replaced(bert, tmp_path):
    classifier = load_classifier(bert, 2, seed=5)
    classifier.model.save_pretrained(tmp_path)
    classifier.tokenizer.save_pretrained(tmp_path)
    kept = load_classifier(str(tmp_path), 2, seed=6).model.classifier.weight
    assert torch.equal(kept, classifier.model.classifier.weight)
    assert load_classifier(str(tmp_path), 3, seed=6).model.classifier.weight.shape == (3, 16)


def test_what_cannot_be_used_is_said(bert, tmp_path):
    with pytest.raises(ValueError, match="is a gpt2; texts are classified by an encoder: bert, roberta"):
        load_classifier(save_config(tmp_path / "gpt2", "gpt2"), 2, seed=0)
    with pytest.raises(ValueError, match="no model and tokenizer that transformers can read"):
        load_classifier(save_config(tmp_path / "bare", "bert"), 2, seed=0)
    with pytest.raises(ValueError, match="the folder has no config.json"):
        load_classifier(str(tmp_path), 2, seed=0)
    whole = load_file(f"{bert}/model.safetensors")
    half = tmp_path / "half"
    save_checkpoint(half)
    save_file({name: tensor for name, tensor in whole.items() if "layer.1" not in name}, half / "model.safetensors")
    with pytest.raises(ValueError, match=r"16 weights of the encoder are missing .*such as bert.encoder.layer.1"):
        load_classifier(str(half), 2, seed=0)
    (half / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="no model and tokenizer that transformers can read"):
        load_classifier(str(half), 2, seed=0)
    (half / "model.safetensors").unlink()
    torch.save(whole, half / "pytorch_model.bin")
    assert load_classifier(str(half), 2, seed=0).model.bert is not None
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (half / name).unlink()
    with pytest.raises(ValueError, match="the tokenizer knows 5 tokens, the model 50; its files are missing"):
        load_classifier(str(half), 2, seed=0)


@pytest.mark.parametrize(
    "name, text, reason",
    [
        ("tokenizer.json", "{}", "no model and tokenizer that transformers can read: KeyError: 'added_tokens'"),
        ("tokenizer.json", "[]", "no model and tokenizer that transformers can read: TypeError: "),
        ("tokenizer_config.json", "[]", "no model and tokenizer that transformers can read: AttributeError: "),
        (
            "tokenizer_config.json",
            '{"tokenizer_class": "Nope"}',
            "the tokenizer has no token to pad with; give it a pad",
        ),
        (
            "model.safetensors.index.json",
            "{}",
            "no model and tokenizer that transformers can read: KeyError: 'weight_m",
        ),
    ],
)
def test_strange_files_of_a_checkpoint_name_it(tmp_path, name, text, reason):
    folder = save_checkpoint(tmp_path)
    (tmp_path / name).write_text(text)
    if name.startswith("model"):
        (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=f"^{folder}: {reason}"):
        load_classifier(folder, 2, seed=0)


class Trap:
    """Unpickled, it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_code_of_a_checkpoint_is_run(tmp_path):
    save_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Trap(tmp_path / "trapped")}, protocol=2))
    with pytest.raises(ValueError, match="no model and tokenizer that transformers can read"):
        load_classifier(str(tmp_path), 2, seed=0)
    assert not (tmp_path / "trapped").exists()
