"""Ctrl-C ends a long computation soon, not when its compiled code comes to its end."""

import signal
import subprocess
import sys
import time

import numba
import pytest

_START = """
import signal
import numpy as np
from lola.solvers import joint_allocation_batch, linear_assignment
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
"""
LONG = {
    "one large matrix": """
near = np.multiply.outer(*rng.random((2, 3000))) + 1e-3 * rng.random((3000, 3000))
solve = lambda n: linear_assignment(near[:n, :n].copy())
solve(200)
print("started", flush=True)
solve(3000)
""",
    "a batch of many rounds": """
one = (np.arange(1.0, 41.0), np.ones(40), 1.0, np.ones(60), np.ones(60))
efficiency = rng.exponential(size=(60_000, 60)) + 0.1
solve = lambda n: joint_allocation_batch(*one, efficiency[:n], bandwidth_hz=1.0, threads=1)
solve(1)
print("started", flush=True)
solve(60_000)
""",
}


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="a claim about compiled kernels")
@pytest.mark.parametrize("work", LONG)
def test_ctrl_c_ends_long_work_soon(work):
    child = subprocess.Popen(
        [sys.executable, "-c", _START + LONG[work]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout.readline() == "started\n"
        time.sleep(1.0)
        child.send_signal(signal.SIGINT)
        sent = time.perf_counter()
        _, errors = child.communicate(timeout=120)
        assert time.perf_counter() - sent < 2.0
    assert errors.rstrip().endswith("KeyboardInterrupt")
