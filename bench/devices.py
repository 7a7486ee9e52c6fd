"""What a round over a broker costs beside the work in it, and with how many devices: measured, and written as a page.

    python bench/devices.py [measure] [faults] [page]

Needs lola-deft[devices,train] and mosquitto; devices are clients in this one process, with connections of their own.
`faults` runs a thousand rounds whose devices fail; bench/devices_bits.py compares bits. All three are on the page.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page import Template, claim, rows, write_page

import lola
from lola.adapters import BlockGradient, BlockTask, CooperativeSession, ModelUpdate, RoundPlan
from lola.devices import BrokerAddress, Certificates, EdgeDevice, EmbeddedBroker, MqttDevices, write_mosquitto
from lola.devices.mosquitto import installed_mosquitto
from lola.models import Depths, attach_lora

HERE = Path(__file__).resolve().parent
STATE, PAGE = HERE / "devices.json", HERE / "DEVICES.md"
FAULTS, BITS = HERE / "devices_faults.json", HERE / "devices_bits.json"
FAULTY = HERE.parent / "tests" / "faulty_rounds.py"
FAULTY_ROUNDS = 1000
FEW, MANY, BLOCKS = 4, 200, 4
ROUNDS, WARM_UP = 40, 5
MANY_ROUNDS = 5
JOINING_S = 120.0
LARGEST_OVERHEAD_S, LARGEST_ROUND_S = 0.25, 5.0
LARGEST_GROWTH_BYTES = 2**24


_turn = threading.Lock()  # hundreds of threads that decode at once would wait for the interpreter, not for each other


class Clerk(EdgeDevice):
    """A device with no work: its gradients are zeros."""

    def _look(self) -> None:
        with _turn:
            super()._look()

    def _compute(self, task: BlockTask, update: Any) -> bytes:
        return empty_answer(self.depths, task)


def empty_answer(depths: Depths, task: BlockTask) -> bytes:
    blocks = [depths.named_parameters(depth) for depth in task.depths]
    gradients = {name: torch.zeros_like(weight) for block in blocks for name, weight in block.items()}
    return BlockGradient(task.version, task.device, task.depths, gradients, 0.0).to_bytes()


def main(arguments: list[str]) -> None:
    steps = arguments or ["measure", "faults", "page"]
    if "measure" in steps:
        torch.set_num_threads(1)
        STATE.write_text(json.dumps(measured(), indent=1) + "\n", encoding="utf-8")
    if "faults" in steps:
        FAULTS.write_text(json.dumps(faults(FAULTY_ROUNDS), indent=1) + "\n", encoding="utf-8")
    if "page" in steps:
        write_page(PAGE, page(*(json.loads(path.read_text(encoding="utf-8")) for path in (STATE, FAULTS, BITS))))


# -- measuring --------------------------------------------------------------------------------------------------------


def measured() -> dict[str, Any]:
    """Measure each fleet over each broker."""
    cases = []
    for broker, devices in CASES:
        depths, rounds = (model(BLOCKS, 768, 48), ROUNDS) if devices == FEW else (model(MANY, 16, 1), MANY_ROUNDS)
        seconds, sizes = rounds_of(BROKERS[broker], devices, depths, rounds)
        cases.append({"broker": broker, "devices": devices, **sizes, "seconds": seconds})
        print(f"{devices} devices, {broker}: {statistics.median(seconds):.3f} s", flush=True)
    return {**provenance(), "cases": cases}


def faults(rounds: int) -> dict[str, Any]:
    """Run rounds with random faults, in a process of their own; see tests/faulty_rounds.py."""
    done = subprocess.run([sys.executable, FAULTY, f"{rounds}"], stdout=subprocess.PIPE, text=True, check=True)
    return {**provenance(), **json.loads(done.stdout.splitlines()[-1])}


def rounds_of(open_broker: Any, devices: int, depths: Depths, rounds: int) -> tuple[list[float], dict[str, int]]:
    """Seconds of each round of a session whose devices have no work, after some to warm up."""
    names = [f"device-{number}" for number in range(devices)]
    one = np.ones(devices)
    fleet = lola.Fleet(speed=one, memory_bytes=4e9 * one, spectral_efficiency=4.0 * one)
    blocks = np.arange(1.0, len(depths) + 1)
    profile = lola.Profile(memory_bytes=1e9 + 1e6 * blocks, latency_s=0.5 + 0.01 * blocks, upload_bits=1e6)
    problem = lola.Problem(profile, fleet, bandwidth_hz=2e7, local_steps=1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        address_of = stack.enter_context(open_broker(Path(folder), names))
        optimizer = torch.optim.Adam(depths.all_parameters(), lr=1e-3)
        server = stack.enter_context(
            MqttDevices(depths, address_of("server"), "bench", names=names, message_s=30.0, patience_s=120.0)
        )
        for name in names:
            said = {"speed": 1.0, "memory_bytes": 4e9, "uplink_bps": 8e7, "rows": 1}
            stack.enter_context(Clerk(depths, lambda *_: (), address_of(name), "bench", name, **said))
        session = CooperativeSession(depths, optimizer, problem, None, devices=server)
        end = time.monotonic() + JOINING_S
        while (there := sum(not (one.suspect or one.gone) for one in server.devices())) < devices:
            if time.monotonic() > end:
                raise TimeoutError(f"{devices} devices were to join within {JOINING_S:g} s, and {there} did")
            time.sleep(0.05)
        seconds, running = [], session.run(WARM_UP + rounds)
        for _ in range(WARM_UP + rounds):
            begun = time.perf_counter()
            record = next(running)
            seconds.append(time.perf_counter() - begun)
            assert (record.applied, record.participants, record.refused) == (len(depths), devices, ""), record
        task = RoundPlan.from_schedule(lola.schedule(problem), 0).tasks[0]
        sizes = {
            "update_bytes": len(ModelUpdate.from_depths(depths, 0).to_bytes()),
            "answer_bytes": len(empty_answer(depths, task)),
        }
    return seconds[WARM_UP:], sizes


def model(blocks: int, width: int, rank: int) -> Depths:
    """A BERT of random weights, small but for its width."""
    from transformers import BertConfig, BertForSequenceClassification

    heads = max(1, width // 64)
    shape = {
        "hidden_size": width,
        "intermediate_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": blocks,
    }
    return attach_lora(BertForSequenceClassification(BertConfig(vocab_size=64, **shape)), rank=rank, targets=("query",))


@contextmanager
def over_mosquitto(folder: Path, names: list[str]) -> Iterator[Any]:
    """Run mosquitto with TLS, client certificates and an access list, as lola writes them."""
    certificates = Certificates.create(folder / "certificates", ["127.0.0.1"])
    for name in names:
        certificates.add_device(name)
    port = free_port()
    configuration, _ = write_mosquitto(certificates, runs=["bench", "run"], port=port, bind="127.0.0.1")
    with configuration.open("a") as file:
        file.write("user root\n")  # keys are for their owner
    process = subprocess.Popen([mosquitto(), "-c", configuration], stderr=subprocess.DEVNULL)

    def address(name: str) -> BrokerAddress:
        certificate, key = certificates.paths(name)
        return BrokerAddress("127.0.0.1", port, certificates.authority, certificate, key)

    try:
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def over_embedded(folder: Path, names: list[str]) -> Iterator[Any]:
    with EmbeddedBroker() as broker:
        yield lambda name: broker.address


TLS, EMBEDDED = "mosquitto, TLS with certificates", "embedded, without TLS"
BROKERS = {TLS: over_mosquitto, EMBEDDED: over_embedded}
CASES = ((TLS, FEW), (EMBEDDED, FEW), (TLS, MANY))


def provenance() -> dict[str, Any]:
    """Say on what, with what and when something was measured."""
    packages = {name: version(name) for name in ("paho-mqtt", "amqtt", "torch")}
    packages["mosquitto"] = subprocess.run([mosquitto(), "-h"], capture_output=True, text=True).stdout.split()[2]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {"machine": machine, "date": date.today().isoformat(), "packages": packages}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def mosquitto() -> str:
    found = installed_mosquitto()
    if found is None:
        sys.exit("mosquitto is needed: apt-get install mosquitto")
    return found


# -- the page ---------------------------------------------------------------------------------------------------------


def page(state: dict[str, Any], faulty: dict[str, Any], bits: dict[str, Any]) -> list[str]:
    """Say what was measured; what is promised must hold."""
    say = Template("devices")
    few, many = ([case for case in state["cases"] if case["devices"] == devices] for devices in (FEW, MANY))
    tls = statistics.median(few[0]["seconds"])
    claim(tls <= LARGEST_OVERHEAD_S, f"a round of {FEW} devices over TLS costs at most {LARGEST_OVERHEAD_S} s")
    slowest = max(max(case["seconds"]) for case in many)
    return [
        say("head"),
        where(say, state),
        say("rounds", rows=rows(map(line, state["cases"]))),
        say(
            "limits",
            few=FEW,
            median_s=tls,
            overhead_s=LARGEST_OVERHEAD_S,
            many=MANY,
            slowest_s=slowest,
            kept="kept" if slowest <= LARGEST_ROUND_S else "missed",
            round_s=LARGEST_ROUND_S,
        ),
        *with_faults(say, faulty),
        *with_bits(say, bits),
    ]


def where(say: Template, state: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in state["packages"].items())
    return say("where", machine=state["machine"], packages=packages, date=state["date"])


def with_faults(say: Template, state: dict[str, Any]) -> list[str]:
    claim(state["equal"], "weights after rounds with faults are those that the same answers give without a broker")
    claim(state["reasons"] == state["incomplete"], "the record says of every incomplete round who and why")
    grown = state["resident_bytes"][-1] - state["resident_bytes"][0]
    claim(grown <= LARGEST_GROWTH_BYTES, "memory grows by at most 16 MiB from a fifth of the rounds on")
    said = say(
        "faults",
        rounds=state["rounds"],
        seconds=state["seconds"],
        applied=state["applied"],
        missing=state["missing"],
        incomplete=state["incomplete"],
        memory=", ".join(f"{taken / 1e6:.0f}" for taken in state["resident_bytes"]),
        rows=rows([kind, f"{count}"] for kind, count in state["tasks"].items()),
    )
    return [said, where(say, state)]


def with_bits(say: Template, state: dict[str, Any]) -> list[str]:
    claim(
        all(one["equal"] == state["rounds"] for one in state["runs"]),
        "the weights of all rounds are lola train's",
    )
    said = say(
        "bits",
        model=state["model"],
        devices=state["devices"],
        rounds=state["rounds"],
        loss=state["loss"],
        accuracy=state["accuracy"],
        digest=state["digest"][:16],
        rows=rows([one["broker"], f"{one['equal']}", f"{one['seconds']:.0f}"] for one in state["runs"]),
    )
    return [said, where(say, state)]


def line(case: dict[str, Any]) -> list[str]:
    low, middle, high = (1000 * np.quantile(case["seconds"], [0.0, 0.5, 1.0])).tolist()
    return [
        case["broker"],
        f"{case['devices']}",
        f"{case['update_bytes'] / 1e6:.2f}",
        f"{case['answer_bytes'] / 1e6:.3f}",
        f"{len(case['seconds'])}",
        f"{low:.0f}",
        f"{middle:.0f}",
        f"{high:.0f}",
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
