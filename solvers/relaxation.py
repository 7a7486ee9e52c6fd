"""The limit of dual ascent: the best bound that Lagrange multipliers can give; needs the extra ``oracle``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._inputs import allocation_inputs
from lola.solvers._optional import optional
from lola.solvers.errors import LolaValueError
from lola.solvers.oracle import matrices


def lagrangian_bound(*arguments: ArrayLike, **keywords: Any) -> float:
    """Compute the best bound that any multipliers can give `dual_ascent`, as a cone program (cvxpy with Clarabel).

    Parameters
    ----------
    *arguments, **keywords
        Those of `joint_allocation`.

    Returns
    -------
    float
        Seconds. (P2) with fractional assignments α, where a device involved by β_k = Σ_l α_kl needs
        β_k²·S/(B_k·r_k) for its upload.

    Raises
    ------
    ImportError, TypeError, ValueError
        If cvxpy is missing, or an argument is not as described.

    Examples
    --------
    >>> from lola.solvers import lagrangian_bound
    >>> fleet = {"speed": [0.5, 1.0, 0.8], "memory_bytes": [3e9, 2e9, 1e9], "spectral_efficiency": [4.0, 2.0, 1.0]}
    >>> round(lagrangian_bound([0.8, 1.2], [1e9, 2e9], 8e5, **fleet, bandwidth_hz=1e6), 2)
    1.49
    """
    inputs = allocation_inputs(*arguments, **keywords)
    cvxpy = optional("cvxpy")
    if (inputs.bits != inputs.bits[0]).any():
        raise LolaValueError("upload_bits must be the same for every block, as in dual ascent")
    compute, load = matrices(inputs)
    possible = np.isfinite(compute)
    if not possible.any(axis=1).all():
        raise LolaValueError(
            "a block has no device with the memory it needs, so there is no bound; see joint_allocation"
        )
    unit = float((compute + load / (inputs.bandwidth / inputs.n_blocks))[possible].max())
    compute, load = np.where(possible, compute, 0.0) / unit, load[0] / unit / inputs.bandwidth
    share, latency = cvxpy.Variable(inputs.n_devices, nonneg=True), cvxpy.Variable()
    assigned = cvxpy.Variable(compute.shape, nonneg=True)
    involved = cvxpy.sum(assigned, axis=0)
    left = latency - cvxpy.sum(cvxpy.multiply(assigned, compute), axis=0)
    constraints = [cvxpy.sum(assigned, axis=1) == 1, involved <= 1, cvxpy.sum(share) <= 1]
    constraints += [cvxpy.multiply(assigned, ~possible) == 0]
    constraints += [
        cvxpy.quad_over_lin(math.sqrt(load[k]) * involved[k], share[k]) <= left[k] for k in range(inputs.n_devices)
    ]
    problem = cvxpy.Problem(cvxpy.Minimize(latency), constraints)
    problem.solve(solver=cvxpy.CLARABEL)
    if problem.status != cvxpy.OPTIMAL:
        raise LolaValueError(f"the cone program has no proven answer: {problem.status}")
    return float(latency.value) * unit
