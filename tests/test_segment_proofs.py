"""Every lie of a schedule of segments, and every forged proof of one, is told."""

from dataclasses import replace

import numpy as np
import pytest
from segment_rounds import solved

import lola
from lola.problem import segments


def shifted(schedule, problem):
    """Give the deepest block of the first segment to the second, or the other way round."""
    first, second, *_ = segments(schedule.device_of_block)
    device = schedule.device_of_block.copy()
    at = first.stop - 2 if len(first) > 1 else second.start - 1
    device[at] = schedule.device_of_block[first.stop - 1 if len(first) > 1 else 0]
    return device


def lies(schedule, problem):
    """Ways in which a schedule of segments may lie, with the line that must fail."""
    device, share = schedule.device_of_block, schedule.bandwidth_hz
    depths = segments(device)
    apart = device.copy()
    apart[[depths[0].start - 1, depths[-1].start - 1]] = device[[depths[-1].start - 1, depths[0].start - 1]]
    stranger = np.setdiff1d(np.arange(problem.n_devices), device)[0]
    moved = share.copy()
    moved[0], moved[-1] = share[0] * 0.9, share[-1] + 0.1 * share[0]
    most = max(map(len, depths))
    return [
        ({"device_of_block": np.where(device == device[0], -1, device)}, "C1"),
        ({"device_of_block": np.where(device == device[0], stranger, device)}, "compute_s|upload_s|C3"),
        ({"device_of_block": apart}, "C2, one segment a device: the blocks of device|C3|compute_s"),
        ({"device_of_block": shifted(schedule, problem)}, "C3|compute_s"),
        ({"bandwidth_hz": moved}, "upload_s"),
        ({"bandwidth_hz": share * 1.01}, "bandwidth: the shares sum to"),
        ({"compute_s": problem.local_steps * problem.profile.latency_s / problem.fleet.speed[device]}, "compute_s"),
        ({"proof": None}, "proof: .* none is given"),
        ({"proof": lola.PriceProof(share, np.zeros(problem.n_devices))}, "PriceProof proves another problem's bound"),
        ({"lower_bound_s": schedule.lower_bound_s * 0.99}, "optimality"),
        ({"lower_bound_s": schedule.latency_s * 1.0001}, "bound"),
    ], most


def test_every_lie_is_told():
    for seed in range(6):
        problem, schedule = solved(seed, 10, 8)
        if len(segments(schedule.device_of_block)) < 2 or (np.bincount(schedule.device_of_block) > 1).sum() < 1:
            continue
        told, most = lies(schedule, problem)
        for change, line in told:
            with pytest.raises(lola.VerificationError, match=line):
                replace(schedule, **change).verify(problem)
        shorter = replace(problem, max_blocks=most - 1) if most > 2 else None
        if shorter is not None:
            with pytest.raises(lola.VerificationError, match=f"C2, one segment a device: a device has {most} blocks"):
                schedule.verify(shorter)
        with pytest.raises(lola.VerificationError, match="C2, one block a device"):
            schedule.verify(replace(problem, max_blocks=1))


def with_counters():
    """A problem whose proof needs counters."""
    for seed in range(400):
        problem, schedule = solved(seed, 4, 8)
        if schedule.proof.counters:
            return problem, schedule
    raise AssertionError("no proof has counters")


def forgeries(proof, problem):
    """Proofs that prove nothing, with the reason that must be given."""
    potential, price, counters = proof.potential_hz, proof.device_price_hz, proof.counters
    raised, late, gift = potential.copy(), potential.copy(), price.copy()
    raised[:, 1:] *= 1.001
    late[:, -1] += 1e-6 * potential[:, -1].max()
    gift[0] = 1.0
    kept, free = np.setdiff1d(np.arange(problem.n_devices), counters[0]), price.copy()
    free[:] = 0
    broken = potential.copy()
    broken[0, 3] = np.nan
    vast = potential.copy()
    vast[0, 1] = 1e201
    return [
        ({"potential_hz": raised}, "only shown to need"),
        ({"potential_hz": late}, "only shown to need"),
        ({"potential_hz": potential * 0.999}, "only shown to need"),
        ({"potential_hz": potential + 1.0}, "the potential at the start is not 0"),
        ({"potential_hz": np.zeros_like(potential)}, "only shown to need"),
        ({"potential_hz": broken}, "a price is not finite"),
        ({"potential_hz": vast}, "a price is not finite, or beyond"),
        ({"potential_hz": potential[:-1]}, "potential_hz has shape"),
        ({"potential_hz": potential[:, :-1]}, "potential_hz has shape"),
        ({"potential_hz": potential.astype(np.float32)}, "potential_hz must be of float64"),
        ({"potential_hz": potential.tolist()}, "potential_hz must be an array"),
        ({"device_price_hz": gift}, "a device's price is above 0"),
        ({"device_price_hz": price[:-1]}, "device_price_hz has shape"),
        ({"counters": ()}, "potential_hz has shape"),
        ({"counters": (*counters, counters[0])}, "counts a device twice"),
        ({"counters": (np.repeat(counters[0], 2), *counters[1:])}, "counts a device twice"),
        ({"counters": (np.array([problem.n_devices]), *counters[1:])}, "names no devices of the problem"),
        ({"counters": (np.zeros(0, np.int64), *counters[1:])}, "names no devices of the problem"),
        ({"counters": (kept[: counters[0].size], *counters[1:])}, "only shown to need|has shape|twice"),
        ({"counters": list(counters)}, "counters must be a tuple"),
        ({"counters": (counters[0].astype(float), *counters[1:])}, "must be of int64"),
    ]


def test_every_forged_proof_is_told():
    problem, schedule = with_counters()
    schedule.verify(problem)
    for change, reason in forgeries(schedule.proof, problem):
        with pytest.raises(lola.VerificationError, match=f"proof: .*{reason}"):
            replace(schedule, proof=replace(schedule.proof, **change)).verify(problem)


def test_a_forged_proof_in_whole_subcarriers_is_told():
    problem, schedule = solved(3, 10, 8, subcarrier_hz=50e3)
    proof, finer = schedule.proof, replace(problem, subcarrier_hz=None)
    one = problem.subcarrier_hz * np.sign(proof.potential_hz)
    for change, reason in (
        ({"potential_hz": proof.potential_hz - one}, "is only shown to need .* subcarriers"),
        ({"potential_hz": proof.potential_hz * 1.5}, "a segment needs fewer subcarriers than the potentials rise by"),
    ):
        with pytest.raises(lola.VerificationError, match=reason):
            replace(schedule, proof=replace(proof, **change)).verify(problem)
    with pytest.raises(lola.VerificationError):
        schedule.verify(finer)
    paid = np.zeros(problem.n_devices)
    paid[0] = -problem.subcarrier_hz  # what a device is paid is counted in subcarriers, too
    count = round(proof.potential_hz[:, -1].min() / problem.subcarrier_hz)
    with pytest.raises(lola.VerificationError, match=rf"shown to need {count - 2}\.9\d* subcarriers, not more than"):
        replace(schedule, proof=replace(proof, device_price_hz=paid)).verify(problem)
