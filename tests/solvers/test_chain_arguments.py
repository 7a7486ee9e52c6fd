"""Memory of stages that does not add up, and several clients that may begin a chain."""

import numpy as np
import pytest

from lola.solvers import chain_allocation, cluster_allocation

CHAIN = {
    "work_s": [1.0, 2.0, 1.0],
    "memory_bytes": [1.0, 2.0, 1.0],
    "hop_bits": 1.0,
    "speed": [1.0, 1.0, 5.0],
    "client_memory_bytes": [3.0, 4.0, 4.0],
    "rate_bps": np.full((3, 3), 10.0),
}


def allocate(**changes):
    return chain_allocation(**(CHAIN | changes))


def test_memory_of_stages_that_adds_up_is_that_of_modules():
    stages = np.array([[1.0, 3.0, 4.0], [0.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    for start in (None, 0, 1):
        by_module, by_stage = allocate(start=start), allocate(start=start, memory_bytes=stages)
        assert by_module.client_of_module.tolist() == by_stage.client_of_module.tolist()
        by_stage.proof.check(by_stage.lower_bound, **(CHAIN | {"start": start, "memory_bytes": stages}))


def test_a_stage_may_need_more_than_its_modules():
    alone = allocate(start=2)
    assert alone.client_of_module.tolist() == [2, 2, 2]
    costly = np.array([[1.0, 5.0, 5.0], [0.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    assert allocate(start=2, memory_bytes=costly).client_of_module.tolist()[:2] in ([2, 0], [2, 1])


def test_any_of_several_may_begin():
    one, two, both = allocate(start=0), allocate(start=1), allocate(start=[0, 1])
    assert both.objective == min(one.objective, two.objective) > allocate().objective
    assert allocate(start=[2, 1, 0]).objective == allocate().objective
    assert allocate(start=(0, 2), order=[1, 2]).client_of_module[0] == 2


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"memory_bytes": np.ones((2, 3))},
            r"memory_bytes must have 3 entries, .* or shape \(3, 3\), .*; got \(2, 3\)",
        ),
        ({"memory_bytes": np.triu(-np.ones((3, 3)))}, "memory_bytes of stages must be finite, >= 0, and never less"),
        ({"memory_bytes": [[3, 2, 1], [0, 1, 1], [0, 0, 1]]}, "never less for a longer stage; got one that is not"),
        ({"memory_bytes": [[1, np.nan, 1], [0, 1, 1], [0, 0, 1]]}, "memory_bytes of stages must be finite"),
        ({"start": []}, r"start must be a client, or several, each once; got \[\]; None is any of them"),
        ({"start": [0, 0]}, r"start must be a client, or several, each once; got \[0, 0\]"),
        ({"start": [0, 3]}, r"start\[1\] must be a client from 0 to 2, got 3"),
        ({"start": [0, 1], "order": [2]}, "order must name the start"),
    ],
)
def test_refusals(changes, said):
    with pytest.raises(ValueError, match=said):
        allocate(**changes)


def test_clusters_heed_the_memory_of_stages():
    costly = np.array([[1.0, 5.0, 5.0], [0.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    clusters = {"n_clusters": 1, "starts": [2]}
    assert len(set(cluster_allocation(**CHAIN, **clusters).client_of_module[0])) == 1
    heeded = cluster_allocation(**(CHAIN | {"memory_bytes": costly}), **clusters)
    assert len(set(heeded.client_of_module[0])) == 2
