"""How to split a model over a chain: what its modules cost, the clients, and what is to be short."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypedDict

import numpy as np

from lola.chains.clients import Clients, client_of, with_data
from lola.chains.stages import StageProfile
from lola.solvers.checks import FloatArray, IntArray, expect, nonnegative_number, positive_integer, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

Objective = Literal["sum", "max", "pipeline"]
OBJECTIVES: tuple[Objective, ...] = ("sum", "max", "pipeline")
_STAGE_ARRAYS = (
    "forward_s",
    "backward_s",
    "memory_bytes",
    "inference_memory_bytes",
    "kept_bytes",
    "workspace_bytes",
    "inference_workspace_bytes",
    "hop_bits",
    "return_bits",
    "tunable_bits",
)
_CLIENT_ARRAYS = ("speed", "memory_bytes", "rate_bps", "rows", "compute_power_w", "transmit_power_w")


class ChainArguments(TypedDict):
    """What `lola.solvers.chain_allocation` takes, by keyword."""

    work_s: FloatArray
    memory_bytes: FloatArray
    hop_bits: FloatArray
    speed: FloatArray
    client_memory_bytes: FloatArray
    rate_bps: FloatArray
    objective: str
    micro_batches: int
    start: int | tuple[int, ...] | None
    order: tuple[int, ...] | None
    return_bits: FloatArray
    ring_bits: float


@dataclass(frozen=True, eq=False, init=False)
class ChainProblem:
    """A model to split over a chain of clients: a stage of consecutive modules each, as many clients as help.

    Parameters
    ----------
    stages : StageProfile
        What each of the N modules costs for one batch.
    clients : Clients
        The K clients and their links.
    objective : {"sum", "max", "pipeline"}
        What is to be short: all stages and hops of a batch in series; the slowest single stage or hop, which is the
        time from one batch to the next where many are under way; or a batch cut into micro-batches that follow each
        other, the sum of one plus ``micro_batches − 1`` times its slowest.
    micro_batches : int
        m: how many a batch is cut into (``"pipeline"`` alone). Seconds and bits of one are the batch's divided by m;
        memory stays the batch's, since all are kept until their backward.
    start : int or str, optional
        Index or name of the client that takes the first stage: whose data it is, or whose question. If left out, any
        client, and in training any that holds data.
    order : iterable of int or str, optional
        The only clients that may take part, in this order; some may be left out. Any client, in any order, without it.
    inference : bool
        Forward alone, with the memory of inference, and the answer goes from the last client back to the first.
    energy_weight : float
        w, in seconds a joule (``"sum"`` alone): seconds plus w times joules are minimised. Needs both powers of the
        clients.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or none of the clients holds data to train on.

    Notes
    -----
    A stage needs what `StageProfile.peak_bytes` says, and at least what each shorter one with the same first module
    needs: who could not hold a stage is given none that is longer. With weight w, a second of computing on client k
    counts ``1 + w·compute_power_w[k]`` and one of sending ``1 + w·transmit_power_w`` of the sender; so the solver sees
    speeds and rates divided by these.

    Examples
    --------
    >>> import lola
    >>> stages = lola.StageProfile(
    ...     forward_s=[1, 2, 1], backward_s=[0, 3, 1], memory_bytes=[1e8, 3e8, 1e7], result_bits=64, batch_size=1,
    ...     inference_memory_bytes=[1e8, 1e8, 1e7], hop_bits=8e6, return_bits=[0, 8e6], tunable_bits=[0, 8e5, 5e4])
    >>> clients = lola.Clients(speed=[1, 2], memory_bytes=[2e8, 4e8], rate_bps=[[0, 8e6], [8e6, 0]])
    >>> problem = lola.ChainProblem(stages, clients, start=0)
    >>> lola.split(problem).stages
    ((0, range(0, 1)), (1, range(1, 3)))
    """

    stages: StageProfile
    clients: Clients
    objective: Objective
    micro_batches: int
    start: int | None
    order: tuple[int, ...] | None
    inference: bool
    energy_weight: float

    def __init__(
        self,
        stages: StageProfile,
        clients: Clients,
        *,
        objective: Objective = "sum",
        micro_batches: int = 1,
        start: int | str | None = None,
        order: Iterable[int | str] | None = None,
        inference: bool = False,
        energy_weight: float = 0.0,
    ) -> None:
        expect("stages", stages, StageProfile)
        expect("clients", clients, Clients)
        if objective not in OBJECTIVES:
            raise LolaValueError(f"objective must be one of {', '.join(OBJECTIVES)}; got {shown(objective)}")
        if not isinstance(inference, bool):
            raise LolaTypeError(f"inference must be True or False, got {shown(inference)}")
        parts = positive_integer("micro_batches", micro_batches)
        if parts > 1 and objective != "pipeline":
            raise LolaValueError(
                f'micro_batches belong to objective="pipeline", got {parts} with objective={objective!r}; leave one of '
                "them out"
            )
        if parts > stages.batch_size:
            raise LolaValueError(
                f"micro_batches must be at most the {stages.batch_size} examples of the stages' batch, got {parts}; "
                "profile a larger batch"
            )
        weight = nonnegative_number("energy_weight", energy_weight)
        if weight and objective != "sum":
            raise LolaValueError(
                f'energy_weight belongs to objective="sum", got {weight:g} with objective={objective!r}; '
                "joules add up, a slowest one has none"
            )
        if weight and (clients.compute_power_w is None or clients.transmit_power_w is None):
            raise LolaValueError(
                "energy_weight needs the clients' compute_power_w and transmit_power_w, got clients without; add both, "
                "or leave the weight out"
            )
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "clients", clients)
        object.__setattr__(self, "objective", objective)
        object.__setattr__(self, "micro_batches", parts)
        object.__setattr__(self, "inference", inference)
        object.__setattr__(self, "energy_weight", weight)
        object.__setattr__(self, "order", None if order is None else self._in_order(order))
        object.__setattr__(self, "start", None if start is None else client_of(clients, "start", start))
        self._check_start()

    def _in_order(self, order: Iterable[int | str]) -> tuple[int, ...]:
        if isinstance(order, str):
            raise LolaTypeError(f"order must be a list of clients, got one text: {shown(order)}")
        listed = tuple(client_of(self.clients, "order", client) for client in order)
        if not listed or len(set(listed)) < len(listed):
            raise LolaValueError(f"order must name clients once each, at least one; got {shown(list(listed))}")
        return listed

    def _check_start(self) -> None:
        if self.start is not None and self.order is not None and self.start not in self.order:
            raise LolaValueError(
                f"start must be in order, got {self.clients.label(self.start)}, which is not; add it, or leave start "
                "out"
            )
        if self.start is not None and self.start not in self.starts:
            raise LolaValueError(
                f"start must hold training data, got {self.clients.label(self.start)} with rows = 0; name another, or "
                "ask for inference"
            )
        if not self.starts:
            raise LolaValueError(
                "order must name a client with training data, got none with rows > 0; add one, or ask for inference"
            )

    @property
    def n_modules(self) -> int:
        """Number of modules, N."""
        return self.stages.n_modules

    @property
    def n_clients(self) -> int:
        """Number of clients, K."""
        return self.clients.n_clients

    @property
    def starts(self) -> tuple[int, ...]:
        """Who may take the first stage, apart from what `start` says: in training, who holds data."""
        able = range(self.n_clients) if self.inference else with_data(self.clients).tolist()
        return tuple(k for k in able if self.order is None or k in self.order)

    @property
    def compute_weight(self) -> FloatArray:
        """What a second of computing counts on each client, (K,): 1 + w times its watts."""
        return self._weight(self.clients.compute_power_w)

    @property
    def transmit_weight(self) -> FloatArray:
        """What a second of sending counts from each client, (K,): 1 + w times its watts."""
        return self._weight(self.clients.transmit_power_w)

    def _weight(self, power_w: FloatArray | None) -> FloatArray:
        if power_w is None or not self.energy_weight:
            return np.ones(self.n_clients)
        return np.asarray(1.0 + self.energy_weight * power_w)

    @cached_property
    def stage_bytes(self) -> FloatArray:
        """Bytes that a stage of modules i … j needs at [i, j], (N, N); 0 below the diagonal."""
        needs = np.zeros((self.n_modules, self.n_modules))
        for i, j in zip(*np.triu_indices(self.n_modules), strict=True):
            needs[i, j] = self.stages.peak_bytes(range(i, j + 1), inference=self.inference)
        return np.maximum.accumulate(needs, axis=1)

    def solver_arguments(self) -> ChainArguments:
        """Return the arguments of `lola.solvers.chain_allocation`: one micro-batch, energy in the speeds and rates."""
        stages, clients, parts = self.stages, self.clients, self.micro_batches
        anybody = len(self.starts) == (self.n_clients if self.order is None else len(self.order))
        start = self.start if self.start is not None or anybody else self.starts
        return {
            "work_s": (stages.forward_s + (0.0 if self.inference else stages.backward_s)) / parts,
            "memory_bytes": self.stage_bytes,
            "hop_bits": stages.hop_bits / parts,
            "speed": clients.speed / self.compute_weight,
            "client_memory_bytes": clients.memory_bytes,
            "rate_bps": clients.rate_bps / self.transmit_weight[:, None],
            "objective": self.objective,
            "micro_batches": parts,
            "start": start,
            "order": self.order,
            "return_bits": np.zeros_like(stages.hop_bits) if self.inference else stages.return_bits / parts,
            "ring_bits": stages.result_bits / parts if self.inference else 0.0,
        }

    def cluster_arguments(self) -> dict[str, Any]:
        """Return the same for `lola.solvers.cluster_allocation`, apart from the number of clusters and their goal."""
        arguments: dict[str, Any] = {**self.solver_arguments(), "starts": self.starts}
        del arguments["start"]
        return arguments

    def among(self, members: IntArray) -> ChainProblem:
        """Return the problem of some clients alone, the first of whom begins; others have no memory and no links."""
        clients = self.clients
        inside = np.zeros(clients.n_clients, dtype=np.bool_)
        inside[members] = True
        apart = replace(
            clients,
            memory_bytes=np.where(inside, clients.memory_bytes, 0.0),
            rate_bps=np.where(inside[:, None] & inside, clients.rate_bps, 0.0),
        )
        return replace(self, clients=apart, start=int(members[0]))

    def digest(self) -> str:
        """SHA-256 of everything that a chain depends on, and of names and provenance, in hexadecimal."""
        stages, clients = self.stages, self.clients
        state = hashlib.sha256()
        for source, names in ((stages, _STAGE_ARRAYS), (clients, _CLIENT_ARRAYS)):
            for name in names:
                value: FloatArray | IntArray | None = getattr(source, name)
                state.update(name.encode() + (b"-" if value is None else np.ascontiguousarray(value).tobytes()))
        provenance = None if stages.provenance is None else stages.provenance.to_dict()
        texts = [stages.module, stages.batch_size, stages.result_bits, provenance, clients.name]
        asked = [self.objective, self.micro_batches, self.start, self.order, self.inference, self.energy_weight]
        state.update(json.dumps([texts, asked]).encode())
        return state.hexdigest()

    def __repr__(self) -> str:
        what = "inference" if self.inference else "training"
        return f"<ChainProblem: {self.n_modules} modules over {self.n_clients} clients, {what}, {self.objective}>"
