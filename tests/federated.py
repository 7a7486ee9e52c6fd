"""Tiny federated sessions, whose models, data and optimizers are the same every time, and a scheme that grows."""

import threading

import numpy as np
import torch
from cooperative import tiny_columns, tiny_depths
from tiny_models import save_config

from lola.adapters import ShardedData
from lola.air import DigitalUplink
from lola.deft import (
    Answer,
    AssistedScheme,
    EmulatorScheme,
    FederatedSession,
    Outcome,
    PlainScheme,
    PromptedClassifier,
    Scheme,
    prompt_encoder,
)
from lola.profiling import Workload
from lola.profiling.building import build

DEVICES, ROWS = 3, 90
UPLINK = DigitalUplink(bits=8, snr_db=20.0, bandwidth_hz=1e6)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-2)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def federated_data(name="bert", *, seed=5, batch_size=4, dtype=torch.float32):
    shards = np.split(np.arange(ROWS), DEVICES)
    return ShardedData(tiny_columns(name, ROWS, seed=1, dtype=dtype), shards, batch_size=batch_size, seed=seed)


def federated_session(folder, scheme=PlainScheme, *, name="bert", keep=False, data=None, optimizer=adam, **others):
    """Return a session of three devices with dropout; `scheme` makes its scheme of a model with adapters."""
    depths = tiny_depths(folder, name, zero_init=False)
    depths.model.train()
    made = scheme(depths)
    return FederatedSession(
        made,
        optimizer(made.tunables.all_parameters()),
        federated_data(name) if data is None else data,
        folder=folder / "run" if keep else None,
        **others,
    )


def classifier(folder, *, name="bert", dtype=torch.float64, **options):
    model, _ = build(Workload(save_config(folder / name, name, initializer_range=0.3), batch_size=2, seed=1), "cpu")
    return PromptedClassifier(model.to(dtype), **options)


def assisted_session(
    folder, *, kind="LSTM", seeds=range(DEVICES), name="bert", dtype=torch.float64, optimizer=sgd, keep=False, **others
):
    """Return a session of three devices with prompt encoders of these seeds."""
    served = classifier(folder, name=name, dtype=dtype)
    encoders = [prompt_encoder(served.model, tokens=2, hidden=5, kind=kind, seed=seed) for seed in seeds]
    options = {option: others.pop(option) for option in ("weighted",) if option in others}
    scheme = AssistedScheme(served, encoders, **options)
    data = others.pop("data", None)
    return FederatedSession(
        scheme,
        optimizer(scheme.tunables.all_parameters()),
        federated_data(name) if data is None else data,
        folder=folder / "run" if keep else None,
        **others,
    )


class Growing(Scheme):
    """Those of the devices that are asked in turn send random vectors; each stays as a part of what is trained."""

    def __init__(self):
        self.model = torch.nn.ParameterDict({"first": torch.nn.Parameter(torch.ones(2))})
        self.lock = threading.RLock()

    @property
    def tunables(self):
        return self

    @property
    def identity(self):
        return ("growing",)

    def all_named_parameters(self):
        return dict(self.model.items())

    def all_parameters(self):
        return [self.model["first"]]

    def begin(self, data, uplink):
        return 5

    def asked(self, work):
        return [int(device) for device in work.present if device % 2 == work.version % 2]

    def answer(self, work, device):
        return Answer({"vector": torch.randn(2)}, 0.5, 1 + device)

    def apply(self, work, answers, optimizer):
        for device, answer in answers.items():
            one, _ = work.receive([answer])
            self.grow(f"{work.version}-{device}")
            self.model[f"{work.version}-{device}"].data = one["vector"] + torch.randn(2)
        return Outcome(0.25, tuple(answers), numbers=self.size(), delivered_bits=7.0 * len(work.asked))

    def without_answers(self, work):
        return Outcome(float("nan"), (), numbers=self.size(), delivered_bits=7.0 * len(work.asked))

    def size(self):
        return {"size": float(len(self.model))}

    def kept(self):
        return {"names": [name for name in self.model if name != "first"]}

    def restore(self, kept):
        for name in kept["names"]:
            self.grow(name)

    def grow(self, name):
        self.model[name] = torch.nn.Parameter(torch.zeros(2), requires_grad=False)


def emulator(depths):
    return EmulatorScheme(depths, [1, 3])


def growing_session(folder, **others):
    scheme = Growing()
    return FederatedSession(
        scheme, torch.optim.SGD(scheme.all_parameters(), lr=0.1), federated_data(), folder=folder / "run", **others
    )


MAKERS = {
    "plain": lambda folder, **options: federated_session(folder, **options),
    "emulator": lambda folder, **options: federated_session(folder, emulator, name="roberta", **options),
    "assisted": lambda folder, **options: assisted_session(folder, optimizer=adam, **options),
    "growing": lambda folder, keep, **options: growing_session(folder, **options),
}
