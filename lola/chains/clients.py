"""The clients that a model may be split over, and the links between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from lola.chains.radio import Radio
from lola.fleet import Fleet, Named, distinct_names
from lola.solvers.checks import (
    LARGEST,
    SMALLEST,
    FloatArray,
    IntArray,
    expect,
    frozen,
    generator,
    per_block,
    positive_number,
    real_array,
    shown,
    sized,
    vector,
)
from lola.solvers.errors import LolaTypeError, LolaValueError


@dataclass(frozen=True, eq=False, init=False)
class Clients(Named):
    """Speed, memory and links of each client, and what is known of its data and its power.

    Parameters
    ----------
    speed : (K,) array_like
        Compute speed relative to the device of the stage profile, > 0.
    memory_bytes : (K,) array_like
        Bytes the client offers, ≥ 0.
    rate_bps : (K, K) array_like
        Bits a second from the row's client to the column's, ≥ 0; 0 is no link. Links need not be symmetric. What is on
        the diagonal does not matter, and becomes 0.
    name : sequence of str, optional
        Distinct names, one a client.
    rows : (K,) array_like of int, optional
        Rows of training data that each client holds, ≥ 0.
    compute_power_w, transmit_power_w : float or (K,) array_like, optional
        Watts that a client draws, beyond its rest, while it computes and while it sends.

    Raises
    ------
    TypeError, ValueError
        If the arrays are not as described; the message names the first offender.

    Examples
    --------
    >>> import lola
    >>> costs = {"speed": [1.0, 0.5], "memory_bytes": [2e9, 3e9], "name": ["ann", "bob"]}
    >>> clients = lola.Clients(**costs, rate_bps=[[0, 8e6], [4e6, 0]])
    >>> clients.n_clients, float(clients.rate_bps[clients.index("bob"), 0])
    (2, 4000000.0)
    >>> near = lola.Clients.from_positions([[0, 0], [3, 4]], **costs)
    >>> bool(near.rate_bps[0, 1] == near.rate_bps[1, 0] > 1e8)  # five metres of Wi-Fi
    True
    """

    kind: ClassVar[str] = "client"
    speed: FloatArray
    memory_bytes: FloatArray
    rate_bps: FloatArray
    name: tuple[str, ...] | None
    rows: IntArray | None
    compute_power_w: FloatArray | None
    transmit_power_w: FloatArray | None

    def __init__(
        self,
        *,
        speed: ArrayLike,
        memory_bytes: ArrayLike,
        rate_bps: ArrayLike,
        name: Iterable[str] | None = None,
        rows: ArrayLike | None = None,
        compute_power_w: ArrayLike | None = None,
        transmit_power_w: ArrayLike | None = None,
    ) -> None:
        speeds = vector("speed", speed)
        count, like = speeds.shape[0], ("speed", speeds)
        object.__setattr__(self, "speed", frozen(speeds))
        memory = vector("memory_bytes", memory_bytes, like, positive=False)
        object.__setattr__(self, "memory_bytes", frozen(memory))
        object.__setattr__(self, "rate_bps", frozen(_rates(rate_bps, count)))
        object.__setattr__(self, "name", None if name is None else distinct_names(self.kind, name, count))
        object.__setattr__(self, "rows", None if rows is None else frozen(_counts(rows, like)))
        for power, value in (("compute_power_w", compute_power_w), ("transmit_power_w", transmit_power_w)):
            if value is not None:
                value = frozen(vector(power, per_block(power, value, count), like, positive=False))
            object.__setattr__(self, power, value)

    @classmethod
    def from_positions(
        cls,
        position_m: ArrayLike,
        *,
        radio: Radio | None = None,
        transmit_dbm: ArrayLike = 15.0,
        noise_figure_db: ArrayLike = 9.0,
        **clients: Any,
    ) -> Clients:
        """Place clients, and let a model of path loss say how fast their links are.

        Parameters
        ----------
        position_m : (K, 2) or (K, 3) array_like
            Where they are, in metres.
        radio : Radio, optional
            Place, band and carrier; Wi-Fi in a house if left out.
        transmit_dbm, noise_figure_db : float or (K,) array_like
            See `Radio.rate_bps`.
        clients
            `speed`, `memory_bytes` and whatever else `Clients` takes but the rates.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        if radio is not None:
            expect("radio", radio, Radio)
        rates = (radio or Radio()).rate_bps(position_m, transmit_dbm, noise_figure_db)
        return cls(rate_bps=rates, **clients)

    @classmethod
    def from_fleet(cls, fleet: Fleet, position_m: ArrayLike, **links: Any) -> Clients:
        """Place the devices of a fleet: their speeds, names and memory less the headroom, and links by path loss.

        Parameters
        ----------
        fleet : Fleet
            Its channel, to a base station, says nothing of links between devices.
        position_m : (K, 2) or (K, 3) array_like
            Where they are, in metres, such as `spread` draws.
        links
            Whatever else `from_positions` takes.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        expect("fleet", fleet, Fleet)
        own: dict[str, Any] = {"speed": fleet.speed, "memory_bytes": fleet.usable_memory_bytes, "name": fleet.name}
        return cls.from_positions(position_m, **own, **links)

    @property
    def n_clients(self) -> int:
        """Number of clients, K."""
        return int(self.speed.shape[0])

    @property
    def size(self) -> int:
        """Number of clients, K."""
        return self.n_clients

    def __repr__(self) -> str:
        links = int((self.rate_bps > 0).sum())
        return f"<{self.n_clients} clients, {links} of {self.n_clients * (self.n_clients - 1)} links>"


def spread(n_clients: int, side_m: float, seed: int | np.random.Generator | None = None) -> FloatArray:
    """Draw positions in a square, (K, 2) in metres.

    Parameters
    ----------
    n_clients : int
    side_m : float
        Of the square.
    seed : int or numpy.random.Generator, optional
        An integer gives the same positions every time.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    """
    return generator("seed", seed).uniform(0.0, positive_number("spread_m", side_m), size=(n_clients, 2))


def _rates(value: ArrayLike, count: int) -> FloatArray:
    rates = real_array("rate_bps", value, 2)
    if rates.shape != (count, count):
        raise LolaValueError(
            f"rate_bps must have a row and a column for each client, shape ({count}, {count}); got {rates.shape}"
        )
    rates = rates.copy()
    np.fill_diagonal(rates, 0.0)
    inside = ((rates >= SMALLEST) & (rates <= LARGEST)) | (rates == 0)
    if not inside.all():
        row, column = np.argwhere(~inside)[0].tolist()
        raise LolaValueError(
            f"rate_bps must be 0 (no link) or lie between 1e-50 and 1e50 bit/s, got {rates[row, column]} from client "
            f"{row} to client {column}; correct that entry"
        )
    return rates


def _counts(value: ArrayLike, like: tuple[str, FloatArray]) -> IntArray:
    rows = sized("rows", value, like)
    if not ((rows >= 0) & (rows == np.floor(rows)) & (rows < 2**53)).all():
        raise LolaValueError(f"rows must be whole numbers >= 0, got {shown(rows.tolist())}; 0 is a client without data")
    return rows.astype(np.int64)


def with_data(clients: Clients) -> IntArray:
    """Return who holds training data; everybody where that is not known.

    Raises
    ------
    ValueError
        If nobody does.
    """
    if clients.rows is None:
        return np.arange(clients.n_clients)
    holders = np.flatnonzero(clients.rows)
    if holders.size == 0:
        raise LolaValueError(
            "a client with training data must start a chain, got rows = 0 for all; correct rows, leave it out, or ask "
            "for inference"
        )
    return holders


def client_of(clients: Clients, argument: str, client: int | str) -> int:
    """Return a client's index, or say which argument names none."""
    try:
        return clients.index(client)
    except (LolaTypeError, LolaValueError) as error:
        raise type(error)(f"{argument}: {error}") from None
