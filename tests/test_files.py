"""Fleet, profile, scenario and schedule files: round trips and clear refusals."""

import json
import re

import numpy as np
import pytest
from scenario import random_problem, small_problem

import lola

FLEET = "name,speed,memory_bytes,snr_db\nann,0.5,3e9,1.0\nbob,1.0,2e9,-3\n"
PROFILE = {
    "format": "lola-profile",
    "version": 1,
    "memory_bytes": [1e9, 2e9],
    "latency_s": [1.0, 1.5],
    "upload_bits": 8e5,
    "provenance": {
        "model": "toy",
        "batch_size": 8,
        "sequence_length": 64,
        "dtype": "float32",
        "source": "estimated",
        "hardware": "none",
    },
}
SCENARIO = 'fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = 1e6\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "f.csv").write_text(FLEET)
    (tmp_path / "p.json").write_text(json.dumps(PROFILE))
    (tmp_path / "s.toml").write_text(SCENARIO)
    return tmp_path


def assert_same_problem(one, other):
    assert one.digest() == other.digest()
    assert one.profile.provenance == other.profile.provenance


def test_round_trips_keep_every_digit(tmp_path):
    problem = random_problem(1)
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    fleet, profile = lola.load_fleet(tmp_path / "f.csv"), lola.load_profile(tmp_path / "p.json")
    for field in ("speed", "memory_bytes", "spectral_efficiency"):
        np.testing.assert_array_equal(getattr(fleet, field), getattr(problem.fleet, field))
    for field in ("memory_bytes", "latency_s", "upload_bits"):
        np.testing.assert_array_equal(getattr(profile, field), getattr(problem.profile, field))
    assert fleet.name[3] == "device 3"


@pytest.mark.parametrize("method", lola.METHODS)
def test_a_saved_schedule_proves_itself(tmp_path, method):
    problem = small_problem() if method not in ("jbba", "ba") else small_problem(pinned=[(0, 1)], forbidden=[(2, 2)])
    schedule = lola.schedule(problem, method, seed=1)
    lola.save_schedule(schedule, problem, tmp_path / "s.json")
    loaded, same = lola.load_schedule(tmp_path / "s.json")
    assert_same_problem(problem, same)
    loaded.verify(same)
    assert str(loaded) == str(schedule)


def test_a_scenario_points_beside_itself(folder):
    pairs = 'pinned = [{device = "ann", depth = 2}]\nforbidden = [{device = 1, depth = 2}]\n'
    extra = f"local_steps = 4\nheadroom = 0.25\n{pairs}"
    (folder / "s.toml").write_text(SCENARIO + extra)
    problem = lola.load_scenario(folder / "s.toml")
    assert problem.local_steps == 4
    assert problem.fleet.usable_memory_bytes[0] == 2.25e9
    assert (problem.pinned, problem.forbidden) == (((0, 2),), ((1, 2),))
    assert problem.fleet.spectral_efficiency[0] == lola.channel.spectral_efficiency(1.0)
    assert lola.load_scenario(str(folder / "s.toml")).digest() == problem.digest()


def test_a_byte_order_mark_and_blank_lines_are_no_trouble(tmp_path):
    (tmp_path / "f.csv").write_bytes(b"\xef\xbb\xbf" + FLEET.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    assert lola.load_fleet(tmp_path / "f.csv").name == ("ann", "bob")


def test_phones_of_the_real_world_load_and_schedule(shared_data, tmp_path):
    from lola.files.problems import builtin_scenario

    # The 333 phones repeat some names, which the loader refuses; told apart by their line, they load.
    with pytest.raises(lola.FormatError, match="'Honor 20' is already in line 19; names must differ"):
        lola.load_fleet(shared_data / "fleets" / "phones_333.csv")
    header, *lines = (shared_data / "fleets" / "phones_333.csv").read_text().splitlines()
    distinct = tmp_path / "phones_333.csv"
    distinct.write_text("\n".join([header, *(f"{number} {line}" for number, line in enumerate(lines))]))
    for path, count in ((shared_data / "fleets" / "phones_20.csv", 20), (distinct, 333)):
        fleet = lola.load_fleet(path)
        assert fleet.n_devices == count
        problem = lola.Problem(builtin_scenario().profile, fleet, bandwidth_hz=20e6, local_steps=10)
        for method in ("jbba", "ba"):
            lola.schedule(problem, method).verify(problem)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "the file is empty; the first line must be name,speed,memory_bytes,snr_db"),
        ("name,speed,memory_bytes,snr_db\n", "no device after the header"),
        ("name,speed,memory_gb,snr_db\na,1,1,1\n", "line 1: unknown key 'memory_gb'. Did you mean 'memory_bytes'?"),
        ("name,speed,snr_db\na,1,1\n", "line 1: 'memory_bytes' is missing"),
        ("name,speed,memory_bytes\na,1,1\n", "exactly one of spectral_efficiency and snr_db"),
        ("name,speed,memory_bytes,snr_db,spectral_efficiency\na,1,1,1,1\n", "exactly one of"),
        (
            FLEET.replace(",", ";"),
            "line 1: columns separated by commas were wanted, got semicolons; save it with",
        ),
        (FLEET.replace(",", "\t"), "line 1: columns separated by commas were wanted, got tabs"),
        ("name,speed,speed,memory_bytes,snr_db\na,1,1,1,1\n", "line 1: a column stands twice"),
        (FLEET + "ann,1,1,1\n", "line 4: 'ann' is already in line 2; names must differ"),
        (FLEET + "cid,1,1\n", "line 4: 4 columns are needed, got 3"),
        (FLEET + "cid,1,6GB,1\n", r"line 4, memory_bytes: a plain number was wanted .*got '6GB'"),
        (FLEET + "cid,1_0,1,1\n", r"line 4, speed: a plain number was wanted .*got '1_0'"),
        (FLEET + "cid,١,1,1\n", "line 4, speed: a plain number was wanted"),
        (FLEET + "cid,nan,1,1\n", "line 4, speed: must be finite, got nan"),
        (FLEET + "cid,1,inf,1\n", "line 4, memory_bytes: must be finite, got inf"),
        (FLEET + "cid,0,1,1\n", "line 4, speed: must be > 0, got 0.0"),
        (FLEET + "cid,1,-1,1\n", "line 4, memory_bytes: must be >= 0, got -1.0"),
        (FLEET + "cid,1,1,99999\n", "line 4, snr_db: must be a ratio in decibels"),
        (FLEET + " ,1,1,1\n", "line 4: the name is empty"),
        (FLEET + '"cid,1,1,1\n', "line 4: not valid CSV"),
        ("name,speed,memory_bytes,spectral_efficiency\na,1,1,0\n", "line 2, spectral_efficiency: must be > 0"),
    ],
)
def test_bad_fleet_files_are_refused(tmp_path, text, message):
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(lola.FormatError, match=message) as caught:
        lola.load_fleet(tmp_path / "f.csv")
    assert str(tmp_path / "f.csv") in str(caught.value)


def profile_text(**changes):
    return json.dumps(PROFILE | changes)


def without(key):
    return json.dumps({k: v for k, v in PROFILE.items() if k != key})


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "not valid JSON at line 1, column 1.*cut short"),
        (profile_text()[:-20], "not valid JSON"),
        ("[1, 2]", "a JSON object was wanted, got list"),
        (profile_text(format="lola-schedule"), '"format" must be "lola-profile"'),
        (profile_text(version=2), '"version" must be 1, got 2'),
        (profile_text(version=True), '"version" must be 1, got True'),
        (profile_text(memory_gb=[1, 2]), "unknown key 'memory_gb'. Did you mean 'memory_bytes'?"),
        (without("latency_s"), "'latency_s' is missing"),
        (profile_text(latency_s=[1.5, 1.0]), "latency_s must not fall with depth"),
        (profile_text(latency_s=[1.0]), "memory_bytes must have 1 entries, as many as .*; got 2"),
        (profile_text(latency_s=[1.0, "fast"]), r"latency_s\[1\]: a plain number was wanted .* got 'fast'"),
        (profile_text(latency_s=[1.0, True]), r"latency_s\[1\]: a plain number was wanted .* got True"),
        (profile_text(latency_s=1.0), "latency_s: a list of numbers was wanted, got 1.0"),
        (profile_text(latency_s=[]), "latency_s is empty"),
        (profile_text(upload_bits=[1.0, 0.0]), "upload_bits must be finite and > 0"),
        (profile_text(latency_s=[1.0, 10**400]), r"latency_s\[1\]: must be finite"),
        (profile_text().replace("1.5", "9" * 5000), "integer string conversion"),
        (profile_text().replace("1.5", "NaN"), "NaN is not a number that JSON knows"),
        (profile_text().replace("1.5", "1e999"), r"latency_s\[1\]: must be finite, got inf"),
        (profile_text().replace('"version": 1', '"version": 1, "version": 1'), "the key 'version' stands twice"),
        (profile_text(provenance={"model": "toy"}), "provenance: 'batch_size' is missing"),
        (profile_text(provenance=PROFILE["provenance"] | {"source": "dreamt"}), 'source must be "measured"'),
        (
            profile_text(provenance=PROFILE["provenance"] | {"batch": 1}),
            "unknown key 'batch'. Did you mean 'batch_size'",
        ),
        (profile_text(provenance=PROFILE["provenance"] | {"model": 3}), "model must be text, got 3"),
        (
            profile_text(provenance=PROFILE["provenance"] | {"hardware": "\x1b[2J"}),
            r"hardware must be printable text in one line, got '\\x1b\[2J'",
        ),
        (
            profile_text(provenance=PROFILE["provenance"] | {"lora_targets": ["query", "\u202e"]}),
            r"lora_targets must be printable text in one line, got \('query', '\\u202e'\)",
        ),
        (profile_text(extra_latency_s=[1.0]), "extra_latency_s must have 2 entries, as many as latency_s; got 1"),
        (profile_text(extra_memory_bytes=3.0), "extra_memory_bytes: a list of numbers was wanted, got 3.0"),
        (profile_text(provenance="lab"), "provenance: a table .* was wanted, got 'lab'"),
    ],
)
def test_bad_profile_files_are_refused(tmp_path, text, message):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(lola.FormatError, match=message) as caught:
        lola.load_profile(tmp_path / "p.json")
    assert str(tmp_path / "p.json") in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            SCENARIO + "hertz = 3\n",
            "Known are fleet, profile, bandwidth_hz, local_steps, headroom, pinned, forbidden, subcarrier_hz, "
            "broadcast_s, max_blocks$",
        ),
        (SCENARIO + "bandwidth_mhz = 3\n", "unknown key 'bandwidth_mhz'. Did you mean 'bandwidth_hz'?"),
        ('fleet = "f.csv"\nprofile = "p.json"\n', "'bandwidth_hz' is missing"),
        (SCENARIO.replace("1e6", '"1 MHz"'), "bandwidth_hz: a plain number was wanted"),
        (SCENARIO.replace("1e6", "nan"), "bandwidth_hz: must be finite, got nan"),
        (SCENARIO.replace("1e6", "-1"), "bandwidth_hz must be finite and > 0, got -1.0"),
        (SCENARIO.replace("1e6", ""), "not valid TOML"),
        (SCENARIO + "local_steps = 1.5\n", "local_steps: an integer was wanted, got 1.5"),
        (SCENARIO + f"local_steps = {'9' * 5000}\n", "not valid TOML"),
        (SCENARIO + f"local_steps = {'9' * 400}\n", "got one of 1329 bits"),
        (SCENARIO + "local_steps = 0\n", "local_steps must be at least 1, got 0"),
        (SCENARIO + "headroom = 1\n", "headroom must be a fraction"),
        (SCENARIO + "pinned = 3\n", "pinned: a list of tables like {device = .* was wanted, got 3"),
        (SCENARIO + "pinned = [3]\n", r"pinned\[0\]: a table like {device = .* was wanted, got 3"),
        (SCENARIO + '[[pinned]]\ndevice = "zoe"\ndepth = 1\n', "no device is named 'zoe'"),
        (SCENARIO + '[[pinned]]\ndevice = "ann"\ndepth = "one"\n', r"pinned\[0\], depth: an integer was wanted"),
        (SCENARIO + '[[pinned]]\nname = "ann"\ndepth = 1\n', r"pinned\[0\]: unknown key 'name'"),
        (SCENARIO.replace('"f.csv"', "3"), "fleet: a path was wanted, got 3"),
        (SCENARIO.replace("1e6", "0x1" + "0" * 5000), "bandwidth_hz: must be finite, got an integer of 20001 bits"),
        (SCENARIO + "[[pinned]]\ndevice = 0x1" + "0" * 5000 + "\ndepth = 1\n", "got an integer of 20001 bits"),
    ],
)
def test_bad_scenario_files_are_refused(folder, text, message):
    (folder / "s.toml").write_text(text)
    with pytest.raises(lola.FormatError, match=message):
        lola.load_scenario(folder / "s.toml")


def test_missing_files_and_folders_say_so(folder):
    (folder / "s.toml").write_text(SCENARIO.replace("f.csv", "nowhere.csv"))
    with pytest.raises(FileNotFoundError, match=re.escape("nowhere.csv")):
        lola.load_scenario(folder / "s.toml")
    with pytest.raises(OSError, match=re.escape(str(folder))):
        lola.load_fleet(folder)
    (folder / "f.csv").write_bytes(b"name,\xff\xfe")
    with pytest.raises(lola.FormatError, match="not UTF-8 text at byte 5"):
        lola.load_fleet(folder / "f.csv")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d["schedule"].pop("latency_s"), "schedule: 'latency_s' is missing"),
        (lambda d: d["schedule"].update(speed=1), "schedule: unknown key 'speed'"),
        (lambda d: d["schedule"].update(device_of_block=[0.5]), r"device_of_block\[0\]: an integer was wanted"),
        (lambda d: d["schedule"].update(device_of_block=[2**70]), "an entry does not fit 64 bits"),
        (lambda d: d["schedule"].update(device_of_block=3), "a list of integers was wanted, got 3"),
        (lambda d: d["schedule"].update(hits_memory_wall=[0]), "a list of true and false was wanted"),
        (lambda d: d["schedule"].update(method=3), "method: text was wanted, got 3"),
        (lambda d: d["proof"].update(priced_devices=[99]), "priced_devices must list distinct devices of the fleet"),
        (lambda d: d["proof"].update(priced_devices=[0, 0], device_price_hz=[0, -1]), "must list distinct devices"),
        (
            lambda d: d["proof"].update(kind="magic"),
            "proof, kind: must be one of hall, prices, potentials, multipliers, got 'magic'",
        ),
        (lambda d: d["proof"].update(kind=[]), "proof, kind: must be one of"),
        (lambda d: d["proof"].update(why="trust me"), "proof: unknown key 'why'"),
        (lambda d: d["problem"]["fleet"].update(speed=[0] * 5), "speed must be finite and > 0"),
        (lambda d: d["problem"]["fleet"].update(name=3), "problem"),
        (lambda d: d["problem"].update(pinned=3), r"pinned: a list of \[device, depth\] was wanted"),
        (lambda d: d["problem"].update(pinned=[[0, 9]]), "pinned names depth 9"),
        (lambda d: d.update(problem=[]), "problem: a table .* was wanted"),
        (lambda d: d.pop("digest"), "'digest' is missing"),
    ],
)
def test_bad_schedule_files_are_refused(tmp_path, change, message):
    problem = small_problem()
    lola.save_schedule(lola.schedule(problem), problem, tmp_path / "s.json")
    data = json.loads((tmp_path / "s.json").read_text())
    change(data)
    (tmp_path / "s.json").write_text(json.dumps(data))
    with pytest.raises(lola.FormatError, match=message):
        lola.load_schedule(tmp_path / "s.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda problem: problem["fleet"]["speed"].__setitem__(0, 0.51),
        lambda problem: problem["profile"]["provenance"].update(source="measured"),
        lambda problem: problem.update(local_steps=3),
    ],
)
def test_a_changed_problem_is_noticed(tmp_path, change):
    problem = small_problem()
    lola.save_schedule(lola.schedule(problem), problem, tmp_path / "s.json")
    data = json.loads((tmp_path / "s.json").read_text())
    change(data["problem"])
    (tmp_path / "s.json").write_text(json.dumps(data))
    with pytest.raises(lola.VerificationError, match="digest"):
        lola.load_schedule(tmp_path / "s.json")
