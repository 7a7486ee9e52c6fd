"""A tiny session whose devices are on the other side of a broker, and such devices, in threads of this process."""

import re
import time
from contextlib import ExitStack, contextmanager

import torch
from cooperative import tiny_columns, tiny_depths, tiny_problem

import lola
from lola.adapters import CooperativeSession, ShardedData, iid_shards
from lola.devices import EdgeDevice, MqttDevices

GENEROUS_S = 60.0  # for what comes as soon as it can: only a failure waits so long
NAMES = ("ann", "bob", "cem", "dee")
PROBLEM = tiny_problem(
    3,
    profile=lola.Profile(memory_bytes=[5e8, 1e9, 2e9], latency_s=[0.05, 0.07, 0.1], upload_bits=8e4),
    fleet=lola.Fleet(speed=[1.0, 0.9, 0.8, 0.7], memory_bytes=[3e9] * 4, spectral_efficiency=[2.0, 4.0, 3.0, 5.0]),
)


def data(n_devices=4):
    return ShardedData(tiny_columns("bert", 90, seed=1), iid_shards(90, n_devices, seed=2), batch_size=4, seed=5)


def device(folder, address, name, kind=EdgeDevice, **changes):
    """Return a device of the fleet, with a model of its own."""
    number, fleet = NAMES.index(name), PROBLEM.fleet
    (folder / name).mkdir(exist_ok=True)
    depths = changes.pop("depths", None) or tiny_depths(folder / name)
    depths.model.train()  # with dropout
    said = {
        "speed": fleet.speed[number],
        "memory_bytes": fleet.memory_bytes[number],
        "uplink_bps": fleet.spectral_efficiency[number] * PROBLEM.bandwidth_hz,
        "rows": 22,
    }
    batches = changes.pop("batches", data().batches)
    return kind(depths, batches, address, changes.pop("run", "tiny"), name, **said | changes)


@contextmanager
def devices_of(folder, address, names=NAMES, **changes):
    with ExitStack() as stack:
        yield {name: stack.enter_context(device(folder, address, name, **changes)) for name in names}


@contextmanager
def over(folder, address, *, names=NAMES, problem=PROBLEM, setting=None, keep=False, **options):
    """Yield a session over a broker, whose model and optimizer are those of `tiny_session`."""
    (folder / "server").mkdir(exist_ok=True)
    depths = tiny_depths(folder / "server")
    depths.model.train()
    optimizer = torch.optim.Adam(depths.all_parameters(), lr=1e-2)
    with MqttDevices(depths, address, "tiny", names=names, **{"message_s": GENEROUS_S} | options) as devices:
        yield CooperativeSession(
            depths, optimizer, problem, None, setting=setting, devices=devices, folder=folder / "run" if keep else None
        )


def until(holds, within_s=2 * GENEROUS_S):
    """Wait until something holds, and say how long that took."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < within_s, "it never came to hold"
        time.sleep(0.01)
    return time.monotonic() - begun


def timed_round(run):
    """Return the record of a session's next round, and how long that took."""
    begun = time.monotonic()
    return next(run), time.monotonic() - begun


def hurried_round(session, run, whole_s):
    """Return the record of a round that somebody will not answer in, once it is over: in time.

    Its deadline leaves the others ten times what a round took them, but less than a broker takes to miss a client.
    """
    devices = session.devices
    patient_s, devices.message_s = devices.message_s, min(max(10 * whole_s, 4.0), 10.0)
    try:
        record, took_s = timed_round(run)
    finally:
        devices.message_s = patient_s
    assert took_s < 3 * float(re.search("no answer within (.*?) s", record.refused)[1])
    return record


def everybody(session, names=NAMES):
    """Wait until devices are there, and no others."""

    def there():
        return {one.name for one in session.devices.devices() if not one.suspect and not one.gone} == {*names}

    return until(there)
