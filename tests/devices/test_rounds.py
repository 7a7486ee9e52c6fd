"""Rounds over a broker end with the weights of the simulated session, bit for bit, after every round."""

import torch
from cooperative import tiny_session, weights_of
from fleets import PROBLEM, devices_of, over

from lola.devices import EmbeddedBroker


def test_a_run_over_an_embedded_broker_is_the_simulated_one(tmp_path):
    here = tiny_session(tmp_path, keep=False, problem=PROBLEM)
    with EmbeddedBroker() as broker, over(tmp_path, broker.address) as there, devices_of(tmp_path, broker.address):
        for version in range(1, 6):
            (simulated,), (record,) = list(here.run(version))[-1:], list(there.run(version))[-1:]
            assert (record.applied, record.refused, record.loss) == (3, "", simulated.loss)
            assert all(torch.equal(a, b) for a, b in zip(weights_of(here), weights_of(there), strict=True))
