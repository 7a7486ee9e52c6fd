"""The latency of many rounds under each method; nothing is trained."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, TextIO

import numpy as np
from numpy.typing import ArrayLike

from lola.channel import Channel, FadingAround, RayleighFading, fading, in_words
from lola.files.formats import StrPath, write_atomically
from lola.files.html import html_table
from lola.files.traces import TraceReplay
from lola.methods import BY_NAME
from lola.plausibility import warn_of
from lola.problem import Problem, of_a_round
from lola.rounds import REDRAWN, Point, check_rounds, draw_rounds, latencies, points_of, usual_redraw
from lola.solvers.checks import BoolArray, FloatArray, IntArray, expect, positive_integer, seed_number, shown
from lola.solvers.errors import LolaValueError

DEFAULT_METHODS = tuple(method.name for method in BY_NAME.values() if method.by_default)
_log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, eq=False)
class Simulation:
    """Latencies of the same rounds under several methods, at P points of a sweep.

    Who chooses blindly for the channel (``"computation-aware"``, ``"random"``, and anyone where K = L) now and then
    waits for a device in a deep fade. Under Rayleigh fading the latency then has no mean: it grows with the number of
    rounds. Compare medians there.

    Attributes
    ----------
    points : tuple of Point
    axis : str or None
        The field in which the points differ; None if there is one point.
    methods : tuple of str
    n_blocks : int
    latency_s : (P, methods, R) float64 array
        NaN in rounds where the fleet lacks the memory for the model: those are left out for every method.
    wall : (P, methods, R) int64 array
        Chosen devices that lack the memory for their block. Only baselines, which ignore memory, have any.
    channel : str
        What channel was drawn, in words.
    waited_s : (P, R) float64 array
        How long each round waited for devices to come out of outage; it is part of the latency.
    notes : tuple of str
        What of the numbers no radio, phone or model has; see `Problem.notes`.
    redraw : {"fleet", "channel"}
        What each round drew anew; see `lola.simulate`.
    """

    points: tuple[Point, ...]
    axis: str | None
    methods: tuple[str, ...]
    n_blocks: int
    latency_s: FloatArray
    wall: IntArray
    channel: str
    waited_s: FloatArray
    notes: tuple[str, ...] = ()
    redraw: str = "fleet"

    @property
    def feasible(self) -> BoolArray:
        """Rounds that count, (P, R)."""
        return np.asarray(~np.isnan(self.latency_s[:, 0, :]))

    @property
    def mean_s(self) -> FloatArray:
        """Mean latency of a round, (P, methods)."""
        return np.asarray(np.nanmean(self.latency_s, axis=2))

    @property
    def median_s(self) -> FloatArray:
        """Median latency of a round, (P, methods)."""
        return np.asarray(np.nanmedian(self.latency_s, axis=2))

    @property
    def half_width_s(self) -> FloatArray:
        """Half the 95 % confidence interval of the mean, (P, methods): 1.96 standard errors."""
        error = np.nanstd(self.latency_s, axis=2, ddof=1) / np.sqrt(self.feasible.sum(axis=1))[:, None]
        return np.asarray(_Z * error)

    @property
    def wall_rounds(self) -> FloatArray:
        """Share of the rounds in which at least one chosen device lacks the memory, (P, methods)."""
        return np.asarray((self.wall > 0).sum(axis=2) / self.feasible.sum(axis=1)[:, None])

    @property
    def wall_devices(self) -> FloatArray:
        """Share of the chosen devices that lack the memory, (P, methods)."""
        return np.asarray(self.wall.sum(axis=2) / self.feasible.sum(axis=1)[:, None] / self.n_blocks)

    def rows(self) -> list[dict[str, Any]]:
        """Return one line per point and method: where, how many rounds, the mean with its interval, the memory wall.

        Ready for a data frame: every line has the same keys, and plain numbers.
        """
        count = self.feasible.sum(axis=1)
        columns = ("mean_s", "half_width_s", "median_s", "wall_rounds", "wall_devices")
        values = {name: getattr(self, name) for name in columns}
        return [
            {
                **asdict(point),
                "method": method,
                "rounds": int(count[p]),
                "infeasible_rounds": int(self.latency_s.shape[2] - count[p]),
                **{name: float(value[p, m]) for name, value in values.items()},
            }
            for p, point in enumerate(self.points)
            for m, method in enumerate(self.methods)
        ]

    def __repr__(self) -> str:
        where = f"{len(self.points)} points of {self.axis}" if self.axis else "one point"
        rounds = f"{self.latency_s.shape[2]} rounds at {where}"
        return f"<Simulation of {', '.join(self.methods)}: {rounds}, each draws {REDRAWN[self.redraw]} anew>"

    def _repr_html_(self) -> str:
        return html_table(repr(self)[1:-1], self.rows())

    def save_csv(self, path: StrPath | TextIO) -> None:
        """Write `rows` as CSV, every digit kept, into a file or a stream."""
        rows = self.rows()
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(path, text.getvalue())


def simulate(
    problem: Problem,
    methods: Sequence[str] | None = None,
    *,
    rounds: int = 2000,
    seed: int = 0,
    transmit_snr_db: float | Sequence[float] | None = None,
    bandwidth_hz: float | Sequence[float] | None = None,
    n_devices: int | Sequence[int] | None = None,
    local_steps: int | Sequence[int] | None = None,
    path_loss: float | None = None,
    redraw: str | None = None,
    traces: Mapping[str, ArrayLike] | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Schedule the same random rounds by several methods, over a sweep of one parameter.

    Parameters
    ----------
    problem : Problem
        Profile and headroom, and whatever the arguments below leave open.
    methods : sequence of str, optional
        Of `lola.METHODS`; all but the published algorithms that can heed the problem if left out.
    rounds : int
        At each point, at least 2.
    seed : int
        Every point meets the same luck: what a round draws depends on the seed and the round alone.
    transmit_snr_db, bandwidth_hz, n_devices, local_steps : number or sequence of numbers, optional
        One of them may have several values: the axis. Left out, they are the problem's.
    path_loss : float, optional
        Mean channel power; see `lola.RayleighFading`. Where this and the transmit SNR are left out, a fleet that stays
        fades around each device's own mean SNR, and one that is redrawn has the paper's 10 dB and 1e-3.
    redraw : {"fleet", "channel"}, optional
        ``"fleet"``: each round draws speed and memory as `Fleet.sample` does, as in the LoLa-DEFT paper, section VI-A;
        of the problem's fleet, only its size and headroom count. ``"channel"``: its devices stay as they are. The
        channel is drawn anew either way. Left out: ``"fleet"`` for the built-in scenario's fleet, ``"channel"`` for
        any other.
    traces : mapping of str to (T,) array_like, optional
        Replayed in place of Rayleigh fading: a device stays on its trace, each round falls on a random moment.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    Simulation

    Raises
    ------
    InfeasibleError
        If at some point fewer than two rounds have the memory for the model (a few without it are left out), or one
        waits a day for devices in outage.
    TypeError, ValueError
        If an argument is not as described, a method cannot heed what the problem asks for, or two parameters have
        several values.

    Examples
    --------
    >>> import lola
    >>> profile = lola.Profile(memory_bytes=[1e9, 2e9], latency_s=[0.8, 1.2], upload_bits=8e5)
    >>> problem = lola.Problem(profile, lola.Fleet.sample(5, seed=1), bandwidth_hz=20e6)
    >>> simulation = lola.simulate(problem, ["jbba", "ba"], rounds=100, n_devices=[5, 10], redraw="fleet")
    >>> simulation.axis, simulation.mean_s.shape, bool((simulation.mean_s[:, 0] <= simulation.mean_s[:, 1]).all())
    ('n_devices', (2, 2), True)
    """
    expect("problem", problem, Problem)
    if isinstance(rounds, int | np.integer) and rounds < 2:
        raise LolaValueError(f"rounds must be at least 2, for an interval; got {shown(int(rounds))}")
    positive_integer("rounds", rounds)
    seed_number("seed", seed)
    for name, value in (("transmit_snr_db", transmit_snr_db), ("path_loss", path_loss)):
        if traces is not None and value is not None:
            raise LolaValueError(f"{name} has no say over traces, which hold the channel as measured; leave one out")
    if redraw is None:
        redraw = usual_redraw(problem.fleet)
    known_snr_db = np.nan if transmit_snr_db is None else transmit_snr_db
    axis, points = points_of(problem, known_snr_db, bandwidth_hz, n_devices, local_steps)
    if methods is None:
        methods = [name for name in DEFAULT_METHODS if not BY_NAME[name].unsuited(problem)] or DEFAULT_METHODS
    check_rounds(problem, methods, redraw, points)
    latency = np.full((len(points), len(methods), rounds), np.nan)
    wall, waited = np.zeros(latency.shape, dtype=np.int64), np.empty((len(points), rounds))
    notes: dict[str, None] = {}
    channels: list[Channel] = []
    for p, point in enumerate(points):
        channel: Channel
        if traces is not None:
            channel = TraceReplay(traces, point.n_devices, seed)
        else:
            around = problem.fleet.spectral_efficiency if redraw == "channel" else None
            snr_db = None if transmit_snr_db is None else point.transmit_snr_db
            channel = fading(point.n_devices, seed, around=around, transmit_snr_db=snr_db, path_loss=path_loss)
            if isinstance(channel, RayleighFading):
                points[p] = point = replace(point, transmit_snr_db=channel.transmit_snr_db)
        channels.append(channel)
        drawn = draw_rounds(problem, point.n_devices, channel, rounds, seed, redraw)
        if redraw == "fleet":
            fleet = drawn.fleet(0)
        elif isinstance(channel, FadingAround):
            fleet = problem.fleet
        else:  # its numbers are said as they were, whoever is in outage
            met = drawn.spectral_efficiency[0]
            fleet = problem.fleet.with_channel(np.where(met > 0, met, problem.fleet.spectral_efficiency))
        at_point = of_a_round(problem, fleet, bandwidth_hz=point.bandwidth_hz, local_steps=point.local_steps)
        warn_of(at_point, said=(*problem.notes, *notes))
        notes |= dict.fromkeys(at_point.notes)
        waited[p] = drawn.waited_s
        counted = drawn.that_can_hold(at_point)
        for m, method in enumerate(methods):
            if progress is not None:
                progress(method, p * len(methods) + m, len(points) * len(methods))
            _log.info("%s: %d of %d rounds at %s", method, counted.number.size, rounds, point)
            latency[p, m, counted.number], wall[p, m, counted.number] = latencies(at_point, method, counted, seed)
    said = in_words(channels)
    noted = tuple(notes)
    return Simulation(tuple(points), axis, tuple(methods), problem.n_blocks, latency, wall, said, waited, noted, redraw)
