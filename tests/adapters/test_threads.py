"""One model used by two threads: they take turns, and each gets what it would have got alone."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cooperative import tiny_columns, tiny_depths

from lola.adapters import BlockTask, ModelUpdate, RoundPlan, apply_round, block_gradient


def task(depth):
    return BlockTask(version=0, device=depth, depths=depth, bandwidth_hz=1.0, local_steps=2)


def gradients(depths, batch, depth):
    return block_gradient(depths, task(depth), [batch, batch]).gradients


@pytest.fixture
def depths(tmp_path):
    made = tiny_depths(tmp_path, zero_init=False)
    made.model.eval()
    return made


def test_gradients_computed_by_threads_are_those_of_one(depths):
    batch = tiny_columns("bert", 4, seed=0)
    alone = {depth: gradients(depths, batch, depth) for depth in (1, 2, 3)}
    asked = [1, 2, 3] * 6
    with ThreadPoolExecutor(4) as pool:
        for depth, found in zip(asked, pool.map(lambda depth: gradients(depths, batch, depth), asked), strict=True):
            assert found.keys() == alone[depth].keys()
            assert all(torch.equal(found[name], alone[depth][name]) for name in found)


def test_a_round_is_applied_and_an_update_taken_when_no_gradient_is_under_way(depths):
    """A second thread waits while a device computes: the batch in the middle of it is where we look."""
    batch = tiny_columns("bert", 4, seed=0)
    answers = [block_gradient(depths, task(depth), [batch, batch]) for depth in (1, 2, 3)]
    before = ModelUpdate.from_depths(depths, 0).parameters
    plan = RoundPlan(0, tuple(task(depth) for depth in (1, 2, 3)), 1.0)
    optimizer = torch.optim.SGD(depths.all_parameters(), lr=0.1)
    others = [
        threading.Thread(target=apply_round, args=(optimizer, depths, plan, answers)),
        threading.Thread(target=ModelUpdate.from_depths, args=(depths, 0)),
    ]

    def batches():
        for other in others:
            other.start()
            other.join(0.2)
            assert other.is_alive()
        assert all(torch.equal(weight, before[name]) for name, weight in depths.all_named_parameters().items())
        yield from (batch, batch)

    during = block_gradient(depths, task(2), batches())
    for other in others:
        other.join(10)
        assert not other.is_alive()
    assert all(torch.equal(during.gradients[name], answers[1].gradients[name]) for name in during.gradients)
    assert not any(torch.equal(weight, before[name]) for name, weight in depths.all_named_parameters().items())


def test_a_copy_has_a_lock_of_its_own(depths):
    copied = copy.deepcopy(depths)
    with depths.lock, ThreadPoolExecutor(1) as pool:
        assert pool.submit(gradients, copied, tiny_columns("bert", 4, seed=0), 1).result(10)
