"""Cooperative fine-tuning over rounds, whoever the devices are."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lola.adapters.apply import apply_round
from lola.adapters.bound import NormBound
from lola.adapters.devices import Devices, LiveDevices, SimulatedDevices
from lola.adapters.identity import run_identity, without_fleet
from lola.adapters.messages import BlockGradient
from lola.adapters.plan import RoundPlan
from lola.adapters.quarantine import Quarantine
from lola.adapters.record import RoundRecord
from lola.adapters.rounds import Evaluate, Session
from lola.adapters.setting import Purpose, Setting
from lola.adapters.shards import ShardedData
from lola.air.uplink import PlannedUplink, expect_uplink, received
from lola.channel import Channel
from lola.files.formats import StrPath
from lola.fleet import Fleet
from lola.models.depths import Loss, loss_of_output
from lola.outages import wait_for_devices
from lola.problem import Problem, of_a_round
from lola.scheduling import schedule
from lola.solution import Schedule
from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.errors import InfeasibleError, LolaValueError

if TYPE_CHECKING:
    import torch

    from lola.models import Depths

_log = logging.getLogger(__name__)


class CooperativeSession(Session[RoundRecord]):
    """Rounds of cooperative fine-tuning: schedule, ask the devices, step the server's optimizer, tick the clock.

    Parameters
    ----------
    depths : lola.models.Depths
        The model with its adapters, from `lola.models.attach_lora`.
    optimizer : torch.optim.Optimizer
        The server's, over ``depths.all_parameters()``.
    problem : Problem
        Profile, fleet, bandwidth, local steps and how many blocks a device may take. Its channel holds in every round
        unless `channel` gives others.
    data : ShardedData or None
        One shard a device of the fleet; None with `devices` of your own, who have theirs.
    setting : Setting, optional
    channel : callable, optional
        ``channel(version, clock_s)`` gives the spectral efficiency of every device in a round, (K,), 0 for one in
        outage: it is not chosen, and the round waits while too few others can serve.
    evaluate : callable, optional
        ``evaluate()`` gives scores by name; called without gradients and in eval mode.
    loss : callable, optional
        See `block_gradient`.
    devices : Devices, optional
        Who answers each round's plan. Left out, they are `SimulatedDevices` with `data`, `loss` and the setting's
        failures; given, they have data, loss and failures of their own. `LiveDevices` are scheduled as they last said
        they are, and the problem's fleet is not looked at.
    uplink : lola.air.PlannedUplink, optional
        What becomes of each device's gradients on their way, in one transmission of its own. Rounds are scheduled, and
        the clock counts, with the uploads as it sends them, at each device's share of the spectrum; what it says of its
        own latency is not looked at. Left out, they arrive as they are. Live devices have real ones.
    folder : path-like, optional
        Where checkpoints, ``metrics.csv`` and, with TensorBoard installed, its scalars go. A session that finds
        checkpoints there goes on from the latest that is intact, with the optimizer's settings kept in it, and ends
        with the same weights, to the last bit on a CPU with as many threads, as if it had never stopped. It warns of
        damaged ones, and sets them aside. One session at a time may work in a folder.

    Raises
    ------
    TypeError, ValueError, FormatError
        If an argument, or a checkpoint found in the folder, does not fit, or none there is intact.
    OSError
        If the folder cannot be used; BlockingIOError if another session is at work there.
    """

    _told_by = "setting, fleet, profile, channel, uplink, data or frozen weights"

    def __init__(
        self,
        depths: Depths,
        optimizer: torch.optim.Optimizer,
        problem: Problem,
        data: ShardedData | None,
        *,
        setting: Setting | None = None,
        channel: Channel | None = None,
        evaluate: Evaluate | None = None,
        loss: Loss = loss_of_output,
        devices: Devices | None = None,
        uplink: PlannedUplink | None = None,
        folder: StrPath | None = None,
    ) -> None:
        if len(depths) != problem.n_blocks:
            raise LolaValueError(
                f"the profile must have as many blocks as the model, {len(depths)}; got {problem.n_blocks}"
            )
        if problem.pinned or problem.forbidden:
            raise LolaValueError(
                "pinned and forbidden pairs are of one round; a session schedules many: leave them out"
            )
        expect_uplink(uplink, planned=True)
        self.depths, self.problem, self.data = depths, problem, data
        self.channel, self.uplink = channel, uplink
        self.setting = Setting() if setting is None else setting
        super().__init__(depths, optimizer, self.setting, evaluate, folder)
        if devices is None:
            if data is None:
                raise LolaValueError("simulated devices need data, got None; give a shard for each, or devices")
            devices = SimulatedDevices(depths, problem, data, self.setting, loss=loss)
        elif data is not None or loss is not loss_of_output or self.setting.failure:
            raise LolaValueError(
                "devices have data, loss and failures of their own, got some beside them; give data=None, no loss, and "
                "a setting without failure"
            )
        if channel is not None and isinstance(devices, LiveDevices):
            raise LolaValueError("live devices say what their channel is, got another beside them; give channel=None")
        if uplink is not None and isinstance(devices, LiveDevices):
            raise LolaValueError("live devices send over a real uplink, got another beside them; give uplink=None")
        self.devices = devices
        self.schedule: Schedule | None = None  # of the round that is on, or of the last one
        anybody = isinstance(self.devices, LiveDevices)
        state = self._go_on(
            lambda: run_identity(
                without_fleet(problem) if anybody else problem,
                self.setting,
                depths,
                self.devices,
                channel,
                data,
                uplink,
            ),
            RoundRecord,
        )
        norms = {int(depth): values for depth, values in state.get("norms", {}).items()}
        refusals = {int(device): versions for device, versions in state.get("refusals", {}).items()}
        above, after = self.setting.refuse_above, self.setting.quarantine_after
        self._bound = None if above is None else NormBound(above, norms)
        self._quarantine = None if after is None else Quarantine(after, self.setting.quarantine_rounds, refusals)

    def __repr__(self) -> str:
        problem, where = self.problem, "" if self.folder is None else f", in {str(self.folder)!r}"
        return (
            f"<CooperativeSession of {problem.n_devices} devices and {problem.n_blocks} blocks, {self.setting.method}: "
            f"{self.version} rounds, {self.clock_s:.6g} s simulated{where}>"
        )

    def _state(self) -> dict[str, Any]:
        norms = {"norms": {} if self._bound is None else self._bound.recent}
        return norms if self._quarantine is None else norms | {"refusals": self._quarantine.refusals}

    def _round(self) -> RoundRecord:
        chosen, present, waited_s = self._schedule()
        self.schedule = chosen
        plan = RoundPlan.from_schedule(chosen, self.version, present)
        answers = self.devices.answers(plan)
        receive = None if self.uplink is None else partial(self._receive, self.uplink)
        report = apply_round(
            self.optimizer,
            self.depths,
            plan,
            answers,
            receive=receive,
            bound=self._bound,
            quarantine=self._quarantine,
        )
        return RoundRecord(
            version=report.version,
            clock_s=self.clock_s + waited_s + chosen.latency_s,
            latency_s=waited_s + chosen.latency_s,
            lower_bound_s=waited_s + chosen.lower_bound_s,
            loss=report.loss,
            participants=len(present),
            applied=len(report.applied),
            missing=len(report.missing),
            memory_wall=int(chosen.hits_memory_wall.sum()),
            refused="; ".join(f"device {device} at depth {depth}: {why}" for device, depth, why in report.refused),
            device_of_block=plan.device_of_block,
            devices_used=tuple(sorted({plan.device_of_block[depth - 1] for depth in report.applied})),
        )

    def _receive(self, uplink: PlannedUplink, answer: BlockGradient) -> BlockGradient:
        """Give an answer as it arrives; that depends on the device, and not on who else has answered before."""
        rng = self.setting.rng(self.version, Purpose.UPLINK, answer.device)
        return replace(answer, gradients=received(uplink, [answer.gradients], [1.0], rng).tensors)

    def _schedule(self) -> tuple[Schedule, IntArray, float]:
        """Schedule the devices that take part, with their channels of this round.

        Return their numbers too, and how long the round waited for enough devices to come out of outage.
        """
        if isinstance(self.devices, LiveDevices):
            return (*self._schedule_live(self.devices), 0.0)
        fleet = self.problem.fleet
        efficiency, waited_s = wait_for_devices(
            self.problem, self._channel_of, self.version, self.clock_s, fleet.usable_memory_bytes
        )
        everybody = np.flatnonzero(efficiency)
        return (*self._choose(everybody, lambda some: fleet.with_channel(efficiency, some)), waited_s)

    def _schedule_live(self, devices: LiveDevices) -> tuple[Schedule, IntArray]:
        """Schedule those who are there, once they can hold the model."""
        after = -1
        told: list[int] | None = None
        while True:
            roster = devices.roster(self.problem, after)
            if len(roster.numbers) >= self._least_devices:
                try:
                    return self._choose(roster.numbers, roster.fleet_of)
                except InfeasibleError as error:
                    if told != roster.numbers.tolist():  # devices report again and again
                        told = roster.numbers.tolist()
                        _log.warning("round %d waits for other devices: %s", self.version, error)
            after = roster.serial

    def _choose(self, everybody: IntArray, fleet_of: Callable[[IntArray], Fleet]) -> tuple[Schedule, IntArray]:
        """Schedule those of the devices numbered who take part, or everybody where they cannot hold the model."""
        present = self.setting.taking_part(self.version, int(everybody[-1]) + 1)
        free = everybody if self._quarantine is None else self._quarantine.free(everybody, self.version)
        for some in (free[present[free]], free):
            if self._least_devices <= len(some) < len(everybody):
                try:
                    return self._schedule_of(fleet_of(some)), some
                except InfeasibleError:
                    continue
        if len(free) < len(everybody):
            held = ", ".join(map(str, sorted({*everybody.tolist()} - {*free.tolist()})))
            why = "are in quarantine and called in all the same, for the others cannot hold the model"
            _log.warning("version %d: devices %s %s", self.version, held, why)
        return self._schedule_of(fleet_of(everybody)), everybody

    @property
    def _least_devices(self) -> int:
        """Fewest devices that can take all blocks, if memory allows."""
        return math.ceil(self.problem.n_blocks / self.problem.longest)

    def _channel_of(self, version: int, clock_s: float) -> FloatArray:
        fleet = self.problem.fleet
        if self.channel is None:
            return fleet.spectral_efficiency
        efficiency = np.asarray(self.channel(version, clock_s))
        if efficiency.shape != (fleet.n_devices,):
            raise LolaValueError(
                f"channel must give an efficiency for each of {fleet.n_devices} devices, got shape {efficiency.shape}"
            )
        return efficiency

    def _schedule_of(self, fleet: Fleet) -> Schedule:
        round_of = of_a_round(self.problem, fleet)
        if self.uplink is not None:
            round_of = self.uplink.as_sent(round_of)
        return schedule(round_of, self.setting.method, seed=self.setting.rng(self.version, Purpose.SCHEDULE))
