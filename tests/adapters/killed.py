"""Kill a training run at twenty random moments, resume it each time, and compare it with one that was left alone.

    python killed.py folder

A process of its own: it loads torch once and forks every run.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from cooperative import tiny_session
from safetensors import safe_open

from lola.adapters import Setting

KILLS = 20


def train(folder, rounds):
    """Train in a child process and return its id."""
    child = os.fork()
    if child == 0:
        try:
            setting = Setting(checkpoint_every=2, participation=0.8, failure=0.1)
            list(tiny_session(folder, setting=setting).run(rounds))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return child


def check_files(run):
    """Every file that is not in a draft is whole."""
    for checkpoint in run.glob("round-*"):
        for name in ("weights", "optimizer"):
            with safe_open(checkpoint / f"{name}.safetensors", "pt") as tensors:
                assert all(tensors.get_tensor(key).isfinite().all() for key in tensors.keys())  # noqa: SIM118
        state = json.loads((checkpoint / "state.json").read_text())
        assert len(state["session"]["records"]) == int(checkpoint.name[6:])
    metrics = run / "metrics.csv"
    if metrics.exists():
        lines = metrics.read_text().split("\n")
        assert lines[-1] == ""
        assert len({line.count(",") for line in lines[:-1]}) == 1


def main(folder):
    torch.set_num_threads(1)
    whole, killed, first = (folder / name for name in ("whole", "killed", "first"))
    for path in (whole, killed, first):
        path.mkdir()
    list(tiny_session(first).run(1))  # so that the runs below inherit what takes long to load
    rounds = 150
    start = time.monotonic()
    assert os.waitpid(train(whole, rounds), 0)[1] == 0
    duration = time.monotonic() - start
    moments = random.Random(1)
    for _ in range(KILLS):
        child = train(killed, rounds)
        time.sleep(moments.uniform(0.0, duration / KILLS))
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended before it was killed"
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        check_files(killed / "run")
    reached = max((int(path.name[6:]) for path in (killed / "run").glob("round-*")), default=0)
    assert 0 < reached < rounds, reached
    assert os.waitpid(train(killed, rounds), 0)[1] == 0
    for name in ("weights.safetensors", "optimizer.safetensors"):
        ours, theirs = (path / "run" / f"round-{rounds:06d}" / name for path in (killed, whole))
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert (killed / "run" / "metrics.csv").read_bytes() == (whole / "run" / "metrics.csv").read_bytes()
    print(f"killed {KILLS} times, the same to the last bit; {reached} of {rounds} rounds by the last kill")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
