"""How long the stages and hops of a chain take, by the formulas of the problem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lola.chains.problem import ChainProblem
from lola.chains.stages import StageProfile
from lola.problem import segments
from lola.solvers.checks import FloatArray, IntArray


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
