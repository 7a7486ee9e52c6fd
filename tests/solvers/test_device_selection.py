"""Devices that share a spectrum: against brute force, HiGHS, and by their own bound; and the rules to compare with."""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

import lola
from lola.solvers import device_selection, greedy_selection, knapsack, knapsack_tables

ROOT = Path(__file__).resolve().parents[2]
NEEDS = ("real", "tenths", "integers", "wide", "as the value", "huge", "tiny")


def instance(rng, n_devices, needs, largest=10**6):
    value = rng.integers(0, rng.choice([2, 8, 100, largest]), n_devices)
    need = {
        "real": lambda: rng.random(n_devices) + 1e-3,
        "tenths": lambda: rng.integers(1, 6, n_devices) * 0.1,
        "integers": lambda: rng.integers(1, 9, n_devices) * 1.0,
        "wide": lambda: np.exp(rng.normal(size=n_devices) * 7),
        "as the value": lambda: value * 1.1 + 0.1,
        "huge": lambda: rng.random(n_devices) * 1e45 + 1e43,
        "tiny": lambda: rng.random(n_devices) * 1e-45 + 1e-47,
    }[needs]()
    able = rng.random(n_devices) < 0.9
    budgets = [rng.random() * need.sum(), need.sum(), need.min() / 2, need[0] + need[-1], need.max()]
    return value, np.where(able, need, np.inf), float(rng.choice(budgets))


def check(value, need, bandwidth):
    """The devices fit, are worth what is said, and the price bounds all in exact numbers."""
    chosen = device_selection(value, need, bandwidth)
    chosen.verify(value, need, bandwidth)
    assert chosen.selected.dtype == np.int64
    assert math.fsum(need[chosen.selected]) <= bandwidth
    assert isinstance(chosen.objective, int)
    assert chosen.objective == value[chosen.selected].sum() <= chosen.upper_bound
    price = Fraction(chosen.price)
    beyond = [int(v) - price * Fraction(n) for v, n in zip(value, need, strict=True) if n <= bandwidth]
    assert price * Fraction(bandwidth) + sum(max(each, Fraction(0)) for each in beyond) < chosen.upper_bound + 1
    return chosen


def test_optimal_against_brute_force(instances):
    """5,000 of them with LOLA_TEST_FACTOR=20."""
    rng = np.random.default_rng(55)
    proven = beaten = 0
    for _ in range(instances(250)):
        value, need, bandwidth = instance(rng, int(rng.integers(1, 9)), rng.choice(NEEDS))
        chosen = check(value, need, bandwidth)
        assert chosen.objective == naive.most_value(value, need, bandwidth), (value, need, bandwidth)
        proven += chosen.objective == chosen.upper_bound
        greedy = greedy_selection(value / need, need, bandwidth)
        assert math.fsum(need[greedy]) <= bandwidth
        beaten += value[greedy].sum() < chosen.objective
    assert proven > 5
    assert beaten > 0


def test_optimal_against_somebody_elses_solver(instances):
    """HiGHS heeds the bandwidth to 1e-6 only; with integer needs, and half of one to spare, that is exact."""
    rng = np.random.default_rng(56)
    for number in range(instances(10)):
        n_devices = int(rng.integers(20, 100))
        value, need = rng.integers(0, 100, n_devices), rng.integers(1, 10_000, n_devices) * 1.0
        if number % 2:
            need = value + rng.integers(10, 20, n_devices) * 1.0  # strongly correlated: bounds say little
        bandwidth = float(rng.integers(1, int(need.sum()))) + 0.5
        answer = milp(
            -value.astype(float),
            constraints=LinearConstraint(need[None], -np.inf, bandwidth),
            integrality=1,
            bounds=Bounds(0.0, 1.0),
            options={"mip_rel_gap": 0.0},
        )
        assert answer.status == 0
        assert check(value, need, bandwidth).objective == round(-answer.fun)


def test_a_city_of_devices():
    rng = np.random.default_rng(57)
    value, need = rng.integers(0, 100, 20_000), rng.exponential(size=20_000) * 1e5
    chosen = device_selection(value, need, need.sum() / 10)
    chosen.verify(value, need, need.sum() / 10)
    assert chosen.objective == chosen.upper_bound


def test_the_greedy_rule_misses_the_bound_by_less_than_one_device(instances):
    """The article's "score times rate": less than one value below the bound, and that may be nearly all."""
    rng = np.random.default_rng(58)
    for _ in range(instances(100)):
        value, need, bandwidth = instance(rng, int(rng.integers(1, 25)), rng.choice(NEEDS))
        able = need <= bandwidth
        greedy = value[greedy_selection(value / need, need, bandwidth)].sum()
        bound = device_selection(value, need, bandwidth).upper_bound
        assert greedy > bound - value[able].max(initial=0) - 1 or not able.any()
    value, need = np.array([1, 100]), np.array([1.0, 101.0])
    assert greedy_selection(value / need, need, 101.0).tolist() == [0]
    assert device_selection(value, need, 101.0).selected.tolist() == [1]


def test_the_rules_on_drawn_fleets_have_the_part_of_the_optimum_that_the_theory_page_says():
    (*_, table) = (ROOT / "docs" / "theory.md").read_text().partition("| devices | bandwidth | score times rate |")
    rows = [row.strip("|").split("|") for row in table.splitlines()[2:5]]
    assert [row[0].strip() for row in rows] == ["8", "20", "100"]
    for n_devices, bandwidth, *parts in rows:
        rng, n, had = np.random.default_rng(0), int(n_devices), []
        for _ in range(200):
            rate, value = np.log2(1 + 10 * rng.exponential(size=n)), rng.integers(0, 60, n)
            need = 6.4e6 / (rate * rng.uniform(2, 8, n))
            hertz = float(bandwidth.split()[0]) * 1e6
            best = max(device_selection(value, need, hertz).objective, 1)
            chosen = (greedy_selection(priority, need, hertz) for priority in (value / need, value, rate))
            had.append([value[greedy].sum() / best for greedy in chosen])
        assert np.mean(had, axis=0).tolist() == pytest.approx([float(part) for part in parts], abs=0.02)


def test_greedy_by_other_priorities():
    need = [3.0, 1.0, 2.0, np.inf]
    assert greedy_selection([5, 1, 3, 9], need, 4.0).tolist() == [0, 1]
    assert greedy_selection([1 / 3, 1, 1 / 2, 0], need, 4.0).tolist() == [1, 2]
    assert greedy_selection([1, 1, 1, 1], need, 3.0).tolist() == [0]


def test_needs_are_added_up_exactly_and_rounded_once():
    """As math.fsum does: ten of 0.1 are 1, though one after the other they are less; 0.1 + 0.2 is more than 0.3."""
    assert device_selection([1] * 10, [0.1] * 10, 1.0).objective == 10
    assert device_selection([1, 1], [0.1, 0.2], 0.3).objective == 1
    assert device_selection([1, 1], [0.1, 0.2], 0.1 + 0.2).objective == 2
    assert device_selection([3, 1, 1], [1.0, 1e-17, 1e-17], 1.0).objective == 5  # what is lost in rounding fits


@pytest.mark.parametrize(
    "need, bandwidth",
    [([1e9, 1e19, 1e-14, 1e-49, 1e9], 1.0000000002e19), ([1e-23, 1e-26, 1e16, 1e16, 10.0], 20000000000000008.0)],
)
def test_needs_that_are_far_apart_are_added_up_exactly_too(need, bandwidth):
    """Two numbers hold 106 bits of a sum; of these needs one more bit decides what fits."""
    chosen = check(np.ones(5, np.int64), np.array(need), bandwidth)
    assert chosen.objective == naive.most_value([1] * 5, need, bandwidth)
    for priority in (np.arange(5), -np.arange(5)):
        assert math.fsum(np.array(need)[greedy_selection(priority, need, bandwidth)]) <= bandwidth


def test_optimal_where_a_bit_far_down_decides(instances):
    """The bandwidth is a sum of some needs, or lies between it and the next number, which ties decide."""
    rng, decided = np.random.default_rng(59), 0
    for _ in range(instances(100)):
        n = int(rng.integers(3, 8))
        need = 2.0 ** rng.choice([0, 52, 53, 53, -60, -120], n) * rng.choice([1.0, 1.0, 1.5], n)
        value = rng.integers(1, 4, n)
        bandwidth = math.fsum(need[rng.random(n) < 0.7]) or 1.0
        chosen = check(value, need, bandwidth)
        assert chosen.objective == naive.most_value(value, need, bandwidth), (value, need, bandwidth)
        decided += chosen.objective < chosen.upper_bound
    assert decided > 0


def test_nothing_fits_or_nothing_is_worth_anything():
    for value, need in (([5, 5], [2.0, np.inf]), ([0, 0], [0.5, 0.5])):
        chosen = device_selection(value, need, 1.0)
        assert (chosen.selected.tolist(), chosen.objective, chosen.upper_bound, chosen.price) == ([], 0, 0, 0.0)


small = st.integers(0, 2**32 - 1).map(
    lambda seed: instance(np.random.default_rng(seed), 1 + seed % 12, NEEDS[seed // 12 % len(NEEDS)], largest=30)
)


@settings(deadline=None, max_examples=60)
@given(small, st.randoms(use_true_random=False))
def test_permuting_devices_changes_nothing(problem, random):
    value, need, bandwidth = problem
    order = list(range(value.size))
    random.shuffle(order)
    permuted = device_selection(value[order], need[order], bandwidth)
    assert permuted.objective == device_selection(value, need, bandwidth).objective


@settings(deadline=None, max_examples=60)
@given(small, st.floats(1.0, 3.0))
def test_more_bandwidth_and_another_device_never_hurt(problem, factor):
    value, need, bandwidth = problem
    best = device_selection(value, need, bandwidth).objective
    assert device_selection(value, need, bandwidth * factor).objective >= best
    assert device_selection(np.append(value, 3), np.append(need, bandwidth), bandwidth).objective >= max(best, 3)


@settings(deadline=None, max_examples=60)
@given(small, st.integers(-10, 10), st.integers(1, 5))
def test_scaling_scales(problem, of_need, of_value):
    value, need, bandwidth = problem
    plain = device_selection(value, need, bandwidth)
    scaled = device_selection(value * of_value, need * 2.0**of_need, bandwidth * 2.0**of_need)
    assert scaled.objective == plain.objective * of_value


def test_what_was_tampered_with_is_told():
    value, need = np.array([7, 4, 4, 9]), np.array([3.0, 2.0, 2.0, np.inf])
    chosen = device_selection(value, need, 4.0)
    for message, change in (
        (r"selected: distinct devices are wanted, rising, got \[2 1\]", {"selected": np.array([2, 1])}),
        (r"selected: distinct devices are wanted, rising, got \[1 1\]", {"selected": np.array([1, 1])}),
        (r"selected: distinct devices are wanted, rising, got \[1 4\]", {"selected": np.array([1, 4])}),
        ("bandwidth: the devices need 5 Hz, more than 4.0", {"selected": np.array([0, 1])}),
        ("bandwidth: the devices need inf Hz, more than 4.0", {"selected": np.array([3])}),
        ("objective: the devices are worth 7, not 8", {"selected": np.array([0])}),
        ("price: must be finite and >= 0, got -0.5", {"price": -0.5}),
        ("price: must be finite and >= 0, got inf", {"price": np.inf}),
        ("price: must be finite and >= 0, got 1e.300", {"price": 1e300, "upper_bound": np.inf}),
        ("proof: a finite number was wanted, got inf", {"upper_bound": np.inf}),
        ("selected: it must be of int64, got float64", {"selected": np.array([1.0, 2.0])}),
        (r"selected: it has shape \(1, 2\), wanted \(2,\)", {"selected": np.array([[1, 2]])}),
        ("selected: it must be an array, got list", {"selected": [1, 2]}),
        ("proof: the price only shows 9, not 8", {"upper_bound": 8}),
        ("proof: the price only shows 15, not 9", {"price": 0.0}),
    ):
        with pytest.raises(lola.VerificationError, match=message):
            replace(chosen, **change).verify(value, need, 4.0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"value": [1.5, 2.0]}, "value must hold integers, got dtype float64; count in smaller units, and round"),
        ({"value": [1.0, np.inf]}, "value must hold integers, got dtype float64; count in smaller units, and round"),
        (
            {"value": [1.0, 2.0]},
            r"value must hold integers, got dtype float64; give them as integers, by astype\(int\)",
        ),
        ({"value": [[1], [1, 2]]}, "value must be an array of integers, one a device; numpy says"),
        ({"value": [1]}, r"value must have 2 entries, as many as need_hz; got shape \(1,\)"),
        ({"value": [[1, 2]]}, r"value must have 2 entries, as many as need_hz; got shape \(1, 2\)"),
        ({"value": [1, -1]}, r"value must be >= 0 with a sum up to 2\*\*53, got from -1 to 1; leave out devices"),
        ({"value": [1, 2**53]}, r"value must be >= 0 with a sum up to 2\*\*53, got from 1 to .*, or count in larger"),
        ({"need_hz": [1.0, 0.0]}, "need_hz must hold numbers > 0 .*, got 0.0 at index 1; correct it"),
        (
            {"need_hz": [np.nan, 1.0]},
            r"need_hz must hold numbers > 0 \(from .*, inf for a device that cannot\), got nan",
        ),
        ({"need_hz": [1.0, 1e60]}, r"need_hz must hold numbers > 0 \(from 1e-50 to 1e50, .* got 1e\+60 at index 1"),
        ({"need_hz": []}, r"need_hz must hold numbers > 0 .*, got none; correct it"),
        ({"need_hz": [[1.0]]}, r"need_hz must have 1 axis\(es\), got shape \(1, 1\)"),
        ({"bandwidth_hz": 0.0}, "bandwidth_hz must be finite and > 0, got 0.0"),
        ({"bandwidth_hz": "1 MHz"}, "bandwidth_hz must be a number, got str: '1 MHz'"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    asked = {"value": [1, 2], "need_hz": [1.0, 2.0], "bandwidth_hz": 2.0} | change
    with pytest.raises(lola.LolaError, match=message):
        device_selection(**asked)


def test_bad_priorities_are_refused():
    with pytest.raises(lola.LolaError, match="priority must hold 2 numbers, as many as need_hz, got 1, 0 of them NaN"):
        greedy_selection([1.0], [1.0, 2.0], 1.0)
    with pytest.raises(
        lola.LolaError, match="priority must hold 2 numbers, .*, got 2, 1 of them NaN; give each device"
    ):
        greedy_selection([1.0, np.nan], [1.0, 2.0], 1.0)


def test_few_devices_of_any_value_take_little_memory(monkeypatch):
    """Tables of totals of these would take gigabytes."""
    monkeypatch.setattr(knapsack, "MOST_BYTES", 24 << 8)
    value, need = [350_000_001, 200_000_000, 200_000_000], [3.0, 2.0, 2.0]
    assert device_selection(value, need, 4.0).selected.tolist() == [1, 2]
    rng = np.random.default_rng(58)
    for _ in range(20):
        value = rng.integers(10**14, 10**14 + 10**13, 8)
        need, bandwidth = value * 1.1 + rng.random(8), float(value.sum()) * 0.6
        assert check(value, need, bandwidth).objective == naive.most_value(value, need, bandwidth)


def test_exact_sums_of_needs_far_apart_take_more_memory_and_are_refused_too(monkeypatch):
    monkeypatch.setattr(knapsack, "MOST_BYTES", 1000)
    value, need = [350_000_001, 200_000_000, 200_000_000, 1], [3.0, 2.0, 2.0, 1e-3]
    assert device_selection(value, need, 4.001).selected.tolist() == [1, 2, 3]
    with pytest.raises(
        lola.LolaError, match="value: a table of 4 devices and .* may take at most 0.001 MB, got 0.00819"
    ):
        device_selection(value, [3.0, 2.0, 2.0, 1e-30], 4.0)


def test_sets_and_totals_give_the_same_devices(instances):
    """Of devices that are worth as much, those that need least, in either way."""
    rng = np.random.default_rng(57)
    for _ in range(instances(100)):
        n = int(rng.integers(1, 8))
        value, need = rng.integers(1, 6, n), rng.integers(1, 5, n) * 0.1
        start, bandwidth = 0.1 * rng.integers(0, 3), 0.1 * rng.integers(1, 3 * n)
        best, chosen = knapsack_tables.best_set(value, need, bandwidth, start, 0.0)
        other, of_table = knapsack_tables.least_need(value, need, bandwidth, start, 0.0, int(value.sum()))
        assert (best, chosen.tolist()) == (other, of_table.tolist())
        units, room = knapsack.in_units(np.append(need, start), bandwidth)
        exact, of_integers = knapsack_tables.least_need_in_integers(value.tolist(), units[:-1], room, units[-1])
        assert (best, chosen.tolist()) == (exact, of_integers.tolist())
    value, need = np.array([2, 1, 1]), np.array([1.0, 0.5, np.nextafter(0.5, 1.0)])  # both ways 1 Hz, once rounded
    for order in ([0, 1, 2], [2, 1, 0]):
        for devices, most in ((knapsack_tables.best_set, ()), (knapsack_tables.least_need, (4,))):
            best, chosen = devices(value[order], need[order], 1.0, 0.0, 0.0, *most)
            assert (best, np.array(order)[chosen].tolist()) == (2, [0])


def test_a_common_unit_of_values_makes_the_table_small():
    rng = np.random.default_rng(57)
    value = rng.integers(1, 50, 40)
    need = value + rng.integers(10, 20, 40) * 1.0
    plain, large = (device_selection(each, need, 500.0) for each in (value, value * 10**9))
    assert large.selected.tolist() == plain.selected.tolist()


@pytest.mark.parametrize("most_bytes, shown", [(10_000, "0.01"), (1_000_000, "1")])
def test_a_table_that_is_too_large_is_refused_before_it_is_made(monkeypatch, most_bytes, shown):
    """Values in proportion to needs, none of which fill the spectrum: any total may be the best."""
    monkeypatch.setattr(knapsack, "MOST_BYTES", most_bytes)
    value = 2 * np.random.default_rng(59).integers(1, 10_000, 40)
    most = int(value.sum()) // 4  # pairs of hertz, as values are even
    message = f"value: a table of 40 devices and {most + 1} totals may take at most {shown} MB, got .* MB; count value"
    with pytest.raises(lola.LolaError, match=f"{message} in larger"):
        device_selection(value, value * 1.0, float(2 * most + 1))
