"""One round to schedule: a profile, a fleet, and the spectrum they share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, TypedDict

import numpy as np

from lola.fleet import Fleet
from lola.plausibility import notes, unsaid, warn_of
from lola.profile import Profile
from lola.solvers.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    expect,
    nonnegative_number,
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


class SegmentArguments(TypedDict):
    """What the allocations of segments take besides, by keyword."""

    extra_latency_s: FloatArray
    extra_memory_bytes: FloatArray
    max_blocks: int | None


def round_latency_s(compute_s: FloatArray, upload_s: FloatArray) -> FloatArray:
    """Latency of rounds after the broadcast, blocks along the last axis: compute, then upload; the slowest counts."""
    return np.asarray((compute_s + upload_s).max(axis=-1))


def enough_devices(n_devices: int, n_blocks: int, max_blocks: int | None) -> None:
    """Refuse fewer devices than blocks where each takes one; longer segments may do with fewer."""
    if max_blocks == 1 and n_devices < n_blocks:
        raise LolaValueError(
            f"at least as many devices as blocks are needed, got {n_devices} devices for {n_blocks} blocks; "
            "add devices, join blocks, or let a device take several (max_blocks)"
        )


def segments(device_of_block: IntArray) -> list[range]:
    """Return the depths that each device takes, consecutive ones together, such as ``[range(1, 4), range(4, 5)]``."""
    cuts = np.flatnonzero(np.diff(device_of_block)) + 1
    return [range(i + 1, j + 1) for i, j in pairwise([0, *cuts.tolist(), len(device_of_block)])]


def span(depths: range) -> str:
    """Write one number, or the first and the last of several."""
    return str(depths[0]) if len(depths) == 1 else f"{depths[0]}–{depths[-1]}"


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
        The K devices; K ≥ L where each takes one block.
    bandwidth_hz : float
        B: the uplink spectrum in hertz.
    local_steps : int
        M: local iterations in a round.
    pinned : iterable of (device, depth), optional
        Pairs that must be chosen: the device (index or name) takes the depth (1…L, from the output), and no other
        beyond what `max_blocks` lets it take.
    forbidden : iterable of (device, depth), optional
        Pairs that must not be chosen.
    subcarrier_hz : float, optional
        Bandwidths are whole multiples of this (``"jbba"`` alone can heed it); any real number without it.
    broadcast_s : float
        What the downlink adds to every round: the server sends the update to all devices at once, before they begin.
    max_blocks : int, optional
        The most consecutive blocks that one device may take, a segment; None is no limit. 1, as in the paper, if left
        out. Others than 1 need a profile that knows what one more block costs, and methods that can heed it
        (``"jbba"``).

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, the pairs contradict each other, or there are too few devices.

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
    max_blocks: int | None

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
        max_blocks: int | None = 1,
    ) -> None:
        expect("profile", profile, Profile)
        expect("fleet", fleet, Fleet)
        if isinstance(max_blocks, str):
            raise LolaTypeError(f"max_blocks must be an integer, or None for no limit; got {shown(max_blocks)}")
        longest = None if max_blocks is None else positive_integer("max_blocks", max_blocks)
        enough_devices(fleet.n_devices, profile.n_blocks, longest)
        if longest != 1 and (profile.extra_latency_s is None or profile.extra_memory_bytes is None):
            raise LolaValueError(
                "several blocks a device (max_blocks) need a profile that knows what one more block costs, "
                "extra_latency_s and extra_memory_bytes; got one that does not. Profile the model anew, add them by "
                "lola.profiling.measure_extras, or give both (0 where it costs nothing)"
            )
        object.__setattr__(self, "max_blocks", longest)
        object.__setattr__(self, "profile", profile)
        object.__setattr__(self, "fleet", fleet)
        object.__setattr__(self, "bandwidth_hz", positive_number("bandwidth_hz", bandwidth_hz))
        object.__setattr__(self, "local_steps", positive_integer("local_steps", local_steps))
        width = None if subcarrier_hz is None else positive_number("subcarrier_hz", subcarrier_hz)
        object.__setattr__(self, "subcarrier_hz", width)
        object.__setattr__(self, "broadcast_s", nonnegative_number("broadcast_s", broadcast_s))
        object.__setattr__(self, "pinned", self._pairs("pinned", pinned))
        object.__setattr__(self, "forbidden", self._pairs("forbidden", forbidden))
        for axis, what in enumerate(("device", "depth")):
            used = [pair[axis] for pair in self.pinned]
            twice = next((x for x in used if used.count(x) > 1), None)
            if twice is not None and (what == "depth" or longest == 1):
                rule = "a device takes one depth and a depth one device" if longest == 1 else "a depth takes one device"
                raise LolaValueError(f"pinned names {what} {twice} twice; {rule}")
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

    @property
    def longest(self) -> int:
        """The most blocks that one device may take: `max_blocks`, and at most all."""
        return self.n_blocks if self.max_blocks is None else min(self.max_blocks, self.n_blocks)

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
            if self.max_blocks == 1:
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

    def segment_arguments(self) -> SegmentArguments:
        """Return what `lola.solvers.segment_allocation` takes besides.

        Where one block a device is asked for, what another would cost does not matter, and 0 stands for what is not
        known.
        """
        extra_s, extra_bytes = self.profile.extra_latency_s, self.profile.extra_memory_bytes
        nothing = np.zeros(self.n_blocks)
        return {
            "extra_latency_s": nothing if extra_s is None else extra_s,
            "extra_memory_bytes": nothing if extra_bytes is None else extra_bytes,
            "max_blocks": self.max_blocks,
        }

    def compute_s(self, device_of_block: IntArray) -> FloatArray:
        """Seconds each block's device computes, (L,): M·d(l)/f_k, and with a segment the same for all its blocks."""
        local = self._of_segments(device_of_block, self.profile.latency_s, self.profile.extra_latency_s)
        return np.asarray(self.local_steps * local / self.fleet.speed[device_of_block])

    def memory_bytes_of(self, device_of_block: IntArray) -> FloatArray:
        """Bytes that each block's device needs, (L,), with a segment the same for all its blocks."""
        return self._of_segments(device_of_block, self.profile.memory_bytes, self.profile.extra_memory_bytes)

    def _of_segments(self, device_of_block: IntArray, alone: FloatArray, extra: FloatArray | None) -> FloatArray:
        """Of each block's segment: what its deepest depth costs alone, and what the others add."""
        if self.max_blocks == 1 or extra is None:
            return alone
        depths = segments(device_of_block)
        whole = [alone[s[-1] - 1] + extra[s.start - 1 : s[-1] - 1].sum() for s in depths]
        return np.repeat(whole, [len(s) for s in depths])

    def upload_s(self, device_of_block: IntArray, bandwidth_hz: FloatArray) -> FloatArray:
        """Seconds each block's device uploads it, S_l/(B_l·r_k), (L,); the blocks of a segment go side by side."""
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
        if self.max_blocks != 1:
            longer = {name: np.asarray(value).tolist() for name, value in self.segment_arguments().items()}
            state.update(json.dumps(longer).encode())
        return state.hexdigest()


def of_a_round(problem: Problem, fleet: Fleet, **changes: Any) -> Problem:
    """Return a problem for the fleet of one of its rounds, without a word: it was said when the problem was built."""
    with unsaid():
        return replace(problem, fleet=fleet, **changes)
