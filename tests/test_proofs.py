"""Certificates as JSON: what old files hold stays readable, and is written the same to the byte."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scenario import small_problem

import lola
from lola.proofs import KINDS, proof_from_json, proof_to_json

PRICES = lola.PriceProof(np.array([1.5, 2.0, 0.1]), np.array([0.0, -0.5, 0.0, 0.0, -1e-300]))
POTENTIALS = lola.PotentialProof(
    np.array([[0.0, 1.0, 2.5, 3.0], [0.0, 0.5, 2.0, 2.0], [0.5, 0.5, 1.0, 2.0], [1.5, 0.0, 1.0, 1.0]]),
    np.array([0.0, 0.0, -2.0, 0.0, 0.0]),
    (np.array([4]), np.array([1])),
)
MULTIPLIERS = lola.MultiplierProof(np.full(5, 0.2), 0.25, np.zeros(5), np.ones(3), np.array([0.0, -1.0, 0.0, 0.0, 0.0]))
WRITTEN = [
    (None, "null"),
    (lola.HallProof(np.array([2, 0])), '{"kind": "hall", "blocks": [2, 0]}'),
    (
        PRICES,
        '{"kind": "prices", "block_price_hz": [1.5, 2.0, 0.1], "device_price_hz": [-0.5, -1e-300], '
        '"priced_devices": [1, 4]}',
    ),
    (
        POTENTIALS,
        '{"kind": "potentials", "potential_hz": [[0.0, 1.0, 2.5, 3.0], [0.0, 0.5, 2.0, 2.0], [0.5, 0.5, 1.0, 2.0], '
        '[1.5, 0.0, 1.0, 1.0]], "device_price_hz": [-2.0], "priced_devices": [2], "counters": [[4], [1]]}',
    ),
    (
        MULTIPLIERS,
        '{"kind": "multipliers", "latency": [0.2, 0.2, 0.2, 0.2, 0.2], "bandwidth": 0.25, '
        '"involvement_s": [0.0, 0.0, 0.0, 0.0, 0.0], "block_s": [1.0, 1.0, 1.0], '
        '"device_s": [0.0, -1.0, 0.0, 0.0, 0.0]}',
    ),
]


@pytest.mark.parametrize("proof, text", WRITTEN, ids=["none", *KINDS])
def test_a_proof_is_written_as_ever_and_read_again(proof, text):
    assert json.dumps(proof_to_json(proof)) == text
    again = proof_from_json("s.json, proof", json.loads(text), small_problem())
    assert type(again) is type(proof)
    assert json.dumps(proof_to_json(again)) == text
    for name, value in vars(again).items() if again else ():
        assert np.array_equal(value, getattr(proof, name))
        assert np.asarray(value).dtype == np.asarray(getattr(proof, name)).dtype


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        ("hall", {"blocks": [0.5]}, r"proof, blocks\[0\]: an integer was wanted, got 0.5"),
        ("hall", {"blocks": [2**63]}, "proof, blocks: an entry does not fit 64 bits"),
        ("hall", {"device": 1}, "proof: unknown key 'device'"),
        ("prices", {"block_price_hz": 1.0}, "proof, block_price_hz: a list of numbers was wanted, got 1.0"),
        ("prices", {"priced_devices": [1, 5]}, "priced_devices must list distinct devices of the fleet"),
        ("potentials", {"potential_hz": []}, "potential_hz: lists of 4 numbers were wanted, at least one"),
        ("potentials", {"potential_hz": [[0.0, 1.0]]}, "potential_hz: lists of 4 numbers were wanted, at least one"),
        ("potentials", {"potential_hz": [3.0]}, r"potential_hz\[0\]: a list of numbers was wanted, got 3.0"),
        ("potentials", {"counters": 4}, "counters: a list of lists was wanted, got 4"),
        ("potentials", {"counters": [[0.5]]}, r"counters\[0\]\[0\]: an integer was wanted, got 0.5"),
        ("multipliers", {"bandwidth": "wide"}, "proof, bandwidth: a plain number was wanted"),
        ("multipliers", {"block": []}, "proof: unknown key 'block'. Did you mean 'block_s'"),
        (
            "multipliers",
            {"kind": "prizes"},
            "proof, kind: must be one of hall, prices, potentials, multipliers, got 'prizes'",
        ),
    ],
)
def test_what_is_no_proof_is_refused(kind, changes, message):
    text = next(text for proof, text in WRITTEN if proof is not None and proof.kind == kind)
    with pytest.raises(lola.FormatError, match=message):
        proof_from_json("s.json, proof", json.loads(text) | changes, small_problem())


@pytest.mark.parametrize("proof", [lola.HallProof(np.array([0])), lola.PriceProof(np.full(3, 1e6), np.zeros(5))])
def test_a_proof_of_one_block_a_device_is_none_of_several(proof):
    profile = replace(small_problem().profile, extra_latency_s=[0.1] * 3, extra_memory_bytes=[1e6] * 3)
    proof.check(small_problem(profile=profile), 1e-3)
    with pytest.raises(lola.VerificationError, match="proof: is of one block a device, but the problem lets one take"):
        proof.check(small_problem(profile=profile, max_blocks=2), 1e-3)


def test_proofs_are_themselves_in_sets_and_comparisons():
    for proof in map(object.__new__, KINDS.values()):
        assert {proof: "itself"}[proof] == "itself"


def test_the_latency_of_many_rounds_is_that_of_their_slowest_device():
    from lola.problem import round_latency_s

    compute, upload = np.array([[1.0, 2.0], [5.0, 0.0]]), np.array([[3.0, 1.0], [0.5, 6.0]])
    assert round_latency_s(compute, upload).tolist() == [4.0, 6.0]
    assert float(round_latency_s(compute[0], upload[0])) == 4.0
