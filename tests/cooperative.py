"""A tiny model, a fleet and data to fine-tune it cooperatively with."""

import random

import numpy as np
import torch
from tiny_models import TINY, save_config

import lola
from lola.adapters import CooperativeSession, Setting, ShardedData, iid_shards
from lola.profiling import Workload, attach_lora
from lola.profiling.building import build


def random_state():
    """Return the global states that others draw from: torch's, numpy's and Python's."""
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002


def tiny_depths(folder, name="bert", *, zero_init=True, dtype=torch.float32, seed=0):
    workload = Workload(save_config(folder / name, name), batch_size=2, seed=seed)
    model, _ = build(workload, "cpu")
    return attach_lora(model.to(dtype), rank=2, zero_init=zero_init, seed=seed)


def tiny_columns(name, rows, seed, dtype=torch.float32):
    """What a tiny model takes, with labels that can be learnt from the first token."""
    generator = torch.Generator().manual_seed(seed)
    if name == "vit":
        pixels = torch.randn((rows, 3, 16, 16), generator=generator).to(dtype)
        return {"pixel_values": pixels, "labels": (pixels.mean(dim=(1, 2, 3)) > 0).long()}
    ids = torch.randint(5, 50, (rows, 8), generator=generator)
    labels = ids if name in ("gpt2", "llama") else (ids[:, 0] > 27).long()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def n_blocks_of(name):
    return TINY[name].get("num_hidden_layers", TINY[name].get("n_layer"))


def tiny_problem(n_blocks, n_devices=7, memory_bytes=(2e9, 6e9), **changes):
    profile = lola.Profile(
        memory_bytes=np.linspace(0.5e9, 2e9, n_blocks),
        latency_s=np.linspace(0.5, 1.0, n_blocks),
        upload_bits=8e5,
        extra_latency_s=np.full(n_blocks, 0.05),
        extra_memory_bytes=np.full(n_blocks, 2e8),
    )
    fleet = lola.Fleet.sample(n_devices, seed=3, memory_bytes=memory_bytes)
    return lola.Problem(**({"profile": profile, "fleet": fleet, "bandwidth_hz": 2e7, "local_steps": 2} | changes))


def tiny_session(
    folder,
    *,
    depths=None,
    problem=None,
    setting=None,
    keep=True,
    optimizer=None,
    seed=5,
    columns_seed=1,
    model_seed=0,
    **others,
):
    """Return a session whose model (but for one of your own), data and optimizer are the same every time."""
    depths = tiny_depths(folder, seed=model_seed) if depths is None else depths
    depths.model.train()  # with dropout
    problem = tiny_problem(len(depths)) if problem is None else problem
    data = ShardedData(
        tiny_columns("bert", 90, seed=columns_seed), iid_shards(90, problem.n_devices, seed=2), batch_size=4, seed=seed
    )
    make = (lambda parameters: torch.optim.Adam(parameters, lr=1e-2)) if optimizer is None else optimizer
    return CooperativeSession(
        depths,
        make(depths.all_parameters()),
        problem,
        None if "devices" in others else data,
        setting=Setting() if setting is None else setting,
        folder=folder / "run" if keep else None,
        **others,
    )


def weights_of(session_or_depths):
    depths = getattr(session_or_depths, "depths", session_or_depths)
    return [parameter.detach().clone() for parameter in depths.all_parameters()]
