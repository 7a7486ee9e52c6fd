"""Rounds with a deadline: random ones, and what ranks are worth most by trying all."""

import itertools
import math

import numpy as np

from lola.solvers import InfeasibleError, block_allocation, joint_allocation

FAMILIES = ("uniform", "falling", "signed", "alike", "whole numbers", "heads")


def instance(rng, n_blocks, n_devices, n_ranks, family):
    """Draw the arguments of `deadline_ranks` but the deadline, and what else the allocations need."""
    gain = rng.exponential(size=(n_blocks, n_ranks))
    work, speed = np.sort(rng.uniform(0.2, 1.0, n_blocks)), rng.uniform(0.3, 1.0, n_devices)
    given = {
        "rank_bits": rng.uniform(0.5, 1.5, n_blocks),
        "fixed_bits": np.zeros(n_blocks),
        "spectral_efficiency": rng.exponential(size=n_devices) + 0.05,
        "bandwidth_hz": float(n_blocks * n_ranks * rng.uniform(0.5, 2.0)),
    }
    if family == "falling":
        gain = -np.sort(-gain, axis=1)
    elif family == "signed":
        gain = rng.normal(size=gain.shape)
    elif family == "alike":  # ties of all kinds
        gain = np.ones_like(gain)
        work, speed = np.ceil(2 * work), np.ceil(2 * speed)
        given["rank_bits"] = np.full(n_blocks, 2.0)
        given["spectral_efficiency"] = np.ceil(given["spectral_efficiency"])
    elif family == "whole numbers":
        gain = rng.integers(-1, 6, gain.shape).astype(float)
    elif family == "heads":
        given["fixed_bits"] = rng.integers(0, 2, n_blocks) * rng.uniform(1.0, 3.0, n_blocks)
    able = rng.random((n_blocks, n_devices)) < rng.choice([0.6, 1.0])
    return given | {"gain": gain, "compute_s": np.where(able, work[:, None] / speed, np.inf)}, work, speed, able


def latency_s(arguments, work, speed, able, rank, equal):
    """Return the latency of the best round with such ranks, by lola's own allocations; inf if there is none."""
    bits = arguments["fixed_bits"] + rank * arguments["rank_bits"]
    (must,) = np.nonzero(bits)
    if must.size == 0:
        return 0.0
    if must.size > speed.size:
        return math.inf
    bandwidth = arguments["bandwidth_hz"]
    nothing = np.zeros(max(must.size, speed.size))
    try:
        return (block_allocation if equal else joint_allocation)(
            work[must],
            nothing[: must.size],
            bits[must],
            speed,
            nothing[: speed.size],
            arguments["spectral_efficiency"],
            bandwidth_hz=bandwidth * must.size / work.size if equal else bandwidth,
            allowed=able.T[:, must],
        ).objective
    except InfeasibleError:
        return math.inf


def vectors(arguments, min_rank):
    """Return all rank vectors, and what each is worth."""
    n_blocks, n_ranks = arguments["gain"].shape
    ranks = np.array(list(itertools.product(range(min_rank, n_ranks + 1), repeat=n_blocks)))
    worth = np.concatenate((np.zeros((n_blocks, 1)), np.cumsum(arguments["gain"], axis=1)), axis=1)
    return ranks, worth[np.arange(n_blocks), ranks].sum(axis=1)


def enumerated(arguments, deadline, min_rank, equal, spare):
    """Return the most that ranks are worth over all ranks and devices, with so much bandwidth to spare; plain loops."""
    n_blocks, n_devices = arguments["compute_s"].shape
    efficiency, bandwidth = arguments["spectral_efficiency"], arguments["bandwidth_hz"]
    best = -math.inf
    for rank, worth in zip(*vectors(arguments, min_rank), strict=True):
        bits = arguments["fixed_bits"] + rank * arguments["rank_bits"]
        must = [block for block in range(n_blocks) if bits[block] > 0]
        for devices in itertools.permutations(range(n_devices), len(must)) if worth > best else ():
            pairs = [(arguments["compute_s"][b, k], bits[b], efficiency[k]) for b, k in zip(must, devices, strict=True)]
            if equal:
                fits = all(c + s / (bandwidth / n_blocks) / r <= deadline for c, s, r in pairs)
            else:
                need = [s / r / (deadline - c) if c < deadline else math.inf for c, s, r in pairs]
                fits = math.fsum(need) <= bandwidth * (1 - spare)
            if fits:
                best = worth
                break
    return best
