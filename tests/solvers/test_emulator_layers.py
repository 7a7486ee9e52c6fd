"""The blocks that an emulator keeps: against brute force over subsets, a plain twin, and its own proof."""

import itertools
import math
from dataclasses import replace

import naive
import numpy as np
import pytest

import lola
from lola.solvers import emulator_layers


def instance(rng, n_blocks):
    """Distortions, some of them ties and zeros, some forbidden, of any size."""
    shape = (n_blocks + 1, n_blocks + 1)
    distortion = rng.random(shape) if rng.random() < 0.5 else rng.integers(0, 4, shape) * 1.0
    distortion *= 10.0 ** rng.integers(-45, 46)
    distortion[rng.random(shape) < rng.choice([0.0, 0.2, 0.5])] = np.inf
    distortion[np.tri(*shape, k=-1, dtype=bool)] = rng.choice([np.inf, -1.0, 0.0, np.nan])  # nobody looks there
    return distortion


def total(distortion, kept):
    path = (0, *kept, distortion.shape[0])
    return math.fsum(distortion[i, j - 1] for i, j in itertools.pairwise(path))


def brute_force(distortion, n_kept):
    return min(total(distortion, kept) for kept in itertools.combinations(range(1, distortion.shape[0]), n_kept))


def test_optimal_against_brute_force(instances):
    """2,000 of them with LOLA_TEST_FACTOR=8."""
    rng = np.random.default_rng(60)
    feasible = 0
    for _ in range(instances(250)):
        n_blocks = int(rng.integers(1, 9))
        n_kept = int(rng.integers(1, n_blocks + 1))
        distortion = instance(rng, n_blocks)
        best = brute_force(distortion, n_kept)
        if best == np.inf:
            with pytest.raises(lola.solvers.InfeasibleError, match="no emulator exists"):
                emulator_layers(distortion, n_kept)
            continue
        feasible += 1
        emulator = emulator_layers(distortion, n_kept)
        assert emulator.kept.dtype == np.int64
        assert emulator.objective == total(distortion, emulator.kept) == pytest.approx(best, rel=1e-12, abs=0)
        emulator.verify(distortion)
    assert feasible > 10


def test_larger_ones_equal_the_plain_twin(instances):
    rng = np.random.default_rng(61)
    for _ in range(instances(20)):
        n_blocks = int(rng.integers(9, 40))
        distortion = rng.random((n_blocks + 1, n_blocks + 1))
        emulator = emulator_layers(distortion, n_blocks // 2)
        twin = naive.cheapest_hops(distortion, n_blocks // 2)
        assert emulator.objective == pytest.approx(twin, rel=1e-12)
        emulator.verify(distortion)


def test_of_equal_ones_the_blocks_nearest_the_input_stay():
    assert emulator_layers(np.zeros((7, 7)), 3).kept.tolist() == [1, 2, 3]
    assert emulator_layers(np.triu(np.ones((5, 5))), 4).kept.tolist() == [1, 2, 3, 4]


def test_as_many_hops_whatever_is_added_to_all():
    """So distortions that were measured below 0 can be raised together."""
    rng = np.random.default_rng(62)
    distortion = rng.integers(0, 50, (9, 9)) * 1.0
    emulator, raised = emulator_layers(distortion, 4), emulator_layers(distortion + 8.0, 4)
    assert raised.kept.tolist() == emulator.kept.tolist()
    assert raised.objective == emulator.objective + 5 * 8.0


def test_blocks_that_are_skipped_together_count_by_their_square():
    """So an even spread is best, and each block more is better, until none is skipped."""
    node = np.arange(13)
    distortion = np.maximum(node[1:] - node[:-1, None] - 1.0, 0.0) ** 2
    objective = [emulator_layers(distortion, kept).objective for kept in range(1, 12)]
    assert all(after < before for before, after in itertools.pairwise(objective))
    assert emulator_layers(distortion, 3).kept.tolist() == [3, 6, 9]
    assert objective[-1] == 0.0


@pytest.mark.parametrize("factor", [1e-45, 1e-12, 1e12, 1e45])
def test_scaling_scales(factor):
    distortion = np.random.default_rng(63).random((8, 8))
    plain, scaled = emulator_layers(distortion, 3), emulator_layers(distortion * factor, 3)
    assert scaled.kept.tolist() == plain.kept.tolist()
    assert scaled.objective == pytest.approx(plain.objective * factor, rel=1e-12)


def changed(array, place, value):
    copy = array.copy()
    copy[place] = value
    return copy


def test_what_was_tampered_with_is_told():
    distortion = np.random.default_rng(64).random((7, 7)) + 0.5
    emulator = emulator_layers(distortion, 3)
    potential = emulator.potential
    assert not any(array.flags.writeable for array in (emulator.kept, potential))
    for message, change in (
        (r"proof: potential has shape \(4, 8\), wanted \(5, 8\)", {"potential": potential[1:]}),
        ("proof: potential must be an array, got NoneType", {"potential": None}),
        ("kept: it must be of int64, got float64", {"kept": emulator.kept * 1.0}),
        (r"kept: it has shape \(1, 3\), wanted \(3,\)", {"kept": emulator.kept[None]}),
        ("objective: a finite number was wanted, got nan", {"objective": np.nan}),
        ("kept: blocks must rise from 1 to 6", {"kept": emulator.kept[::-1].copy()}),
        ("kept: blocks must rise from 1 to 6", {"kept": np.array([0, 1, 2])}),
        ("kept: blocks must rise from 1 to 6", {"kept": np.array([4, 5, 7])}),
        ("objective: the hops distort by", {"objective": emulator.objective * (1 + 3e-12)}),
        ("proof: the potential of the input is above 0", {"potential": changed(potential, (0, 0), 0.1)}),
        ("proof: the potential of the input is above 0, or one", {"potential": changed(potential, (0, 3), np.nan)}),
        ("proof: a potential rises over hop 2 by", {"potential": changed(potential, (2, 3), potential[2, 3] + 0.01)}),
        ("proof: a potential rises over hop 3 by", {"potential": changed(potential, (3, 5), np.nan)}),
        ("proof: the potentials only show", {"potential": potential * 0.99}),
    ):
        with pytest.raises(lola.VerificationError, match=message):
            replace(emulator, **change).verify(distortion)
    barred = distortion.copy()
    barred[0] = np.inf
    with pytest.raises(lola.VerificationError, match="objective: the hops distort by inf, not"):
        emulator.verify(barred)
    worse = changed(distortion, (0, 0), 0.0)
    with pytest.raises(lola.VerificationError, match="proof: a potential rises over hop 1 by more than it distorts"):
        emulator.verify(worse)


@pytest.mark.parametrize(
    "distortion, n_kept, message",
    [
        ([1.0, 2.0], 1, r"distortion must have 2 axis\(es\), got shape \(2,\)"),
        ([["a"]], 1, "distortion must hold real numbers, got dtype"),
        (np.ones((1, 1)), 1, r"must have shape \(L \+ 1, L \+ 1\) for L >= 1 blocks, .* got \(1, 1\); give each block"),
        (np.ones((2, 3)), 1, r"distortion must have shape .* got \(2, 3\); give each block a row and a column"),
        ([[1.0, np.nan], [0.0, 1.0]], 1, r"must be >= 0 .*, got nan at \[0, 1\]; correct it$"),
        ([[1.0, -np.inf], [0.0, 1.0]], 1, r"must be >= 0 .*, got -inf at \[0, 1\]; correct it$"),
        ([[1.0, -2.0], [0.0, 1.0]], 1, r"must be >= 0 .*, got -2.0 at \[0, 1\]; correct it, or add the same number to"),
        ([[1.0, np.nan], [0.0, 1.0]], 1, r"distortion must be >= 0 .* got nan at \[0, 1\]"),
        (
            [[1.0, 2.0], [0.0, 1e51]],
            1,
            r"distortion must be >= 0 \(up to 1e50, or inf .* got 1e\+51 at \[1, 1\]",
        ),
        (np.ones((3, 3)), 0, "n_kept must be at least 1, got 0"),
        (np.ones((3, 3)), 3, "n_kept must be at most 2, as many as there are blocks; got 3; keep fewer"),
        (np.ones((3, 3)), 1.0, "n_kept must be an integer, got float: 1.0"),
    ],
)
def test_bad_arguments_are_refused(distortion, n_kept, message):
    with pytest.raises(lola.LolaError, match=message):
        emulator_layers(distortion, n_kept)


def test_where_no_emulator_exists_the_message_says_with_how_many_blocks_one_does():
    distortion = np.full((4, 4), np.inf)
    for node in ((0, 0), (1, 2), (3, 3)):
        distortion[node] = 1.0
    with pytest.raises(
        lola.solvers.InfeasibleError, match=r"over 1 block\(s\); with 2 kept there is one; keep another"
    ):
        emulator_layers(distortion, 1)
    assert emulator_layers(distortion, 2).kept.tolist() == [1, 3]
    distortion[3, 3] = np.inf
    with pytest.raises(lola.solvers.InfeasibleError, match=r"over 2 block\(s\); no other number can be kept either; "):
        emulator_layers(distortion, 2)
