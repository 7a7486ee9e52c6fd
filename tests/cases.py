"""Seeded instances of every family the solvers must survive."""

import numpy as np

from lola.channel import CQI_EFFICIENCY

ALLOCATION_FAMILIES = (
    "uniform",
    "ties",
    "constant",
    "unequal uploads",
    "huge",
    "tiny",
    "memory bound",
    "upload bound",
    "compute bound",
    "quantised",
)
MATRIX_FAMILIES = ("uniform", "ties", "constant", "negative", "huge spread", "product")


def matrix(rng, n_rows, n_columns, family):
    shape = (n_rows, n_columns)
    cost = {
        "uniform": lambda: rng.random(shape),
        "ties": lambda: rng.integers(0, 6, shape).astype(float),
        "constant": lambda: np.full(shape, 3.0),
        "negative": lambda: rng.normal(size=shape) * 1e6,
        "huge spread": lambda: np.exp(rng.normal(size=shape) * 12),
        "product": lambda: np.multiply.outer(np.arange(1.0, n_rows + 1), np.arange(1.0, n_columns + 1)),
    }[family]()
    cost[rng.random(shape) < rng.choice([0.0, 0.3, 0.6])] = np.inf
    return cost


def allocation(rng, n_devices, n_blocks, family):
    """Draw the keyword arguments of an allocation, and a bandwidth."""
    inputs = {
        "latency_s": np.sort(rng.uniform(0.1, 1.0, n_blocks)),
        "depth_memory_bytes": np.sort(rng.uniform(0.1, 1.0, n_blocks)),
        "upload_bits": np.full(n_blocks, rng.uniform(0.1, 1.0)),
        "speed": rng.uniform(0.3, 1.0, n_devices),
        "memory_bytes": rng.uniform(0.3, 3.0, n_devices),
        "spectral_efficiency": rng.exponential(size=n_devices) + 1e-3,
    }
    bandwidth_hz = float(n_blocks)
    if family == "ties":
        inputs = {name: np.ceil(value * 2) for name, value in inputs.items()}
    elif family == "constant":
        inputs = {name: np.ones_like(value) for name, value in inputs.items()}
    elif family == "unequal uploads":
        inputs["upload_bits"] = rng.uniform(0.1, 1.0, n_blocks)
    elif family == "huge":
        inputs["latency_s"] *= 1e45
        inputs["upload_bits"] *= 1e45
    elif family == "tiny":
        inputs["latency_s"] *= 1e-45
        inputs["upload_bits"] *= 1e-45
    elif family == "memory bound":
        inputs["memory_bytes"] = rng.uniform(0.0, 1.1, n_devices)
    elif family == "upload bound":
        inputs["latency_s"] *= 1e-6
    elif family == "compute bound":
        bandwidth_hz *= 1e6
    elif family == "quantised":  # three models of phone, three sizes of memory, and the qualities that radios report
        inputs["speed"] = rng.choice([0.4, 0.7, 1.0], n_devices)
        inputs["memory_bytes"] = rng.choice([0.5, 1.0, 3.0], n_devices)
        inputs["spectral_efficiency"] = rng.choice(CQI_EFFICIENCY, n_devices)
    return inputs, bandwidth_hz


def sizes(rng, largest_blocks, largest_devices):
    """Draw (K, L) with K = L, K close to L or K far above it."""
    n_blocks = int(rng.integers(1, largest_blocks + 1))
    shape = rng.integers(3)
    if shape == 0:
        return n_blocks, n_blocks
    limit = min(2 * n_blocks, largest_devices) if shape == 1 else largest_devices
    return int(rng.integers(n_blocks, limit + 1)), n_blocks
