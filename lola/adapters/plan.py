"""What travels in a round of device-edge cooperative fine-tuning, whatever carries it.

Algorithm 1 of the LoLa-DEFT paper. The server makes a `RoundPlan` from a schedule and sends each device its
`BlockTask`; the device answers with a `BlockGradient`; the server steps its optimizer with `apply_round`
(`lola.adapters.apply`). What travels, and how, is the caller's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lola.solution import Schedule
from lola.solvers.checks import expect

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BlockTask:
    """What one device is asked to do in a round.

    Attributes
    ----------
    version : int
        Version of the model that the gradient must be taken at.
    device : int
    depth : int
        1 is the block nearest the output.
    bandwidth_hz : float
        The device's share of the uplink.
    """

    version: int
    device: int
    depth: int
    bandwidth_hz: float


@dataclass(frozen=True)
class RoundPlan:
    """Who computes which depth, with how much bandwidth, at which version of the model.

    Attributes
    ----------
    version : int
        Goes up by one with every applied round.
    tasks : tuple of BlockTask
        In depth order.
    latency_s : float
        What the schedule says the round takes.
    """

    version: int
    tasks: tuple[BlockTask, ...]
    latency_s: float

    @classmethod
    def from_schedule(cls, schedule: Schedule, version: int, devices: ArrayLike | None = None) -> RoundPlan:
        """Make the plan that a schedule amounts to.

        Parameters
        ----------
        schedule : lola.Schedule
        version : int
            Version of the model that the round starts from.
        devices : (K,) int array_like, optional
            Numbers of the scheduled fleet's devices, where that fleet is only a part of yours.
        """
        expect("schedule", schedule, Schedule)
        chosen = schedule.device_of_block
        numbers = (chosen if devices is None else np.asarray(devices)[chosen]).tolist()
        pairs = zip(numbers, schedule.bandwidth_hz.tolist(), strict=True)
        tasks = tuple(BlockTask(version, device, i + 1, share) for i, (device, share) in enumerate(pairs))
        return cls(version, tasks, schedule.latency_s)


@dataclass(frozen=True, eq=False)
class BlockGradient:
    """What one device answers.

    Attributes
    ----------
    version, device, depth : int
        Of the task.
    gradients : dict of str to torch.Tensor
        Mean over the local batches, by the parameter's name in the model; on the CPU.
    loss : float
        Mean over the local batches.
    """

    version: int
    device: int
    depth: int
    gradients: dict[str, torch.Tensor]
    loss: float
