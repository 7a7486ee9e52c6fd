"""What a round over a chain costs: time, computing, energy, bytes by kind of link, and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lola.chains.chain import Chain
from lola.chains.problem import ChainProblem
from lola.chains.times import clients_of, module_runs
from lola.solvers.checks import FloatArray, expect, positive_integer, positive_number

_COLUMNS = (
    "busy_s",
    "energy_j",
    "memory_bytes",
    "d2d_bytes",
    "downlink_bytes",
    "uplink_bytes",
    "model_bytes",
)


@dataclass(frozen=True, eq=False)
class ChainMetrics:
    """What a round of training over a chain costs, or inference; arrays over its S stages.

    Attributes
    ----------
    batches : int
        Batches of a round; of inference, questions that are answered.
    latency_s : float
        Delivery, all batches, and upload.
    delivery_s, upload_s : float
        Of the tunable modules, from and to the edge server, clients side by side; 0 where its rates are not known.
    busy_s : (S,) float64 array
        Seconds that each client computes.
    energy_j : (S,) float64 array or None
        Joules of computing and sending; None where the clients' powers are not known.
    memory_bytes : (S,) float64 array
        What a client needs at the moment when it needs the most.
    d2d_bytes : (S,) float64 array
        What each client sends to others: activations, gradients, and answers.
    downlink_bytes, uplink_bytes : (S,) float64 arrays
        What is delivered to each client, and what it uploads: the tunable part of its modules alone.
    model_bytes : (S,) float64 array
        What full delivery would bring it instead: all weights of its modules.
    """

    batches: int
    latency_s: float
    delivery_s: float
    upload_s: float
    busy_s: FloatArray
    energy_j: FloatArray | None
    memory_bytes: FloatArray
    d2d_bytes: FloatArray
    downlink_bytes: FloatArray
    uplink_bytes: FloatArray
    model_bytes: FloatArray

    def rows(self) -> list[dict[str, Any]]:
        """Return one line per stage, ready for a data frame; no energy where it is not known."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        known = {name: column.tolist() for name, column in columns.items() if column is not None}
        return [dict(zip(known, row, strict=True)) for row in zip(*known.values(), strict=True)]


def chain_metrics(
    chain: Chain,
    problem: ChainProblem,
    *,
    batches: int = 1,
    downlink_bps: float | None = None,
    uplink_bps: float | None = None,
) -> ChainMetrics:
    """Count what a round of batches costs, or so many inferences.

    Parameters
    ----------
    chain : Chain
    problem : ChainProblem
        The problem that the chain answers.
    batches : int
        Batches between delivery of the tunable modules and their upload, or questions.
    downlink_bps, uplink_bps : float, optional
        Bits a second between the edge server and each client; delivery and upload take no time without.

    Raises
    ------
    lola.VerificationError
        If the chain does not hold for this problem.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Batches follow one another; where the objective is the slowest stage or hop, that is the time from one to the next.

    Examples
    --------
    >>> import lola
    >>> stages = lola.StageProfile(
    ...     forward_s=[1, 2, 1], backward_s=[0, 3, 1], memory_bytes=[1e8, 3e8, 1e7], result_bits=64, batch_size=1,
    ...     inference_memory_bytes=[1e8, 1e8, 1e7], hop_bits=8e6, return_bits=[0, 8e6], tunable_bits=[0, 8e5, 5e4])
    >>> clients = lola.Clients(speed=[1, 2], memory_bytes=[2e8, 4e8], rate_bps=[[0, 8e6], [8e6, 0]])
    >>> problem = lola.ChainProblem(stages, clients, start=0)
    >>> lola.chain_metrics(lola.split(problem), problem, batches=10).busy_s
    array([10., 35.])
    """
    expect("chain", chain, Chain)
    chain.verify(problem)
    count = positive_integer("batches", batches)
    rates = {
        name: np.inf if rate is None else positive_number(name, rate)
        for name, rate in (("downlink_bps", downlink_bps), ("uplink_bps", uplink_bps))
    }
    stages, clients, times = problem.stages, problem.clients, chain.times
    runs, taken = module_runs(chain.client_of_module), clients_of(chain.client_of_module)
    tunable = np.array([stages.tunable_bits[run.start : run.stop].sum() for run in runs])
    delivery, upload = tunable / rates["downlink_bps"], tunable / rates["uplink_bps"]
    uploaded = tunable
    if problem.inference:
        upload, uploaded = np.zeros_like(upload), np.zeros_like(tunable)
    parts = count * problem.micro_batches
    busy = parts * (times.forward_s + times.backward_s)
    sending = parts * _of_senders(times.hop_s, times.return_s, times.ring_s) + upload
    cut = np.array([run.stop - 1 for run in runs[:-1]], dtype=np.int64)
    returned = np.zeros(cut.size) if problem.inference else stages.return_bits[cut]
    ring = stages.result_bits if problem.inference and cut.size else 0.0
    if problem.objective == "max":
        in_all = chain.latency_s + (count - 1) * chain.objective_s
    else:
        in_all = count * chain.latency_s
    energy = None
    if clients.compute_power_w is not None and clients.transmit_power_w is not None:
        energy = busy * clients.compute_power_w[taken] + sending * clients.transmit_power_w[taken]
    return ChainMetrics(
        batches=count,
        latency_s=float(delivery.max() + in_all + upload.max()),
        delivery_s=float(delivery.max()),
        upload_s=float(upload.max()),
        busy_s=busy,
        energy_j=energy,
        memory_bytes=np.array([stages.peak_bytes(run, inference=problem.inference) for run in runs]),
        d2d_bytes=count * _of_senders(stages.hop_bits[cut], returned, ring) / 8.0,
        downlink_bytes=tunable / 8.0,
        uplink_bytes=uploaded / 8.0,
        model_bytes=np.array([stages.inference_memory_bytes[run.start : run.stop].sum() for run in runs]),
    )


def _of_senders(hop: FloatArray, back: FloatArray, ring: float) -> FloatArray:
    """Add up what each stage's client sends: on to the next, back to the one before, and the last one to the first."""
    return np.asarray(np.append(hop, ring) + np.append(0.0, back))
