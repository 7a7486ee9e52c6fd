"""A profile of stages: what it refuses, what a stage needs at its peak, and that a file gives it back."""

from dataclasses import replace

import numpy as np
import pytest

import lola
from lola.profile import Provenance

ORIGIN = Provenance(
    model="a", batch_size=2, sequence_length=8, dtype="float32", source="measured", hardware="b", prompts=4
)
ARGUMENTS = {
    "forward_s": [1.0, 2.0, 2.5, 0.5],
    "backward_s": [0.0, 3.0, 4.0, 0.75],
    "memory_bytes": [100, 300, 301, 10],
    "inference_memory_bytes": [100, 200, 200, 9],
    "hop_bits": [64, 65, 66],
    "return_bits": [0, 65, 66],
    "tunable_bits": [0, 8, 8, 4],
    "result_bits": 32,
    "batch_size": 2,
    "kept_bytes": [0, 100, 101, 5],
    "workspace_bytes": [1, 50, 40, 60],
    "inference_workspace_bytes": [1, 5, 4, 3],
}


def stages(**changes):
    return lola.StageProfile(**ARGUMENTS | changes)


def test_modules_are_named_and_arrays_read_only():
    assert stages().module == ("embedding", "block 1", "block 2", "head")
    assert stages(module=["abcd", "b", "c", "d"]).module == ("abcd", "b", "c", "d")
    assert stages().n_modules == 4
    with pytest.raises(ValueError, match="read-only"):
        stages().forward_s[0] = 2


def test_one_number_stands_for_every_cut_and_module():
    alike = stages(
        hop_bits=7, return_bits=0, tunable_bits=3, workspace_bytes=2, kept_bytes=6, inference_workspace_bytes=0
    )
    assert alike.hop_bits.tolist() == [7, 7, 7]
    assert alike.return_bits.tolist() == [0, 0, 0]
    assert alike.tunable_bits.tolist() == [3, 3, 3, 3]
    assert alike.kept_bytes.tolist() == [6, 6, 6, 6]
    assert alike.workspace_bytes.tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    "stage, training, inference",
    [
        (range(4), 505 + 206 + 60, 509 + 5),  # the head has all that is kept below it
        (range(1, 3), 400 + 201 + 40 + 66 / 8, 400 + 5),
        (range(1, 2), 200 + 100 + 50 + 65 / 8, 200 + 5),
        (range(1), 100 + 1 + 64 / 8, 101),
        (range(3, 4), 5 + 5 + 60, 9 + 3),
    ],
)
def test_a_stage_needs_what_it_holds_and_its_largest_workspace(stage, training, inference):
    assert stages().peak_bytes(stage) == training
    assert stages().peak_bytes(stage, inference=True) == inference


def test_what_backward_has_freed_is_no_part_of_the_peak():
    freed = stages(workspace_bytes=[1, 400, 40, 60])
    assert freed.peak_bytes(range(1, 4)) == 405 + 100 + 400
    assert freed.peak_bytes(range(1, 4)) < freed.memory_bytes[1:].sum() + 400


@pytest.mark.parametrize("stage", [range(2, 2), range(-1, 2), range(2, 5), range(0, 4, 2), 2])
def test_what_is_no_stage_is_refused(stage):
    with pytest.raises(
        ValueError, match=r"stage must be neighbours among the modules 0 to 3, such as range\(1, 4\); got"
    ):
        stages().peak_bytes(stage)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"forward_s": []}, "forward_s is empty"),
        ({"forward_s": [1.0]}, "forward_s must have 2 entries at least, an embedding and a head; got 1"),
        ({"forward_s": [1, 2, -1, 1]}, "forward_s must be finite and >= 0, got -1.0 at index 2"),
        ({"backward_s": [1, 2, 1]}, "backward_s must have 4 entries, as many as forward_s; got 3"),
        ({"backward_s": 1.0}, r"backward_s must have 1 axis\(es\), got shape \(\)"),
        ({"memory_bytes": [1, 2, np.nan, 1]}, "memory_bytes must be finite and >= 0, got nan at index 2"),
        ({"hop_bits": [1, 2, 3, 4]}, "hop_bits must have 3 entries, one for each cut between the 4 modules; got 4"),
        ({"return_bits": [1]}, "return_bits must have 3 entries, one for each cut"),
        ({"result_bits": -1}, "result_bits must be finite and > 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"module": ["a", "b"]}, "module must have 4 names, as many as forward_s has entries; got 2"),
        ({"module": ["a", "b", "b", "c"]}, "module must have no name twice, got 'b' more than once; number them"),
        ({"module": ["a", "b\n", "c", "d"]}, "module must be printable names in one line each, got"),
        ({"forward_iqr_s": [1, 1]}, "forward_iqr_s must have 4 entries"),
        (
            {"kept_bytes": [0, 301, 0, 0]},
            "kept_bytes must be a part of memory_bytes, got 301.0 of 300.0 at index 1; count",
        ),
        ({"workspace_bytes": -1}, "workspace_bytes must be finite and >= 0"),
    ],
)
def test_what_is_wrong_is_refused(changes, message):
    with pytest.raises(lola.LolaError, match=message) as refusal:
        stages(**changes)
    assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"module": "abcd"}, "module must be a list of names, one for each module, got 'abcd'"),
        ({"module": [1, 2, 3, 4]}, "module must be a list of names"),
        ({"provenance": "mine"}, "provenance must be a lola.Provenance, got str"),
        ({"result_bits": "32"}, "result_bits must be a number, got str"),
        ({"batch_size": 2.0}, "batch_size must be an integer, got float"),
        ({"hop_bits": ["a", "b", "c"]}, "hop_bits must hold real numbers"),
    ],
)
def test_what_is_of_another_type_is_refused(changes, message):
    with pytest.raises(lola.LolaError, match=message) as refusal:
        stages(**changes)
    assert isinstance(refusal.value, TypeError)


def test_seconds_are_scaled_once_and_that_is_recorded():
    scaled = stages(provenance=ORIGIN, forward_iqr_s=[1, 1, 1, 1]).on_reference("a phone", 2.0)
    assert scaled.forward_s.tolist() == [2.0, 4.0, 5.0, 1.0]
    assert scaled.backward_s.tolist() == [0.0, 6.0, 8.0, 1.5]
    assert scaled.forward_iqr_s.tolist() == [2.0] * 4
    assert scaled.backward_iqr_s is None
    assert scaled.memory_bytes.tolist() == ARGUMENTS["memory_bytes"]
    assert (scaled.provenance.reference, scaled.provenance.latency_factor) == ("a phone", 2.0)
    for once in (scaled, stages()):
        with pytest.raises(
            ValueError, match="seconds can be scaled once, and only with a provenance that records it; got"
        ):
            once.on_reference("a phone", 2.0)


@pytest.mark.parametrize(
    "changes", [{}, {"provenance": ORIGIN, "forward_iqr_s": [0.1, 0.2, 0.3, 0.4], "result_bits": 0}]
)
def test_a_file_gives_it_back(changes, tmp_path):
    before = stages(**changes)
    lola.save_stages(before, tmp_path / "s.json")
    after = lola.load_stages(tmp_path / "s.json")
    for name in (*ARGUMENTS, "module", "provenance", "forward_iqr_s", "backward_iqr_s"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert repr(after) == repr(before)


def test_it_says_what_it_is():
    assert repr(stages()) == "<StageProfile of 4 modules: no provenance>"
    text = "<StageProfile of 4 modules: a, batch 2, sequence 8, float32: measured, b>"
    assert repr(stages(provenance=replace(ORIGIN, prompts=None))) == text


@pytest.mark.parametrize(
    "change, message",
    [
        ({"module": "abcd"}, "module: a list of names was wanted, got str"),
        ({"module": [1, 2, 3, 4]}, "module must be a list of names"),
        ({"hop_bits": 3}, "hop_bits: a list of numbers was wanted, got 3"),
        ({"batch_size": 2.5}, "batch_size: an integer was wanted, got 2.5"),
        ({"forward_s": [1, 2]}, "backward_s must have 2 entries, as many as forward_s; got 4"),
        ({"provenance": {"model": "a"}}, "provenance: 'batch_size' is missing"),
        ({"provenance": 3}, "provenance: a table"),
    ],
)
def test_a_file_that_is_wrong_is_refused(change, message, tmp_path):
    from lola.files.formats import write_json
    from lola.files.stages import stages_to_json

    write_json(tmp_path / "s.json", "lola-stages", stages_to_json(stages()) | change)
    with pytest.raises(lola.FormatError, match=rf"s\.json.*{message}"):
        lola.load_stages(tmp_path / "s.json")


def test_only_stages_are_saved_as_stages(tmp_path):
    with pytest.raises(TypeError, match=r"stages must be a lola\.StageProfile, got str"):
        lola.save_stages("p.json", tmp_path / "s.json")
