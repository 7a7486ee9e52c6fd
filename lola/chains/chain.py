"""The answer: who takes which modules, how long each stage and hop is, and why nothing is faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lola.chains.problem import ChainProblem
from lola.chains.times import ChainTimes, module_runs
from lola.chains.verification import verify
from lola.files.html import html_table
from lola.solvers.chain_proofs import ChainProof
from lola.solvers.checks import IntArray

# What is this close to its bound is optimal.
OPTIMAL_GAP = 1e-9


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
