"""One rank for all blocks by a deadline: which fits at most, by assignments of least needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.deadline_options import DeadlineInputs, deadline_inputs, least_bandwidth, total
from lola.solvers.errors import InfeasibleError
from lola.solvers.shortest_augmenting_path import linear_assignment


def uniform_deadline_rank(
    gain: ArrayLike,
    compute_s: ArrayLike,
    rank_bits: ArrayLike,
    fixed_bits: ArrayLike,
    spectral_efficiency: ArrayLike,
    bandwidth_hz: float,
    deadline_s: float,
    *,
    equal_bandwidth: bool = False,
) -> int:
    """Return the largest rank that all blocks can have alike for a round to end by a deadline; 0 if not even 1 fits.

    Takes what `lola.solvers.deadline_ranks` does; of the gains only how many there are counts. More ranks upload more,
    so what fits, fits with fewer: O(log R) assignments.
    """
    inputs = deadline_inputs(
        gain, compute_s, rank_bits, fixed_bits, spectral_efficiency, bandwidth_hz, deadline_s, 0, equal_bandwidth
    )
    fits, too_many = 0, inputs.worth.shape[1]
    while too_many - fits > 1:
        between = (fits + too_many) // 2
        if _fits(inputs, between):
            fits = between
        else:
            too_many = between
    return fits


def _fits(inputs: DeadlineInputs, rank: int) -> bool:
    """Say whether devices can be assigned to all blocks so that their least needs fit into the bandwidth."""
    n_blocks, n_devices = inputs.compute.shape
    if n_blocks > n_devices:  # any rank > 0 uploads something
        return False
    bits = np.broadcast_to(inputs.bits[:, rank, None], inputs.compute.shape)
    efficiency = np.broadcast_to(inputs.efficiency, inputs.compute.shape)
    need = np.full(inputs.compute.shape, np.inf)
    able = inputs.compute < inputs.deadline
    if inputs.equal:
        need[able & (inputs.compute + bits / inputs.share / efficiency <= inputs.deadline)] = 0.0
    else:
        need[able] = least_bandwidth(inputs.compute[able], bits[able], efficiency[able], inputs.deadline)
        need[need > inputs.bandwidth] = np.inf
    try:
        device = linear_assignment(need).column_of_row
    except InfeasibleError:
        return False
    return total(need[np.arange(n_blocks), device]) <= inputs.bandwidth
