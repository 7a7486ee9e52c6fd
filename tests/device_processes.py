"""Device, server and broker in processes of their own, to be stopped and killed: forked from one that has torch."""

import threading
import time
from contextlib import contextmanager

import torch
from fleets import data, device, everybody, over
from processes import CONTEXT

from lola.adapters import Setting
from lola.devices import BrokerAddress, EmbeddedBroker


@contextmanager
def process(target, *arguments):
    """Run ``target(report, *arguments)`` in a process: yield that, and the connection which `report` sends to."""
    hear, report = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=target, args=(report, *arguments), daemon=True)
    child.start()
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


def ann(report, folder, port, *, off_s=0.0, hangs_at=None):
    """A device that reports when it computes, on a machine whose clock is off; at one version, it computes for ever."""
    torch.set_num_threads(1)
    real = time.time
    time.time, time.time_ns = lambda: real() + off_s, lambda: int((real() + off_s) * 1e9)

    def batches(number, version):
        report.send(version)
        if version == hangs_at:
            threading.Event().wait()
        return data().batches(number, version)

    device(folder, BrokerAddress(port=port), "ann", batches=batches).run()


def broker(report, port):
    """A broker that reports its port once it listens."""
    with EmbeddedBroker(port, most_bytes=2**20) as running:
        report.send(running.address.port)
        threading.Event().wait()


def server(report, folder, port, rounds):
    """A server that goes on from its checkpoint, and reports what its rounds did."""
    torch.set_num_threads(1)
    setting = Setting(checkpoint_every=1)
    with over(folder, BrokerAddress(port=port), setting=setting, keep=True) as session:
        for version in range(session.version + 1, rounds + 1):
            everybody(session)
            for record in session.run(version):
                report.send((record.version, record.loss, record.refused))
