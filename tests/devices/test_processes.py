"""Processes that are stopped, killed, short of memory, or in another year."""

import os
import re
import signal
import threading
from functools import partial

import device_processes
import processes
import pytest
import torch
from cooperative import tiny_session, weights_of
from device_processes import process, told
from fleets import PROBLEM, data, device, devices_of, everybody, hurried_round, over, timed_round, until
from proxies import Proxy
from safetensors.torch import load_file

from lola.devices import EmbeddedBroker

THREE = ("ann", "bob", "cem")


@pytest.fixture
def broker():
    with EmbeddedBroker(most_bytes=2**20) as embedded:
        yield embedded


def test_a_process_begins_with_what_takes_long_to_import():
    with process(processes.modules) as (_, hear):
        assert {*processes.PRELOADED} <= {*hear.recv()}


def test_a_device_that_is_stopped_costs_its_block_until_it_goes_on(tmp_path, broker):
    with (
        process(device_processes.ann, tmp_path, broker.address.port) as (child, hear),
        over(tmp_path, broker.address) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem", "dee")),
    ):
        everybody(session)
        run = session.run(100)
        next(run)  # a process's first takes longer
        _, whole_s = timed_round(run)
        assert [hear.recv(), hear.recv()] == [0, 1]
        os.kill(child.pid, signal.SIGSTOP)
        record = hurried_round(session, run, whole_s)
        assert (record.applied, record.missing) == (2, 1)
        assert re.fullmatch(r"device 0 at depth \d: ann had not begun: no answer within .* s", record.refused)
        for _ in range(3):
            record = next(run)
            assert (record.participants, record.applied, record.refused) == (3, 3, "")
        os.kill(child.pid, signal.SIGCONT)
        everybody(session)
        assert next(run).participants == 4
        assert hear.poll(60)


@pytest.mark.parametrize("years", [-30, 30])
def test_a_clock_that_is_wrong_changes_nothing(tmp_path, broker, years):
    here = tiny_session(tmp_path, keep=False, problem=PROBLEM)
    simulated = list(here.run(3))
    with (
        process(partial(device_processes.ann, off_s=years * 365 * 86400.0), tmp_path, broker.address.port) as (_, hear),
        over(tmp_path, broker.address) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem", "dee")),
    ):
        everybody(session)
        records = list(session.run(3))
        assert hear.recv() == 0
    assert [(record.loss, record.refused) for record in records] == [(record.loss, "") for record in simulated]
    assert all(torch.equal(a, b) for a, b in zip(weights_of(here), weights_of(session), strict=True))


SHORTAGES = {
    "of Python": (lambda: bytes(2**60), "MemoryError"),
    "of torch": (lambda: torch.empty(2**50), "RuntimeError: .*allocate"),
}


@pytest.mark.parametrize("name", SHORTAGES)
def test_a_device_that_runs_out_of_memory_says_so_and_takes_part_again(tmp_path, broker, name):
    shortage, why = SHORTAGES[name]

    def batches(number, version):
        if version == 1:
            shortage()
        return data().batches(number, version)

    with (
        over(tmp_path, broker.address, names=THREE) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem")),
        device(tmp_path, broker.address, "ann", batches=batches),
    ):
        everybody(session, THREE)
        run = session.run(3)
        assert next(run).applied == 3
        record, took_s = timed_round(run)
        assert took_s < session.devices.message_s / 2  # nobody waits for who has refused
        assert (record.applied, record.missing) == (2, 1)
        assert re.fullmatch(rf"device 0 at depth \d: ann refuses: {why}.*", record.refused)
        assert next(run).applied == 3  # it reports after a rest


def test_a_device_killed_before_its_task_comes_costs_its_block_and_may_come_back(tmp_path, broker):
    with (
        process(device_processes.ann, tmp_path, broker.address.port) as (child, hear),
        over(tmp_path, broker.address, names=THREE) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem")),
    ):
        everybody(session, THREE)
        run = session.run(3)
        _, whole_s = timed_round(run)
        os.kill(child.pid, signal.SIGSTOP)  # so that it takes no task

        def kill():
            until(lambda: session.devices._round is not None)
            child.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        record = hurried_round(session, run, whole_s)
        killer.join()
        assert (record.applied, record.missing) == (2, 1)
        assert re.fullmatch(r"device 0 at depth \d: ann (is gone|had not begun): no answer within .* s", record.refused)
        assert told(hear) == [0]
        with device(tmp_path, broker.address, "ann"):
            assert next(run).applied == 3


def test_a_device_killed_in_the_middle_of_its_upload_costs_its_block(tmp_path, broker):
    with (
        Proxy(broker.address) as network,
        process(device_processes.ann, tmp_path, network.address.port) as (child, _),
        over(tmp_path, broker.address, names=THREE) as session,
        devices_of(tmp_path, broker.address, ("bob", "cem")),
    ):
        everybody(session, THREE)
        run = session.run(3)
        _, whole_s = timed_round(run)
        network.cut_in(b"lola/tiny/answer/ann")

        def kill():
            network.seen.wait()
            child.kill()
            network.hang_up()

        killer = threading.Thread(target=kill)
        killer.start()
        record = hurried_round(session, run, whole_s)
        killer.join()
        assert (record.applied, record.missing) == (2, 1)
        assert re.fullmatch(
            r"device 0 at depth \d: ann (is gone|was uploading|was computing): no answer within .* s", record.refused
        )
        with device(tmp_path, broker.address, "ann"):
            assert next(run).applied == 3


def test_a_server_killed_within_a_round_goes_on_from_its_checkpoint(tmp_path, broker):
    """The bits are those of a run that was left alone, though devices know the round already that is done again."""
    (tmp_path / "here").mkdir()
    here = tiny_session(tmp_path / "here", keep=False, problem=PROBLEM)
    simulated = [(record.version, record.loss, "") for record in here.run(5)]
    killed = threading.Event()

    def batches(number, version):
        if version == 2 and not killed.is_set():
            killed.set()
            first.kill()
            first.join()
        return data().batches(number, version)

    with devices_of(tmp_path, broker.address, batches=batches):
        with process(device_processes.server, tmp_path, broker.address.port, 5) as (first, hear):
            assert told(hear) == simulated[:2]
        assert killed.is_set()
        with process(device_processes.server, tmp_path, broker.address.port, 5) as (_, hear):
            assert told(hear) == simulated[2:]
    stored = load_file(tmp_path / "run" / "round-000005" / "weights.safetensors")
    wanted = here.depths.all_named_parameters()
    assert stored.keys() == wanted.keys()
    assert all(torch.equal(stored[name], weight) for name, weight in wanted.items())
