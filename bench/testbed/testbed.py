"""Predicted latency against measured, and the memory wall, with devices in namespaces of their own. Needs root.

    python bench/testbed/testbed.py                  # the full run, then RESULTS.md: about half an hour
    python bench/testbed/testbed.py SCENARIO.toml --results FILE.json
    python bench/testbed/testbed.py --page           # RESULTS.md and its plots again, from results.json
    python bench/testbed/testbed.py --clean          # removes what a testbed that was killed has left

Needs lola-deft[devices,plot], iproute2, mosquitto, and control groups: without them quotas and limits are kept by
signals, and the results say so. It says what is missing, and should have the machine to itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import experiment
import leftovers
import limits
import network

from lola.files.formats import write_atomically

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenario", nargs="?", type=Path, default=HERE / "full.toml")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where what is measured goes")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page from results.json")
    parser.add_argument("--clean", action="store_true", help="remove what testbeds that were killed have left")
    options = parser.parse_args()
    if options.clean:
        for prefix, done in leftovers.clean_all().items():
            print(f"{prefix}: {done}")
        return
    if not options.page:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
        try:
            results = run(experiment.load(options.scenario))
        except (experiment.ScenarioError, network.TestbedError) as error:
            sys.exit(f"testbed: {error}")
        write_atomically(options.results, json.dumps(results, indent=1) + "\n")
    if options.results == RESULTS:
        import testbed_page

        testbed_page.write(json.loads(RESULTS.read_text(encoding="utf-8")))


def run(scenario: experiment.Experiment) -> dict[str, Any]:
    """Run the rounds of every scheme, those of the same memory limits in turns, and return what was measured."""
    if lacks := network.missing():
        raise network.TestbedError(f"this machine lacks {', '.join(lacks)}")
    cores = len(os.sched_getaffinity(0))
    experiment.check_cores(scenario, cores)
    if why := limits.without_groups():
        print(f"quotas and limits are kept by signals: {why}", flush=True)
    import harness

    started, load = time.monotonic(), os.getloadavg()[0]
    rounds = []
    with tempfile.TemporaryDirectory(prefix="lola-testbed-") as folder:
        try:
            with harness.Testbed(scenario, Path(folder)) as testbed:
                print(f"{len(testbed.names)} devices are there after {time.monotonic() - started:.0f} s", flush=True)
                rounds_started = time.monotonic()
                for scheme, step in turns(scenario):
                    rounds.append(testbed.run_round(scheme, step))
                    print(line(rounds[-1]), flush=True)
                profile = testbed.profile
                state = {
                    "limits": testbed.limits.kind,
                    "memory_bytes": dict(zip(testbed.names, testbed.memory_bytes, strict=True)),
                }
        except network.TestbedError:
            for log in sorted(Path(folder).glob("*.log")):
                print(f"-- {log.name}: {log.read_text()[-2000:]}", file=sys.stderr)
            raise
    return {
        "provenance": {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "hardware": profile.provenance.hardware,
            "cores": cores,
            "kernel": platform.release().split("-")[0],
            "software": f"{profile.provenance.software}, Python {platform.python_version()}, {broker_version()}",
            "limits": state["limits"],
            "payload_of_a_frame": network.PAYLOAD,
            "load_before": load,
            "setup_s": rounds_started - started,
            "rounds_s": time.monotonic() - rounds_started,
        },
        "scenario": scenario.to_dict(),
        "profile": {
            "latency_s": profile.latency_s.tolist(),
            "extra_latency_s": profile.extra_latency_s.tolist(),
            "memory_bytes": profile.memory_bytes.tolist(),
            "extra_memory_bytes": profile.extra_memory_bytes.tolist(),
            "upload_bits": profile.upload_bits.tolist(),
        },
        "memory_bytes": state["memory_bytes"],
        "rounds": rounds,
    }


def turns(scenario: experiment.Experiment) -> list[tuple[experiment.Scheme, int]]:
    """Return schemes and rounds in the order they are run.

    Neighbours with the same memory limits take turns, so that a machine's drift falls on all alike.
    """
    order = []
    for _, neighbours in groupby(scenario.schemes, key=lambda scheme: scheme.memory_limits):
        schemes = list(neighbours)
        for step in range(max(scheme.rounds for scheme in schemes)):
            order += [(scheme, step) for scheme in schemes if step < scheme.rounds]
    return order


def line(record: dict[str, Any]) -> str:
    """Say in a line what a round was."""
    killed = [block["device"] for block in record["blocks"] if block["killed"]]
    measured = "incomplete" if record["measured_s"] is None else f"{record['measured_s']:.2f} s"
    told = f"{record['scheme']} {record['round']}: predicted {record['predicted_s']:.2f} s, measured {measured}"
    return f"{told}; killed for memory: {', '.join(killed)}" if killed else told


def broker_version() -> str:
    from harness import MOSQUITTO

    told = subprocess.run([str(MOSQUITTO), "-h"], capture_output=True, text=True, check=False).stdout
    return told.splitlines()[0].replace(" version", "") if told else "mosquitto"


if __name__ == "__main__":
    main()
