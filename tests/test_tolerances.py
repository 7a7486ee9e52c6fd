"""Every tolerance of the verifier: three times as much is a lie and refused, a third of it is rounding and passes."""

from dataclasses import replace

import numpy as np
import pytest
from scenario import random_problem, small_problem

import lola
from lola.solvers.checks import subcarriers_in

ROUNDING, GAP = 1e-12, 1e-9
# What a schedule states against what it should state, and whether that is a lie.
LIES = [(3.0, True), (-3.0, True), (0.3, False), (-0.3, False)]


def judge(schedule, problem, line):
    """Verify; where a line is given, it and no other must fail."""
    if line is None:
        schedule.verify(problem)
        return
    with pytest.raises(lola.VerificationError, match=f"^{line}"):
        schedule.verify(problem)


def first_times(values, factor):
    changed = values.copy()
    changed[0] *= factor
    return changed


@pytest.mark.parametrize("times, lie", LIES)
@pytest.mark.parametrize("method", ["jbba", "ba"])
def test_times(method, times, lie):
    problem = random_problem(7)
    schedule, factor = lola.schedule(problem, method), 1 + times * ROUNDING
    for name in ("compute_s", "upload_s"):
        changed = replace(schedule, **{name: first_times(getattr(schedule, name), factor)})
        judge(changed, problem, f"{name}: is not" if lie else None)
    judge(replace(schedule, latency_s=schedule.latency_s * factor), problem, "latency_s: is" if lie else None)


@pytest.mark.parametrize("times, lie", LIES[::2])
def test_the_sum_of_the_bandwidths(times, lie):
    problem = random_problem(7)
    schedule = lola.schedule(problem)
    shares = schedule.bandwidth_hz * (problem.bandwidth_hz / schedule.bandwidth_hz.sum()) * (1 + times * ROUNDING)
    judge(replace(schedule, bandwidth_hz=shares), problem, "bandwidth: the shares sum to" if lie else None)


@pytest.mark.parametrize("times, lie", LIES)
@pytest.mark.parametrize("method", ["ba", "random"])
def test_the_equal_split(method, times, lie):
    problem = random_problem(7)
    schedule = lola.schedule(problem, method, seed=1)
    shares = schedule.bandwidth_hz.copy()
    moved = shares[0] * times * ROUNDING
    shares[0] += moved
    shares[1] -= moved
    judge(replace(schedule, bandwidth_hz=shares), problem, f"bandwidth: {method} splits equally" if lie else None)


def test_an_unequal_split_is_refused_though_every_other_line_holds():
    problem = random_problem(7)
    schedule = lola.schedule(problem, "random", seed=1)
    shares = schedule.bandwidth_hz * np.linspace(0.9, 1.1, problem.n_blocks)
    upload = problem.upload_s(schedule.device_of_block, shares)
    latency = float((schedule.compute_s + upload).max())
    changed = replace(schedule, bandwidth_hz=shares, upload_s=upload, latency_s=latency)
    judge(changed, problem, "bandwidth: random splits equally")


@pytest.mark.parametrize("times, lie", [(3.0, True), (0.3, False)])
@pytest.mark.parametrize("method", ["jbba", "ba"])
def test_the_gap_to_the_bound(method, times, lie):
    problem = random_problem(7)
    schedule = lola.schedule(problem, method)
    bound = schedule.lower_bound_s * (1 - times * GAP)  # the proof of a bound proves each that is lower
    judge(replace(schedule, lower_bound_s=bound), problem, "optimality: the gap to it is" if lie else None)


@pytest.mark.parametrize("times, lie", [(3.0, True), (0.3, False)])
def test_a_bound_above_the_latency(times, lie):
    problem = random_problem(7)
    schedule = lola.schedule(problem, "ba")
    bound = schedule.latency_s * (1 + times * ROUNDING)
    judge(replace(schedule, lower_bound_s=bound), problem, "bound: .* is above the latency" if lie else None)


def two_devices(slower, **changes):
    """One block, and a second device that is slower by this fraction; the schedule takes it and calls it optimal."""
    profile = lola.Profile(memory_bytes=[1.0], latency_s=[1.0], upload_bits=1e-9)
    fleet = lola.Fleet(speed=[1.0, 1 / (1 + slower)], memory_bytes=[1.0, 1.0], spectral_efficiency=[1.0, 1.0])
    problem = lola.Problem(profile, fleet, bandwidth_hz=2.0, **changes)
    return problem, np.array([1])


def claimed(problem, method, devices, bandwidth, proof):
    """A schedule that claims its own latency as the bound."""
    compute, upload = problem.compute_s(devices), problem.upload_s(devices, bandwidth)
    latency = float((compute + upload).max())
    wall = np.zeros(devices.size, dtype=bool)
    return lola.Schedule(method, devices, bandwidth, compute, upload, latency, latency, wall, proof, 0)


@pytest.mark.parametrize("times, lie", [(3.0, True), (0.3, False)])
def test_the_devices_that_a_set_of_blocks_counts(times, lie):
    problem, devices = two_devices(times * ROUNDING)
    schedule = claimed(problem, "ba", devices, np.array([2.0]), lola.HallProof(np.array([0])))
    judge(schedule, problem, "proof: 1 devices can serve one of 1 blocks in less than" if lie else None)


@pytest.mark.parametrize("times, lie", [(3.0, True), (0.3, False)])
def test_the_subcarriers_that_a_pair_needs(times, lie):
    problem, devices = two_devices(times * ROUNDING, subcarrier_hz=1.0)
    schedule = claimed(problem, "jbba", devices, np.array([2.0]), lola.PriceProof(np.array([3.0]), np.zeros(2)))
    judge(schedule, problem, "proof: a price exceeds the subcarriers that a pair needs" if lie else None)


def test_prices_of_just_all_subcarriers_prove_nothing():
    """Two subcarriers are there and one is used; that one is too few for any faster round shows only that two are."""
    problem, _ = two_devices(0.0, subcarrier_hz=1.0)
    proof = lola.PriceProof(np.array([2.0]), np.zeros(2))
    schedule = claimed(problem, "jbba", np.array([0]), np.array([1.0]), proof)
    judge(schedule, problem, "proof: finishing before .* is only shown to need 2 subcarriers, not more than 2")


@pytest.mark.parametrize("times, lie", LIES)
def test_whole_subcarriers_and_whole_prices(times, lie):
    problem = random_problem(9, n_devices=12, n_blocks=5)
    problem = lola.Problem(problem.profile, problem.fleet, 97.0 * 2e5, 5, subcarrier_hz=2e5)
    schedule, factor = lola.schedule(problem), 1 + times * ROUNDING
    if times < 0:  # more would not fit into the spectrum
        shares = first_times(schedule.bandwidth_hz, factor)
        judge(
            replace(schedule, bandwidth_hz=shares),
            problem,
            "bandwidth: block 1 from the output has no whole" if lie else None,
        )
    prices = replace(schedule.proof, block_price_hz=first_times(schedule.proof.block_price_hz, factor))
    judge(replace(schedule, proof=prices), problem, "proof: a price is no whole number" if lie else None)


def test_the_subcarriers_that_fit():
    assert subcarriers_in(12.0 * (1 - 3e-13), 1.0) == 11
    assert subcarriers_in(12.0 * (1 - 0.3e-13), 1.0) == 12


TOO_LITTLE = "proof: finishing by 1 s is only shown to need"


@pytest.mark.parametrize(
    "short, discount, line",
    [
        (2.0**-53, 0.0, TOO_LITTLE),
        (2.0**-51, 0.0, TOO_LITTLE),
        (2.0**-50, 0.0, None),
        (2.0**-50, 1.0, TOO_LITTLE),
        (2.0**-49, 1.0, None),
    ],
)
def test_prices_leave_room_for_their_own_rounding(short, discount, line):
    """One device that needs 1 Hz to finish in 1 s: as computed. The last digit of a price or a need proves nothing."""
    profile = lola.Profile(memory_bytes=[1.0], latency_s=[0.0], upload_bits=1.0)
    problem = lola.Problem(
        profile, lola.Fleet(speed=[1.0], memory_bytes=[1.0], spectral_efficiency=[1.0]), bandwidth_hz=1.0 - short
    )
    proof = lola.PriceProof(np.array([1.0 + discount]), np.array([-discount]))
    schedule = claimed(problem, "jbba", np.array([0]), np.array([1.0 - short]), proof)
    judge(replace(schedule, lower_bound_s=1.0), problem, line)


@pytest.mark.parametrize("times, lie", [(3.0, True), (0.3, False)])
def test_multipliers(times, lie):
    problem = random_problem(9, n_devices=12, n_blocks=5, equal_uploads=True)
    schedule, factor = lola.schedule(problem, "jbba-dual-ascent"), 1 + times * ROUNDING
    above = replace(schedule, lower_bound_s=schedule.lower_bound_s * factor)
    judge(above, problem, "proof: the multipliers only show" if lie else None)
    weight = schedule.proof.latency / schedule.proof.latency.sum() * factor
    heavier = replace(schedule, proof=replace(schedule.proof, latency=weight), lower_bound_s=0.0)
    judge(heavier, problem, "proof: the latency multipliers sum to more than 1" if lie else None)


@pytest.mark.parametrize("size, line", [(450.0, "proof: the multipliers only show"), (300.0, None)])
def test_multipliers_leave_room_for_their_own_rounding(size, line):
    """One device that computes for 1 s: shown by numbers that cancel, three of which may each be rounded."""
    problem, _ = two_devices(0.0)
    zero = np.zeros(2)
    proof = lola.MultiplierProof(np.array([0.5, 0.5]), 0.0, zero - size, np.array([0.5 + size]), zero)
    schedule = claimed(problem, "jbba-dual-ascent", np.array([0]), np.array([2.0]), proof)
    judge(replace(schedule, lower_bound_s=0.5), problem, line)


@pytest.mark.parametrize("times, line", [(3, "proof: a price is no whole number"), (0.25, "proof: a price exceeds")])
def test_counts_that_a_float_cannot_count(times, line):
    problem, devices = two_devices(0.0, subcarrier_hz=1.0)
    proof = lola.PriceProof(np.array([times * 2.0**52]), np.zeros(2))
    judge(claimed(problem, "jbba", devices, np.array([2.0]), proof), problem, line)


@pytest.mark.parametrize("size, line", [(3e200, "proof: a price is not finite, or beyond"), (0.3e200, "proof: finish")])
def test_prices_that_cannot_be_added_up(size, line):
    problem = random_problem(7)
    schedule = lola.schedule(problem)
    prices = schedule.proof.block_price_hz.copy()
    prices[0] = -size
    judge(replace(schedule, proof=replace(schedule.proof, block_price_hz=prices)), problem, line)


@pytest.mark.parametrize("method", ["random", "computation-aware", "communication-aware"])
def test_a_baseline_marks_the_memory_wall_where_it_is_and_nowhere_else(method):
    problem = small_problem()
    schedule = lola.schedule(problem, method, seed=3)
    short = problem.fleet.usable_memory_bytes[schedule.device_of_block] < problem.profile.memory_bytes
    assert schedule.hits_memory_wall.tolist() == short.tolist()
    for block in range(problem.n_blocks):
        marks = schedule.hits_memory_wall.copy()
        marks[block] = not marks[block]
        judge(replace(schedule, hits_memory_wall=marks), problem, "C3, memory: hits_memory_wall marks others than lack")


@pytest.mark.parametrize("method", ["jbba", "ba"])
def test_an_exact_method_has_no_memory_wall_to_mark(method):
    problem = small_problem()
    schedule = lola.schedule(problem, method)
    for block in range(problem.n_blocks):
        marks = np.arange(problem.n_blocks) == block
        judge(replace(schedule, hits_memory_wall=marks), problem, "C3, memory: hits_memory_wall marks who has enough")


@pytest.mark.parametrize("method", lola.METHODS)
def test_memory_that_is_kept_free_serves_no_block(method):
    problem = small_problem()
    schedule, fleet = lola.schedule(problem, method, seed=1), problem.fleet
    deepest = int(schedule.device_of_block[2])
    headroom = np.zeros(fleet.n_devices)
    headroom[deepest] = 1 - 1.999e9 / fleet.memory_bytes[deepest] if fleet.memory_bytes[deepest] > 2e9 else 0.9
    kept = lola.Fleet(
        speed=fleet.speed,
        memory_bytes=fleet.memory_bytes,
        spectral_efficiency=fleet.spectral_efficiency,
        name=fleet.name,
        headroom=headroom,
    )
    roomy = small_problem(fleet=kept)
    if method in ("jbba", "ba", "ba-crunch", "jbba-dual-ascent"):
        judge(schedule, roomy, "C3, memory: depth 3 needs 2e[+]09 bytes, its device offers 1.999e[+]09")
        return
    marked = lola.schedule(roomy, method, seed=1)
    assert marked.hits_memory_wall[2]
    marked.verify(roomy)
    unmarked = replace(marked, hits_memory_wall=marked.hits_memory_wall & (np.arange(3) < 2))
    judge(unmarked, roomy, "C3, memory: hits_memory_wall marks others than lack")
