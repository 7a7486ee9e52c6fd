"""Numbers in the wrong unit are said aloud, and no scenario, phone or sweep of the paper's is."""

import json
import warnings
from dataclasses import replace
from importlib import resources
from pathlib import Path

import latency
import numpy as np
import parameters
import pytest
from scenario import small_problem

import lola
from lola.cli.main import main
from lola.files.problems import builtin_scenario
from lola.plausibility import LIMITS
from lola.problem import of_a_round

ROOT = Path(__file__).resolve().parents[1]
BUILT_IN = builtin_scenario()


def with_profile(**changes):
    return replace(BUILT_IN, profile=replace(BUILT_IN.profile, **changes))


def with_fleet(**changes):
    return replace(BUILT_IN, fleet=replace(BUILT_IN.fleet, **changes))


def at_db(snr_db):
    return with_fleet(spectral_efficiency=lola.channel.spectral_efficiency(snr_db))


def by_hand():
    """A provenance as people write it: what lola writes names the software, too."""
    return {"provenance": replace(BUILT_IN.profile.provenance, software=None)}


def without_origin():
    return {"provenance": None, "evidence": None}


# What was meant, what was typed, and the unit that a note names.
PROFILE, FLEET = BUILT_IN.profile, BUILT_IN.fleet
WRONG = {
    "100 MHz as 100": (lambda: replace(BUILT_IN, bandwidth_hz=100), "bandwidth_hz is 100, .* megahertz"),
    "20 MHz as 20": (lambda: replace(BUILT_IN, bandwidth_hz=20), "bandwidth_hz is 20, .* megahertz"),
    "100 MHz in kHz": (lambda: replace(BUILT_IN, bandwidth_hz=100e3), "is it in kilohertz, megahertz or gigahertz"),
    "100 MHz in GHz": (lambda: replace(BUILT_IN, bandwidth_hz=0.1), "is it in kilohertz, megahertz or gigahertz"),
    "hertz times a million": (lambda: replace(BUILT_IN, bandwidth_hz=100e12), "was it multiplied twice"),
    "15 kHz as 15": (lambda: replace(BUILT_IN, subcarrier_hz=15), "subcarrier_hz is 15, .* is it in kilohertz"),
    "latency in ms": (lambda: with_profile(latency_s=1e3 * PROFILE.latency_s), "latency_s is 923.*milliseconds"),
    "latency in µs": (lambda: with_profile(latency_s=1e6 * PROFILE.latency_s), "milliseconds or microseconds"),
    "reciprocal latency": (lambda: with_profile(latency_s=1e-9 * PROFILE.latency_s), "in hours, or a reciprocal"),
    "a model's memory in kB": (lambda: with_profile(memory_bytes=PROFILE.memory_bytes / 2**14), "is it in kilobytes"),
    "a model's memory in MB": (lambda: with_profile(memory_bytes=PROFILE.memory_bytes / 1e6), "kilobytes, megabytes"),
    "a model's memory in GB": (lambda: with_profile(memory_bytes=PROFILE.memory_bytes / 1e9), "megabytes or gigabytes"),
    "uploads in bytes": (
        lambda: with_profile(upload_bits=98_304, **by_hand()),
        "width, .* is 96, .* is upload_bits in bytes",
    ),
    "uploads in bytes, of unknown rank": (
        lambda: with_profile(upload_bits=98_304, **without_origin()),
        "the smallest upload_bits is 98304, .* is it in bytes or megabits",
    ),
    "uploads in Mbit": (lambda: with_profile(upload_bits=0.786, **without_origin()), "is it in bytes or megabits"),
    "uploads times a million": (lambda: with_profile(upload_bits=786e9), "share .* or upload_bits too large"),
    "speeds as scores": (lambda: with_fleet(speed=1500 * FLEET.speed), "speed is 14.*is it a score"),
    "speeds in percent": (lambda: with_fleet(speed=100 * FLEET.speed), "slowest device's speed is 5.*is it in percent"),
    "speeds in MHz": (lambda: with_fleet(speed=2840 * FLEET.speed), "in megahertz or GFLOPS, not relative"),
    "seconds an operation for speed": (lambda: with_fleet(speed=1e-9 / FLEET.speed), "not relative to the reference"),
    "phones' memory in kB": (lambda: with_fleet(memory_bytes=FLEET.memory_bytes / 1e3), "largest device is 5.98"),
    "phones' memory in MB": (lambda: with_fleet(memory_bytes=FLEET.memory_bytes / 1e6), "kilobytes, megabytes or giga"),
    "phones' memory in GB": (lambda: with_fleet(memory_bytes=FLEET.memory_bytes / 1e9), "megabytes or gigabytes"),
    "bytes times a billion": (lambda: with_fleet(memory_bytes=1e9 * FLEET.memory_bytes), "was it multiplied twice"),
    "received power in dBm": (lambda: at_db(np.linspace(-110, -75, 20)), "is snr_db a received power in dBm"),
    "-400 dB": (lambda: at_db([*np.zeros(19), -400.0]), "a received power, or a power ratio and no decibels"),
    "a ratio for decibels": (lambda: at_db(np.linspace(1, 400, 20)), "a signal-to-noise ratio, or snr_db no decibels"),
    "an SNR for an efficiency": (lambda: with_fleet(spectral_efficiency=np.linspace(1, 90, 20)), "a signal-to-noise"),
    "a broadcast in ms": (lambda: replace(BUILT_IN, broadcast_s=900), "broadcast_s is 900, .* is it in milliseconds"),
    "samples for local steps": (lambda: replace(BUILT_IN, local_steps=392_702), "are they samples, or steps of all"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_unit_is_noted_and_named(case):
    build, named = WRONG[case]
    with pytest.warns(lola.PlausibilityWarning, match=named) as caught:
        problem = build()
    assert [str(one.message) for one in caught] == list(problem.notes)
    assert {one.filename for one in caught} <= {__file__, replace.__code__.co_filename}
    assert all(note.endswith("?") for note in problem.notes)


@pytest.mark.usefixtures("loud")
def test_uploads_that_lola_counted_are_not_doubted():
    """Grouped-query attention, or a rank of 1, makes what is uploaded as small as it is."""
    for bits in (114_688, 2_048):
        assert with_profile(upload_bits=bits).notes == ()
    with pytest.warns(lola.PlausibilityWarning, match="width, .* is 112, below 127"):
        with_profile(upload_bits=114_688, **by_hand())


def test_there_are_twenty_and_each_limit_is_met():
    assert len(WRONG) >= 20
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        noted = [build().notes for build, _ in WRONG.values()]
    for limit in LIMITS:
        beyond = "below" if np.isfinite(limit.least) else "above"
        assert any(f"{limit.name} is " in note and f", {beyond} " in note for notes in noted for note in notes), (
            limit.name
        )


@pytest.fixture
def loud():
    with warnings.catch_warnings():
        warnings.simplefilter("error", lola.PlausibilityWarning)
        yield


@pytest.mark.usefixtures("loud")
def test_the_shipped_scenario_and_profiles_are_plausible():
    lola.schedule(builtin_scenario())
    with resources.as_file(resources.files("lola.data.profiles")) as folder:
        shipped = [lola.load_profile(path) for path in sorted(folder.glob("*.json"))]
    measured = [lola.load_profile(path) for path in sorted((ROOT / "bench" / "grid").glob("*.json"))]
    assert (len(shipped), len(measured)) == (4, 5)
    for profile in (*shipped, *measured):
        assert replace(BUILT_IN, profile=profile).notes == ()
    for seed in range(20):
        for n_devices in (20, 50, 10_000):
            assert replace(BUILT_IN, fleet=lola.Fleet.sample(n_devices, seed=seed)).notes == ()


def test_a_narrow_model_in_half_precision_is_plausible():
    """The narrowest BERT uploads 65,536 bits then; in bytes, they are noted."""
    narrowest = 16 * 2 * 8 * 2 * 128
    half = replace(PROFILE.provenance, dtype="bfloat16", lora_rank=8, lora_targets=("query", "value"), software=None)
    assert with_profile(upload_bits=narrowest, provenance=half).notes == ()
    with pytest.warns(
        lola.PlausibilityWarning, match="width, .* is 16, .* is upload_bits in bytes, or of a compressed"
    ):
        with_profile(upload_bits=narrowest / 8, provenance=half)


@pytest.mark.usefixtures("loud")
def test_uploads_that_lola_counted_itself_are_not_doubted():
    for bits in (32 * 2 * 8 * 2 * 112, 4096):  # grouped-query attention has a narrow v_proj; and a tiny model
        assert with_profile(upload_bits=bits).notes == ()


@pytest.mark.usefixtures("loud")
@pytest.mark.parametrize("name, count", [("phones_20.csv", 20), ("phones_333.csv", 333)])
def test_real_phones_are_plausible(shared_data, name, count, tmp_path):
    header, *lines = (shared_data / "fleets" / name).read_text().splitlines()
    distinct = tmp_path / name  # some of the 333 have one name
    distinct.write_text("\n".join([header, *(f"{number} {line}" for number, line in enumerate(lines))]))
    fleet = lola.load_fleet(distinct)
    assert fleet.n_devices == count
    for bandwidth_hz in (1e6, 20e6, 100e6):
        assert replace(BUILT_IN, fleet=fleet, bandwidth_hz=bandwidth_hz).notes == ()
    for trace in ("mahimahi_1hz.csv.gz", "irish5g_1hz.csv.gz"):
        traces = lola.load_traces(shared_data / "traces" / trace)
        problem = replace(BUILT_IN, fleet=fleet)
        assert lola.simulate(problem, ("random",), rounds=20, redraw="channel", traces=traces).notes == ()


@pytest.mark.usefixtures("loud")
def test_the_papers_sweeps_are_plausible():
    assert len(latency.SWEEPS) >= 3
    for problem in (parameters.problem(), BUILT_IN):
        for sweep in latency.SWEEPS.values():
            assert (
                lola.simulate(problem, ("random",), rounds=20, redraw="fleet", **parameters.PARAMETERS | sweep).notes
                == ()
            )
    few = parameters.rounds_of(20, 20)
    for factor in (1.0, 400.0):  # of the fit
        parameters.ratios(parameters.problem().profile, factor, few)


def test_what_was_said_of_a_problem_is_not_said_of_its_rounds():
    with pytest.warns(lola.PlausibilityWarning, match="bandwidth_hz is 100"):
        problem = small_problem(bandwidth_hz=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_a_round(problem, problem.fleet)
        simulation = lola.simulate(problem, lola.METHODS, rounds=3, redraw="channel")
    assert simulation.notes == problem.notes
    # A draw's own numbers are not said beside those of a fleet that stays; what a draw alone has, is.
    with pytest.warns(lola.PlausibilityWarning, match="spectral_efficiency"):
        near = small_problem(fleet=replace(problem.fleet, spectral_efficiency=np.full(5, 40.0), headroom=0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lola.simulate(near, ("jbba",), rounds=3, redraw="channel").notes == near.notes
        slow = {"a": np.r_[0.0, np.full(5, 1.0)]}
        assert lola.simulate(near, ("jbba",), rounds=9, redraw="channel", traces=slow).notes == ()
    with pytest.warns(lola.PlausibilityWarning, match="the best spectral_efficiency"):
        lola.simulate(problem, ("jbba",), rounds=3, redraw="channel", transmit_snr_db=150.0)
    with pytest.warns(lola.PlausibilityWarning, match="bandwidth_hz is 20") as caught:
        simulation = lola.simulate(small_problem(), ("ba",), rounds=3, bandwidth_hz=[20, 1e6])
    assert len(caught) == len(simulation.notes) == 1


def test_the_command_notes_it_in_a_line_and_in_the_file(tmp_path, capsys):
    out = tmp_path / "s.json"
    assert main(["schedule", "--bandwidth-hz", "20", "--json", str(out)]) == 0
    captured = capsys.readouterr()
    (note,) = replace(BUILT_IN, bandwidth_hz=20).notes
    assert captured.err == f"lola: note: {note}\n"
    assert "note" not in captured.out
    assert json.loads(out.read_text())["notes"] == [note]
    assert main(["verify", str(out)]) == 0
    assert capsys.readouterr().err == f"lola: note: {note}\n"
    assert main(["simulate", "--bandwidth-hz", "20,30", "--rounds", "3", "--methods", "ba"]) == 0
    assert capsys.readouterr().err.count("lola: note: bandwidth_hz is ") == 2
    assert main(["schedule", "--json", str(out)]) == 0
    assert capsys.readouterr().err == ""
    assert json.loads(out.read_text())["notes"] == []


def test_what_is_infeasible_for_its_unit_is_noted_before_it_is_refused(tmp_path, capsys):
    rows = [f"p{k},1,{2 + k % 4},0" for k in range(20)]
    (tmp_path / "f.csv").write_text("\n".join(["name,speed,memory_bytes,snr_db", *rows]))
    assert main(["schedule", "--fleet", str(tmp_path / "f.csv")]) == 2
    note, refusal = capsys.readouterr().err.splitlines()
    assert note.startswith("lola: note: memory_bytes of the largest device is 5, below 6.4e+07")
    assert refusal.startswith("lola: infeasible: ")


def test_decibels_that_no_solver_can_take_are_refused_by_line(tmp_path):
    (tmp_path / "f.csv").write_text("name,speed,memory_bytes,snr_db\na,1,1e9,-900\n")
    with pytest.raises(lola.FormatError, match=r"f.csv, line 2, snr_db: must be a ratio in decibels, got -900"):
        lola.load_fleet(tmp_path / "f.csv")
