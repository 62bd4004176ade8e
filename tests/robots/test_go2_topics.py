"""The Go2's driver over the vendor's SDK and DDS against a robot that is only its topics and its services: who may move
it, who damps it, and what is said where there is no way to it."""

import json
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from robots.driver import CommandRejected, LinkLost
from robots.legs.packets import WireState
from robots.unitree_go2 import sdk
from robots.unitree_go2.anatomy import GO2
from robots.unitree_go2.dds import DdsLink
from robots.unitree_go2.driver import Go2Driver, Go2Options
from robots.unitree_go2.wire import GO2_CODEC

WAIT = 30.0  # s for a connection on a busy machine


class Topics:
    """A robot without physics, in this process: says the same state 500 times a second, and remembers commands. `mode`
    is the controller of its own that moves it, `asked` what its services were told."""

    def __init__(self):
        sdk.join(sdk.double_domain(), sdk.LOOPBACK)
        self.domain, self.mode, self.asked, self.heard = sdk.double_domain(), "", [], []
        self.answer = None
        self.services = [
            sdk.serve("motion_switcher", "1.0.0.1", {1001: self.check, 1003: self.release}),
            sdk.serve("sport", "1.0.0.1", {1005: lambda _: (self.asked.append("lie down"), (0, "{}"))[1]})]
        zero = np.zeros(12)
        self.packet = GO2_CODEC.encode_state(
            WireState(GO2.folded, zero, zero, np.array([1.0, 0, 0, 0]), np.zeros(3), np.array([0, 0, 9.81]),
                      np.zeros(4), zero + 30, 0, bytes(40), charge=0.8))
        self.writer, self.reader = sdk.Writer(sdk.STATES), sdk.Reader(sdk.COMMANDS)
        self.ended = threading.Event()
        threading.Thread(target=self.talk, daemon=True).start()

    def check(self, _):
        return 0, self.answer or json.dumps({"form": "0", "name": self.mode})

    def release(self, _):
        self.asked.append("release")
        self.mode = ""
        return 0, "{}"

    def talk(self):
        while not self.ended.wait(0.002):
            self.writer.write(self.packet)
            self.heard += map(GO2_CODEC.decode_command, self.reader.arrived())

    def hears(self, what, seconds=10):
        """Whether a command like that comes from now on."""
        seen, end = len(self.heard), time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)
            fresh, seen = self.heard[seen:], len(self.heard)
            if any(map(what, fresh)):
                return True
        return False


@pytest.fixture(scope="module")
def robot():
    robot = Topics()
    yield robot
    robot.ended.set()


@pytest.fixture
def topics(robot):
    """Nobody sends it anything any more."""
    while robot.hears(lambda command: True, 0.3):
        pass
    robot.mode, robot.answer = "", None
    robot.asked.clear(), robot.heard.clear()
    return robot


def damps(command):
    return not command.kp.any() and (command.kd == 5).all()


OWNER = """
    import sys
    from robots.legs.link import LowCommand
    from robots.unitree_go2.anatomy import GO2
    from robots.unitree_go2.dds import DdsLink
    link = DdsLink("lo", int(sys.argv[1]))
    state = link.open(30)
    while True:
        link.exchange(LowCommand(state.q, GO2.kp, GO2.kd))
"""


def test_the_robot_is_damped_when_the_process_that_drives_it_is_killed(topics):
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(OWNER), str(topics.domain)])
    try:
        assert topics.hears(lambda command: (command.kp == 60).all(), WAIT)
    finally:
        owner.kill()
        owner.wait()
    assert topics.hears(damps, 2)


def test_a_robot_that_its_own_controller_moves_is_left_alone_without_consent(topics):
    topics.mode = "normal"
    with pytest.raises(CommandRejected, match=r"own controller \(normal\).*release: true"):
        DdsLink("lo", topics.domain).open(5)
    assert not topics.heard and not topics.asked


def test_with_consent_its_own_controller_lays_it_down_before_it_ends_and_nothing_is_sent_earlier(topics):
    topics.mode = "normal"
    link = DdsLink("lo", topics.domain, release=True)
    opened = threading.Thread(target=link.open, args=(WAIT,))
    opened.start()
    while "release" not in topics.asked:
        assert opened.is_alive() and not topics.heard
        time.sleep(0.01)
    opened.join()
    assert topics.asked == ["lie down", "release"] and topics.hears(damps)
    link.close()


@pytest.mark.parametrize("answer, why", [("[]", "want a name"), ('{"name": 3}', "want a name"), ("oh", "no JSON")])
def test_a_motion_switcher_that_answers_nonsense_is_not_believed(topics, answer, why):
    topics.answer = answer
    with pytest.raises(LinkLost, match=why):
        sdk.take_control(False, time.monotonic() + 5)


@pytest.mark.parametrize("address, why", [("eth9", "no such network interface, but .*lo"),
                                          ("lo:232", "another process")])
def test_where_there_is_no_way_to_a_robot_it_says_why(topics, address, why, monkeypatch):
    if address == "eth9":
        monkeypatch.setattr(sdk, "_joined", None)
    driver = Go2Driver(Go2Options(link="hardware", address=address))
    with pytest.raises(LinkLost, match=why):
        driver.connect(2)


def test_a_robot_that_is_not_there_is_a_lost_link():
    """In a process of its own: one knows but one domain."""
    program = "from robots.unitree_go2.dds import DdsLink\nDdsLink('lo', 201).open(2)"
    told = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert "LinkLost: the robot's motion switcher does not answer over lo" in told.stderr


@pytest.mark.parametrize("address", ["", "a/b", "enp3s0 ", "<x>", "enp3s0:", "averyverylonginterface", "enp3s0:x"])
def test_an_address_is_a_network_interface(address):
    with pytest.raises(ValueError, match="address: .*enp3s0"):
        Go2Options(link="hardware", address=address)
    assert Go2Options(link="hardware", address="enp3s0").endpoint == ("enp3s0", 0)
    assert Go2Options(link="hardware", address="lo:1").endpoint == ("lo", 1)
