"""The page of DEFT has what its numbers say, Fig. 5's and Fig. 6's claims hold, and verdicts turn with the numbers."""

import copy
from pathlib import Path

import deft
import deft_page
import deft_plots
import deft_runs_page
import fused_prompts
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


def test_the_two_curves_end_together_only_where_they_do(results):
    data = results["many-devices"]
    for run in data["runs"]:
        run["accuracy"][-1] = 0.8
    text = deft_runs_page.many_devices(data)
    assert "within one standard error, as in the article's figure" in text
    assert "both have learnt something" in text
    for run in data["runs"]:
        if run["arm"] == fused_prompts.AIR:
            run["accuracy"][-1] = data["majority"]
    text = deft_runs_page.many_devices(data)
    assert "more than one standard error, unlike the article's figure" in text
    assert "little is learnt of the task" in text


def test_transfer_is_faster_only_where_it_is(results):
    data = results["many-devices"]
    for run in data["runs"]:
        run["accuracy"] = [0.5, 0.5, 0.5, 0.5, 0.5, 0.7]
    assert "not seen here" in deft_runs_page.fusion(data)
    for run in data["runs"]:
        if run["arm"] != fused_prompts.SCRATCH:
            run["accuracy"] = [0.5, 0.7, 0.7, 0.7, 0.7, 0.9]
    text = deft_runs_page.fusion(data)
    assert "Transfer gets there in fewer epochs: 1 against 5." in text
    assert "+0.200 (transfer − scratch), more than two standard errors" in text


def test_what_fewer_blocks_cost_is_judged(results):
    data = results["emulator"]
    for run in data["runs"]:
        run["accuracy"] = 0.5 + 0.05 * run["n_kept"]
    assert "0.200 less: more than two standard errors" in deft_runs_page.emulator(data)
    for run in data["runs"]:
        run["accuracy"] = 0.7
    assert "nothing is shown to be lost" in deft_runs_page.emulator(data)
