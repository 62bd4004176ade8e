"""The driver and its link on the vendor's SDK, in real time against the control box in a process of its own.

A quiet machine needs a few seconds for all of it; on a busy one, what is asked for may come late and still passes.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from robots.arms.double import ArmDouble, Surroundings
from robots.arms.link import ArmCommand
from robots.driver import Clip, CommandRejected, LinkLost, Mode, Stop
from robots.protocol import ProtocolDouble
from robots.xarm import wire
from robots.xarm.anatomy import MODELS, XARM6, XARM7
from robots.xarm.driver import XArmDriver, XArmOptions
from robots.xarm.link import REPORT, XArmLink
from robots.xarm.machine import STOPPED
from robots.xarm.pilot import Limits

sdk = pytest.importorskip("robots.xarm.sdk")
pytest.importorskip("xarm")
SEED, HZ = 5, 10.0
REST = np.zeros(4, np.float32)


class Bench:
    """An arm whose owner ticks it in real time."""

    def __init__(self):
        self.driver = XArmDriver(XArmOptions(link="protocol", objects=1, fence=0.1), HZ, SEED)
        self.driver.keep_pace(1.0)
        self.driver.connect(20)

    @property
    def health(self):
        return self.driver.health()

    @property
    def values(self):
        return self.driver.read().values

    def order(self, fault, **fields):
        self.driver.link.double.order(fault, **fields)

    def run(self, seconds, action=None, until=lambda: False):
        """Tick for a while, commanding if there is a command, at most until something holds."""
        due, periods = time.monotonic(), round(self.driver.inner_hz / HZ)
        for tick in range(round(seconds * self.driver.inner_hz)):
            if until():
                return True
            if action is not None and tick % periods == 0:
                self.driver.command(action() if callable(action) else action)
            self.driver.tick()
            due = max(due + 1 / self.driver.inner_hz, time.monotonic() - 0.05)
            time.sleep(max(0.0, due - time.monotonic()))
        return until()

    def go(self, place, opening, tolerance=0.006):
        """Move the tool there [3] m and the fingers, by commands."""
        def towards():
            error, (gripper, _) = place - self.values["tool_position"], self.values["gripper"]
            return np.clip([*error * 8, 5 * (opening - gripper)], -1, 1).astype(np.float32)

        near = lambda: np.abs(place - self.values["tool_position"]).max() < tolerance  # noqa: E731
        for _ in range(3):  # a busy machine may keep states from it for too long
            if self.health.mode == Mode.DISARMED:
                self.armed()
            if self.run(8, towards, lambda: near() or self.health.mode != Mode.ARMED) and near():
                return
        raise AssertionError((place, self.values["tool_position"], self.health))

    def armed(self):
        """Whatever was before: cleared, armed, and it follows commands."""
        if self.health.mode == Mode.FAULT:
            self.driver.clear_fault("Ada")
        assert self.run(8, until=lambda: self.health.link_age < 0.05)
        self.driver.arm()
        return self

    def moves(self):
        """It goes up or down; where a busy machine kept states from it for too long, it is armed again."""
        start = self.values["tool_position"].copy()
        action = np.array([0, 0, -0.3 if start[2] > 0.2 else 0.3, 0], np.float32)
        for _ in range(5):
            if self.health.mode == Mode.DISARMED:
                self.armed()
            if self.run(2, action, lambda: np.abs(self.values["tool_position"] - start).max() > 0.02):
                return True
        return False


@pytest.fixture(scope="module")
def shared():
    bench = Bench()
    yield bench
    bench.driver.stop(Stop.DAMP)
    bench.driver.disconnect()


@pytest.fixture
def bench(shared):
    """One process for all tests: each leaves it connected, whatever its state."""
    yield shared.armed()
    shared.run(0.05)


def test_it_follows_commands_and_stands_when_disarmed(bench):
    assert bench.moves()
    assert bench.driver.spec.signals.contains(bench.values)
    said = bench.driver.link.double.said
    watcher = sdk.connect(said["address"], 20, said["port"], report_type="real")
    assert bench.run(0.5, until=lambda: watcher.state in (1, 2)) and watcher.mode == 4  # as its first report says
    bench.driver.stop(Stop.DAMP)
    assert bench.run(2, until=lambda: watcher.state == 4)  # no program moves it now
    bench.run(0.3)
    stood = bench.values["joint_angles"]
    bench.run(0.3)
    assert np.abs(bench.values["joint_angles"] - stood).max() < 1e-3
    sdk.disconnect(watcher)


def test_no_tick_waits_for_the_controller(bench):
    bench.order("stall", seconds=0.3)
    slowest = 0.0
    for _ in range(50):
        start = time.thread_time()  # what this thread does itself; a busy machine may take it off its core
        bench.driver.tick()
        slowest = max(slowest, time.thread_time() - start)
        time.sleep(0.01)
    assert slowest < 0.01


@pytest.mark.parametrize("seconds", [0.2, 0.3])
def test_a_short_stall_is_waited_for(bench, seconds):
    bench.order("stall", seconds=seconds)
    ages = []
    bench.run(seconds + 0.1, np.zeros(4, np.float32), lambda: ages.append(bench.health.link_age))
    assert max(ages) > seconds - 0.05
    assert bench.health.fault == "" and bench.armed().moves()


@pytest.mark.parametrize("code, count", [(1, 3), (2, 3), (9, 3), (10, 3), (3, 1)])
def test_calls_that_fail_now_and_then_are_tried_again(bench, code, count):
    bench.run(0.2, np.zeros(4, np.float32))
    bench.order("sdk", code=code, count=count)
    bench.run(0.3, np.zeros(4, np.float32))
    assert bench.health.fault == "" and bench.armed().moves()


def test_calls_that_never_succeed_end_in_a_fault_that_names_call_and_way_out(bench):
    bench.order("sdk", code=10, count=10_000)
    assert bench.run(5, np.zeros(4, np.float32), lambda: bench.health.mode == Mode.FAULT)
    assert "returned 10: refused as invalid; check the firmware" in bench.health.fault
    bench.order("sdk", code=10, count=0)
    time.sleep(0.1)
    assert bench.armed().moves()


@pytest.mark.parametrize("part, call, error", [("_pilot", "vc_set_joint_velocity", OSError("cut off")),
                                              ("_gripper", "get_gripper_position", KeyError())])
def test_a_call_of_the_sdk_that_raises_is_made_again_and_a_fault_after_a_second(bench, monkeypatch, part, call, error):
    """On the arm's thread and on the gripper's, with words and without one."""
    made = []

    def raises(*_, **__):
        made.append(bench.health.fault)
        raise error

    with monkeypatch.context() as odd:
        odd.setattr(getattr(bench.driver.link, part)._api, call, raises)
        assert bench.run(5, REST, lambda: bench.health.mode == Mode.FAULT)
    assert len(made) > 3 and not any(made[:-1])
    assert f"the SDK raised {type(error).__name__}" in bench.health.fault and str(error) in bench.health.fault
    assert bench.armed().moves()


def test_an_error_of_the_controller_is_a_fault_until_an_operator_clears_it(bench):
    bench.order("error", code=31)
    assert bench.run(3, np.zeros(4, np.float32), lambda: bench.health.mode == Mode.FAULT)
    assert bench.health.fault.startswith("xArm error 31: collision")
    assert bench.armed().moves()


def test_who_else_stops_the_arm_is_asked_about(bench):
    bench.run(0.2, np.zeros(4, np.float32))
    said = bench.driver.link.double.said
    vendor = sdk.connect(said["address"], 20, said["port"], enable_report=False)
    vendor.set_state(4)  # as the stop in the vendor's program does
    sdk.disconnect(vendor)
    assert bench.run(3, np.zeros(4, np.float32), lambda: bench.health.mode == Mode.FAULT)
    assert "somebody else stopped it" in bench.health.fault
    assert bench.armed().moves()


def test_the_button_pressed_in_mid_motion_stands_the_arm_at_once_and_is_a_fault(bench):
    """Within 0.2 s of the control box's own time, which a busy machine does not stretch."""
    bench.go(np.array([0.39, -0.1, 0.15]), 1.0)
    with reports(bench.driver.link.double.said["address"]) as seen:
        across = np.array([0, 1, 0, 0], np.float32)
        assert bench.run(3, across, lambda: bench.values["tool_velocity"][1] > 0.15)
        bench.order("estop")
        assert bench.run(3, across, lambda: bench.health.mode == Mode.FAULT)
        pressed = next(number for number, report in enumerate(seen) if report.state == STOPPED)
        assert bench.run(3, across, lambda: len(seen) > pressed + 50)
    assert bench.health.fault.startswith("xArm error 1: emergency stop button")
    angles = np.array([report.joints for report in seen])
    last = np.flatnonzero(np.abs(angles - angles[-1]).max(1) > 1e-3)[-1]
    assert (last - pressed) * REPORT < 0.2  # 0.11
    bench.order("release")
    time.sleep(0.1)
    assert bench.armed().moves()


@contextlib.contextmanager
def reports(address):
    """What the control box says 100 times a second, as it comes."""
    seen, ended = [], threading.Event()

    def listen():
        data = b""
        while not ended.is_set() and (more := stream.recv(4096)):
            data += more
            while len(data) >= wire.REPORT_SIZE:
                seen.append(wire.unpack_report(data[:wire.REPORT_SIZE]))
                data = data[wire.REPORT_SIZE:]

    with socket.create_connection((address, 30003), 5) as stream:
        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield seen
        finally:
            ended.set()
            listener.join()


def test_the_emergency_stop_button_is_released_before_its_fault_is_cleared(bench):
    bench.driver.stop(Stop.DAMP)  # it is seen also while nobody commands
    bench.order("estop")
    assert bench.run(3, until=lambda: bench.health.mode == Mode.FAULT)
    assert "emergency stop button" in bench.health.fault
    with pytest.raises(CommandRejected, match="release it at the robot"):
        bench.driver.clear_fault("Ada")
    assert bench.health.mode == Mode.FAULT
    bench.order("release")
    time.sleep(0.1)
    assert bench.armed().moves()


def test_the_fingers_close_on_an_object_and_hold_it(bench):
    same = ArmDouble(XARM6, XARM6.inner_hz, Surroundings.of(bench.driver.options, HZ), SEED)
    same.open()
    place = same.truth()["objects"][0]
    bench.go(np.array([*place[:2], 0.1]), 1.0)
    bench.go(np.array([*place[:2], 0.02]), 1.0)
    close = np.array([0, 0, 0, -1], np.float32)
    assert bench.run(4, close, lambda: bool(bench.values["holding"][0])), bench.values
    assert 0.3 < bench.values["gripper"][0] < 0.6  # 4 cm of 8.5
    lift = np.array([0, 0, 0.5, -1], np.float32)
    bench.run(1, lift)
    assert bench.values["holding"][0] == 1
    assert bench.run(4, np.array([0, 0, 0, 1], np.float32), lambda: bench.values["gripper"][0] > 0.9)
    assert bench.values["holding"][0] == 0


def test_garbled_replies_and_reports_disarm_until_the_stream_is_back(bench):
    bench.go(np.array([0.39, -0.1, 0.15]), 1.0)
    before = bench.values["tool_position"]
    bench.order("corrupt", seconds=0.1)
    assert bench.run(5, np.array([0, 1, 0, 0], np.float32), lambda: bench.health.mode != Mode.ARMED)
    assert bench.health.mode == Mode.DISARMED
    bench.armed()
    moved = bench.values["tool_position"] - before
    assert np.abs(moved).max() < 0.15, moved  # it did not go on towards where it seemed not to be yet
    assert bench.moves()


def test_a_lost_connection_is_a_lost_link_and_can_be_made_again(bench):
    bench.order("disconnect")
    with pytest.raises(LinkLost, match="closed the connection"):
        bench.run(5, np.zeros(4, np.float32))
    bench.driver.disconnect()
    bench.driver.connect(20)
    assert bench.health.mode == Mode.DISARMED
    assert bench.armed().moves()


@pytest.fixture(scope="module")
def box():
    """A control box of an xArm 7 that links connect to as they do to a robot's: address and port."""
    double = ProtocolDouble("robots.xarm.controller", {"model": "xarm7", "world": {"objects": 0, "bins": False}})
    said = double.start(20)
    yield said["address"], said["port"]
    double.stop()


def test_the_sdk_sets_nothing_for_the_whole_process(box):
    """Its threads connect whenever they like, and each time it sets the default timeout of all new sockets."""
    sdk.load()
    from xarm.core.comm.socket_port import SocketPort

    port = SocketPort(*box, forbid_uds=True)
    assert port.connected and socket.getdefaulttimeout() is None
    port.close()


def to(box, anatomy=XARM7, fence=None):
    return XArmLink(anatomy, box[0], Limits(3, True, fence, anatomy.chain.tool), port=box[1])


@contextlib.contextmanager
def linked(box, anatomy=XARM7, fence=None):
    link = to(box, anatomy, fence)
    try:
        yield link, link.open(20)
    finally:
        link.close()


def played(link, commands):
    """The states that answer commands, 100 a second."""
    due = time.monotonic()
    for command in commands:
        yield link.exchange(command)
        due = max(due + 0.01, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def sweep(home):
    """Setpoints and their velocities: out and back in 2 s, then half a second at a step that no velocity announces."""
    way = np.linspace(0.25, 0.1, len(home))
    for phase in np.linspace(0, 2 * np.pi, 200):
        yield ArmCommand(home + way * (1 - np.cos(phase)), way * np.sin(phase) * np.pi)
    yield from [ArmCommand(home + 0.02, np.zeros(len(home)))] * 50


def test_the_same_setpoints_give_the_same_motion_with_and_without_the_protocol(box):
    direct = ArmDouble(XARM7, XARM7.inner_hz, Surroundings(objects=0))
    direct.open()
    ours = np.array([direct.exchange(command).q for command in sweep(XARM7.home)])
    with linked(box) as (link, state):
        rest(link, XARM7.home)
        theirs = np.array([state.q for state in played(link, sweep(XARM7.home))])
        rest(link, ours[-1])
    beside = [np.abs(ours - q).max(1).min() for q in theirs]  # of the way, whenever a busy machine let it be there
    assert max(beside) < 0.03


def test_the_same_actions_give_the_same_way_with_and_without_the_protocol(box):
    """Velocities of the tool, and a rest: both begin where the control box's arm stands."""
    actions = [*np.repeat(np.random.default_rng(0).uniform(-0.7, 0.7, (3, 3)), 5, 0), *np.zeros((5, 3))]
    options = XArmOptions(model="xarm7", bins=False, gripper=False)
    for _ in range(5):  # what a busy machine holds up goes another way
        with linked(box) as (link, _):
            rest(link, XARM7.home)
        theirs, held_up = way(XArmDriver(options, HZ, link=lambda: to(box)), actions, 0.01)
        if not held_up:
            break
    same = replace(XARM7, home=theirs[0])
    bare = Surroundings(objects=0, bins=False)
    ours, _ = way(XArmDriver(options, HZ, link=lambda: ArmDouble(same, XARM7.inner_hz, bare)), actions, 0.0)
    beside = [np.abs(ours - q).max(1).min() for q in theirs]  # of the way, whenever a busy machine let it be there
    assert np.abs(ours - ours[0]).max() > 0.1
    assert max(beside) < 0.03 and np.abs(theirs[-1] - ours[-1]).max() < 0.005  # 0.021 and 0.002


def way(driver, actions, pause):
    """Joint angles, first as it is armed, then after each tick [N, 7]; and whether it was held up."""
    driver.connect(20)
    while driver.health().link_age > 0.05:
        driver.tick()
    driver.arm()
    angles, due, met = [driver.read().values["joint_angles"]], time.monotonic(), Clip.NONE
    for action in actions:
        met |= driver.command(action).clip
        for _ in range(round(driver.inner_hz / HZ)):
            driver.tick()
            angles.append(driver.read().values["joint_angles"])
            due = max(due + pause, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    driver.stop(Stop.DAMP)
    driver.disconnect()
    return np.array(angles), bool(met & (Clip.STALE | Clip.DISARMED))


def rest(link, where):
    """Stand there [J] rad, within 3 mrad."""
    states = played(link, [ArmCommand(where, np.zeros(len(where)))] * 500)
    assert any(np.abs(state.q - where).max() < 0.003 for state in states)


def test_the_control_box_itself_stops_a_tool_that_leaves_its_fence(box):
    with linked(box) as (link, state):
        here = XARM7.chain.position(state.q)
    with linked(box, fence=(here - 0.03, here + 0.03)) as (link, state):
        turned = np.linspace(0, 0.3, 100)[:, None] * np.eye(7)[0]
        commands = [ArmCommand(state.q + turn, np.eye(7)[0] * 0.3) for turn in turned]
        states = list(played(link, commands + commands[-1:] * 100))
        assert "xArm error 35: the tool left the controller's safety boundary" in states[-1].trouble
        assert 0.02 < np.abs(XARM7.chain.position(states[-1].q) - here).max() < 0.06
    with linked(box) as (link, state):
        assert "error 35" in state.trouble  # connecting cleans nothing
        vendor = sdk.connect(box[0], 20, box[1], enable_report=False)
        vendor.set_fence_mode(False)  # as an operator does in the vendor's program: ours only draws fences
        sdk.disconnect(vendor)
        link.recover()
        assert not link.exchange(None).trouble


def test_another_model_than_the_config_s_is_refused(box):
    with pytest.raises(CommandRejected, match="7 joints.*robot.options.model"), linked(box, XARM6):
        pass


MOVER = """
import sys, time, numpy as np
from robots.arms.link import ArmCommand
from robots.xarm.anatomy import XARM7
from robots.xarm.link import XArmLink
from robots.xarm.pilot import Limits

link = XArmLink(XARM7, sys.argv[1], Limits(3, True, None, XARM7.chain.tool), port=int(sys.argv[2]))
q = link.open(20).q
while True:
    q[0] += 0.003
    link.exchange(ArmCommand(q.copy(), np.eye(7)[0] * 0.3))
    time.sleep(0.01)
"""


def test_the_arm_stops_by_itself_when_its_program_is_killed(box):
    watcher = sdk.connect(box[0], 20, box[1], report_type="real")
    path = os.pathsep.join(filter(None, sys.path))
    mover = subprocess.Popen([sys.executable, "-c", MOVER, box[0], str(box[1])], env=os.environ | {"PYTHONPATH": path})
    try:
        deadline, start = time.monotonic() + 30, watcher.angles[0]
        while watcher.angles[0] < start + 0.2:
            assert time.monotonic() < deadline and mover.poll() is None
            time.sleep(0.005)
        mover.kill()
        mover.wait()
        killed_at = watcher.angles[0]
        time.sleep(1.0)
        stood = watcher.angles[0]
        time.sleep(0.3)
        assert watcher.angles[0] == pytest.approx(stood, abs=1e-3) and stood - killed_at < 0.15
    finally:
        mover.kill()
        mover.wait()
        sdk.disconnect(watcher)


def test_nobody_there_is_a_lost_link_in_time():
    start = time.monotonic()
    with pytest.raises(LinkLost, match="ping 127.0.0.9"):
        sdk.connect("127.0.0.9", 3)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("options", [{"model": "xarm5"}, {"sensitivity": 6}, {"fence": 0.01}, {"gripper_speed": 9000},
                                     {"link": "hardware"}])
def test_options_out_of_range_are_refused_by_name(options):
    name = next(iter(options)) if "link" not in options else "address"
    with pytest.raises(ValueError, match=name):
        XArmOptions(**options)


@pytest.mark.parametrize("model", MODELS)
def test_the_tool_reaches_every_corner_of_its_workspace_upright(model):
    driver = XArmDriver(XArmOptions(model=model, bins=False, gripper=False), HZ)
    driver.connect()
    driver.arm()
    low, high = driver.anatomy.workspace
    corners = np.stack(np.meshgrid(*np.stack([low + 0.01, high - 0.01], 1)), -1).reshape(-1, 3)
    for corner in corners[[0, 7, 4, 3]]:  # the longest ways, and the corners that need the straight one back
        for _ in range(50):
            error = corner - driver.read().values["tool_position"]
            if np.abs(error).max() < 0.004:
                break
            driver.command(np.clip(error * 8, -1, 1))
            for _ in range(10):
                driver.tick()
        assert np.abs(error).max() < 0.004, (corner, driver.read().values["tool_position"])
        assert driver.anatomy.chain.pose(driver.read().values["joint_angles"])[2, 2] < -0.999
    driver.stop(Stop.DAMP)
    driver.disconnect()
