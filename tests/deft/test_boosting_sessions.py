"""Sessions of FlyBoosting: what arrives, what goes on, and who is satisfied to the last answer."""

import numpy as np
import pytest
import torch
from boosted import COMPUTE_S, DEVICES, boosting, session, tasks

import lola
from lola.air import DigitalUplink
from lola.deft import FederatedSession, FederatedSetting
from lola.deft.ensemble import Effectiveness


def test_what_a_prompt_becomes_on_its_way_does_not_depend_on_who_else_sends():
    def sent(only):
        data = tasks()
        scheme = boosting(data, threshold=1.0, bandwidth_hz=1e9)
        asked = scheme.asked
        scheme.asked = lambda work: [device for device in asked(work) if device in only]
        (record,) = session(scheme, data, local_steps=1, uplink=DigitalUplink(bits=4)).run(1)
        return dict(zip(record.devices_used, scheme.ensemble.prompts[1:], strict=True))

    among, alone = sent({0, 1, 2, 3}), sent({2})
    assert alone.keys() == {2} < among.keys()
    assert torch.equal(among[2], alone[2])


def test_a_scheme_whose_channel_is_a_function_goes_on(tmp_path):
    for rounds in (1, 2):
        data = tasks()
        run = session(
            boosting(data, channel=lambda version, clock_s: np.full(DEVICES, 5.0)), data, local_steps=1, folder=tmp_path
        )
        assert run.version == rounds - 1
        list(run.run(rounds))


@pytest.mark.parametrize(("wrong", "rows", "threshold"), [(7, 100, 0.93), (8, 25, 0.68), (3, 10, 0.7)])
def test_who_has_exactly_the_threshold_is_satisfied(wrong, rows, threshold):
    assert Effectiveness(rows, wrong, np.zeros(1, np.int64)).score == threshold


def test_another_optimizer_is_refused_before_the_ensemble_grows(tmp_path):
    data = tasks()
    list(session(boosting(data, threshold=1.0), data, local_steps=1, folder=tmp_path).run(2))
    scheme = boosting(data, threshold=1.0)
    optimizer = torch.optim.Adam(scheme.tunables.all_parameters(), lr=0.1)
    with pytest.raises(lola.FormatError, match="the checkpoint is of another optimizer, SGD; got Adam"):
        FederatedSession(
            scheme,
            optimizer,
            data,
            setting=FederatedSetting(local_steps=1),
            folder=tmp_path,
            compute_s=COMPUTE_S,
        )
    assert len(scheme.ensemble) == 1
