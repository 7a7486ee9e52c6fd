"""Devices that fail at random, round after round: the right weights, and no more memory."""

from faulty_rounds import FAULTS, run


def test_rounds_with_random_faults_end_with_the_weights_that_their_answers_make(tmp_path):
    records, faults, grown, same = run(tmp_path, 60)
    assert same
    assert all(faults[kind] for kind in FAULTS)
    assert sum(record.applied for record in records) >= 90
    assert sum(record.missing for record in records) >= 15
    assert all(record.refused for record in records if record.missing)
    assert grown < 2**24
