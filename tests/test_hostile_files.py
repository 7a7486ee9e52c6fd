"""Files that are made to harm: keys that take a minute, texts of megabytes, and what a terminal would obey."""

import json
import time

import pytest
from scenario import small_problem
from test_files import FLEET, PROFILE, SCENARIO, profile_text

import lola
from lola.cli.main import main


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "f.csv").write_text(FLEET)
    (tmp_path / "p.json").write_text(json.dumps(PROFILE))
    (tmp_path / "s.toml").write_text(SCENARIO)
    return tmp_path


@pytest.mark.parametrize("key", ["a.", '"a,".', "1.", "a . "])
def test_a_key_of_many_parts_is_refused_at_once(folder, key):
    """The parser takes time in the square of the parts: a minute for these."""
    (folder / "s.toml").write_text(SCENARIO + key * 100_000 + "a = 1\n")
    start = time.perf_counter()
    with pytest.raises(lola.FormatError, match="line 4: at most 200 dots that are in no number were wanted, got more"):
        lola.load_scenario(folder / "s.toml")
    assert time.perf_counter() - start < 5


def test_long_lists_of_numbers_are_no_deep_keys(folder):
    (folder / "f.csv").write_text(FLEET + "".join(f"p{i},1,1e9,0\n" for i in range(998)))
    (folder / "s.toml").write_text(f"{SCENARIO}headroom = {[0.25] * 500 + [0.125] * 500}\n")
    assert lola.load_scenario(folder / "s.toml").fleet.headroom.sum() == 187.5


LONG = "long" * 500_000


@pytest.mark.parametrize(
    "name, text, load",
    [
        ("f.csv", f"name,speed,memory_bytes,snr_db,{LONG[:100_000]}\n", lola.load_fleet),
        ("f.csv", f"{FLEET}cid,{LONG[:100_000]},1,1\n", lola.load_fleet),
        ("f.csv", FLEET + f"{LONG[:100_000]},1,1,1\n" * 2, lola.load_fleet),
        ("p.json", profile_text(**{LONG: 1}), lola.load_profile),
        ("p.json", f'{{"{LONG}": 1, "{LONG}": 1}}', lola.load_profile),
        ("p.json", profile_text(latency_s=LONG), lola.load_profile),
        ("p.json", profile_text(latency_s=[LONG]), lola.load_profile),
        ("p.json", profile_text(version=[LONG] * 9), lola.load_profile),
        ("p.json", profile_text(provenance=PROFILE["provenance"] | {"model": [LONG]}), lola.load_profile),
        ("p.json", profile_text(provenance=PROFILE["provenance"] | {"batch_size": LONG}), lola.load_profile),
        ("s.toml", f"{SCENARIO}{LONG} = 1\n", lola.load_scenario),
        ("s.toml", f"{SCENARIO}[{LONG}]\n[{LONG}]\n", lola.load_scenario),
        ("s.toml", f'{SCENARIO}local_steps = "{LONG}"\n', lola.load_scenario),
        ("s.toml", f'{SCENARIO}[[pinned]]\ndevice = "{LONG}"\ndepth = 1\n', lola.load_scenario),
        ("s.toml", f'{SCENARIO}[[pinned]]\ndevice = "{LONG}"\ndepth = 0\n', lola.load_scenario),
        ("s.toml", f'{SCENARIO}[[pinned]]\ndevice = "a"\ndepth = "{LONG}"\n', lola.load_scenario),
    ],
)
def test_errors_echo_a_long_text_in_part(folder, name, text, load):
    (folder / name).write_text(text)
    with pytest.raises(lola.FormatError, match=r"\.\.\.| … ") as caught:
        load(folder / name)
    assert len(str(caught.value)) < 5000


def verify(path):
    schedule, problem = lola.load_schedule(path)
    schedule.verify(problem)


def test_errors_echo_a_long_text_of_a_schedule_in_part(tmp_path):
    problem = small_problem()
    lola.save_schedule(lola.schedule(problem), problem, tmp_path / "s.json")
    for keys in (("proof", "kind"), ("schedule", "method"), ("schedule", "hits_memory_wall"), ("problem", "pinned")):
        data = json.loads((tmp_path / "s.json").read_text())
        data[keys[0]][keys[1]] = LONG
        (tmp_path / "long.json").write_text(json.dumps(data))
        with pytest.raises((lola.FormatError, lola.VerificationError), match=r"'long.*\.\.\.") as caught:
            verify(tmp_path / "long.json")
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "keys",
    [
        ("importance", "name"),
        ("importance", "measure"),
        ("importance", "gain"),
        ("importance", LONG),
        ("plan", "rank"),
        ("plan", "budget"),
        ("plan", LONG),
        (LONG, LONG),
    ],
)
def test_errors_echo_a_long_text_of_ranks_in_part(tmp_path, keys):
    importance = lola.Importance([[9.0, 4.0], [3.0, 1.0]], cost=[100, 100], name=["b", "a"])
    lola.save_ranks(lola.allocate_ranks(importance, budget=300), importance, tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text())
    data.setdefault(keys[0], {})[keys[1]] = LONG
    (tmp_path / "long.json").write_text(json.dumps(data))
    with pytest.raises(lola.FormatError, match=r"'?long.*(\.\.\.| … )") as caught:
        lola.load_ranks(tmp_path / "long.json")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "change", [{LONG: 1}, {"measure": LONG}, {"name": [LONG, 5]}, {"gain": LONG}, {"cost": [LONG]}]
)
def test_errors_echo_a_long_text_of_an_importance_in_part(tmp_path, change):
    lola.save_importance(lola.Importance([[9.0, 4.0]], cost=[100]), tmp_path / "i.json")
    data = json.loads((tmp_path / "i.json").read_text())
    (tmp_path / "i.json").write_text(json.dumps(data | change))
    with pytest.raises(lola.FormatError, match=r"long.*(\.\.\.| … )") as caught:
        lola.load_importance(tmp_path / "i.json")
    assert len(str(caught.value)) < 500


def test_no_terminal_obeys_what_a_file_or_its_name_says(tmp_path, capsys):
    escape = "\x1b]0;owned\x07\x9b2J\u202e"
    problem, scenario = small_problem(), tmp_path / "s.toml"
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    lola.save_schedule(lola.schedule(problem), problem, tmp_path / f"s{escape}.json")
    forged = json.loads((tmp_path / "p.json").read_text())
    forged["provenance"]["note"] = forged["provenance"]["hardware"] = escape
    (tmp_path / "forged.json").write_text(json.dumps(forged))
    poisoned = (tmp_path / "f.csv").read_text().replace("ann", f"ann{escape}")
    (tmp_path / "poisoned.csv").write_text(poisoned)
    named = json.dumps(f"{escape}.csv")
    scenario.write_text(f'fleet = {named}\nprofile = "p.json"\nbandwidth_hz = 1e6\n')
    files = ["--profile", str(tmp_path / "p.json"), "--fleet", str(tmp_path / "f.csv")]
    for arguments, code in (
        (["schedule", *files, "--profile", str(tmp_path / "forged.json")], 64),
        (["schedule", *files, "--fleet", str(tmp_path / "poisoned.csv")], 64),
        (["schedule", str(scenario)], 64),
        (["schedule", *files, "--method", escape], 64),
        (["schedule", *files, "--json", str(tmp_path / escape / "s.json")], 64),
        (["verify", str(tmp_path / f"s{escape}.json")], 0),
        (["verify", str(tmp_path / f"{escape}\udcff.json")], 64),
        (["simulate", "--snr-db", escape], None),
        (["fly", escape], None),
    ):
        if code is None:
            with pytest.raises(SystemExit):
                main(arguments)
        else:
            assert main(arguments) == code
        out, err = capsys.readouterr()
        assert all(character.isprintable() or character == "\n" for character in out + err), arguments
        assert ("\\x1b]0;" in out + err) or arguments[0] == "fly", arguments
