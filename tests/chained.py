"""A tiny model over chains of clients, and who is in them."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from cooperative import tiny_columns, tiny_depths

from lola.adapters import ChainSession, ChainSetting, ClusterPlan, ShardedData
from lola.solvers.errors import InfeasibleError


def every_cut(n_modules):
    """Every way to cut modules into neighbours, with a client each."""
    for n_cuts in range(n_modules):
        for cuts in combinations(range(1, n_modules), n_cuts):
            yield np.searchsorted(cuts, np.arange(n_modules), side="right")


@dataclass(frozen=True)
class InPairs:
    """A plan of five modules in pairs of clients, both of whom must be there: 0 begins with 1 behind it, 2 with 3, …"""

    latency_s: float = 1.5

    def __call__(self, version, clients):
        there = {*clients.tolist()}
        pairs = [(start, start + 1) for start in sorted(there) if start % 2 == 0 and start + 1 in there]
        if not pairs:
            raise InfeasibleError("no pair is there", (), 0)
        return [
            ClusterPlan((start, start, behind, behind, behind), self.latency_s * (1 + start), self.latency_s)
            for start, behind in pairs
        ]


def chain_data(n_shards=3, *, batch_size=4, seed=5, sizes=None, dtype=torch.float32):
    sizes = [30] * n_shards if sizes is None else sizes
    shards = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    return ShardedData(tiny_columns("bert", sum(sizes), seed=1, dtype=dtype), shards, batch_size=batch_size, seed=seed)


def chain_session(folder, *, optimizer=None, keep=False, dtype=torch.float32, data=None, dropout=True, **others):
    """Return a session of six clients in pairs whose model, data and optimizer are the same every time."""
    depths = tiny_depths(folder, dtype=dtype)
    depths.model.train(dropout)
    make = (lambda parameters: torch.optim.Adam(parameters, lr=1e-2)) if optimizer is None else optimizer
    usual = {"plan": InPairs(), "starts": (0, 2, 4), "n_clients": 6, "setting": ChainSetting()}
    usual |= {"folder": folder / "run" if keep else None}
    return ChainSession(
        depths, make(depths.all_parameters()), data=chain_data() if data is None else data, **(usual | others)
    )
