"""Federated fine-tuning over rounds, whatever the scheme."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lola.adapters.answer import Answer, average, not_finite
from lola.adapters.identity import federated_identity
from lola.adapters.record import FederatedRecord
from lola.adapters.rounds import Evaluate, Session, expect_held
from lola.adapters.scores import refuse_taken_names
from lola.adapters.setting import FederatedSetting, Purpose
from lola.adapters.shards import ShardedData
from lola.adapters.tunables import Tunables
from lola.air.uplink import PerfectUplink, Reception, Uplink, expect_uplink
from lola.deft.scheme import FederatedRound, Outcome, Scheme
from lola.files.formats import FormatError, StrPath
from lola.solvers.checks import FloatArray, IntArray, frozen, per_block, shown, vector
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch


_FIELDS = frozenset(field.name for field in fields(FederatedRecord))


class _NotFiniteError(Exception):
    """What arrived of a transmission is not finite: the round is as if nobody had answered."""


class FederatedSession(Session[FederatedRecord]):
    """Rounds of federated fine-tuning: ask the devices, receive what they send over the uplink, step, tick the clock.

    Every device is simulated on this machine, one after the other.

    Parameters
    ----------
    scheme : Scheme
        What devices compute and what the server makes of it, such as a `PlainScheme`.
    optimizer : torch.optim.Optimizer
        Over ``scheme.tunables.all_parameters()``.
    data : ShardedData
        A shard for each device, unless the scheme says otherwise.
    setting : FederatedSetting, optional
    uplink : lola.air.Uplink, optional
        What becomes of the answers on their way; left out, they are summed as they are, in no time.
    compute_s : (K,) or number array_like
        Seconds that each device computes in a round: the round waits for the slowest that it asked.
    evaluate : callable, optional
        ``evaluate()`` gives scores by name; called without gradients and in eval mode.
    folder : path-like, optional
        As a `lola.adapters.CooperativeSession` has one: checkpoints, ``metrics.csv``, and runs that go on to the same
        bits.

    Raises
    ------
    TypeError, ValueError, FormatError
        If an argument, or a checkpoint found in the folder, does not fit, or none there is intact.
    OSError
        If the folder cannot be used; BlockingIOError if another session is at work there.
    """

    _told_by = "scheme, setting, uplink, compute_s, data or frozen weights"

    def __init__(
        self,
        scheme: Scheme,
        optimizer: torch.optim.Optimizer,
        data: ShardedData,
        *,
        setting: FederatedSetting | None = None,
        uplink: Uplink | None = None,
        compute_s: ArrayLike = 0.0,
        evaluate: Evaluate | None = None,
        folder: StrPath | None = None,
    ) -> None:
        if not isinstance(scheme, Scheme):
            raise LolaTypeError(
                f"scheme must be a Scheme, such as a lola.deft.PlainScheme(depths), got {type(scheme).__name__}; let a "
                "class of yours inherit from lola.deft.Scheme"
            )
        if not isinstance(data, ShardedData):
            raise LolaTypeError(f"data must be a ShardedData, the devices' shards; got {type(data).__name__}")
        if setting is not None and not isinstance(setting, FederatedSetting):
            raise LolaTypeError(f"setting must be a lola.deft.FederatedSetting, got {type(setting).__name__}")
        expect_uplink(uplink)
        self.scheme, self.data = scheme, data
        self.setting = FederatedSetting() if setting is None else setting
        self.uplink: Uplink = PerfectUplink() if uplink is None else uplink
        if not isinstance(scheme.tunables, Tunables):
            raise LolaTypeError(
                f"tunables of {type(scheme).__name__} must say what is trained, as a lola.adapters.Trained(model, "
                f"parameters by name) does; got {type(scheme.tunables).__name__}"
            )
        if not isinstance(scheme.identity, tuple):
            raise LolaTypeError(
                f"identity of {type(scheme).__name__} must be a tuple of what a run that goes on must have in common, "
                f"got {shown(scheme.identity)}; () for nothing"
            )
        self.n_devices = scheme.begin(data, self.uplink)
        self.compute_s = _seconds(compute_s, self.n_devices)
        trained = scheme.tunables
        expect_held(trained, optimizer)
        super().__init__(trained, optimizer, self.setting, evaluate, folder)
        said = (type(scheme).__qualname__, *scheme.identity, self.compute_s)
        self._go_on(lambda: federated_identity(said, uplink, self.setting, trained, data), FederatedRecord)

    def __repr__(self) -> str:
        where = "" if self.folder is None else f", in {str(self.folder)!r}"
        return (
            f"<FederatedSession of {self.n_devices} devices, {type(self.scheme).__name__}: {self.version} rounds, "
            f"{self.clock_s:.6g} s simulated{where}>"
        )

    def _state(self) -> dict[str, Any]:
        return {"scheme": "federated", "kept": self.scheme.kept()}

    def _prepare(self, state: dict[str, Any]) -> None:
        try:
            self.scheme.restore(state["kept"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                f"{self.folder}: the latest checkpoint must hold what {type(self.scheme).__name__} keeps, got "
                f"{error!r}; start this run in another folder"
            ) from error

    def _round(self) -> FederatedRecord:
        receptions: list[Reception] = []
        noise = self.setting.rng(self.version, Purpose.UPLINK)

        def receive(answers: Sequence[Answer]) -> tuple[dict[str, torch.Tensor], float]:
            # What one device sends for itself must not depend on who else does.
            alone = [device for device, answer in answered.items() if len(answers) == 1 and answer is answers[0]]
            rng = self.setting.rng(self.version, Purpose.UPLINK, alone[0]) if alone else noise
            received, loss = average(answers, self.uplink, rng)
            receptions.append(received)
            if why := not_finite(received.tensors):
                raise _NotFiniteError(why)
            return received.tensors, loss

        present, steps = self._present(), self.setting.local_steps
        work = FederatedRound(self.version, self.clock_s, present, self.compute_s, steps, self.data, receive)
        with self.tunables.lock:
            work = replace(work, asked=self._asked(work))
            answered, lost = self._answers(work)
            refused = [f"device {device}: {answer.refusal}" for device, answer in answered.items() if answer.refusal]
            usable = {device: answer for device, answer in answered.items() if not answer.refusal}
            try:
                outcome = self._applied(work, usable) if usable else self.scheme.without_answers(work)
            except _NotFiniteError as error:
                outcome = self.scheme.without_answers(work)
                refused.append(f"what arrived: {error}")
        self._check(outcome, usable)
        uplink_s = outcome.uplink_s
        if uplink_s is None:
            uplink_s = sum((reception.latency_s for reception in receptions), start=0.0)
        latency_s = self.scheme.latency_s(float(self.compute_s[[*work.asked]].max(initial=0.0)), uplink_s)
        return FederatedRecord(
            version=self.version + 1,
            clock_s=self.clock_s + latency_s,
            latency_s=latency_s,
            loss=outcome.loss,
            participants=len(work.present),
            asked=len(work.asked),
            applied=len(outcome.used),
            delivered_bits=outcome.delivered_bits,
            uploaded_values=sum(t.numel() for answer in answered.values() for t in answer.tensors.values()),
            uplink_s=uplink_s,
            uplink_mse=max((reception.mse for reception in receptions), default=0.0),
            refused="; ".join((*refused, *outcome.refused)),
            numbers=outcome.numbers,
            devices_used=outcome.used,
            lost_devices=tuple(lost),
        )

    def _present(self) -> IntArray:
        """Draw who takes part, or call everybody in where nobody does."""
        present = np.flatnonzero(self.setting.taking_part(self.version, self.n_devices))
        return present if present.size else np.arange(self.n_devices)

    def _asked(self, work: FederatedRound) -> tuple[int, ...]:
        """Have the scheme choose among those who take part."""
        asked = tuple(map(int, self.scheme.asked(work)))
        if asked != tuple(sorted({*asked} & {*work.present.tolist()})):
            raise LolaValueError(
                f"asked must name some of the devices that take part, {work.present.tolist()}, ascending and each "
                f"once; {type(self.scheme).__name__} asked {list(asked)}"
            )
        return asked

    def _answers(self, work: FederatedRound) -> tuple[dict[int, Answer], list[int]]:
        """Have those devices compute that do not drop out. Return what they send, and who was lost."""
        failing = self.setting.failing(self.version, self.n_devices)
        answers: dict[int, Answer] = {}
        lost = []
        for device in work.asked:
            if failing[device]:
                lost.append(device)
                continue
            with self._seeded(Purpose.DROPOUT, device):
                answer = self.scheme.answer(work, device)
            if not isinstance(answer, Answer):
                raise LolaTypeError(
                    f"answer of {type(self.scheme).__name__} must return a lola.deft.Answer, got {shown(answer)}"
                )
            answers[device] = answer
        return answers, lost

    def _check(self, outcome: Outcome, usable: Collection[int]) -> None:
        """Refuse what a record could not tell of a round."""
        whose = f"the Outcome of {type(self.scheme).__name__}"
        if not isinstance(outcome, Outcome):
            raise LolaTypeError(f"{whose} must be a lola.deft.Outcome, got {shown(outcome)}; have apply return one")
        if not {*outcome.used} <= {*usable} or list(outcome.used) != sorted({*outcome.used}):
            raise LolaValueError(
                f"used of {whose} must name devices that answered, {sorted(usable)}, ascending and each once; got "
                f"{list(outcome.used)}"
            )
        refuse_taken_names(f"numbers of {whose}", outcome.numbers, _FIELDS)

    def _applied(self, work: FederatedRound, answers: dict[int, Answer]) -> Outcome:
        """Have the scheme receive the answers and step."""
        with self._seeded(Purpose.SERVER):
            return self.scheme.apply(work, answers, self.optimizer)


def _seconds(value: ArrayLike, n_devices: int) -> FloatArray:
    """Return the seconds of each device, where one number holds for all."""
    seconds = frozen(vector("compute_s", per_block("compute_s", value, n_devices), positive=False))
    if len(seconds) != n_devices:
        raise LolaValueError(
            f"compute_s must be one number, or one for each of {n_devices} devices; got {len(seconds)}"
        )
    return seconds
