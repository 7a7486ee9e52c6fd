"""The blocks that an emulator keeps: the cheapest path of so many hops from the input to the output."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers._jit import kernel
from lola.solvers.checks import (
    LARGEST,
    FloatArray,
    IntArray,
    check_array,
    check_number,
    frozen,
    positive_integer,
    real_array,
    require,
)
from lola.solvers.errors import InfeasibleError, LolaValueError

# Sums of the same numbers in another order may differ by so much.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class EmulatorLayers:
    """An emulator of least distortion, and its proof.

    Attributes
    ----------
    kept : (n_kept,) int64 array
        Blocks, rising; 1 is the one nearest the input.
    objective : float
        The sum of the hops' distortions.
    potential : (n_kept + 2, L + 2) float64 array
        The least distortion of so many hops (row) from the input to a node (column); infinite where none lead there.
        It rises over no hop by more than that distorts: the proof.
    """

    kept: IntArray
    objective: float
    potential: FloatArray

    def verify(self, distortion: ArrayLike) -> None:
        """Check by comparisons and sums that this emulator is as good as it says, and that none is better.

        Parameters
        ----------
        distortion : (L + 1, L + 1) array_like
            As given to `emulator_layers`.

        Raises
        ------
        VerificationError
            If anything does not hold, to 1e-12 of the objective; the message says what.
        TypeError, ValueError
            If `distortion` is not as described.
        """
        cost = _hops(distortion)
        check_array("kept", "it", self.kept, np.int64, None)
        n_nodes, n_kept = cost.shape[0] + 1, self.kept.shape[0]
        check_array("proof", "potential", self.potential, np.float64, (n_kept + 2, n_nodes))
        check_number("objective", self.objective)
        path = np.concatenate([[0], self.kept, [n_nodes - 1]])
        require((np.diff(path) > 0).all(), "kept", f"blocks must rise from 1 to {n_nodes - 2}, got {self.kept}")
        total = math.fsum(cost[path[:-1], path[1:] - 1])
        holds = total < np.inf and abs(total - self.objective) <= _ROUNDING * total
        require(holds, "objective", f"the hops distort by {total:.17g}, not {self.objective:.17g}")
        started = self.potential[0, 0] <= 0.0 and (self.potential[0, 1:] <= np.inf).all()
        require(started, "proof", "the potential of the input is above 0, or one is none")
        for hop, before in enumerate(self.potential[:-1]):
            # NaN fails every comparison; a rounded sum of two is enough, as 1e-12 pays for all roundings.
            limit = np.min(before[:-1, None] + cost, axis=0)
            holds = (self.potential[hop + 1, 1:] <= limit).all()
            require(holds, "proof", f"a potential rises over hop {hop + 1} by more than it distorts")
        least = self.potential[-1, -1]
        holds = least >= self.objective * (1 - _ROUNDING)
        require(holds, "proof", f"the potentials only show {least:.17g}, not {self.objective:.17g}")


def emulator_layers(distortion: ArrayLike, n_kept: int) -> EmulatorLayers:
    """Choose which blocks of a model an emulator keeps, so that what skipping the others distorts is least in all.

    Parameters
    ----------
    distortion : (L + 1, L + 1) array_like
        Entry [i, j − 1], for 0 <= i < j <= L + 1, is what it costs to feed block i's output straight to j, skipping
        what is between: 0 is the input, 1 … L are blocks, L + 1 is the output; at least 0, and infinite where that may
        not be. What is below the diagonal is not looked at.
    n_kept : int
        How many blocks stay, from 1 to L.

    Returns
    -------
    EmulatorLayers
        Of equal ones that whose last block is nearest the input, then its last but one, and so on.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    InfeasibleError
        If no hops that are allowed lead to the output with so many blocks; the message says with how many they do.

    Notes
    -----
    Dynamic programming over hops and nodes, O(L²·n_kept): after h hops at j the least distortion is φ(h, j) = min over
    i < j of φ(h − 1, i) + distortion[i, j − 1]. See "Emulators" in ``lola docs theory``. Emulators are those of Xiao,
    Lin and Han, "Offsite-tuning" (2023), who drop blocks evenly.

    Examples
    --------
    >>> from lola.solvers import emulator_layers
    >>> emulator = emulator_layers([[0, 5, 9], [0, 0, 1], [0, 0, 0]], 1)  # of two blocks one: skip the second
    >>> emulator.kept.tolist(), emulator.objective
    ([1], 1.0)
    """
    cost = _hops(distortion)
    n_blocks = cost.shape[0] - 1
    kept = positive_integer("n_kept", n_kept)
    if kept > n_blocks:
        raise LolaValueError(f"n_kept must be at most {n_blocks}, as many as there are blocks; got {kept}; keep fewer")
    potential, before = _potentials(cost, kept + 1)
    if potential[-1, -1] == np.inf:
        raise _infeasible(cost, kept)
    path = np.empty(kept + 2, np.int64)
    path[-1] = n_blocks + 1
    for hop in range(kept + 1, 0, -1):
        path[hop - 1] = before[hop, path[hop]]
    objective = math.fsum(cost[path[:-1], path[1:] - 1])
    return EmulatorLayers(frozen(path[1:-1]), objective, frozen(potential))


def _hops(distortion: ArrayLike) -> FloatArray:
    """Validate what hops distort, and forbid those that lead back."""
    cost = real_array("distortion", distortion, 2).copy()
    size = cost.shape[0]
    if cost.shape != (size, size) or size < 2:
        raise LolaValueError(
            f"distortion must have shape (L + 1, L + 1) for L >= 1 blocks, from input and blocks to blocks and output; "
            f"got {cost.shape}; give each block a row and a column"
        )
    cost[np.tri(size, k=-1, dtype=np.bool_)] = np.inf
    outside = ~((cost >= 0) & (cost <= LARGEST) | (cost == np.inf))
    if outside.any():
        i, j = np.argwhere(outside)[0]
        shifted = ", or add the same number to all: each emulator has as many hops" if -np.inf < cost[i, j] < 0 else ""
        raise LolaValueError(
            f"distortion must be >= 0 (up to 1e50, or inf where a hop may not be), got {cost[i, j]} at "
            f"[{i}, {j}]; correct it{shifted}"
        )
    return cost


def _infeasible(cost: FloatArray, n_kept: int) -> InfeasibleError:
    potential, _ = _potentials(cost, cost.shape[0])
    possible = np.flatnonzero(potential[1:, -1] < np.inf).tolist()
    others = (
        f"with {', '.join(map(str, possible))} kept there is one" if possible else "no other number can be kept either"
    )
    return InfeasibleError(
        f"no emulator exists: no hops that are allowed lead from the input to the output over {n_kept} block(s); "
        f"{others}; keep another number, or allow more hops (a finite distortion).",
        (),
        0,
    )


@kernel
def _potentials(cost, n_hops):
    """Fill in the least cost of so many hops to each node, and the node before it, −1 where there is none.

    Parameters
    ----------
    cost : (L + 1, L + 1) float64
        From node (row) to node (column + 1).
    n_hops : int

    Returns
    -------
    potential : (n_hops + 1, L + 2) float64
    before : (n_hops + 1, L + 2) int64
    """
    n_nodes = cost.shape[0] + 1
    potential = np.full((n_hops + 1, n_nodes), np.inf)
    before = np.full((n_hops + 1, n_nodes), -1, np.int64)
    potential[0, 0] = 0.0
    for hop in range(1, n_hops + 1):
        # Row by row, as the matrix lies in memory; a strict comparison keeps the first of equal ones.
        for i in range(hop - 1, n_nodes - 1):
            reached = potential[hop - 1, i]
            if reached == np.inf:
                continue
            for j in range(i + 1, n_nodes):
                total = reached + cost[i, j - 1]
                if total < potential[hop, j]:
                    potential[hop, j] = total
                    before[hop, j] = i
    return potential, before
