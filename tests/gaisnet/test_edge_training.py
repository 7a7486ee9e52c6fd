"""The training behind the page of GaisNet's questions, on a tiny model and a few rows."""

import edge_training
import numpy as np
import pytest
from tiny_models import save_checkpoint

from lola.tasks.glue import GLUE, Examples

COLUMNS = "idx\tsentence1\tsentence2\tlabel\n"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Save a model and two tasks, each row a word of its class, and make every run small."""
    for task in ("sst2", "mnli"):
        folder = tmp_path / "glue" / GLUE[task].folder
        folder.mkdir(parents=True)
        labels = GLUE[task].labels * 12
        lines = [f"{n}\tw{n % 7} w{n % len(GLUE[task].labels)}\tw{n % 5}\t{label}" for n, label in enumerate(labels)]
        for split in ("train", "dev"):
            (folder / f"{split}.tsv").write_text(COLUMNS + "\n".join(lines) + "\n")
    monkeypatch.setitem(edge_training.SCALE, "batch_size", 4)
    for part in ("PRETRAINING", "CLASSES"):
        monkeypatch.setattr(
            edge_training, part, getattr(edge_training, part) | {"rows": 12, "dev_rows": 12, "epochs": 2}
        )
    small = {"most": 2, "rows": 6, "batch_size": 2, "rounds": 3, "dev_rows": {"sst2": 24, "mnli": 12}}
    monkeypatch.setattr(edge_training, "CLUSTERS", small)
    return save_checkpoint(tmp_path / "model"), str(tmp_path / "glue")


def test_rows_are_drawn_of_each_class_as_many():
    labels = np.array([0, 1, 2] * 20)
    examples = Examples([f"text {number}" for number in range(60)], None, labels)
    some = edge_training.drawn(examples, 12, 2)
    assert np.bincount(some.labels, minlength=3).tolist() == [6, 6, 0]
    assert len({*some.first}) == 12


def test_one_class_is_run_and_two_and_all(folders):
    told = edge_training.classes_seen(*folders)
    assert told["n_classes"] == 3
    assert [run["seen"] for run in told["runs"]] == [1, 2, 3]
    assert all(len(run["accuracy"]) == 2 for run in told["runs"])  # after each epoch
    assert told == edge_training.classes_seen(*folders)


def test_each_cluster_is_delivered_to(folders):
    one, two = edge_training.clusters(*folders, "sst2")["runs"]
    assert two["delivered_bytes"] == 2 * one["delivered_bytes"]
    assert one["delivered_bytes"] < one["full_delivery_bytes"]
    assert edge_training.clusters(*folders, "mnli")["scale"]["dev_rows"] == 12


def test_all_is_tuned_or_adapters_with_pretraining_or_without(folders):
    told = edge_training.pretraining(*folders)["runs"]
    assert len({(run["pretrained"], run["tuned"]) for run in told}) == 4
    for run in told:
        assert len(run["accuracy"]) == 1 + len(run["epoch_s"]) == 3
        assert (run["tunable"] == run["whole"]) == (run["tuned"] == edge_training.EVERYTHING)


def test_random_weights_are_of_the_same_sizes(folders):
    pretrained, blank = (edge_training.make_model(folders[0], "sst2", kind) for kind in (True, False))
    sizes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (pretrained, blank)]
    assert sizes[0] == sizes[1]
    name = "encoder.encoder.layer.0.output.dense.weight"
    assert not pretrained.state_dict()[name].equal(blank.state_dict()[name])
