"""Whatever comes in a message's place: an error of lola's own, or tensors of the size they must have."""

import json
import math
import random

import pytest
from cooperative import tiny_depths
from travelling import FIXED, KINDS, damaged, fits, messages_of, same, signed, sized

import lola
from lola.adapters import BlockGradient, BlockTask


@pytest.fixture(scope="module")
def depths(tmp_path_factory):
    return tiny_depths(tmp_path_factory.mktemp("model"), zero_init=False)


@pytest.fixture(scope="module")
def messages(depths):
    return messages_of(depths)


@pytest.mark.parametrize("mend", [None, signed, sized], ids=["as they come", "with their digest", "and their sizes"])
@pytest.mark.parametrize("kind", KINDS)
def test_random_damage_is_refused_or_changes_nothing(messages, depths, kind, mend, instances):
    """Where a sender makes the digest fit, he may say anything that is possible, in tensors of the right size."""
    message, rng = messages[kind], random.Random(f"{kind} {mend}")
    valid, refused, count = message.to_bytes(), 0, instances(500)
    for _ in range(count):
        data = damaged(rng, valid)
        try:
            read = type(message).from_bytes(data if mend is None else mend(data), depths)
        except lola.FormatError as error:
            refused += 1
            assert str(error).isprintable()
            assert len(str(error)) < 1000
        else:
            assert fits(read, depths)
            assert mend is not None or same(read, message)
    assert refused > count // 4


def forged(message, change):
    """Change a message's header or its list of tensors, with a digest and sizes that fit."""
    data = message.to_bytes()
    size = FIXED + int.from_bytes(data[40:44], "little")
    header, packed = json.loads(data[FIXED:size]), data[size:]
    listed, values = None, b""
    if packed:
        start = 8 + int.from_bytes(packed[:8], "little")
        listed, values = json.loads(packed[8:start]), packed[start:]
    changed = change(header, listed)
    values = changed if isinstance(changed, bytes) else values
    text = json.dumps(header).encode()
    if listed is not None:
        names = json.dumps(listed).encode()
        packed = len(names).to_bytes(8, "little") + names + values
    return signed(data[:40] + len(text).to_bytes(4, "little") + len(packed).to_bytes(8, "little") + text + packed)


def putting(**changes):
    return lambda header, listed: header.update(changes)


def in_first(**changes):
    return lambda header, listed: next(iter(listed.values())).update(changes)


def in_task(**changes):
    return lambda header, listed: header["tasks"][1].update(changes)


def swapped(header, listed):
    one, two = list(listed.values())[:2]
    one["data_offsets"], two["data_offsets"] = two["data_offsets"], two["data_offsets"]


FORGERIES = [
    ("BlockTask", putting(last_depth=4), r"a BlockTask's last_depth must lie in 1…3, got 4; is it of this model\?"),
    ("BlockTask", putting(last_depth=0), "a BlockTask's last_depth must lie in 1…3, got 0"),
    ("BlockTask", putting(first_depth=0), "a BlockTask's first_depth must lie in 1…1, got 0"),
    ("BlockTask of a segment", putting(first_depth=3), "a BlockTask's first_depth must lie in 1…2, got 3"),
    ("BlockTask of a segment", putting(first_depth=[1, 2]), "first_depth: an integer was wanted, got "),
    ("BlockTask of a segment", putting(depths=[1, 2]), "unknown key 'depths'"),
    ("BlockTask", putting(device=-1), "a BlockTask's device must lie in 0…"),
    ("BlockTask", putting(version=True), "a BlockTask's version: an integer was wanted, got True"),
    ("BlockTask", putting(version=10**300), "a BlockTask's version must lie in 0…"),
    ("BlockTask", putting(local_steps=0), "a BlockTask's local_steps must lie in 1…"),
    ("BlockTask", putting(bandwidth_hz=0), "a BlockTask's bandwidth_hz must be positive, got 0"),
    ("BlockTask", putting(bandwidth_hz=math.nan), "NaN is not a number that JSON knows"),
    ("BlockTask", putting(bandwidth_hz=10**400), "bandwidth_hz: must be finite"),
    ("BlockTask", putting(note="x"), "unknown key 'note'"),
    ("BlockTask", putting(kind="RoundPlan"), "a BlockTask was wanted, got a message of another kind"),
    ("BlockTask", lambda header, listed: header.pop("last_depth"), "'last_depth' is missing"),
    ("BlockTask", putting(note="x" * 2000), "at most 1024 bytes of header and 0 of tensors was wanted, got 2"),
    ("RoundPlan", putting(latency_s=-1.0), "a RoundPlan's latency_s must be positive"),
    ("RoundPlan", putting(version=6), "version 6 and depth 1 were wanted, got 5 and 1"),
    ("RoundPlan", putting(tasks=[]), "1 to 3 tasks were wanted, for as many depths; got"),
    ("RoundPlan", putting(tasks="abc"), "1 to 3 tasks were wanted, for as many depths; got 'abc'"),
    ("RoundPlan", lambda header, listed: header["tasks"].append(1), "1 to 3 tasks were wanted"),
    ("RoundPlan", lambda header, listed: header["tasks"].pop(), "tasks for 3 depths were wanted, got them for 2"),
    (
        "RoundPlan of segments",
        in_task(first_depth=2),
        "task for depth 3: version 5 and depth 3 were wanted, got 5 and 2",
    ),
    ("RoundPlan", putting(tasks=[1, 2, 3]), "task for depth 1: a table .* was wanted, got 1"),
    (
        "RoundPlan",
        in_task(first_depth=3, last_depth=3),
        "task for depth 2: version 5 and depth 2 were wanted, got 5 and 3",
    ),
    ("RoundPlan", in_task(last_depth=1), "task for depth 2's first_depth must lie in 1…1, got 2"),
    ("RoundPlan of segments", in_task(device=4), "task for depth 3: a device without a task was wanted, got 4 again"),
    ("RoundPlan", in_task(note=1), "task for depth 2: unknown key 'note'"),
    (
        "BlockGradient",
        putting(first_depth=3, last_depth=3),
        r"4 tensors were wanted, got 4, and '.*lora_A.*' is (missing|of none of them); is it of another model\?",
    ),
    ("BlockGradient", putting(last_depth=0), "last_depth must lie in 1…3, got 0"),
    ("BlockGradient", putting(first_depth=1), r"10 tensors were wanted, got 4, and '.*' is missing; is it of another"),
    ("BlockGradient of a segment", putting(last_depth=3), "14 tensors were wanted, got 10, and '.*' is missing"),
    ("BlockGradient of a segment", putting(first_depth=2), "4 tensors were wanted, got 10, and .* is of none of them"),
    (
        "BlockGradient",  # no more than all blocks take, but more than this one
        lambda h, listed: bytes(5000),
        "a BlockGradient of depths 2 to 2 with at most .* bytes of tensors was wanted, got",
    ),
    ("BlockGradient", putting(loss="low"), "a BlockGradient's loss: a plain number"),
    ("BlockGradient", in_first(dtype="F64"), r"F32 of shape \[.*\] was wanted, got 'F64' of"),
    ("BlockGradient", in_first(shape=[32]), r"F32 of shape \[.*\] was wanted, got 'F32' of \[32\]"),
    ("BlockGradient", in_first(shape={}), r"was wanted, got 'F32' of \{\}"),
    ("BlockGradient", in_first(data_offsets=[0]), r"two data_offsets were wanted, got \[0\]"),
    ("BlockGradient", in_first(data_offsets=[0, 10**9]), "128 bytes were wanted, got 1000000000"),
    ("BlockGradient", in_first(data_offsets=[0, "128"]), "an integer was wanted, got '128'"),
    ("BlockGradient", in_first(data_offsets=[-128, 0]), "bytes of values, each in one tensor, were wanted, got"),
    ("BlockGradient", swapped, "bytes of values, each in one tensor, were wanted, got"),
    ("BlockGradient", in_first(more=1), "unknown key 'more'"),
    ("BlockGradient", lambda h, listed: listed.update(__metadata__={}), "and '__metadata__' is of none of them"),
    (
        "BlockGradient",
        lambda h, listed: listed.popitem(),
        r"4 tensors were wanted, got 3, and .* is missing; is it of an",
    ),
    ("BlockGradient", lambda h, listed: b"", "bytes of values, each in one tensor, were wanted, got"),
    ("BlockGradient", lambda h, listed: bytes(10**6), "is it of another model"),
    ("ModelUpdate", putting(version=-1), "a ModelUpdate's version must lie in 0…"),
    ("ModelUpdate", putting(device=1), "unknown key 'device'"),
    ("ModelUpdate", in_first(shape=[True, 1]), "was wanted, got 'F32' of"),
]


@pytest.mark.parametrize("kind, change, why", FORGERIES)
def test_a_forged_message_is_refused_with_the_reason(messages, depths, kind, change, why):
    message = messages[kind]
    with pytest.raises(lola.FormatError, match=why):
        type(message).from_bytes(forged(message, change), depths, limit=10**7)


def test_bytes_that_are_no_message_are_refused_with_the_reason(messages, depths):
    task, data = messages["BlockTask"], messages["BlockTask"].to_bytes()
    packed = messages["BlockGradient"].to_bytes()
    for wrong, why in (
        (b"", r"a BlockTask was wanted, got b''…; does another version of lola send\?"),
        (b"\x80\x04\x95" + bytes(80), r"a BlockTask was wanted, got b'\\x80"),  # a pickle
        (data[:-1], "bytes was wanted, got .*; send it whole"),
        (data.replace(b"\r\n", b"\n"), "a BlockTask was wanted"),
        (data[:-1] + b"]", r"came with another digest than was sent; was it damaged\? Send it again"),
        (signed(data[:-1] + b"\xff"), "UTF-8 text was wanted"),
        (signed(data[:-1] + b"]"), "not valid JSON at line 1"),
        (packed, "at most .* bytes was wanted, got"),
    ):
        with pytest.raises(lola.FormatError, match=why):
            BlockTask.from_bytes(wrong, depths)
    deep = b"[" * 1000
    prefix = data[:40] + len(deep).to_bytes(4, "little") + bytes(8)
    with pytest.raises(lola.FormatError, match="header"):
        BlockTask.from_bytes(signed(prefix + deep), depths)
    start = FIXED + int.from_bytes(packed[40:44], "little")
    with pytest.raises(lola.FormatError, match="a list of tensors of .* bytes was wanted, got"):
        BlockGradient.from_bytes(signed(packed[: start + 7] + b"\x7f" + packed[start + 8 :]), depths)
    with pytest.raises(TypeError, match="a BlockTask must be read from bytes, got str"):
        BlockTask.from_bytes(data.decode("latin-1"), depths)
    assert BlockTask.from_bytes(data, depths) == task
