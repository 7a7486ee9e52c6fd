"""What every session has, whatever its scheme: rounds one after the other, records, checkpoints and evaluations."""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from lola.adapters.checkpoint import checkpoints, load_latest, save, version_of
from lola.adapters.lock import held, lock_of
from lola.adapters.record import Record
from lola.adapters.scores import checked_scores
from lola.adapters.setting import Purpose
from lola.adapters.tensorboard import tensorboard_log
from lola.air.placement import over_the_air
from lola.files.formats import FormatError, StrPath
from lola.models.running import evaluating
from lola.models.seeding import seeded
from lola.solvers.checks import positive_integer
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lola.adapters.setting import ChainSetting, FederatedSetting, Setting
    from lola.adapters.tunables import Tunables
    from lola.air.layers import OverTheAirLinear

_log = logging.getLogger(__name__)
Evaluate = Callable[[], Mapping[str, float]]
RecordT = TypeVar("RecordT", bound=Record)


class Session(ABC, Generic[RecordT]):
    """Rounds of fine-tuning, kept in a folder; what a round does is its scheme's.

    A scheme says what tells its runs apart and calls `_go_on` once it is made, runs a `_round`, and may keep more than
    weights, optimizer, clock and records: `_state`. What the digest of `_go_on` is of, `_told_by` says.
    """

    _told_by: ClassVar[str]

    def __init__(
        self,
        tunables: Tunables,
        optimizer: torch.optim.Optimizer,
        setting: Setting | ChainSetting | FederatedSetting,
        evaluate: Evaluate | None,
        folder: StrPath | None,
    ) -> None:
        _expect_no_closure(optimizer)
        self.tunables, self.optimizer, self.evaluate = tunables, optimizer, evaluate
        self.folder = None if folder is None else Path(folder)
        self.version, self.clock_s = 0, 0.0
        self.records: list[RecordT] = []
        self._checkpoint_every, self._evaluate_every = setting.checkpoint_every, setting.evaluate_every
        self._rng = setting.rng
        self._radios = _radios(tunables.model)
        self._digest: str | None = None
        self._frozen: str | None = None
        self._lock = None if self.folder is None else lock_of(self.folder)

    @abstractmethod
    def _round(self) -> RecordT:
        """Do a round, and return its record without scores; version and clock are counted on from that."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Return what else a checkpoint keeps, by name."""

    def _prepare(self, state: dict[str, Any]) -> None:
        """Make what is trained as large as it was when this state was kept; here, it never grows."""
        return

    def _go_on(self, identity: Callable[[], tuple[str, str]], record: type[RecordT]) -> dict[str, Any]:
        """Go on from the latest checkpoint of the folder, if there are both, and return its state.

        To be called by the session's constructor itself: a warning of damaged checkpoints names its caller.
        """
        if self.folder is None or self._lock is None:
            return {}
        self._digest, self._frozen = identity()
        if not self.folder.exists():
            return {}
        with held(self._lock):
            state = load_latest(self.folder, self.tunables, self.optimizer, self._digest, self._told_by, self._prepare)
        if state is None:
            return {}
        self.version, self.clock_s = state["version"], state["clock_s"]
        self.records = [record.from_json(entry) for entry in state["records"]]
        return state

    def run(self, rounds: int) -> Iterator[RecordT]:
        """Run until `rounds` rounds are done in all, yielding each as it ends; checkpoints are written on the way.

        Raises
        ------
        ValueError
            If `evaluate` gives a score the name of something else that is recorded, or other layers are over the air
            than when the session was made.
        TypeError
            If `evaluate` does not return numbers by name.
        InfeasibleError
            If not even all devices, or clients, can hold the model, or a round waits a day for devices in outage.
        FormatError, OSError
            See `alone`; and if the folder cannot be written to.
        """
        positive_integer("rounds", rounds)
        with self.alone(), tensorboard_log(self.folder, self.version) as note:
            while self.version < rounds:
                self._expect_same_radios()
                record = self._round()
                self.version, self.clock_s = record.version, record.clock_s
                self.records.append(record)  # before the evaluation, which may be stopped: a record a round
                if self.evaluate is not None and (self.version == rounds or self.version % self._evaluate_every == 0):
                    scored: Any = record
                    record = self.records[-1] = replace(scored, scores=self._scores(self.evaluate, record))
                _log.info("%s", record)
                note(record)
                due = self.version % self._checkpoint_every == 0 or self.version == rounds
                if due and self.folder is not None:
                    self.save()
                yield record

    def save(self) -> Path:
        """Write a checkpoint and the metrics, each whole or not at all, and return the checkpoint's folder.

        Raises
        ------
        ValueError
            If the session has no folder.
        FormatError, OSError
            See `alone`; and if the folder cannot be written to.
        """
        if self.folder is None:
            raise LolaValueError("this session has no folder to save to; give it one")
        state = {
            "version": self.version,
            "clock_s": self.clock_s,
            "records": [record.to_json() for record in self.records],
            "identity": self._digest,
            "frozen": self._frozen,
            **self._state(),
        }
        with self.alone():
            return save(self.folder, self.tunables, self.optimizer, state)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other session out of the folder, where there is one, while this lasts.

        Raises
        ------
        BlockingIOError
            If another session is at work there.
        FormatError
            If another one has gone further there since this one was made.
        """
        if self.folder is None or self._lock is None:
            yield
            return
        with held(self._lock):
            saved = checkpoints(self.folder)
            if saved and version_of(saved[-1]) > self.version:
                raise FormatError(
                    f"{self.folder}: another session has gone on to {saved[-1].name} there, this one is at version "
                    f"{self.version}; make it anew"
                )
            yield

    def _expect_same_radios(self) -> None:
        """Refuse a round with other layers over the air than those that tell this run from others."""
        now = _radios(self.tunables.model)
        if now != self._radios:
            raise LolaValueError(
                f"the layers over the air must stay those of when the session was made, {sorted(self._radios)}, got "
                f"{sorted(now)} (a layer put there anew is another); put them there before, and take them back after"
            )

    def _scores(self, evaluate: Evaluate, record: RecordT) -> dict[str, float]:
        """Evaluate, and refuse what are no scores that the record can have."""
        import torch

        with evaluating(self.tunables.model), torch.no_grad(), self._seeded(Purpose.EVALUATION):
            scores = evaluate()
        return checked_scores(scores, record)

    def _seeded(self, purpose: Purpose, *of: int) -> AbstractContextManager[None]:
        """Draw torch's random numbers from the round alone: what else computes does not matter, and is left alone."""
        seed = int(self._rng(self.version, purpose, *of).integers(2**63))
        return seeded(seed, self.tunables.all_parameters()[0].device.type)


def expect_held(tunables: Tunables, optimizer: torch.optim.Optimizer) -> None:
    """Refuse to train nothing, and an optimizer that does not hold all that is trained."""
    trained = tunables.all_parameters()
    if not trained:
        raise LolaValueError("a session must have something to train, got no parameter; attach adapters")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    names = {id(parameter): name for name, parameter in tunables.all_named_parameters().items()}
    if missing := [names[id(parameter)] for parameter in trained if id(parameter) not in held]:
        raise LolaValueError(
            f"the optimizer does not hold {missing[0]}, which is trained; make it over all_parameters() of what the "
            "session trains"
        )


def _expect_no_closure(optimizer: torch.optim.Optimizer) -> None:
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise LolaValueError(
            f"optimizer must step without a closure, with gradients that arrived, got {type(optimizer).__name__}; take "
            "torch.optim.Adam or SGD, for example"
        )


def _radios(model: nn.Module) -> dict[str, OverTheAirLinear]:
    """Return what is over the air, by name, and refuse noise that a run which goes on would not draw again."""
    radios = dict(over_the_air(model))
    for name, radio in radios.items():
        if radio.noise is not None:
            raise LolaValueError(
                "in a session, the noise over the air must follow from the session's seed, got a generator of its own "
                f"for {name}; leave noise out of put_over_the_air"
            )
    return radios
