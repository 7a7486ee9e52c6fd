"""Folders that are written whole, and replaced only where lola wrote what they hold."""

import os

import pytest

import lola
from lola.files.folders import check_replaceable, put_in_place, seal, written_whole


def sealed(folder, text):
    folder.mkdir()
    (folder / "a.txt").write_text(text)
    (folder / "inner").mkdir()
    (folder / "inner" / "b.txt").write_text(text)
    seal(folder)
    return folder


def test_a_draft_that_cannot_take_its_place_does_not_stay(tmp_path):
    target = tmp_path / "out"
    (target / "mine").mkdir(parents=True)
    with pytest.raises(OSError, match="out"), written_whole(target) as draft:
        (draft / "a.txt").write_text("a")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_what_lola_wrote_is_replaced_by_what_is_whole(tmp_path):
    target = tmp_path / "out"
    for text in ("first", "second"):
        put_in_place(sealed(tmp_path / ".new", text), target)
        assert (target / "inner" / "b.txt").read_text() == text
    (tmp_path / ".old-out" / "half").mkdir(parents=True)  # left by a kill between the two names
    put_in_place(sealed(tmp_path / ".new", "third"), target)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (target / "a.txt").read_text() == "third"


@pytest.mark.parametrize("name", ["a.txt", "mine.txt", "inner/mine.txt", "SHA256SUMS"])
def test_what_somebody_else_wrote_stays(tmp_path, name):
    target = sealed(tmp_path / "out", "lola's")
    check_replaceable(target)
    (target / name).write_text("mine")
    with pytest.raises(lola.FormatError, match="out: should be what lola wrote there, .*; move it elsewhere"):
        put_in_place(sealed(tmp_path / ".new", "new"), target)
    assert (target / name).read_text() == "mine"


def test_what_is_missing_or_another_thing_is_not_lolas(tmp_path):
    target = sealed(tmp_path / "out", "lola's")
    (target / "a.txt").unlink()
    with pytest.raises(lola.FormatError, match="move it elsewhere"):
        check_replaceable(target)
    os.mkfifo(target / "a.txt")
    with pytest.raises(lola.FormatError, match="move it elsewhere"):
        check_replaceable(target)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(lola.FormatError, match="move it elsewhere"):
        check_replaceable(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    check_replaceable(tmp_path / "empty")
