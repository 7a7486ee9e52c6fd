"""What the pages of bench/ judge follows from the data: a page of other data says the contrary, or is not written."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import devices
import numpy as np
import page
import profiles_page
import pytest
import results_page

import lola
from lola.profiling import REFERENCES

ROOT = Path(page.__file__).resolve().parents[1]
STATE = json.loads((ROOT / "bench" / "results.json").read_text())
PAGE = (ROOT / "bench" / "RESULTS.md").read_text()


# -- templates --------------------------------------------------------------------------------------------------------


def test_a_part_takes_exactly_its_fields():
    say = page.Template("results")
    assert say("where", machine="m", date="d") == "*m, d.*"
    wanted = r"must be given its fields, \['date', 'machine'\]; got \['date'\]: mend the template or the code"
    with pytest.raises(ValueError, match=wanted):
        say("where", date="d")
    with pytest.raises(ValueError, match=r"got \['date', 'machine', 'place'\]"):
        say("where", machine="m", date="d", place="p")


def test_a_claim_that_fails_is_not_written():
    page.claim(True, "one is one")
    with pytest.raises(
        ValueError, match="the page says that one is two, and what was measured says otherwise: look at"
    ):
        page.claim(False, "one is two")


@pytest.mark.parametrize(
    "name", ["results", "paper", "profiles", "segments", "devices", "testbed", "chains", "gaisnet", "deft"]
)
def test_every_part_of_a_template_is_used(name):
    code = "".join(path.read_text() for path in (ROOT / "bench").rglob("*.py"))
    for part in page.Template(name).parts:
        assert f'"{part}"' in code, part


# -- RESULTS.md -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["city", "batch", "scip", "growth", "grid", "ascent"])
def test_the_page_has_what_the_numbers_say(name):
    assert "\n\n".join(results_page.section(name, STATE)) in PAGE


def test_a_city_is_in_units_of_one_reading():
    solvers = ["block_allocation", "joint_allocation"]
    names = [f"{solver}, {kind}" for solver in solvers for kind in ("continuous", "quantised")]
    data = {
        "devices": 270_000,
        "solvers": solvers,
        "seconds": {"read": 0.002, **dict(zip(names, (0.01, 0.005, 0.04, 0.05), strict=True))},
        "extra_bytes": dict(zip(names, (0, 1200, 600, 300), strict=True)),
        "fleet_bytes": 2400,
    }
    text = results_page.city(data)
    assert "K = 270,000" in text
    assert "(2.00 ms here)" in text
    assert "3 speeds, 3 sizes of memory and the 15 channel qualities that radios report, so that 2,000 devices" in text
    assert "| block_allocation | 5.0 | 2.5 | 0.50 | 0.50 |" in text
    assert "| joint_allocation | 20.0 | 25.0 | 1.25 | 0.25 |" in text


def test_a_contender_that_is_slower_than_the_last_line_is_shown_so():
    each = {"batch": 2e-4, "numpy + scipy Newton": 1e-4}
    text = results_page.batch({**STATE["batch"], "seconds_each": each})
    assert "| batch | 200.0 | 0.5 × |" in text
    assert "faster" not in text


def test_what_proves_nothing_stands_in_the_last_line():
    each = dict(reversed(STATE["batch"]["seconds_each"].items()))
    with pytest.raises(ValueError, match="what is in the last line proves nothing"):
        results_page.batch({**STATE["batch"], "seconds_each": each})


def test_scip_stops_only_where_it_did():
    stops = "until SCIP no longer finishes within a minute"
    cases = STATE["scip"]["cases"]
    assert stops in results_page.scip(STATE["scip"])
    last = {**cases[-1], "size": [2 * results_page.SCIP_MOST_BLOCKS, results_page.SCIP_MOST_BLOCKS]}
    text = results_page.scip({"cases": [*cases, last]})
    assert stops not in text
    assert "SCIP finishes even the largest that was tried" in text
    with pytest.raises(ValueError, match="SCIP finished these cases within a minute"):
        results_page.scip({"cases": [{**cases[-1], "scip_s": 61.0}]})


def power(exponent):
    return [[size, 1e-9 * size**exponent] for size in (10, 100, 1000)]


def test_growth_names_what_grows_faster_than_its_order():
    data = {f"{problem} {axis}": {ours: power(1.0)} for problem, ours in results_page.OURS.items() for axis in "KL"}
    assert "None is more than 0.25 above its order." in results_page.growth(data)
    data["P1 L"] = {"block_allocation": power(1.2)}
    assert "None is more than 0.25 above its order." in results_page.growth(data)
    data["P1 L"] = {"block_allocation": power(1.3)}
    assert "More than 0.25 above their order are (P1) block_allocation in L." in results_page.growth(data)


def test_growth_divides_by_lolas_own_time():
    data = {f"{problem} {axis}": {ours: power(1.0)} for problem, ours in results_page.OURS.items() for axis in "KL"}
    data["P1 K"]["CRUNCH"] = [[size, seconds / 2] for size, seconds in power(1.0)]
    text = results_page.growth(data)
    assert "| (P1) CRUNCH | 0.5 × |" in text
    assert "slower" not in text


def test_the_grids_summary_is_of_its_cells():
    data = copy.deepcopy(STATE["grid"])
    assert "; 0 of 60 cells above 1.5." in results_page.grid(data)
    data["cells"][0]["ours"] = 3 * data["cells"][0]["peer_s"]
    assert "largest 3.00; 1 of 60 cells above 1.5." in results_page.grid(data)


def test_dual_ascent_counts_its_rounds():
    text = results_page.ascent(STATE["ascent"])
    assert "the worst of 10 rounds" in text
    data = copy.deepcopy(STATE["ascent"])
    data["20"]["bound_reached"] = [1.0, 0.5]
    with pytest.raises(ValueError, match="the last column is of 2 rounds for every K"):
        results_page.ascent(data)
    data["50"]["bound_reached"] = [1.0, 1.0]
    text = results_page.ascent(data)
    assert "the worst of 2 rounds" in text
    assert "| 50.0% |" in text


# -- PROFILES.md ------------------------------------------------------------------------------------------------------


SHIPPED = lola.load_profile(ROOT / "lola" / "data" / "profiles" / "gpt2.json")
STEPS = np.linspace(1e12, 2e12, SHIPPED.n_blocks)
COUNTED = replace(SHIPPED.evidence, flops=STEPS, segment_flops=2e12 + STEPS[::-1] / 100)
ESTIMATED = lola.Profile(
    memory_bytes=SHIPPED.memory_bytes,
    latency_s=SHIPPED.latency_s,
    upload_bits=SHIPPED.upload_bits,
    provenance=SHIPPED.provenance,
    evidence=COUNTED,
)


def shipped_but(latency_s=SHIPPED.latency_s, memory_bytes=SHIPPED.memory_bytes, monotone=None, **evidence):
    provenance = replace(SHIPPED.provenance, monotone=monotone)
    return lola.Profile(
        memory_bytes=memory_bytes,
        latency_s=latency_s,
        upload_bits=SHIPPED.upload_bits,
        provenance=provenance,
        evidence=replace(SHIPPED.evidence, **evidence),
        extra_latency_s=SHIPPED.extra_latency_s,
        extra_memory_bytes=SHIPPED.extra_memory_bytes,
    )


def test_a_cost_is_a_line_only_if_it_is():
    text = profiles_page.model("gpt2", SHIPPED, ESTIMATED)
    assert "* Memory is a line with R² 1.0000" in text
    assert "* Latency is a line with R² 0.99" in text
    steps = np.arange(1.0, 13) ** 3
    text = profiles_page.model("gpt2", shipped_but(steps, steps * 1e9), ESTIMATED)
    assert "* Memory is not a line with R² 0.8" in text
    assert "* Latency is not a line with R² 0.8" in text


def test_medians_rise_by_themselves_only_if_they_do():
    text = profiles_page.model("gpt2", SHIPPED, ESTIMATED)
    assert "* The medians rise as measured, without regression. Not known to 3 %: none." in text
    assert "regression, asked for" not in text
    medians = SHIPPED.latency_s.copy()
    medians[1] = medians[0] / 2
    raised = np.maximum.accumulate(medians)
    text = profiles_page.model("gpt2", shipped_but(raised, monotone="isotonic", raw_latency_s=medians), ESTIMATED)
    assert "* Isotonic regression, asked for, changed a median by at most 100.0 %; 1 fall(s) that noise does" in text
    assert "rise as measured" not in text
    spread = SHIPPED.evidence.latency_iqr_s.copy()
    spread[3] = 1.0
    assert "Not known to 3 %: depth 4." in profiles_page.model("gpt2", shipped_but(latency_iqr_s=spread), ESTIMATED)


def test_a_resident_peak_is_shown_where_it_was_measured():
    assert "resident memory" not in profiles_page.model("gpt2", SHIPPED, ESTIMATED)
    evidence = SHIPPED.evidence
    counted = SHIPPED.memory_bytes - evidence.saved_bytes + evidence.peak_bytes
    text = profiles_page.model("gpt2", shipped_but(process_peak_bytes=np.linspace(1.5, 2.0, 12) * counted), ESTIMATED)
    assert "peaks at 1.50 to 2.00 times weights and peak." in text


def test_one_more_block_is_held_against_its_estimate():
    starts = np.arange(12)
    runs = {
        "segment_repeats": np.where(np.isin(starts, (0, 4, 7, 11)), 5.0, 0.0),
        "segment_latency_iqr_s": np.full(12, 0.01),
        "segment_latency_s": SHIPPED.latency_s[-1] + 0.1 * starts[::-1],
        "segment_saved_bytes": SHIPPED.evidence.saved_bytes[-1] + 2e6 * starts[::-1],
    }
    measured = replace(shipped_but(**runs), extra_latency_s=0.1, extra_memory_bytes=2e6)
    counts = {
        "segment_saved_bytes": runs["segment_saved_bytes"],
        "segment_flops": COUNTED.flops[-1] + 1e10 * starts[::-1],
    }
    counted = replace(ESTIMATED, evidence=replace(COUNTED, **counts))
    text = profiles_page.model("gpt2", measured, counted)
    assert "| 5 to 12 | +0.700 s | 0.010 s | 5 | 7.000 % | 14.00 MB | 14.00 MB |" in text
    share = 10 / SHIPPED.latency_s[0]
    assert (
        f"One more block costs 0.100 s, {share:.2f} % of d(1), where operations say 1.000 %, and keeps 2.00 MB" in text
    )
    assert "Latency is a line in their number: R² 1.000" in text
    assert "One more block" not in profiles_page.model("gpt2", shipped_but(segment_repeats=None), ESTIMATED)
    bent = replace(counted, evidence=replace(counted.evidence, segment_saved_bytes=1.03 * runs["segment_saved_bytes"]))
    with pytest.raises(ValueError, match="what one more block keeps is estimated to 2 %"):
        profiles_page.model("gpt2", measured, bent)


def test_measured_twice_says_whether_memory_is_the_same():
    text = profiles_page.again(SHIPPED, shipped_but(SHIPPED.latency_s * 1.25))
    assert "The largest difference in latency is 25.0 %; memory is the same." in text
    assert "; memory differs." in profiles_page.again(SHIPPED, shipped_but(memory_bytes=SHIPPED.memory_bytes + 1))


def test_the_reference_adds_up():
    device = REFERENCES["snapdragon-8-gen-3"]
    scaled = lola.load_profile(ROOT / "lola" / "data" / "profiles" / "roberta-base-snapdragon-8-gen-3.json")
    operations = scaled.latency_s / scaled.latency_s.sum() * 1e12
    total = scaled.latency_s.sum() * device.flops_per_s / operations.sum()
    estimated = shipped_but(flops=operations * total)
    assert "measured one × 0.105853" in profiles_page.reference(device, scaled, estimated)
    with pytest.raises(ValueError, match="adds up to the operations at this rate"):
        profiles_page.reference(device, scaled, shipped_but(flops=operations))


def test_the_page_of_profiles_has_its_sections():
    text = (ROOT / "bench" / "PROFILES.md").read_text()
    again = lola.load_profile(ROOT / "bench" / "roberta-base-again.json")
    roberta = lola.load_profile(ROOT / "lola" / "data" / "profiles" / "roberta-base.json")
    assert profiles_page.head() in text
    assert profiles_page.again(roberta, again) in text


# -- DEVICES.md -------------------------------------------------------------------------------------------------------


ROUNDS, FAULTY, BITS = (json.loads(path.read_text()) for path in (devices.STATE, devices.FAULTS, devices.BITS))


def test_the_page_of_devices_has_what_was_measured():
    page = "\n\n".join(devices.page(ROUNDS, FAULTY, BITS)) + "\n"
    assert page == (ROOT / "bench" / "DEVICES.md").read_text()
    assert (FAULTY["rounds"], BITS["rounds"], BITS["devices"]) == (1000, 20, 4)


def with_seconds(fleet, seconds):
    changed = copy.deepcopy(ROUNDS)
    next(case for case in changed["cases"] if case["devices"] == fleet)["seconds"] = seconds
    return changed


def test_an_overhead_above_what_is_promised_is_not_written():
    with pytest.raises(ValueError, match=r"that a round of 4 devices over TLS costs at most 0.25 s, and what was"):
        devices.page(with_seconds(devices.FEW, [0.1, 0.26, 0.3]), FAULTY, BITS)


@pytest.mark.parametrize("slowest, kept", [(4.9, "kept here: 4.90 s"), (5.1, "missed here: 5.10 s")])
def test_many_devices_in_a_round_take_what_they_take(slowest, kept):
    page = "\n".join(devices.page(with_seconds(devices.MANY, [1.0, slowest]), FAULTY, BITS))
    assert f"in every round for 200 devices, which is {kept}" in page


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"equal": False}, "weights after rounds with faults are those that the same answers give without a broker"),
        ({"reasons": FAULTY["incomplete"] - 1}, "the record says of every incomplete round who and why"),
        ({"resident_bytes": [1e8, 9e7, 1.2e8]}, "memory grows by at most 16 MiB from a fifth of the rounds on"),
    ],
)
def test_a_fault_that_is_not_borne_is_not_written(changes, why):
    with pytest.raises(ValueError, match=why):
        devices.page(ROUNDS, FAULTY | changes, BITS)


def test_bits_that_differ_are_not_written():
    runs = [*BITS["runs"][:-1], BITS["runs"][-1] | {"equal": 19}]
    with pytest.raises(ValueError, match="the weights of all rounds are lola train's"):
        devices.page(ROUNDS, FAULTY, BITS | {"runs": runs})
