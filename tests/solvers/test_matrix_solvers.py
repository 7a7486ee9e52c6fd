"""Min-sum and min-max assignment against brute force, scipy, and their own proofs."""

import gzip
import pickle
import time

import numba
import numpy as np
import pytest
from cases import MATRIX_FAMILIES, matrix
from naive import brute_force, check_hall, check_matching
from scipy.optimize import linear_sum_assignment

from lola.solvers import InfeasibleError, bottleneck_assignment, linear_assignment
from lola.solvers.monge import charge_rows
from lola.solvers.shortest_paths import UNFINISHED, is_proven, solve_at_once


def check_linear_duals(result, cost):
    """Primal equals dual, every reduced cost is non-negative, and the longer side's duals are at most 0."""
    u, v = result.row_dual, result.column_dual
    scale = np.abs(u).max() + np.abs(v).max()
    assert (cost - u[:, None] - v).min() >= -1e-13 * scale
    assert u.sum() + v.sum() == pytest.approx(result.objective, abs=1e-12 * (np.abs(u).sum() + np.abs(v).sum()))
    if cost.shape[0] < cost.shape[1]:
        assert (v <= 0).all()
    if cost.shape[0] > cost.shape[1]:
        assert (u <= 0).all()


def check_infeasible(error, cost):
    """The violator has fewer partners than members."""
    rows = cost if cost.shape[0] <= cost.shape[1] else cost.T
    partners = np.isfinite(rows[list(error.violator)]).any(axis=0).sum()
    assert partners == error.partners < len(error.violator)


@pytest.mark.parametrize("family", MATRIX_FAMILIES)
def test_small_matrices_match_brute_force(family, instances):
    rng = np.random.default_rng(MATRIX_FAMILIES.index(family))
    for _ in range(instances(2000)):
        n_rows, n_columns = rng.integers(1, 7, 2)
        cost = matrix(rng, n_rows, n_columns, family)
        if brute_force(cost, np.max) == np.inf:
            for solve in (linear_assignment, bottleneck_assignment):
                with pytest.raises(InfeasibleError, match="no assignment exists") as caught:
                    solve(cost)
                check_infeasible(caught.value, cost)
            continue
        linear, bottleneck = linear_assignment(cost), bottleneck_assignment(cost)
        best_sum = brute_force(cost, np.sum)
        magnitude = np.abs(check_matching(linear, cost)).sum()
        assert linear.objective == pytest.approx(best_sum, abs=1e-12 * magnitude)
        check_linear_duals(linear, cost)
        assert bottleneck.objective == brute_force(cost, np.max)
        assert check_matching(bottleneck, cost).max() == bottleneck.objective
        check_hall(cost if n_rows <= n_columns else cost.T, bottleneck.objective, bottleneck.hall_violator)


@pytest.mark.parametrize("family", MATRIX_FAMILIES)
@pytest.mark.parametrize("shape", [(60, 60), (12, 200), (200, 12), (1, 300), (90, 100)])
def test_larger_matrices_match_scipy(family, shape, instances):
    rng = np.random.default_rng(MATRIX_FAMILIES.index(family))
    for _ in range(instances(100) // 10):
        cost = matrix(rng, *shape, family)
        try:
            rows, columns = linear_sum_assignment(cost)
        except ValueError:
            with pytest.raises(InfeasibleError) as caught:
                linear_assignment(cost)
            check_infeasible(caught.value, cost)
            continue
        result = linear_assignment(cost)
        chosen = cost[rows, columns]
        assert result.objective == pytest.approx(chosen.sum(), abs=1e-12 * np.abs(chosen).sum())
        check_linear_duals(result, cost)


@pytest.mark.parametrize(
    "family", ["product", "of both signs", "heavy tails", "two scales", "offsets", "few speeds", "only where looked at"]
)
def test_shuffled_monge_matrices(family, instances):
    """Charges for the rows solve these at once, or, where the pairs looked at mislead, do no harm."""
    rng = np.random.default_rng(13)
    n = 140
    for _ in range(instances(200) // 20):
        rows, columns = {
            "of both signs": lambda: rng.normal(size=(2, n)),
            "heavy tails": lambda: 10.0 ** rng.uniform(-30, 30, (2, n)),
            "two scales": lambda: rng.uniform(1.0, 2.0, (2, n)) * rng.permuted([[1e-20, 1e20] * (n // 2)] * 2, axis=1),
            "few speeds": lambda: (rng.choice([0.5, 0.7, 1.0], n), rng.random(n)),
        }.get(family, lambda: rng.uniform(1.0, 2.0, (2, n)))()
        cost = np.multiply.outer(rows, columns)
        if family == "few speeds":
            cost += rng.random(n)
        if family == "offsets":  # the charges must leave the range of the chosen costs
            offset = 1e3 * rng.normal(size=n)
            cost += offset[np.argsort(np.argsort(rows))][:, None] - offset[np.argsort(np.argsort(-columns))]
        if family == "only where looked at":
            i, j = np.argsort(np.argsort(-rows))[:, None], np.argsort(np.argsort(columns))
            first = np.arange(n) % (n - 1) < 8
            looked_at = (np.abs(i - j) < 2) | (i % (n - 1) == 0) | (j % (n - 1) == 0) | first[:, None]
            cost = np.where(looked_at, cost, rng.random((n, n)))
            assert charge_rows(cost, np.empty(n))
        result = linear_assignment(cost)
        best = cost[linear_sum_assignment(cost)]
        assert result.objective == pytest.approx(best.sum(), rel=1e-12, abs=1e-12 * np.abs(best).sum())
        check_linear_duals(result, cost)
        if family not in ("few speeds", "only where looked at"):
            charges = np.empty(n)
            assert charge_rows(cost, charges)
            dual = charges.sum() + (cost - charges[:, None]).min(axis=0).sum()
            assert dual == pytest.approx(best.sum(), rel=1e-12, abs=1e-11 * np.abs(best).sum())
            assert result.iterations == 0 or family == "offsets"  # there, tight bounds leave ties
        if family in ("heavy tails", "two scales"):
            assert (cost - result.row_dual[:, None] - result.column_dual).min() >= -1e-12 * best.sum()


def nearly_monge(rng):
    """A matrix that some order makes nearly Monge, over up to 16 decades, with small costs where no charge looks."""
    n = int(rng.integers(129, 160))
    spread = 10.0 ** rng.uniform(0, 16)
    rising = np.linspace(0, 1, n) if rng.random() < 0.5 else np.sort(spread ** -rng.random(n))
    cost = np.multiply.outer(rising, rising[::-1]) * spread
    i, j = np.indices((n, n))
    low, high = np.minimum(i, j), np.maximum(i, j)
    hidden = (high - low > 1) & (low > 0) & (high < n - 1) & (high >= 8) & (low < n - 8)
    hidden &= rng.random((n, n)) < rng.choice([0.0, 0.002, 0.01, 0.1])
    cost[hidden] = rng.random(hidden.sum()) * 10.0 ** rng.choice([0.0, -8.0])
    return cost if rng.random() < 0.5 else np.ascontiguousarray(cost[::-1, ::-1])  # charges fall instead of rising


def check_against_scipy(cost):
    """Optimal, and primal equals dual, to 1e-11 of the optimum, however large the costs that are not chosen."""
    result = linear_assignment(cost)
    best = cost[linear_sum_assignment(cost)].sum()
    assert check_matching(result, cost).sum() == pytest.approx(best, rel=1e-11, abs=0)
    assert result.objective == pytest.approx(best, rel=1e-11, abs=0)
    assert result.row_dual.sum() + result.column_dual.sum() == pytest.approx(best, rel=1e-11, abs=0)
    excess = (result.row_dual[:, None] + result.column_dual - cost).max(axis=0)
    assert np.maximum(excess, 0.0).sum() <= 1e-11 * best
    return result


def test_charges_that_mislead_are_dropped(instances):
    """Charges can grow until small costs drown beside them; then they prove nothing, and are found out."""
    rng = np.random.default_rng(14)
    for _ in range(instances(1000)):
        cost = nearly_monge(rng)
        assert charge_rows(cost, np.empty(cost.shape[0]))
        check_against_scipy(cost)


@pytest.mark.parametrize(
    "duals, paths, proven",
    [
        ([1.0, 1.0, 0.0, 0.0], 1.0, True),
        ([2.5, 1.0, 0.0, -1.5], 1.0, False),  # primal equals dual, but a pair costs less than its duals
        ([1e5, 1.0, 0.0, 1.0 - 1e5], 0.0, False),  # too large to tell small costs apart
    ],
)
def test_proofs_of_assignments_are_judged(duals, paths, proven):
    cost = np.array([[2.0, 1.0], [1.0, 2.0]])
    assert is_proven(cost, np.array([1, 0]), np.array([2.0, paths, *duals])) == proven


def test_a_single_sign_of_the_contrary_stops_the_charges():
    rising = np.linspace(1.0, 2.0, 140)
    cost = np.multiply.outer(rising, rising[::-1])
    assert charge_rows(cost, np.empty(140))
    cost[70, 70] += 2e-3
    assert not charge_rows(cost, np.empty(140))


@pytest.mark.parametrize("largest", [1e9, 1e13, 1e16])
def test_small_costs_far_from_the_diagonal_of_a_monge_matrix(largest):
    n, rng = 150, np.random.default_rng(1)
    cost = np.multiply.outer(np.linspace(0, 1, n), np.linspace(1, 0, n)) * largest
    for i in range(1, n - 1):
        far = [j for j in range(1, n - 1) if abs(i - j) > 1 and not (i < 8 and j < 8)]
        cost[i, rng.choice(far, 12, replace=False)] = rng.uniform(0, 1, 12)
    assert check_against_scipy(cost).objective == pytest.approx(17.156038434661866, rel=1e-12)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="minutes uncompiled")
def test_what_takes_several_slices_is_one_solution():
    rng = np.random.default_rng(15)
    n = 600
    cost = np.multiply.outer(*rng.random((2, n))) + 1e-3 * rng.random((n, n))
    assert solve_at_once(cost, np.empty(n, np.int64), np.zeros(2 + 2 * n)) == UNFINISHED
    result = linear_assignment(cost)
    assert result.objective == pytest.approx(cost[linear_sum_assignment(cost)].sum(), rel=1e-12)
    assert 0.9 * n < result.iterations <= n  # of all slices together
    check_linear_duals(result, cost)
    cost[-2:, 1:] = np.inf
    with pytest.raises(InfeasibleError) as caught:
        linear_assignment(cost)
    check_infeasible(caught.value, cost)


def test_or_library_optima(shared_data):
    optima = {100: 305, 200: 475, 300: 626, 400: 804, 500: 991}
    for n, optimum in optima.items():
        if numba.config.DISABLE_JIT and n > 100:
            continue
        with gzip.open(shared_data / "assignment" / f"assign{n}.txt.gz", "rt") as file:
            values = np.array(file.read().split(), dtype=float)
        cost = values[1:].reshape(n, n)
        result = linear_assignment(cost)
        assert result.objective == optimum
        check_linear_duals(result, cost)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="a claim about the compiled kernel")
@pytest.mark.parametrize("costs", ["constant", "by depth", "uniform"])
def test_nested_graph_is_quick(costs):
    """Device k may take 1…c_k with c a permutation: one perfect matching, and the worst case of Hopcroft–Karp."""
    rng = np.random.default_rng(5)
    n = 1600
    base = {
        "constant": np.zeros((n, n)),
        "by depth": np.tile(np.arange(float(n)), (n, 1)),
        "uniform": rng.random((n, n)),
    }[costs]
    reach = rng.permutation(n) + 1
    cost = np.where(np.arange(n) < reach[:, None], base, np.inf)
    bottleneck_assignment(np.ones((2, 2)))
    start = time.perf_counter()
    result = bottleneck_assignment(cost)
    assert time.perf_counter() - start < 1.0
    assert (result.column_of_row == reach - 1).all()
    check_hall(cost, result.objective, result.hall_violator)


@pytest.mark.parametrize("solve", [linear_assignment, bottleneck_assignment])
def test_fortran_order_lists_and_integers_are_taken(solve):
    cost = np.random.default_rng(1).integers(0, 50, (6, 9))
    wanted = solve(cost.astype(float)).objective
    read_only = cost.astype(float)
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"?" + read_only.tobytes(), dtype=np.uint8)[1:].view(float).reshape(cost.shape)
    lists_and_layouts = (cost.tolist(), np.asfortranarray(cost), cost.astype(np.float32), cost[:, ::-1][:, ::-1])
    for same in (cost, read_only, unaligned, *lists_and_layouts):
        assert solve(same).objective == wanted


def test_huge_costs_do_not_drown_small_ones(instances):
    """Costs over sixty orders of magnitude: the answer is still the least sum, to rounding."""
    rng = np.random.default_rng(11)
    for _ in range(instances(3000)):
        n_rows, n_columns = rng.integers(2, 7, 2)
        cost = 10.0 ** rng.uniform(-30, 30, (n_rows, n_columns))
        assert linear_assignment(cost).objective == pytest.approx(brute_force(cost, np.sum), rel=1e-12, abs=0)


@pytest.mark.parametrize("n", [40, 140])
def test_huge_costs_do_not_drown_small_ones_in_larger_matrices(n, instances):
    """Both ways to find paths, for few columns and for many, keep the digits of the sum and of the proof."""
    rng = np.random.default_rng(12)
    for _ in range(instances(100) // 10):
        cost = 10.0 ** rng.uniform(-30, 30, (n, n))
        result = linear_assignment(cost)
        best = cost[linear_sum_assignment(cost)].sum()
        assert result.objective == pytest.approx(best, rel=1e-12, abs=0)
        assert (cost - result.row_dual[:, None] - result.column_dual).min() >= -1e-12 * best


def test_linear_assignment_is_read_only_and_pickles():
    cost = np.random.default_rng(2).random((7, 4))
    result = linear_assignment(cost)
    with pytest.raises(AttributeError):
        result.objective = 0.0
    copy = pickle.loads(pickle.dumps(result))
    assert copy.column_of_row.tolist() == result.column_of_row.tolist()
    assert repr(copy) == repr(result)
    check_linear_duals(copy, cost)


@pytest.mark.parametrize("solve", [linear_assignment, bottleneck_assignment])
@pytest.mark.parametrize(
    "cost, error, message",
    [
        ([[1.0, np.nan]], ValueError, r"cost must be finite .* or \+inf \(forbidden\), got nan at row 0, column 1"),
        ([[1.0, 2.0], [-np.inf, 2.0]], ValueError, "got -inf at row 1, column 0"),
        ([[1.0], [1e201]], ValueError, "got 1e[+]201 at row 1, column 0"),
        ([1.0, 2.0], ValueError, r"cost must have 2 axis\(es\), got shape \(2,\)"),
        (np.zeros((0, 3)), ValueError, "cost is empty"),
        (np.zeros((3, 0)), ValueError, "cost is empty"),
        (np.zeros((2, 2), dtype=complex), TypeError, "dtype complex128"),
        (np.zeros((2, 2), dtype=bool), TypeError, "dtype bool"),
        ([["a", "b"]], TypeError, "cost must hold real numbers"),
        ([[1.0], [1.0, 2.0]], TypeError, "rectangular array"),
        (None, TypeError, "cost must hold real numbers"),
        (np.ma.masked_equal([[1.0, 2.0]], 2.0), TypeError, "cost is a masked array; fill it first"),
    ],
)
def test_bad_matrices_are_refused(solve, cost, error, message):
    with pytest.raises(error, match=message):
        solve(cost)
