"""Problems, and schedules of every method."""

import pickle

import numpy as np
import pytest
from scenario import random_problem, small_problem

import lola

EXACT = ("jbba", "ba")


@pytest.mark.parametrize("method", lola.METHODS)
def test_every_method_gives_a_schedule_that_verifies(method):
    for seed in range(20):
        problem = random_problem(seed, equal_uploads=method in ("jbba-dual-ascent", "ba-crunch"))
        schedule = lola.schedule(problem, method, seed=seed)
        schedule.verify(problem)
        assert schedule.latency_s == (schedule.compute_s + schedule.upload_s).max()
        assert schedule.bandwidth_hz.sum() <= problem.bandwidth_hz * (1 + 1e-14)
        if method == "jbba-dual-ascent":
            assert schedule.lower_bound_s <= lola.schedule(problem).latency_s <= schedule.latency_s * (1 + 1e-12)
        elif method in (*EXACT, "ba-crunch"):
            assert 0 <= schedule.gap <= 1e-9
            assert not schedule.hits_memory_wall.any()
        else:
            assert np.isnan(schedule.gap)
            assert schedule.latency_s >= lola.schedule(problem, "jbba").latency_s or schedule.hits_memory_wall.any()
        again = pickle.loads(pickle.dumps(schedule))
        again.verify(problem)
        assert str(again) == str(schedule)


def test_the_baselines_take_whom_the_paper_says():
    problem = small_problem()
    assert lola.schedule(problem, "computation-aware").device_of_block.tolist() == [2, 1, 3]  # deepest to the fastest
    assert lola.schedule(problem, "communication-aware").device_of_block.tolist() == [4, 1, 2]  # depth 1 to the best
    assert lola.schedule(problem, "random", seed=3).latency_s == lola.schedule(problem, "random", seed=3).latency_s
    wall = lola.schedule(problem, "computation-aware").hits_memory_wall
    assert wall.tolist() == [False, True, True]
    assert "2 device(s) hit the memory wall" in str(lola.schedule(problem, "computation-aware"))


@pytest.mark.parametrize("method", EXACT)
def test_headroom_pins_and_prohibitions_are_heeded(method):
    problem = small_problem()
    free = lola.schedule(problem, method)
    device = int(free.device_of_block[0])
    barred = small_problem(forbidden=[(device, 1)])
    schedule = lola.schedule(barred, method)
    schedule.verify(barred)
    assert schedule.device_of_block[0] != device
    assert schedule.latency_s >= free.latency_s
    with pytest.raises(lola.VerificationError, match="pairs: depth 1 goes against"):
        free.verify(barred)
    pinned = small_problem(pinned=[("ann", 1)])
    schedule = lola.schedule(pinned, method)
    schedule.verify(pinned)
    assert schedule.device_of_block[0] == 0
    fleet = problem.fleet
    kept = lola.Fleet(
        speed=fleet.speed,
        memory_bytes=fleet.memory_bytes,
        spectral_efficiency=fleet.spectral_efficiency,
        name=fleet.name,
        headroom=[0.0, 0.0, 0.3, 0.0, 0.0],
    )
    assert kept.usable_memory_bytes[2] == pytest.approx(1.75e9)
    roomy = small_problem(fleet=kept)
    schedule = lola.schedule(roomy, method)
    schedule.verify(roomy)
    assert schedule.device_of_block[2] in (0, 4)


@pytest.mark.parametrize("method", EXACT)
def test_too_little_memory_names_a_hall_violator(method):
    fleet = lola.Fleet(speed=[1.0] * 4, memory_bytes=[3e9, 1e9, 1.1e9, 1.2e9], spectral_efficiency=[1.0] * 4)
    with pytest.raises(lola.InfeasibleError, match="no schedule exists: depth") as caught:
        lola.schedule(small_problem(fleet=fleet), method)
    error = caught.value
    assert error.partners < len(error.depths)
    assert set(error.depths) <= {2, 3}
    assert error.bytes_needed == 1.5e9
    assert "the most that any offers is 3e+09" in str(error)
    kept = lola.Fleet(
        speed=fleet.speed, memory_bytes=[3e9] * 4, spectral_efficiency=fleet.spectral_efficiency, headroom=0.5
    )
    with pytest.raises(lola.InfeasibleError, match="The fleet's headroom is kept free"):
        lola.schedule(small_problem(fleet=kept), method)
    with pytest.raises(lola.InfeasibleError, match=r"bob is pinned to depth 2, but offers 1.2e\+09 of 1.5e\+09 "):
        lola.schedule(small_problem(pinned=[("bob", 2), ("eve", 1)]), method)
    with pytest.raises(lola.InfeasibleError, match="and may take one of them, pinned and forbidden pairs heeded"):
        lola.schedule(small_problem(forbidden=[(k, 2) for k in range(5)]), method)


PROFILE = {"memory_bytes": [1.0, 2.0], "latency_s": [1.0, 2.0], "upload_bits": 1.0}
FLEET = {"speed": [1.0, 1.0], "memory_bytes": [2.0, 2.0], "spectral_efficiency": [1.0, 1.0]}


def test_vectors_are_given_by_name():
    """Memory for latency, or speed for memory, would be taken for what it is not."""
    for kind, vectors in ((lola.Profile, PROFILE), (lola.Fleet, FLEET)):
        with pytest.raises(TypeError, match="takes 1 positional argument but 4 were given"):
            kind(*vectors.values())


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"latency_s": [2.0, 1.0]}, ValueError, "latency_s must not fall with depth, got 2.0 at depth 1 and 1.0"),
        ({"memory_bytes": [2.0, 1.0]}, ValueError, "memory_bytes must not fall with depth.*must be reversed"),
        ({"memory_bytes": [1.0, np.nan]}, ValueError, "memory_bytes must be finite and >= 0, got nan at index 1"),
        ({"memory_bytes": [1.0]}, ValueError, "memory_bytes must have 2 entries, as many as .*; got 1"),
        ({"latency_s": [-1.0, 1.0]}, ValueError, "latency_s must be finite and >= 0"),
        ({"upload_bits": -1.0}, ValueError, "upload_bits must be finite and > 0"),
        ({"upload_bits": [1.0, np.inf]}, ValueError, "upload_bits must be finite and > 0, got inf at index 1"),
        ({"latency_s": []}, ValueError, "latency_s is empty"),
        ({"latency_s": "fast"}, TypeError, "latency_s must hold real numbers"),
        ({"extra_latency_s": [1.0]}, ValueError, "extra_latency_s must have 2 entries, as many as latency_s; got 1"),
        ({"extra_memory_bytes": [1.0, -1.0]}, ValueError, "extra_memory_bytes must be finite and >= 0, got -1.0"),
        ({"extra_latency_s": np.nan}, ValueError, "extra_latency_s must be finite and >= 0, got nan"),
        ({"provenance": "a lab"}, TypeError, "provenance must be a lola.Provenance, got str"),
    ],
)
def test_bad_profiles_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        lola.Profile(**(PROFILE | change))


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"speed": [1.0, 0.0]}, ValueError, "speed must be finite and > 0, got 0.0 at index 1"),
        ({"speed": []}, ValueError, "speed is empty"),
        ({"memory_bytes": [1.0, -2.0]}, ValueError, "memory_bytes must be finite and >= 0, got -2.0 at index 1"),
        ({"spectral_efficiency": [1.0, np.inf]}, ValueError, "spectral_efficiency must be finite and > 0, got inf"),
        ({"spectral_efficiency": [1.0]}, ValueError, "spectral_efficiency must have 2 entries, as many as .*; got 1"),
        ({"name": ["a", "a"]}, ValueError, "device names must differ, got 'a' twice"),
        ({"name": ["a"]}, ValueError, "name must have 2 entries, got 1"),
        ({"name": ["a", " "]}, ValueError, "a device's name must be printable text"),
        ({"name": ["a", "b "]}, ValueError, "without space around it, got 'b '"),
        ({"name": ["a", "b\rc"]}, ValueError, "a device's name must be printable text"),
        ({"name": ["a", 3]}, ValueError, "a device's name must be printable text"),
        ({"name": "ab"}, TypeError, "name must be a sequence of names"),
        ({"headroom": 1.0}, ValueError, r"headroom must be a fraction in \[0, 1\)"),
        ({"headroom": [0.1]}, ValueError, r"headroom must be a fraction in \[0, 1\)"),
        ({"headroom": np.nan}, ValueError, r"headroom must be a fraction in \[0, 1\)"),
    ],
)
def test_bad_fleets_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        lola.Fleet(**(FLEET | change))


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"profile": "roberta"}, TypeError, "profile must be a lola.Profile, got str"),
        ({"fleet": 20}, TypeError, "fleet must be a lola.Fleet, got int"),
        (
            {"fleet": lola.Fleet(speed=[1.0], memory_bytes=[1.0], spectral_efficiency=[1.0])},
            ValueError,
            "got 1 devices for 3 blocks",
        ),
        ({"bandwidth_hz": 0}, ValueError, "bandwidth_hz must be finite and > 0, got 0.0"),
        ({"bandwidth_hz": np.inf}, ValueError, "bandwidth_hz must be finite and > 0, got inf"),
        ({"bandwidth_hz": None}, TypeError, "bandwidth_hz must be a number, got NoneType"),
        ({"local_steps": 0}, ValueError, "local_steps must be at least 1, got 0"),
        ({"local_steps": "2"}, TypeError, "local_steps must be an integer, got str"),
        ({"pinned": [(0, 1), (1, 1)]}, ValueError, "pinned names depth 1 twice"),
        ({"pinned": [(0, 1), (0, 2)]}, ValueError, "pinned names device 0 twice"),
        ({"pinned": [(0, 1)], "forbidden": [("ann", 1)]}, ValueError, "both pinned and forbidden"),
        ({"pinned": [(0, 4)]}, ValueError, "pinned names depth 4, but depths run from 1 to 3"),
        ({"pinned": [(9, 1)]}, ValueError, "device must lie in 0…4, got 9"),
        ({"pinned": [(-1, 1)]}, ValueError, "device must lie in 0…4, got -1"),
        ({"pinned": [("zoe", 1)]}, ValueError, "no device is named 'zoe'"),
        ({"pinned": [(0.5, 1)]}, TypeError, "a device is an index or a name, got float"),
        ({"pinned": [(0, 0)]}, ValueError, "depth of .* must be at least 1, got 0"),
        ({"forbidden": [3]}, TypeError, r"forbidden must hold \(device, depth\) pairs, got 3"),
    ],
)
def test_bad_problems_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        small_problem(**change)


def test_bad_calls_are_refused():
    with pytest.raises(lola.LolaError, match="seed must be at least 0, got -1"):
        lola.schedule(small_problem(), "random", seed=-1)
    with pytest.raises(ValueError, match="method must be one of jbba, .*, random; got 'fastest'"):
        lola.schedule(small_problem(), "fastest")
    with pytest.raises(TypeError, match="problem must be a lola.Problem, got str"):
        lola.schedule("problem")
    with pytest.raises(ValueError, match="'jbba-dual-ascent' wants the same upload for every block; use 'jbba'"):
        lola.schedule(random_problem(0), "jbba-dual-ascent")
    suited = "use 'jbba', 'ba', 'ba-crunch', 'computation-aware', 'communication-aware' or 'random'$"
    rising = lola.Profile(memory_bytes=[1.0, 2.0], latency_s=[1.0, 2.0], upload_bits=[1.0, 2.0])
    pair = lola.Fleet(speed=[1.0] * 2, memory_bytes=[2.0] * 2, spectral_efficiency=[1.0] * 2)
    with pytest.raises(ValueError, match=suited):
        lola.schedule(lola.Problem(rising, pair, 1.0), "jbba-dual-ascent")
    falling = lola.Profile(memory_bytes=[1.0, 2.0], latency_s=[1.0, 2.0], upload_bits=[2.0, 1.0])
    with pytest.raises(ValueError, match="'ba-crunch' wants uploads that do not fall with depth; use 'jbba', 'ba', 'c"):
        lola.schedule(
            lola.Problem(
                falling, lola.Fleet(speed=[1.0] * 2, memory_bytes=[2.0] * 2, spectral_efficiency=[1.0] * 2), 1.0
            ),
            "ba-crunch",
        )
    with pytest.raises(ValueError, match="'ba' knows no whole subcarriers; use 'jbba'"):
        lola.schedule(small_problem(subcarrier_hz=1e5), "ba")
    with pytest.raises(ValueError, match="bandwidth_hz holds 2 subcarriers of 400000 Hz, but 3 blocks need one each"):
        lola.schedule(small_problem(subcarrier_hz=4e5))
    with pytest.raises(ValueError, match="'random' knows no pinned or forbidden pairs"):
        lola.schedule(small_problem(pinned=[(0, 1)]), "random")
    with pytest.raises(ValueError, match='source must be "measured" or "estimated"'):
        lola.Provenance("m", 1, 1, "float16", "guessed", "none")
    with pytest.raises(ValueError, match="n_devices must be at least 1"):
        lola.Fleet.sample(0)
    with pytest.raises(AttributeError, match="has no attribute 'Scheduler'"):
        _ = lola.Scheduler


def test_devices_are_counted_from_0_and_from_no_end():
    fleet = small_problem().fleet
    assert (fleet.index(4), fleet.index("eve"), fleet.label(4)) == (4, 4, "eve")
    for call in (fleet.index, fleet.label):
        for device in (-1, 5, np.int64(-1)):
            with pytest.raises(ValueError, match=f"device must lie in 0…4, got {device}"):
                call(device)


def test_inputs_are_copied_and_read_only():
    speed = np.ones(3)
    fleet = lola.Fleet(speed=speed, memory_bytes=np.ones(3), spectral_efficiency=np.ones(3))
    speed[:] = 9
    assert (fleet.speed == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        fleet.speed[0] = 2
    with pytest.raises(ValueError, match="read-only"):
        lola.schedule(small_problem()).device_of_block[0] = 2


def test_the_digest_changes_with_everything_that_matters():
    problem = small_problem()
    assert problem.digest() == small_problem().digest()
    fleet = problem.fleet
    others = [
        small_problem(bandwidth_hz=2e6),
        small_problem(local_steps=3),
        small_problem(subcarrier_hz=1e4),
        small_problem(forbidden=[(0, 1)]),
        small_problem(
            fleet=lola.Fleet(
                speed=fleet.speed, memory_bytes=fleet.memory_bytes, spectral_efficiency=fleet.spectral_efficiency
            )
        ),
        small_problem(
            fleet=lola.Fleet(
                speed=fleet.speed,
                memory_bytes=fleet.memory_bytes,
                spectral_efficiency=fleet.spectral_efficiency,
                name=fleet.name,
                headroom=0.1,
            )
        ),
    ]
    assert len({problem.digest(), *(other.digest() for other in others)}) == 7
