"""The peak of a whole process, as a check of counted memory: run in a child, which starts clean."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from lola.profiling.workload import ProfilingError, Workload
from lola.solvers.checks import FloatArray

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def process_peaks(workload: Workload, threads: int) -> FloatArray | None:
    """Measure a child's resident memory at each depth: its growth over the idle model, plus the weights.

    Returns
    -------
    (L,) float64 array, or None
        None where the system does not tell (only Linux does).

    Raises
    ------
    ProfilingError
        If the workload's model is a module, or the child fails.
    """
    import numpy as np

    if not isinstance(workload.model, str):
        raise ProfilingError(
            f"the child process builds its model from a name or a folder, got a {workload.name}; measure without the "
            "check, or save the model and name its folder"
        )
    if not (_STATUS.exists() and _CLEAR.exists()):
        return None
    arguments = json.dumps({"workload": asdict(workload), "threads": threads})
    # Large tensors go back to the system as they are freed, so that resident memory is memory in use.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "1000000"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"from {__name__} import run_child; run_child()", arguments],
        env=environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ProfilingError(f"the child process that checks the memory failed: {reason}; measure without the check")
    return np.array(json.loads(done.stdout.splitlines()[-1]), dtype=np.float64)


def run_child() -> None:
    """Measure, and write the bytes of each depth to standard output as JSON."""
    import torch

    from lola.profiling.building import adapted, build, make_batch
    from lola.profiling.iteration import backward
    from lola.profiling.memory import weight_bytes

    request = json.loads(sys.argv[1])
    workload = Workload(**request["workload"])
    torch.set_num_threads(request["threads"])
    model, _ = build(workload, "cpu")
    batch = make_batch(workload, model.config)
    depths = adapted(workload, model)
    backward(depths, 1, batch)  # what the first call loads and keeps is no part of an iteration
    peaks = []
    for depth in range(1, len(depths) + 1):
        depths.select(depth)
        model.zero_grad(set_to_none=True)
        _CLEAR.write_text("5")  # the peak counts from now on
        idle = _resident_bytes("VmRSS")
        backward(depths, depth, batch)
        peaks.append(weight_bytes(model) + _resident_bytes("VmHWM") - idle)
    sys.stdout.write(json.dumps(peaks) + "\n")


def _resident_bytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])
