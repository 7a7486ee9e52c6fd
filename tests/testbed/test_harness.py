"""A whole testbed, as small as it can be: a round is predicted and measured, and a device that is killed ends it."""

import os
import shutil
import signal
import subprocess
import sys
import time

import experiment
import leftovers
import network
import pytest
import testbed
from network import TestbedError, missing

from lola.devices.mosquitto import installed_mosquitto

BROKER = installed_mosquitto()
LACKS = missing() + ([] if BROKER else ["mosquitto"])
INSTALLABLE = os.environ.get("CI") and os.geteuid() == 0 and not (shutil.which("ip") and shutil.which("tc") and BROKER)
TINY = {
    "seed": 1,
    "bandwidth_hz": 1e6,
    "local_steps": 1,
    "fading": 0.1,
    "slack": 10.0,  # so that a busy machine ends no round
    "message_s": 1.0,
    "profile_s": 1,
    "model": {
        "layers": 2,
        "hidden": 64,
        "intermediate": 128,
        "heads": 4,
        "batch_size": 32,
        "sequence_length": 96,
        "lora_rank": 32,
    },
    "devices": [
        {"name": "ann", "speed": 0.4, "efficiency": 4.0, "holds": 2},
        {"name": "bob", "speed": 0.3, "efficiency": 5.0, "holds": 2},
    ],
    "schemes": [{"name": "JBBA", "method": "jbba", "rounds": 1}],
}


@pytest.mark.skipif(bool(LACKS) and not INSTALLABLE, reason=f"this machine lacks {', '.join(LACKS)}")
def test_a_round_is_predicted_and_measured_and_a_killed_device_ends_the_testbed(tmp_path):
    from harness import Testbed

    scenario = experiment.of_dict(TINY)
    (scheme,) = scenario.schemes
    with pytest.raises(TestbedError, match="ann ended, and not for memory; see .*ann.log"):  # noqa: PT012, SIM117
        with Testbed(scenario, tmp_path) as bed:
            prefix = bed.network.prefix
            errors = {"ann": [], "bob": []}
            for step in range(3):
                record = bed.run_round(scheme, step)
                assert [block["depths"] for block in record["blocks"]] == [[1, 1], [2, 2]]
                assert {block["device"] for block in record["blocks"]} == {"ann", "bob"}
                assert record["applied"] == 2
                assert record["measured_s"] == max(block["measured"]["answered_s"] for block in record["blocks"])
                for block in record["blocks"]:
                    assert not block["killed"]
                    assert not block["short_of_memory"]
                    assert block["measured"]["compute_s"] > 0
                    ratio = block["measured"]["upload_s"] / block["predicted"]["upload_s"]
                    errors[block["device"]].append(abs(ratio - 1))
            assert max(min(some) for some in errors.values()) < 0.25  # other work delays some uploads, but not all
            assert leftovers.left()[prefix]
            os.kill(bed._processes["ann"].pid, signal.SIGKILL)
            bed.run_round(scheme, 3)
    assert prefix not in leftovers.left()


def test_a_process_that_nobody_has_ended_is_ended_and_not_waited_for(tmp_path):
    from harness import Testbed

    bed = Testbed(experiment.of_dict(TINY), tmp_path)
    sleeper = subprocess.Popen(["sleep", "600"])
    bed._started.append(sleeper)
    begun = time.monotonic()
    bed._reap()
    assert sleeper.returncode == -signal.SIGKILL
    assert time.monotonic() - begun < 60


@pytest.mark.skipif(bool(LACKS) and not INSTALLABLE, reason=f"this machine lacks {', '.join(LACKS)}")
def test_a_calibration_that_hangs_ends_with_the_reason(tmp_path, monkeypatch):
    import harness

    monkeypatch.setattr(harness, "_CALIBRATING_S", 0.5)
    monkeypatch.setattr(harness.Testbed, "_script", lambda *_: ["sleep", "600"])
    with (
        pytest.raises(TestbedError, match=r"calibration1 failed, or took 0.5 s; see .*calibration1.log"),
        harness.Testbed(experiment.of_dict(TINY), tmp_path),
    ):
        pass


def test_the_command_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["testbed.py", "--results", str(tmp_path / "r.json")])
    monkeypatch.setattr(network, "missing", lambda: ["tc (iproute2)", "root"])
    with pytest.raises(SystemExit, match=r"testbed: this machine lacks tc \(iproute2\), root"):
        testbed.main()
    (tmp_path / "s.toml").write_text("seed = 1")
    monkeypatch.setattr(sys, "argv", ["testbed.py", str(tmp_path / "s.toml")])
    with pytest.raises(SystemExit, match=r"testbed: .*s.toml: bandwidth_hz is missing"):
        testbed.main()
