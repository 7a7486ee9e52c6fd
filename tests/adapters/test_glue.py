"""Reading GLUE in both layouts, and its scores against values computed by hand."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from lola.files.formats import FormatError
from lola.tasks.glue import GLUE, read_glue, score

# For each task: GLUE's own file, the plain one, and what both say.
PAIR = 'She said "no.\tHe "agreed'
FILES = {
    "cola": ("gj04\t1\t\tIt works.\nks08\t0\t*\tIt work.\n", "It works.\t\t1\n", "It work.\t\t0\n"),
    "sst2": ("sentence\tlabel\ngood \t1\nbad \t0\n", "good \t\t1\n", "bad \t\t0\n"),
    "mrpc": (
        f"Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t70\t71\t{PAIR}\n0\t72\t73\tc\td\n",
        f"{PAIR}\t1\n",
        "c\td\t0\n",
    ),
    "rte": (
        f"index\tsentence1\tsentence2\tlabel\n0\t{PAIR}\tnot_entailment\n1\tc\td\tentailment\n",
        f"{PAIR}\tnot_entailment\n",
        "c\td\tentailment\n",
    ),
    "qnli": (
        f"index\tquestion\tsentence\tlabel\n0\t{PAIR}\tnot_entailment\n1\tc\td\tentailment\n",
        f"{PAIR}\tnot_entailment\n",
        "c\td\tentailment\n",
    ),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        f"0\tnews\tf\t2012\t1\tnone\tnone\t{PAIR}\t4.25\n1\tnews\tf\t2012\t2\tnone\tnone\tc\td\t0.000\n",
        f"{PAIR}\t4.25\n",
        "c\td\t0.0\n",
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
        f"9\t1\t2\t{PAIR}\t1\n5\t3\t4\tbroken by a line end\nwithin\t0\n8\t5\t6\tc\td\t0\n",
        f"{PAIR}\t1\n",
        "c\td\t0\n",
    ),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
        "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
        f"0\tp\tq\tg\t( b )\t( b )\t( p )\t( p )\t{PAIR}\tneutral\tneutral\n"
        "1\tp\tq\tg\t( b )\t( b )\t( p )\t( p )\tc\td\tneutral\tcontradiction\n",
        f"{PAIR}\tneutral\n",
        "c\td\tcontradiction\n",
    ),
}
WANTED = {
    "cola": (["It works.", "It work."], None, [1, 0]),
    "sst2": (["good ", "bad "], None, [1, 0]),
    "mrpc": (['She said "no.', "c"], ['He "agreed', "d"], [1, 0]),
    "rte": (['She said "no.', "c"], ['He "agreed', "d"], [1, 0]),
    "qnli": (['She said "no.', "c"], ['He "agreed', "d"], [1, 0]),
    "stsb": (['She said "no.', "c"], ['He "agreed', "d"], [4.25, 0.0]),
    "qqp": (['She said "no.', "c"], ['He "agreed', "d"], [1, 0]),
    "mnli": (['She said "no.', "c"], ['He "agreed', "d"], [1, 2]),
}
PLAIN = "idx\tsentence1\tsentence2\tlabel\n"
every_task = pytest.mark.parametrize("task", list(GLUE))


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8", newline="")
    return folder


@every_task
@pytest.mark.parametrize("layout", ["own", "plain", "own, with a byte order mark and CRLF"])
def test_both_layouts_say_the_same(tmp_path, task, layout):
    own, *rows = FILES[task]
    text = PLAIN + "".join(f"{i}\t{row}" for i, row in enumerate(rows)) if layout == "plain" else own
    if "CRLF" in layout:
        text = "\ufeff" + text.replace("\n", "\r\n")
    split = "dev_matched" if task == "mnli" else "dev"
    write(tmp_path / GLUE[task].folder, train=text, **{split: text}, dev_mismatched="not read")
    for data in (tmp_path, tmp_path / GLUE[task].folder):
        found = read_glue(task, data)
        for examples in (found.train, found.dev):
            first, second, labels = WANTED[task]
            assert list(examples.first) == first
            assert (None if examples.second is None else list(examples.second)) == second
            assert examples.labels.tolist() == labels
            assert examples.labels.dtype == (np.float64 if task == "stsb" else np.int64)
        assert found.source == f"train.tsv and {split}.tsv of {tmp_path / GLUE[task].folder}"


def test_without_a_dev_split_a_tenth_is_held_out(tmp_path):
    write(tmp_path, train_part=PLAIN + "".join(f"{i}\ta{i}\tb{i}\t{i % 2}\n" for i in range(40)))
    found, again, other = (read_glue("qqp", tmp_path, seed=seed) for seed in (3, 3, 4))
    assert (len(found.train), len(found.dev)) == (36, 4)
    assert sorted([*found.train.first, *found.dev.first]) == sorted(f"a{i}" for i in range(40))
    assert [text[1:] for text in found.dev.first] == [text[1:] for text in found.dev.second]
    assert found.dev.labels.tolist() == [int(text[1:]) % 2 for text in found.dev.first]
    assert list(found.dev.first) == list(again.dev.first) != list(other.dev.first)
    assert "(4 of 40 rows, drawn with seed 3, are the dev split: there is no dev*.tsv)" in found.source
    write(tmp_path, train_part=PLAIN + "0\ta\tb\t1\n")
    with pytest.raises(FormatError, match=r"train_part.tsv: one row cannot be split"):
        read_glue("qqp", tmp_path)


ROWS = {
    "cola": (8551, 1043, 0.70, 0.69),
    "mrpc": (3668, 408, 0.67, 0.68),
    "rte": (2490, 277, 0.50, 0.47),
    "stsb": (5749, 1500, 2.70, 2.36),
    "sst2": (67349, 872, 0.56, 0.51),
    "qnli": (9999, 5463, 0.50, 0.51),
    "mnli": (9999, 9815, 1.00, 0.97),
    "qqp": (9000, 999, 0.37, 0.37),
}


@every_task
def test_real_data(shared_data, task):
    found = read_glue(task, shared_data / "glue")
    n_train, n_dev, train_mean, dev_mean = ROWS[task]
    assert (len(found.train), len(found.dev)) == (n_train, n_dev)
    assert found.train.labels.mean() == pytest.approx(train_mean, abs=0.03)
    assert found.dev.labels.mean() == pytest.approx(dev_mean, abs=0.03)


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("mrpc", PLAIN + "0\ta\tb\t1\n1\ta\tb\n", r"train.tsv, line 3: 4 columns are needed, got 3"),
        ("mrpc", PLAIN + "0\ta\tb\t1\t\n", r"train.tsv, line 2: 4 columns are needed, got 5"),
        ("qqp", PLAIN + "0\ta\tb\n", r"train.tsv, line 2: 4 columns are needed, got 3"),
        ("cola", "s\t1\t\ta\ns\t1\ta\n", r"train.tsv, line 2: 4 columns are needed, got 3"),
        ("cola", "s\t1\t\ta\ns\t2\t\ta\n", r"train.tsv, line 2: the label must be one of 0, 1; got '2'"),
        ("rte", PLAIN + "0\ta\tb\tmaybe\n", "line 2: the label must be one of entailment, not_entailment; got 'maybe'"),
        ("stsb", PLAIN + "0\ta\tb\t5.1\n", r"line 2: the label must be a number from 0 to 5; got '5.1'"),
        ("stsb", PLAIN + "0\ta\tb\tnan\n", r"line 2: the label must be a number from 0 to 5; got 'nan'"),
        ("stsb", PLAIN + "0\ta\tb\thigh\n", r"line 2: the label must be a number from 0 to 5; got 'high'"),
        (
            "sst2",
            "text\tlabel\na\t1\n",
            r"line 1: no columns of sst2; wanted idx, .*among which are sentence, label; g",
        ),
        ("mrpc", "a\tb\n", r"among which are #1 String, #2 String, Quality; got a, b"),
        ("mrpc", "", r"train.tsv: the file is empty; its first line must name the columns"),
        ("mrpc", PLAIN, r"train.tsv: no row after the first line"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path, task, text, message):
    write(tmp_path, train=text)
    with pytest.raises(FormatError, match=message):
        read_glue(task, tmp_path)


def test_missing_files_and_other_encodings_are_named(tmp_path):
    with pytest.raises(FormatError, match="nowhere: is not a folder; name the one that GLUE was unpacked to, or hub"):
        read_glue("rte", tmp_path / "nowhere")
    with pytest.raises(FormatError, match=r"no data of rte; looked for train\*.tsv in it and in RTE/"):
        read_glue("rte", tmp_path)
    (tmp_path / "train.tsv").write_bytes((PLAIN + "0\tcaf").encode() + b"\xe9\tb\tentailment\n")
    with pytest.raises(FormatError, match=r"train.tsv: not UTF-8 text at byte \d+; save it as UTF-8"):
        read_glue("rte", tmp_path)
    with pytest.raises(ValueError, match="task must be one of cola, mrpc, .*; got 'wnli'"):
        read_glue("wnli", tmp_path)


def test_the_hub_is_read_by_the_package_datasets(monkeypatch):
    """A stand-in for the package, because the hub is out of a test's reach; columns as the hub's copy has them."""
    asked = []

    def load_dataset(name, task):
        asked.append((name, task))
        if task == "rte":
            raise ConnectionError("no network\nat all")
        if task == "mnli":
            split = {"premise": ["a"], "hypothesis": ["b"], "label": [2], "idx": [0]}
            return {"train": split, "validation_matched": split, "validation_mismatched": None}
        split = {"sentence": ["a", "b"], "label": [0, 1], "idx": [0, 1]}
        return {"train": split, "validation": split}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    found = read_glue("cola", "hub")
    assert (found.train.first, found.train.second, found.dev.labels.tolist()) == (["a", "b"], None, [0, 1])
    found = read_glue("mnli", "hub")
    assert (found.dev.first, found.dev.second, found.dev.labels.tolist()) == (["a"], ["b"], [2])
    assert found.source == "train and validation_matched of nyu-mll/glue"
    assert asked == [("nyu-mll/glue", "cola"), ("nyu-mll/glue", "mnli")]
    with pytest.raises(ValueError, match="nyu-mll/glue is not to be had: no network; name a folder of downloaded"):
        read_glue("rte", "hub")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="needs the package datasets: install it, or name a folder"):
        read_glue("rte", "hub")


@pytest.mark.parametrize(
    ("task", "predictions", "labels", "wanted"),
    [
        # Three true positives, one false positive, two false negatives, two true negatives.
        (
            "mrpc",
            [1, 1, 1, 1, 0, 0, 0, 0],
            [1, 1, 1, 0, 1, 1, 0, 0],
            {"accuracy": 5 / 8, "f1": 6 / 9},
        ),
        (
            "cola",
            [1, 1, 1, 1, 0, 0, 0, 0],
            [1, 1, 1, 0, 1, 1, 0, 0],
            {"matthews": (3 * 2 - 1 * 2) / math.sqrt(4 * 5 * 3 * 4)},
        ),
        ("mnli", [0, 1, 2, 2], [0, 1, 1, 2], {"accuracy": 3 / 4}),
        # Deviations from the mean are (−1, −2, 0, 3) and (−1.5, −0.5, 0.5, 1.5), ranks 2, 1, 3, 4 and 1, 2, 3, 4.
        (
            "stsb",
            [2.0, 1.0, 3.0, 6.0],
            [1.0, 2.0, 3.0, 4.0],
            {"pearson": 7 / math.sqrt(5 * 14), "spearman": 1 - 6 * 2 / (4 * 15)},
        ),
        ("qqp", [0, 0], [0, 1], {"accuracy": 0.5, "f1": 0.0}),  # nothing is predicted to be a duplicate
        ("cola", [1, 1], [1, 1], {"matthews": 0.0}),
    ],
)
def test_scores_by_hand(task, predictions, labels, wanted):
    found = score(task, predictions, labels)
    assert list(found) == list(wanted) == list(GLUE[task].metrics)
    assert found == pytest.approx(wanted, rel=1e-12)


def test_scores_that_do_not_exist():
    for predictions in ([1.0, 1.0, 1.0], [1.0, math.nan, 2.0], [1.0, math.inf, 2.0]):
        assert all(math.isnan(value) for value in score("stsb", predictions, [1.0, 2.0, 3.0]).values())
    assert all(math.isnan(value) for value in score("stsb", [1.0], [1.0]).values())
    with pytest.raises(ValueError, match=r"equally many, at least one; got shapes \(2,\) and \(3,\)"):
        score("cola", [1, 0], [1, 0, 1])
    with pytest.raises(ValueError, match="equally many, at least one"):
        score("cola", [], [])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match="install lola-deft with its extra 'train'"):
        score("cola", [1], [1])
