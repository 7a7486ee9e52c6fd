"""Several chains at once, over disjoint clients."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from lola.chains.chain import Chain
from lola.chains.problem import ChainProblem
from lola.chains.times import clients_of
from lola.proofs.checks import ROUNDING, require
from lola.solvers.checks import expect
from lola.solvers.cluster_bounds import ClusterProof

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Clusters:
    """Disjoint chains, each with the whole model and a start of its own.

    Attributes
    ----------
    chains : tuple of Chain
        The fastest first; each is the best of the clients that it uses.
    goal : {"slowest", "throughput"}
    objective : float
        Of ``"slowest"`` the largest of the chains' objectives, in seconds; of ``"throughput"`` the sum of their
        reciprocals.
    bound : float
        No disjoint chains are better.
    proof : ClusterProof or None
        Why; None up to 14 clients, where all of their sets were compared, which has no shorter proof.
    """

    chains: tuple[Chain, ...]
    goal: str
    objective: float
    bound: float
    proof: ClusterProof | None

    @property
    def gap(self) -> float:
        """How far the objective may be from the optimum, as a part of the better of the two; 0 where it is optimal."""
        if self.bound == self.objective:
            return 0.0
        return float(np.float64(max(self.objective, self.bound)) / min(self.objective, self.bound) - 1.0)

    def verify(self, problem: ChainProblem) -> None:
        """Check every chain against the problem of its own clients, that they are disjoint, and the bound's proof.

        Raises
        ------
        lola.VerificationError
            Naming the first line that fails.
        TypeError
            If `problem` is none.
        """
        expect("problem", problem, ChainProblem)
        used = np.concatenate([clients_of(chain.client_of_module) for chain in self.chains])
        require(np.unique(used).size == used.size, "clusters", "a client is in two of them")
        for chain in self.chains:
            chain.verify(problem.among(clients_of(chain.client_of_module)))
        value = together(self.chains, self.goal)
        require(abs(self.objective - value) <= ROUNDING * value, "objective", f"is {self.objective!r}, not {value!r}")
        beyond = self.bound - self.objective if self.goal == "slowest" else self.objective - self.bound
        require(beyond <= ROUNDING * value, "bound", f"{self.bound!r} is beyond the objective that it bounds")
        if self.proof is not None:
            require(type(self.proof) is ClusterProof, "proof", f"got {type(self.proof).__name__}")
            n_clusters = len(self.chains)
            self.proof.check(self.bound, **problem.cluster_arguments(), n_clusters=n_clusters, goal=self.goal)
        _log.info("verified %s", self)

    def __repr__(self) -> str:
        return f"<Clusters {self}>"

    def __str__(self) -> str:
        unit = "s for the slowest" if self.goal == "slowest" else "batches a second together"
        claim = "optimal" if self.gap <= ROUNDING else f"at most {self.gap:.2%} from the optimum"
        return f"{len(self.chains)} chains: {self.objective:.6g} {unit}, {claim}"


def together(chains: tuple[Chain, ...], goal: str) -> float:
    """Return what a goal makes of chains: the slowest's objective, or how many batches a second all have."""
    objectives = [chain.objective_s for chain in chains]
    return max(objectives) if goal == "slowest" else sum(1.0 / seconds for seconds in objectives)
