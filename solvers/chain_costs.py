"""What the stages and hops of a chain cost, checked once: arrays over all of them, for solvers and checks of proofs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.checks import (
    LARGEST,
    SMALLEST,
    BoolArray,
    FloatArray,
    IntArray,
    nonnegative_number,
    per_block,
    positive_integer,
    real_array,
    shown,
    vector,
)
from lola.solvers.errors import InfeasibleError, LolaTypeError, LolaValueError, infeasible_chain

OBJECTIVES = ("sum", "max", "pipeline")
# A sum of bytes may exceed what a client offers by this fraction: so much is rounding.
_MEMORY_ROUNDING = 1e-12


class ChainCosts(NamedTuple):
    """Seconds of every stage and hop of a checked problem; infinite where there can be none."""

    stage_s: FloatArray  # (K, N + 1, N + 1): client k holds modules i … j − 1 at [k, i, j], j > i
    hop_s: FloatArray  # (N, K, K): at the cut after i modules, from client to client; that after none is infinite
    ring_s: FloatArray  # (K, K): from the last client to the first
    first: IntArray  # clients that may hold the first stage
    ring: bool  # whether the ring's hop takes time, so that the last stage must know the first
    sum_weight: float  # the objective is this much of the sum of all stages and hops …
    max_weight: float  # … and this much of the slowest

    @property
    def n_modules(self) -> int:
        """Number of modules, N."""
        return int(self.stage_s.shape[1]) - 1

    @property
    def n_clients(self) -> int:
        """Number of clients, K."""
        return int(self.stage_s.shape[0])

    def among(self, clients: IntArray) -> ChainCosts:
        """Return the same among some of the clients, numbered anew in their order."""
        rows, columns = np.ix_(clients, clients)
        return self._replace(
            stage_s=np.ascontiguousarray(self.stage_s[clients]),
            hop_s=np.ascontiguousarray(self.hop_s[:, rows, columns]),
            ring_s=np.ascontiguousarray(self.ring_s[rows, columns]),
            first=np.flatnonzero(np.isin(clients, self.first)),
        )

    def times(self, client_of_module: IntArray) -> FloatArray:
        """Return the seconds of each stage, of each hop, and of the ring's where there are several stages."""
        cuts = np.flatnonzero(np.diff(client_of_module)) + 1
        edges = np.array([0, *cuts, self.n_modules])
        client = client_of_module[edges[:-1]]
        stages = self.stage_s[client, edges[:-1], edges[1:]]
        hops = self.hop_s[cuts, client[:-1], client[1:]]
        ring = [self.ring_s[client[-1], client[0]]] if cuts.size else []
        return np.concatenate([stages, hops, ring])

    def objective(self, client_of_module: IntArray) -> float:
        """Return what a chain, or a walk that comes back to a client, takes."""
        times = self.times(client_of_module)
        slowest = float(times.max())
        if slowest == np.inf:
            return np.inf
        return self.sum_weight * float(times.sum()) + self.max_weight * slowest


class Chains(NamedTuple):
    """The chains that begin with one of some clients, as paths over (modules done, last client)."""

    stage_s: FloatArray  # as in ChainCosts
    hop_s: FloatArray
    begin_s: FloatArray  # (K,) 0 for who may hold the first stage, infinite for others
    end_s: FloatArray  # (K,) what follows the last stage: the ring's hop

    def below(self, limit_s: float, *, inclusive: bool = False) -> Chains:
        """Return the chains all of whose stages and hops take less time than the limit (or as long)."""
        if limit_s == np.inf:
            return self
        return Chains(*(np.where(s <= limit_s if inclusive else s < limit_s, s, np.inf) for s in self))


def first_clients(costs: ChainCosts) -> list[int | None]:
    """Return the first clients for which chains are sought apart; None stands for all at once."""
    if costs.first.size == 1 or costs.ring:
        return [int(client) for client in costs.first]
    return [None]


def chains_from(costs: ChainCosts, first: int | None) -> Chains:
    """Return the chains that begin with a client, to which they do not come back; None: with any."""
    begin, end = np.full(costs.n_clients, np.inf), np.zeros(costs.n_clients)
    if first is None:
        begin[costs.first] = 0.0
        return Chains(costs.stage_s, costs.hop_s, begin, end)
    begin[first] = 0.0
    end[:] = costs.ring_s[:, first]
    end[first] = 0.0  # who holds everything sends nothing
    hop = costs.hop_s.copy()
    hop[:, :, first] = np.inf
    return Chains(costs.stage_s, hop, begin, end)


def chain_costs(
    work_s: ArrayLike,
    memory_bytes: ArrayLike,
    hop_bits: ArrayLike,
    speed: ArrayLike,
    client_memory_bytes: ArrayLike,
    rate_bps: ArrayLike,
    *,
    objective: str = "sum",
    micro_batches: int = 1,
    start: int | Sequence[int] | None = None,
    order: Sequence[int] | None = None,
    return_bits: ArrayLike = 0.0,
    ring_bits: float = 0.0,
) -> ChainCosts:
    """Check the arguments of `chain_allocation`; return what each stage and hop takes, or raise if no chain can be."""
    if objective not in OBJECTIVES:
        raise LolaValueError(
            f"objective must be 'sum', 'max' or 'pipeline', got {shown(objective)}; choose one of them"
        )
    batches = positive_integer("micro_batches", micro_batches)
    if batches > 1 and objective != "pipeline":
        raise LolaValueError(
            f"micro_batches are of objective 'pipeline', got {batches} with {objective!r}; leave them out, or ask for "
            "'pipeline'"
        )
    work = vector("work_s", work_s, positive=False)
    n_modules = work.size
    there, back = (
        _bits(name, bits, n_modules) for name, bits in (("hop_bits", hop_bits), ("return_bits", return_bits))
    )
    ring = nonnegative_number("ring_bits", ring_bits)
    pace = vector("speed", speed)
    offered = vector("client_memory_bytes", client_memory_bytes, ("speed", pace), positive=False)
    n_clients = pace.size
    rate = _rates(rate_bps, n_clients)
    begins = _begins(start, n_clients)
    rank = _ranks(order, n_clients)
    if start is not None and (rank[begins] < 0).all():
        raise LolaValueError(
            f"order must name the start, client {start}, which it leaves out; add it or start elsewhere"
        )

    first, last = np.triu_indices(n_modules + 1, 1)
    stage = np.full((n_clients, n_modules + 1, n_modules + 1), np.inf)
    # Each sum begins at its own stage: differences of sums over all modules would lose the small ones.
    seconds = np.concatenate([np.cumsum(work[i:]) for i in range(n_modules)])
    fits = (_needs(memory_bytes, work)[first, last - 1] <= offered[:, None] * (1 + _MEMORY_ROUNDING)) & (rank >= 0)[
        :, None
    ]
    stage[:, first, last] = np.where(fits, seconds / pace[:, None], np.inf)

    hop = np.full((n_modules, n_clients, n_clients), np.inf)
    for cut in range(1, n_modules):
        hop[cut] = _seconds(there[cut - 1], rate) + _seconds(back[cut - 1], rate.T)
    if order is not None:
        hop[:, rank[:, None] >= rank] = np.inf
    hop[:, np.arange(n_clients), np.arange(n_clients)] = np.inf
    begins = begins[rank[begins] >= 0]
    weights = {"sum": (1.0, 0.0), "max": (0.0, 1.0), "pipeline": (1.0, batches - 1.0)}[objective]
    return ChainCosts(stage, hop, _seconds(ring, rate), begins, ring > 0 and n_modules > 1, *weights)


def why_no_chain(
    costs: ChainCosts, memory_bytes: ArrayLike, client_memory_bytes: ArrayLike, start: int | None, ordered: bool
) -> InfeasibleError:
    """Word why no chain exists, as well as can be said in a line."""
    n_modules, offered = costs.n_modules, np.asarray(client_memory_bytes, dtype=np.float64)
    needs = _needs(memory_bytes, np.zeros(n_modules))
    alone = np.isfinite(costs.stage_s[:, np.arange(n_modules), np.arange(1, n_modules + 1)])  # (K, N)
    reached = np.zeros(costs.n_clients, dtype=np.bool_)
    reached[costs.first[alone[costs.first, 0]]] = True
    linked: BoolArray = np.isfinite(costs.hop_s).max(axis=0)
    for _ in range(costs.n_clients):
        reached |= linked[reached].any(axis=0)
    together = [0.0]  # bytes of the first modules, in the stages that need least
    for last in range(n_modules):
        together.append(min(together[first] + float(needs[first, last]) for first in range(last + 1)))
    return infeasible_chain(needs.diagonal(), together[-1], offered, alone, reached, start, ordered)


def _seconds(bits: float, rate: FloatArray) -> FloatArray:
    """Return how long bits take over each link: forever where there is none, no time where there are none to send."""
    if bits == 0.0:
        return np.zeros_like(rate)
    return np.divide(bits, rate, out=np.full_like(rate, np.inf), where=rate > 0)


def _bits(name: str, bits: ArrayLike, n_modules: int) -> FloatArray:
    """Return the bits at each cut, (N − 1,)."""
    at_cuts = real_array(name, per_block(name, bits, n_modules - 1), 1)
    if at_cuts.size != n_modules - 1:
        raise LolaValueError(
            f"{name} must be one number, or {n_modules - 1}, one for each cut between the {n_modules} modules; "
            f"got {at_cuts.size}"
        )
    return vector(name, at_cuts, positive=False) if at_cuts.size else at_cuts


def _rates(rate_bps: ArrayLike, n_clients: int) -> FloatArray:
    """Return the rates between clients, (K, K), with a diagonal of 0."""
    rate = real_array("rate_bps", rate_bps, 2).copy()
    if rate.shape != (n_clients, n_clients):
        raise LolaValueError(
            f"rate_bps must be a row and a column for each of the {n_clients} clients, got shape {rate.shape}; "
            "rate_bps[i, j] is the rate from client i to client j, 0 without a link"
        )
    np.fill_diagonal(rate, 0.0)
    sane: BoolArray = (rate == 0) | ((rate >= SMALLEST) & (rate <= LARGEST))
    if not sane.all():
        i, j = (int(index) for index in np.argwhere(~sane)[0])
        raise LolaValueError(
            f"rate_bps must be finite and >= 0 (zero or from 1e-50 to 1e50), got {rate[i, j]} from client {i} to "
            f"client {j}; write 0 where there is no link"
        )
    return rate


def _client(name: str, value: object, n_clients: int) -> int:
    """Return the index of a client."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise LolaTypeError(f"{name} must be a client's index, an integer, got {type(value).__name__}: {shown(value)}")
    if not 0 <= value < n_clients:
        raise LolaValueError(f"{name} must be a client from 0 to {n_clients - 1}, got {shown(value)}")
    return int(value)


def _needs(memory_bytes: ArrayLike, work: FloatArray) -> FloatArray:
    """Return the bytes of a stage of modules i … j at [i, j], j ≥ i; they never fall with j."""
    if np.ndim(memory_bytes) != 2:
        need = vector("memory_bytes", memory_bytes, ("work_s", work), positive=False)
        # Each sum begins at its own stage: differences of sums over all modules would lose the small ones.
        return np.array([np.cumsum(np.where(np.arange(need.size) < i, 0.0, need)) for i in range(need.size)])
    needs, n_modules = real_array("memory_bytes", memory_bytes, 2), work.size
    if needs.shape != (n_modules, n_modules):
        raise LolaValueError(
            f"memory_bytes must have {n_modules} entries, one for each module, or shape ({n_modules}, {n_modules}), "
            f"one for each stage; got {needs.shape}"
        )
    stages = needs[np.triu_indices(n_modules)]
    grown = np.triu(np.diff(needs, axis=1) < 0)
    if not ((stages >= 0) & (stages <= LARGEST)).all() or grown.any():
        raise LolaValueError(
            "memory_bytes of stages must be finite, >= 0, and never less for a longer stage; got one that is not. "
            "np.maximum.accumulate(…, axis=1) makes it so"
        )
    return needs


def _begins(start: int | Sequence[int] | None, n_clients: int) -> IntArray:
    """Return the clients that may hold the first stage."""
    if start is None:
        return np.arange(n_clients)
    if np.ndim(start) == 0:
        return np.array([_client("start", start, n_clients)])
    several = np.array(
        [_client(f"start[{i}]", client, n_clients) for i, client in enumerate(np.asarray(start).tolist())]
    )
    if several.ndim != 1 or several.size == 0 or np.unique(several).size < several.size:
        raise LolaValueError(f"start must be a client, or several, each once; got {shown(start)}; None is any of them")
    return several


def _ranks(order: Sequence[int] | None, n_clients: int) -> IntArray:
    """Return the place of each client in the order, −1 for who is not in it; zeros without an order."""
    rank = np.zeros(n_clients, dtype=np.int64)
    if order is None:
        return rank
    if np.ndim(order) != 1 or len(order) == 0:
        raise LolaValueError(f"order must be a sequence of clients, at least one, got {shown(order)}")
    rank[:] = -1
    for place, client in enumerate(order):
        index = _client(f"order[{place}]", client, n_clients)
        if rank[index] >= 0:
            raise LolaValueError(f"order must name each client at most once, got client {index} again at {place}")
        rank[index] = place
    return rank
