"""The device's side: what a machine runs to take part in a session over an MQTT broker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from lola.adapters.compute import block_gradient
from lola.adapters.messages import BlockTask, ModelUpdate
from lola.adapters.setting import Purpose, Setting
from lola.adapters.wire import DIGESTED, HEADER_BYTES, layouts_of, room_for
from lola.devices.address import BrokerAddress
from lola.devices.connection import Connection, Message
from lola.devices.outbox import dropped
from lola.devices.status import DeviceStatus, State, check_measures, check_name, model_identity, short_why
from lola.devices.topics import check_device, topic_of, update_topic
from lola.files.formats import FormatError
from lola.models.depths import Batch, Depths, Loss, loss_of_output
from lola.models.seeding import seeded
from lola.profile import Profile
from lola.solvers.checks import positive_integer, real_number
from lola.solvers.errors import LolaError, LolaValueError

if TYPE_CHECKING:
    from types import TracebackType

_log = logging.getLogger(__name__)
_QUEUED = 16  # messages that wait for a broker: statuses, and an answer or two
_LONGEST_REST_S = 64.0  # of a device that refused a task
# torch draws dropout from one random state a process, so devices in one process take turns.
_random_state = threading.Lock()


class _Answered(NamedTuple):
    """The last task done, at which update, and its answer."""

    task: bytes
    update: bytes
    answer: bytes


class EdgeDevice:
    """A device of a session that runs elsewhere: it reports, computes what it is asked, and answers.

    It keeps its model for as long as it lives, connects again whenever the connection is lost, and refuses a task that
    it cannot do, with the reason. Same seeds and batches give the bits of `lola.adapters.SimulatedDevices`. Use it as a
    context manager, which runs it in a thread, or call `run`.

    Parameters
    ----------
    depths : lola.models.Depths
        The server's model, loaded here. Whether it is in training mode decides on dropout.
    batches : callable
        ``batches(device, version)`` gives the batches of a round for the number that the server knows this device by;
        ``ShardedData.batches`` does.
    address : BrokerAddress
    run, name : str
        Of the server's run, and of this device: with certificates, the name in its own.
    speed : float
        Relative to the reference device of the server's profile.
    memory_bytes, uplink_bps : float
        Bytes that it offers, and bit/s that it uploads alone.
    rows : int
        Of data.
    seed : int
        The run's, for dropout.
    profile : Profile, optional
        What depths need here: a task that needs more than `memory_bytes` is refused.
    pace : callable, optional
        ``pace(task)`` gives the bit/s that its answer is uploaded at, such as the task's bandwidth times this device's
        bit/s/Hz. Left out, as fast as the network takes it.
    uplink_weight : float
        Share that an upload, timed, gets in `uplink_bps` each time, in [0, 1). It should be 0 where `pace` is given.
    loss : callable, optional
        See `block_gradient`.

    Raises
    ------
    ImportError
        If the extra ``devices`` is not installed.
    TypeError, ValueError, OSError
        If an argument does not fit, or the address's certificates cannot be used.
    """

    def __init__(
        self,
        depths: Depths,
        batches: Callable[[int, int], Iterable[Batch]],
        address: BrokerAddress,
        run: str,
        name: str,
        *,
        speed: float,
        memory_bytes: float,
        uplink_bps: float,
        rows: int,
        seed: int = 0,
        profile: Profile | None = None,
        pace: Callable[[BlockTask], float] | None = None,
        uplink_weight: float = 0.0,
        loss: Loss = loss_of_output,
    ) -> None:
        check_measures(speed, memory_bytes, uplink_bps)
        if not 0 <= real_number("uplink_weight", uplink_weight) < 1:
            raise LolaValueError(f"uplink_weight must be a share in [0, 1), got {uplink_weight}")
        if profile is not None and profile.n_blocks != len(depths):
            raise LolaValueError(
                f"the profile must have as many blocks as the model, {len(depths)}; got {profile.n_blocks}"
            )
        self.depths, self.batches, self.loss, self.profile = depths, batches, loss, profile
        self.run_name, self.name = check_name("a run", run), check_device(name)
        self.pace, self.uplink_weight, self._setting = pace, uplink_weight, Setting(seed=seed)
        self.status = DeviceStatus(
            State.JOINED,
            -1,
            float(speed),
            float(memory_bytes),
            float(uplink_bps),
            positive_integer("rows", rows),
            model_identity(depths),
        )
        self._wake = threading.Condition()
        self._stopping = False
        self._task: bytes | None = None  # as it came, and not looked at yet
        self._update: bytes | None = None
        self._prefix = b""
        self._current: ModelUpdate | None = None
        self._pending: tuple[bytes, BlockTask] | None = None
        self._last: _Answered | None = None
        self._rest_s = 1.0
        self._rested_s: float | None = None  # when it says again that it is there
        self._thread: threading.Thread | None = None
        self._fault: LolaError | None = None
        gone = (self._topic("status"), self._said(State.GONE).to_bytes())
        self._connection = Connection(
            address,
            self.name,
            [update_topic(run), self._topic("task")],
            self._came,
            self._connected,
            lambda: None,
            most_bytes=HEADER_BYTES + room_for(layouts_of(depths.all_named_parameters())),
            queued=_QUEUED,
            will=gone,
        )

    def __enter__(self) -> EdgeDevice:
        self._thread = threading.Thread(target=self._run_beside, name=f"device-{self.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()
        if self._fault is not None and error is None:
            raise self._fault

    def _run_beside(self) -> None:
        try:
            self.run()
        except LolaError as error:
            self._fault = error

    def run(self) -> None:
        """Take part until `stop` is called, from another thread or a signal's handler.

        Raises
        ------
        BrokerError
            If the broker does not let this device in, the first time.
        """
        self._connection.start()
        try:
            while self._wait():
                self._look()
                if self._pending is not None and self._current is not None:
                    raw, task = self._pending
                    if task.version == self._current.version:
                        self._pending = None
                        self._do(raw, task, self._current)
                    elif self.status.version < task.version < self._current.version:
                        self._say(State.IDLE, task.version)  # too late: nobody waits
        finally:
            if self._connection.connected:
                self._connection.publish(self._topic("status"), self._said(State.GONE).to_bytes(), retain=True)(1.0)
            self._connection.close()

    def stop(self) -> None:
        """Say goodbye, once a gradient at work is computed."""
        self._stopping = True  # before the lock: a signal's handler may have interrupted who holds it
        if self._wake.acquire(timeout=1.0):
            self._wake.notify_all()
            self._wake.release()

    def report(self, **measured: float) -> None:
        """Say anew what the device is like: any of ``speed``, ``memory_bytes``, ``uplink_bps`` and ``rows``.

        Raises
        ------
        TypeError, ValueError
            If it is not one of these, or not positive.
        """
        unknown = set(measured) - {"speed", "memory_bytes", "uplink_bps", "rows"}
        if unknown:
            raise LolaValueError(
                f"speed, memory_bytes, uplink_bps or rows was wanted, got {', '.join(sorted(unknown))}; leave it out"
            )
        new: Any = replace(self.status, **measured)  # type: ignore[arg-type]
        check_measures(new.speed, new.memory_bytes, new.uplink_bps)
        positive_integer("rows", new.rows)
        self.status = new
        self._say(State.IDLE if new.state == State.REFUSED else new.state)

    def _wait(self) -> bool:
        """Wait until there is something to look at; say whether to go on."""
        with self._wake:
            while not (self._stopping or self._task is not None or self._update is not None):
                self._connection.wait(0.0)  # for its error
                left_s = None if self._rested_s is None else self._rested_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    self._rested_s = None
                    self._say(State.IDLE)
                else:
                    self._wake.wait(0.5 if left_s is None else min(left_s, 0.5))
            return not self._stopping

    def _look(self) -> None:
        """Decode what has come."""
        with self._wake:
            update, task = self._update, self._task
            self._update = self._task = None
        try:
            if update is not None:
                self._current, self._prefix = ModelUpdate.from_bytes(update, self.depths), update[:DIGESTED]
            if task is not None:
                self._pending = (task, BlockTask.from_bytes(task, self.depths))
        except FormatError as error:
            _log.warning("%s: a message is ignored: %s", self.name, error)

    def _do(self, raw: bytes, task: BlockTask, update: ModelUpdate) -> None:
        """Answer one task, or refuse it."""
        if self._last is None or (self._last.task, self._last.update) != (raw, self._prefix):
            self._say(State.COMPUTING, task.version)
            try:
                self._check(task)
                self._last = _Answered(raw, self._prefix, self._compute(task, update))
            except Exception as error:  # a device outlives a task that it cannot do, whatever the reason
                known = isinstance(error, LolaError | MemoryError)
                _log.warning("%s refuses depth %d: %s", self.name, task.depth, error, exc_info=not known)
                self._rested_s = time.monotonic() + self._rest_s
                self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)
                self._say(State.REFUSED, task.version, f"{type(error).__name__}: {error}")
                return
        self._rest_s, self._rested_s = 1.0, None
        self._upload(task, self._last.answer)

    def _check(self, task: BlockTask) -> None:
        """Refuse what this device did not offer."""
        if self.profile is None:
            return
        needed = float(self.profile.memory_bytes[task.depth - 1])
        if self.profile.extra_memory_bytes is not None:
            needed += float(self.profile.extra_memory_bytes[task.depths[0] - 1 : task.depth - 1].sum())
        if needed > self.status.memory_bytes:
            raise LolaValueError(
                f"depth {task.depth} needs {needed:.6g} bytes, and {self.status.memory_bytes:.6g} are offered"
            )

    def _compute(self, task: BlockTask, update: ModelUpdate) -> bytes:
        update.apply_to(self.depths)
        where = self.depths.all_parameters()[0].device.type
        rng = self._setting.rng(task.version, Purpose.DROPOUT, task.device)
        batches = self.batches(task.device, task.version)
        with _random_state, seeded(int(rng.integers(2**63)), where):
            answer = block_gradient(self.depths, task, batches, loss=self.loss)
        return answer.to_bytes()

    def _upload(self, task: BlockTask, answer: bytes) -> None:
        """Send an answer, at the pace asked for, and wait until the broker has it, or something newer is to be done."""
        self._say(State.UPLOADING, task.version)
        if self.pace is not None and not self._connection.pace(self.pace(task)):
            _log.warning("%s: this machine cannot pace its uploads", self.name)
        started = time.monotonic()
        acknowledged = self._connection.publish(self._topic("answer"), answer)
        while not (done := acknowledged(0.2)) and not self._stopping and self._task is None:
            if acknowledged is dropped:  # the queue was full
                started, acknowledged = time.monotonic(), self._connection.publish(self._topic("answer"), answer)
        took_s = time.monotonic() - started
        if self.pace is not None:
            self._connection.pace(None)
        if not done:
            return
        if self.uplink_weight:
            timed_bps = 8 * len(answer) / max(took_s, 1e-6)
            smooth = (1 - self.uplink_weight) * self.status.uplink_bps + self.uplink_weight * timed_bps
            self.status = replace(self.status, uplink_bps=smooth)
        self._say(State.IDLE, task.version)

    def _came(self, message: Message) -> None:
        """Keep the newest of each kind; in the connection's thread."""
        with self._wake:
            if message.topic == update_topic(self.run_name):
                self._update = message.payload
            elif message.topic == self._topic("task"):
                self._task = message.payload
            self._wake.notify_all()

    def _connected(self) -> None:
        state = self.status.state
        self._say(state if state in (State.COMPUTING, State.UPLOADING, State.REFUSED) else State.JOINED)

    def _said(self, state: State, version: int | None = None, why: str = "") -> DeviceStatus:
        version = self.status.version if version is None else version
        return replace(self.status, state=state, version=version, why=short_why(why))

    def _say(self, state: State, version: int | None = None, why: str = "") -> None:
        with self._wake:  # what is said last is what holds
            self.status = self._said(state, version, why)
            self._connection.publish(self._topic("status"), self.status.to_bytes(), retain=True)

    def _topic(self, kind: str) -> str:
        return topic_of(self.run_name, kind, self.name)
