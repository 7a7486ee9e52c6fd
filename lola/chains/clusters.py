"""Several chains at once, over disjoint clients."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from lola.chains.chain import Chain
from lola.chains.problem import ChainProblem
from lola.chains.times import clients_of
from lola.proofs.checks import ROUNDING
from lola.solvers.chain_proofs import MOST_CLIENTS
from lola.solvers.checks import check_array, expect, require, shown
from lola.solvers.cluster_bounds import ClusterProof
from lola.solvers.cluster_costs import GOALS

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
        Why; None up to 14 clients, where all of their sets were compared, which has no shorter proof: `verify` compares
        them again.
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
        self._check_shape(problem)
        used = np.concatenate([clients_of(chain.client_of_module) for chain in self.chains])
        require(np.unique(used).size == used.size, "clusters", "a client is in two of them")
        for chain in self.chains:
            chain.verify(problem.among(clients_of(chain.client_of_module)))
        value = together(self.chains, self.goal)
        require(abs(self.objective - value) <= ROUNDING * value, "objective", f"is {self.objective!r}, not {value!r}")
        beyond = self.bound - self.objective if self.goal == "slowest" else self.objective - self.bound
        require(beyond <= ROUNDING * value, "bound", f"{self.bound!r} is beyond the objective that it bounds")
        self._check_bound(problem)
        _log.info("verified %s", self)

    def _check_shape(self, problem: ChainProblem) -> None:
        require(self.goal in GOALS, "goal", f"must be {' or '.join(GOALS)}, got {shown(self.goal)}")
        for name in ("objective", "bound"):
            value = getattr(self, name)
            require(isinstance(value, float) and np.isfinite(value), name, f"must be a finite float, got {value!r}")
        require(isinstance(self.chains, tuple) and self.chains, "clusters", "at least one chain was wanted, in a tuple")
        for chain in self.chains:
            # Of this very class: a subclass could bring a check of its own.
            require(type(chain) is Chain, "clusters", f"a Chain was wanted, got {type(chain).__name__}")
            check_array("shape", "client_of_module", chain.client_of_module, np.int64, problem.n_modules)
            outside = ~np.isin(chain.client_of_module, np.arange(problem.n_clients))
            require(not outside.any(), "clients", f"no client has index {chain.client_of_module[outside][:1]}")
            start = int(chain.client_of_module[0])
            require(start in problem.starts, "start", f"client {start} cannot begin: no data, or not in the order")

    def _check_bound(self, problem: ChainProblem) -> None:
        arguments: dict[str, Any] = {**problem.cluster_arguments(), "n_clusters": len(self.chains), "goal": self.goal}
        if self.proof is not None or problem.n_clients > MOST_CLIENTS:
            require(type(self.proof) is ClusterProof, "proof", f"got {type(self.proof).__name__}")
            assert self.proof is not None
            self.proof.check(self.bound, **arguments)
            return
        from lola.solvers import cluster_allocation

        best = cluster_allocation(**arguments).bound
        holds = self.bound <= best * (1 + ROUNDING) if self.goal == "slowest" else self.bound >= best * (1 - ROUNDING)
        require(holds, "bound", f"{self.bound!r} was claimed, all sets of clients compared again show {best!r}")

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
