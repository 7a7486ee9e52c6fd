"""What is saved: the right thing, whole or not at all, through links and into devices."""

import os

import pytest
from scenario import small_problem

import lola
from lola.files import formats


def test_saving_the_wrong_thing_says_so(tmp_path):
    problem = small_problem()
    with pytest.raises(TypeError, match="fleet must be a lola.Fleet, got PosixPath"):
        lola.save_fleet(tmp_path / "f.csv", problem.fleet)
    with pytest.raises(TypeError, match="profile must be a lola.Profile, got Fleet"):
        lola.save_profile(problem.fleet, tmp_path / "p.json")
    with pytest.raises(TypeError, match="schedule must be a lola.Schedule, got str"):
        lola.save_schedule("s.json", lola.schedule(problem), problem)
    with pytest.raises(FileNotFoundError, match="the folder to write into does not exist"):
        lola.save_fleet(problem.fleet, tmp_path / "no" / "f.csv")


def test_writing_keeps_links_and_devices(tmp_path):
    fleet, target = small_problem().fleet, tmp_path / "f.csv"
    (tmp_path / "link.csv").symlink_to(target)
    lola.save_fleet(fleet, tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert lola.load_fleet(target).name == fleet.name
    lola.save_fleet(fleet, "/dev/null")
    assert not os.path.isfile("/dev/null")


def test_writing_is_atomic(tmp_path, monkeypatch):
    target = tmp_path / "f.csv"
    lola.save_fleet(small_problem().fleet, target)
    before = target.read_text()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(formats.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        lola.save_fleet(lola.Fleet(speed=[1.0], memory_bytes=[1.0], spectral_efficiency=[1.0]), target)
    assert target.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["f.csv"]
