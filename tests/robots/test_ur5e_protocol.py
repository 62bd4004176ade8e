"""The true ur-rtde against a controller that speaks UR's and Robotiq's protocols, in real time.

A busy computer does not keep that time: what came too late to count is played again.
"""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from robots.arms.double import ArmDouble, Surroundings
from robots.arms.link import ArmCommand
from robots.driver import CommandRejected, LinkLost, Mode, StaleState, Stop
from robots.protocol import ProtocolDouble
from robots.ur5e import link as link_module
from robots.ur5e.anatomy import UR5E
from robots.ur5e.driver import UR5eDriver, UR5eOptions
from robots.ur5e.link import RtdeLink
from robots.ur5e.status import EMERGENCY_STOP

rtde_receive = pytest.importorskip("rtde_receive")

PERIOD = 1 / UR5E.inner_hz
LATE = 0.18  # s between exchanges, after which the watchdog may have stopped the arm
WORLD = {"objects": 1, "return_after": 0.0, "bins": False}
SEED = 3
STILL = np.zeros(6)


class Late(Exception):
    """The computer was too busy for what was played."""


def played(test):
    """Again, where the computer was too busy; with the arm as its operator would leave it."""

    @functools.wraps(test)
    def again(**fixtures):
        for _ in range(3):
            try:
                return test(**fixtures)
            except Late:
                (fixtures.get("arm") or fixtures["driven"]).recover()
        return test(**fixtures)

    return again


class Player:
    """A link that is exchanged with in real time."""

    def __init__(self, link):
        self.link = link
        self.state = link.exchange(None)

    def play(self, command=None, until=lambda state: False, seconds=0.0):
        """Exchanges `command`, or what it makes of the newest state, until something holds, or for some seconds."""
        last = start = time.monotonic()
        while not until(self.state):
            now = time.monotonic()
            if command is not None and (now - last > LATE or "control script" in self.state.trouble):
                raise Late
            assert command is None or not self.state.trouble, self.state.trouble
            if now - start > (seconds or 8.0):
                assert seconds, f"it did not come about in time: {self.state}"
                break
            self.state, last = self.link.exchange(command(self.state) if callable(command) else command), now
            time.sleep(PERIOD)
        return self.state

    def go(self, goal, speed=1.0, gripper=None):
        """Setpoints that run to `goal` [6] rad, all joints arriving at once."""
        setpoint = self.state.q

        def command(state):
            nonlocal setpoint
            way = goal - setpoint
            setpoint = setpoint + way * min(1.0, speed * PERIOD / max(np.abs(way).max(), 1e-9))
            return ArmCommand(setpoint, STILL, gripper)

        return self.play(command, until=lambda state: np.abs(state.q - goal).max() < 0.005)

    def stays_fine(self, seconds):
        """Stands for a while; nothing is wrong, and states come."""
        self.play(seconds=seconds)
        assert not self.play(until=lambda state: self.age() < 0.05).trouble

    def falls_into(self, trouble):
        """Stands until this is what the trouble says."""
        return self.play(until=lambda state: trouble in state.trouble)

    def recover(self):
        """As an operator does, who tries again where the controller asks for it. The arm stays where it is."""
        deadline = time.monotonic() + 8
        while (stood := self.play(seconds=0.2)) is not None:
            try:
                self.link.recover()
                break
            except CommandRejected:
                assert time.monotonic() < deadline
        self.stays_fine(0.3)
        assert np.abs(self.state.q - stood.q).max() < 0.01

    def age(self):
        return (self.link.now() - self.state.time) * 1e-9


class Driven:
    """A driver that is ticked in real time, and the double that it drives."""

    def __init__(self, driver, double):
        self.driver, self._double = driver, double
        self.recover()

    def run(self, until, action=None):
        """Ticks until something holds, commanding if there is an action."""
        period, start = 1 / self.driver.inner_hz, time.monotonic()
        due = last = start
        while not until():
            now = time.monotonic()
            if action is not None and (now - last > LATE or "control script" in self.driver.health().fault):
                raise Late
            assert now - start < 8, f"it did not come about in time: {self.driver.health()}"
            if action is not None and now >= due:
                self.driver.command(action)
                due = now + 1 / self.driver.spec.control_hz
            self.driver.tick()
            last = now
            time.sleep(period)

    def recover(self):
        """As an operator does: power is there, the fault cleared as soon as the controller allows it, and armed."""
        self._double.order("release")
        self._double.order("power")

        def cleared():
            with contextlib.suppress(CommandRejected):
                self.driver.clear_fault("Ada")
            return self.driver.health().mode != Mode.FAULT and self.driver.health().link_age < 0.05

        self.run(cleared)
        self.driver.arm()


@pytest.fixture(scope="module")
def controller():
    double = ProtocolDouble("robots.ur5e.controller", {"model": "ur5e", "world": WORLD, "seed": SEED, "gripper": True,
                                                       "camera": False, "unlock_after": 1.0})
    double.host = double.start(20.0)["address"]
    yield double
    double.stop()


@pytest.fixture
def double(controller):
    controller.order("anew")
    return controller


@pytest.fixture
def arm(double):
    link = RtdeLink(PERIOD, double.host)
    link.open(10.0)
    yield Player(link)
    link.close()


@pytest.fixture
def driven(double):
    """Armed; each joint is an action."""
    options = UR5eOptions(link="protocol", actions="joints", bins=False)
    driver = UR5eDriver(options, link=lambda: RtdeLink(PERIOD, double.host))
    driver.connect(20.0)
    yield Driven(driver, double)
    driver.stop(Stop.DAMP)
    driver.disconnect()


def turned(angle):
    goal = UR5E.home.copy()
    goal[0] += angle
    return goal


def reaching(place):
    """Joint angles that hold the tool at a place, pointing down."""
    q, down = UR5E.home.copy(), UR5E.chain.pose(UR5E.home)[:3, :3]
    for _ in range(100):
        q = q + np.clip(UR5E.chain.towards(q, np.asarray(place), down)[0], -0.2, 0.2)
    return q


def ask(host, line):
    """The dashboard's answer."""
    with socket.create_connection((host, 29999), 5) as connection, connection.makefile("rw") as lines:
        lines.readline()
        lines.write(line + "\n")
        lines.flush()
        return lines.readline().strip()


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(condition, seconds=8.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def test_sockets_that_time_out_by_default_are_no_matter(double):
    """Other vendors' SDKs set that for the whole process."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(1.0)
    try:
        link = RtdeLink(PERIOD, double.host)
        link.open(10.0)
    finally:
        socket.setdefaulttimeout(before)
    Player(link).stays_fine(0.3)
    link.close()


@played
def test_it_moves_to_where_it_is_told_and_stands_there(arm):
    arm.go(turned(0.2))
    stood = arm.play(seconds=0.2)
    later = arm.play(seconds=0.2)
    assert np.abs(later.q - stood.q).max() < 1e-3 and np.abs(later.dq).max() < 0.05
    assert not later.trouble and np.isfinite(later.effort).all() and arm.age() < LATE


@played
def test_the_gripper_grips_and_lets_go(arm):
    place = ArmDouble(UR5E, 125.0, Surroundings(**WORLD), SEED)
    place.open()
    place = place.truth()["objects"][0]
    above = reaching([*place[:2], UR5E.hover])
    arm.go(above, gripper=1.0)
    down = arm.go(reaching(place), 0.5, gripper=1.0)
    assert not down.holding and down.gripper > 0.9
    arm.play(ArmCommand(down.q, STILL, 0.0), until=lambda state: state.holding)
    arm.go(above, 0.5, gripper=0.0)
    held = arm.play(ArmCommand(above, STILL, 0.0), until=lambda state: state.holding)
    assert 0.1 < held.gripper < 0.9
    assert not arm.play(ArmCommand(above, STILL, 1.0), until=lambda state: state.gripper > 0.95).holding


@pytest.mark.parametrize("seconds", [0.1, 0.2])
@played
def test_a_stall_that_the_watchdog_lives_through_only_ages_the_state(arm, double, seconds):
    double.order("stall", seconds=seconds)
    goal, oldest = arm.state.q, []
    arm.play(lambda state: (oldest.append(arm.age()), ArmCommand(goal, STILL))[1], seconds=seconds + 0.3)
    assert max(oldest) > seconds - 0.02
    arm.stays_fine(0.1)


@played
def test_a_stall_that_starves_the_watchdog_stops_the_script_until_somebody_looks(arm, double):
    arm.go(turned(0.1))
    double.order("stall", seconds=0.6)
    arm.falls_into("control script does not run")
    arm.recover()
    arm.go(UR5E.home)


@played
def test_garbled_packets_are_counted_and_never_shown(arm, double):
    def seen(state):
        assert np.abs(state.q).max() < 10 and not state.trouble
        return arm.link.gauges()["garbled_states"] > before

    before = arm.link.gauges()["garbled_states"]
    while not seen(arm.state):
        double.order("corrupt", packages=3)  # the SDK only shows the newest of what came at once
        arm.play(lambda state: ArmCommand(UR5E.home, STILL), until=seen, seconds=0.2)
    arm.stays_fine(0.1)


@played
def test_a_jump_of_the_controllers_clock_changes_nothing(arm, double):
    double.order("clock", seconds=-100.0)
    arm.stays_fine(0.2)
    double.order("clock", seconds=1e6)
    arm.stays_fine(0.2)


@played
def test_a_protective_stop_ends_by_an_operators_word_but_not_at_once(arm, double):
    double.order("protective_stop")
    arm.falls_into("protective stop")
    with pytest.raises(CommandRejected, match="5s after occurrence"):
        arm.link.recover()
    arm.recover()
    arm.go(turned(0.1))


@played
def test_what_the_arm_runs_into_stops_it(arm):
    down = reaching([-0.2, -0.5, UR5E.table - 0.03])
    with pytest.raises(AssertionError, match="protective stop"):
        arm.go(down)  # through the table
    arm.recover()
    arm.go(UR5E.home)


@played
def test_the_button_pressed_in_mid_motion_stands_the_arm_at_once_and_is_a_fault(driven, double):
    """Within 0.2 s of the controller's own time, which a busy computer does not stretch."""
    eye = rtde_receive.RTDEReceiveInterface(double.host, 125.0, ["timestamp", "safety_mode", "actual_q", "actual_qd"])
    turning, moved = np.array([0.6, *np.zeros(6)], np.float32), []

    def stands():
        """From the first look on, which counts as moving."""
        if moved and np.abs(eye.getActualQd()).max() < 0.01:
            return True
        moved.append(eye.getTimestamp())
        return False

    driven.run(lambda: eye.getActualQd()[0] > 0.7, turning)
    double.order("estop")
    driven.run(lambda: eye.getSafetyMode() == EMERGENCY_STOP, turning)
    driven.run(stands, turning)
    stood, where = eye.getTimestamp(), np.array(eye.getActualQ())
    assert moved[-1] - moved[0] < 0.2  # 0.12
    driven.run(lambda: driven.driver.health().mode == Mode.FAULT, turning)
    assert driven.driver.health().fault.startswith("emergency stop: turn the robot's button back")
    driven.run(lambda: eye.getTimestamp() > stood + 0.3, turning)
    assert np.abs(eye.getActualQ() - where).max() < 1e-3
    eye.disconnect()


@played
def test_after_an_emergency_stop_somebody_at_the_pendant_powers_on(arm, double):
    double.order("estop")
    arm.falls_into("emergency stop: turn the robot's button back")
    double.order("release")
    arm.falls_into("power the robot on and release its brakes")
    with pytest.raises(CommandRejected, match="power the robot on"):
        arm.link.recover()
    double.order("power")
    arm.recover()
    arm.go(turned(0.1))


def test_a_robot_without_power_is_connected_to_and_waits_for_its_operator(double):
    double.order("estop")
    double.order("release")
    link = RtdeLink(PERIOD, double.host)
    assert "power the robot on" in link.open(10.0).trouble
    arm = Player(link)
    double.order("power")
    arm.recover()
    link.close()


@played
def test_a_lost_connection_is_made_again_and_the_arm_stands_until_somebody_looks(arm, double):
    arm.go(turned(0.1))
    before = arm.link.gauges()["connections_lost"]
    double.order("disconnect")
    arm.falls_into("lost the controller")
    arm.recover()
    assert arm.link.gauges()["connections_lost"] == before + 1
    arm.go(UR5E.home)


@played
def test_an_sdk_that_hangs_holds_nothing_up_and_is_replaced(arm, monkeypatch):
    monkeypatch.setattr(link_module, "SILENT", 0.5)
    pid = arm.link.pid
    os.kill(pid, signal.SIGSTOP)
    arm.falls_into("lost the controller")
    assert is_gone(pid)
    arm.recover()
    arm.go(turned(0.1))


ODD_SDK = """
import importlib.machinery, importlib.util, pathlib, sys
ours = sys.modules[__name__]
spec = importlib.machinery.PathFinder.find_spec("rtde_control", [{folder!r}])
true = importlib.util.module_from_spec(spec)
spec.loader.exec_module(true)
sys.modules[__name__] = ours  # where the true one has put itself
mood = pathlib.Path({mood!r})

class RTDEControlInterface(true.RTDEControlInterface):
    def servoJ(self, *arguments):
        if mood.exists():
            mood.unlink()
            raise RuntimeError("out of order")
        return super().servoJ(*arguments)
"""


@pytest.fixture
def bad_mood(tmp_path, monkeypatch):
    """A file; while it is there, the next setpoint makes the SDK raise, and it is gone."""
    mood = tmp_path / "mood"
    folder = os.path.dirname(rtde_receive.__file__)
    (tmp_path / "rtde_control.py").write_text(ODD_SDK.format(folder=folder, mood=str(mood)))
    monkeypatch.syspath_prepend(tmp_path)  # where the SDK's process looks first
    return mood


@played
def test_a_call_of_the_sdk_that_raises_is_a_lost_controller_and_the_arm_stands_until_somebody_looks(bad_mood, arm):
    bad_mood.touch()
    wait_for(lambda: arm.link.exchange(ArmCommand(turned(0.1), STILL)) and not bad_mood.exists())
    arm.falls_into("lost the controller (RuntimeError: out of order)")
    arm.recover()
    arm.go(turned(0.1))


def test_a_program_that_runs_is_left_alone_unless_it_was_ours(double):
    link = RtdeLink(PERIOD, double.host)
    link.open(10.0)
    os.kill(link.pid, signal.SIGKILL)  # before the first exchange: nobody watches its script yet
    with pytest.raises(LinkLost, match="stop it at the pendant"):
        RtdeLink(PERIOD, double.host).open(10.0)
    arm = Player(link)
    arm.falls_into("lost the controller")
    arm.recover()
    link.close()


STREAMER = """
import sys, time, numpy as np
from robots.arms.link import ArmCommand
from robots.ur5e.link import RtdeLink
link = RtdeLink(0.008, sys.argv[1])
q = link.open(10.0).q
print(link.pid, flush=True)
while True:
    q[0] -= 0.004
    link.exchange(ArmCommand(q, np.zeros(6)))
    time.sleep(0.008)
"""


@pytest.mark.parametrize("with_sdk", [True, False])
def test_killed_in_motion_the_arm_stops(double, with_sdk):
    """By the controller's watchdog where the SDK's process is killed as well, else by that process."""
    eye = rtde_receive.RTDEReceiveInterface(double.host, 125.0, ["actual_qd"])
    process = subprocess.Popen([sys.executable, "-c", STREAMER, double.host], stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
    sdk = int(process.stdout.readline())
    wait_for(lambda: eye.getActualQd()[0] < -0.2)
    if with_sdk:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
    wait_for(lambda: abs(eye.getActualQd()[0]) < 0.01 and ask(double.host, "running") == "Program running: false", 2.0)
    wait_for(lambda: is_gone(sdk))
    eye.disconnect()


def test_without_remote_control_it_does_not_connect_and_says_what_to_do(double):
    double.order("local")
    try:
        with pytest.raises(LinkLost, match="switch it to remote control"):
            RtdeLink(PERIOD, double.host).open(10.0)
    finally:
        double.order("remote")


def test_a_gripper_is_activated_only_where_that_is_allowed(double):
    double.order("deactivate")
    with pytest.raises(LinkLost, match="activate_gripper"):
        RtdeLink(PERIOD, double.host).open(10.0)
    link = RtdeLink(PERIOD, double.host, activate=True)
    assert not link.open(10.0).trouble
    link.close()


def test_where_nobody_answers_it_says_where_and_leaves_nothing_behind():
    link, threads = RtdeLink(PERIOD, "127.0.0.9"), threading.active_count()
    with pytest.raises(LinkLost, match="127.0.0.9:29999"):
        link.open(10.0)
    assert not link.pid and threading.active_count() == threads


@pytest.mark.parametrize("model, actions, hz", [("ur5", "joints", 25.0), ("ur5e", "tool", 10.0)])
def test_the_same_actions_go_the_same_way_with_and_without_the_protocol(model, actions, hz):
    """Within 0.01 rad, and 0.002 rad at the end: both doubles follow the same setpoints, one of them some milliseconds
    later. The UR5's controller is of the generation before."""
    ways, threads, pids = {}, threading.active_count(), []
    for kind in ("direct", "protocol"):
        driver = UR5eDriver(UR5eOptions(model=model, link=kind, actions=actions, objects=0, bins=False), control_hz=hz)
        for _ in range(5):
            driver.connect(20.0)
            try:
                driver.clear_fault("Ada")  # of the attempt before
                driver.arm()
                ways[kind] = _danced(driver, 0.0 if kind == "direct" else PERIOD)
            except (Late, StaleState):
                continue
            finally:
                if kind == "protocol":
                    pids += [driver.link.pid, driver.link.double.pid]
                driver.disconnect()
            break
    direct, protocol = ways["direct"], ways["protocol"]
    beside = [np.abs(direct - q).max(1).min() for q in protocol]  # of the way, whenever a busy computer let it be there
    assert np.abs(direct[-1] - direct[0]).max() > 0.1
    assert max(beside) < 0.01 and np.abs(protocol[-1] - direct[-1]).max() < 0.002  # 0.003 and 0.0001
    assert all(map(is_gone, pids)) and threading.active_count() == threads


def _danced(driver, period):
    """The way on which a fixed sequence of actions leads: joint angles at each tick [N, 6]."""
    random, size = np.random.default_rng(0), driver.spec.action_space.shape[0]
    actions = [*np.repeat(random.uniform(-0.5, 0.5, (4, size)), 4, 0), *np.zeros((8, size))]
    last, way = time.monotonic(), []
    for action in actions:
        driver.command(action)
        for _ in range(round(driver.spec.inner_hz / driver.spec.control_hz)):
            driver.tick()
            way.append(driver.read().values["joint_angles"])
            time.sleep(period)
            if time.monotonic() - last > LATE:
                raise Late
            last = time.monotonic()
    assert driver.health().mode == Mode.ARMED, driver.health()
    return np.array(way)
