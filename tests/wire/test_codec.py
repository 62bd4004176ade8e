"""Messages survive the way through frames; whatever else comes raises WireError, at once and in little memory."""

import dataclasses
import random
import time
import tracemalloc
from typing import Annotated, get_args, get_origin, get_type_hints

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from daydreamer.replay.chunk import DTYPES
from services.wire import messages as m
from services.wire.codec import MAX_ARRAYS, MAX_ENVELOPE, MAX_FRAMES, decode, encode, message_types
from services.wire.errors import BadField, Malformed, TooLarge, UnknownMessage, WireError, WrongVersion
from services.wire.fields import Arrays, Within

quick = settings(max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
STREAM = bytes(range(16))


def values(hint):
    """A strategy for whatever a field's annotation allows."""
    if hint == Arrays:
        shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)
        array = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
        return st.dictionaries(st.text(min_size=1, max_size=64), array, max_size=4)
    within = None
    if get_origin(hint) is Annotated:
        hint, within = get_args(hint)
    kind = get_origin(hint) or hint
    within = within or Within(-(2**63), 2**64 - 1) if kind is int else within or Within(0, 5)
    if kind is int:
        return st.integers(within.least, within.most)
    if kind is bytes:
        return st.binary(min_size=within.least, max_size=within.most)
    if kind is str:
        return st.text(max_size=20)
    if kind is list:
        return st.lists(values(*get_args(hint)), max_size=5)
    if kind is dict:
        return st.dictionaries(*map(values, get_args(hint)), max_size=5)
    return {bool: st.booleans(), float: st.floats(allow_nan=False)}[kind]


def any_message():
    hints = {kind: get_type_hints(kind, include_extras=True) for kind in message_types().values()}
    return st.one_of(*(st.builds(k, **{name: values(hint) for name, hint in h.items()}) for k, h in hints.items()))


def on_the_wire(message) -> list[bytes]:
    return [bytes(frame) for frame in encode(message)]


def assert_same(got, want):
    assert type(got) is type(want)
    for field in dataclasses.fields(want):
        a, b = getattr(got, field.name), getattr(want, field.name)
        if field.name != "arrays":
            assert a == b, field.name
            continue
        assert list(a) == list(b)
        for name in b:
            assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape
            assert a[name].tobytes() == b[name].tobytes()


@quick
@given(any_message())
def test_every_message_comes_out_as_it_went_in(message):
    assert_same(decode(on_the_wire(message)), message)


def envelope(**changes) -> bytes:
    """The envelope of a NoNewWeights, with changes."""
    return msgpack.packb({"v": [1, 0], "t": "NoNewWeights", "f": {"version": 3}, "a": []} | changes)


def chunk(specs, *frames) -> list[bytes]:
    fields = {"stream": STREAM, "sequence": 0, "first_step": 0}
    return [envelope(t="ChunkSent", f=fields, a=specs), *frames]


def test_an_array_is_neither_copied_out_nor_in():
    image = np.zeros((64, 64, 64, 3), np.uint8)
    frames = encode(m.ChunkSent(STREAM, 0, 0, {"image": image}))
    assert np.shares_memory(np.frombuffer(frames[1], np.uint8), image)
    assert np.shares_memory(decode(frames).arrays["image"], image)


def test_a_received_array_cannot_be_written_to():
    sent = m.ChunkSent(STREAM, 0, 0, {"x": np.ones(3, "<f4"), "none": np.ones((0, 3), "<f4")})
    got = decode(on_the_wire(sent)).arrays
    assert not got["x"].flags.writeable and not got["none"].flags.writeable


def test_an_array_that_lies_askew_in_its_frame_is_aligned():
    askew = memoryview(b"\0" + np.arange(4, dtype="<f8").tobytes())[1:]
    got = decode(chunk([["x", "<f8", [4]]], askew)).arrays["x"]
    assert got.flags.aligned and got.tolist() == [0, 1, 2, 3]


def test_an_array_with_strides_is_sent_by_its_values():
    array = np.arange(12, dtype="<i4").reshape(3, 4).T[::2]
    assert decode(on_the_wire(m.ActReply(0, 0, {"actions": array}))).arrays["actions"].tolist() == array.tolist()


def test_fields_of_a_newer_minor_version_are_left_out():
    newer = [m.VERSION[0], m.VERSION[1] + 1]
    assert decode([envelope(v=newer, f={"version": 3, "colour": "red"})]) == m.NoNewWeights(3)


def test_an_older_peer_may_lack_fields_with_a_default():
    assert decode([envelope(t="WeightsRequest", f={"have": 2})]) == m.WeightsRequest(2)


@pytest.mark.parametrize(("frames", "error", "text"), [
    ([], TooLarge, "0 frames"),
    ([b""], Malformed, "envelope"),
    ([b"\xc1"], Malformed, "envelope"),
    ([envelope() + b"\0"], Malformed, "envelope"),
    ([msgpack.packb([1, 2])], Malformed, "map"),
    ([msgpack.packb({"v": [1, 0]})], Malformed, "map"),
    ([msgpack.packb({"v": [1, 0], "t": msgpack.Timestamp(1), "f": {}, "a": []})], Malformed, "envelope"),
    ([envelope(v="1.0")], Malformed, "version"),
    ([envelope(v=[1, True])], Malformed, "version"),
    ([envelope(v=[2, 0])], WrongVersion, "speaks version 2.0"),
    ([envelope(t="Eval")], UnknownMessage, "'Eval'"),
    ([envelope(t="Within")], UnknownMessage, "'Within'"),
    ([envelope(t=[[1]])], UnknownMessage, "of type list"),
    ([envelope(f=[3])], Malformed, "fields"),
    ([envelope(f={})], BadField, "NoNewWeights.version: missing"),
    ([envelope(f={"version": 3, "colour": "red"})], BadField, "'colour'"),
    ([envelope(f={"version": "3"})], BadField, "got str, want int"),
    ([envelope(f={"version": True})], BadField, "got bool, want int"),
    ([envelope(f={"version": 3.0})], BadField, "got float, want int"),
    ([envelope(t="StreamOpened", f={"stream": b"short", "durable": 0})], BadField, "length 5, allowed 16 to 16"),
    ([envelope(t="StreamOpened", f={"stream": STREAM, "durable": -1})], BadField, "StreamOpened.durable: got -1"),
    ([envelope(t="StreamOpened", f={"stream": STREAM, "durable": 2**63})], BadField, "StreamOpened.durable"),
    ([envelope(t="Refused", f={"code": "x" * 65537, "text": ""})], BadField, "length 65537"),
    ([envelope(t="Welcome", f={"run": "", "addresses": {"control": 1}})], BadField, "Welcome.addresses"),
    ([envelope(t="Welcome", f={"run": "", "addresses": [1]})], BadField, "want dict"),
    ([envelope(), b"more"], Malformed, "arrays"),
    ([envelope(a=[["x", "<f4", [1]]]), b"four"], Malformed, "arrays"),
    (chunk("x"), Malformed, "announced"),
    (chunk([["x", "<f4", [1]]]), Malformed, "announced"),
    (chunk([["x", "<f4"]], b"four"), Malformed, "announced by"),
    (chunk([["", "<f4", [1]]], b"four"), BadField, "name"),
    (chunk([["x" * 65, "<f4", [1]]], b"four"), BadField, "name"),
    (chunk([["x", "|O", [1]]], b"\0" * 8), BadField, "|O"),
    (chunk([["x", ">f4", [1]]], b"four"), BadField, ">f4"),
    (chunk([["x", "|u1", [1] * 6]], b"1"), BadField, "at most 5 axes"),
    (chunk([["x", "|u1", [-1, -1]]], b"1"), BadField, "axes of 0"),
    (chunk([["x", "|u1", [2**32]]], b"1"), BadField, "axes of 0"),
    (chunk([["x", "<f8", [2**31, 2**31, 2**31, 2**31, 2]]], b""), Malformed, "not 0 bytes"),
    (chunk([["x", "<f4", [2]]], b"four"), Malformed, "not 4 bytes"),
    (chunk([["x", "<f4", [0, 2**31, 2**31]]], b""), BadField, "empty array"),
    (chunk([["x", "|b1", [2]]], b"\1\2"), BadField, "0 or 1"),
    (chunk([["x", "|u1", [1]], ["x", "|u1", [1]]], b"1", b"2"), BadField, "twice"),
])
def test_what_is_not_ours_is_refused_by_name(frames, error, text):
    with pytest.raises(error) as caught:
        decode(frames)
    assert text in str(caught.value)


def test_too_many_frames_or_bytes_are_refused_unread():
    with pytest.raises(TooLarge, match="frames"):
        decode([b""] * (MAX_FRAMES + 1))
    with pytest.raises(TooLarge, match="a message of"):
        decode(on_the_wire(m.ChunkSent(STREAM, 0, 0, {"x": np.zeros(1000, "u1")})), limit=999)
    with pytest.raises(TooLarge, match="an envelope of"):
        decode([bytes(MAX_ENVELOPE + 1)])


@pytest.mark.parametrize(("message", "text"), [
    (m.NoNewWeights(np.int64(3)), "NoNewWeights.version: got int64, want int"),
    (m.StreamOpened(b"", 0), "StreamOpened.stream: got length 0"),
    (m.ActReply(0, 0, {"actions": np.array(["x"])}), "ActReply.actions: dtype '<U1'"),
    (m.ActReply(0, 0, {"actions": np.zeros(1, ">f4")}), "ActReply.actions: dtype '>f4'"),
])
def test_a_sender_learns_of_its_own_mistake(message, text):
    with pytest.raises(BadField) as caught:
        encode(message)
    assert text in str(caught.value)


def test_a_sender_may_not_send_more_arrays_than_a_receiver_takes():
    with pytest.raises(TooLarge):
        encode(m.ActReply(0, 0, {str(i): np.zeros(1) for i in range(MAX_ARRAYS + 1)}))


@settings(quick, max_examples=300)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_arbitrary_bytes_raise_wire_errors_only(frames):
    with pytest.raises(WireError):
        decode(frames)


def samples() -> list[list[bytes]]:
    arrays = {"x": np.arange(6, dtype="<f4").reshape(2, 3), "is_first": np.ones(2, "?")}
    telemetry = m.Telemetry("robot", "a1", STREAM, 1, {"steps": 1.5}, {"period": {-3: 4, 9: 1}})
    sent, asked = m.ChunkSent(STREAM, 3, 99, arrays), m.ActRequest("a1", STREAM, 5, True, arrays)
    return [on_the_wire(message) for message in (sent, telemetry, asked)]


SAMPLES = samples()


def test_a_flipped_bit_raises_a_wire_error_or_gives_a_valid_message():
    for frames in SAMPLES:
        for position in range(len(frames[0]) * 8):
            broken = bytearray(frames[0])
            broken[position // 8] ^= 1 << position % 8
            try:
                message = decode([bytes(broken), *frames[1:]])
            except WireError:
                continue
            encode(message)


def test_bytes_cut_out_or_put_in_raise_a_wire_error_or_give_a_valid_message():
    rng = random.Random(0)
    for _ in range(3000):
        frames = [bytearray(frame) for frame in rng.choice(SAMPLES)]
        victim = rng.choice(frames)
        at = rng.randrange(len(victim) + 1)
        victim[at:at + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
        try:
            message = decode([bytes(frame) for frame in frames])
        except WireError:
            continue
        encode(message)


@pytest.mark.parametrize("bomb", [
    b"\xdd\x00\x0f\xff\xff" * 1000,  # lists in lists, each announcing a million elements
    b"\xdd\x00\x03\x00\x00" * 200_000,  # fewer than there are bytes behind it
    b"\xdc\x01\x00" * 1000,  # of 256, which is allowed, but far too deep
    b"\xdf\x00\x0f\xff\xff" * 1000,  # maps
    b"\x91" * (MAX_ENVELOPE - 1),  # depth alone
    b"\xc6\xff\xff\xff\xff",  # 4 GiB of bytes announced
    envelope(f={"version": 3} | {str(i): i for i in range(4000)}),
    envelope(t=[[[[0] * 200] * 200]]),
], ids=range(8))
def test_a_bomb_is_refused_in_bounded_memory_and_time(bomb):
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(WireError):
        decode([bomb])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * MAX_ENVELOPE, "a multiple of what a peer may send, not what it announces"
    assert time.perf_counter() - start < 1
