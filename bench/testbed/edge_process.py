"""One device of a testbed: a process that takes part in rounds, or finds out what they take.

python bench/testbed/edge_process.py SETUP.json NAME [--calibrate DEPTH | --profile]
"""

import json
import signal
import sys
from pathlib import Path

import torch

import lola
from lola.adapters import BlockTask
from lola.adapters.compute import block_gradient
from lola.devices import BrokerAddress, EdgeDevice
from lola.profiling import Workload, measure
from lola.profiling.building import adapted, build, make_batch
from lola.profiling.machine import keep_freed_memory

_WARM_UPS = 4


def workload_of(setup):
    return Workload(
        setup["model"],
        batch_size=setup["batch_size"],
        sequence_length=setup["sequence_length"],
        lora_rank=setup["lora_rank"],
        seed=setup["seed"],
    )


def depths_of(workload):
    model, _ = build(workload, "cpu")
    return adapted(workload, model)


def warm_up(depths, batch, depth):
    """Compute a depth until nothing more is taken: an allocator needs several gradients to settle."""
    for _ in range(_WARM_UPS):
        block_gradient(depths, BlockTask(0, 0, depth, 1.0, 1), [batch]).to_bytes()


def take_part(setup, name, depths, batch):
    """Take part until a signal ends it; what is slow the first time is done before."""
    mine = setup["devices"][name]
    warm_up(depths, batch, mine["warm_depth"])
    device = EdgeDevice(
        depths,
        lambda device, version: [batch] * setup["local_steps"],
        BrokerAddress(setup["host"], setup["port"]),
        setup["run"],
        name,
        speed=mine["speed"],
        memory_bytes=mine["memory_bytes"],
        uplink_bps=mine["uplink_bps"],
        rows=setup["batch_size"],
        seed=setup["seed"],
    )
    signal.signal(signal.SIGTERM, lambda *_: device.stop())
    device.run()


def main():
    setup, name = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    torch.set_num_threads(1)
    workload = workload_of(setup)
    with keep_freed_memory():
        depths = depths_of(workload)
        batch = make_batch(workload, depths.model.config)
        if "--calibrate" in sys.argv:
            warm_up(depths, batch, int(sys.argv[-1]))
        elif "--profile" in sys.argv:
            profile = measure(workload, exact=True, threads=1, limit_s=setup["profile_s"], monotone="isotonic")
            lola.save_profile(profile, setup["profile"])
        else:
            take_part(setup, name, depths, batch)


if __name__ == "__main__":
    main()
