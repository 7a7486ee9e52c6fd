"""One round to schedule: a profile, a fleet, and the spectrum they share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypedDict

import numpy as np

from lola.fleet import Fleet
from lola.plausibility import notes, unsaid, warn_of
from lola.profile import Profile
from lola.solvers.checks import (
    BoolArray,
    FloatArray,
    duration_s,
    expect,
    positive_integer,
    positive_number,
    shown,
)
from lola.solvers.errors import LolaTypeError, LolaValueError

Pair = tuple[int | str, int]


class SolverArguments(TypedDict):
    """What the allocations of `lola.solvers` take, by keyword."""

    latency_s: FloatArray
    depth_memory_bytes: FloatArray
    upload_bits: FloatArray
    speed: FloatArray
    memory_bytes: FloatArray
    spectral_efficiency: FloatArray
    bandwidth_hz: float
    local_steps: int
    allowed: BoolArray | None


def round_latency_s(compute_s: FloatArray, upload_s: FloatArray) -> FloatArray:
    """Latency of rounds after the broadcast, blocks along the last axis: compute, then upload; the slowest counts."""
    return np.asarray((compute_s + upload_s).max(axis=-1))


def enough_devices(n_devices: int, n_blocks: int) -> None:
    """Refuse fewer devices than blocks."""
    if n_devices < n_blocks:
        raise LolaValueError(
            f"at least as many devices as blocks are needed, got {n_devices} devices for {n_blocks} blocks; "
            "add devices or join blocks"
        )


def bound_after_broadcast(broadcast_s: float, bound_s: float) -> float:
    """Bound on a round from one on what follows the broadcast; taking that off again gives no more than was proven."""
    total = broadcast_s + bound_s
    while total - broadcast_s > bound_s:  # the sum was rounded up
        total = float(np.nextafter(total, 0.0))
    return total


@dataclass(frozen=True, eq=False, init=False)
class Problem:
    """A round to schedule.

    Parameters
    ----------
    profile : Profile
        What each of the L depths costs.
    fleet : Fleet
        The K ≥ L devices.
    bandwidth_hz : float
        B: the uplink spectrum in hertz.
    local_steps : int
        M: local iterations in a round.
    pinned : iterable of (device, depth), optional
        Pairs that must be chosen: the device (index or name) takes the depth (1…L, from the output) and no other.
    forbidden : iterable of (device, depth), optional
        Pairs that must not be chosen.
    subcarrier_hz : float, optional
        Bandwidths are whole multiples of this (``"jbba"`` alone can heed it); any real number without it.
    broadcast_s : float
        What the downlink adds to every round: the server sends the update to all devices at once, before they begin.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the pairs contradict each other.

    Warns
    -----
    PlausibilityWarning
        Once for each of the `notes`: numbers that no radio, phone or model has are probably in another unit.

    Examples
    --------
    >>> import lola
    >>> profile = lola.Profile(memory_bytes=[1e9, 2e9], latency_s=[0.8, 1.2], upload_bits=8e5)
    >>> problem = lola.Problem(profile, lola.Fleet.sample(5, seed=1), bandwidth_hz=20e6, pinned=[(3, 2)])
    >>> problem.n_devices, problem.n_blocks, int(lola.schedule(problem).device_of_block[1])
    (5, 2, 3)
    """

    profile: Profile
    fleet: Fleet
    bandwidth_hz: float
    local_steps: int
    pinned: tuple[tuple[int, int], ...]
    forbidden: tuple[tuple[int, int], ...]
    subcarrier_hz: float | None
    broadcast_s: float

    def __init__(
        self,
        profile: Profile,
        fleet: Fleet,
        bandwidth_hz: float,
        local_steps: int = 1,
        pinned: Iterable[Pair] = (),
        forbidden: Iterable[Pair] = (),
        subcarrier_hz: float | None = None,
        broadcast_s: float = 0.0,
    ) -> None:
        expect("profile", profile, Profile)
        expect("fleet", fleet, Fleet)
        enough_devices(fleet.n_devices, profile.n_blocks)
        object.__setattr__(self, "profile", profile)
        object.__setattr__(self, "fleet", fleet)
        object.__setattr__(self, "bandwidth_hz", positive_number("bandwidth_hz", bandwidth_hz))
        object.__setattr__(self, "local_steps", positive_integer("local_steps", local_steps))
        width = None if subcarrier_hz is None else positive_number("subcarrier_hz", subcarrier_hz)
        object.__setattr__(self, "subcarrier_hz", width)
        object.__setattr__(self, "broadcast_s", duration_s("broadcast_s", broadcast_s))
        object.__setattr__(self, "pinned", self._pairs("pinned", pinned))
        object.__setattr__(self, "forbidden", self._pairs("forbidden", forbidden))
        for axis, what in enumerate(("device", "depth")):
            used = [pair[axis] for pair in self.pinned]
            twice = next((x for x in used if used.count(x) > 1), None)
            if twice is not None:
                raise LolaValueError(
                    f"pinned names {what} {twice} twice; a device takes one depth and a depth one device"
                )
        both = set(self.pinned) & set(self.forbidden)
        if both:
            device, depth = min(both)
            raise LolaValueError(f"device {device} at depth {depth} is both pinned and forbidden; drop one of the two")
        warn_of(self)

    def _pairs(self, name: str, pairs: Iterable[Pair]) -> tuple[tuple[int, int], ...]:
        indexed = set()
        for pair in pairs:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise LolaTypeError(f"{name} must hold (device, depth) pairs, got {shown(pair)}")
            depth = positive_integer(f"depth of {shown(pair)} in {name}", pair[1])
            if depth > self.n_blocks:
                raise LolaValueError(f"{name} names depth {depth}, but depths run from 1 to {self.n_blocks}")
            indexed.add((self.fleet.index(pair[0]), depth))
        return tuple(sorted(indexed))

    @property
    def n_blocks(self) -> int:
        """Number of blocks, L."""
        return self.profile.n_blocks

    @property
    def n_devices(self) -> int:
        """Number of devices, K."""
        return self.fleet.n_devices

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What of the numbers no radio, phone or model has, and which unit they may be in; a sentence each."""
        return notes(self)

    @cached_property
    def allowed(self) -> BoolArray | None:
        """Pairs that pins and prohibitions leave, (K, L); None where there are none of either."""
        if not self.pinned and not self.forbidden:
            return None
        mask = np.ones((self.n_devices, self.n_blocks), dtype=np.bool_)
        for device, depth in self.pinned:
            mask[device, :] = False
            mask[:, depth - 1] = False
        for device, depth in self.pinned:
            mask[device, depth - 1] = True
        for device, depth in self.forbidden:
            mask[device, depth - 1] = False
        mask.flags.writeable = False
        return mask

    def solver_arguments(self) -> SolverArguments:
        """Return the arguments that `lola.solvers.block_allocation` and `joint_allocation` share."""
        return {
            "latency_s": self.profile.latency_s,
            "depth_memory_bytes": self.profile.memory_bytes,
            "upload_bits": self.profile.upload_bits,
            "speed": self.fleet.speed,
            "memory_bytes": self.fleet.usable_memory_bytes,
            "spectral_efficiency": self.fleet.spectral_efficiency,
            "bandwidth_hz": self.bandwidth_hz,
            "local_steps": self.local_steps,
            "allowed": self.allowed,
        }

    def compute_s(self, device_of_block: np.ndarray) -> FloatArray:
        """Seconds each block's device computes, J_kl = M·d(l)/f_k, (L,)."""
        return np.asarray(self.local_steps * self.profile.latency_s / self.fleet.speed[device_of_block])

    def upload_s(self, device_of_block: np.ndarray, bandwidth_hz: FloatArray) -> FloatArray:
        """Seconds each block's device uploads, S_l/(B_k·r_k), (L,)."""
        return np.asarray(self.profile.upload_bits / bandwidth_hz / self.fleet.spectral_efficiency[device_of_block])

    def digest(self) -> str:
        """SHA-256 of everything that a schedule depends on, and of names and provenance, in hexadecimal."""
        state = hashlib.sha256()
        arguments = self.solver_arguments()
        for name, value in sorted(arguments.items()):
            state.update(name.encode())
            state.update(
                np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
            )
        provenance = None if self.profile.provenance is None else self.profile.provenance.to_dict()
        rest = [self.pinned, self.forbidden, self.fleet.name, provenance, self.subcarrier_hz]
        # Where there is none, as before there could be one: digests in older files still hold.
        state.update(json.dumps([*rest, self.broadcast_s] if self.broadcast_s else rest).encode())
        return state.hexdigest()


def of_a_round(problem: Problem, fleet: Fleet, **changes: Any) -> Problem:
    """Return a problem for the fleet of one of its rounds, without a word: it was said when the problem was built."""
    with unsaid():
        return replace(problem, fleet=fleet, **changes)
