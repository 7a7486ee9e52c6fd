"""The answer: who takes which modules, how long each stage and hop is, and why nothing is faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lola.chains.problem import ChainProblem
from lola.chains.stages import StageProfile
from lola.files.html import html_table
from lola.problem import segments
from lola.solvers.checks import FloatArray, IntArray

if TYPE_CHECKING:
    from lola.solvers.chain_proofs import ChainProof


@dataclass(frozen=True, eq=False)
class ChainTimes:
    """Seconds of the S stages of a chain and of the S − 1 hops between them; of one micro-batch.

    Attributes
    ----------
    forward_s, backward_s : (S,) float64 arrays
        Of each stage; no backward in inference.
    hop_s, return_s : (S − 1,) float64 arrays
        Activations to the next stage, and gradients back from it.
    ring_s : float
        The answer from the last client to the first; 0 in training, and where one client has all.
    """

    forward_s: FloatArray
    backward_s: FloatArray
    hop_s: FloatArray
    return_s: FloatArray
    ring_s: float

    def stations(self) -> FloatArray:
        """Return what a micro-batch passes: each stage both ways, each hop both ways, the ring; (2S,) seconds."""
        return np.concatenate([self.forward_s + self.backward_s, self.hop_s + self.return_s, [self.ring_s]])

    def batch_s(self, micro_batches: int) -> float:
        """Return the seconds of a batch: all of one micro-batch, and the slowest for each that follows."""
        stations = self.stations()
        return float(stations.sum() + (micro_batches - 1) * stations.max())


def chain_times(problem: ChainProblem, client_of_module: IntArray) -> ChainTimes:
    """Compute the times of a chain from a problem."""
    stages, clients, parts = problem.stages, problem.clients, problem.micro_batches
    runs = module_runs(client_of_module)
    taken = clients_of(client_of_module)
    cut = np.array([run.stop - 1 for run in runs[:-1]], dtype=np.int64)
    here, there = taken[:-1], taken[1:]

    def of_stages(seconds: FloatArray) -> FloatArray:
        return np.array([seconds[run.start : run.stop].sum() for run in runs]) / parts / clients.speed[taken]

    def sent(bits: FloatArray, rate_bps: FloatArray) -> FloatArray:
        forever = np.full(bits.shape, np.inf)
        return np.where(bits == 0, 0.0, np.divide(bits / parts, rate_bps, out=forever, where=rate_bps > 0))

    ring = np.zeros(1)
    if problem.inference and len(runs) > 1:
        ring = sent(np.array([stages.result_bits]), clients.rate_bps[taken[-1:], taken[:1]])
    nothing = np.zeros_like
    return ChainTimes(
        forward_s=of_stages(stages.forward_s),
        backward_s=of_stages(nothing(stages.backward_s) if problem.inference else stages.backward_s),
        hop_s=sent(stages.hop_bits[cut], clients.rate_bps[here, there]),
        return_s=sent(
            (nothing(stages.return_bits) if problem.inference else stages.return_bits)[cut],
            clients.rate_bps[there, here],
        ),
        ring_s=float(ring[0]),
    )


def module_runs(client_of_module: IntArray) -> list[range]:
    """Return the modules of each stage, from 0, such as ``[range(0, 3), range(3, 4)]``."""
    return [range(depths.start - 1, depths.stop - 1) for depths in segments(client_of_module)]


def modules_in_words(stages: StageProfile, run: range) -> str:
    """Name the modules of a stage: the first and the last of several."""
    return " … ".join(dict.fromkeys([stages.module[run.start], stages.module[run[-1]]]))


def clients_of(client_of_module: IntArray) -> IntArray:
    """Return the client of each stage, (S,)."""
    return client_of_module[[run.start for run in module_runs(client_of_module)]]


def objective_s(problem: ChainProblem, client_of_module: IntArray, times: ChainTimes) -> float:
    """Compute what a problem asks to be short, of a chain with these times."""
    if problem.objective == "max":
        return float(times.stations().max())
    if problem.objective == "pipeline":
        return times.batch_s(problem.micro_batches)
    taken = clients_of(client_of_module)
    compute, send = problem.compute_weight[taken], problem.transmit_weight[taken]
    weighted = [
        ((times.forward_s + times.backward_s) * compute).sum(),
        (times.hop_s * send[:-1] + times.return_s * send[1:]).sum(),
        times.ring_s * send[-1],
    ]
    return float(sum(weighted))


@dataclass(frozen=True, eq=False)
class Chain:
    """A model split over a chain of clients.

    Attributes
    ----------
    client_of_module : (N,) int64 array
        A client stands once for each module of its stage.
    times : ChainTimes
        Seconds of each stage and hop, for one micro-batch.
    micro_batches : int
        Parts that the problem cuts a batch into.
    latency_s : float
        Of one batch through the chain: its sum, and with micro-batches their slowest station for each that follows.
    objective_s : float
        What the problem asks to be short: the same, or the slowest station, or seconds weighted with energy.
    lower_bound_s : float
        No split of the problem has less.
    proof : ChainProof
        Why the bound holds.
    name : (S,) tuple of str or None
        Names of the stages' clients, where clients have names.
    """

    client_of_module: IntArray
    times: ChainTimes
    micro_batches: int
    latency_s: float
    objective_s: float
    lower_bound_s: float
    proof: ChainProof
    name: tuple[str, ...] | None = None

    @property
    def stages(self) -> tuple[tuple[int, range], ...]:
        """Who takes which modules, in order: each client with the range of its own, such as ``(4, range(1, 3))``."""
        return tuple((int(self.client_of_module[run.start]), run) for run in module_runs(self.client_of_module))

    @property
    def gap(self) -> float:
        """``objective_s/lower_bound_s − 1``: 0 to rounding where the chain is optimal."""
        if self.lower_bound_s == self.objective_s:
            return 0.0
        return float(np.float64(self.objective_s) / self.lower_bound_s - 1.0)

    @property
    def is_proven_optimal(self) -> bool:
        """Whether the bound meets the objective, to rounding."""
        return self.gap <= OPTIMAL_GAP

    def verify(self, problem: ChainProblem) -> None:
        """Check the split, every number and the proof against `problem`, by comparisons and sums alone.

        Raises
        ------
        lola.VerificationError
            Naming the first line that fails.

        Examples
        --------
        >>> import lola
        >>> stages = lola.StageProfile(
        ...     forward_s=[1, 2, 1], backward_s=[0, 3, 1], memory_bytes=[1e8, 3e8, 1e7], result_bits=64, batch_size=1,
        ...     inference_memory_bytes=[1e8, 1e8, 1e7], hop_bits=8e6, return_bits=[0, 8e6], tunable_bits=[0, 8e5, 5e4])
        >>> clients = lola.Clients(speed=[1, 2], memory_bytes=[2e8, 4e8], rate_bps=[[0, 8e6], [8e6, 0]])
        >>> problem = lola.ChainProblem(stages, clients, start=0)
        >>> lola.split(problem).verify(problem)  # silent: every line holds, and no split is faster
        """
        from lola.chains.verification import verify

        verify(self, problem)

    def rows(self) -> list[dict[str, Any]]:
        """Return one line per stage, ready for a data frame; a hop stands with the stage that it leaves.

        The last stage's hop is the answer's way back to the first, of inference.
        """
        hop = np.append(self.times.hop_s, self.times.ring_s)
        columns = {
            "first_module": [run.start for _, run in self.stages],
            "last_module": [run.stop - 1 for _, run in self.stages],
            "client": [client for client, _ in self.stages],
            **({} if self.name is None else {"name": list(self.name)}),
            "forward_s": self.times.forward_s.tolist(),
            "backward_s": self.times.backward_s.tolist(),
            "hop_s": hop.tolist(),
            "return_s": np.append(self.times.return_s, 0.0).tolist(),
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the proof as JSON knows it."""
        times = self.times
        return {
            "client_of_module": self.client_of_module.tolist(),
            **{name: getattr(times, name).tolist() for name in ("forward_s", "backward_s", "hop_s", "return_s")},
            "ring_s": times.ring_s,
            "latency_s": self.latency_s,
            "objective_s": self.objective_s,
            "lower_bound_s": self.lower_bound_s,
        }

    def __repr__(self) -> str:
        return f"<Chain {self}>"

    def _repr_html_(self) -> str:
        return html_table(str(self), self.rows())

    def __str__(self) -> str:
        claim = "proven optimal" if self.is_proven_optimal else f"at most {self.gap:.2%} from the optimum"
        n_stages = len(self.stages)
        parts = f" in {self.micro_batches} parts" if self.micro_batches > 1 else ""
        on = f"{n_stages} client{'s' if n_stages > 1 else ''}"
        return f"{self.client_of_module.size} modules on {on}: {self.latency_s:.6g} s a batch{parts}, {claim}"


# What is this close to its bound is optimal.
OPTIMAL_GAP = 1e-9
