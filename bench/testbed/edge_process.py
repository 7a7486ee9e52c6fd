"""One device of a testbed: a process that takes part in rounds, or finds out what they take.

python bench/testbed/edge_process.py SETUP.json NAME [--calibrate]
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


def calibrate(depths, batch, local_steps):
    """Compute each depth when a line comes, and say so: by then the process has taken what that depth takes."""
    for depth in range(1, len(depths) + 1):
        sys.stdin.readline()
        block_gradient(depths, BlockTask(0, 0, depth, 1.0, local_steps), [batch] * local_steps).to_bytes()
        print(depth, flush=True)


def take_part(setup, name, depths, batch):
    """Take part until a signal ends it; what is slow the first time is done before."""
    mine = setup["devices"][name]
    block_gradient(depths, BlockTask(0, 0, mine["warm_depth"], 1.0, 1), [batch])
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
            calibrate(depths, batch, setup["local_steps"])
            sys.stdin.readline()
            profile = measure(workload, exact=True, threads=1, limit_s=setup["profile_s"], monotone="isotonic")
            lola.save_profile(profile, setup["profile"])
        else:
            take_part(setup, name, depths, batch)


if __name__ == "__main__":
    main()
