"""Ranks by a deadline: what its proof does not let pass, and what it says to what cannot be."""

from dataclasses import replace

import numpy as np
import pytest
from deadline_rounds import FAMILIES, instance

from lola.solvers import InfeasibleError, deadline_ranks
from lola.solvers.deadline_options import deadline_inputs, options_of
from lola.solvers.deadline_proof import RankProof
from lola.solvers.deadline_search import RankSearch, _raise
from lola.solvers.deadline_uniform import uniform_deadline_rank
from lola.solvers.errors import LolaError, VerificationError

ROUND = {
    "gain": [[5.0, 2.0, 1.0], [4.0, 3.0, 2.0]],
    "compute_s": [[1.0, 0.5, 3.0], [2.0, 1.0, 0.5]],
    "rank_bits": [1e6, 2e6],
    "fixed_bits": [5e5, 0.0],
    "spectral_efficiency": [2.0, 4.0, 0.5],
    "bandwidth_hz": 1e6,
    "deadline_s": 4.0,
}


def cut(**settings):
    """Return a larger round, and its answer, whose proof needs more than one box."""
    arguments, *_ = instance(np.random.default_rng(0), 6, 8, 6, "heads")
    arguments |= {"bandwidth_hz": 0.3 * arguments["bandwidth_hz"], "deadline_s": 4.0} | settings
    best = deadline_ranks(**arguments)
    best.verify(**arguments)
    assert best.proof.price.size > 3
    return arguments, best


def test_the_answer_must_hold():
    best = deadline_ranks(**ROUND)
    best.verify(**ROUND)
    damaged = {
        r"rank: it has shape \(1,\), wanted \(2,\)": {"rank": best.rank[:1]},
        "rank: it must be an array, got list": {"rank": best.rank.tolist()},
        "device_of_block: it must be of int64, got float64": {"device_of_block": best.device_of_block * 1.0},
        "rank: must lie between 1 and 3": {"rank": best.rank * 0},
        "objective: is": {"rank": np.array([1, 1])} | {"latency_s": None},
        "device_of_block: blocks that upload something need a device each": {"device_of_block": np.array([1, 1])},
        "device_of_block: .* need a device each, and another": {"device_of_block": np.array([0, -1])},
        "device_of_block: .* each, and another one": {"device_of_block": np.array([0, 3])},
        "bandwidth_hz: shares must be > 0": {"bandwidth_hz": best.bandwidth_hz * 1.1},
        r"bandwidth_hz: shares .* \(0 for a block left out\)": {"bandwidth_hz": best.bandwidth_hz * [1.0, 0.0]},
        "upper_bound: 0 is below the objective": {"upper_bound": 0.0},
        "latency_s: is": {"latency_s": best.latency_s * 0.9},
    }
    for line, change in damaged.items():
        if change.get("latency_s", 0) is None:
            change = change | {"latency_s": _ends(best, change["rank"])}
        with pytest.raises(VerificationError, match=line):
            replace(best, **change).verify(**ROUND)
    with pytest.raises(VerificationError, match=r"latency_s: .* the deadline is 2$"):
        best.verify(**ROUND | {"deadline_s": 2.0})
    with pytest.raises(VerificationError, match="bandwidth_hz: the equal share is 500000"):
        best.verify(**ROUND, equal_bandwidth=True)


def _ends(best, rank):
    bits = np.array(ROUND["fixed_bits"]) + rank * np.array(ROUND["rank_bits"])
    compute = np.array(ROUND["compute_s"])[[0, 1], best.device_of_block]
    efficiency = np.array(ROUND["spectral_efficiency"])[best.device_of_block]
    return float((compute + bits / best.bandwidth_hz / efficiency).max())


def test_a_block_left_out_has_no_device():
    tight = ROUND | {"deadline_s": 1.2}
    best = deadline_ranks(**tight, min_rank=0)
    best.verify(**tight, min_rank=0)
    assert best.rank[1] == 0
    assert best.device_of_block[1] == -1
    assert best.bandwidth_hz[1] == 0
    with pytest.raises(VerificationError, match="device_of_block: a block that uploads nothing must have -1"):
        replace(best, device_of_block=np.array([best.device_of_block[0], 2])).verify(**tight, min_rank=0)
    with pytest.raises(VerificationError, match="bandwidth_hz: shares must be > 0"):
        replace(best, bandwidth_hz=best.bandwidth_hz + np.array([9.0, -9.0])).verify(**tight, min_rank=0)


def test_a_bound_below_the_truth_is_not_proven():
    arguments, best = cut()
    with pytest.raises(VerificationError, match=r"proof: leaf \d+ allows a gain of"):
        replace(best, objective=0.9 * best.objective, upper_bound=0.9 * best.objective).proof.check(
            options_of(deadline_inputs(**arguments, min_rank=1, equal_bandwidth=False)),
            0.9 * best.objective,
            0.9 * best.objective,
        )
    richer = arguments | {"gain": arguments["gain"] * np.linspace(1.0, 2.0, 6)}
    with pytest.raises(VerificationError, match="objective: is"):
        best.verify(**richer)
    with pytest.raises(VerificationError, match=r"proof: leaf \d+ allows"):
        best.verify(**arguments | {"bandwidth_hz": 1.2 * arguments["bandwidth_hz"]})


def test_a_tree_that_leaves_ranks_out_is_no_proof():
    arguments, best = cut()
    proof = best.proof
    shorter = {name: getattr(proof, name)[:-1] for name in ("split_block", "split_rank", "price", "device_price")}
    longer = {name: np.concatenate((array, array[-1:])) for name, array in vars(proof).items()}
    leafless = proof.split_block.copy()
    leafless[0] = -1
    dear = proof.device_price.copy()
    dear[0, 0] = np.inf
    outside = "proof: prices must lie between 0 and 1e200"
    for line, changed in (
        (r"proof: \d+ boxes of ranks are left without a node", shorter),
        (r"proof: node \d+ belongs to no box", longer),
        (r"proof: leaf 0 allows a gain of", {"split_block": leafless}),
        (r"proof: leaf \d+ allows a gain of", {"price": 0.0 * np.nan_to_num(proof.price, posinf=0.0)}),
        ("proof: its arrays have shapes", {"device_price": proof.device_price[:, :-1]}),
        (outside, {"price": -1.0 - proof.price}),
        (outside, {"price": proof.price + np.nan}),
        (outside, {"price": np.full_like(proof.price, 1e201)}),
        (outside, {"device_price": dear}),
    ):
        with pytest.raises(VerificationError, match=line):
            replace(best, proof=replace(proof, **changed)).verify(**arguments)


def test_what_is_of_another_type_is_no_proof():
    arguments, best = cut()
    proof = best.proof
    for line, changed in {
        "proof: price must be an array, got list": {"price": proof.price.tolist()},
        "proof: price must be an array, got NoneType": {"price": None},
        "proof: price must be of float64, got object": {"price": proof.price.astype(object)},
        "proof: price must be of float64, got complex128": {"price": proof.price.astype(complex)},
        "proof: its arrays have shapes": {"price": proof.price[:, None]},
        "proof: split_block must be of int64, got float64": {"split_block": proof.split_block * 1.0},
    }.items():
        with pytest.raises(VerificationError, match=line):
            replace(best, proof=replace(proof, **changed)).verify(**arguments)
    for line, changed in {
        "objective: a finite number was wanted, got None": {"objective": None},
        "latency_s: a finite number was wanted, got '1'": {"latency_s": "1"},
        "upper_bound: a finite number was wanted, got inf": {"upper_bound": np.inf},
        "proof: a RankProof was wanted, got NoneType": {"proof": None},
    }.items():
        with pytest.raises(VerificationError, match=line):
            replace(best, **changed).verify(**arguments)


def test_prices_so_large_that_gains_drown_beside_them_prove_nothing():
    """Each block's best option less 1e200, plus 1e200 for each device, would be a bound of 0."""
    two = ROUND | {"compute_s": [[1.0, 0.5], [2.0, 1.0]], "spectral_efficiency": [2.0, 4.0]}
    best = deadline_ranks(**two)
    leaf = np.array([-1])
    forged = RankProof(leaf, leaf, np.zeros(1), np.full((1, 2), 1e200))
    with pytest.raises(VerificationError, match=r"proof: leaf 0 allows a gain of .*e\+1\d\d"):
        replace(best, proof=forged).verify(**two)


def test_a_search_that_is_stopped_says_how_far_it_may_be_off():
    arguments, best = cut()
    options = options_of(deadline_inputs(**arguments, min_rank=1, equal_bandwidth=False))
    gaps = []
    for most in (1, 3, 4, best.proof.price.size):
        search = RankSearch(options)
        upper, proof = search.run(most)
        proof.check(options, search.best.worth, upper)
        assert proof.price.size <= max(most, 1)
        assert search.best.worth <= best.objective <= upper
        gaps.append(upper - search.best.worth)
    assert gaps[0] > 0
    assert gaps[-1] == 0
    assert (np.diff(gaps) <= 0).all()


@pytest.mark.parametrize("seed", [198, 1063, 1080])
def test_a_search_that_is_stopped_is_worth_no_less_than_one_rank_for_all(seed):
    rng = np.random.default_rng(seed)
    arguments = {
        "gain": rng.integers(0, 9, (3, 3)) * 1.0,
        "compute_s": rng.random((3, 4)),
        "rank_bits": rng.integers(1, 9, 3) * 1.0,
        "fixed_bits": 0.0,
        "spectral_efficiency": rng.random(4) + 0.5,
        "bandwidth_hz": float(rng.integers(5, 60)),
        "deadline_s": 1.5,
    }
    options = options_of(deadline_inputs(**arguments, min_rank=0, equal_bandwidth=False))
    search = RankSearch(options)
    upper, proof = search.run(1)
    alike = uniform_deadline_rank(**arguments)
    assert search.best.worth >= arguments["gain"][:, :alike].sum() > 0
    proof.check(options, search.best.worth, upper)


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_units_do_not_matter_to_the_boxes_that_are_cut(scale):
    """Of bits, with the bandwidth; of gain; and of both: by powers of two, so that no sum is rounded otherwise."""
    arguments, best = cut()
    for names in (
        ("gain",),
        ("rank_bits", "fixed_bits", "bandwidth_hz"),
        ("gain", "rank_bits", "fixed_bits", "bandwidth_hz"),
    ):
        other = deadline_ranks(**arguments | {name: scale * arguments[name] for name in names})
        assert other.proof.split_rank.tolist() == best.proof.split_rank.tolist()


def test_a_choice_is_raised_by_what_gains_most_and_fits_on_a_device_that_is_free():
    """The second block moves to the free device, which frees its own; only then may the first one move there."""
    block, device = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    worth, need = np.array([1.0, 2.0, 2.5, 1.0, 3.0, 4.0]), np.array([1.0, 3.0, 1.5, 1.0, 1.5, 9.0])
    for bandwidth, raised in ((2.4, [0, 3]), (2.5, [0, 4]), (3.0, [2, 4])):
        choice = _raise(block, device, worth, need, np.array([0, 3]), 3, bandwidth)
        assert choice.tolist() == raised


@pytest.mark.parametrize("equal", [False, True])
def test_what_does_not_fit_says_by_when_it_would(equal):
    """Waiting until then helps, and a hair less does not."""
    for deadline, reason in {
        0.1: r"depth\(s\) .* and \d could end any of them by 0.1 s",
        1.9: "a deadline_s of",
    }.items():
        with pytest.raises(InfeasibleError, match=reason) as refused:
            deadline_ranks(**ROUND | {"deadline_s": deadline}, equal_bandwidth=equal)
        told = float(str(refused.value).split("deadline_s of ")[1].split()[0])
        deadline_ranks(**ROUND | {"deadline_s": told}, equal_bandwidth=equal)
        with pytest.raises(InfeasibleError, match="no ranks fit"):
            deadline_ranks(**ROUND | {"deadline_s": told * 0.9999}, equal_bandwidth=equal)


@pytest.mark.parametrize("equal", [False, True])
def test_the_deadline_that_is_named_does_in_any_round(equal):
    rng, named = np.random.default_rng(8), 0
    for number in range(40):
        arguments, *_ = instance(rng, 1 + number % 3, 4, 2, FAMILIES[number % len(FAMILIES)])
        try:
            deadline_ranks(**arguments, deadline_s=1e-3, equal_bandwidth=equal)
        except InfeasibleError as refused:
            if "deadline_s of " in str(refused):
                told = float(str(refused).split("deadline_s of ")[1].split()[0])
                deadline_ranks(**arguments, deadline_s=told, equal_bandwidth=equal)
                named += 1
    assert named > 20


def test_what_is_needed_and_what_there_is_are_told_apart():
    """A hair less than the deadline that would do: to six digits, both bandwidths are 1e+06 Hz."""
    two = {"gain": [[1.0]] * 2, "compute_s": np.ones((2, 2)), "spectral_efficiency": [1.0, 1.0]}
    bits = {"rank_bits": 5e5, "fixed_bits": 0.0}
    with pytest.raises(InfeasibleError, match=r"need 1000000\.1 Hz to end by 2 s, and there are 1000000; "):
        deadline_ranks(**two, **bits, bandwidth_hz=1e6, deadline_s=2.0 - 1e-7)


def test_what_never_fits_says_why():
    with pytest.raises(
        InfeasibleError, match=r"rank 1 everywhere 2 blocks need a device each, and there are 1; add"
    ) as e:
        deadline_ranks(**ROUND | {"compute_s": [[1.0], [1.0]], "spectral_efficiency": [2.0]})
    assert (e.value.violator, e.value.partners) == ((0, 1), 1)
    with pytest.raises(
        InfeasibleError, match=r"depth\(s\) 1, 2 need 2 device\(s\), and 1 have a finite compute_s"
    ) as e:
        deadline_ranks(**ROUND | {"compute_s": [[1.0, np.inf, np.inf], [1.0, np.inf, np.inf]]})
    assert (e.value.violator, e.value.partners) == ((0, 1), 1)
    with pytest.raises(
        InfeasibleError, match=r"rank 3 everywhere the blocks need .* Hz to end by 4.2 s, and there are"
    ):
        deadline_ranks(**ROUND | {"deadline_s": 4.2}, min_rank=3)


@pytest.mark.parametrize(
    ("change", "last"),
    [
        ({"compute_s": [[1.0], [1.0]], "spectral_efficiency": [2.0]}, "add devices$"),
        ({}, "or add bandwidth or devices$"),
    ],
)
def test_rank_0_is_not_told_to_be_lowered(change, last):
    asked = ROUND | {"fixed_bits": 5e5, "deadline_s": 0.51} | change
    with pytest.raises(InfeasibleError, match=f"even with rank 0 everywhere .*{last}"):
        deadline_ranks(**asked, min_rank=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": [5.0, 2.0]}, r"gain must have 2 axis\(es\), got shape"),
        ({"gain": np.zeros((2, 0))}, r"gain is empty, shape \(2, 0\); at least"),
        (
            {"gain": [[1.0, np.nan], [1.0, 1.0]]},
            "gain must be finite, at most 1e50 in size, got nan for rank 2 of block 0; correct it",
        ),
        ({"gain": [["a"], ["b"]]}, "gain must hold real numbers, got dtype"),
        ({"compute_s": [[1.0, 2.0]]}, r"compute_s must have shape \(2, 3\), blocks of gain by devices .* got \(1, 2\)"),
        ({"compute_s": -np.ones((2, 3))}, r"compute_s must be >= 0 .* got -1.0 at row 0, column 0"),
        ({"compute_s": np.full((2, 3), np.nan)}, "or inf where a device cannot take a block; got nan"),
        ({"rank_bits": 0.0}, "rank_bits must be finite and > 0, got 0.0"),
        ({"rank_bits": [[1.0], [1.0, 2.0]]}, "rank_bits must be a rectangular array of real numbers; numpy says"),
        ({"rank_bits": [1.0, 2.0, 3.0]}, "rank_bits must have 2 entries, as many as gain; got 3"),
        ({"fixed_bits": -1.0}, "fixed_bits must be finite and >= 0, got -1.0"),
        ({"spectral_efficiency": []}, "spectral_efficiency is empty"),
        ({"spectral_efficiency": [1.0, 0.0, 1.0]}, "spectral_efficiency must be finite and > 0, got 0.0 at index 1"),
        ({"bandwidth_hz": 0.0}, "bandwidth_hz must be finite and > 0, got 0.0"),
        ({"deadline_s": np.inf}, "deadline_s must be finite and > 0, got inf"),
        ({"deadline_s": "soon"}, "deadline_s must be a number, got str"),
        ({"min_rank": 4}, "min_rank must lie between 0 and 3, the ranks that gain has columns for; got 4"),
        ({"min_rank": -1}, "min_rank must lie between 0 and 3"),
        ({"min_rank": 1.0}, "min_rank must be an integer, got float"),
        ({"equal_bandwidth": "yes"}, "equal_bandwidth must be True or False, got str: 'yes'"),
    ],
)
def test_bad_input_is_refused(change, message):
    with pytest.raises(LolaError, match=message) as refused:
        deadline_ranks(**ROUND | change)
    assert isinstance(refused.value, ValueError | TypeError)
