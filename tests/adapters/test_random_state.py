"""What draws at random follows from its seed, as it always did, and leaves the caller's own draws alone."""

import hashlib

import pytest
import torch
from cooperative import random_state
from tiny_models import save_checkpoint, save_config

from lola.models import attach_lora
from lola.models.seeding import seeded
from lola.profiling import Workload, estimate, measure
from lola.profiling.building import build
from lola.tasks.texts import load_classifier

# SHA-256 of LoRA's A, by seed, as lola drew them when it set torch's own seed: runs that began then go on.
DRAWN = {
    0: "ba3493a3c0ab94d2a9fd04a8ae60f7ff596cdf32fa15804c40a034f6a990d799",
    5: "e6dfde66d450acd20efb86291fa0c7135b5a27fecb287188cfc120207987d60b",
}


@pytest.fixture
def untouched():
    """Fails a test that moves a global random state between its first step and its end."""
    before = random_state()
    yield
    assert random_state() == before


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return save_config(tmp_path_factory.mktemp("config"), "bert")


def trained(depths):
    return {name: p for depth in range(1, len(depths) + 1) for name, p in depths.named_parameters(depth).items()}


@pytest.mark.parametrize("seed", DRAWN)
def test_a_run_begins_with_the_weights_that_it_always_had(bert, untouched, seed):
    with seeded(seed):
        depths = attach_lora(load_classifier(bert, 3, seed=None).model, rank=4)
    digest = hashlib.sha256()
    for name, weight in sorted(trained(depths).items()):
        if "lora_A" in name:
            digest.update(name.encode() + weight.detach().numpy().tobytes())
    assert digest.hexdigest() == DRAWN[seed]
    assert torch.equal(depths.model.classifier.weight, load_classifier(bert, 3, seed=seed).model.classifier.weight)


def test_without_a_seed_the_state_around_is_drawn_from(bert):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        depths = attach_lora(load_classifier(bert, 3, seed=None).model, rank=4)
        after = torch.rand(1)
    with seeded(0):
        wanted = trained(attach_lora(load_classifier(bert, 3, seed=None).model, rank=4))
        assert torch.equal(torch.rand(1), after)
    assert all(torch.equal(weight, wanted[name]) for name, weight in trained(depths).items())


def test_models_and_adapters_follow_their_seed(config, untouched):
    def adapters(seed):
        model, _ = build(Workload(config, seed=3), "cpu")
        return torch.cat([weight.flatten() for weight in trained(attach_lora(model, seed=seed)).values()])

    one, again, other = adapters(1), adapters(1), adapters(2)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_model_whose_file_has_no_head_draws_it_from_the_seed(bert, untouched):
    heads = [build(Workload(bert, seed=seed), "cpu")[0].classifier.weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize("profile", [estimate, lambda workload: measure(workload, limit_s=0.01, monotone="isotonic")])
def test_a_profile_leaves_the_state_alone(config, untouched, profile):
    profile(Workload(config, batch_size=2, sequence_length=6, seed=3))


@pytest.mark.parametrize(
    "seed, error, message",
    [
        (
            2**64,
            ValueError,
            r"seed must lie between -2\*\*63 and 2\*\*64 - 1, got 18446744073709551616",
        ),
        (-(10**100), ValueError, r"2\*\*64 - 1, got -10+\.\.\.0+; take a smaller"),
        (1.5, TypeError, "seed must be an integer, got float: 1.5"),
    ],
)
def test_a_seed_that_torch_does_not_take_is_refused(config, seed, error, message):
    with pytest.raises(error, match=message):
        Workload(config, seed=seed)
    with pytest.raises(error, match=message), seeded(seed):
        pass
