"""What a federated scheme computes: the seam between it and its session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from lola.adapters.answer import Answer
from lola.adapters.shards import ShardedData
from lola.adapters.tunables import Tunables
from lola.models.depths import Batch
from lola.solvers.checks import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

    from lola.air.uplink import Uplink


@dataclass(frozen=True, eq=False)
class FederatedRound:
    """What a scheme is given of a round.

    Attributes
    ----------
    version : int
        Of what is trained, before the round.
    clock_s : float
        Simulated seconds since the start.
    present : (P,) int64 array
        Numbers of the devices that take part, ascending.
    compute_s : (K,) float64 array
        Seconds that each device computes in a round.
    local_steps : int
        Batches of a device.
    data : ShardedData
    asked : tuple of int
        Whom the scheme asked, ascending; nobody as yet where it is to choose them.
    receive : callable
        ``receive(answers)`` sends answers over the session's uplink, and gives the mean of their tensors by what each
        weighs, as it was received, and that of their losses. Each call is a transmission of its own.
    noted : dict
        For what a scheme's `asked` has to tell its other methods; empty as a round begins.
    """

    version: int
    clock_s: float
    present: IntArray
    compute_s: FloatArray
    local_steps: int
    data: ShardedData
    receive: Callable[[Sequence[Answer]], tuple[dict[str, torch.Tensor], float]]
    asked: tuple[int, ...] = ()
    noted: dict[str, Any] = field(default_factory=dict)

    def batches(self, shard: int) -> list[Batch]:
        """Draw a shard's batches of the round; the same ones whenever it is called."""
        return list(islice(self.data.batches(shard, self.version), self.local_steps))


@dataclass(frozen=True)
class Outcome:
    """What became of a round's answers.

    Attributes
    ----------
    loss : float
        NaN where nothing was applied.
    used : tuple of int
        The devices whose answers were applied, in rising order.
    refused : tuple of str
        What was not applied, and why.
    numbers : dict of str to float
        What the scheme counts, by name: the same names in every round.
    delivered_bits : float
        What the server sent, each device's for itself: see `FederatedRecord` and `bits_of`.
    uplink_s : float, optional
        Of the transmissions, where the scheme schedules them itself; left out, as the uplink says.
    """

    loss: float
    used: tuple[int, ...]
    refused: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
    delivered_bits: float = 0.0
    uplink_s: float | None = None


def bits_of(tensors: Iterable[torch.Tensor]) -> float:
    """Return what the server sends of tensors to one device: of each value, as many bits as its dtype has."""
    return 8.0 * sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Scheme(ABC):
    """What devices compute and send, and what a server makes of it.

    Seeds, who takes part and who drops out, refusals of what is not finite, the uplink, records, checkpoints and
    evaluations are the `FederatedSession`'s. It calls, in each round, `asked`, `answer` for each device that does not
    drop out, `apply` where there are answers, else `without_answers`, and `latency_s`; `answer` and
    `apply` draw torch's random numbers from the session's seed. Where what arrives is not finite, `receive` leaves
    `apply`, and the round goes on with `without_answers`: so an `apply` receives before it changes anything. A scheme
    inherits from this class, and has at least the four members that are abstract here.
    """

    @property
    @abstractmethod
    def tunables(self) -> Tunables:
        """What is trained. It may grow in `apply`, if `restore` makes it grow as far."""

    @property
    @abstractmethod
    def identity(self) -> tuple[object, ...]:
        """What a run that goes on must have in common with the one that was stopped: texts, numbers, arrays."""

    @abstractmethod
    def answer(self, work: FederatedRound, device: int) -> Answer:
        """Let a device compute, and return what it sends and how much that weighs. One that is lost is not called."""

    @abstractmethod
    def apply(self, work: FederatedRound, answers: Mapping[int, Answer], optimizer: torch.optim.Optimizer) -> Outcome:
        """Receive the answers, one at least and all of them finite, by device, and step what is trained."""

    def without_answers(self, work: FederatedRound) -> Outcome:
        """Say what became of a round in which nobody answered; here, nothing."""
        return Outcome(float("nan"), ())

    def latency_s(self, slowest_s: float, uplink_s: float) -> float:
        """Return how long a round took, of the slowest device's computing and all transmissions; here, their sum."""
        return slowest_s + uplink_s

    def begin(self, data: ShardedData, uplink: Uplink) -> int:
        """Return how many devices there are, or say why data or uplink do not suit them; here, as many as shards.

        Called once by each session, as it begins: what devices have of an earlier one is not theirs any more.
        """
        return len(data.shards)

    def asked(self, work: FederatedRound) -> Sequence[int]:
        """Choose the devices that shall send in a round, ascending; here, all that take part."""
        return [int(device) for device in work.present]

    def kept(self) -> dict[str, Any]:
        """Return what JSON a checkpoint keeps beside what is trained; here, nothing."""
        return {}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take over what a checkpoint kept, before the weights of what is trained are put in place."""
        return
