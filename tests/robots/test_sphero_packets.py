"""What the double's firmware reads and says is what the vendor's SDK says and reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots.sphero.firmware import BATTERY, Firmware
from robots.sphero.packets import PIECE, V1, V2, Request

v1 = pytest.importorskip("spherov2.controls.v1").Packet
v2 = pytest.importorskip("spherov2.controls.v2").Packet
CommandExecuteError = pytest.importorskip("spherov2.controls").CommandExecuteError

byte = st.integers(0, 255)
sdk_requests = st.one_of(
    st.builds(lambda d, c, s, data: (V1, v1.Request(d, c, s, bytearray(data)), None), byte, byte, byte,
              st.binary(max_size=60)),
    st.builds(lambda d, c, s, t, data: (V2, v2(v2.Flags(0x0A if t is None else 0x3A), d, c, s, t, t and 1,
                                               bytearray(data)), t),
              byte, byte, byte, st.none() | st.integers(0x11, 0x12), st.binary(max_size=60)))


@given(sdk_requests, st.binary(max_size=30).filter(lambda noise: b"\xff" not in noise and b"\x8d" not in noise),
       st.integers(1, PIECE))
def test_a_toy_reads_what_the_sdk_sends_after_any_noise_and_in_any_pieces(sent, noise, piece):
    version, packet, target = sent
    stream, buffer, found = noise + bytes(packet.build()), bytearray(), []
    for start in range(0, len(stream), piece):
        buffer += stream[start:start + piece]
        found += version.requests(buffer)
    assert found == [Request(packet.did, packet.cid, packet.seq, bytes(packet.data), target, target and 1)]
    assert not buffer


@given(sdk_requests, st.integers(0, 7), st.binary(max_size=40))
def test_the_sdk_reads_what_a_toy_answers(sent, error, data):
    version, packet, target = sent
    answer = bytearray(version.answer(Request(packet.did, packet.cid, packet.seq, b"", target, target and 1), error,
                                      data))
    heard = []
    (v1 if version is V1 else v2).Collector(heard.append).add(answer)
    assert [(p.id, bytes(p.data), getattr(p, "mrsp", getattr(p, "err", None))) for p in heard] == [
        (packet.id, data, error)]


@given(sdk_requests, st.data())
def test_a_spoiled_packet_is_dropped_and_the_next_one_is_read(sent, draw):
    version, packet, target = sent
    stream = bytes(packet.build())
    buffer = bytearray(stream)
    buffer[draw.draw(st.integers(2, len(stream) - 2), "where")] ^= draw.draw(st.sampled_from([1, 2, 4]), "bit")
    first = version.requests(buffer)
    while len(buffer) < 1000:  # a spoiled length, or what looks like one, waits for up to 255 bytes
        buffer += stream
    after = version.requests(buffer)
    assert not first
    assert after[-1:] == [Request(packet.did, packet.cid, packet.seq, bytes(packet.data), target, target and 1)]


@given(st.sampled_from([V1, V2]), st.lists(st.binary(max_size=40), max_size=8))
def test_no_bytes_move_a_toy_that_nobody_unlocked(version, writes):
    toy = Firmware(version)
    for data in writes:
        assert toy.receive(version.COMMANDS, data, 0.0) == []
    assert toy.powers == (0, 0)


def awake(version):
    toy = Firmware(version)
    toy.receive(*version.UNLOCK, 0.0)
    if version is V1:
        toy.receive(*V1.WAKE, 0.0)
    else:
        toy.receive(V2.COMMANDS, bytes(v2.Manager().new_packet(19, 13).build()), 0.0)
    return toy


def say(toy, device, command, *data, now=0.0):
    """The answer to a command, as the SDK reads it."""
    version, packet = toy.version, v1 if toy.version is V1 else v2
    heard, request = [], packet.Manager().new_packet(device, command, None, data)
    for answer in toy.receive(version.COMMANDS, bytes(request.build()), now):
        packet.Collector(heard.append).add(bytearray(answer))
    return heard[0]


@pytest.mark.parametrize("version, device, command", [(V1, 2, 51), (V2, 22, 1)])
def test_raw_motors_move_the_toy_and_switch_its_stabilization_off(version, device, command):
    toy = awake(version)
    assert toy.stabilized
    say(toy, device, command, 1, 70, 2, 30).check_error()
    assert toy.powers == (70, -30) and not toy.stabilized
    with pytest.raises(CommandExecuteError, match=str(version.INVALID)):
        say(toy, device, command, 9, 70, 2, 30).check_error()
    assert toy.powers == (70, -30)


def test_what_a_toy_does_not_know_it_refuses():
    for version in (V1, V2):
        with pytest.raises(CommandExecuteError, match=str(version.UNKNOWN)):
            say(awake(version), 99, 99).check_error()


def test_a_toy_with_a_motion_timeout_stops_by_itself_when_its_host_is_gone():
    toy = awake(V1)
    say(toy, 2, 55, 0, 0, 0, 0x10)
    say(toy, 2, 52, 0x07, 0xD0)
    say(toy, 2, 51, 1, 70, 1, 70, now=10.0)
    toy.tick(11.9)
    assert toy.powers == (70, 70)
    toy.tick(12.1)
    assert toy.powers == (0, 0)


def test_batteries_are_told():
    assert say(awake(V1), 0, 32).data[2:4] == round(BATTERY * 100).to_bytes(2, "big")
    assert say(awake(V2), 19, 3).data == round(BATTERY * 100).to_bytes(2, "big")
