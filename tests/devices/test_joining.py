"""What a device is told before it joins, what it says of itself, and what is refused before a run begins."""

import json
import shutil
import socket
import ssl
import threading
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from cooperative import tiny_depths
from fleets import GENEROUS_S, PROBLEM, devices_of, until
from nonsense import make_place
from rich.console import Console
from tiny_models import save_checkpoint
from travelling import damaged, signed

import lola
from lola.adapters import CooperativeSession
from lola.cli.live import RoundsShown
from lola.cli.main import main
from lola.devices import Certificates, EmbeddedBroker, ServedDevices, model_identity, timings_of
from lola.devices.connection import Connection
from lola.devices.timings import TimingsFile
from lola.devices.topics import announcement_topic
from lola.tasks import RunAnnouncement, TrainingSettings, prepare_member
from lola.tasks.joining import available_memory_bytes, measured_speed
from lola.tasks.training import adapted_classifier, profile_of


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def announcement(place):
    settings = TrainingSettings(model=str(place / "model"), task="mrpc", data=str(place), batch=8, seq=16, lora_alpha=3)
    classifier, depths = adapted_classifier(settings)
    return RunAnnouncement.of_run(model_identity(depths), settings, profile_of(settings, classifier))


@pytest.fixture
def announce(announcement):
    """Announce a run on a broker of its own, and give its port."""
    with EmbeddedBroker() as broker:
        connection = Connection(
            broker.address, "server", [], print, lambda: None, lambda: None, most_bytes=1000, queued=4
        )
        connection.start()
        until(lambda: connection.wait(1.0))

        def announced(payload=None):
            said = announcement.to_bytes() if payload is None else payload
            assert connection.publish(announcement_topic("run"), said, retain=True)(GENEROUS_S)
            return broker.address.port

        yield announced
        connection.close()


def test_an_announcement_is_read_as_it_was_written_and_tells_no_folder(announcement, place):
    data = announcement.to_bytes()
    read = RunAnnouncement.from_bytes(data)
    assert (read.identity, read.settings) == (announcement.identity, announcement.settings)
    for name in ("memory_bytes", "latency_s", "upload_bits", "extra_latency_s", "extra_memory_bytes"):
        np.testing.assert_array_equal(getattr(read.profile, name), getattr(announcement.profile, name))
    assert read.to_bytes() == data
    assert str(place).encode() not in data
    assert read.settings.model == "model"
    local = read.settings_for("elsewhere", "mine")
    assert (local.model, local.data, local.lora_alpha, local.seq) == ("elsewhere", "mine", 3, 16)


def test_a_damaged_announcement_is_refused_or_changes_nothing(announcement, instances):
    import random

    rng, valid, refused = random.Random(4), announcement.to_bytes(), 0
    for number in range(count := instances(200)):
        data = damaged(rng, valid)
        try:
            read = RunAnnouncement.from_bytes(signed(data) if number % 2 else data)
        except lola.FormatError as error:
            refused += 1
            assert str(error).isprintable()
        else:
            assert read.profile.n_blocks >= 1
            assert read.settings.rank >= 1
    assert refused > count // 4


@pytest.mark.parametrize(
    "place_in, change, why",
    [
        ((), {"identity": "x"}, "a RunAnnouncement's identity must be a SHA-256 in hexadecimal, got 'x'"),
        ((), {"settings": []}, "a RunAnnouncement's settings"),
        (("settings",), {"rank": 0}, "a RunAnnouncement's settings: rank must be at least 1, got 0"),
        (("settings",), {"data": "/etc"}, "unknown key 'data'"),
        (("settings",), {"task": "wnli"}, "a RunAnnouncement's settings: task must be one of cola"),
        (("profile",), {"latency_s": [1.0]}, "a RunAnnouncement's profile"),
        (("profile",), {"memory_bytes": ["much"]}, "a RunAnnouncement's profile, memory_bytes"),
    ],
)
def test_a_forged_announcement_is_refused_with_the_reason(announcement, place_in, change, why):
    data = announcement.to_bytes()
    header = json.loads(data[52:])
    part = header
    for name in place_in:
        part = part[name]
    part.update(change)
    text = json.dumps(header).encode()
    forged = signed(data[:40] + len(text).to_bytes(4, "little") + bytes(8) + text)
    with pytest.raises(lola.FormatError, match=why):
        RunAnnouncement.from_bytes(forged)


def test_a_device_has_all_its_rows_or_the_shard_that_a_simulated_one_has(announcement, place):
    whole = prepare_member(announcement, str(place / "model"), str(place))
    parts = [prepare_member(announcement, str(place / "model"), str(place), shard=(i, 4)) for i in (1, 2, 3, 4)]
    assert (whole.rows, [part.rows for part in parts]) == (60, [15] * 4)
    assert sum(part.tokens for part in parts) == whole.tokens
    assert parts[1].source.endswith("shard 2 of 4")
    batch, again = (next(iter(parts[0].batches(6, 2)))["input_ids"] for _ in range(2))
    assert torch.equal(batch, again)
    assert batch.shape[0] == 8
    with pytest.raises(ValueError, match=r"shard must be one of n, such as 1/4, got 5/4; count from 1"):
        prepare_member(announcement, str(place / "model"), str(place), shard=(5, 4))


def test_a_speed_is_measured_once_for_the_same_work(announcement, place, tmp_path, caplog):
    member, profile = prepare_member(announcement, str(place / "model"), str(place)), announcement.profile
    folder = tmp_path / "cache"
    before = [weight.clone() for weight in member.depths.all_parameters()]
    speed = measured_speed(member, profile, folder=folder, of="8 1")
    assert all(map(torch.equal, before, member.depths.all_parameters()))
    assert speed == measured_speed(member, profile, folder=folder, of="8 1")
    twice = replace(profile, latency_s=2 * profile.latency_s)
    assert measured_speed(member, twice, folder=folder, of="8 1") == pytest.approx(2 * speed)
    (remembered,) = folder.iterdir()
    measured_speed(member, profile, folder=folder, of="8 2")
    assert len(list(folder.iterdir())) == 2
    remembered.write_text("{}")
    assert measured_speed(member, profile, folder=folder, of="8 1") > 0
    assert "the speed is measured again: " in caplog.text
    idle = lola.Profile(memory_bytes=profile.memory_bytes, latency_s=[0.0] * 3, upload_bits=1e6)
    with pytest.raises(ValueError, match="the server's profile must say how long a depth takes, got 0 s; say this dev"):
        measured_speed(member, idle, folder=folder, of="8 1")


def test_free_memory_is_some_of_what_the_machine_has():
    assert 1e7 < available_memory_bytes() < 1e14


def test_timings_go_on_after_the_checkpoint(tmp_path):
    file = TimingsFile(tmp_path, 0)
    header = "version,depth,device,compute_s,was_compute_s,upload_s,was_upload_s,round_s,was_round_s\n"
    path = tmp_path / "timings.csv"
    assert path.read_text() == header
    path.write_text(
        f"{header}1,1,ann,1.0,1.5,2.0,2.5,3.0,4.0\n1,2,bob,1.0,,2.0,,3.0,4.0\n2,1,ann,1.0,1,2,3,3.0,5.0\n3,1,a"
    )
    assert TimingsFile(tmp_path, 1).measured_s() == 4.0
    assert path.read_text().splitlines()[1:] == ["1,1,ann,1.0,1.5,2.0,2.5,3.0,4.0", "1,2,bob,1.0,,2.0,,3.0,4.0"]
    assert file.measured_s() == 4.0


def test_a_table_follows_the_rounds_on_a_terminal(tmp_path, capsys):
    (tmp_path / "server").mkdir()
    depths, said, screen = tiny_depths(tmp_path / "server"), [], StringIO()
    depths.model.train()
    optimizer = torch.optim.Adam(depths.all_parameters(), lr=1e-2)
    names = ("ann", "bob", "cem")
    with (
        EmbeddedBroker() as broker,
        ServedDevices(
            depths,
            broker.address,
            "tiny",
            lambda identity: b"it",
            said.append,
            needed=names,
            message_s=GENEROUS_S,
        ) as devices,
        devices_of(tmp_path, broker.address, names),
    ):
        session = CooperativeSession(depths, optimizer, PROBLEM, None, devices=devices)
        shown = RoundsShown(session, devices, 2, Console(file=screen, force_terminal=True, width=120))
        with shown.following():
            for record in session.run(2):
                shown.ended(record, timings_of(record.version, session.schedule, devices.exchanges))
    table = screen.getvalue()
    for text in ("round 2 of 2, 0.", "s scheduled; the last: loss ", "s, was 0.", *names):
        assert text in table
    assert capsys.readouterr().out.count("\n") == 2  # the table has the devices
    assert all(line.startswith("waiting for ") for line in said)


def device(place, port, *more):
    options = ["device", "--model", place / "model", "--data", place, "--broker", f"127.0.0.1:{port}", *more]
    return [str(option) for option in options]


def test_another_model_or_alpha_ends_the_device_with_the_reason(announce, announcement, place, tmp_path, capsys):
    port = announce()
    other = save_checkpoint(tmp_path / "other", "roberta")
    wanted = "the run's model, model, was wanted, with the server's very weights, got another"
    assert main([*device(place, port, "--name", "ann"), "--model", other]) == 64
    assert f"lola: {other}: {wanted}" in capsys.readouterr().err
    announce(replace(announcement, settings=replace(announcement.settings, lora_alpha=4)).to_bytes())
    assert main(device(place, port, "--name", "ann")) == 64
    assert wanted in capsys.readouterr().err
    announce(b"hello")
    assert main(device(place, port, "--name", "ann")) == 64
    assert "lola: a RunAnnouncement was wanted, got b'hello'" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_who_has_no_certificate_of_the_brokers_authority_is_told_so(place, tmp_path, capsys):
    """Whether it is the broker's or the device's own that is wrong: the connection is refused."""
    ours, theirs = (Certificates.create(tmp_path / name, ["127.0.0.1"]) for name in ("ours", "theirs"))
    certificate, _ = ours.add_device("ann")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*theirs.broker)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            while True:
                try:
                    with listener.accept()[0] as sock, context.wrap_socket(sock, server_side=True):
                        pass
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=greet, daemon=True).start()
        port = listener.getsockname()[1]
        assert main(device(place, port, "--certificate", certificate)) == 64
    error = capsys.readouterr().err
    assert f"lola: 127.0.0.1:{port}: the broker was to let ann in, but: " in error
    assert "is its certificate of the broker's authority, and not revoked?" in error


def test_what_a_device_cannot_be_told_is_said_before_it_connects(place, tmp_path, capsys):
    certificates = Certificates.create(tmp_path / "c", ["127.0.0.1"])
    ann, key = certificates.add_device("ann")
    lone = tmp_path / "lone.pem"
    shutil.copy(ann, lone)
    (tmp_path / "text.pem").write_text("hello")
    for more, message in (
        ((), "a device needs --name, or a --certificate that has it: one of the two, got neither"),
        (("--name", "ann", "--certificate", ann), "one of the two, got both"),
        (("--name", "server"), "a device must have a name of its own, got 'server', the server's"),
        (("--name", "a b"), "a device must be named by 1 to 64 of the characters"),
        (("--name", "ann", "--run", "a/b"), "a run must be named by 1 to 64 of the characters"),
        (("--name", "ann", "--authority", ann), "--authority goes with a --certificate, got none"),
        (
            ("--name", "ann", "--broker", "a:b:c"),
            "--broker must be a host and a port, such as 192.0.2.1:8883, got 'a:b:c'",
        ),
        (("--name", "ann", "--broker", "a:70000"), "a broker must have a host and a port in 1…65535"),
        (("--name", "ann", "--shard", "3/2"), "--shard must be one of n, such as 1/4 … 4/4, got '3/2'"),
        (("--name", "ann", "--memory", 0), "--memory must be a positive number, got 0.0"),
        (("--name", "ann", "--speed", -1), "--speed must be a positive number, got -1.0"),
        (("--name", "ann", "--uplink-bps", "nan"), "--uplink-bps must be a positive number, got nan"),
        (("--certificate", lone), f"{tmp_path / 'authority.pem'}: there is no such certificate or key"),
        (("--certificate", lone, "--authority", certificates.authority), "lone.key: there is no such certificate"),
        (("--certificate", certificates.paths("server")[0]), "a device must have a name of its own, got 'server'"),
        (("--certificate", tmp_path / "none.pem"), "there is no such certificate"),
    ):
        assert main(device(place, 1, *more)) == 64, more
        assert message in capsys.readouterr().err, more
    key.unlink()
    (tmp_path / "text.key").write_text("hello")
    assert main(device(place, 1, "--certificate", tmp_path / "text.pem", "--authority", certificates.authority)) == 64
    assert "text.pem: a certificate and its key in PEM, and an authority's, were wanted" in capsys.readouterr().err


def test_what_a_server_cannot_be_told(place, tmp_path, capsys):
    out = tmp_path / "out"
    setting = ["serve", "--model", place / "model", "--task", "mrpc", "--data", place, "--out", out, "--batch", 8]
    with EmbeddedBroker() as broker:
        here = ("--broker", broker.address)
        for more, message in (
            ((), "--embedded or a --broker is needed, one of the two, got neither"),
            ((*here, "--embedded"), "--embedded or a --broker is needed, one of the two, got both"),
            (
                ("--embedded", "--certificates", tmp_path),
                "the embedded broker knows no certificates, got --certificates",
            ),
            (("--embedded", "--port", broker.address.port), "--port must be a free one for the embedded broker, got "),
            ((*here, "--certificates", tmp_path), "there is no certificate of server"),
            ((*here, "--devices", "ann,ann"), "devices must have different names, got ann, ann; name each once"),
            ((*here, "--devices", "ann,,bob"), "a device must be named by 1 to 64 of the characters"),
            (
                (*here, "--patience-s", 3),
                "run run waited 3 s for devices that can hold the model; 0 are there (none)",
            ),
            ((*here, "--rounds", 0), "rounds must be at least 1, got 0"),
            ((*here, "--most-bytes", 9), "--most-bytes is the embedded broker's, and needs --embedded; or change mosq"),
            (("--embedded", "--port", 0, "--most-bytes", 0), "--most-bytes must be at least 1, got 0"),
            (
                ("--embedded", "--port", 0, "--most-bytes", 2000),
                "for this model's update, got 2000; raise it, or take a smaller --rank",
            ),
        ):
            assert main([str(option) for option in (*setting, "--seq", 16, *more)]) == 64, more
            assert message in capsys.readouterr().err, more
    (out / "devices.json").write_text('{"format": "lola-devices", "version": 1, "names": [3]}')
    assert main([str(option) for option in (*setting, "--seq", 16, "--embedded", "--port", 0)]) == 64
    assert "names must be a list of the devices' names; take it from a copy of the run" in capsys.readouterr().err
