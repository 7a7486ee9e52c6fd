"""``lola serve``, ``lola device`` and ``lola certificates`` as a user runs them: real processes on 127.0.0.1."""

import csv
import json
import re
import socket
from contextlib import closing

import pytest
from brokers import Mosquitto, needs_mosquitto
from fleets import until
from nonsense import make_place
from processes import Command

import lola
from lola.cli.main import main

NAMES = ("ann", "bob", "cem")
BANDWIDTH_HZ = 1e6
LONG_S = 300.0  # for what a slow machine takes its time for, processes that start above all


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = make_place(tmp_path_factory.mktemp("place"))
    # Slow enough that tasks and uploads count, and that no order of devices hangs on rounding.
    fleet = lola.Fleet(
        speed=[1e-3, 9e-4, 8e-4], memory_bytes=[3e9] * 3, spectral_efficiency=[2.0, 4.0, 3.0], name=NAMES
    )
    lola.save_fleet(fleet, folder / "fleet.csv")
    return folder


@pytest.fixture
def start(tmp_path):
    """Start commands that end, at the latest, when the test does."""
    commands = []

    def started(name, *arguments):
        commands.append(Command(tmp_path, name, *arguments))
        return commands[-1]

    yield started
    for command in commands:
        command.kill()


@pytest.fixture
def port():
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=needs_mosquitto)])
def meeting(request, tmp_path, port):
    """Options of a server, and of a device by its name, that meet at a broker: without TLS, or with certificates."""
    if request.param == "embedded":
        yield ["--embedded", "--port", port], lambda name: ["--broker", f"127.0.0.1:{port}", "--name", name]
        return
    mosquitto = Mosquitto(tmp_path)
    where, certificates = ["--broker", f"127.0.0.1:{mosquitto.port}"], mosquitto.certificates
    try:
        mosquitto.start()
        yield (
            [*where, "--certificates", certificates.folder],
            lambda name: [*where, "--certificate", certificates.paths(name)[0]],
        )
    finally:
        mosquitto.stop()


def setting(place, out, *more):
    options = ["--model", place / "model", "--task", "mrpc", "--data", place, "--out", out, "--batch", 8, "--seq", 16]
    options += ["--lr", 0.01, "--threads", 1, "--eval-every", 2, "--max-blocks", 2, "--bandwidth-hz", BANDWIDTH_HZ]
    return [*options, *more]


def served(place, out, port, *more):
    return ["serve", *setting(place, out, "--embedded", "--port", port, *more)]


def device(place, port, name):
    return [*joining(place, port, name), *offering(place, name)]


def offering(place, name):
    """Options of a device that is what the fleet of the simulated session says."""
    fleet = lola.load_fleet(place / "fleet.csv")
    k = NAMES.index(name)
    uplink_bps = fleet.spectral_efficiency[k] * BANDWIDTH_HZ
    said = ["--speed", fleet.speed[k], "--memory", fleet.memory_bytes[k], "--uplink-bps", uplink_bps]
    return ["--shard", f"{k + 1}/{len(NAMES)}", *said]


def joining(place, port, name):
    return [*learning(place), "--broker", f"127.0.0.1:{port}", "--name", name]


def learning(place):
    return ["device", "--model", place / "model", "--data", place, "--threads", 1]


def rows(file):
    return list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []


def weights(out, version):
    return (out / f"round-{version:06d}" / "weights.safetensors").read_bytes()


def test_devices_that_have_the_same_data_end_with_the_bits_of_a_simulated_run(place, start, meeting, tmp_path):
    served_out, out = tmp_path / "served", tmp_path / "simulated"
    # A slow machine must not miss a deadline: its bits would be others.
    whole = ("--rounds", 6, "--devices", ",".join(NAMES), "--slack", 500)
    serving, joined = meeting
    server = start("server", "serve", *setting(place, served_out, *serving, *whole))
    devices = [
        start(name, *learning(place), *joined(name), *offering(place, name), *["--pace"] * (name == "ann"))
        for name in NAMES
    ]
    simulated = ["train", *setting(place, out, "--rounds", 6, "--fleet", place / "fleet.csv")]
    assert main([str(option) for option in simulated]) == 0
    assert server.ends() == 0, server.said
    for one in devices:
        assert one.ends() == 0, one.said
        assert "run run has ended" in one.said
    assert "waiting for devices that can hold the model; there: nobody yet" in server.said
    one, other = rows(served_out / "metrics.csv"), rows(out / "metrics.csv")
    assert [row["version"] for row in one] == list("123456")
    same = ("loss", "applied", "device_of_block", "accuracy", "f1")
    assert [[row[name] for name in same] for row in one] == [[row[name] for name in same] for row in other]
    assert [weights(served_out, n) for n in (5, 6)] == [weights(out, n) for n in (5, 6)]
    assert (served_out / "model" / "adapter_model.safetensors").exists()
    timings = rows(served_out / "timings.csv")
    assert [(row["version"], row["depth"]) for row in timings] == [
        (str(v), str(d)) for v in range(1, 7) for d in (1, 2, 3)
    ]
    took_s = [float(row["was_compute_s"]) + float(row["was_upload_s"]) for row in timings]
    assert all(0 < took <= float(row["was_round_s"]) for took, row in zip(took_s, timings, strict=True))
    scheduled = {row["version"]: float(row["round_s"]) for row in timings}
    assert list(scheduled.values()) == [float(row["latency_s"]) for row in one]
    summary = json.loads((served_out / "summary.json").read_text())
    assert summary["measured_s"] == pytest.approx(
        sum({r["version"]: float(r["was_round_s"]) for r in timings}.values())
    )
    assert json.loads((served_out / "devices.json").read_text())["names"] == list(NAMES)
    lines = [line for line in server.said.splitlines() if line.startswith("round 6: ")]
    assert re.fullmatch(r"round 6: loss \d\.\d+, accuracy .*, f1 .*; .* s, was .* s", lines[0])
    assert re.search(
        r"^  \w+, depth [123](, [123])*: compute .* s, was .* s; upload .* s, was .* s$", server.said, re.M
    )


def test_a_rank_of_each_block_is_served_as_it_is_simulated(place, start, port, tmp_path):
    """Devices learn the ranks from the announcement; a block without any is left out of all that goes to and fro."""
    importance = lola.Importance([[9, 4, 3], [1, 0.5, 0.2], [8, 5, 2]], cost=[64] * 3)  # the tiny model's size
    lola.save_ranks(lola.allocate_ranks(importance, budget=5 * 64, min_rank=0), importance, tmp_path / "ranks.json")
    ranks, out, served_out = ["--ranks", tmp_path / "ranks.json"], tmp_path / "simulated", tmp_path / "served"
    whole = ("--rounds", 2, "--devices", ",".join(NAMES), "--slack", 500)
    server = start("server", *served(place, served_out, port, *whole, *ranks))
    devices = [start(name, *device(place, port, name)) for name in NAMES]
    simulated = ["train", *setting(place, out, "--rounds", 2, "--fleet", place / "fleet.csv", *ranks)]
    assert main([str(option) for option in simulated]) == 0
    assert server.ends() == 0, server.said
    assert [one.ends() for one in devices] == [0, 0, 0], devices[0].said
    assert weights(served_out, 2) == weights(out, 2)
    assert json.loads((served_out / "settings.json").read_text())["rank"] == [3, 0, 2]
    config = json.loads((served_out / "model" / "adapter_config.json").read_text())
    assert sorted({path.split(".")[3] for path in config["target_modules"]}) == ["0", "2"]


def test_server_and_devices_stop_die_and_come_back(place, start, port, tmp_path):
    out, endless = tmp_path / "out", ("--rounds", 10**6)
    server = start("server", *served(place, out, port, *endless))
    ann = start("ann", *joining(place, port, "ann"))  # measures itself
    start("bob", *device(place, port, "bob"))
    cem = start("cem", *device(place, port, "cem"))

    def participants():
        there = rows(out / "metrics.csv")
        return there and there[-1]["participants"]

    until(lambda: participants() == "3", LONG_S)
    assert re.search(r"^offers [\d.e+]+ bytes, speed [\d.e-]+, uplink [\d.e+]+ bit/s$", ann.said, re.M)
    (remembered,) = (tmp_path / "cache").rglob("device-speed-*.json")
    assert 0 < json.loads(remembered.read_text())["seconds"][0] < 10
    cem.kill()
    until(lambda: participants() == "2", LONG_S)
    cem = start("cem-again", *device(place, port, "cem"))
    until(lambda: participants() == "3", LONG_S)
    server.interrupt()
    assert server.ends(LONG_S) == 130
    latest = rows(out / "metrics.csv")[-1]["version"]
    said = f"lola: interrupted; the same command goes on from round-{int(latest):06d} of {out}, and devices join again"
    assert server.said.splitlines()[-1] == said
    assert rows(out / "timings.csv")[-1]["version"] == latest
    names = json.loads((out / "devices.json").read_text())["names"]
    assert sorted(names) == list(NAMES)
    ann.interrupt()
    assert ann.ends(LONG_S) == 130
    assert "lola: interrupted; ann has left run run; the same command joins it again" in ann.said
    again = start("server-again", *served(place, out, port, *endless))
    again.says(f"goes on from round {latest} in {out}")
    until(lambda: int(rows(out / "metrics.csv")[-1]["version"]) > int(latest), LONG_S)
    assert json.loads((out / "devices.json").read_text())["names"] == names
    again.interrupt()
    assert again.ends(LONG_S) == 130
    versions = [int(row["version"]) for row in rows(out / "timings.csv")[::3]]
    assert versions == list(range(1, len(versions) + 1))
    start("server-other", *served(place, tmp_path / "other", port, *endless, "--lora-alpha", 4))
    assert cem.ends() == 64
    assert "lola: run run goes on with other settings than those that cem joined; start cem again" in cem.said
