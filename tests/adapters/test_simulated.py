"""Simulated devices answer to the last bit as the session's own loop did before they had a place of their own."""

import hashlib
import json

import numpy as np
import pytest
import torch
from cooperative import tiny_problem, tiny_session

import lola
from lola.adapters import Setting

POOR = lola.Fleet(
    speed=np.ones(7), memory_bytes=[6e8, 6e8, 6e8, 3e9, 3e9, 3e9, 3e9], spectral_efficiency=[3, 3, 3, 1, 1, 1, 1]
)
# Noted before the devices were parted from the session: who answered, from which rows, with which seed of dropout, and
# what became of it, as a digest; and the losses, which the last bits of a processor's arithmetic may move.
BEFORE = {
    "dropout": (Setting(), "4155aa91fbaafa71", [0.6932, 0.6935, 0.6948, 0.697, 0.7129, 0.6988]),
    "seed": (Setting(seed=3), "764e3ab6553e1d77", [0.6932, 0.6921, 0.6943, 0.6935, 0.71, 0.6983]),
    "failure": (
        Setting(method="random", failure=0.4),
        "2c87f0efbb504989",
        [0.6934, 0.6926, 0.697, 0.6943, 0.6962, np.nan],
    ),
    "participation": (
        Setting(participation=0.7, failure=0.2),
        "312b6b58d2e68172",
        [0.6933, 0.6939, 0.6934, 0.6952, 0.6947, 0.6932],
    ),
    "walls": (
        Setting(method="communication-aware", failure=0.3),
        "39e76d32f3a1ea33",
        [0.6946, 0.6939, 0.6848, np.nan, 0.6813, 0.6907],
    ),
}


@pytest.mark.parametrize("case", BEFORE)
def test_who_answers_from_which_rows_and_dropout_stays_as_it_was(tmp_path, case):
    setting, digest, losses = BEFORE[case]
    noted = []

    def note(*values):
        noted.append(values)

    def loss(model, batch):
        note(session.version, torch.initial_seed(), batch["input_ids"].tolist())
        return model(**batch).loss

    problem = tiny_problem(3, fleet=POOR) if case == "walls" else tiny_problem(3)
    session = tiny_session(tmp_path, keep=False, problem=problem, setting=setting, loss=loss)
    for r in session.run(len(losses)):
        note(r.version, r.participants, r.applied, r.missing, r.memory_wall, r.refused)
    assert hashlib.sha256(json.dumps(noted).encode()).hexdigest()[:16] == digest
    np.testing.assert_allclose([record.loss for record in session.records], losses, atol=2e-4)
