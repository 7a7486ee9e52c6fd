"""FlyBoosting over four devices, each with words of its own that decide."""

import numpy as np
import torch
from prompting import TOKENS, local_task, sharded, tiny_classifier

import lola
from lola.deft import (
    BoostingScheme,
    FederatedSession,
    FederatedSetting,
    PromptedClassifier,
    PromptEnsemble,
    draw_prompt,
    train_prompt,
)

DEVICES, ROWS = 4, 24
COMPUTE_S = (0.1, 0.2, 0.3, 0.4)
CHANNEL = lola.RayleighFading(DEVICES, transmit_snr_db=20.0, path_loss=1.0, seed=1)
HELD_OUT = [2 * ROWS * device + np.arange(ROWS, 2 * ROWS) for device in range(DEVICES)]


def tasks():
    """Half of each device's texts to train on, half held out."""
    parts = [local_task(device, 2 * ROWS) for device in range(DEVICES)]
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return sharded(columns, [2 * ROWS * device + np.arange(ROWS) for device in range(DEVICES)], batch_size=8)


def boosting(data, *, limit=6, first=1, head_steps=0, ensemble=None, bandwidth_hz=700.0, deadline_s=1.0, **changes):
    """A scheme whose head has learnt from the first device, if for any steps."""
    classifier = tiny_classifier(seed=2, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.0)
    prompts = [draw_prompt(classifier.model, tokens=TOKENS, seed=seed) for seed in range(first)]
    if head_steps:
        prompts[0], _ = train_prompt(classifier, prompts[0], data.batches(0, 0), steps=head_steps, learning_rate=0.02)
    frozen = PromptedClassifier(classifier.model, train_head=False)
    ensemble = PromptEnsemble(frozen, prompts, limit=limit) if ensemble is None else ensemble
    options = {"bandwidth_hz": bandwidth_hz, "deadline_s": deadline_s, "threshold": 0.75, "learning_rate": 0.1}
    channel = changes.pop("channel", CHANNEL)
    return BoostingScheme(ensemble, HELD_OUT, channel, **options | changes)


def session(scheme, data, *, local_steps=25, uplink=None, folder=None, compute_s=COMPUTE_S, **setting):
    optimizer = torch.optim.SGD(scheme.tunables.all_parameters(), lr=0.1)
    setting = FederatedSetting(local_steps=local_steps, **setting)
    return FederatedSession(scheme, optimizer, data, setting=setting, uplink=uplink, folder=folder, compute_s=compute_s)
