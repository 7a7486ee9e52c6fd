"""Hold a schedule against an independent solver; needs the extra ``oracle``."""

import math
from typing import Literal

from lola.cli.common import MISOCP_SIZE
from lola.cli.tables import seconds
from lola.methods import method_named
from lola.problem import Problem, round_latency_s
from lola.solution import Schedule
from lola.solvers.errors import LolaValueError, TimeLimitError, VerificationError

# What the oracles themselves are good for.
_AGREEMENT = 1e-6


def ask(oracle: Literal["milp", "misocp"], schedule: Schedule, problem: Problem, time_limit_s: float) -> str:
    """Solve the schedule's problem again by an oracle, and return in a line how the two compare.

    Parameters
    ----------
    oracle : {"milp", "misocp"}
        OR-Tools: the bottleneck assignment, or for joint methods a bisection over assignments, or a descent over
        selections of segments. SCIP: the cone program.
    schedule, problem
        What to check. The schedule should be verified already.
    time_limit_s : float

    Raises
    ------
    VerificationError
        If the oracle proves another optimum than an exact method's, or a better one than the bound of any method.
    ImportError
        If the oracle's packages are missing.
    TimeLimitError
        If the oracle gave no proven answer in time.
    ValueError
        If the oracle cannot solve this problem, or gave up.
    """
    from lola.solvers import oracle as oracles

    method = method_named(schedule.method)
    if method.proof is None:
        raise LolaValueError(f"{schedule.method} claims nothing that an oracle could check; use another method")
    arguments = problem.solver_arguments()
    if oracle == "misocp":
        if problem.max_blocks != 1:
            raise LolaValueError("the oracle 'misocp' gives a device one block, not several (max_blocks); use 'milp'")
        if not method.joint or problem.subcarrier_hz is not None:
            raise LolaValueError("the oracle 'misocp' solves (P2) with divisible bandwidth; use 'milp'")
        answer = oracles.joint_misocp(**arguments, time_limit_s=time_limit_s)
    elif problem.max_blocks != 1:
        answer = oracles.segment_milp(
            **arguments,
            **problem.segment_arguments(),
            subcarrier_hz=problem.subcarrier_hz,
            solver="ortools",
            time_limit_s=time_limit_s,
        )
    elif method.joint:
        answer = oracles.joint_bisection(**arguments, subcarrier_hz=problem.subcarrier_hz, time_limit_s=time_limit_s)
    else:
        answer = oracles.bottleneck_milp(oracles.equal_split_matrix(**arguments), time_limit_s=time_limit_s)
    if answer.status is oracles.Status.INFEASIBLE:
        raise VerificationError(f"oracle: {oracle} says that there is no schedule at all")
    if answer.status is oracles.Status.TIME_LIMIT:
        here = f"a minute is enough for about {MISOCP_SIZE}, and here are {problem.n_devices} and {problem.n_blocks}"
        size = f": {here}, or ask 'milp'" if oracle == "misocp" else ""
        raise TimeLimitError(
            f"the oracle '{oracle}' has no proven answer: {answer.status.value} (--time-limit-s){size}"
        )
    if answer.status is not oracles.Status.OPTIMAL:
        raise LolaValueError(f"the oracle '{oracle}' has no proven answer: {answer.status.value}")
    # What follows the broadcast, beside which the rest may be nothing.
    optimum, slowest = answer.objective, float(round_latency_s(schedule.compute_s, schedule.upload_s))
    claimed = (
        schedule.latency_s - problem.broadcast_s + math.ulp(schedule.latency_s)
    )  # what the sum may have rounded off
    bound, whole = schedule.lower_bound_s - problem.broadcast_s, seconds(problem.broadcast_s + optimum)
    if optimum < bound * (1 - _AGREEMENT):
        raise VerificationError(f"oracle: {oracle} found {whole}, below the bound {schedule.lower_bound_s!r}")
    if method.exact and optimum > min(slowest, claimed) * (1 + _AGREEMENT):
        raise VerificationError(f"oracle: {oracle} says that nothing is below {whole}, but the schedule is")
    apart = slowest / optimum - 1
    return f"oracle {oracle}: {whole} in {answer.seconds:.1f} s, {apart:+.1e} from it"
