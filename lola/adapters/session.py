"""Cooperative fine-tuning over rounds, every device simulated on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lola.adapters.checkpoint import load_latest, save
from lola.adapters.deft import Loss, RoundPlan, apply_round, block_gradient, loss_of_output
from lola.adapters.record import RoundRecord
from lola.adapters.scalars import scalars
from lola.adapters.shards import ShardedData
from lola.channel import Channel
from lola.fleet import Fleet
from lola.formats import StrPath
from lola.problem import Problem
from lola.scheduling import METHODS, schedule
from lola.solution import Schedule
from lola.solvers.checks import IntArray, positive_integer, seed_number
from lola.solvers.errors import InfeasibleError

if TYPE_CHECKING:
    import torch

    from lola.profiling import Depths

Evaluate = Callable[[], Mapping[str, float]]
# What a random generator is for; with the seed and the round it makes all of its state.
_SCHEDULE, _FAILURE, _DROPOUT, _PARTICIPATION = range(4)


@dataclass(frozen=True)
class Setting:
    """How a session runs.

    Parameters
    ----------
    method : str
        One of `lola.METHODS`.
    seed : int
        Everything random follows from it, the round and the device.
    participation : float
        Chance that a device takes part in a round. Where those who do cannot hold the model, everybody is called in.
    failure : float
        Chance that a scheduled device never answers.
    checkpoint_every, evaluate_every : int
        Rounds between checkpoints, where there is a folder for them, and between evaluations.

    Raises
    ------
    ValueError, TypeError
        If there is no such method, or a chance or a number of rounds is none.
    """

    method: str = "jbba"
    seed: int = 0
    participation: float = 1.0
    failure: float = 0.0
    checkpoint_every: int = 10
    evaluate_every: int = 10

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if not 0 < self.participation <= 1:
            raise ValueError(f"participation must be a chance in (0, 1], got {self.participation}")
        if not 0 <= self.failure < 1:
            raise ValueError(f"failure must be a chance in [0, 1), got {self.failure}")
        seed_number("seed", self.seed)
        positive_integer("checkpoint_every", self.checkpoint_every)
        positive_integer("evaluate_every", self.evaluate_every)


class CooperativeSession:
    """Rounds of cooperative fine-tuning: schedule, compute block by block, step the server's optimizer, tick the clock.

    Parameters
    ----------
    depths : lola.profiling.Depths
        The model with its adapters, from `lola.profiling.attach_lora`.
    optimizer : torch.optim.Optimizer
        The server's, over ``depths.all_parameters()``.
    problem : Problem
        Profile, fleet, bandwidth and local steps. Its channel holds in every round unless `channel` gives others.
    data : ShardedData
        One shard a device of the fleet.
    setting : Setting, optional
    channel : callable, optional
        ``channel(version, clock_s)`` gives the spectral efficiency of every device in a round, (K,).
    evaluate : callable, optional
        ``evaluate()`` gives scores by name; called without gradients and in eval mode.
    loss : callable, optional
        See `block_gradient`.
    folder : path-like, optional
        Where checkpoints, ``metrics.csv`` and, with TensorBoard installed, its scalars go. A session that finds
        checkpoints there goes on from the latest, with the optimizer's settings kept in it, and ends with the same
        weights, to the last bit on a CPU with as many threads, as if it had never stopped.

    Raises
    ------
    TypeError, ValueError, FormatError
        If an argument, or a checkpoint found in the folder, does not fit.
    """

    def __init__(
        self,
        depths: Depths,
        optimizer: torch.optim.Optimizer,
        problem: Problem,
        data: ShardedData,
        *,
        setting: Setting | None = None,
        channel: Channel | None = None,
        evaluate: Evaluate | None = None,
        loss: Loss = loss_of_output,
        folder: StrPath | None = None,
    ) -> None:
        if len(depths) != problem.n_blocks:
            raise ValueError(
                f"the profile must have as many blocks as the model, {len(depths)}; got {problem.n_blocks}"
            )
        if len(data.shards) != problem.n_devices:
            raise ValueError(f"data must have a shard for each of {problem.n_devices} devices, got {len(data.shards)}")
        if problem.pinned or problem.forbidden:
            raise ValueError("pinned and forbidden pairs are of one round; a session schedules many: leave them out")
        self.depths, self.optimizer, self.problem, self.data = depths, optimizer, problem, data
        self.setting = Setting() if setting is None else setting
        self.channel, self.evaluate, self.loss = channel, evaluate, loss
        self.folder = None if folder is None else Path(folder)
        self._digest = None if folder is None else self._identity()
        self.version, self.clock_s = 0, 0.0
        self.records: list[RoundRecord] = []
        if self.folder is not None and (state := load_latest(self.folder, depths, optimizer, self._digest)):
            self.version, self.clock_s = state["version"], state["clock_s"]
            self.records = [RoundRecord.from_json(record) for record in state["records"]]

    def run(self, rounds: int) -> Iterator[RoundRecord]:
        """Run until `rounds` rounds are done in all, yielding each as it ends; checkpoints are written on the way.

        Raises
        ------
        InfeasibleError
            If not even the whole fleet can hold the model.
        """
        positive_integer("rounds", rounds)
        with scalars(self.folder, self.version) as note:
            while self.version < rounds:
                record = self._round(last=self.version + 1 == rounds)
                self.records.append(record)
                note(record)
                due = self.version % self.setting.checkpoint_every == 0 or self.version == rounds
                if due and self.folder is not None:
                    self.save()
                yield record

    def save(self) -> Path:
        """Write a checkpoint and the metrics, each whole or not at all, and return the checkpoint's folder.

        Raises
        ------
        ValueError
            If the session has no folder.
        """
        if self.folder is None:
            raise ValueError("this session has no folder to save to; give it one")
        records = [record.to_json() for record in self.records]
        state = {"version": self.version, "clock_s": self.clock_s, "records": records, "identity": self._digest}
        return save(self.folder, self.depths, self.optimizer, state)

    def _round(self, last: bool) -> RoundRecord:
        import torch

        chosen, present = self._schedule()
        plan = RoundPlan.from_schedule(chosen, self.version, present)
        silent = self._rng(_FAILURE).random(self.problem.n_devices) < self.setting.failure
        answers = []
        for task, out_of_memory in zip(plan.tasks, chosen.hits_memory_wall.tolist(), strict=True):
            if silent[task.device] or out_of_memory:
                continue
            batches = self.data.batches(task.device, self.version)
            # Dropout too must not depend on what else this process has computed, nor change what it computes later.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(self._rng(_DROPOUT, task.device).integers(2**63)))
                answers.append(block_gradient(self.depths, task, batches, self.problem.local_steps, loss=self.loss))
        report = apply_round(self.optimizer, self.depths, plan, answers)
        self.version, self.clock_s = report.version, self.clock_s + chosen.latency_s
        losses = [answer.loss for answer in answers if answer.depth in report.applied]
        return RoundRecord(
            version=self.version,
            clock_s=self.clock_s,
            latency_s=chosen.latency_s,
            lower_bound_s=chosen.lower_bound_s,
            loss=float(np.mean(losses)) if losses else float("nan"),
            participants=len(present),
            applied=len(report.applied),
            missing=len(report.missing),
            memory_wall=int(chosen.hits_memory_wall.sum()),
            refused="; ".join(f"device {device} at depth {depth}: {why}" for device, depth, why in report.refused),
            scores=self._scores() if last or self.version % self.setting.evaluate_every == 0 else {},
        )

    def _schedule(self) -> tuple[Schedule, IntArray]:
        """Schedule the devices that take part, with their channels of this round; return their numbers, too."""
        everybody = np.arange(self.problem.n_devices)
        draws = self._rng(_PARTICIPATION).random(self.problem.n_devices)
        present = np.flatnonzero(draws < self.setting.participation)
        if len(present) >= self.problem.n_blocks:
            try:
                return self._schedule_of(present), present
            except InfeasibleError:
                if len(present) == len(everybody):
                    raise
        return self._schedule_of(everybody), everybody

    def _schedule_of(self, present: IntArray) -> Schedule:
        problem, fleet = self.problem, self.problem.fleet
        efficiency = fleet.spectral_efficiency
        if self.channel is not None:
            efficiency = np.asarray(self.channel(self.version, self.clock_s))
            if efficiency.shape != (fleet.n_devices,):
                raise ValueError(
                    f"channel must give an efficiency for each of {fleet.n_devices} devices, got shape "
                    f"{efficiency.shape}"
                )
        now = Fleet(
            fleet.speed[present], fleet.memory_bytes[present], efficiency[present], headroom=fleet.headroom[present]
        )
        round_of = Problem(
            problem.profile, now, problem.bandwidth_hz, problem.local_steps, subcarrier_hz=problem.subcarrier_hz
        )
        return schedule(round_of, self.setting.method, seed=self._rng(_SCHEDULE))

    def _scores(self) -> dict[str, float]:
        import torch

        if self.evaluate is None:
            return {}
        training = self.depths.model.training
        self.depths.model.eval()
        try:
            with torch.no_grad():
                return {name: float(value) for name, value in self.evaluate().items()}
        finally:
            self.depths.model.train(training)

    def _rng(self, *purpose: int) -> np.random.Generator:
        """Make a generator that depends on seed, round and purpose alone, so that resuming needs no state of it."""
        return np.random.default_rng([self.setting.seed, self.version, *purpose])

    def _identity(self) -> str:
        """Digest of what a run that goes on must have in common with the one that was stopped.

        A channel, an evaluation or a loss that is a plain function cannot be compared.
        """
        state = hashlib.sha256(self.problem.digest().encode())
        setting = {name: value for name, value in asdict(self.setting).items() if not name.endswith("_every")}
        channel = repr(self.channel) if is_dataclass(self.channel) else ""
        state.update(repr((sorted(setting.items()), self.data.seed, self.data.batch_size, channel)).encode())
        for shard in self.data.shards:
            state.update(shard.tobytes())
        for name, column in sorted(self.data.columns.items()):
            state.update(name.encode() + _bytes(column))
        trained = {id(parameter) for parameter in self.depths.all_parameters()}
        for name, parameter in self.depths.model.named_parameters():
            if id(parameter) not in trained:
                state.update(name.encode() + _bytes(parameter))
        return state.hexdigest()


def _bytes(tensor: torch.Tensor) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
