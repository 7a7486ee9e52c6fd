"""Random damage to every kind of file: only documented errors come out."""

import json
import random

import pytest
from scenario import small_problem
from test_files import FLEET, PROFILE, SCENARIO

import lola


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "f.csv").write_text(FLEET)
    (tmp_path / "p.json").write_text(json.dumps(PROFILE))
    (tmp_path / "s.toml").write_text(SCENARIO)
    return tmp_path


def damage(rng, text):
    """One random mutation: bytes cut, doubled, swapped, replaced, or a number made strange."""
    data = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        kind, at = rng.randrange(6), rng.randrange(len(data) + 1)
        if kind == 0:
            del data[at : at + rng.randint(1, 30)]
        elif kind == 1:
            data[at:at] = data[at : at + rng.randint(1, 30)]
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 4)))
        elif kind == 3:
            data[at:at] = rng.choice(
                [b"NaN", b"-1", b"1e999", b"null", b"true", b"[]", b"{}", b'"', b",", b"\n", b"0x"]
            )
        elif kind == 4:
            del data[at:]
        elif data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if not data:
            data = bytearray(b" ")
    return bytes(data)


def verify_ranks(path):
    plan, importance, problem = lola.load_ranks(path)
    plan.verify(importance, problem)


@pytest.mark.parametrize("kind", ["fleet", "profile", "scenario", "schedule", "importance", "ranks", "timed"])
def test_random_damage_gives_documented_errors_only(folder, kind):
    load, name = {
        "fleet": (lola.load_fleet, "f.csv"),
        "profile": (lola.load_profile, "p.json"),
        "scenario": (lola.load_scenario, "s.toml"),
        "importance": (lola.load_importance, "i.json"),
        "ranks": (verify_ranks, "r.json"),
        "timed": (verify_ranks, "t.json"),
        "schedule": (lambda path: (lambda answer: answer[0].verify(answer[1]))(lola.load_schedule(path)), "o.json"),
    }[kind]
    problem = small_problem(pinned=[(0, 1)])
    lola.save_schedule(lola.schedule(problem), problem, folder / "o.json")
    importance = lola.Importance([[9.0, 4.0, 1.0], [6.0, 3.0, 2.0], [5.0, 0.5, 0.25]], [100] * 3, name=["c", "b", "a"])
    lola.save_importance(importance, folder / "i.json")
    lola.save_ranks(lola.allocate_ranks(importance, budget=600), importance, folder / "r.json")
    problem = small_problem()
    timed = lola.allocate_ranks(importance, deadline_s=4.2, problem=problem)
    lola.save_ranks(timed, importance, folder / "t.json", problem=problem)
    rng = random.Random(kind)
    valid = (folder / name).read_bytes()
    refused = 0
    for number in range(1500):
        noise = bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
        (folder / name).write_bytes(damage(rng, valid) if number % 5 else noise)
        try:
            load(folder / name)
        except (lola.FormatError, lola.VerificationError, OSError):
            refused += 1
    assert refused > 500
