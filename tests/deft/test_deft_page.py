"""The page of DEFT has what its numbers say, Fig. 5's and Fig. 6's claims hold, and verdicts turn with the numbers."""

import copy
from pathlib import Path

import deft
import deft_page
import deft_plots
import one_device
import pytest

HERE = Path(deft_page.__file__).parent
RESULTS = deft.read_results()
PAGE = (HERE / "RESULTS.md").read_text()


@pytest.fixture
def results():
    return copy.deepcopy(RESULTS)


def test_the_page_is_of_the_results():
    assert "\n\n".join(deft_page.blocks(RESULTS)) + "\n" == PAGE


def test_the_plots_are_those_of_the_page(tmp_path):
    deft_plots.draw(RESULTS, tmp_path)
    pictures = {f"plots/{path.name}" for path in tmp_path.iterdir()}
    assert pictures == {f"plots/{path.name}" for path in (HERE / "plots").iterdir()}
    assert all(f"]({name})" in PAGE for name in pictures)


def test_one_device_is_fitted_again_to_the_same_numbers():
    fitted, recorded = one_device.run(), RESULTS["one-device"]
    assert recorded["encoder_weights"] == fitted["encoder_weights"] == 132_175_872
    for name in ("raw_bits", "device_s", "deft_s", "centralised_s"):
        assert recorded["fit"][name] == pytest.approx(fitted["fit"][name], rel=1e-12)
    for before, other in zip(recorded["others"], fitted["others"], strict=True):
        for name in ("device_s", "model_s", "raw_bits", "floor_s", "ratio_at_ends"):
            assert before[name] == pytest.approx(other[name], rel=1e-12)


@pytest.mark.parametrize(
    ("curve", "at", "times", "claimed"),
    [
        ("centralised_s", 30, 1.001, "DEFT is five times as fast at 10 dB"),
        ("centralised_s", 50, 1.3, "the gap narrows"),
        ("deft_s", -1, 1.3, "DEFT's latency levels off"),
    ],
)
def test_a_figure_of_another_shape_is_not_written(results, curve, at, times, claimed):
    results["one-device"]["fit"][curve][at] *= times
    with pytest.raises(ValueError, match=claimed):
        deft_page.one_device(results["one-device"])
