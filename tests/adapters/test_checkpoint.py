"""Checkpoints that were damaged, folders that two sessions want, and what must be on the disk before what."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from cooperative import tiny_session, weights_of
from damages import survive
from filelock import FileLock

import lola
from lola.adapters import Setting
from lola.adapters.lock import held

EVERY_ROUND = Setting(checkpoint_every=1)


def test_a_damaged_folder_goes_on_with_the_right_bits_or_says_why_not(tmp_path):
    ends = survive(tmp_path, 300, seed=0)
    assert sum(ends.values()) == 300
    assert ends.keys() <= {
        "on from 3",
        "on from 2",
        "told",
        "from the start",
        "on from 3, then told",
        "on from 2, then told",
    }
    assert min(ends[end] for end in ("on from 3", "on from 2", "told")) >= 10


@pytest.fixture
def run(tmp_path):
    """The folder of a run with checkpoints of rounds 2 and 3."""
    list(tiny_session(tmp_path, setting=EVERY_ROUND).run(3))
    return tmp_path / "run"


def flip(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_costs_one_round_and_is_named(tmp_path, run):
    flip(run / "round-000003" / "weights.safetensors")
    with pytest.warns(
        UserWarning,
        match=r"run: going on from round-000002, for what is newer is damaged and now called damaged-…: round-000003: "
        "its files are not what was written: SHA256SUMS has other digests",
    ) as said:
        session = tiny_session(tmp_path, setting=EVERY_ROUND)
    assert said[0].filename.endswith("cooperative.py")  # where the session was made
    list(session.run(5))
    (tmp_path / "whole").mkdir()
    whole = tiny_session(tmp_path / "whole", setting=EVERY_ROUND)
    list(whole.run(5))
    assert all(torch.equal(a, b) for a, b in zip(weights_of(session), weights_of(whole), strict=True))
    assert session.records == whole.records
    assert {path.name for path in run.glob("*round*")} == {"round-000004", "round-000005", "damaged-round-000003"}
    assert tiny_session(tmp_path, setting=EVERY_ROUND).version == 5


def test_digests_can_be_checked_without_lola(run):
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=run / "round-000003", check=True)
    assert done.returncode == 0


def test_where_none_is_intact_that_is_said_and_nothing_changed(tmp_path, run):
    (run / "round-000002" / "SHA256SUMS").unlink()  # as versions before had it
    (run / "round-000003" / "state.json").unlink()
    before = sorted(run.rglob("*"))
    with pytest.raises(
        lola.FormatError,
        match=r"run: no checkpoint is intact; delete them to begin anew: round-000003: state.json is missing; "
        "round-000002: SHA256SUMS is missing; versions of lola that wrote none are not read any more",
    ):
        tiny_session(tmp_path, setting=EVERY_ROUND)
    assert sorted(run.rglob("*")) == before
    for path in run.glob("round-*"):
        shutil.rmtree(path)
    assert tiny_session(tmp_path, setting=EVERY_ROUND).version == 0


def test_names_are_numbers_and_those_of_their_version(tmp_path, run):
    (run / "round-000003").rename(run / "round-1000003")
    (run / "round-000003.bak").mkdir()
    with pytest.warns(UserWarning, match="round-1000003: .*state.json is of version 3"):
        assert tiny_session(tmp_path, setting=EVERY_ROUND).version == 2


def signed(checkpoint, old, new):
    """Edit the state and make the digests fit."""
    state = checkpoint / "state.json"
    text = state.read_text()
    assert text.count(old) >= 1
    state.write_text(text.replace(old, new))
    sums = subprocess.run(
        ["sha256sum", "optimizer.safetensors", "state.json", "weights.safetensors"],
        cwd=checkpoint,
        check=True,
        capture_output=True,
        text=True,
    )
    (checkpoint / "SHA256SUMS").write_text(sums.stdout)


@pytest.mark.parametrize(
    "old, new, why",
    [
        ('"norms"', '"worms"', "unknown key 'worms'. Did you mean 'norms'"),
        ('"norms": {}', '"norms": {"x": [1.0]}', "it is not a checkpoint: invalid literal for int"),
        ('"norms": {}', '"norms": {"1": [null]}', r"norms of depth 1\[0\]: a plain number was wanted"),
        ('"kind"', '"sort"', "state.json, optimizer: unknown key 'sort'"),
        ('"applied": 3,', "", "it is not a checkpoint: .*missing 1 required positional argument: 'applied'"),
        ('"clock_s"', '"clock"', "unknown key 'clock'"),
        ('"version": 3', '"version": 4', "state.json is of version 4"),
        ('"records": [', '"records": [], "identity": [', "stands twice"),
        ('"format": "lola-checkpoint"', '"format": "x"', 'state.json: "format" must be "lola-checkpoint"'),
    ],
)
def test_a_state_that_says_something_else_is_damaged_whatever_its_digest(tmp_path, run, old, new, why):
    signed(run / "round-000003", old, new)
    with pytest.warns(UserWarning, match=f"going on from round-000002.*{why}"):
        assert tiny_session(tmp_path, setting=EVERY_ROUND).version == 2


def test_weights_that_are_not_finite_are_damaged_whatever_their_digest(tmp_path, run):
    from safetensors.torch import load_file, save_file

    weights = run / "round-000003" / "weights.safetensors"
    tensors = load_file(weights)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, weights)
    signed(run / "round-000003", "\n", "\n")
    with pytest.warns(UserWarning, match=r"round-000003: \S+ has a value that is not finite"):
        assert tiny_session(tmp_path, setting=EVERY_ROUND).version == 2


def test_a_stray_beside_a_run_stays_and_a_draft_goes_whatever_it_is(tmp_path, run):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").touch()
    for name in (".draft-x", ".draft-round-000003", ".draft-round-000004", ".draft-round-000002"):
        (run / name).symlink_to(elsewhere)
    (run / ".metrics.csv.x").mkdir()
    (run / "round-²").mkdir()
    (run / "metrics.csv").unlink()
    (run / "metrics.csv").symlink_to(run / "round-000003" / "state.json")
    list(tiny_session(tmp_path, setting=EVERY_ROUND).run(4))
    assert {path.name for path in run.iterdir()} - {"tensorboard"} == {
        ".draft-x",
        ".lock",
        "metrics.csv",
        "round-000003",
        "round-000004",
        "round-²",
    }
    assert (elsewhere / "mine").exists()
    assert (run / "metrics.csv").read_text().count("\n") == 5
    (run / "round-000004" / "SHA256SUMS").unlink()
    with pytest.warns(UserWarning, match="going on from round-000003"):  # which no metrics were written into
        tiny_session(tmp_path, setting=EVERY_ROUND)


def test_a_folder_has_one_session_at_a_time(tmp_path):
    first, second = tiny_session(tmp_path), tiny_session(tmp_path)
    rounds = first.run(2)
    next(rounds)
    taken = r"run: a session must have its folder to itself, but another is at work there; wait until it ends, or name"
    for attempt in (lambda: next(second.run(2)), second.save, lambda: tiny_session(tmp_path)):
        with pytest.raises(BlockingIOError, match=taken):
            attempt()
    first.save()  # its own
    list(rounds)
    for attempt in (lambda: next(second.run(2)), second.save):
        with pytest.raises(
            lola.FormatError,
            match="run: another session has gone on to round-000002 there, this one is at version 0; make it anew",
        ):
            attempt()
    assert tiny_session(tmp_path).version == 2


def test_a_folder_that_cannot_be_locked_is_an_error_of_the_system(tmp_path, run):
    (run / ".lock").unlink()
    (run / ".lock").mkdir()
    with pytest.raises(OSError, match=r"\.lock"):
        tiny_session(tmp_path)


def test_a_file_system_without_locks_is_an_error_of_the_system(tmp_path):
    """Filelock says so by an error that a user could only take for a bug."""

    class Lockless(FileLock):
        def _acquire(self):
            raise NotImplementedError

    with (
        pytest.raises(OSError, match=r"run: a session must lock its folder, but this file system knows no locks; name"),
        held(Lockless(tmp_path / "run" / ".lock", is_singleton=False)),
    ):
        pass


def test_everything_is_on_the_disk_before_the_checkpoint_has_its_name(tmp_path, monkeypatch):
    session = tiny_session(tmp_path)
    list(session.run(1))
    run, done, replace, fsync = tmp_path / "run", [], os.replace, os.fsync

    def noting_fsync(handle):
        done.append(("flushed", Path(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def noting_replace(source, target):
        done.append(("named", Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    list(session.run(2))
    draft, target = run / ".draft-round-000002", run / "round-000002"
    named = done.index(("named", target))
    before, after = done[:named], done[named + 1 :]
    for path in (*(draft / path.name for path in target.iterdir()), draft):
        assert ("flushed", path) in before, path
    assert len(list(target.iterdir())) == 4
    assert after[0] == ("flushed", run)
