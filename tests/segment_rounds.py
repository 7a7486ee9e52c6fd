"""Rounds whose devices may take segments, and a check of an allocation by comparisons and sums."""

import itertools
import math

import numpy as np
import pytest

from lola.solvers import bandwidth_split


def instance(rng, n_devices, n_blocks, spread=1.0):
    """Draw a round: unequal uploads and extras, memory for some of the depths."""
    fleet = {
        "speed": rng.uniform(0.05, 1.0, n_devices),
        "memory_bytes": rng.uniform(0.5e9, 1e9 + 3e8 * n_blocks, n_devices),
        "spectral_efficiency": np.log2(1.0 + 10.0 * rng.exponential(1.0, n_devices)),
    }
    if rng.random() < 0.3:  # phones of few models, radios of few qualities
        fleet["speed"] = rng.choice([0.25, 0.5, 1.0], n_devices)
        fleet["spectral_efficiency"] = rng.choice([1.0, 2.5, 4.0], n_devices)
    return {
        "latency_s": np.sort(rng.uniform(0.5, 2.0, n_blocks)),
        "depth_memory_bytes": 1e9 + 2e8 * np.arange(n_blocks),
        "upload_bits": 9.4e6 * rng.lognormal(0.0, spread, n_blocks),
        **fleet,
        "bandwidth_hz": 10.0 ** rng.uniform(6.0, 8.0),
        "local_steps": int(rng.integers(1, 4)),
        "extra_latency_s": 10.0 ** rng.uniform(-3.0, 0.0) * rng.lognormal(0.0, spread, n_blocks),
        "extra_memory_bytes": 10.0 ** rng.uniform(6.0, 9.0) * rng.lognormal(0.0, spread, n_blocks),
        "max_blocks": int(rng.integers(1, n_blocks + 1)),
    }


def cost_of(given, device, first, last):
    """Return a segment's seconds of computation and bits over efficiency on a device; None if it cannot take it."""
    inner = slice(first, last - 1)
    need = given["depth_memory_bytes"][last - 1] + given["extra_memory_bytes"][inner].sum()
    allowed = given.get("allowed")
    if need > given["memory_bytes"][device] or (allowed is not None and not allowed[device, first:last].all()):
        return None
    steps = given["latency_s"][last - 1] + given["extra_latency_s"][inner].sum()
    bits = given["upload_bits"][first:last].sum()
    compute = given["local_steps"] * steps / given["speed"][device]
    return compute, bits / given["spectral_efficiency"][device]


def finish(costs, bandwidth_hz):
    compute, load = zip(*costs, strict=True)
    return bandwidth_split(compute, load, np.ones(len(costs)), bandwidth_hz=bandwidth_hz).objective


def brute_force(given):
    """Try every partition with every placement; a beginning that is too slow already is not gone on with."""
    n_blocks, n_devices = given["latency_s"].size, given["speed"].size
    best = math.inf

    def go_on(position, taken, costs):
        nonlocal best
        if (
            sum(load / (best - compute) if compute < best else math.inf for compute, load in costs)
            > given["bandwidth_hz"]
        ):
            return
        if position == n_blocks:
            best = finish(costs, given["bandwidth_hz"])
            return
        for last in range(min(position + given["max_blocks"], n_blocks), position, -1):
            for device in range(n_devices):
                cost = None if device in taken else cost_of(given, device, position, last)
                if cost is not None:
                    go_on(last, taken | {device}, [*costs, cost])

    go_on(0, frozenset(), [])
    return best


def check(given, allocation):
    """Hold an allocation and its proof against the problem, by comparisons and sums."""
    n_blocks, n_devices = given["latency_s"].size, given["speed"].size
    device, share, bound = allocation.device_of_block, allocation.bandwidth_hz, allocation.lower_bound
    edges = [0, *(np.flatnonzero(np.diff(device)) + 1), n_blocks]
    segments = list(itertools.pairwise(int(edge) for edge in edges))
    assert len({int(device[first]) for first, _ in segments}) == len(segments)
    assert max(last - first for first, last in segments) <= given["max_blocks"]
    assert share.sum() <= given["bandwidth_hz"]
    for first, last in segments:
        compute, load = cost_of(given, int(device[first]), first, last)
        upload = given["upload_bits"][first:last] / share[first:last] / given["spectral_efficiency"][device[first]]
        assert upload == pytest.approx(load / share[first:last].sum(), rel=1e-12)
        assert (compute + upload).max() <= allocation.objective * (1 + 1e-12)
    assert bound <= allocation.objective <= bound * (1 + 1e-11)

    counter, potential, price = allocation.counter_of_device, allocation.potential_hz, allocation.device_price_hz
    n_counters = int(counter.max()) + 1
    members = [int((counter == c).sum()) for c in range(n_counters)]
    strides = np.cumprod([1, *(m + 1 for m in members)])
    assert potential.shape == (strides[-1], n_blocks + 1)
    assert (price <= 0).all()
    assert potential[0, 0] == 0.0
    states, excess = np.arange(strides[-1]), 0.0
    for first in range(n_blocks):
        for last in range(first + 1, min(first + given["max_blocks"], n_blocks) + 1):
            for k in range(n_devices):
                cost = cost_of(given, k, first, last)
                if cost is None or cost[0] >= bound:
                    continue
                before, after = states, states
                if counter[k] >= 0:
                    c = counter[k]
                    before = states[states // strides[c] % (members[c] + 1) < members[c]]
                    after = before + strides[c]
                rise = (potential[after, last] - potential[before, first]).max()
                excess = max(excess, rise + price[k] - cost[1] / (bound - cost[0]))
    excess += 4.5e-16 * (np.abs(potential).max() + np.abs(price).max())
    total = math.fsum([potential[:, n_blocks].min(), *price, -n_blocks * excess])
    assert total > given["bandwidth_hz"]
    return strides[-1]
