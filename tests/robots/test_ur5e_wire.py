"""What a UR controller and a Robotiq gripper say, byte by byte."""

import contextlib
import struct
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots.ports import Ports
from robots.ur5e.fingers import Fingers, FingersServer
from robots.ur5e.machine import Gripper
from robots.ur5e.robotiq import CLOSED, FULL, OPEN, PORT, Garbled, GripperError, Robotiq, parse, to_opening, to_position
from robots.ur5e.rtde import DATA, INPUTS, OUTPUTS, START, Session, frame
from robots.ur5e.rtde import Garbled as GarbledFrame
from robots.ur5e.status import NORMAL, PROTECTIVE_STOP, REDUCED, RUNNING, plausible, trouble

VALUES = {"timestamp": 1.5, "actual_q": tuple(np.arange(6.0)), "robot_mode": -1, "safety_status_bits": 5}
SETUP = frame(OUTPUTS, struct.pack(">d", 125.0) + ",".join([*VALUES, ""]).encode())
WISH = frame(INPUTS, b"input_int_register_0,input_double_register_3,")


def session(written=None):
    return Session((5, 12, 0, 0), (written if written is not None else []).append)


def test_a_client_reads_what_it_asked_for_in_its_order():
    stream = session()
    assert stream.feed(SETUP) == frame(OUTPUTS, b"\x01DOUBLE,VECTOR6D,INT32,UINT32")
    assert stream.feed(frame(START, b"")) == frame(START, b"\x01") and stream.started
    package = stream.package(VALUES)
    assert struct.unpack(">HBBd6diI", package) == (len(package), DATA, 1, 1.5, *range(6), -1, 5)


def test_what_a_controller_does_not_have_it_does_not_stream():
    stream = session()
    assert b"NOT_FOUND" in stream.feed(frame(OUTPUTS, struct.pack(">d", 125.0) + b"actual_q,warp_factor"))
    assert stream.feed(frame(START, b"")) == frame(START, b"\x00") and not stream.started
    assert b"NOT_FOUND" in stream.feed(frame(INPUTS, b"warp_factor"))


@given(st.integers(-2**31, 2**31 - 1), st.floats(allow_nan=False), st.lists(st.integers(1, 40), max_size=6))
def test_what_a_client_writes_arrives_however_it_is_cut(number, value, cuts):
    written = []
    stream, sent = session(written), WISH + frame(DATA, b"\x01" + struct.pack(">id", number, value))
    for cut in cuts:
        stream.feed(sent[:cut])
        sent = sent[cut:]
    stream.feed(sent)
    assert written == [{"input_int_register_0": number, "input_double_register_3": value}]


@given(st.lists(st.binary(max_size=60) | st.sampled_from([SETUP, WISH]) | st.builds(
    frame, st.sampled_from(b"VvOISPUX"), st.binary(max_size=40)), max_size=8))
def test_whatever_a_client_sends_it_is_answered_or_let_go(chunks):
    stream = session()
    with contextlib.suppress(GarbledFrame):
        for chunk in chunks:
            assert isinstance(stream.feed(chunk), bytes)


@given(st.integers(-1, 12), st.integers(-1, 12), st.booleans())
def test_an_arm_is_only_fine_where_nothing_is_in_its_way(robot_mode, safety_mode, runs):
    fine = robot_mode == RUNNING and safety_mode not in range(3, 12) and runs
    text = trouble(robot_mode, safety_mode, runs)
    assert (text == "") == fine
    assert fine or "clear the fault" in text


@given(st.integers(), st.integers(), st.integers(), st.lists(st.floats(), min_size=12, max_size=12))
def test_a_reading_is_plausible_only_where_an_arm_can_have_it(robot_mode, safety_mode, runtime_state, joints):
    if plausible(robot_mode, safety_mode, runtime_state, joints):
        assert np.isfinite(joints).all() and trouble(robot_mode, safety_mode, True).isascii()
    assert plausible(RUNNING, REDUCED, 2, [0.0] * 12) and plausible(RUNNING, PROTECTIVE_STOP, 1, [6.3] * 12)
    assert not plausible(RUNNING, NORMAL, 2, [0.0] * 11 + [float("nan")])


@given(st.sampled_from(["POS", "OBJ", "STA"]), st.integers(0, FULL), st.sampled_from(["", "\n", "\r\n"]))
def test_an_answer_says_what_was_asked(name, value, end):
    assert parse(name, f"{name} {value}{end}".encode()) == value
    assert parse(name, f"{name} ?{end}".encode()) is None
    with pytest.raises(Garbled):
        parse("FLT", f"{name} {value}{end}".encode())


@given(st.binary(max_size=12) | st.from_regex(rb"[A-Z]{2,4} [0-9?]{0,4}\n?", fullmatch=True))
def test_whatever_a_gripper_answers_it_is_a_value_or_garbled(answer):
    with contextlib.suppress(Garbled):
        value = parse("POS", answer)
        assert value is None or 0 <= value <= FULL
        assert answer.startswith(b"POS ")


@given(st.floats(-1, 2), st.floats(-1, 2))
def test_an_opening_comes_back_as_it_was_sent(one, other):
    assert abs(to_opening(to_position(one)) - min(1, max(0, one))) <= 0.51 / (CLOSED - OPEN)
    assert (one - other) * (to_position(one) - to_position(other)) <= 0


class SlowFingers(Fingers):
    """They speak of the wish before for a while, as on a robot."""

    told = None

    def get(self, name):
        return self.told if name == "PRE" and self.told else super().get(name)


class Hand:
    """What fingers need of a machine."""

    robot_mode = RUNNING

    def __init__(self):
        self.gripper = Gripper()

    @property
    def seconds(self):
        return time.monotonic()


@pytest.fixture
def hand():
    hand, host = Hand(), "127.99.0.1"
    hand.fingers = SlowFingers(hand)
    hand.ports = Ports(host, {PORT: lambda: FingersServer(hand.fingers)})
    ended, lock = threading.Event(), threading.Lock()
    hand.still = lock

    def serve():
        while not ended.wait(0.001):
            with lock:
                hand.ports.poll()
                hand.gripper.measured = hand.gripper.measured if hand.gripper.wish is None else hand.gripper.wish

    thread = threading.Thread(target=serve)
    thread.start()
    hand.robotiq = Robotiq(host, activate=False)
    yield hand
    hand.robotiq.close()
    ended.set()
    thread.join()
    hand.ports.close()


def wait_for(condition):
    deadline = time.monotonic() + 8
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


def test_the_newest_wish_wins_also_over_a_lost_connection(hand):
    hand.robotiq.open()
    hand.robotiq.wish(0.0)
    hand.robotiq.wish(0.4)
    wait_for(lambda: abs(hand.robotiq.grip().opening - 0.4) < 0.01)
    hand.robotiq.wish(0.8)
    with hand.still:
        hand.ports.drop_all()
    wait_for(lambda: abs(hand.robotiq.grip().opening - 0.8) < 0.01)
    assert not hand.robotiq.grip().trouble


def test_a_grip_counts_from_when_the_gripper_speaks_of_the_newest_wish(hand):
    hand.robotiq.open()
    hand.fingers.told, hand.gripper.holding = "7", True
    hand.robotiq.wish(0.5)
    wait_for(lambda: abs(hand.robotiq.grip().opening - 0.5) < 0.01)
    assert not hand.robotiq.grip().holding
    hand.fingers.told = None
    wait_for(lambda: hand.robotiq.grip().holding)


def test_fingers_that_closed_on_each_other_hold_nothing(hand):
    hand.robotiq.open()
    hand.gripper.holding = True
    hand.robotiq.wish(0.0)
    wait_for(lambda: hand.robotiq.grip().opening == 0)
    assert not hand.robotiq.grip().holding


def test_a_gripper_that_lost_its_power_is_trouble(hand):
    hand.robotiq.open()
    hand.robot_mode = 3
    wait_for(lambda: "no power" in hand.robotiq.grip().trouble)
    hand.robot_mode = RUNNING
    wait_for(lambda: not hand.robotiq.grip().trouble)
    hand.fingers.deactivate()
    wait_for(lambda: "not active" in hand.robotiq.grip().trouble)
    with pytest.raises(GripperError, match="activate_gripper"):
        Robotiq("127.99.0.1", activate=False).open()
