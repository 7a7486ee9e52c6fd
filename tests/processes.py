"""Commands as processes of their own, forked from one that has imported what they need: that takes most of a start."""

import multiprocessing
import os
import signal
import sys
import time

CONTEXT = multiprocessing.get_context("forkserver")
_OURS = (
    "cli.live",
    "tasks.serving",
    "tasks.joining",
    "devices.server",
    "devices.edge",
    "scheduling",
    "solvers.joint",
    "solvers.segments",
    "profiling.estimation",
)
_THEIRS = (
    "torch",
    "peft",
    "transformers.models.bert.modeling_bert",
    "sklearn.metrics",
    "scipy.stats",
    "amqtt.broker",
    "paho.mqtt.client",
    "tensorboard.summary.writer.event_file_writer",
)
# One list a process, and a name that cannot be imported is skipped in silence: tests/devices/test_processes.py looks.
PRELOADED = (*(f"lola.{name}" for name in _OURS), *_THEIRS)
CONTEXT.set_forkserver_preload([*PRELOADED])


def modules(report):
    """Report what a process has imported by the time it runs."""
    report.send([*sys.modules])


def _run(arguments, log, cache):
    os.environ["XDG_CACHE_HOME"] = cache
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from lola.cli.main import main

    sys.exit(main(arguments))


class Command:
    """``lola …`` as a process; what it says goes into a file. It is killed, if need be, when a test ends."""

    def __init__(self, folder, name, *arguments):
        self.log = folder / f"{name}.txt"
        self.log.unlink(missing_ok=True)
        texts = [str(argument) for argument in arguments]
        self.process = CONTEXT.Process(target=_run, args=(texts, str(self.log), str(folder / "cache")), daemon=True)
        self.process.start()

    @property
    def said(self):
        return self.log.read_text() if self.log.exists() else ""

    def says(self, text, within_s=300.0):
        """Wait until it has said something."""
        end = time.monotonic() + within_s
        while text not in self.said:
            assert self.process.is_alive(), self.said
            assert time.monotonic() < end, f"{text!r} is not in {self.said}"
            time.sleep(0.02)

    def interrupt(self):
        os.kill(self.process.pid, signal.SIGINT)

    def kill(self):
        self.process.kill()
        self.process.join(10)

    def ends(self, within_s=300.0):
        """Wait until it ends, and return its exit code."""
        self.process.join(within_s)
        assert not self.process.is_alive(), self.said
        return self.process.exitcode
