"""Row charges that solve a min-sum assignment at once where the matrix is a shuffled Monge matrix."""

import numpy as np

from lola.solvers._jit import kernel

_CORNER = 8  # a submatrix of such a matrix is one, too: random costs fail here already


@kernel
def charge_rows(cost, charges):
    """Fill `charges` with optimal row duals if some order of the rows and columns makes `cost` a Monge matrix.

    There, cost[i, j] + cost[k, l] ≤ cost[i, l] + cost[k, j] for i < k and j < l, as for compute times
    local_steps · latency_s[l] / speed[k]: slow devices take shallow blocks. False where a sign of the contrary is met.
    Only the pairs beside the chosen ones are looked at, so the charges are a guess, and `is_proven` must judge
    what comes of it; O(n log n) for an n × n matrix.
    """
    return _charge(cost[:_CORNER, :_CORNER].copy(), charges[:_CORNER]) and _charge(cost, charges)


@kernel
def _charge(cost, charges):
    """Do as `charge_rows` without a look at the corner; False if a sign of the contrary is met.

    The difference of two rows of a Monge matrix sorts its columns, as far as it differs, and that of two columns its
    rows (V. G. Deineko and V. L. Filonenko, 1979). Once sorted, the diagonal is optimal (A. J. Hoffman, "On simple
    linear programming problems", 1963), and the pairs beside it bound each step of the duals along it from both sides.
    """
    n = charges.size
    across = cost[0] - cost[n - 1]
    down = cost[:, np.argmin(across)] - cost[:, np.argmax(across)]
    across = cost[np.argmin(down)] - cost[np.argmax(down)]  # rows and columns from the ends differ most
    down = cost[:, np.argmin(across)] - cost[:, np.argmax(across)]
    rows, columns = np.argsort(down), np.argsort(across)
    charges[rows[0]] = 0.0
    for k in range(n - 1):
        i, j, next_i, next_j = rows[k], columns[k], rows[k + 1], columns[k + 1]
        low, high = cost[next_i, next_j] - cost[i, next_j], cost[next_i, j] - cost[i, j]
        limit = abs(cost[i, j]) + abs(cost[next_i, next_j])
        if not -1e-15 * limit <= high - low < np.inf:  # no for NaN
            return False
        step = min(max((low + high) / 2.0, -limit), limit)  # duals above the optimum would drown small costs
        charges[next_i] = charges[i] + min(max(step, low), high)
    return True
