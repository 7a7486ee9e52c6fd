"""What the introduction works out by hand is what lola finds for the same three phones."""

import itertools

import numpy as np
import pytest
from pages import blocks, tables, text

import lola

PAGE = "docs/introduction.md"
TABLES = tables(PAGE)


@pytest.fixture(scope="module")
def problem():
    """Return the problem of the page's own code."""
    (body,) = (body for language, body in blocks(PAGE) if language == "python" and '"ann"' in body)
    names = {}
    exec(compile(body, "a page", "exec"), names)
    return names["problem"]


def numbers(rows):
    """Return cells as numbers without their units, NaN where there is a dash."""
    return [[np.nan if cell == "–" else float(cell.strip("*").split()[0]) for cell in row] for row in rows]


def without_names(heading):
    (rows,) = TABLES[heading]
    assert [row[0] for row in rows] == ["ann", "bob", "cem"]
    return numbers([row[1:] for row in rows])


def rounded(table, possible):
    return np.where(possible, np.round(table, 2), np.nan)


@pytest.fixture(scope="module")
def parts(problem):
    """Return seconds of computation, seconds of upload over a hertz, and whether there is the memory, (3, 3) each."""
    compute = problem.local_steps * problem.profile.latency_s / problem.fleet.speed[:, None]
    load = problem.profile.upload_bits / problem.fleet.spectral_efficiency[:, None]
    return compute, load, problem.fleet.memory_bytes[:, None] >= problem.profile.memory_bytes


def best_finish(compute, load, bandwidth_hz):
    """Return when an allocation ends with the best shares, by bisection."""
    low, high = compute.max(), 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (load / (middle - compute)).sum() > bandwidth_hz else (low, middle)
    return high


def test_the_phones_and_depths_are_those_of_the_code(problem):
    fleet, profile = problem.fleet, problem.profile
    phones = np.transpose(without_names("phone"))
    np.testing.assert_array_equal(phones, [fleet.speed, fleet.memory_bytes / 1e9, fleet.spectral_efficiency])
    (rows,) = TABLES["depth"]
    depths = np.transpose(numbers(rows))
    costs = [[1, 2, 3], profile.memory_bytes / 1e9, profile.latency_s, profile.upload_bits / 1e6]
    np.testing.assert_array_equal(depths, costs)
    assert (f"{problem.local_steps} batches", f"{problem.bandwidth_hz / 1e6:g} MHz") == ("10 batches", "6 MHz")
    assert "A round has 10 batches, and 6 MHz of spectrum." in text(PAGE)


def test_computation_and_totals_are_right(problem, parts):
    compute, load, possible = parts
    np.testing.assert_array_equal(without_names("compute"), rounded(compute, possible))
    total = compute + load / (problem.bandwidth_hz / problem.n_blocks)
    np.testing.assert_array_equal(without_names("total"), rounded(total, possible))


def test_all_four_ways_are_listed_with_their_latencies_and_the_best_are_marked(problem, parts):
    compute, load, possible = parts
    depths, share = np.arange(3), problem.bandwidth_hz / problem.n_blocks
    wanted, devices = [], []
    for way in map(list, itertools.permutations(range(3))):
        if possible[way, depths].all():
            computes, loads = compute[way, depths], load[way, depths]
            latencies = (computes + loads / share).max(), best_finish(computes, loads, problem.bandwidth_hz)
            wanted.append([*(problem.fleet.name[k] for k in way), *(f"{round(x, 2):g}" for x in latencies)])
            devices.append(way)
    (rows,) = TABLES["depth 1"]
    assert [[cell.strip("*") for cell in row] for row in rows] == wanted
    for column, method in ((3, "ba"), (4, "jbba")):
        (best,) = (at for at, row in enumerate(rows) if row[column].startswith("**"))
        schedule = lola.schedule(problem, method)
        assert schedule.device_of_block.tolist() == devices[best]
        assert schedule.latency_s == pytest.approx(float(rows[best][column].strip("*")), rel=1e-12)


@pytest.mark.parametrize("deadline_s", (11, 10))
def test_the_spectrum_that_a_deadline_needs_is_right(parts, deadline_s):
    compute, load, possible = parts
    left = np.where(compute < deadline_s, deadline_s - compute, np.nan)
    needed = rounded(load / left / 1e6, possible & (compute < deadline_s))
    np.testing.assert_array_equal(without_names(f"MHz at {deadline_s} s"), needed)


def test_the_prices_are_those_of_the_proof_and_prove_it(problem, parts):
    compute, load, possible = parts
    proof = lola.schedule(problem).proof
    block, device = (np.round(price / 1e6, 2) for price in (proof.block_price_hz, proof.device_price_hz))
    page = " ".join(text(PAGE).split())
    assert f"{block[0]:g}, {block[1]:g} and {block[2]:g} for depths 1, 2 and 3, and " in page
    assert f"and {device[0]:g}, −{-device[1]:g} and −{-device[2]:g} for ann, bob and cem" in page
    exact = np.array([8 / 3, 3, 11 / 3]), np.array([0, -5 / 3, -5 / 3])  # what is rounded on the page
    assert (np.round(exact[0], 2).tolist(), np.round(exact[1], 2).tolist()) == (block.tolist(), device.tolist())
    able = possible & (compute < 10)
    needed = load[:, [0]] / 1e6 / np.where(able, 10 - compute, 1)
    assert (exact[0] + exact[1][:, None] <= np.where(able, needed, np.inf) * (1 + 1e-12)).all()
    assert exact[0].sum() + exact[1].sum() == pytest.approx(6, rel=1e-12)


def test_the_downlink_is_negligible_only_where_the_page_says():
    """The printed seconds are checked with the page's blocks; here, what the text concludes from them."""
    said = next(body for language, body in blocks(PAGE) if language == "text" and "broadcast" in body).splitlines()
    round_s = float(said[0].split()[2])
    added = {int(line.split()[0]): float(line.split()[-2]) for line in said[1:]}
    assert 0.8 < added[0] / round_s < 1  # between devices of equal power it cannot be left out
    assert added[20] / round_s == pytest.approx(0.01, abs=0.002)  # "a hundredth of this round"
