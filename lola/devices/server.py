"""The server's side: the devices of a session, behind an MQTT broker."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from lola.adapters.apply import Refusal
from lola.adapters.devices import Roster
from lola.adapters.messages import BlockGradient, ModelUpdate
from lola.adapters.plan import RoundPlan
from lola.adapters.wire import HEADER_BYTES, layouts_of, room_for
from lola.devices.address import BrokerAddress
from lola.devices.connection import AROUND, Connected, Connection, Message
from lola.devices.exchange import Exchange, OpenRound
from lola.devices.register import KnownDevice, Register
from lola.devices.status import DeviceStatus, check_name, model_identity
from lola.devices.topics import SERVER, device_of, topic_of, update_topic
from lola.files.formats import FormatError
from lola.problem import Problem
from lola.solvers.checks import positive_number, real_number
from lola.solvers.errors import LolaError, LolaValueError

if TYPE_CHECKING:
    from lola.models.depths import Depths

_log = logging.getLogger(__name__)
_RECENT = 5  # rounds that tell how long messages take
_SLOWEST = 10  # times message_s; who says late that it has begun must not make every round longer
_QUEUED = 10_000  # a task for each device
_MOST_TOLD = 5  # lines of the log that a device gets in a round
_MOST_OF_ALL = 200
_LOOK_S = 1.0  # a device's rest ends without anybody's word


class DevicesGoneError(LolaError):
    """Too few devices came, or came back, in the time that a round waits for them."""


class MqttDevices(Connected):
    """Devices on the other side of an MQTT broker; `LiveDevices` of a session. Use it as a context manager.

    A round ends when everybody has answered, or at its deadline: the schedule's latency times `slack`, and what
    messages took lately. Who misses it is a suspect, and gets no work until it reports again. Nothing that comes is
    believed: sizes are looked at before anything is decoded, an answer counts only from the device that was asked, and
    what is refused is in the round's record with the reason.

    Parameters
    ----------
    depths : lola.models.Depths
        The session's.
    address : BrokerAddress
    run : str
        Its name, the same for server and devices.
    names : sequence of str, optional
        Devices by number; others get the next number when they are first seen. A device's batches and dropout follow
        from its number, so a run that is to be repeated, or goes on, names its devices.
    slack : float
        At least 1.
    message_s : float
        Seconds that messages take at least; for a round before any was measured, and for statuses.
    patience_s : float
        How long a round waits for devices, whatever they say meanwhile.
    longest_s : float
        After which a round ends, whatever its schedule: devices say how slow they are.

    Attributes
    ----------
    update_bytes : int
        What the largest message takes, which the broker must take.

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
        address: BrokerAddress,
        run: str,
        *,
        names: Iterable[str] = (),
        slack: float = 1.5,
        message_s: float = 2.0,
        patience_s: float = 600.0,
        longest_s: float = 3600.0,
    ) -> None:
        self.depths, self.run_name = depths, check_name("a run", run)
        if real_number("slack", slack) < 1:
            raise LolaValueError(f"slack must be at least 1, or rounds end before their schedule; got {slack}")
        self.slack = slack
        self.message_s = positive_number("message_s", message_s)
        self.patience_s = positive_number("patience_s", patience_s)
        self.longest_s = positive_number("longest_s", longest_s)
        self._patient_until: float | None = None  # of the round that is to begin
        self.register = Register(names, model_identity(depths))
        self.exchanges: tuple[Exchange, ...] = ()
        self._changed = threading.Condition()
        self._round: OpenRound | None = None
        self._earlier: dict[str, bytes] = {}
        self._unanswered: dict[str, int] = {}
        self._message_times: deque[float] = deque(maxlen=_RECENT)
        self._told: Counter[str] = Counter()
        blocks = [layouts_of(depths.named_parameters(depth)) for depth in range(1, len(depths) + 1)]
        # However many of its blocks a device answers for.
        self._most_bytes = 2 * HEADER_BYTES + sum(room_for(block) for block in blocks)
        self.update_bytes = len(ModelUpdate.from_depths(depths, 0).to_bytes())
        self._connection = Connection(
            address,
            SERVER,
            [topic_of(run, kind, "+") for kind in ("status", "answer")],
            self._came,
            self._joined,
            self._lost,
            most_bytes=self._most_bytes,
            queued=_QUEUED,
        )

    def devices(self) -> list[KnownDevice]:
        """Return what is known of each device that has reported, by number."""
        with self._changed:
            return [replace(one) for one in sorted(self.register.known.values(), key=lambda known: known.number)]

    def roster(self, problem: Problem, after: int) -> Roster:
        """Say who is there; see `LiveDevices`.

        Raises
        ------
        DevicesGoneError
            If nobody, or nobody who is enough, is there `patience_s` after the first call for a round.
        BrokerError
            If the broker does not let the server in.
        ValueError
            If the broker does not take messages as large as the model's update.
        """
        if after < 0 or self._patient_until is None:
            self._patient_until = time.monotonic() + self.patience_s
        end = self._patient_until
        while not self._connection.wait(min(1.0, max(end - time.monotonic(), 0.0))):
            if time.monotonic() >= end:
                raise DevicesGoneError(
                    f"{self._connection.address}: a broker was to be there within {self.patience_s:g} s, and was not; "
                    "start it, or name another"
                )
        largest = self._connection.largest_packet
        if largest is not None and self.update_bytes + AROUND > largest:
            raise LolaValueError(
                f"{self._connection.address}: a broker was wanted that takes the model's update, {self.update_bytes} "
                f"bytes, got one that takes packets of {largest}; raise its limit, such as max_packet_size of mosquitto"
            )
        with self._changed:
            while not (anew := self._news(problem.bandwidth_hz, after)) and time.monotonic() < end:
                self._changed.wait(min(_LOOK_S, max(end - time.monotonic(), 0.0)))
            if not anew or (after >= 0 and time.monotonic() >= end):
                there = [one.name for one in self.register.present(problem.bandwidth_hz)]
                raise DevicesGoneError(
                    f"run {self.run_name} waited {self.patience_s:g} s for devices that can hold the model; "
                    f"{len(there)} are there ({', '.join(there) or 'none'}). Start more"
                )
            return self.register.roster(problem.bandwidth_hz)

    def _news(self, bandwidth_hz: float, after: int) -> bool:
        """Whether somebody is there, and anything has changed."""
        self.register.wake(time.monotonic())
        return bool(self.register.present(bandwidth_hz)) and self.register.serial > after

    def answers(self, plan: RoundPlan) -> Iterator[BlockGradient | Refusal]:
        """Send update and tasks, and give what comes until everybody has answered or the deadline has passed."""
        this = self._begin(plan)
        try:
            ended = False
            while not ended:
                with self._changed:
                    self._changed.wait_for(
                        lambda: this.arrived or this.refusals or this.answered,
                        timeout=max(this.deadline_s - time.monotonic(), 0.0),
                    )
                    refusals, arrived = list(this.refusals), list(this.arrived)
                    this.refusals.clear()
                    this.arrived.clear()
                    ended = this.answered or time.monotonic() >= this.deadline_s
                yield from refusals
                for exchange, payload in arrived:
                    answer = self._read(exchange, payload)
                    if isinstance(answer, BlockGradient) and self._late(this, exchange, payload, answer.version):
                        ended = time.monotonic() >= this.deadline_s
                    else:
                        yield answer
        finally:
            missing = self._end(this)
        yield from missing

    def deadline_s(self, plan: RoundPlan) -> float:
        """Seconds that a round of this plan may take, from the publication of its tasks."""
        lately_s = min(max(self._message_times, default=0.0), _SLOWEST * self.message_s)
        return min(self.slack * plan.latency_s + self.message_s + lately_s, self.longest_s)

    def _begin(self, plan: RoundPlan) -> OpenRound:
        update = ModelUpdate.from_depths(self.depths, plan.version).to_bytes()
        now = time.monotonic()
        exchanges = [Exchange(self.register.names[task.device], task) for task in plan.tasks]
        deadline_s = now + self.deadline_s(plan)
        this = OpenRound(plan.version, update, exchanges, now, deadline_s, self._earlier, self._unanswered)
        with self._changed:
            self._round, self._told = this, Counter()
        self._connection.publish(update_topic(self.run_name), update, retain=True)
        for exchange in exchanges:
            self._send(this, exchange)
        return this

    def _send(self, this: OpenRound, exchange: Exchange) -> None:
        left_s = this.deadline_s - time.monotonic()
        topic = topic_of(self.run_name, "task", exchange.name)
        self._connection.publish(topic, exchange.task.to_bytes(), expiry_s=left_s)

    def _end(self, this: OpenRound) -> list[Refusal]:
        """Close a round, and say whose answers were not given: who has not answered is a suspect."""
        with self._changed:
            gone = {one.name for one in self.register.known.values() if one.gone}
            awaited = [name for name, exchange in this.exchanges.items() if not exchange.done]
            missing = this.missing(gone)
            self.register.doubt(awaited)
            if not this.cut:
                self._let_rest(awaited, this)
            begun = [one.computing_s for one in this.exchanges.values() if one.computing_s is not None]
            if begun:
                self._message_times.append(max(begun))
            elif set(awaited) - gone:  # it took longer than there was time
                self._message_times.append(this.deadline_s - this.started_s)
            self._round, self.exchanges = None, tuple(this.exchanges.values())
            answered = [one for one in self.exchanges if one.arrivals]
            self._earlier |= {one.name: next(iter(one.arrivals)) for one in answered if not one.why}
            self._unanswered = dict.fromkeys(awaited, this.version)
        return missing

    def _let_rest(self, silent: Iterable[str], this: OpenRound) -> None:
        """Give those no work for a while who were silent in more rounds than one: each of them costs its blocks."""
        now_s = time.monotonic()
        for name in silent:
            rest_s = self.register.note_silence(name, this.deadline_s - this.started_s, now_s)
            if rest_s:
                _log.warning("%s: it was silent again, and gets no work for %.3g s", name, rest_s)

    def _read(self, exchange: Exchange, payload: bytes) -> BlockGradient | Refusal:
        """Decode an answer, from the one who was asked."""
        try:
            answer = BlockGradient.from_bytes(payload, self.depths)
        except FormatError as error:
            return exchange.refuse(f"sent what is no answer: {error}", answered=True)
        if answer.device != exchange.task.device:
            return exchange.refuse(f"is device {exchange.task.device}, and answers as {answer.device}", answered=True)
        return answer

    def _late(self, this: OpenRound, exchange: Exchange, payload: bytes, version: int) -> bool:
        """Whether an answer is to an earlier round: such a one takes nobody's place."""
        with self._changed:
            late = this.late(exchange, payload, version)
            if late:
                self._tell(exchange.name, f"an answer of version {version} is ignored, for it comes too late")
        return late

    def _came(self, message: Message) -> None:
        """Sort what comes; in the connection's thread."""
        kind_and_name = device_of(message.topic)
        if kind_and_name is None:
            self._tell("", f"a message on topic {message.topic!r:.100} is ignored")
            return
        kind, name = kind_and_name
        with self._changed:
            if kind == "status":
                self._heard(name, message.payload)
            elif kind == "answer":
                self._answered(name, message.payload)
            self._changed.notify_all()

    def _heard(self, name: str, payload: bytes) -> None:
        """Take a status down."""
        try:
            status = DeviceStatus.from_bytes(payload)
        except FormatError as error:
            self._tell(name, f"its status is ignored: {error}")
            return
        why = self.register.hear(name, status)
        if why:
            self._tell(name, why)
        if self._round is not None:
            again = self._round.follow(name, status, time.monotonic())
            if again is not None:
                self._send(self._round, again)

    def _answered(self, name: str, payload: bytes) -> None:
        """Take an answer in, if it is awaited; it is not decoded here."""
        why: str | None = "an answer is ignored, for it comes when nobody waits"
        if self._round is not None:
            why = self._round.take(name, payload, time.monotonic())
            if why is None:
                self.register.note_answer(name)
        if why:
            self._tell(name, why)

    def _joined(self) -> None:
        """Say again what a broker that was restarted may have forgotten."""
        with self._changed:
            this = self._round
            if this is not None:
                self._connection.publish(update_topic(self.run_name), this.update, retain=True)
            self._changed.notify_all()

    def _lost(self) -> None:
        """Know nothing of anybody until they, or the broker for them, report again."""
        with self._changed:
            self.register.doubt(list(self.register.known))
            if self._round is not None:
                self._round.cut = True
            self._changed.notify_all()

    def _tell(self, name: str, why: str) -> None:
        """Log a few things a round and device: whoever floods a topic must not flood the log."""
        if self._told[name] < _MOST_TOLD and self._told.total() < _MOST_OF_ALL:
            self._told[name] += 1
            _log.warning("%s", f"{name}: {why}" if name else why)
