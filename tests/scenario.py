"""One small real problem that many tests start from."""

import numpy as np

import lola


def small_problem(**changes):
    arguments = {
        "profile": lola.Profile(
            memory_bytes=[1e9, 1.5e9, 2e9],
            latency_s=[1.0, 1.2, 1.4],
            upload_bits=8e5,
            provenance=lola.Provenance("toy", 8, 64, "float32", "estimated", "assumed"),
        ),
        "fleet": lola.Fleet(
            speed=[0.5, 0.9, 0.7, 1.0, 0.6],
            memory_bytes=[3e9, 1.2e9, 2.5e9, 1.7e9, 4e9],
            spectral_efficiency=[0.5, 2.0, 1.0, 0.2, 3.0],
            name=["ann", "bob", "cid", "dan", "eve"],
        ),
        "bandwidth_hz": 1e6,
        "local_steps": 2,
    }
    return lola.Problem(**(arguments | changes))


def random_problem(seed, n_devices=30, n_blocks=8, equal_uploads=False):
    rng = np.random.default_rng(seed)
    profile = lola.Profile(
        memory_bytes=np.linspace(0.5e9, 2e9, n_blocks),
        latency_s=np.sort(rng.uniform(0.5, 1.5, n_blocks)),
        upload_bits=8e5 if equal_uploads else rng.uniform(5e5, 1e6, n_blocks),
    )
    return lola.Problem(profile, lola.Fleet.sample(n_devices, seed=rng), bandwidth_hz=2e7, local_steps=5)


def rich_problem(**changes):
    """Three blocks that most drawn fleets can hold."""
    return small_problem(fleet=lola.Fleet.sample(5, seed=1), **changes)


def hungry_profile():
    """Blocks so large that a third of the drawn fleets of five cannot hold them."""
    return lola.Profile(memory_bytes=[1e9, 3e9, 4.5e9], latency_s=[1.0, 1.2, 1.4], upload_bits=8e5)
