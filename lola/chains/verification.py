"""An independent check of a chain: comparisons and sums, no solver."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from lola.chains.problem import ChainProblem
from lola.chains.times import ChainTimes, chain_times, module_runs, objective_s
from lola.proofs.checks import ROUNDING
from lola.solvers.chain_proofs import ChainProof
from lola.solvers.checks import FloatArray, IntArray, check_array, expect, require

if TYPE_CHECKING:
    from lola.chains.chain import Chain

_log = logging.getLogger(__name__)


def verify(chain: Chain, problem: ChainProblem) -> None:
    """Check a chain against a problem, line by line, and then the proof.

    Raises
    ------
    VerificationError
        Naming the first line that fails.
    TypeError
        If `problem` is none.
    """
    expect("problem", problem, ChainProblem)
    check_array("shape", "client_of_module", chain.client_of_module, np.int64, problem.n_modules)
    _check_split(chain.client_of_module, problem)
    _check_times(chain, problem)
    _check_bound(chain, problem)
    _log.info("verified %s", chain)


def _check_split(client_of_module: IntArray, problem: ChainProblem) -> None:
    clients = problem.clients
    inside = (client_of_module >= 0) & (client_of_module < problem.n_clients)
    require(inside.all(), "clients", f"no client has index {client_of_module[~inside][:1]}")
    runs = module_runs(client_of_module)
    taken = [int(client_of_module[run.start]) for run in runs]
    require(len(set(taken)) == len(taken), "one stage a client", "the modules of a client are no neighbours")
    if problem.start is not None:
        require(taken[0] == problem.start, "start", f"is client {taken[0]}, and the problem wants {problem.start}")
    require(taken[0] in problem.starts, "start", f"client {taken[0]} holds no training data")
    if problem.order is not None:
        places = [problem.order.index(k) if k in problem.order else -1 for k in taken]
        require(min(places) >= 0, "order", "a client takes part that is not in the problem's order")
        require(places == sorted(places), "order", "the clients appear in another order than the problem's")
    for client, run in zip(taken, runs, strict=True):
        needed, offered = problem.stage_bytes[run.start, run[-1]], clients.memory_bytes[client]
        require(
            needed <= offered * (1 + ROUNDING),
            "memory",
            f"modules {run.start} to {run.stop - 1} need {needed:.6g} bytes, client {client} offers {offered:.6g}",
        )


def _check_times(chain: Chain, problem: ChainProblem) -> None:
    require(isinstance(chain.times, ChainTimes), "times", f"must be ChainTimes, got {type(chain.times).__name__}")
    wanted = chain_times(problem, chain.client_of_module)
    hint = "is this the problem that was solved?"
    require(np.isfinite(wanted.stations()).all(), "links", "a hop goes where there is no link, or none leads back")
    for name in ("forward_s", "backward_s", "hop_s", "return_s"):
        value, computed = getattr(chain.times, name), getattr(wanted, name)
        check_array(name, name, value, np.float64, computed.size)
        require(_close(value, computed), name, f"is {value.tolist()}, not {computed.tolist()}; {hint}")
    require(
        chain.micro_batches == problem.micro_batches,
        "micro_batches",
        f"is {chain.micro_batches!r}, and the problem has {problem.micro_batches}; {hint}",
    )
    computed_s = {
        "latency_s": wanted.batch_s(problem.micro_batches),
        "objective_s": objective_s(problem, chain.client_of_module, wanted),
    }
    for name, number in {"ring_s": wanted.ring_s, **computed_s}.items():
        value = chain.times.ring_s if name == "ring_s" else getattr(chain, name)
        require(isinstance(value, float), name, f"must be a float, got {type(value).__name__}")
        require(_close(np.float64(value), number), name, f"is {value:.17g}, not {number:.17g}; {hint}")


def _check_bound(chain: Chain, problem: ChainProblem) -> None:
    bound = chain.lower_bound_s
    require(isinstance(bound, float), "bound", f"must be a float, got {type(bound).__name__}")
    require(0 <= bound <= chain.objective_s * (1 + ROUNDING), "bound", f"{bound!r} is above what it bounds, or none")
    # Of this very class: a subclass could bring a check of its own.
    require(type(chain.proof) is ChainProof, "proof", f"a ChainProof was wanted, got {type(chain.proof).__name__}")
    chain.proof.check(bound, **problem.solver_arguments())


def _close(value: FloatArray | np.float64, wanted: FloatArray | float) -> bool:
    return bool((np.abs(value - wanted) <= ROUNDING * np.abs(wanted)).all())
