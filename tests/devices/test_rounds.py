"""Rounds over a broker end with the weights of the simulated session, bit for bit, after every round."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cooperative import tiny_session, weights_of
from fleets import PROBLEM, data, devices_of, everybody, over

from lola.devices import EmbeddedBroker


def test_a_run_over_an_embedded_broker_is_the_simulated_one(tmp_path):
    here = tiny_session(tmp_path, keep=False, problem=PROBLEM)
    with EmbeddedBroker() as broker, over(tmp_path, broker.address) as there, devices_of(tmp_path, broker.address):
        everybody(there)
        for version in range(1, 6):
            (simulated,), (record,) = list(here.run(version))[-1:], list(there.run(version))[-1:]
            assert (record.applied, record.refused, record.loss) == (3, "", simulated.loss)
            assert all(torch.equal(a, b) for a, b in zip(weights_of(here), weights_of(there), strict=True))


def test_two_devices_take_three_blocks_where_they_may(tmp_path):
    """Several blocks on one device: one task, one answer."""
    profile = replace(PROBLEM.profile, extra_latency_s=np.full(3, 0.001), extra_memory_bytes=np.full(3, 1e6))
    fleet, two = PROBLEM.fleet.with_channel(PROBLEM.fleet.spectral_efficiency, [0, 1]), ("ann", "bob")
    problem = replace(PROBLEM, profile=profile, fleet=fleet, max_blocks=2)
    here = tiny_session(tmp_path, keep=False, problem=problem)
    with (
        EmbeddedBroker() as broker,
        over(tmp_path, broker.address, names=two, problem=problem) as there,
        devices_of(tmp_path, broker.address, two, batches=data(2).batches, profile=profile),
    ):
        everybody(there, two)
        records = list(there.run(3))
        assert [(record.applied, record.refused) for record in records] == [(3, "")] * 3
        assert len(there.devices.exchanges) == 2
    assert [record.loss for record in here.run(3)] == [record.loss for record in records]
    assert all(torch.equal(a, b) for a, b in zip(weights_of(here), weights_of(there), strict=True))


def test_a_port_that_is_taken_is_said():
    with EmbeddedBroker() as broker, pytest.raises(OSError, match="Address already in use"):
        EmbeddedBroker(broker.address.port).start()
