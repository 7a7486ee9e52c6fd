"""Independent answers to (P1), (P2), (P3) and chains from OR-Tools, HiGHS and SCIP; needs the extra ``oracle``.

Slow and general where lola is fast and special: they share the checks of arguments with the solvers they judge, but no
search and no theorem.
"""

from lola.solvers.oracle.answer import OracleAnswer, Status
from lola.solvers.oracle.assignments import bottleneck_milp, equal_split_matrix, joint_bisection, matrices
from lola.solvers.oracle.chains import chain_cp
from lola.solvers.oracle.cone import joint_misocp
from lola.solvers.oracle.segments import segment_milp

__all__ = [
    "OracleAnswer",
    "Status",
    "bottleneck_milp",
    "chain_cp",
    "equal_split_matrix",
    "joint_bisection",
    "joint_misocp",
    "matrices",
    "segment_milp",
]
