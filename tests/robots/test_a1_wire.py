"""The A1's datagrams, byte by byte."""

import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robots.legs.packets import (
    BadChecksum,
    BadHeader,
    BadLength,
    BadPacket,
    NotFinite,
    WireCommand,
    WireState,
    checksum,
)
from robots.unitree_a1.anatomy import A1
from robots.unitree_a1.wire import A1_CODEC, GO1_CODEC

CODECS = pytest.mark.parametrize("codec", [A1_CODEC, GO1_CODEC], ids=lambda codec: codec.name)
joints = np.arange(12.0)
single = st.floats(-1e6, 1e6, width=32)
STATE = WireState(q=joints / 8, dq=-joints, tau=joints / 4, quaternion=np.array([1.0, 0, 0, 0]), gyro=np.ones(3),
                  acceleration=np.array([0, 0, 9.8125]), foot_force=np.array([20.0, 30, 40, 50]),
                  temperature=joints + 30, tick=123456, remote=bytes(range(40)))


def command(**numbers):
    zero = {name: np.zeros(12) for name in ("q", "dq", "tau", "kp", "kd")}
    return WireCommand(**zero | numbers)


def fields_equal(one, other):
    return all(np.array_equal(a, b) or a is b for a, b in zip(one, other))  # no charge is one nan


def test_a_command_is_what_the_vendors_library_sends():
    """A command that its library sent to a socket: some motors told something, the others left as it leaves them."""
    record = A1_CODEC.blank_command()
    motors = record["motors"][:12]
    motors["q"], motors["dq"] = 0.25 + joints, 1.5
    motors["tau"], motors["kp"], motors["kd"] = -2.5 * 256, 80 * 32, 2 * 16
    motors["reserve"] = [0x11223344, 0x55667788, 0x99AABBCC]
    record["led"][0, 0], record["remote"][0], record["reserve"] = 0xA1, 0xB2, 0xD4D5D6D7
    packet = A1_CODEC.seal(record)
    assert len(packet) == 610 and packet[:10].hex() == "ff0000000000000000c3"
    assert packet[10:37].hex() == "0a0000803e0000c03f80fd000a20004433221188776655ccbbaa99"
    assert packet[10 + 12 * 27 : 10 + 13 * 27].hex() == "0ab9d2ff4e00007a46" + 18 * "00"
    assert packet[550:562].hex() == "a1" + 11 * "00" and packet[562] == 0xB2
    assert packet[-8:] == struct.pack("<II", 0xD4D5D6D7, 0xA5C05A4C)
    sent = A1_CODEC.decode_command(packet)
    assert np.array_equal(sent.q, 0.25 + joints)
    assert (sent.dq == 1.5).all() and (sent.tau == -2.5).all() and (sent.kp == 80).all() and (sent.kd == 2).all()


def test_a_state_lies_where_the_robot_puts_it():
    packet = A1_CODEC.encode_state(STATE)
    assert len(packet) == 771
    assert struct.unpack_from("<4f3f3f", packet, 10) == (1, 0, 0, 0, 1, 1, 1, 0, 0, 9.8125)
    motor = 63 + 32 * 5
    assert packet[motor] == 10 and struct.unpack_from("<ff", packet, motor + 1) == (5 / 8, -5)
    assert struct.unpack_from("<h", packet, motor + 11) == (5 / 4 * 256,) and packet[motor + 23] == 35
    assert struct.unpack_from("<4h", packet, 703) == (20, 30, 40, 50)
    assert struct.unpack_from("<I", packet, 719) == (123456,) and packet[723:763] == bytes(range(40))


def test_the_checksum_is_the_crc_of_words_bit_by_bit():
    data = np.random.default_rng(0).integers(0, 256, 103, np.uint8).tobytes()
    crc = 0xFFFFFFFF
    for word in struct.unpack_from("<24I", data):  # 96 bytes: what is left before the last four is no whole word
        crc ^= word
        for _ in range(32):
            crc = (crc << 1 ^ 0x04C11DB7 if crc >> 31 else crc << 1) & 0xFFFFFFFF
    assert checksum(data) == crc


@CODECS
def test_datagrams_have_the_published_sizes(codec):
    assert (codec.command.itemsize, codec.state.itemsize) == {"A1": (610, 771), "Go1": (614, 807)}[codec.name]


def test_a_go1s_command_is_what_public_code_for_it_sends():
    packet = GO1_CODEC.encode_command(command(q=joints, kd=np.full(12, 4.0)))
    assert packet[:3].hex() == "feefff" and packet[20:22].hex() == "3ac0"
    assert struct.unpack_from("<Bff3h", packet, 22 + 27 * 3) == (0x0A, 3, 0, 0, 0, 4 * 16)
    bare = (checksum(packet) ^ 0xEDCAB9DE).to_bytes(4, "little")
    assert packet[-4:] == bytes([bare[1], bare[2], bare[3], bare[0]])


@CODECS
@given(numbers=arrays(float, (5, 12), elements=st.floats(-1e9, 1e9)))
@settings(max_examples=40)
def test_a_command_arrives_as_near_as_its_numbers_fit(codec, numbers):
    sent = codec.decode_command(codec.encode_command(WireCommand(*numbers)))
    q, dq, tau, kp, kd = numbers
    assert np.allclose(sent.q, q, rtol=1e-6) and np.allclose(sent.dq, dq, rtol=1e-6)
    for arrived, wanted, unit in ((sent.tau, tau, 1 / 256), (sent.kp, kp, 1 / 32), (sent.kd, kd, 1 / 16)):
        most = 32768 * unit
        assert np.abs(arrived - np.clip(wanted, -most, most - unit)).max() <= unit / 2


@CODECS
@given(data=st.data())
@settings(max_examples=20)
def test_a_state_arrives_as_it_was(codec, data):
    def draw(size, elements=single, kind=float):
        return data.draw(arrays(kind, size, elements=elements))

    counts = st.integers(-32768, 32767)
    state = WireState(draw(12), draw(12), draw(12, counts) / 256, draw(4), draw(3), draw(3), draw(4, counts),
                      draw(12, st.integers(-128, 127)), data.draw(st.integers(0, 2**32 - 1)),
                      data.draw(st.binary(min_size=40, max_size=40)), draw(12, st.booleans(), bool))
    assert fields_equal(codec.decode_state(codec.encode_state(state)), state)


@CODECS
@given(data=st.data(), change=st.integers(1, 255))
@settings(max_examples=60)
def test_a_byte_that_changed_under_the_checksum_is_found(codec, data, change):
    for packet, decode in ((codec.encode_state(STATE), codec.decode_state),
                           (codec.encode_command(command(kp=joints)), codec.decode_command)):
        covered = (len(packet) - 4) // 4 * 4
        place = data.draw(st.integers(0, covered - 1) | st.integers(len(packet) - 4, len(packet) - 1))
        bad = bytearray(packet)
        bad[place] ^= change
        with pytest.raises(BadPacket) as error:
            decode(bytes(bad))
        assert error.type is (BadHeader if place < len(codec.begins) else BadChecksum)


@CODECS
@given(noise=st.binary(max_size=900))
def test_random_bytes_are_refused_whatever_they_are(codec, noise):
    for size, decode in ((codec.state.itemsize, codec.decode_state), (codec.command.itemsize, codec.decode_command)):
        with pytest.raises(BadPacket):
            decode(noise)
        with pytest.raises(BadPacket):
            decode((codec.begins + noise).ljust(size, b"\0")[:size])


def test_a_datagram_of_another_length_is_refused():
    packet = A1_CODEC.encode_state(STATE)
    for other in (packet[:-1], packet + b"\0", b"", A1_CODEC.encode_command(command())):
        with pytest.raises(BadLength, match="771"):
            A1_CODEC.decode_state(other)
    with pytest.raises(BadHeader, match="low level"):
        A1_CODEC.decode_state(b"\0" + packet[1:])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_what_is_not_finite_is_neither_sent_nor_taken(bad):
    for name in ("q", "dq", "tau", "kp", "kd"):
        numbers = np.zeros(12)
        numbers[7] = bad
        with pytest.raises(NotFinite):
            A1_CODEC.encode_command(command(**{name: numbers}))
    if abs(bad) == 1e39:
        return  # no such number in 32 bits
    for name in ("q", "dq", "quaternion", "gyro", "acceleration"):
        numbers = np.array(getattr(STATE, name))
        numbers[1] = bad
        with pytest.raises(NotFinite):
            A1_CODEC.decode_state(A1_CODEC.encode_state(STATE._replace(**{name: numbers})))


def test_damping_is_no_position_gain_and_a_speed_gain_of_four():
    sent = A1_CODEC.decode_command(A1_CODEC.damp(A1.damping))
    assert not sent.kp.any() and not sent.tau.any() and not sent.dq.any() and (sent.kd == 4).all()


def test_coding_leaves_most_of_a_period_of_two_milliseconds():
    packet, told = A1_CODEC.encode_state(STATE), command(q=joints, kp=joints)
    best = min(_seconds(lambda: (A1_CODEC.decode_state(packet), A1_CODEC.encode_command(told))) for _ in range(5))
    assert best < 5e-4  # 0.08 ms on an idle core of 2020


def _seconds(call, times=100):
    start = time.thread_time()
    for _ in range(times):
        call()
    return (time.thread_time() - start) / times
