"""What passes between the server and the devices in one round."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lola.adapters.apply import Refusal
from lola.adapters.messages import BlockTask
from lola.adapters.wire import DIGESTED
from lola.devices.status import DeviceStatus, State

_MOST_ANSWERS = 2  # of a device in a round: the first, and one that shows that there were more
_MOST_SENDINGS = 5  # of a task, to a device that joins anew while it is awaited


@dataclass
class Exchange:
    """What passed between the server and one device in a round, by the server's clock.

    Attributes
    ----------
    name : str
    task : BlockTask
    computing_s, uploading_s, answered_s : float or None
        Seconds after the task was published at which word came that the device computes and that it uploads, and at
        which its answer came. So computation took ``uploading_s - computing_s``, whatever the device's clock says.
    why : str
        Why there is no answer that can be used; else empty.
    """

    name: str
    task: BlockTask
    computing_s: float | None = None
    uploading_s: float | None = None
    why: str = ""
    sendings: int = field(default=1, repr=False)
    arrivals: dict[bytes, float] = field(default_factory=dict, repr=False)  # when it came, by how an answer begins

    @property
    def answered_s(self) -> float | None:
        """Return when its answer came."""
        return next(iter(self.arrivals.values()), None)

    def refuse(self, why: str, *, answered: bool = False) -> Refusal:
        """Note why there is no answer, or why the one that came is none."""
        self.why = f"{self.name} {why}"
        return Refusal(self.task.device, self.task.depth, self.why, answered)

    @property
    def done(self) -> bool:
        """Whether nothing more is awaited."""
        return bool(self.arrivals or self.why)


class OpenRound:
    """A round that is on: who is awaited, and what has come and is not read yet.

    Parameters
    ----------
    version : int
    update : bytes
        What was published to all.
    exchanges : iterable of Exchange
    started_s, deadline_s : float
        Of `time.monotonic`.
    earlier : mapping of str to bytes
        How each device's last answer began: it may be delivered once more, and is none to this round.
    unanswered : mapping of str to int
        The version that a device was last asked for and has not answered: that answer may come now.
    """

    def __init__(
        self,
        version: int,
        update: bytes,
        exchanges: Iterable[Exchange],
        started_s: float,
        deadline_s: float,
        earlier: Mapping[str, bytes],
        unanswered: Mapping[str, int],
    ) -> None:
        self.version, self.update, self.started_s, self.deadline_s = version, update, started_s, deadline_s
        self.exchanges = {exchange.name: exchange for exchange in exchanges}
        self.arrived: deque[tuple[Exchange, bytes]] = deque()
        self.refusals: deque[Refusal] = deque()
        self.earlier, self.unanswered = earlier, dict(unanswered)
        self.cut = False  # whether the server was cut off meanwhile: then silence is not the devices' doing

    @property
    def answered(self) -> bool:
        """Whether nobody is awaited any more."""
        return all(exchange.done for exchange in self.exchanges.values())

    def follow(self, name: str, status: DeviceStatus, now_s: float) -> Exchange | None:
        """Note how far a device is; return its exchange if its task must be sent again."""
        exchange = self.exchanges.get(name)
        if exchange is None or exchange.done:
            return None
        if status.state == State.JOINED:  # it may have missed its task
            exchange.sendings += 1
            return exchange if exchange.sendings <= _MOST_SENDINGS else None
        if status.version != self.version:
            return None
        if status.state == State.COMPUTING and exchange.computing_s is None:
            exchange.computing_s = now_s - self.started_s
        elif status.state == State.UPLOADING and exchange.uploading_s is None:
            exchange.uploading_s = now_s - self.started_s
        elif status.state == State.REFUSED:
            self.refusals.append(exchange.refuse(f"refuses: {status.why}"))
        return None

    def take(self, name: str, payload: bytes, now_s: float) -> str | None:
        """Take an answer in, undecoded; or say why it is ignored, if that is worth a word."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            return "an answer is ignored, for it was not asked"
        prefix = payload[:DIGESTED]
        if prefix == self.earlier.get(name) or prefix in exchange.arrivals:
            return ""  # a broker delivers at least once
        if len(exchange.arrivals) >= _MOST_ANSWERS:
            return "it answers again and again; the rest is ignored"
        exchange.arrivals[prefix] = now_s - self.started_s
        self.arrived.append((exchange, payload))
        return None

    def late(self, exchange: Exchange, payload: bytes, version: int) -> bool:
        """Whether an answer is the one that an earlier round has not waited for; then another is awaited still."""
        if version == self.version or self.unanswered.get(exchange.name) != version:
            return False
        del self.unanswered[exchange.name], exchange.arrivals[payload[:DIGESTED]]
        return True

    def missing(self, gone: Iterable[str]) -> list[Refusal]:
        """Say whose answer cannot be used any more, now that the deadline has passed; `gone` are those who have left.

        That is who refused meanwhile, who answered when nothing was read any more, and who has not answered.
        """
        left, took_s = set(gone), self.deadline_s - self.started_s
        refusals, unread = list(self.refusals), Counter(exchange.name for exchange, _ in self.arrived)
        for exchange in self.exchanges.values():
            if exchange.done:
                # Of two answers the first may have been read, and used.
                if not exchange.why and unread[exchange.name] == len(exchange.arrivals):
                    refusals.append(exchange.refuse(f"answered too late: not within {took_s:.3g} s"))
                continue
            if exchange.name in left:
                doing = "is gone"
            elif exchange.uploading_s is not None:
                doing = "was uploading"
            else:
                doing = "had not begun" if exchange.computing_s is None else "was computing"
            refusals.append(exchange.refuse(f"{doing}: no answer within {took_s:.3g} s"))
        return refusals
