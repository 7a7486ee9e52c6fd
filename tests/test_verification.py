"""Verification: what holds passes, every lie and every false proof is caught."""

from dataclasses import replace

import numpy as np
import pytest
from scenario import random_problem

import lola
from lola.files.problems import builtin_scenario

EXACT = ("jbba", "ba")


def corrupt(schedule, problem):
    """Every way a schedule may lie, with the line that must fail."""
    swapped = schedule.device_of_block.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    unused = np.setdiff1d(np.arange(problem.n_devices), schedule.device_of_block)
    stranger = schedule.device_of_block.copy()
    stranger[0] = unused[0]
    twice = schedule.device_of_block.copy()
    twice[0] = twice[1]
    raised = schedule.bandwidth_hz.copy()
    raised[0] *= 1.05
    moved = schedule.bandwidth_hz.copy()
    moved[0] *= 1.01
    moved[1] -= moved[0] - schedule.bandwidth_hz[0]
    zero = schedule.bandwidth_hz.copy()
    zero[0] = 0
    nobody = np.full_like(swapped, -1)
    return [
        ({"device_of_block": swapped}, "compute_s|C3"),
        ({"device_of_block": stranger}, "compute_s|C3"),
        ({"device_of_block": twice}, "C2"),
        ({"device_of_block": nobody}, "C1"),
        ({"device_of_block": nobody[:-1]}, "shape"),
        ({"bandwidth_hz": raised}, "bandwidth: the shares sum to"),
        ({"bandwidth_hz": moved}, "upload_s|bandwidth"),
        ({"bandwidth_hz": zero}, "bandwidth: every block needs"),
        ({"compute_s": schedule.compute_s * 0.99}, "compute_s"),
        ({"upload_s": schedule.upload_s * 0.99}, "upload_s"),
        ({"latency_s": schedule.latency_s * 0.99}, "latency_s"),
        ({"latency_s": np.nan}, "latency_s"),
        ({"lower_bound_s": schedule.lower_bound_s * 1.01}, "bound"),
        ({"lower_bound_s": schedule.lower_bound_s * 0.99}, "optimality"),
        ({"lower_bound_s": np.nan}, "bound: .* must state one, got none"),
        ({"proof": None}, "proof: .* none is given"),
        ({"hits_memory_wall": ~schedule.hits_memory_wall}, "C3"),
        ({"method": "magic"}, "method"),
        ({"method": "random"}, "C3|bandwidth|bound"),
    ]


@pytest.mark.parametrize("method", EXACT)
def test_every_lie_is_caught(method):
    problem = random_problem(7)
    schedule = lola.schedule(problem, method)
    for change, line in corrupt(schedule, problem):
        with pytest.raises(lola.VerificationError, match=line):
            replace(schedule, **change).verify(problem)


def test_a_false_proof_is_caught():
    problem = random_problem(8)
    jbba, ba = lola.schedule(problem), lola.schedule(problem, "ba")
    prices = jbba.proof
    wrong = [
        lola.PriceProof(prices.block_price_hz * 0.999, prices.device_price_hz),
        lola.PriceProof(prices.block_price_hz * 1.001, prices.device_price_hz),
        lola.PriceProof(prices.block_price_hz, np.abs(prices.device_price_hz) + 1.0),
        lola.PriceProof(np.full(problem.n_blocks, np.nan), prices.device_price_hz),
        lola.PriceProof(prices.block_price_hz[:-1], prices.device_price_hz),
        lola.PriceProof(prices.block_price_hz, prices.device_price_hz[:-1]),
        ba.proof,
    ]
    for proof in wrong:
        with pytest.raises(
            lola.VerificationError, match="^proof: .*(not more than|above 0|not finite|has shape|another)"
        ):
            replace(jbba, proof=proof).verify(problem)
    blocks = [[], [problem.n_blocks], [0, problem.n_blocks], [-1]]
    for one in blocks:
        with pytest.raises(lola.VerificationError, match="^proof: names no blocks"):
            replace(ba, proof=lola.HallProof(np.array(one, dtype=np.int64))).verify(problem)
    fast = int(np.argmin(ba.compute_s + ba.upload_s))
    with pytest.raises(lola.VerificationError, match=r"^proof: \d+ devices can serve"):
        replace(ba, proof=lola.HallProof(np.array([fast]))).verify(problem)
    with pytest.raises(lola.VerificationError, match="PriceProof proves another problem's bound"):
        replace(ba, proof=prices).verify(problem)


def test_prices_too_large_to_add_up_prove_nothing():
    """Prices that cancel in floating-point sums could hide that they exceed what a pair needs."""
    profile = lola.Profile(memory_bytes=np.ones(6), latency_s=np.linspace(1, 2, 6), upload_bits=1e6)
    rng = np.random.default_rng(5)
    fleet = lola.Fleet(
        speed=rng.uniform(0.5, 1.0, 6), memory_bytes=np.ones(6), spectral_efficiency=rng.uniform(0.5, 2.0, 6)
    )
    problem = lola.Problem(profile, fleet, bandwidth_hz=1e6)
    worse = lola.schedule(problem, "computation-aware")
    compute = problem.compute_s(worse.device_of_block)
    from lola.solvers import bandwidth_split

    split = bandwidth_split(
        compute, 1e6, fleet.spectral_efficiency[worse.device_of_block], bandwidth_hz=problem.bandwidth_hz
    )
    assert split.objective > lola.schedule(problem).latency_s * 1.001
    for scale in (2.0**50, 2.0**52, 2.0**54, 2.0**56):
        huge = scale * 1e4
        forged = replace(
            lola.schedule(problem),
            device_of_block=worse.device_of_block,
            bandwidth_hz=split.bandwidth_hz,
            compute_s=compute,
            upload_s=problem.upload_s(worse.device_of_block, split.bandwidth_hz),
            latency_s=split.objective,
            lower_bound_s=split.objective,
            proof=lola.PriceProof(np.full(6, huge) + np.spacing(huge) * 3, np.full(6, -huge)),
        )
        with pytest.raises(lola.VerificationError, match="^proof: finishing by"):
            forged.verify(problem)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"device_of_block": np.array([True, False])}, "device_of_block must be of int64, got bool"),
        ({"device_of_block": np.array([0.0, 1.0])}, "device_of_block must be of int64, got float64"),
        ({"device_of_block": [0, 1]}, "device_of_block must be an array, got list"),
        ({"bandwidth_hz": np.array([[1.0, 1.0]])}, r"bandwidth_hz has shape \(1, 2\), wanted \(2,\)"),
        ({"latency_s": "1"}, "latency_s must be a float, got str"),
        ({"lower_bound_s": None}, "lower_bound_s must be a float, got NoneType"),
        ({"proof": lola.HallProof(np.array([False, True]))}, "blocks must be of int64, got bool"),
    ],
)
def test_answers_of_another_type_are_refused(change, message):
    profile = lola.Profile(memory_bytes=[1.0, 1.0], latency_s=[1.0, 2.0], upload_bits=1.0)
    problem = lola.Problem(
        profile, lola.Fleet(speed=[1.0, 0.1], memory_bytes=[1.0, 1.0], spectral_efficiency=[1.0, 1.0]), bandwidth_hz=1.0
    )
    with pytest.raises(lola.VerificationError, match=message):
        replace(lola.schedule(problem, "ba"), **change).verify(problem)


def test_false_multipliers_are_caught():
    problem = random_problem(9, n_devices=12, n_blocks=5, equal_uploads=True)
    honest = lola.schedule(problem, "jbba-dual-ascent")
    proof = honest.proof
    wrong = [
        ({"latency": proof.latency * 1.01}, "the latency multipliers sum to more than 1"),
        ({"latency": -proof.latency}, "a multiplier is below 0"),
        ({"bandwidth": -proof.bandwidth}, "a multiplier is below 0"),
        ({"bandwidth": proof.bandwidth * 2}, "the multipliers only show that no schedule is below"),
        ({"bandwidth": np.inf}, "a multiplier is not finite, or beyond 1e[+]200"),
        ({"block_s": proof.block_s * 1e300}, "a multiplier is not finite, or beyond 1e[+]200"),
        ({"block_s": proof.block_s * 1.01}, "the multipliers only show"),
        ({"device_s": np.abs(proof.device_s) + 1.0}, "a device's dual is above 0"),
        ({"involvement_s": proof.involvement_s + np.linspace(0, 5, 12)}, "the multipliers only show"),
        ({"device_s": proof.device_s[:-1]}, "device_s has shape"),
        ({"bandwidth": 1}, "bandwidth must be a float"),
    ]
    for change, message in wrong:
        with pytest.raises(lola.VerificationError, match=f"^proof: .*{message}|^proof: {message}"):
            replace(honest, proof=replace(proof, **change)).verify(problem)
    with pytest.raises(lola.VerificationError, match="^proof: the multipliers only show"):
        replace(honest, lower_bound_s=honest.lower_bound_s * 1.001).verify(problem)
    for scale in (1e8, 1e16, 1e100):  # numbers that cancel must not hide what they exceed
        shift = np.full(problem.n_devices, scale)
        with pytest.raises(lola.VerificationError, match="^proof: "):
            replace(
                honest,
                lower_bound_s=honest.lower_bound_s * 1.001,
                proof=replace(proof, involvement_s=proof.involvement_s + shift, block_s=proof.block_s - scale),
            ).verify(problem)


@pytest.mark.parametrize("unit", [1.0, 2.0**-40])
def test_false_counts_of_subcarriers_are_caught(unit):
    """Also where hertz and bits are counted in a unit so large that all subcarriers are a part of one."""
    problem = random_problem(9, n_devices=12, n_blocks=5)
    profile = replace(problem.profile, upload_bits=problem.profile.upload_bits * unit)
    band = problem.bandwidth_hz * unit
    whole = lola.Problem(profile, problem.fleet, band, 5, subcarrier_hz=band / 97)
    honest = lola.schedule(whole)
    honest.verify(whole)
    width, proof = whole.subcarrier_hz, honest.proof
    wrong = [
        ({"block_price_hz": proof.block_price_hz + width}, "a price exceeds the subcarriers that a pair needs"),
        (
            {"block_price_hz": proof.block_price_hz - width},
            "is only shown to need [0-9]+ subcarriers, not more than 97",
        ),
        ({"block_price_hz": proof.block_price_hz + width / 2}, "a price is no whole number of subcarriers"),
        ({"block_price_hz": proof.block_price_hz * 1e250}, "a price is not finite, or beyond 1e[+]200"),
    ]
    for change, message in wrong:
        with pytest.raises(lola.VerificationError, match=f"^proof: .*{message}|^proof: {message}"):
            replace(honest, proof=replace(proof, **change)).verify(whole)
    share = honest.bandwidth_hz.copy()
    share[0] -= width / 2
    with pytest.raises(lola.VerificationError, match="bandwidth: block 1 from the output has no whole subcarriers"):
        replace(honest, bandwidth_hz=share).verify(whole)


@pytest.mark.parametrize("width", [7692307.7, 1e8 / 13, 1e8 / 101 * (1 + 1e-12), 180e3, 1e8 / 12, 100.0])
def test_whole_subcarriers_of_awkward_widths_verify(width):
    scenario = builtin_scenario()
    problem = lola.Problem(scenario.profile, scenario.fleet, 1e8, 10, subcarrier_hz=width)
    lola.schedule(problem).verify(problem)


def test_a_schedule_of_another_problem_does_not_verify():
    schedule = lola.schedule(random_problem(1))
    with pytest.raises(lola.VerificationError):
        schedule.verify(random_problem(2))


def test_verification_of_a_large_fleet_goes_in_chunks():
    problem = random_problem(3, n_devices=70_000)
    for method in EXACT:
        lola.schedule(problem, method).verify(problem)
