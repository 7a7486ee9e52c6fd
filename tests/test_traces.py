"""Channels over time: block fading and measured traces."""

import gzip

import numpy as np
import pytest

import lola
from lola import channel

CAPACITY = "trace,direction,t_s,mbps\na,down,0,9\na,up,0,5\na,up,1,0\nb,up,0,0.012\na,down,1,9\na,up,2,20\n"
SNR = "trace,mobility,SNR\n7,driving,10.0\n7,driving,\n7,driving,-3\n8,driving,\n9,static,0\n"


def written(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_fading_depends_on_seed_and_round_alone():
    fading = lola.RayleighFading(5, seed=3)
    first = [fading(r, 0.0) for r in range(4)]
    again = lola.RayleighFading(5, seed=3)
    for r in (3, 1, 0, 2):
        np.testing.assert_array_equal(again(r, 17.0 * r), first[r])
    assert len({tuple(efficiency) for efficiency in first}) == 4
    assert (lola.RayleighFading(5, seed=4)(0, 0.0) != first[0]).all()
    np.testing.assert_array_equal(lola.RayleighFading(9, seed=3)(2, 0.0)[:5], first[2])


def test_fading_is_apart_from_what_else_a_round_draws():
    """A session draws from [seed, round] and [seed, round, purpose] for small purposes."""
    mine = lola.RayleighFading(5, seed=3)(0, 0.0)
    for key in ([3, 0], *([3, 0, purpose] for purpose in range(10))):
        assert (channel.rayleigh_efficiency(5, seed=np.random.default_rng(key)) != mine).all()


def test_fading_has_the_mean_it_was_given():
    fading = lola.RayleighFading(100, transmit_snr_db=20.0, path_loss=0.01, seed=1)
    snr = np.concatenate([2 ** fading(r, 0.0) - 1 for r in range(1000)])
    assert snr.mean() == pytest.approx(100 * 0.01, rel=0.02)
    # log2(1 + x) of an exponential x with mean 1: e·E1(1)/log 2
    assert np.log2(1 + snr).mean() == pytest.approx(0.5963473623231940 / np.log(2), rel=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_devices": 0}, "n_devices must be at least 1, got 0"),
        ({"transmit_snr_db": np.nan}, "transmit_snr_db must be a ratio in decibels, got nan"),
        ({"path_loss": 0.0}, "path_loss must be finite and > 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 1.5}, "seed must be an integer, got float"),
    ],
)
def test_fading_refuses_what_is_none(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        lola.RayleighFading(**{"n_devices": 3} | changes)


def test_a_replay_is_the_trace_second_by_second():
    traces = {"long": np.arange(1.0, 8.0), "short": np.array([10.0, 20.0, 30.0])}
    replay = lola.TraceReplay(traces, 4, seed=2)
    assert sorted(replay.trace_of_device) == ["long", "long", "short", "short"]
    for clock in (0.0, 0.99, 1.0, 6.5, 7.0, 1e6 + 0.5):
        wanted = [
            traces[name][(offset + int(clock)) % traces[name].size]
            for name, offset in zip(replay.trace_of_device, replay.offset_s, strict=True)
        ]
        np.testing.assert_array_equal(replay(99, clock), wanted)
    again = lola.TraceReplay(traces, 4, seed=2)
    assert again.trace_of_device == replay.trace_of_device
    np.testing.assert_array_equal(again.offset_s, replay.offset_s)
    offsets = np.concatenate([lola.TraceReplay(traces, 20, seed=s).offset_s for s in range(20)])
    assert set(offsets.tolist()) == set(range(7))
    with pytest.raises(ValueError, match="clock_s must be finite and >= 0, got -1"):
        replay(0, -1.0)


@pytest.mark.parametrize(
    ("traces", "message"),
    [
        ({}, "traces is empty; at least one trace is needed"),
        ({"a": []}, "trace 'a' is empty"),
        ({"a": [1.0, -1.0]}, "trace 'a' must be finite and >= 0, got -1.0 at index 1"),
        ({"b": [1.0], "a": [0.0, 0.0]}, "trace 'a' should have capacity in some second, and all its 2 .* leave it out"),
    ],
)
def test_a_replay_refuses_what_is_no_channel(traces, message):
    with pytest.raises(ValueError, match=message):
        lola.TraceReplay(traces, 3)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_capacity_is_divided_by_the_spectrum_and_outages_stay(tmp_path, name):
    traces = lola.load_traces(written(tmp_path, CAPACITY, name), bandwidth_hz=5e6)
    assert list(traces) == ["a", "b"]
    np.testing.assert_allclose(traces["a"], [1.0, 0.0, 4.0])
    np.testing.assert_allclose(traces["b"], [0.0024])
    halved = lola.load_traces(tmp_path / name)
    np.testing.assert_allclose(halved["a"], traces["a"] / 2)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_snr_goes_through_shannon_and_seconds_without_it_are_left_out(tmp_path, name):
    traces = lola.load_traces(written(tmp_path, SNR, name))
    assert list(traces) == ["7", "9"]
    np.testing.assert_allclose(traces["7"], channel.spectral_efficiency([10.0, -3.0]))
    np.testing.assert_allclose(traces["9"], [1.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t.csv, line 1: the columns trace,direction,t_s,mbps \(capacity\) or trace,SNR .* got ''"),
        ("trace;SNR\na;1\n", "line 1: columns separated by commas were wanted, got semicolons"),
        ("trace,mbps\n", "line 1: the columns .* are needed, each once; got 'trace,mbps'"),
        ("trace,SNR,SNR\n", "each once"),
        ("trace,SNR\n", "t.csv: no sample of an uplink"),
        ("trace,SNR\na,\n", "no sample of an uplink"),
        (CAPACITY.replace("up", "down"), "no sample of an uplink"),
        ("trace,SNR\na,1,2\n", "line 2: 2 columns are needed, got 3"),
        ("trace,SNR\na,1\n\nb,high\n", "line 4, SNR: a finite number was wanted, got 'high'"),
        ("trace,SNR\na,inf\n", "line 2, SNR: a finite number was wanted, got 'inf'"),
        ("trace,SNR\na,1e9\n", "line 2, SNR: must be a ratio in decibels, got 1000000000.0"),
        ("trace,SNR\na,-490\n", "line 2, SNR: must be a ratio in decibels, got -490.0"),
        (CAPACITY.replace("0.012", "-1"), "line 5, mbps: must be >= 0, got -1.0"),
        (CAPACITY.replace("0.012", "0"), "t.csv: trace 'b' should have capacity in some second, and all its 1 samples"),
        (CAPACITY.replace("down", "downlink"), "line 2, direction: must be one of up, down, got 'downlink'"),
        (CAPACITY.replace("up,2", "up,3"), "line 7, t_s: second 2 of the trace was wanted, got '3'"),
        ('trace,SNR\n"a,1\n', "line 2: not valid CSV"),
    ],
)
def test_a_bad_file_is_told_by_file_and_line(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(lola.FormatError, match=message) as caught:
        lola.load_traces(path)
    assert str(caught.value).startswith(str(path))


def test_what_is_not_gzip_or_not_text_is_said(tmp_path):
    path = tmp_path / "t.csv.gz"
    for content, message in (
        (b"trace,SNR\n", "not a whole gzip file: "),
        (gzip.compress(CAPACITY.encode())[:-12], "not a whole gzip file: "),
        (gzip.compress(b"trace,SNR\n\xff"), "not UTF-8 text at byte 10"),
    ):
        path.write_bytes(content)
        with pytest.raises(lola.FormatError, match=message):
            lola.load_traces(path)
    with pytest.raises(FileNotFoundError):
        lola.load_traces(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="bandwidth_hz must be finite and > 0"):
        lola.load_traces(path, bandwidth_hz=0)


def test_the_real_traces_load(shared_data):
    cellular = lola.load_traces(shared_data / "traces" / "mahimahi_1hz.csv.gz")
    assert {name: trace.size for name, trace in cellular.items()}["ATT-LTE-driving"] == 1012
    assert len(cellular) == 6
    outages = {name: int((trace == 0).sum()) for name, trace in cellular.items()}
    assert (outages["ATT-LTE-driving"], sum(outages.values())) == (94, 156)
    assert max(trace.max() for trace in cellular.values()) == pytest.approx(2.9748)
    irish = lola.load_traces(shared_data / "traces" / "irish5g_1hz.csv.gz")
    assert len(irish) == 82  # of 83: one reports no SNR at all
    assert sum(trace.size for trace in irish.values()) == 180_743 - 16_002
    for traces in (cellular, irish):
        efficiency = lola.TraceReplay(traces, 20, seed=1)(0, 12.0)
        assert efficiency.shape == (20,)
        assert (efficiency >= 0).all()
