"""From a problem to the chain that answers it."""

import logging
import re

from lola.chains.chain import Chain
from lola.chains.clients import Clients
from lola.chains.clusters import Clusters, together
from lola.chains.problem import ChainProblem
from lola.chains.times import chain_times, clients_of, objective_s
from lola.solvers.checks import expect, frozen
from lola.solvers.errors import InfeasibleError, LolaValueError

_log = logging.getLogger(__name__)


def split(problem: ChainProblem) -> Chain:
    """Decide which client takes which modules, in which order.

    Parameters
    ----------
    problem : ChainProblem

    Returns
    -------
    Chain
        The split, its times, and a bound with its proof: optimal where the order is known, or up to 14 clients; beyond,
        `Chain.gap` says how far from the optimum it may be.

    Raises
    ------
    lola.InfeasibleError
        If no chain has the memory and the links; the message says what lacks.
    TypeError
        If `problem` is none.

    Examples
    --------
    >>> import lola
    >>> stages = lola.StageProfile(
    ...     forward_s=[1, 2, 1], backward_s=[0, 3, 1], memory_bytes=[1e8, 3e8, 1e7], result_bits=64, batch_size=1,
    ...     inference_memory_bytes=[1e8, 1e8, 1e7], hop_bits=8e6, return_bits=[0, 8e6], tunable_bits=[0, 8e5, 5e4])
    >>> clients = lola.Clients(speed=[1, 2], memory_bytes=[2e8, 4e8], rate_bps=[[0, 8e6], [8e6, 0]])
    >>> print(lola.split(lola.ChainProblem(stages, clients, start=0)))
    3 modules on 2 clients: 5.5 s a batch, proven optimal
    """
    from lola.solvers import chain_allocation

    expect("problem", problem, ChainProblem)
    _log.info("%r", problem)
    try:
        allocation = chain_allocation(**problem.solver_arguments())
    except InfeasibleError as error:
        raise _naming_clients(error, problem.clients) from None
    times = chain_times(problem, allocation.client_of_module)
    reached = objective_s(problem, allocation.client_of_module, times)
    return Chain(
        client_of_module=frozen(allocation.client_of_module),
        times=times,
        micro_batches=problem.micro_batches,
        latency_s=times.batch_s(problem.micro_batches),
        objective_s=reached,
        lower_bound_s=min(allocation.lower_bound, reached),  # sums in another order differ by roundings
        proof=allocation.proof,
        name=problem.clients.names_of(clients_of(allocation.client_of_module)),
    )


def split_clusters(problem: ChainProblem, n_clusters: int, goal: str = "slowest") -> Clusters:
    """Form disjoint chains over the clients, each with the whole model, from a start of its own.

    Parameters
    ----------
    problem : ChainProblem
        Of one chain; in training each begins with a client that holds data. It names no start.
    n_clusters : int
        How many, at least 1.
    goal : {"slowest", "throughput"}
        Make the slowest chain's objective small, or the sum of all reciprocals large.

    Returns
    -------
    Clusters
        Optimal up to 14 clients; beyond, `Clusters.gap` says how far from the optimum it may be.

    Raises
    ------
    lola.InfeasibleError
        If so many chains cannot be formed.
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import lola
    >>> stages = lola.StageProfile(
    ...     forward_s=[1, 2, 1], backward_s=[0, 3, 1], memory_bytes=[1e8, 3e8, 1e7], result_bits=64, batch_size=1,
    ...     inference_memory_bytes=[1e8, 1e8, 1e7], hop_bits=8e6, return_bits=[0, 8e6], tunable_bits=[0, 8e5, 5e4])
    >>> clients = lola.Clients(speed=[1, 2, 4], memory_bytes=[2e8, 4e8, 1e9], rate_bps=[[8e6] * 3] * 3)
    >>> print(lola.split_clusters(lola.ChainProblem(stages, clients), 2))
    2 chains: 5.5 s for the slowest, optimal
    """
    from lola.solvers import cluster_allocation

    expect("problem", problem, ChainProblem)
    if problem.start is not None:
        raise LolaValueError(
            f"clusters begin with clients of their own, got a problem that starts with "
            f"{problem.clients.label(problem.start)}; leave start out, or form one chain"
        )
    try:
        allocation = cluster_allocation(**problem.cluster_arguments(), n_clusters=n_clusters, goal=goal)
    except InfeasibleError as error:
        raise _naming_clients(error, problem.clients) from None
    chains = [split(problem.among(clients_of(chain))) for chain in allocation.client_of_module]
    chains.sort(key=lambda chain: chain.objective_s)
    objective = together(tuple(chains), goal)
    bound = min(allocation.bound, objective) if goal == "slowest" else max(allocation.bound, objective)
    return Clusters(tuple(chains), goal, objective, bound, allocation.proof)


def _naming_clients(error: InfeasibleError, clients: Clients) -> InfeasibleError:
    """Return the error with the names of the clients where the solver has their numbers."""

    def labels(match: re.Match[str]) -> str:
        return ", ".join(clients.label(int(number)) for number in match[1].split(", "))

    text = str(error) if clients.name is None else re.sub(r"client(?:\(s\))? ((?:\d+, )*\d+)", labels, str(error))
    return InfeasibleError(text, error.violator, error.partners, error.bytes_needed)
