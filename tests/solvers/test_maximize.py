"""`linear_assignment(maximize=True)` against scipy's, exactly, and against its own proof."""

import numpy as np
import pytest
from cases import MATRIX_FAMILIES, matrix
from naive import check_matching
from scipy.optimize import linear_sum_assignment

from lola.solvers import InfeasibleError, linear_assignment


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (5, 30), (30, 5), (70, 70)])
def test_whole_numbers_give_what_scipy_gives(shape, instances):
    rng = np.random.default_rng(shape[1])
    for _ in range(instances(100) // 4):
        gain = rng.integers(-9, 10, shape).astype(float)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        found = linear_assignment(gain, maximize=True)
        assert found.objective == gain[rows, columns].sum()
        assert check_matching(found, gain).sum() == found.objective
        assert linear_assignment(gain.tolist(), True).objective == found.objective


@pytest.mark.parametrize("family", MATRIX_FAMILIES)
@pytest.mark.parametrize("shape", [(20, 20), (6, 40), (40, 6)])
def test_the_duals_bound_from_above(family, shape, instances):
    rng = np.random.default_rng(MATRIX_FAMILIES.index(family))
    for _ in range(instances(100) // 4):
        gain = -matrix(rng, *shape, family)
        try:
            rows, columns = linear_sum_assignment(gain, maximize=True)
        except ValueError:
            with pytest.raises(InfeasibleError, match="no assignment exists"):
                linear_assignment(gain, maximize=True)
            continue
        found = linear_assignment(gain, maximize=True)
        chosen = gain[rows, columns]
        u, v = found.row_dual, found.column_dual
        assert found.objective == pytest.approx(chosen.sum(), abs=1e-12 * np.abs(chosen).sum())
        assert (gain - u[:, None] - v).max() <= 1e-13 * (np.abs(u).max() + np.abs(v).max())
        assert u.sum() + v.sum() == pytest.approx(found.objective, abs=1e-12 * (np.abs(u).sum() + np.abs(v).sum()))
        if shape[0] != shape[1]:
            assert ((v if shape[0] < shape[1] else u) >= 0).all()
        lowest = linear_assignment(-gain)
        assert (found.objective, found.iterations) == (-lowest.objective, lowest.iterations)


def test_minus_infinity_forbids_and_nothing_is_a_negative_zero():
    gain = np.array([[-np.inf, 0.0], [0.0, 5.0]])
    found = linear_assignment(gain, maximize=True)
    assert found.column_of_row.tolist() == [1, 0]
    assert not np.signbit(found.objective)
    assert gain[0, 0] == -np.inf  # left as it was
    with pytest.raises(ValueError, match=r"cost must be finite .* or -inf \(forbidden\), got inf at row 0, column 1"):
        linear_assignment([[1.0, np.inf]], maximize=True)
    with pytest.raises(ValueError, match=r"or \+inf \(forbidden\), got -inf at row 0, column 0"):
        linear_assignment([[-np.inf, 1.0]])
