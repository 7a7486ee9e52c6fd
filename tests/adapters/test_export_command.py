"""What ``lola train`` leaves and ``lola export`` writes, loaded by PEFT and by transformers in a fresh process."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from nonsense import arguments, make_place
from safetensors.torch import load_file, save_file
from tiny_models import save_config

import lola
from lola.cli.main import main
from lola.tasks import read_glue

ROOT = Path(__file__).resolve().parents[2]
# Loads models as their cards say, each in its folder, and scores them on a dev split without lola.
SCORE = """
import csv, json, os, sys
import torch
from sklearn.metrics import accuracy_score, f1_score

cards, dev, length = json.loads(sys.argv[1])
with open(dev, encoding="utf-8") as file:
    rows = list(csv.DictReader(file, delimiter="\\t", quoting=csv.QUOTE_NONE))
labels = [int(row["label"]) for row in rows]
for folder, code in cards:
    os.chdir(folder)
    exec(code)
    predicted = []
    with torch.no_grad():
        for row in rows:
            pair = row["sentence1"], row["sentence2"]
            tokens = tokenizer(*pair, truncation=True, max_length=length, return_tensors="pt")
            predicted.append(int(model(**tokens).logits.argmax()))
    found = {"accuracy": accuracy_score(labels, predicted), "f1": f1_score(labels, predicted)}
    print(json.dumps({"scores": found, "classes": len(set(predicted)), "lola": "lola" in sys.modules}))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"))


def scored_elsewhere(dev, length, *folders):
    """Score the models in folders in a process of its own, by the code of their cards."""
    texts = {str(folder): (folder / "README.md").read_text() for folder in folders}
    codes = [(name, *re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)) for name, text in texts.items()]
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", SCORE, json.dumps([codes, str(dev), length])],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def signed(checkpoint, old, new):
    """Edit a checkpoint's state and make its digests fit."""
    state = checkpoint / "state.json"
    text, count = re.subn(old, new, state.read_text())
    assert count == 1
    state.write_text(text)
    names = [line.split()[1] for line in (checkpoint / "SHA256SUMS").read_text().splitlines()]
    done = subprocess.run(["sha256sum", *names], cwd=checkpoint, check=True, capture_output=True, text=True)
    (checkpoint / "SHA256SUMS").write_text(done.stdout)


def small_encoder(folder, texts):
    """Save an encoder without a pooler whose words are the most frequent of some texts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    counts = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text.lower()))
    words = {word: i for i, word in enumerate([*special, *(word for word, _ in counts.most_common(3000))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    changes = {"vocab_size": len(words), "hidden_size": 32, "max_position_embeddings": 64, "initializer_range": 0.2}
    config = AutoConfig.from_pretrained(save_config(folder, "bert", **changes))
    torch.manual_seed(3)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "unk", "pad", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def test_on_mrpc_the_dev_score_is_the_one_that_the_run_reported(shared_data, tmp_path):
    data, out, whole = shared_data / "glue", tmp_path / "run", tmp_path / "whole"
    train = read_glue("mrpc", data).train
    small_encoder(tmp_path / "encoder", [*train.first, *train.second])
    options = ["--model", tmp_path / "encoder", "--task", "mrpc", "--data", data, "--out", out, "--rounds", 4]
    options += ["--batch", 16, "--seq", 40, "--lr", 0.001, "--threads", 1]
    assert main(["train", *map(str, options)]) == 0
    assert main(["export", str(out), "--out", str(whole), "--merged"]) == 0
    reported = json.loads((out / "summary.json").read_text())["scores"]
    assert set(reported) == {"accuracy", "f1"}
    wanted = {"scores": pytest.approx(reported, abs=1e-12), "classes": 2, "lola": False}
    assert scored_elsewhere(data / "MRPC" / "dev.tsv", 40, out / "model", whole) == [wanted, wanted]


def test_a_run_leaves_its_model_and_any_checkpoint_goes_home(place, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(arguments(place, out)) == 0
    said = capsys.readouterr().out
    assert f"the model: {out / 'model'}, for PEFT; lola export makes one for transformers alone" in said
    assert not list(out.glob(".draft*"))
    scores = json.loads((out / "summary.json").read_text())["scores"]
    (found,) = scored_elsewhere(place / "MRPC" / "dev.tsv", 16, out / "model")
    assert found["scores"] == pytest.approx(scores)
    card = (out / "model" / "README.md").read_text()
    for text in (
        "in 6 rounds, which take",
        "| on the dev split, after round 6 | |",
        f"| accuracy | {scores['accuracy']:.4f} |",
        "| method | jbba |",
        "| lr | 0.01 |",
        "| profile | model, batch 8, sequence 16, float32: estimated, snapdragon-8-gen-3 at 1.5 TFLOP/s",
        "num_labels=2",
        "| model | model |",
        f"| data | {place.name} |",
        "| fleet | fleet.csv |",
        "while adapter_config.json says in base_model_name_or_path where model lies:",
        f"By lola {lola.__version__}, with LoRA",
        "\nClass 0: not equivalent.\nClass 1: equivalent.\n",
        "Where transformers says that `classifier.weight` is MISSING from the base: PEFT puts this folder's there.",
    ):
        assert text in card
    assert str(place) not in card
    assert main(["export", str(out), "--out", str(tmp_path / "same")]) == 0
    assert f"written: {tmp_path / 'same'}, of round-000006" in capsys.readouterr().out
    for path in (out / "model").iterdir():
        assert (tmp_path / "same" / path.name).read_bytes() == path.read_bytes(), path.name
    assert main(["export", str(out), "--out", str(tmp_path / "earlier"), "--round", "4"]) == 0
    assert "in 4 rounds, which take" in (tmp_path / "earlier" / "README.md").read_text()
    adapters = {name: load_file(tmp_path / name / "adapter_model.safetensors") for name in ("same", "earlier")}
    stored = load_file(out / "round-000004" / "weights.safetensors")
    for name, value in stored.items():
        kept = adapters["earlier"][f"base_model.model.{name.replace('.default', '')}"]
        assert torch.equal(kept, value)
    assert not torch.equal(adapters["same"]["base_model.model.classifier.weight"], stored["classifier.weight"])


def test_export_names_all_packages_that_are_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lola.cli.common.find_spec", lambda name: None if name in ("peft", "filelock") else True)
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "new")]) == 64
    assert "packages that are missing, peft, filelock: install lola-deft[torch]" in capsys.readouterr().err


def test_what_export_cannot_do_is_said(place, tmp_path, capsys):
    out, new = tmp_path / "out", tmp_path / "new"
    assert main(arguments(place, out)) == 0
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    for folder, more, message in (
        (out, ("--out", out / "model"), f"{out / 'model'}: holds something already; name a new folder"),
        (out, ("--out", place / "fleet.csv"), "fleet.csv: holds something already; name a new folder"),
        (out, ("--out", tmp_path / "no" / "new"), "the folder to write into does not exist"),
        (out, ("--out", new, "--round", 3), f"{out}: has checkpoints of rounds 4, 6, got 3; take one"),
        (tmp_path / "empty", ("--out", new), "empty: holds no checkpoint; name a folder that lola train wrote"),
    ):
        assert main(["export", str(folder), *map(str, more)]) == 64
        assert message in capsys.readouterr().err
        assert not new.exists()
    settings = out / "settings.json"
    settings.write_text(settings.read_text().replace('"rank": 8', '"rank": 4'))
    assert main(["export", str(out), "--out", str(new)]) == 64
    assert "round-000006: the checkpoint is of another model" in capsys.readouterr().err
    (out / "round-000006" / "weights.safetensors").write_bytes(b"")
    assert main(["export", str(out), "--out", str(new)]) == 64
    assert "its files are not what was written: SHA256SUMS has other digests; take another" in capsys.readouterr().err
    settings.write_text(settings.read_text().replace('"rank"', '"rang"'))
    assert main(["export", str(out), "--out", str(new)]) == 64
    assert "settings.json: unknown key 'rang'. Did you mean 'rank'?" in capsys.readouterr().err
    assert not new.exists()


def test_adapters_are_packed_onto_no_other_base(place, tmp_path, capsys):
    """Neither onto other words than the run had, nor onto another frozen head, which is drawn and in no file."""
    base, out, new = tmp_path / "model", tmp_path / "out", tmp_path / "new"
    shutil.copytree(place / "model", base)
    assert main(arguments(place, out, "--model", base, "--freeze-head", rounds=2)) == 0
    whole = (base / "model.safetensors").read_bytes()
    weights = load_file(base / "model.safetensors")
    (words,) = [name for name in weights if name.endswith("word_embeddings.weight")]
    weights[words] += 1.0
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    settings = out / "settings.json"
    said = "round-000002: the checkpoint's adapters were trained on other frozen weights than the model has now"
    assert main(["export", str(out), "--out", str(new)]) == 64
    assert said in capsys.readouterr().err
    (base / "model.safetensors").write_bytes(whole)
    seed_0 = settings.read_text()
    settings.write_text(seed_0.replace('"seed": 0', '"seed": 1'))
    assert main(["export", str(out), "--out", str(new)]) == 64
    assert said in capsys.readouterr().err
    settings.write_text(seed_0)
    assert not new.exists()
    signed(out / "round-000002", r',\s*"frozen": "\w+"', "")  # as older versions wrote it
    with pytest.warns(UserWarning, match="has no digest of the frozen weights.* see that the model's folder is"):
        assert main(["export", str(out), "--out", str(new)]) == 0


def test_a_run_keeps_what_is_not_its_model(place, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(arguments(place, out)) == 0
    (out / "model" / "adapter_config.json").unlink()
    assert main(arguments(place, out, rounds=8)) == 64
    said = f"{out / 'model'}: should be what lola wrote there, and holds something else, or what was changed since"
    assert said in capsys.readouterr().err
    assert (out / "round-000006").is_dir()
    (out / "model").rename(tmp_path / "mine")
    assert main(arguments(place, out, rounds=8)) == 0
    card = (out / "model" / "README.md").read_text()
    assert "in 8 rounds" in card
    for mine in ("README.md", "notes/mine.txt"):  # a card of one's own, a file of one's own
        (out / "model" / mine).parent.mkdir(exist_ok=True)
        (out / "model" / mine).write_text("mine")
        assert main(arguments(place, out, rounds=9)) == 64
        assert said in capsys.readouterr().err
        assert (out / "model" / mine).read_text() == "mine"
        (out / "model" / "README.md").write_text(card)


@pytest.mark.parametrize("method", ["jbba-dual-ascent", "ba-crunch"])
def test_with_a_frozen_head_the_published_methods_train(place, tmp_path, method):
    out = tmp_path / "out"
    assert main(arguments(place, out, "--freeze-head", "--method", method, rounds=2)) == 0
    stored = load_file(out / "round-000002" / "weights.safetensors")
    assert stored
    assert all("lora_" in name for name in stored)
    scores = json.loads((out / "summary.json").read_text())["scores"]
    (found,) = scored_elsewhere(place / "MRPC" / "dev.tsv", 16, out / "model")
    assert found["scores"] == pytest.approx(scores)


KILLED = """
import os, signal, sys
from lola.models import export
from lola.cli.main import main

def dies(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(export, sys.argv.pop(1), dies)
main()
"""


@pytest.mark.parametrize("moment", ["_write_adapter", "write_atomically"])
def test_killed_while_it_takes_the_model_home_a_run_goes_on_well(place, tmp_path, moment):
    """Before a file is written, and when the card alone is missing."""
    out, straight = tmp_path / "out", tmp_path / "straight"
    assert main(arguments(place, straight, rounds=2)) == 0
    done = subprocess.run(
        [sys.executable, "-c", KILLED, moment, *arguments(place, out, rounds=2)], cwd=ROOT, check=False
    )
    assert done.returncode == -9
    assert (out / ".draft-.new-model").is_dir()
    assert not (out / "model").exists()
    assert main(arguments(place, out, rounds=2)) == 0
    assert not list(out.glob(".*model*"))
    for name in ("metrics.csv", "summary.json", "model/adapter_model.safetensors", "model/README.md"):
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name


@pytest.mark.parametrize("moment", ["_write_adapter", "write_atomically"])
def test_killed_while_it_writes_a_later_model_a_run_still_has_the_one_before(place, tmp_path, moment):
    out = tmp_path / "out"
    assert main(arguments(place, out, rounds=2)) == 0
    before = {path.name: path.read_bytes() for path in (out / "model").iterdir()}
    later = [sys.executable, "-c", KILLED, moment, *arguments(place, out, rounds=4)]
    assert subprocess.run(later, cwd=ROOT, check=False).returncode == -9
    assert {path.name: path.read_bytes() for path in (out / "model").iterdir()} == before
    assert main(arguments(place, out, rounds=4)) == 0
    assert "in 4 rounds" in (out / "model" / "README.md").read_text()
    assert not list(out.glob(".*model*"))


def test_an_older_run_without_the_newer_settings_goes_on_and_goes_home(place, tmp_path):
    out = tmp_path / "out"
    assert main(arguments(place, out, rounds=2)) == 0
    settings = json.loads((out / "settings.json").read_text())
    del settings["freeze_head"], settings["lora_alpha"]
    (out / "settings.json").write_text(json.dumps(settings))
    assert main(["export", str(out), "--out", str(tmp_path / "home")]) == 0
    assert main(arguments(place, out, rounds=4)) == 0
