"""The devices that take part in a round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from lola.channel import PATH_LOSS, TRANSMIT_SNR_DB, rayleigh_efficiency
from lola.channel import spectral_efficiency as efficiency_of
from lola.solvers.checks import (
    FloatArray,
    IntArray,
    frozen,
    generator,
    per_block,
    positive_integer,
    real_array,
    shown,
    sized,
    vector,
)
from lola.solvers.errors import LolaTypeError, LolaValueError


class Named:
    """Members of a group, by index or by name where they have names."""

    kind: ClassVar[str]
    name: tuple[str, ...] | None

    @property
    def size(self) -> int:
        """How many there are, K."""
        raise NotImplementedError

    def label(self, device: int) -> str:
        """Name of a member, or its number where the group has no names."""
        at = self.index(device)
        return f"{self.kind} {at}" if self.name is None else self.name[at]

    def names_of(self, devices: IntArray) -> tuple[str, ...] | None:
        """Names of some members, by their indices; None where the group has no names."""
        return None if self.name is None else tuple(self.name[k] for k in devices.tolist())

    def index(self, device: int | str) -> int:
        """Index of a member given by name or index."""
        if isinstance(device, str):
            if self.name is None or device not in self.name:
                raise LolaValueError(
                    f"no {self.kind} is named {shown(device)}; use a name of the {type(self).__name__.lower()}, "
                    "or an index"
                )
            return self.name.index(device)
        if isinstance(device, bool) or not isinstance(device, int | np.integer):
            raise LolaTypeError(f"a {self.kind} is an index or a name, got {type(device).__name__}: {shown(device)}")
        if not 0 <= device < self.size:
            raise LolaValueError(f"{self.kind} must lie in 0…{self.size - 1}, got {shown(int(device))}")
        return int(device)


@dataclass(frozen=True, eq=False, init=False)
class Fleet(Named):
    """Speed, memory and channel of each device.

    Parameters
    ----------
    speed : (K,) array_like
        f_k: compute speed relative to the reference device, > 0.
    memory_bytes : (K,) array_like
        Bytes the device offers, ≥ 0.
    spectral_efficiency : (K,) array_like
        r_k in bit/s/Hz, > 0.
    snr_db : (K,) array_like
        In its place: the received signal-to-noise ratio in dB, which goes through Shannon's formula.
    name : sequence of str, optional
        Distinct names, one a device.
    headroom : float or (K,) array_like, optional
        Fraction of each device's memory that is kept free, in [0, 1).

    Raises
    ------
    TypeError, ValueError
        If the vectors are not as described; the message names the first offender.

    Examples
    --------
    >>> import lola
    >>> devices = {"speed": [0.5, 1.0], "memory_bytes": [3e9, 2e9], "spectral_efficiency": [4.0, 2.0]}
    >>> fleet = lola.Fleet(**devices, name=["ann", "bob"], headroom=0.1)
    >>> fleet.index("bob"), fleet.usable_memory_bytes.tolist()
    (1, [2700000000.0, 1800000000.0])
    >>> lola.Fleet.sample(20, seed=1)  # as in the paper
    <Fleet of 20 devices>
    """

    kind: ClassVar[str] = "device"
    speed: FloatArray
    memory_bytes: FloatArray
    spectral_efficiency: FloatArray
    name: tuple[str, ...] | None
    headroom: FloatArray

    def __init__(
        self,
        *,
        speed: ArrayLike,
        memory_bytes: ArrayLike,
        spectral_efficiency: ArrayLike | None = None,
        snr_db: ArrayLike | None = None,
        name: Iterable[str] | None = None,
        headroom: ArrayLike = 0.0,
    ) -> None:
        if spectral_efficiency is None:
            if snr_db is None:
                raise LolaTypeError("spectral_efficiency (bit/s/Hz) or snr_db (received, in dB) is needed; got neither")
            spectral_efficiency = efficiency_of(snr_db)
        elif snr_db is not None:
            raise LolaTypeError("one of spectral_efficiency and snr_db was wanted, got both; leave one out")
        speeds = vector("speed", speed)
        n_devices = speeds.shape[0]
        memory = vector("memory_bytes", memory_bytes, ("speed", speeds), positive=False)
        efficiency = vector("spectral_efficiency", spectral_efficiency, ("speed", speeds))
        free = real_array("headroom", per_block("headroom", headroom, n_devices), 1)
        if free.shape != (n_devices,) or not ((free >= 0) & (free < 1)).all():
            raise LolaValueError(
                f"headroom must be a fraction in [0, 1), one or one per device ({n_devices}); got {shown(headroom)}"
            )
        object.__setattr__(self, "speed", frozen(speeds))
        object.__setattr__(self, "memory_bytes", frozen(memory))
        object.__setattr__(self, "spectral_efficiency", frozen(efficiency))
        object.__setattr__(self, "name", None if name is None else distinct_names(self.kind, name, n_devices))
        object.__setattr__(self, "headroom", frozen(free))

    @classmethod
    def sample(
        cls,
        n_devices: int = 20,
        *,
        seed: int | np.random.Generator | None = None,
        speed: tuple[float, float] = (0.5, 1.0),
        memory_bytes: tuple[float, float] = (1e9, 6e9),
        transmit_snr_db: float = TRANSMIT_SNR_DB,
        path_loss: float = PATH_LOSS,
    ) -> Fleet:
        """Draw a fleet as in the LoLa-DEFT paper, section VI-A.

        Parameters
        ----------
        n_devices : int
        seed : int or numpy.random.Generator, optional
            An integer gives the same fleet every time.
        speed, memory_bytes : (low, high)
            Bounds of uniform distributions.
        transmit_snr_db, path_loss : float
            Of the Rayleigh channel; see `lola.channel.rayleigh_efficiency`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        count = positive_integer("n_devices", n_devices)
        rng = generator("seed", seed)
        return cls(
            speed=rng.uniform(*_bounds("speed", speed), size=count),
            memory_bytes=np.floor(rng.uniform(*_bounds("memory_bytes", memory_bytes), size=count)),
            spectral_efficiency=rayleigh_efficiency(
                count, transmit_snr_db=transmit_snr_db, path_loss=path_loss, seed=rng
            ),
        )

    def with_channel(self, spectral_efficiency: ArrayLike, devices: ArrayLike | None = None) -> Fleet:
        """Return the same devices, names and headroom under another channel.

        Parameters
        ----------
        spectral_efficiency : (K,) array_like
            r_k in bit/s/Hz of every device of this fleet.
        devices : sequence of int, optional
            Indices of those that stay, in the order wanted; everybody if left out.

        Raises
        ------
        TypeError, ValueError
            If the efficiencies are not as of a fleet, or `devices` are not distinct indices.
        """
        efficiency = sized("spectral_efficiency", spectral_efficiency, ("speed", self.speed))
        if devices is None:
            return replace(self, spectral_efficiency=efficiency)
        chosen = np.asarray(devices)
        inside = chosen.ndim == 1 and chosen.dtype.kind in "iu" and ((chosen >= 0) & (chosen < self.n_devices)).all()
        if not inside or np.unique(chosen).size != chosen.size:
            raise LolaValueError(
                f"devices must be distinct indices from 0 to {self.n_devices - 1}, got {shown(devices)}; "
                "leave it out to keep everybody"
            )
        return Fleet(
            speed=self.speed[chosen],
            memory_bytes=self.memory_bytes[chosen],
            spectral_efficiency=efficiency[chosen],
            name=self.names_of(chosen),
            headroom=self.headroom[chosen],
        )

    @property
    def n_devices(self) -> int:
        """Number of devices, K."""
        return int(self.speed.shape[0])

    @property
    def size(self) -> int:
        """Number of devices, K."""
        return self.n_devices

    @property
    def usable_memory_bytes(self) -> FloatArray:
        """Bytes left to a block once the headroom is kept free, (K,)."""
        return self.memory_bytes * (1.0 - self.headroom)

    def __repr__(self) -> str:
        return f"<Fleet of {self.n_devices} devices>"


def _bounds(name: str, value: tuple[float, float]) -> tuple[float, float]:
    bounds = real_array(name, value, 1)
    if bounds.shape != (2,) or not 0 <= bounds[0] <= bounds[1] < np.inf:
        raise LolaValueError(
            f"{name} must be (low, high), two finite numbers with 0 <= low <= high, got {shown(value)}; the lower one "
            "comes first"
        )
    return float(bounds[0]), float(bounds[1])


def distinct_names(kind: str, names: Iterable[str], count: int) -> tuple[str, ...]:
    """Return as many distinct names as there are members, or say which cannot be one."""
    if isinstance(names, str):
        raise LolaTypeError(f"name must be a sequence of names, got one text: {shown(names)}")
    listed = tuple(names)
    if len(listed) != count:
        raise LolaValueError(f"name must have {count} entries, got {len(listed)}")
    seen: set[str] = set()
    for one in listed:
        if not isinstance(one, str) or not one or one != one.strip() or not one.isprintable():
            raise LolaValueError(f"a {kind}'s name must be printable text without space around it, got {shown(one)}")
        if one in seen:
            raise LolaValueError(f"{kind} names must differ, got {shown(one)} twice; rename one of them")
        seen.add(one)
    return listed
