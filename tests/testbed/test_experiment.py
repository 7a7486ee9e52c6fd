"""A scenario file is read as it is meant, or refused with the reason; rounds come in turns."""

import copy
import tomllib
from pathlib import Path

import experiment
import numpy as np
import pytest
import testbed
from experiment import ScenarioError, check_cores, load, of_dict

FOLDER = Path(experiment.__file__).parent
SMALL = tomllib.loads((FOLDER / "small.toml").read_text())


@pytest.mark.parametrize("name", ["full", "small"])
def test_the_scenarios_can_be_run_on_two_cores(name):
    scenario = load(FOLDER / f"{name}.toml")
    check_cores(scenario, 2)
    assert of_dict(scenario.to_dict()) == scenario
    assert scenario.model.config()["num_hidden_layers"] == scenario.model.layers
    assert sum(device.holds == scenario.model.layers for device in scenario.devices) >= 1


def test_the_full_scenario_has_the_five_schemes_and_both_baselines_without_limits():
    schemes = load(FOLDER / "full.toml").schemes
    assert [(scheme.method, scheme.most_blocks) for scheme in schemes if scheme.memory_limits] == [
        ("jbba", None),
        ("jbba", 1),
        ("ba", 1),
        ("communication-aware", 1),
        ("random", 1),
    ]
    assert [scheme.method for scheme in schemes if not scheme.memory_limits] == ["communication-aware", "random"]
    assert {scheme.rounds for scheme in schemes if scheme.method in ("jbba", "ba")} == {15}


def test_a_channel_is_the_same_for_every_scheme_and_another_in_every_round():
    scenario = load(FOLDER / "full.toml")
    mean = np.array([device.efficiency for device in scenario.devices])
    assert (scenario.efficiency(3) == scenario.efficiency(3)).all()
    rounds = np.log(np.array([scenario.efficiency(step) for step in range(2000)]) / mean)
    assert abs(rounds.mean()) < 0.005
    assert abs(rounds.std() / scenario.fading - 1) < 0.02


def test_neighbours_of_the_same_memory_limits_take_turns():
    order = [(scheme.name, step) for scheme, step in testbed.turns(of_dict(SMALL))]
    spare = "communication-aware, memory to spare"
    assert order == [
        ("JBBA", 0),
        ("communication-aware", 0),
        ("JBBA", 1),
        ("JBBA", 2),
        (spare, 0),
        (spare, 1),
    ]


def changed(**changes):
    data = copy.deepcopy(SMALL)
    for path, value in changes.items():
        *way, last = (int(key) if key.isdigit() else key for key in path.split("__"))
        part = data
        for key in way:
            part = part[key]
        if value is None:
            del part[last]
        else:
            part[last] = value
    return data


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"colour": 1}, "the scenario: colour is no key; keys are bandwidth_hz, devices, "),
        ({"seed": None}, "the scenario: seed is missing"),
        ({"seed": "a"}, "the scenario: seed must be a number from 0 on, got 'a'"),
        ({"fading": -0.1}, "fading must be a number from 0 on, got -0.1"),
        ({"local_steps": True}, "local_steps must be a number from 0 on, got True"),
        ({"model": 3}, r"the scenario: \[model\] must be a table, got 3"),
        ({"model__layers": "3"}, r"\[model\]: layers must be of type int, got '3'"),
        ({"model__layers": None}, r"\[model\]: layers is missing"),
        ({"devices": 1}, r"devices must be tables, such as \[\[devices\]\]; got 1"),
        ({"devices": []}, r"\[\[devices\]\] must have different names, got none"),
        ({"devices__0__name": "b"}, r"\[\[devices\]\] must have different names, got b, b, c, d"),
        ({"devices__0__speed": 1.5}, r"device a must have a speed in \(0, 1\], .*; got 1.5, 3.0 and 3"),
        ({"devices__0__holds": 4}, "and hold 1 to 3 blocks; got 0.3, 3.0 and 4"),
        ({"devices__0__efficiency": 0.0}, "a positive efficiency and hold 1 to 3 blocks; got 0.3, 0.0"),
        ({"schemes__0__method": "jbb"}, "scheme JBBA must be of a method of .*; got 'jbb'"),
        ({"schemes__0__max_blocks": "some"}, "max_blocks of scheme JBBA must be from 1 on, or \"all\"; got 'some'"),
        ({"schemes__0__memory_limits": 1}, r"\[\[schemes\]\]: memory_limits must be of type bool, got 1"),
        ({"schemes__0__name": "communication-aware"}, r"\[\[schemes\]\] must have different names"),
        ({"schemes": []}, "and there must be one"),
    ],
)
def test_what_a_scenario_cannot_say(changes, why):
    with pytest.raises(ScenarioError, match=why):
        of_dict(changed(**changes))


def test_a_file_that_is_no_scenario(tmp_path):
    with pytest.raises(ScenarioError, match=r"nothing.toml: a scenario in TOML was wanted: .*; see bench/testbed/full"):
        load(tmp_path / "nothing.toml")
    (tmp_path / "bad.toml").write_text("seed = ")
    with pytest.raises(ScenarioError, match=r"bad.toml: a scenario in TOML was wanted"):
        load(tmp_path / "bad.toml")


def test_more_than_the_machine_has_is_refused():
    scenario = of_dict(changed(devices__0__speed=1.0, devices__1__speed=0.8))
    with pytest.raises(ScenarioError, match=r"must add up to at most 1.7 of this machine's 2 cores, got 2.25; lower"):
        check_cores(scenario, 2)
    check_cores(scenario, 4)
