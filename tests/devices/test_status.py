"""What a device says of itself: read back to the last bit, and refused where it says what no device can."""

import json
import random
from dataclasses import replace

import pytest
from cooperative import tiny_depths
from travelling import FIXED, damaged, signed, sized

import lola
from lola.devices import DeviceStatus, State, model_identity
from lola.devices.status import short_why

STATUS = DeviceStatus(State.COMPUTING, 7, 0.1 + 0.2, 3e9, 1.25e6, 40, "0123456789abcdef" * 4)


@pytest.mark.parametrize("state", State)
def test_a_status_is_read_as_it_was_written(state):
    status = replace(STATUS, state=state, why="no memory — für „depth 3“")
    assert DeviceStatus.from_bytes(status.to_bytes()) == status


@pytest.mark.parametrize("mend", [None, signed, sized], ids=["as they come", "with their digest", "and their sizes"])
def test_random_damage_is_refused_or_changes_nothing(mend, instances):
    rng, valid, refused, count = random.Random(f"{mend}"), STATUS.to_bytes(), 0, instances(1000)
    for _ in range(count):
        data = damaged(rng, valid)
        try:
            read = DeviceStatus.from_bytes(data if mend is None else mend(data))
        except lola.FormatError as error:
            refused += 1
            assert str(error).isprintable()
            assert len(str(error)) < 1000
        else:
            assert read == STATUS or mend is not None
            assert min(read.speed, read.memory_bytes, read.uplink_bps, read.rows) > 0
            assert read.version >= -1
            assert read.why.isprintable()
    assert refused > count // 4


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"state": "asleep"}, "a DeviceStatus's state must be one of joined, .*, gone, got 'asleep'"),
        ({"state": ["idle"]}, r"state must be one of .*, got \['idle'\]"),
        ({"version": -2}, "a DeviceStatus's version must lie in -1…"),
        ({"speed": 0}, "a DeviceStatus's speed must be positive, got 0"),
        ({"memory_bytes": -1.0}, "a DeviceStatus's memory_bytes must be positive"),
        ({"uplink_bps": float("inf")}, "Infinity is not a number that JSON knows"),
        ({"uplink_bps": "fast"}, "a DeviceStatus's uplink_bps: a plain number"),
        ({"speed": 1e-12}, "a DeviceStatus's speed must lie in 1e-06…1e[+]06, got 1e-12; measure it again"),
        ({"memory_bytes": 2e15}, "a DeviceStatus's memory_bytes must lie in 1…1.1259e[+]15, got 2e[+]15"),
        ({"uplink_bps": 1e-320}, "a DeviceStatus's uplink_bps must lie in 1…1e[+]12, got 9.99989e-321"),
        ({"rows": 0}, "a DeviceStatus's rows must lie in 1…"),
        ({"identity": "0" * 63}, "a DeviceStatus's identity must be a SHA-256 in hexadecimal, got '000"),
        ({"identity": None}, "a DeviceStatus's identity must be a SHA-256 in hexadecimal, got None"),
        ({"why": "x" * 201}, "a DeviceStatus's why must be at most 200 printable characters, got 'xx"),
        ({"why": "\x1b[2J"}, "a DeviceStatus's why must be at most 200 printable characters"),
        ({"why": 3}, "a DeviceStatus's why must be at most 200 printable characters, got 3"),
        ({"more": 1}, "unknown key 'more'"),
        ({"kind": "BlockTask"}, "a DeviceStatus was wanted, got a message of another kind"),
        ({"why": "x" * 2000}, "at most 1024 bytes of header and 0 of tensors was wanted, got 2"),
    ],
)
def test_a_forged_status_is_refused_with_the_reason(changes, why):
    data = STATUS.to_bytes()
    text = json.dumps(json.loads(data[FIXED:]) | changes).encode()
    forged = signed(data[:40] + len(text).to_bytes(4, "little") + bytes(8) + text)
    with pytest.raises(lola.FormatError, match=why):
        DeviceStatus.from_bytes(forged, limit=10**6)


def test_a_reason_is_cut_and_cleaned_until_it_can_travel():
    why = short_why("out of memory\n" * 100)
    assert len(why) == 200
    assert DeviceStatus.from_bytes(replace(STATUS, why=why).to_bytes()).why == why


def test_an_identity_tells_models_apart_that_compute_other_gradients(tmp_path):
    one, same, other = (tiny_depths(tmp_path, seed=seed) for seed in (0, 0, 1))
    same.all_parameters()[0].data += 1  # what is trained travels, and does not count
    scaled = tiny_depths(tmp_path)
    scaled.alpha *= 2
    assert model_identity(one) == model_identity(same)
    assert len({model_identity(depths) for depths in (one, other, scaled)}) == 3
