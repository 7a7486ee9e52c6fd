"""What `lola train` costs over plain torch: the same batches, LoRA steps and stops of backward, written by hand.

    python bench/adapter_cost.py --model FOLDER --data FOLDER_OF_GLUE

Rounds of the two alternate in one process. Needs lola-deft[train].
"""

import argparse
import copy
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from lola.tasks import TrainingSettings, prepare_training


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--local-steps", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = TrainingSettings(
        options.model, options.task, options.data, local_steps=options.local_steps, checkpoint_every=5
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        session = prepare_training(settings, folder=Path(folder) / "out").session
        prepared = time.perf_counter() - start
        session.evaluate = None
        compare(session, options.rounds, prepared)


def compare(session, rounds, prepared):
    plain = copy.deepcopy(session.depths)
    optimizer = type(session.optimizer)(plain.all_parameters(), lr=session.optimizer.param_groups[0]["lr"])
    used, draw = [], session.data.batches

    def recorded(device, version):
        for batch in draw(device, version):
            used.append((torch.get_rng_state(), batch))  # of dropout
            yield batch

    session.data.batches = recorded
    ours, theirs = [], []
    running = session.run(rounds + 1)  # the first one warms up
    for _ in range(rounds + 1):
        used.clear()
        start = now()
        next(running)
        middle = now()
        step(plain, optimizer, used, session.problem.local_steps)
        ours.append(middle - start)
        theirs.append(now() - middle)
    pairs = zip(session.depths.all_parameters(), plain.all_parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs), "the two did not do the same"
    ours, theirs = np.array(ours[1:]), np.array(theirs[1:])
    print(f"{rounds} rounds of {len(used)} steps, {torch.get_num_threads()} thread(s); checkpoints among them")
    print("             wall time, s       of a round    processor time, s       of a round")
    for name, times in (("lola train", ours), ("plain torch", theirs)):
        (wall, cpu), (wall_median, cpu_median) = times.sum(axis=0), np.median(times, axis=0)
        print(f"{name:11}  {wall:12.2f}  {wall_median:15.3f}  {cpu:19.2f}  {cpu_median:15.3f}")
    (wall, cpu), (wall_median, cpu_median) = ours.sum(0) / theirs.sum(0), np.median(ours, 0) / np.median(theirs, 0)
    print(f"ratio        {wall:12.3f}  {wall_median:15.3f}  {cpu:19.3f}  {cpu_median:15.3f}")
    print(f"before the first round: {prepared:.1f} s (reading, loading, tokenising, estimating the profile)")


def now():
    """Wall time and this process's processor time; the second is less disturbed by other load."""
    return np.array([time.perf_counter(), time.process_time()])


def step(depths, optimizer, batches, local_steps):
    """One round: the gradient of each depth on its own batches, then one step of the optimizer over all."""
    model, gradients = depths.model, {}
    for i in range(len(depths)):
        parameters = depths.parameters(i + 1)
        model.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        for state, batch in batches[i * local_steps : (i + 1) * local_steps]:
            torch.set_rng_state(state)
            (model(**batch).loss / local_steps).backward()
        gradients.update({parameter: parameter.grad for parameter in parameters})
        for parameter in parameters:
            parameter.grad = None
    for parameter, gradient in gradients.items():
        parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad()


if __name__ == "__main__":
    main()
