"""Whether `lola serve` and four `lola device` end every round with the bits of `lola train`: run as a user runs them.

    python bench/devices_bits.py MODEL GLUE [rounds]

MODEL is a folder of a small encoder, GLUE one with MRPC. Needs lola-deft[devices,train] and mosquitto.
"""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from devices import BITS, EMBEDDED, TLS, free_port, over_mosquitto, provenance

import lola

ROUNDS = 20
NAMES = ("ann", "bob", "cem", "dee")
BANDWIDTH_HZ = 2e7
FLEET = lola.Fleet(
    speed=[1.0, 0.9, 0.8, 0.7], memory_bytes=[8e9] * 4, spectral_efficiency=[2.0, 4.0, 3.0, 5.0], name=NAMES
)
# A deadline that is missed would leave a block out, and the bits would be others.
PATIENT = ["--slack", "500"]
SETTING = ["--task", "mrpc", "--max-blocks", "2", "--batch", "8", "--seq", "64", "--bandwidth-hz", f"{BANDWIDTH_HZ}"]
LONGEST_S = 1800.0


def main(arguments: list[str]) -> None:
    if len(arguments) not in (2, 3):
        sys.exit(__doc__)
    model, glue = arguments[:2]
    rounds = int(arguments[2]) if arguments[2:] else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        state = compared(Path(folder), model, glue, rounds)
    BITS.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def compared(folder: Path, model: str, glue: str, rounds: int) -> dict[str, Any]:
    """Run the simulated session, and the same over each broker; say after how many rounds weights were equal."""
    fleet, learning = folder / "fleet.csv", ["--model", model, "--data", glue, "--threads", "1"]
    lola.save_fleet(FLEET, fleet)
    setting = [*learning, *SETTING, "--rounds", f"{rounds}"]
    trained, seconds = run(folder, "trained", ["train", *setting, "--fleet", f"{fleet}"], [])
    runs = [{"broker": "none: lola train", "seconds": seconds, "equal": len(trained)}]
    for broker, meeting in ((EMBEDDED, at_embedded), (TLS, at_mosquitto)):
        with meeting(folder) as (serving, joining):
            devices = [["device", *learning, *joining(name), *offering(number)] for number, name in enumerate(NAMES)]
            server = ["serve", *setting, *serving, *PATIENT, "--devices", ",".join(NAMES)]
            weights, seconds = run(folder, meeting.__name__, server, devices)
        if weights.keys() != trained.keys():
            sys.exit(f"{broker}: rounds {sorted(weights)} were seen, and {sorted(trained)} of lola train")
        equal = sum(weights[version] == trained[version] for version in trained)
        runs.append({"broker": broker, "seconds": seconds, "equal": equal})
        print(f"{broker}: the weights of {equal} of {rounds} rounds are those of lola train", flush=True)
    with (folder / "trained" / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    return {
        **provenance(),
        "model": Path(model).name.replace("sentence-transformers__", ""),
        "rounds": rounds,
        "devices": len(NAMES),
        "loss": float(last["loss"]),
        "accuracy": float(last["accuracy"]),
        "digest": trained[rounds],
        "runs": runs,
    }


def run(folder: Path, name: str, command: list[str], devices: list[list[str]]) -> tuple[dict[int, str], float]:
    """Run commands until all have ended; return what the weights of each round were, and how long it took."""
    out, begun = folder / name, time.monotonic()
    with ExitStack() as stack:
        kept = stack.enter_context(Kept(out))
        logs = [stack.enter_context((folder / f"{name}-{number}.txt").open("w")) for number in range(1 + len(devices))]
        commands = [[*command, "--out", f"{out}"], *devices]
        processes = [
            subprocess.Popen([sys.executable, "-m", "lola", *one], stdout=log, stderr=subprocess.STDOUT)
            for one, log in zip(commands, logs, strict=True)
        ]
        try:
            codes = [process.wait(LONGEST_S) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
    if any(codes):
        said = "\n".join((folder / f"{name}-{number}.txt").read_text() for number, code in enumerate(codes) if code)
        sys.exit(f"{name}: exit codes {codes}\n{said}")
    return kept.weights, time.monotonic() - begun


class Kept:
    """Digests of each round's weights; a run itself keeps those of the last two. Use it as a context manager."""

    def __init__(self, out: Path) -> None:
        self.out, self.weights, self._ended = out, {}, threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> Kept:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _follow(self) -> None:
        while not self._ended.wait(0.01):
            self._look()

    def _look(self) -> None:
        for path in self.out.glob("round-*/weights.safetensors"):
            version = int(path.parent.name.removeprefix("round-"))
            if version not in self.weights:
                with suppress(FileNotFoundError):  # a newer one has just replaced it
                    self.weights[version] = hashlib.sha256(path.read_bytes()).hexdigest()


def offering(number: int) -> list[str]:
    """Options of a device that says what the simulated one is."""
    uplink_bps = float(FLEET.spectral_efficiency[number]) * BANDWIDTH_HZ
    said = {"speed": FLEET.speed[number], "memory": FLEET.memory_bytes[number], "uplink-bps": uplink_bps}
    return ["--shard", f"{number + 1}/{len(NAMES)}", *(f"--{key}={float(value)!r}" for key, value in said.items())]


@contextmanager
def at_embedded(folder: Path) -> Iterator[Any]:
    port = f"{free_port()}"
    yield ["--embedded", "--port", port], lambda name: ["--broker", f"127.0.0.1:{port}", "--name", name]


@contextmanager
def at_mosquitto(folder: Path) -> Iterator[Any]:
    with over_mosquitto(folder, list(NAMES)) as address:
        broker = ["--broker", f"{address('server')}"]
        yield (
            [*broker, "--certificates", f"{Path(address('server').certificate).parent}"],
            lambda name: [*broker, "--certificate", f"{address(name).certificate}"],
        )


if __name__ == "__main__":
    main(sys.argv[1:])
