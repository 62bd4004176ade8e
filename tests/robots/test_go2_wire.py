"""The Go2's messages: byte for byte those of the vendor's SDK, which is the other end of every test here."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from unitree_sdk2py.idl.unitree_go.msg.dds_ import LowCmd_, LowState_
from unitree_sdk2py.utils.crc import CRC

from robots.legs.packets import (
    MOTORS,
    BadChecksum,
    BadHeader,
    BadLength,
    BadPacket,
    NotFinite,
    WireCommand,
    WireState,
)
from robots.unitree_go2.anatomy import GO2
from robots.unitree_go2.wire import COMMAND, GO2_CODEC, STATE

single = st.floats(-1e6, 1e6, width=32)
joints = np.arange(12.0)
TOLD = WireCommand(joints / 8, -joints, joints / 4, joints + 20, joints / 16, joints % 2 == 0)
SAID = WireState(q=joints / 8, dq=-joints, tau=joints / 4, quaternion=np.array([1.0, 0, 0, 0]), gyro=np.ones(3),
                 acceleration=np.array([0, 0, 9.8125]), foot_force=np.array([20.0, 30, 40, -50]),
                 temperature=joints + 30, tick=123456, remote=bytes(range(40)), charge=0.5)


def numbers(*shape, elements=single, kind=float):
    return arrays(kind, shape, elements=elements)


def test_a_command_says_to_the_sdk_what_was_meant():
    read = LowCmd_.deserialize(GO2_CODEC.encode_command(TOLD))
    assert list(read.head) == [0xFE, 0xEF] and read.level_flag == 0xFF and read.gpio == 0
    for joint, motor in enumerate(read.motor_cmd[:MOTORS]):
        assert (motor.q, motor.dq, motor.tau) == (joint / 8, -joint, joint / 4)
        assert (motor.kp, motor.kd, motor.mode) == (joint + 20, joint / 16, joint % 2 == 0)
    for motor in read.motor_cmd[MOTORS:]:  # as the vendor's example leaves them
        assert (motor.mode, motor.q, motor.dq, motor.kp, motor.kd) == (1, np.float32(2.146e9), 16000, 0, 0)


@given(told=st.builds(WireCommand, *[numbers(12)] * 5, numbers(12, elements=st.booleans(), kind=bool)))
@settings(max_examples=30)
def test_a_command_is_what_the_sdk_makes_of_it_byte_for_byte(told):
    packet = GO2_CODEC.encode_command(told)
    theirs = LowCmd_.deserialize(packet)
    assert theirs.serialize() == packet and theirs.crc == CRC().Crc(theirs)
    back = GO2_CODEC.decode_command(packet)
    assert all(np.array_equal(ours, meant) for ours, meant in zip(back, told, strict=True))


@given(said=st.builds(WireState, numbers(12), numbers(12), numbers(12), numbers(4), numbers(3), numbers(3),
                      numbers(4, elements=st.integers(-32768, 32767)),
                      numbers(12, elements=st.integers(0, 127)),  # the SDK's checksum takes no more
                      st.integers(0, 2**32 - 1), st.binary(min_size=40, max_size=40),
                      given_up=st.just(np.zeros(12, bool)), charge=st.integers(0, 100).map(lambda part: part / 100)))
@settings(max_examples=30)
def test_a_state_that_the_sdk_wrote_is_read_as_it_was(said):
    theirs = LowState_.deserialize(GO2_CODEC.encode_state(said))
    theirs.crc = CRC().Crc(theirs)
    packet = theirs.serialize()
    assert packet == GO2_CODEC.encode_state(said)
    back = GO2_CODEC.decode_state(packet)
    assert all(np.array_equal(ours, meant) for ours, meant in zip(back, said, strict=True))


def test_a_state_lies_where_the_sdk_has_it():
    read = LowState_.deserialize(GO2_CODEC.encode_state(SAID))
    assert list(read.imu_state.quaternion) == [1, 0, 0, 0] and read.imu_state.accelerometer[2] == 9.8125
    assert read.motor_state[5].tau_est == 1.25 and read.motor_state[11].temperature == 41
    assert list(read.foot_force) == [20, 30, 40, -50] and read.tick == 123456 and read.bms_state.soc == 50
    assert bytes(read.wireless_remote) == bytes(range(40))


@given(place=st.integers(0), change=st.integers(1, 255))
@settings(max_examples=150)
def test_a_byte_that_changed_is_found_or_says_nothing(place, change):
    """What lies between the fields says nothing, and is what the checksum leaves out."""
    for packet, decode in ((GO2_CODEC.encode_state(SAID), GO2_CODEC.decode_state),
                           (GO2_CODEC.encode_command(TOLD), GO2_CODEC.decode_command)):
        bad = bytearray(packet)
        bad[place % len(bad)] ^= change
        try:
            read = decode(bytes(bad))
        except (BadHeader, BadChecksum):
            continue
        assert all(np.array_equal(a, b) for a, b in zip(read, decode(packet), strict=True))


@given(noise=st.binary(max_size=1300))
def test_random_bytes_are_refused_whatever_they_are(noise):
    for message, decode in ((STATE, GO2_CODEC.decode_state), (COMMAND, GO2_CODEC.decode_command)):
        begin = bytes([0, 1, 0, 0, 0xFE, 0xEF, 0xFF])
        for packet in (noise, (begin + noise).ljust(message.size, b"\0")[:message.size]):
            with pytest.raises(BadPacket):
                decode(packet)


def test_what_is_wrong_with_a_message_is_said():
    packet = GO2_CODEC.encode_state(SAID)
    for other in (packet[:-1], packet + b"\0", b"", GO2_CODEC.encode_command(TOLD)):
        with pytest.raises(BadLength, match="the Go2's has 1180"):
            GO2_CODEC.decode_state(other)
    with pytest.raises(BadHeader, match="low level"):
        GO2_CODEC.decode_state(packet[:4] + b"\0" + packet[5:])
    with pytest.raises(BadHeader, match="CDR"):
        GO2_CODEC.decode_state(b"\0\0" + packet[2:])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_what_is_not_finite_is_neither_sent_nor_taken(bad):
    for name in ("q", "dq", "tau", "kp", "kd"):
        with pytest.raises(NotFinite):
            GO2_CODEC.encode_command(TOLD._replace(**{name: np.full(12, bad)}))
    if abs(bad) == 1e39:
        return  # no such number in 32 bits
    for name in ("q", "dq", "tau", "quaternion", "gyro", "acceleration"):
        told = np.array(getattr(SAID, name))
        told[1] = bad
        with pytest.raises(NotFinite):
            GO2_CODEC.decode_state(GO2_CODEC.encode_state(SAID._replace(**{name: told})))


def test_damping_is_no_position_gain_and_some_on_speed():
    told = GO2_CODEC.decode_command(GO2_CODEC.damp(GO2.damping))
    assert not told.kp.any() and not told.tau.any() and not told.dq.any() and (told.kd == 5).all() and told.on.all()


def test_coding_leaves_most_of_a_period_of_two_milliseconds():
    packet = GO2_CODEC.encode_state(SAID)

    def seconds():
        start = time.thread_time()
        for _ in range(100):
            GO2_CODEC.decode_state(packet), GO2_CODEC.encode_command(TOLD)
        return (time.thread_time() - start) / 100

    assert min(seconds() for _ in range(5)) < 5e-4  # 0.1 ms
