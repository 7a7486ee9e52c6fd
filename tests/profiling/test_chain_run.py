"""Modules of one's own as a chain: what is profiled, and what is refused because it is none."""

import numpy as np
import pytest
import torch

from lola.profiling import ProfilingError, Workload, estimate_stages, measure_stages


class Odd(torch.nn.Module):
    """Blocks that run as a recipe says: by their numbers, with keywords or with something else in front."""

    def __init__(self, recipe, kind="usual"):
        super().__init__()
        self.embed, self.out = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
        self.layers = torch.nn.ModuleList(OddBlock() for _ in range(3))
        self.recipe, self.kind = recipe, kind

    def forward(self, x, labels):
        hidden = first = self.embed(x)
        for i in self.recipe:
            if self.kind == "keyword":
                hidden = self.layers[i](hidden_states=hidden)
            elif self.kind == "side":
                hidden = self.layers[i](hidden, first)
                first = first if i else hidden
            else:
                hidden = self.layers[i](None if self.kind == "none" else hidden, hidden)
        return {"loss": (self.out(hidden)[..., 0] - labels).square().mean()}


class OddBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.value = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, hidden_states, other=None):
        if hidden_states is None:
            return self.value(other)
        return self.value(self.query(hidden_states).tanh()) + (0 if other is None else other)


def odd(recipe, kind="usual"):
    return Workload(Odd(recipe, kind), batch={"x": torch.zeros(2, 3, 4), "labels": torch.zeros(2, 3)}, lora_rank=1)


def test_a_module_of_ones_own_is_profiled():
    stages = estimate_stages(odd([0, 1, 2], "keyword"))
    assert stages.n_modules == 5
    assert stages.hop_bits.tolist() == [32 * 2 * 3 * 4] * 4
    assert stages.result_bits == 0  # it gives a loss alone
    assert stages.provenance.model == "Odd"
    measured = measure_stages(odd([0, 1, 2], "keyword"), threads=1, repeats=1, limit_s=0.01)
    np.testing.assert_allclose(measured.memory_bytes, stages.memory_bytes, rtol=0.03)


@pytest.mark.parametrize(
    "recipe, kind, message",
    [
        ([1, 0, 2], "keyword", "block 1 was wanted, and OddBlock of block 2 runs; take a model whose blocks do"),
        ([0, 1, 1, 2], "keyword", "block 3 was wanted, and OddBlock of block 2 runs"),
        ([0, 1], "keyword", "block 3 did not run; take a model whose blocks do"),
        (
            [0, 1, 2],
            "side",
            "OddBlock of block 3 is given another tensor that requires a gradient, such as an encoder's",
        ),
        ([0, 1, 2], "none", "a tensor was wanted as the first argument of OddBlock, got NoneType; name other blocks"),
    ],
)
@pytest.mark.parametrize("profile", [estimate_stages, measure_stages])
def test_what_is_no_chain_is_refused(recipe, kind, message, profile):
    with pytest.raises(ProfilingError, match=message):
        profile(odd(recipe, kind))
