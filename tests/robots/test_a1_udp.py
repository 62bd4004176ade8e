"""The A1's driver over its network, against the protocol's double and against a robot that is only a socket.

What is about the robot's behaviour runs with the double in this process and the link's clock in our hands: whenever the
link waits for its turn, the double's time passes. What is about threads and processes runs in real time.
"""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from robots.body import Body
from robots.driver import Clip, CommandRejected, FaultLatched, LinkLost, Mode, StaleState, Stop
from robots.legs import network, remote
from robots.legs.link import LowCommand
from robots.legs.packets import BadPacket, WireCommand, WireState
from robots.legs.remote import Button, Remote
from robots.monitors import Monitors
from robots.unitree_a1.anatomy import A1
from robots.unitree_a1.driver import A1Driver, A1Options
from robots.unitree_a1.udp import UdpLink
from robots.unitree_a1.udp_double import UdpDouble
from robots.unitree_a1.wire import A1_CODEC

STAND = A1.stand_action.astype(np.float32)
ANGLES = A1.folded


def run(driver, seconds, action=None, until=lambda: False):
    """Ticks, and with an action commands, for so long or until something holds; whether it does."""
    for tick in range(round(seconds * driver.spec.inner_hz)):
        if action is not None and tick % round(driver.spec.inner_hz / driver.spec.control_hz) == 0:
            driver.command(action)
        driver.tick()
        if until():
            return True
    return until()


class Clock:
    """In the place of `time` in the link: while it sleeps, the double's time passes."""

    def __init__(self, tick):
        self.ns, self.tick = 10**12, tick

    def monotonic_ns(self):
        return self.ns

    def monotonic(self):
        return self.ns * 1e-9

    def sleep(self, seconds):
        for _ in range(round(seconds * 1000)):
            self.ns += 10**6
            self.tick()


@pytest.fixture
def robot(monkeypatch):
    """Connected; `play` gives an order to the double, `hold` is the action that moves nothing. R1 is held."""
    double = UdpDouble({"pose": "belly"})
    monkeypatch.setattr(network, "time", Clock(double.tick))
    driver = A1Driver(A1Options(pose="belly", link="hardware", address=f"127.0.0.1:{double.port}", deadman="remote"))
    driver.link = UdpLink(*driver.options.endpoint, deadman=True)  # from any port, so that tests may run side by side
    driver.play = lambda fault, **fields: double.order({"fault": fault, **fields})
    driver.play("remote", buttons=["R1"])
    driver.connect()
    run(driver, 0.02)
    driver.hold = driver.standing(driver.read().values)
    yield driver
    driver.stop(Stop.DAMP)
    driver.disconnect()


@pytest.fixture
def armed(robot):
    robot.arm()
    run(robot, 0.2, robot.hold)
    assert robot.health().mode == Mode.ARMED and gauge(robot, "packets_lost") == 0
    return robot


def gauge(driver, name):
    return driver.health().gauges[name]


def trace(driver, actions):
    """Joint angles after each of the actions."""
    angles = []
    for action in actions:
        run(driver, 1 / driver.spec.control_hz, action)
        angles.append(driver.read().values["joint_angles"])
    return np.array(angles)


def test_it_stands_up_from_its_belly_as_without_the_network(robot):
    direct = A1Driver(A1Options(pose="belly"))
    direct.connect()
    traces = []
    for driver in (direct, robot):
        driver.arm()
        traces.append(trace(driver, [robot.hold] * 14 + [STAND] * 50))
        values = driver.read().values
        assert values["up"][2] > 0.98 and np.abs(values["joint_angles"] - A1.stand).max() < 0.2
        assert driver.health().mode == Mode.ARMED
    off = np.abs(traces[0] - traces[1])
    assert off.mean() < 0.005 and off.max() < 0.06  # rad; 0.0025 and 0.04, in the middle of getting up
    assert off[-20:].max() < 0.005  # rad, standing; 0.0022
    direct.disconnect()


def test_a_fifth_of_the_datagrams_lost_both_ways_is_counted_and_goes_unnoticed(armed):
    lost = gauge(armed, "packets_lost")
    armed.play("loss", ratio=0.2, seconds=1.0)
    run(armed, 1.2, armed.hold)
    assert armed.health().mode == Mode.ARMED and not armed.command(armed.hold).clip & Clip.STALE
    assert gauge(armed, "packets_lost") - lost == pytest.approx(100, abs=30)  # of 500


@pytest.mark.parametrize("seconds, holds", [(0.2, False), (0.5, True)])
def test_after_a_stall_it_goes_on(armed, seconds, holds):
    """It holds when the robot was not heard for longer than commands live, 0.2 s."""
    ages, met = [], Clip.NONE
    armed.play("stall", seconds=seconds)
    for _ in range(15):
        met |= armed.command(armed.hold).clip
        run(armed, 0.05, until=lambda: ages.append(armed.health().link_age))
    assert max(ages) == pytest.approx(seconds, abs=0.01) and ages[-1] < 0.01
    assert bool(met & Clip.STALE) == holds
    assert armed.health().mode == Mode.ARMED and not armed.command(armed.hold).clip & Clip.STALE


def test_datagrams_that_were_changed_on_their_way_are_refused_and_counted(armed):
    refused = gauge(armed, "packets_refused")
    armed.play("corrupt", ratio=0.5, seconds=0.5)
    run(armed, 0.7, armed.hold)
    assert gauge(armed, "packets_refused") - refused == pytest.approx(125, abs=30)  # of 250
    assert armed.health().mode == Mode.ARMED


def test_a_robot_that_falls_silent_is_damped_and_can_be_armed_when_it_is_back(armed):
    armed.play("disconnect")
    assert run(armed, 3, armed.hold, until=lambda: armed.health().mode == Mode.DISARMED)
    assert armed.health().link_age > armed.spec.damp_after * 0.9
    with pytest.raises(StaleState, match="is the robot on"):
        armed.arm()
    sequence = armed.read().sequence
    run(armed, 0.1)
    assert armed.read().sequence == sequence  # an old reading is not shown as a new one
    armed.play("reconnect")
    assert run(armed, 2, until=lambda: armed.health().link_age < 0.05)
    armed.arm()
    run(armed, 0.2, armed.hold)
    assert armed.health().mode == Mode.ARMED


def test_a_jump_of_the_robots_clock_changes_nothing(armed):
    jumps = gauge(armed, "clock_jumps")
    run(armed, 0.2, armed.hold)  # by then it knows how far ticks are apart
    armed.play("clock", seconds=-3600)
    assert run(armed, 1, armed.hold, until=lambda: gauge(armed, "clock_jumps") == jumps + 1)
    assert armed.health().mode == Mode.ARMED and armed.health().link_age < 0.1


def test_a_hot_motor_is_warned_of_and_one_that_the_robot_switched_off_is_a_fault(armed):
    def looked():
        return Monitors(armed.thresholds).look(armed.health().gauges)

    assert looked() == ((), "")
    armed.play("temperature", celsius=55, motor=4)
    assert run(armed, 1, armed.hold, until=lambda: gauge(armed, "temperature_celsius") == 55)
    assert "temperature_celsius 55" in looked()[0][0] and not looked()[1]
    assert armed.health().mode == Mode.ARMED
    armed.play("temperature", celsius=60, motor=4)
    assert run(armed, 1, armed.hold, until=lambda: armed.health().mode == Mode.FAULT)
    assert "FL thigh" in armed.health().fault and "the limit is 60" in looked()[1]


def test_the_robots_remote_stops_it_until_an_operator_clears_the_fault(armed):
    armed.play("remote", buttons=["R1", "L2", "B"])
    assert run(armed, 1, armed.hold, until=lambda: armed.health().mode == Mode.FAULT)
    assert "remote" in armed.health().fault
    armed.clear_fault("Ada")
    run(armed, 0.1)
    with pytest.raises(FaultLatched):  # the buttons are still held
        armed.arm()


def test_an_emergency_stop_from_another_thread_in_mid_step_leaves_the_motors_nothing_but_damping(armed):
    """Within three periods: what a motor then bears comes from its speed alone, 4 N m for each rad/s."""
    def driven():
        values = armed.read().values
        return np.abs(values["torques"] + 4 * values["joint_velocities"]).max()

    assert run(armed, 2, STAND, until=lambda: driven() > 5)
    stopper = threading.Thread(target=armed.stop, args=(Stop.ESTOP,))
    stopper.start()
    assert run(armed, 2, STAND, until=lambda: armed.health().mode == Mode.FAULT)
    stopper.join()
    run(armed, 0.006, STAND)
    assert not run(armed, 1.5, STAND, until=lambda: driven() > 1)
    assert np.abs(armed.read().values["joint_velocities"]).max() < 0.1 and armed.health().fault == "emergency stop"
    with pytest.raises(FaultLatched):
        armed.arm()


def test_it_moves_only_while_the_button_of_the_remote_is_held(armed):
    armed.play("remote", buttons=[])
    assert run(armed, 1, armed.hold, until=lambda: armed.health().mode == Mode.DISARMED)
    assert armed.command(armed.hold).clip & Clip.DISARMED and not armed.health().fault
    with pytest.raises(CommandRejected, match="R1"):
        armed.arm()
    armed.play("remote", buttons=["R1"])
    run(armed, 0.02)
    assert armed.health().mode == Mode.DISARMED  # nothing but an order arms it
    armed.arm()


def test_a_state_that_is_not_finite_is_a_fault(armed):
    armed.play("blind")
    assert run(armed, 1, armed.hold, until=lambda: armed.health().mode == Mode.FAULT)
    assert "not finite" in armed.health().fault and np.isfinite(armed.read().values["joint_angles"]).all()


def test_a_double_that_died_is_a_lost_link_and_connecting_starts_another():
    driver = A1Driver(A1Options(link="protocol"))
    driver.connect()
    first = driver.link.double.pid
    os.kill(first, signal.SIGKILL)
    with pytest.raises(LinkLost, match="ended"):
        run(driver, 2)
    driver.disconnect()
    driver.connect()
    assert driver.link.double.pid != first and driver.health().mode == Mode.DISARMED
    driver.disconnect()


class Socket(threading.Thread):
    """A robot without physics: answers every sound command with the same state, and remembers commands."""

    def __init__(self):
        super().__init__(daemon=True)
        zero = np.zeros(12)
        self.state = WireState(ANGLES, zero, zero, np.array([1.0, 0, 0, 0]), np.zeros(3), np.zeros(3), np.zeros(4),
                               zero, 0, bytes(40))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.05)
        self.port = self.socket.getsockname()[1]
        self.commands, self.client, self.answer, self.ended = [], None, self.sound, False
        self.start()

    def sound(self):
        return [A1_CODEC.encode_state(self.state)]

    def run(self):
        while not self.ended:
            try:
                packet, self.client = self.socket.recvfrom(2048)
                self.commands.append(A1_CODEC.decode_command(packet))
            except (TimeoutError, BadPacket):
                continue
            for packet in self.answer():
                self.socket.sendto(packet, self.client)

    def hears(self, what, seconds=5.0, after=None):
        """Whether a command of this kind comes within so long, from now or after so many commands."""
        seen, deadline = len(self.commands) if after is None else after, time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(what(command) for command in self.commands[seen:]):
                return True
            time.sleep(0.005)
        return False


def damps(command):
    return not command.kp.any() and (command.kd == 4).all()


def drives(command):
    return command.kp.any()


@pytest.fixture
def bare():
    bare = Socket()
    yield bare
    bare.ended = True
    bare.join()
    bare.socket.close()


@pytest.fixture
def link(bare):
    link = UdpLink("127.0.0.1", bare.port)
    link.open(5)
    yield link
    link.close()


SERVO = LowCommand(ANGLES, A1.kp, A1.kd)


def exchange(link, seconds, command=SERVO, until=lambda state: False):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until(link.exchange(command)):
        pass


@pytest.mark.parametrize("level", [Stop.DAMP, Stop.ESTOP])
def test_a_stop_reaches_the_robot_with_the_loop_dead(bare, level):
    driver = A1Driver(A1Options(link="hardware", address=f"127.0.0.1:{bare.port}"))
    driver.link = UdpLink(*driver.options.endpoint)  # from any port, so that tests may run side by side
    driver.connect()
    driver.arm()
    run(driver, 0.1, STAND)
    before, guard = len(bare.commands), driver.link._guard._process
    guard.send_signal(signal.SIGSTOP)  # or it would notice before long that the loop is dead
    threading.Thread(target=driver.stop, args=(level,)).start()
    assert bare.hears(damps, after=before)
    guard.send_signal(signal.SIGCONT)
    driver.disconnect()


def test_a_loop_that_hangs_is_damped_and_starts_softly_when_it_is_back(bare, link):
    exchange(link, 0.7)
    assert bare.commands[-1].kp[0] == 80
    time.sleep(0.1)
    assert drives(bare.commands[-1])
    assert bare.hears(damps, 2)
    time.sleep(0.1)
    assert damps(bare.commands[-1]) and damps(bare.commands[-2])  # again and again
    seen = len(bare.commands)
    exchange(link, 10, until=lambda state: bare.commands[-1].kp[0] > 10)
    after = [command.kp[0] for command in bare.commands[seen:] if not damps(command)]
    assert after[0] < 10 and (np.diff(after) >= 0).all() and 10 < after[-1] < 60


OWNER = """
    import sys
    from robots.unitree_a1.anatomy import A1
    from robots.legs.link import LowCommand
    from robots.unitree_a1.udp import UdpLink
    link = UdpLink("127.0.0.1", int(sys.argv[1]))
    state = link.open(20)
    while True:
        link.exchange(LowCommand(state.q, A1.kp, A1.kd))
"""


def test_the_robot_is_damped_when_the_process_that_drives_it_is_killed(bare):
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(OWNER), str(bare.port)])
    assert bare.hears(drives, 20)
    owner.kill()
    owner.wait()
    assert bare.hears(damps)
    assert not bare.hears(drives, 0.1)


def test_without_its_guard_the_robot_must_not_go_on(link):
    link._guard._process.kill()
    faults = []
    exchange(link, 2, until=lambda state: faults.append(state.fault) or state.fault)
    assert "connect anew" in faults[-1]


def test_a_setpoint_that_jumps_from_damping_is_not_sent(bare, link):
    far = LowCommand(ANGLES + 0.5, A1.kp, A1.kd)
    assert "from the measured angle" in link.exchange(far).fault
    assert not bare.hears(drives, 0.1)


def test_of_several_states_that_wait_the_newest_counts(bare, link):
    states = [A1_CODEC.encode_state(bare.state._replace(foot_force=np.full(4, n))) for n in (1.0, 2.0, 3.0)]
    bare.answer = lambda: states
    exchange(link, 2, until=lambda state: state.foot_force[0] > 0)
    time.sleep(0.1)
    assert link.exchange(SERVO).foot_force[0] == 3 == link.gauges()["foot_force_fr"]


def test_what_waited_while_the_loop_hung_is_too_old_to_act_on(bare, link):
    bare.answer = lambda: []
    exchange(link, 0.05)
    time.sleep(0.1)
    bare.socket.sendto(A1_CODEC.encode_state(bare.state._replace(foot_force=np.ones(4))), bare.client)
    time.sleep(0.2)
    assert not link.exchange(SERVO).foot_force.any()


def test_a_robot_that_cannot_be_sent_anything_is_a_fault(link):
    link._robot = ("255.255.255.255", 9)  # which the system refuses to send to
    faults = []
    exchange(link, 5, until=lambda state: faults.append(state.fault) or state.fault)
    assert len(faults) > 10 and "nothing can be sent" in faults[-1]  # but not at once


def test_strangers_are_not_heard(bare, link):
    port = link._socket.getsockname()[1]
    bare.answer = lambda: []
    exchange(link, 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        stranger.sendto(A1_CODEC.encode_state(bare.state._replace(foot_force=np.ones(4))), ("127.0.0.1", port))
    exchange(link, 0.1)
    assert not link.exchange(SERVO).foot_force.any()


@pytest.mark.parametrize("answer, why", [([], "nothing"), ([b"hello"], "5 bytes: the A1's has 771")])
def test_a_robot_that_cannot_be_understood_is_not_connected_to(bare, answer, why):
    bare.answer = lambda: answer
    with pytest.raises(LinkLost, match=f"within 0.3 s, but .*{why}.*low-level mode"):
        UdpLink("127.0.0.1", bare.port).open(0.3)


def test_one_program_at_a_time_talks_to_a_robot(bare):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 0))
        with pytest.raises(LinkLost, match="another program"):
            UdpLink("127.0.0.1", bare.port, local_port=other.getsockname()[1]).open(0.3)


def test_the_double_goes_on_with_the_last_command_until_it_is_told_that_they_are_lost():
    double = UdpDouble({"pose": "belly"})
    legs = WireCommand(ANGLES + 0.1, *np.zeros((2, 12)), A1.kp, A1.kd)

    def torques(ticks):
        state = None
        for _ in range(ticks):
            double.tick()
        with_packets = [client.recv(2048) for _ in range(ticks // 2)]
        state = A1_CODEC.decode_state(with_packets[-1])
        return np.abs(state.tau).max()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(A1_CODEC.encode_command(legs), ("127.0.0.1", double.port))
        assert torques(10) > 1 and torques(50) > 1
        double.order({"fault": "cmd_lost"})
        assert torques(10) == 0
        double.order({"fault": "remote", "buttons": ["A"]})
        torques(2)
        double.tick(), double.tick()
        assert remote.decode(A1_CODEC.decode_state(client.recv(2048)).remote) == Remote(Button.A)
    with pytest.raises(ValueError, match="unknown"):
        double.order({"fault": "rain"})


CONTROL = """
    import sys, time
    from robots.body import Body
    from robots.driver import StaleState
    body = Body(sys.argv[1], "unitree_a1", {"pose": "belly", "link": "protocol"})
    body.connect()
    for _ in range(50):  # on a busy machine its double is late now and then
        try:
            body.arm()
            break
        except StaleState:
            time.sleep(0.1)
    print(body.pid, flush=True)
    while True:
        body.command(body.spec.action_space.low)
        time.sleep(0.05)
"""


def test_a_killed_control_process_leaves_a_body_that_damps_and_that_the_next_one_finds():
    name = f"a1-udp-{os.getpid()}"
    control = subprocess.Popen([sys.executable, "-c", textwrap.dedent(CONTROL), name],
                               stdout=subprocess.PIPE, text=True)
    pid = int(control.stdout.readline())
    control.kill()
    control.wait()
    control.stdout.close()
    body = Body(name, "unitree_a1", {"pose": "belly", "link": "protocol"})
    time.sleep(1.3)  # the sentence under test is about time: damped after one second
    body.connect()
    try:
        assert body.pid == pid and body.health().mode == Mode.DISARMED
        assert "no command, or no state, for 1.0 s: disarmed" in body.log_path.read_text()
        assert body.health().link_age < 0.2
    finally:
        body.disconnect()
