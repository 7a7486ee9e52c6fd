"""A place to run ``lola train`` in: a tiny checkpoint, GLUE of nonsense that can be learnt, and a fleet of five."""

import numpy as np
from tiny_models import save_checkpoint

import lola


def make_place(folder):
    save_checkpoint(folder / "model")
    rng = np.random.default_rng(0)
    for task, targets in (("MRPC", ["0", "1"]), ("STS-B", ["0.5", "4.5"])):
        (folder / task).mkdir()
        for split, count in (("train", 60), ("dev", 20)):
            rows = ["idx\tsentence1\tsentence2\tlabel"]
            for i in range(count):
                label = int(rng.integers(2))
                first, second = (" ".join(f"w{w}" for w in rng.integers(3, size=4) + 20 * label) for _ in range(2))
                rows.append(f"{i}\t{first}\t{second}\t{targets[label]}")
            (folder / task / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    lola.save_fleet(lola.Fleet.sample(5, seed=0), folder / "fleet.csv")
    return folder


def arguments(place, out, *more, task="mrpc", rounds=6):
    options = ["train", "--model", place / "model", "--task", task, "--data", place, "--fleet", place / "fleet.csv"]
    options += ["--out", out, "--rounds", rounds, "--batch", 8, "--seq", 16, "--lr", 0.01, "--threads", 1]
    return [str(option) for option in (*options, "--eval-every", 2, "--checkpoint-every", 2, *more)]
