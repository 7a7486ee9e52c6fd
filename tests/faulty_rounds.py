"""Rounds whose devices fail at random, and what the same answers do without a broker: a test, and a script for many.

python tests/faulty_rounds.py [rounds]
"""

import gc
import json
import logging
import os
import random
import sys
import tempfile
import threading
import time
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from cooperative import tiny_depths, weights_of
from fleets import NAMES, device, over

from lola.adapters import BlockGradient, apply_round
from lola.devices import EdgeDevice, EmbeddedBroker

HEALTHY = 0.75
FAULTS = ("killed", "frozen", "late", "twice", "not a number", "garbage", "an old version")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Faulty(EdgeDevice):
    """A device that fails at a quarter of its tasks, each time in another way."""

    def _compute(self, task, update):
        rng = random.Random(f"{self.name} {task.version}")
        fault = None if rng.random() < HEALTHY else rng.choice(FAULTS)
        self.faults[fault] = self.faults.get(fault, 0) + 1
        honest = super()._compute(task, update)
        if fault == "killed":  # as the broker sees it: the connection breaks, and the device comes again
            self._connection._paho.socket().shutdown(2)
        elif fault in ("frozen", "late"):
            self._stopped.wait(0.7 if fault == "frozen" else 0.2)
        elif fault == "twice":
            self._connection.publish(self._topic("answer"), honest)
        elif fault == "garbage":
            return rng.randbytes(5000)
        elif fault is not None:
            answer = BlockGradient.from_bytes(honest, self.depths)
            if fault == "an old version":
                return replace(answer, version=max(task.version - 1, 0)).to_bytes()
            return replace(
                answer, gradients={name: g * float("nan") for name, g in answer.gradients.items()}
            ).to_bytes()
        return honest


class Recorded:
    """Devices whose answers are noted as they reach the session, so that they can be given again."""

    def __init__(self, devices):
        self.devices, self.rounds = devices, []

    def __getattr__(self, name):
        return getattr(self.devices, name)

    def roster(self, problem, after):
        return self.devices.roster(problem, after)

    def answers(self, plan):
        given = []
        self.rounds.append((plan, given))
        for answer in self.devices.answers(plan):
            given.append(answer)
            yield answer


def resident_bytes():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def run(folder, rounds):
    """Run rounds; return records, what devices did, bytes in use after each fifth, and whether both ends are equal."""
    again = tiny_depths(folder / "again") if (folder / "again").mkdir() is None else None
    optimizer = torch.optim.Adam(again.all_parameters(), lr=1e-2)
    with EmbeddedBroker(most_bytes=2**20) as broker, over(folder, broker.address, message_s=0.3) as session:
        devices = [device(folder, broker.address, name, kind=Faulty) for name in NAMES]
        recorded = session.devices = Recorded(session.devices)
        with ExitStack() as stack:
            for one in devices:
                one.faults, one._stopped = {}, threading.Event()
                stack.enter_context(one)
                stack.callback(one._stopped.set)
            records, resident = [], []
            for record in session.run(rounds):
                records.append(record)
                (plan, given) = recorded.rounds.pop()
                apply_round(optimizer, again, plan, given)
                if len(records) % (rounds // 5) == 0:
                    resident.append(resident_bytes())
        pairs = zip(weights_of(session), weights_of(again), strict=True)
        same = all(torch.equal(a, b) for a, b in pairs)
    faults = {kind: sum(one.faults.get(kind, 0) for one in devices) for kind in (None, *FAULTS)}
    return records, faults, resident, same


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        records, tasks, resident, same = run(Path(folder), int(sys.argv[1]) if sys.argv[1:] else 1000)
    incomplete = [record for record in records if record.missing]
    print(
        json.dumps(
            {
                "rounds": len(records),
                "seconds": time.monotonic() - begun,
                "applied": sum(record.applied for record in records),
                "missing": sum(record.missing for record in records),
                "incomplete": len(incomplete),
                "reasons": sum(bool(record.refused) for record in incomplete),
                "tasks": {"none" if kind is None else kind: count for kind, count in tasks.items()},
                "resident_bytes": resident,
                "equal": same,
            }
        )
    )
