"""What a run that goes on must have in common with the one that was stopped, to the last byte."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cooperative import tiny_session

import lola
from lola.adapters.identity import told


@dataclass(frozen=True)
class Scripted:
    """A channel of one's own, with arrays where a dataclass can hide them."""

    by_hour: dict
    parts: tuple

    def __call__(self, round_index, clock_s):
        return np.ones(7)


def test_a_channel_that_differs_where_numpy_prints_dots_is_another_run(tmp_path):
    samples = np.random.default_rng(0).uniform(0.5, 5.0, 5000)
    other, tiny = samples.copy(), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    other[2000:3000] = 1.0
    pairs = {
        "traces": (lola.TraceReplay({"a": samples}, 7), lola.TraceReplay({"a": other}, 7)),
        "mean": (lola.FadingAround(tiny), lola.FadingAround(tiny * (1 + 1e-12))),
        "own": (Scripted({8: samples}, ()), Scripted({8: other}, ())),
        "tensors": (Scripted({}, (torch.as_tensor(samples),)), Scripted({}, (torch.as_tensor(other),))),
    }
    for name, (channel, changed) in pairs.items():
        assert repr(channel) == repr(changed), name
        (tmp_path / name).mkdir()
        list(tiny_session(tmp_path / name, channel=channel).run(1))
        assert tiny_session(tmp_path / name, channel=channel).version == 1
        with pytest.raises(lola.FormatError, match="the checkpoint is of another run"):
            tiny_session(tmp_path / name, channel=changed)


@pytest.mark.parametrize("value", [None, lola.RayleighFading(7, 12.5, seed=3), Scripted({8: 1.5, "x": [1]}, ("a",))])
def test_what_has_no_arrays_keeps_its_identity(value):
    assert told(value) == repr(value)
