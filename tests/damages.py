"""Damage a run's folder at random and load it again: the right bits, or a documented error, whatever was done to it.

python damages.py 10000 folder
"""

import collections
import copy
import hashlib
import json
import os
import random
import shutil
import sys
import warnings
from pathlib import Path

import torch
from cooperative import tiny_depths

import lola
from lola.adapters.checkpoint import load_latest, save

FILES = ("weights.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS")
STRAYS = (
    ".draft-x",
    ".draft-round-000001",
    ".draft-round-000002",
    ".draft-round-000004",
    ".metrics.csv.x",
    "metrics.csv",
    "damaged-round-000003",
    "round-²",
    "round-٣",
    "round-3",
    "round-0000003",
    "round-000003.bak",
    "round-000009",
    "round-" + "9" * 200,
    "round-",
)
LATEST = 3


class Run:
    """A model whose optimizer steps by itself, and checkpoints of it after two steps and three."""

    def __init__(self, folder):
        self.folder = folder / "run"
        self.depths = tiny_depths(folder)
        self.optimizer = self.fresh()
        self.wanted = {}
        for version in range(1, LATEST + 2):
            self.step(version)
            self.wanted[version] = self.everything(), self.state(version)
            if version <= LATEST:
                save(self.folder, self.depths, self.optimizer, self.state(version))

    def fresh(self):
        return torch.optim.Adam(self.depths.all_parameters(), lr=1e-2)

    def state(self, version):
        record = lola.adapters.RoundRecord(version, 1.5, 1.5, 1.0, float("nan"), 7, 3, 0, 0, "", {"accuracy": 0.5})
        norms = {str(depth): [0.1 * version] for depth in (1, 2, 3)}
        records = [record.to_json()] * version
        return {"version": version, "clock_s": 1.5 * version, "records": records, "identity": "x", "norms": norms}

    def step(self, version):
        generator = torch.Generator().manual_seed(version)
        for parameter in self.depths.all_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        self.optimizer.step()

    def everything(self):
        weights = [parameter.detach().clone() for parameter in self.depths.all_parameters()]
        return weights, copy.deepcopy(self.optimizer.state_dict())

    def is_at(self, version, state):
        """Whether weights, optimizer and session are those of a version, to the last bit."""
        (weights, optimizer), session = self.wanted[version]
        found, moments = self.everything()
        same = all(torch.equal(a, b) for a, b in zip(weights, found, strict=True))
        same &= json.dumps(optimizer["param_groups"]) == json.dumps(moments["param_groups"])  # a tuple is a list there
        for index, entries in optimizer["state"].items():
            same &= all(torch.equal(value, moments["state"][index][name]) for name, value in entries.items())
        return same and state == session

    def load(self, folder):
        """Load into a model of sevens and an optimizer without state."""
        with torch.no_grad():
            for parameter in self.depths.all_parameters():
                parameter.fill_(7.0)
        self.optimizer = self.fresh()
        return load_latest(folder, self.depths, self.optimizer, "x", "data")

    def is_untouched(self):
        return not self.optimizer.state and all((p == 7.0).all() for p in self.depths.all_parameters())


def put(path, kind, rng):
    """Put something where a file or folder may have been."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    others = [other for other in path.parent.rglob("*") if other != path]
    if kind == "file":
        path.write_bytes(rng.randbytes(20))
    elif kind == "folder":
        path.mkdir()
        (path / "weights.safetensors").write_bytes(b"half")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(rng.choice(others or [path.parent]))
    elif kind in ("nowhere", "itself", "/dev/zero"):
        path.symlink_to({"nowhere": path.with_name("nobody"), "itself": path}.get(kind, kind))


KINDS = ("file", "folder", "pipe", "link", "nowhere", "itself", "/dev/zero", "nothing")


def bits(path, rng):
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 8))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def truncation(path, rng):
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) + 1)])


def blank(path, rng):
    data = path.read_bytes()
    start = rng.randrange(len(data) + 1)
    path.write_bytes(data[:start] + bytes(min(512, len(data) - start)) + data[start + 512 :])


def more(path, rng):
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 20)))


def of_another(path, rng):
    """The same file of another checkpoint."""
    others = [other for other in path.parents[1].glob(f"round-*/{path.name}") if other != path and other.is_file()]
    path.write_bytes(rng.choice(others).read_bytes() if others else b"")


def replaced(path, rng):
    put(path, rng.choice(KINDS), rng)


def edited(path, rng):
    """Sense that another program made of the state, or nonsense; or weights that are not finite."""
    state = path.with_name("state.json")
    if not state.is_file():
        return
    text = state.read_text(errors="replace")
    words = (("0.01", "1e9"), ("0.01", "NaN"), ('"version": 3', '"version": 2'), ('"norms"', '"n"'), ('"scores"', "1"))
    for old, new in rng.sample(words, 2):
        text = text.replace(old, new)
    state.write_text(text)


def signed(path, rng):
    """An edit that changes what is read, with digests that fit."""
    folder = path.parent
    if all((folder / name).is_file() for name in FILES):
        try:
            data = json.loads((folder / "state.json").read_text())
            inner = rng.choice([data, data["session"], data["optimizer"]])
            entry = rng.choice([name for name in inner if name not in ("identity", "clock_s", "scalars")])
            inner[entry] = rng.choice([None, 5, -1, "x", [], {"x": 1}, [None], True])
            (folder / "state.json").write_text(json.dumps(data))
        except (ValueError, LookupError, TypeError, AttributeError):  # damaged already
            return
        sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(FILES[:3])]
        (folder / "SHA256SUMS").write_text("".join(sums))


IN_FILES = (bits, bits, bits, truncation, truncation, blank, more, of_another, replaced, replaced, edited, signed)


def damage(folder, rng):
    """Do something to a run's folder, and say what."""
    there = [path for path in folder.glob("round-*") if path.is_dir() and not path.is_symlink()]
    what = rng.choice(("file", "file", "file", "file", "stray", "extra", "checkpoint", "renamed"))
    if what == "stray":
        put(folder / rng.choice(STRAYS), rng.choice(KINDS), rng)
    elif there:
        # The newest more often than not: what is older is seldom read.
        chosen = max(there) if rng.random() < 0.7 else rng.choice(there)
        if what == "file":
            path = chosen / rng.choice(FILES)
            harm = rng.choice(IN_FILES)
            if path.is_file():
                harm(path, rng)
            return harm.__name__
        if what == "extra":
            put(chosen / rng.choice(("notes.txt", "weights.safetensors.bak", ".x")), rng.choice(KINDS), rng)
        elif what == "checkpoint":
            put(chosen, rng.choice(KINDS), rng)
        elif not (target := folder / f"round-{rng.randrange(6):06d}").exists() and not target.is_symlink():
            chosen.rename(target)
    return what


def survive(place, count, seed):
    """Damage a run so often, and return how it ended how often. Any other end is an error."""
    run = Run(place)
    ends = collections.Counter()
    for i in range(count):
        rng = random.Random(f"{seed} {i}")
        folder = place / "damaged"
        shutil.copytree(run.folder, folder)
        done = [damage(folder, rng) for _ in range(rng.choice((1, 1, 2, 3)))]
        named = [path.name for path in folder.iterdir()]
        ends[judge(run, folder, f"{i}: {done}, {named}")] += 1
        shutil.rmtree(folder)
    return ends


def judge(run, folder, case):
    """Load a damaged run, go on with it, load it again, and say how that ended."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            state = run.load(folder)
        except lola.FormatError as error:
            assert str(folder) in str(error), case
            assert run.is_untouched(), case
            return "told"
        if state is None:
            assert run.is_untouched(), case
            return "from the start"
        version = state["version"]
        assert run.is_at(version, state), case
        named = [path for path in folder.glob("damaged-round-*") if path.name not in case]
        assert all(path.name.removeprefix("damaged-") in str(said[0].message) for path in named), case
    run.step(version + 1)
    state = run.state(version + 1)
    try:
        save(folder, run.depths, run.optimizer, state)
    except OSError as error:
        assert error.filename, case
        return f"on from {version}, then told"
    again = run.load(folder)
    assert again is not None, case
    assert run.is_at(version + 1, state), case
    return f"on from {version}"


if __name__ == "__main__":
    print(dict(survive(Path(sys.argv[2]), int(sys.argv[1]), seed=1)))
