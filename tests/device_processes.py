"""A device and a server in processes of their own, to be stopped and killed: forked from one that has torch loaded."""

import multiprocessing
import os
import time
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers.models.bert.modeling_bert  # noqa: F401  # so that processes inherit what takes long to load
from fleets import data, device, everybody, over

from lola.adapters import Setting
from lola.devices import BrokerAddress

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["device_processes"])


@contextmanager
def process(target, *arguments):
    """Run ``target(report, *arguments)`` in a process: yield that, and the connection which `report` sends to."""
    before, os.environ["PYTHONPATH"] = os.environ.get("PYTHONPATH"), str(Path(__file__).parent)
    hear, report = _context.Pipe(duplex=False)
    child = _context.Process(target=target, args=(report, *arguments), daemon=True)
    try:
        child.start()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    report.close()
    try:
        yield child, hear
    finally:
        child.kill()
        child.join()


def told(hear):
    """Return what a process reports until it ends."""
    reports = []
    while True:
        try:
            reports.append(hear.recv())
        except EOFError:
            return reports


def ann(report, folder, port, *, off_s=0.0):
    """A device that reports when it computes, on a machine whose clock is off."""
    torch.set_num_threads(1)
    real = time.time
    time.time, time.time_ns = lambda: real() + off_s, lambda: int((real() + off_s) * 1e9)

    def batches(number, version):
        report.send(version)
        return data().batches(number, version)

    device(folder, BrokerAddress(port=port), "ann", batches=batches).run()


def server(report, folder, port, rounds):
    """A server that goes on from its checkpoint, and reports what its rounds did."""
    torch.set_num_threads(1)
    setting = Setting(checkpoint_every=1)
    with over(folder, BrokerAddress(port=port), setting=setting, keep=True, message_s=20.0) as session:
        for version in range(session.version + 1, rounds + 1):
            everybody(session)
            for record in session.run(version):
                report.send((record.version, record.loss, record.refused))
