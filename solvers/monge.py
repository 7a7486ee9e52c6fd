"""Row charges that solve a min-sum assignment at once where the matrix is a shuffled Monge matrix."""

import numpy as np
from lola.solvers._jit import kernel

_CORNER = 8  # a submatrix of such a matrix is one, too: random costs fail here already
_DOUBT = 1e-12  # of the sum of the chosen costs' magnitudes; roundings of duals that help take a tenth at most
_EPSILON = float(np.finfo(np.float64).eps)


@kernel
def charge_rows(cost, charges):
    """Fill `charges` with optimal row duals if some order of the rows and columns makes `cost` a Monge matrix.

    There, cost[i, j] + cost[k, l] ≤ cost[i, l] + cost[k, j] for i < k and j < l, as for compute times
    local_steps · latency_s[l] / speed[k]: slow devices take shallow blocks. False where a sign of the contrary is met.
    Only the pairs beside the chosen ones are looked at, so the charges are a guess, and `are_optimal` must judge
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


@kernel
def are_optimal(cost, row_mate, row_dual, column_dual, after_paths):
    """Tell whether the duals prove the assignment of a square matrix optimal, to 1e-12 of the costs it chooses.

    Each row's dual is its chosen cost less the column's dual. So primal and dual differ by the roundings of the duals,
    and by what pairs lack: any assignment uses a column once, so it saves no more than each column's worst excess of
    the duals over a cost. The column reduction leaves none beyond rounding; after paths it is looked for, in O(n²).
    """
    n = row_mate.size
    scale = doubt = 0.0
    for i in range(n):
        scale += abs(cost[i, row_mate[i]])
        doubt += 2.0 * _EPSILON * (abs(row_dual[i]) + abs(column_dual[i]))
    if after_paths and doubt <= _DOUBT * scale:
        worst = np.zeros(n)
        for i in range(n):
            row, dual = cost[i], row_dual[i]
            for j in range(n):
                excess = dual + column_dual[j] - row[j]
                worst[j] = excess if excess > worst[j] else worst[j]
        doubt += worst.sum()
    return doubt <= _DOUBT * scale
