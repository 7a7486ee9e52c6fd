"""Rounds over devices that are processes of their own, in namespaces of their own, within limits of their own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from edge_process import depths_of, workload_of
from experiment import Experiment, Scheme
from limits import Limits, limits_here
from network import Network, TestbedError

import lola
from lola.adapters import RoundPlan, apply_round
from lola.devices import BrokerAddress, MqttDevices
from lola.devices.mosquitto import installed_mosquitto
from lola.problem import segments

MOSQUITTO = installed_mosquitto()
_RUN, _PORT, _BROKER = "testbed", 1883, "broker"
_STARTING_S = 120.0
_CALIBRATING_S = 900.0
_CALIBRATED = "calibration"
_PLENTY = 1e13
_ATTEMPTS = 3
# With more than one arena, or addresses drawn anew, an allocator takes tens of megabytes more or less in each process.
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}


class Testbed:
    """The devices of an experiment, started and ready for rounds. Use it as a context manager.

    Attributes
    ----------
    profile : lola.Profile
        Seconds and what one more block costs, measured on one thread with a core to itself; bytes are what a device's
        process took at each depth, by the count that its limit is held against.
    memory_bytes : list of float
        Of each device, its limit: halfway between what the deepest block that it holds takes and what the next takes;
        where it holds all, as much above the last as a block adds.
    """

    __test__ = False

    def __init__(self, experiment: Experiment, folder: Path):
        self.experiment, self.folder = experiment, folder
        self.names = [device.name for device in experiment.devices]
        self.version = 0
        self._stack = ExitStack()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._started: list[subprocess.Popen[Any]] = []
        self._memory_limits = True
        self.memory_bytes = [_PLENTY] * len(self.names)

    def __enter__(self) -> Testbed:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        if MOSQUITTO is None:
            raise TestbedError("mosquitto was wanted as the broker, and is not installed; apt-get install mosquitto")
        experiment, model = self.experiment, self.experiment.model
        self.folder.mkdir(parents=True, exist_ok=True)
        model.write(self.folder / "model")
        self._stack.callback(self._reap)
        self.network = self._stack.enter_context(Network())
        self.limits: Limits = limits_here(self.network.prefix)
        self._setup: dict[str, Any] = {
            "model": str(self.folder / "model"),
            "profile": str(self.folder / "profile.json"),
            "profile_s": experiment.profile_s,
            "batch_size": model.batch_size,
            "sequence_length": model.sequence_length,
            "lora_rank": model.lora_rank,
            "local_steps": experiment.local_steps,
            "seed": experiment.seed,
            "run": _RUN,
            "port": _PORT,
            "host": self.network.add(_BROKER),
        }
        for name in self.names:
            self.network.add(name)
        torch.set_num_threads(1)
        taken = self._calibrated()
        measured = lola.load_profile(self._setup["profile"])
        self.profile = lola.Profile(
            memory_bytes=taken,
            latency_s=measured.latency_s,
            upload_bits=measured.upload_bits,
            provenance=measured.provenance,
            evidence=measured.evidence,
            extra_latency_s=measured.extra_latency_s,
            extra_memory_bytes=measured.extra_memory_bytes,
        )
        between = [*(taken[:-1] + taken[1:]) / 2, taken[-1] + np.diff(taken).mean()]
        self.memory_bytes = [float(between[device.holds - 1]) for device in experiment.devices]
        self._write_setup()
        self._start_broker()
        self.depths = depths_of(workload_of(self._setup))
        self.optimizer = torch.optim.Adam(self.depths.all_parameters(), lr=1e-3)
        address = BrokerAddress(self._setup["host"], _PORT)
        self.devices = self._stack.enter_context(
            MqttDevices(
                self.depths,
                address,
                _RUN,
                names=self.names,
                slack=experiment.slack,
                message_s=experiment.message_s,
            )
        )
        self._bring(self.names)

    def run_round(self, scheme: Scheme, step: int) -> dict[str, Any]:
        """Run one round of a scheme, and return what was predicted and measured of it."""
        self._heed_memory(scheme.memory_limits)
        experiment = self.experiment
        efficiency = experiment.efficiency(step)
        problem = lola.Problem(
            self.profile,
            lola.Fleet(
                speed=[device.speed for device in experiment.devices],
                memory_bytes=self.memory_bytes if scheme.memory_limits else [_PLENTY] * len(self.names),
                spectral_efficiency=efficiency,
                name=self.names,
            ),
            bandwidth_hz=experiment.bandwidth_hz,
            local_steps=experiment.local_steps,
            max_blocks=scheme.most_blocks,
        )
        chosen = lola.schedule(problem, scheme.method, seed=np.random.default_rng([experiment.seed, step, 1]))
        plan = RoundPlan.from_schedule(chosen, self.version)
        blocks: list[dict[str, Any]] = []
        for depths in segments(chosen.device_of_block):
            first = depths.start - 1
            device = int(chosen.device_of_block[first])
            share_hz = float(chosen.bandwidth_hz[first : first + len(depths)].sum())
            block = {
                "device": self.names[device],
                "depths": [depths.start, depths[-1]],
                "bandwidth_hz": share_hz,
                "rate_bps": share_hz * float(efficiency[device]),
                "predicted": {name: float(getattr(chosen, name)[first]) for name in ("compute_s", "upload_s")},
                "short_of_memory": bool(chosen.hits_memory_wall[first]),
            }
            self.network.shape(block["device"], block["rate_bps"])
            blocks.append(block)
        kills = {name: self.limits.kills(name) for name in self.names}
        started = time.monotonic()
        report = apply_round(self.optimizer, self.depths, plan, self.devices.answers(plan))
        ended_s = time.monotonic() - started
        self.version = report.version
        exchanges = {exchange.name: exchange for exchange in self.devices.exchanges}
        for block in blocks:
            exchange = exchanges[block["device"]]
            block["killed"] = self.limits.kills(block["device"]) > kills[block["device"]]
            block["why"] = exchange.why
            block["measured"] = {
                "begun_s": exchange.computing_s,
                "compute_s": _between(exchange.computing_s, exchange.uploading_s),
                "upload_s": _between(exchange.uploading_s, exchange.answered_s),
                "answered_s": exchange.answered_s,
            }
        answered = [exchange.answered_s for exchange in self.devices.exchanges]
        dead = [name for name, process in self._processes.items() if process.poll() is not None]
        lost = [name for name in dead if self.limits.kills(name) == kills[name]]
        if lost:
            raise TestbedError(f"{', '.join(lost)} ended, and not for memory; see {self.folder / lost[0]}.log")
        self._bring(dead)
        return {
            "scheme": scheme.name,
            "round": step,
            "predicted_s": chosen.latency_s,
            "measured_s": None if None in answered else max(answered),
            "ended_s": ended_s,
            "applied": len(report.applied),
            "blocks": blocks,
        }

    def _calibrated(self) -> np.ndarray:
        """Return what a process takes that computes a depth, for each; one more measures the profile, alone."""
        self._write_setup()
        depths = range(1, self.experiment.model.layers + 1)
        # At once: what a process takes does not depend on how fast it is.
        self._to_the_end({f"{_CALIBRATED}{depth}": ["--calibrate", str(depth)] for depth in depths})
        taken = np.array([self.limits.peak_bytes(f"{_CALIBRATED}{depth}") for depth in depths])
        if not (np.diff(taken) > 0).all():
            raise TestbedError(
                f"a deeper block must take more memory than the last, got {taken}: larger batches, or fewer layers"
            )
        self._to_the_end({_CALIBRATED: ["--profile"]})
        return taken

    def _to_the_end(self, options: dict[str, list[str]]) -> None:
        """Run processes with a core each, and wait until they have ended."""
        end = time.monotonic() + _CALIBRATING_S
        for name in options:
            self.limits.set(name, 1.0, None)
        processes = {name: self._start_process(name, self._script(name, *wanted)) for name, wanted in options.items()}
        for name, process in processes.items():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            if process.returncode != 0:
                raise TestbedError(f"{name} failed, or took {_CALIBRATING_S:g} s; see {self.folder / name}.log")

    def _bring(self, names: list[str]) -> None:
        """Start devices without quotas, wait until all are there, and set theirs."""
        for name in names:
            self._start_device(name)
        end, again = time.monotonic() + _STARTING_S, Counter[str]()
        while not self._there():
            for name in names:
                if self._processes[name].poll() is not None:  # what an allocator takes varies, and may be too much
                    again[name] += 1
                    if again[name] > _ATTEMPTS:
                        raise TestbedError(f"{name} ended before it joined; see {self.folder / name}.log")
                    self._start_device(name)
            if time.monotonic() > end:
                raise TestbedError(f"devices were to join within {_STARTING_S:g} s; see the logs in {self.folder}")
            time.sleep(0.02)
        for name in names:
            self.limits.set(name, self.experiment.devices[self.names.index(name)].speed, self._memory_of(name))

    def _start_device(self, name: str) -> None:
        self.limits.set(name, None, self._memory_of(name))
        self._processes[name] = self._start_process(name, self.network.inside(name, self._script(name)))

    def _memory_of(self, name: str) -> float | None:
        return self.memory_bytes[self.names.index(name)] if self._memory_limits else None

    def _there(self) -> bool:
        """Whether every device has said that it is there, those that were started anew after they were."""
        return sum(not (device.suspect or device.gone) for device in self.devices.devices()) == len(self.names)

    def _heed_memory(self, memory_limits: bool) -> None:
        """Change whether limits of memory are set; what a process has taken without one it keeps, so all are new."""
        if memory_limits == self._memory_limits:
            return
        self._memory_limits = memory_limits
        self._write_setup()
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._bring(self.names)

    def _script(self, name: str, *options: str) -> list[str]:
        here = Path(__file__).resolve().parent
        alike = ["setarch", "-R"] if shutil.which("setarch") else []
        return [*alike, sys.executable, str(here / "edge_process.py"), str(self.folder / "setup.json"), name, *options]

    def _start_process(self, name: str, command: list[str]) -> subprocess.Popen[str]:
        with (self.folder / f"{name}.log").open("a") as log:
            process = self.limits.start(
                name, command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **_ENVIRONMENT}
            )
        self._started.append(process)
        return process

    def _reap(self) -> None:
        """End those whom the network has not ended, such as who calibrates outside of it."""
        for process in self._started:
            with suppress(BrokenPipeError), process:
                process.kill()

    def _start_broker(self) -> None:
        configuration = self.folder / "mosquitto.conf"
        lines = [f"listener {_PORT} {self._setup['host']}", "allow_anonymous true", "persistence false", "user root"]
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = self.network.inside(_BROKER, [str(MOSQUITTO), "-c", str(configuration)])
        with (self.folder / "mosquitto.log").open("a") as log:
            broker = subprocess.Popen(command, stdout=log, stderr=log)
        self._started.append(broker)
        end = time.monotonic() + _STARTING_S
        while True:
            with socket.socket() as probe:
                probe.settimeout(1.0)
                if probe.connect_ex((self._setup["host"], _PORT)) == 0:
                    return
            if broker.poll() is not None or time.monotonic() > end:
                raise TestbedError(f"mosquitto does not listen; see {self.folder / 'mosquitto.log'}")
            time.sleep(0.05)

    def _write_setup(self) -> None:
        """Write what devices are told when they start."""
        bandwidth_hz, layers = self.experiment.bandwidth_hz, self.experiment.model.layers
        self._setup["devices"] = {
            device.name: {
                "speed": device.speed,
                "warm_depth": device.holds if self._memory_limits else layers,
                "memory_bytes": memory_bytes,
                "uplink_bps": device.efficiency * bandwidth_hz,
            }
            for device, memory_bytes in zip(self.experiment.devices, self.memory_bytes, strict=True)
        }
        (self.folder / "setup.json").write_text(json.dumps(self._setup), encoding="utf-8")


def _between(first_s: float | None, last_s: float | None) -> float | None:
    return None if first_s is None or last_s is None else last_s - first_s
