"""The Go2's driver over the vendor's SDK and real DDS on the loopback interface, against the protocol's double, in real
time. A connection takes seconds, so that one of them serves all of these tests."""

import threading
import time

import numpy as np
import pytest

from robots.driver import Clip, CommandRejected, FaultLatched, Mode, StaleState, Stop
from robots.monitors import Monitors
from robots.unitree_go2.anatomy import GO2
from robots.unitree_go2.driver import Go2Driver, Go2Options

STAND = GO2.stand_action.astype(np.float32)
WAIT = 30.0  # s for a connection on a busy machine


def run(driver, seconds, action=None, until=lambda: False):
    """Ticks at the link's pace, and with an action commands, for so long or until something holds; whether it does."""
    end, tick = time.monotonic() + seconds, 0
    while not until() and time.monotonic() < end:
        if action is not None and tick % 25 == 0:
            driver.command(action)
        driver.tick()
        tick += 1
    return until()


@pytest.fixture(scope="module")
def robot():
    """Connected, on its belly. `play` gives an order to the double, `hold` is the action that moves nothing."""
    driver = Go2Driver(Go2Options(pose="belly", link="protocol", deadman="remote"))
    driver.connect(WAIT)
    driver.play = lambda fault, **fields: driver.link.double.order(fault, **fields)
    yield driver
    driver.stop(Stop.DAMP)
    driver.disconnect()


@pytest.fixture
def armed(robot):
    robot.play("remote", buttons=["R1"])
    robot.play("temperature", celsius=25)
    robot.play("charge", ratio=1.0)
    robot.clear_fault("Ada")
    assert run(robot, 5, until=lambda: robot._state.held and robot.health().link_age < 0.02)
    robot.arm()
    robot.hold = robot.standing(robot.read().values)
    run(robot, 0.6, robot.hold)
    assert robot.health().mode == Mode.ARMED
    yield robot
    robot.stop(Stop.DAMP)
    run(robot, 0.05)


def gauge(driver, name):
    return driver.health().gauges[name]


@pytest.fixture(scope="module")
def direct():
    """Joint angles [12] rad of a robot that stood up without the network."""
    driver = Go2Driver(Go2Options(pose="belly"))
    driver.connect()
    driver.arm()
    for _ in range(60):
        driver.command(STAND)
        for _ in range(50):
            driver.tick()
    return driver.read().values["joint_angles"]


def test_it_stands_up_from_its_belly_as_without_the_network(direct, armed):
    run(armed, 3, STAND)
    seen = armed.read().values
    assert seen["up"][2] > 0.98 and armed.health().mode == Mode.ARMED
    off = np.abs(seen["joint_angles"] - direct).reshape(4, 3)  # rad
    assert off[:, 1:].max() < 0.1  # 0.03
    assert off[:, 0].max() < 0.2  # 0.1: feet stay where they first touched
    run(armed, 2, armed.standing({"setpoint": GO2.folded}))


def test_commands_and_states_go_five_hundred_times_a_second(armed):
    before, start = armed.health().ticks, time.monotonic()
    run(armed, 1.0, armed.hold)
    assert (armed.health().ticks - before) / (time.monotonic() - start) == pytest.approx(500, rel=0.2)
    assert armed.health().link_age < 0.05


def test_lost_and_changed_messages_are_counted_and_it_goes_on(armed):
    lost, refused = gauge(armed, "packets_lost"), gauge(armed, "packets_refused")
    armed.play("loss", ratio=0.2, seconds=0.5)
    run(armed, 0.6, armed.hold)
    armed.play("corrupt", ratio=0.5, seconds=0.5)
    run(armed, 0.7, armed.hold)
    assert gauge(armed, "packets_lost") - lost > 60  # of 250 a fifth, and half of as many that were refused
    assert gauge(armed, "packets_refused") - refused > 50
    assert armed.health().mode == Mode.ARMED and not armed.command(armed.hold).clip & Clip.STALE


def test_after_a_stall_it_goes_on(armed):
    armed.play("stall", seconds=0.2)
    ages = []
    run(armed, 0.6, armed.hold, until=lambda: ages.append(armed.health().link_age))
    assert max(ages) > 0.15 and ages[-1] < 0.05 and armed.health().mode == Mode.ARMED


def test_a_robot_that_falls_silent_is_damped_and_can_be_armed_when_it_is_back(armed):
    armed.play("disconnect")
    assert run(armed, 5, armed.hold, until=lambda: armed.health().mode == Mode.DISARMED)
    with pytest.raises(StaleState, match="is the robot on"):
        armed.arm()
    armed.play("reconnect")
    assert run(armed, 2, until=lambda: armed.health().link_age < 0.02)
    armed.arm()


def test_a_jump_of_the_robots_clock_changes_nothing(armed):
    jumps = gauge(armed, "clock_jumps")
    armed.play("clock", seconds=-3600)
    assert run(armed, 1, armed.hold, until=lambda: gauge(armed, "clock_jumps") == jumps + 1)
    assert armed.health().mode == Mode.ARMED


def test_a_hot_motor_and_an_empty_battery_are_warned_of_and_then_stop_it(armed):
    def looked():
        return Monitors(armed.thresholds).look(armed.health().gauges)

    assert looked() == ((), "")
    for fault, gauged, fields in (("temperature", "temperature_celsius", {"celsius": (65, 80)}),
                                  ("charge", "battery_ratio", {"ratio": (0.15, 0.05)})):
        (name, (warned, stopped)), = fields.items()
        armed.play(fault, **{name: warned})
        assert run(armed, 1, armed.hold, until=lambda: gauge(armed, gauged) == pytest.approx(warned))
        assert gauged in looked()[0][0] and not looked()[1]
        armed.play(fault, **{name: stopped})
        assert run(armed, 1, armed.hold, until=lambda: gauged in looked()[1])
        armed.play("temperature", celsius=25)
        assert run(armed, 1, armed.hold, until=lambda: gauge(armed, "temperature_celsius") == 25)


def test_a_motor_that_goes_limp_shows_by_what_it_does_not_bear(armed):
    assert gauge(armed, "torque_residual_newton_metres") < 10
    armed.play("temperature", celsius=95, motor=2)
    assert run(armed, 5, STAND, until=lambda: gauge(armed, "torque_residual_newton_metres") > 14)
    assert any("torque_residual" in told for told in Monitors(armed.thresholds).look(armed.health().gauges)[0])


def test_the_remote_stops_it_and_it_moves_only_while_its_button_is_held(armed):
    armed.play("remote", buttons=[])
    assert run(armed, 1, armed.hold, until=lambda: armed.health().mode == Mode.DISARMED)
    with pytest.raises(CommandRejected, match="unitree_go2: hold R1"):
        armed.arm()
    armed.play("remote", buttons=["R1", "L2", "B"])
    assert run(armed, 1, armed.hold, until=lambda: armed.health().mode == Mode.FAULT)
    assert "remote" in armed.health().fault
    armed.clear_fault("Ada")
    run(armed, 0.1)
    with pytest.raises(FaultLatched):  # the buttons are still held
        armed.arm()
    armed.play("remote", buttons=["R1"])
    run(armed, 0.1)


def test_an_emergency_stop_from_another_thread_in_mid_step_leaves_the_motors_nothing_but_damping(armed):
    """What a motor then bears comes from its speed alone, 5 N m for each rad/s."""
    def driven():
        values = armed.read().values
        return np.abs(values["torques"] + 5 * values["joint_velocities"]).max()

    assert run(armed, 2, STAND, until=lambda: driven() > 5)
    threading.Thread(target=armed.stop, args=(Stop.ESTOP,)).start()
    assert run(armed, 2, STAND, until=lambda: armed.health().mode == Mode.FAULT)
    run(armed, 0.05, STAND)
    assert not run(armed, 1.0, STAND, until=lambda: driven() > 1)
    assert armed.health().fault == "emergency stop"


def test_a_state_that_is_not_finite_is_a_fault(armed):
    armed.play("blind")
    assert run(armed, 1, armed.hold, until=lambda: armed.health().mode == Mode.FAULT)
    assert "not finite" in armed.health().fault and np.isfinite(armed.read().values["joint_angles"]).all()
