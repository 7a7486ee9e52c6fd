"""Devices that fail at random, round after round: the right weights, and no more memory."""

from faulty_rounds import FAULTS, run


def test_rounds_with_random_faults_end_with_the_weights_that_their_answers_make(tmp_path, instances):
    rounds = instances(60)
    records, faults, resident, same = run(tmp_path, rounds)
    assert same
    assert all(faults[kind] for kind in FAULTS)
    assert sum(record.applied for record in records) >= 1.5 * rounds
    assert sum(record.missing for record in records) >= rounds / 4
    assert all(record.refused for record in records if record.missing)
    assert resident[-1] - resident[0] < 2**24
