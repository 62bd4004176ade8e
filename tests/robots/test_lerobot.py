"""LeRobot's robots as ours: one in LeRobot's shape, and the real package where it is installed."""

import math
import threading
import time

import numpy as np
import odd_lerobot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robots.body import Body
from robots.driver import Clip, FaultLatched, LinkLost, Mode, StaleState, Stop
from robots.lerobot.options import Feature
from robots.registry import make, make_driver

UNITS = odd_lerobot.OPTIONS["units"]


def options(**config):
    return odd_lerobot.OPTIONS | {"config": config}


@pytest.fixture
def arm():
    """A driver in virtual time, connected, and the robot behind it."""
    made = []

    def make_arm(paced=False, **config):
        driver = make_driver("lerobot", options(**config))
        if paced:
            driver.keep_pace(1.0)
        driver.connect(30.0)
        made.append(driver)
        return driver, odd_lerobot.ALL[-1]

    yield make_arm
    for driver in made:
        driver.disconnect()
    odd_lerobot.ALL.clear()


def steps(driver, action, count):
    """So many control periods in virtual time; what the last command became."""
    for _ in range(count):
        applied = driver.command(np.asarray(action, np.float32))
        for _ in range(round(driver.spec.inner_hz / driver.spec.control_hz)):
            driver.tick()
    return applied


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.002)


def test_what_it_measures_is_in_our_units_and_pictures_are_signals(arm):
    driver, _ = arm()
    values = driver.read().values
    assert driver.spec.signals.contains(values)
    assert driver.spec.units["pan_pos"] == "rad" and driver.spec.units["x_vel"] == "m/s"
    assert values["pan_pos"] == pytest.approx(math.radians(30)) and values["gripper_pos"] == 0  # closed
    np.testing.assert_allclose(values["position"], [1 / 3, -0.75, -1, 0], atol=1e-6)
    assert values["front"].shape == (16, 16, 3) and (values["front"][:, 8:] == (200, 100, 50)).all()
    assert (values["front_depth"] == 50).all()  # counts of 0.02 m


def test_nothing_is_sent_before_it_is_armed_and_then_first_the_measured_pose(arm):
    driver, robot = arm()
    steps(driver, [1, 1, 1, 1], 5)
    assert not robot.sent
    driver.arm()
    driver.tick()
    assert robot.sent == [{"pan.pos": 30, "lift.pos": -45, "gripper.pos": 100, "x.vel": 0}]


def test_actions_are_followed_over_the_ranges_no_faster_than_the_speeds(arm):
    driver, robot = arm()
    driver.arm()
    steps(driver, [1, 1, 1, 1], 60)  # 3 s: long enough for all of them
    assert robot.state == pytest.approx({"pan.pos": 90, "lift.pos": 60, "gripper.pos": 0, "x.vel": 0.2})
    steps(driver, [-1, 0, -1, -1], 60)
    assert robot.state == pytest.approx({"pan.pos": -90, "lift.pos": 0, "gripper.pos": 100, "x.vel": -0.2})
    for name, fields in UNITS.items():
        moved = np.abs(np.diff([sent[name] for sent in robot.sent]))
        assert moved.max() <= fields["speed"] / driver.spec.inner_hz * 1.0001
    np.testing.assert_allclose(driver.read().values["setpoint"], [-1, 0, -1, -1], atol=1e-5)


def test_a_stopped_robot_holds_its_positions_and_ends_its_velocities(arm):
    driver, robot = arm()
    driver.arm()
    steps(driver, [1, 1, 1, 1], 10)
    there = dict(robot.state)
    assert there["x.vel"] == pytest.approx(0.2)
    driver.stop(Stop.ESTOP)
    for _ in range(200):
        driver.tick()
    step = 200 / driver.spec.inner_hz  # what it was told between the last reading and the stop
    assert robot.state == pytest.approx(there | {"x.vel": 0}, abs=step)
    assert driver.health().mode == Mode.FAULT


def test_a_stopped_robot_does_not_go_on_pressing_against_what_blocks_it(arm):
    driver, robot = arm(clamp=0.0)
    driver.arm()
    steps(driver, [1, 1, 1, 0], 10)
    assert robot.asked[-1]["pan.pos"] > 60 and robot.state["pan.pos"] == 30
    driver.stop(Stop.DAMP)
    driver.tick()
    assert robot.asked[-1] == robot.state


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=4, max_size=4),
                max_size=8), st.floats(-200, 200), st.floats(-200, 200))
def test_whatever_is_commanded_from_wherever_what_is_sent_is_finite_and_bounded_and_comes_back(wishes, pan, lift):
    driver = make_driver("lerobot", options(start={"pan.pos": pan, "lift.pos": lift}))
    driver.connect(30.0)
    robot = odd_lerobot.ALL.pop()
    driver.arm()
    for wish in wishes:
        steps(driver, wish, 1)
    told = list(robot.sent)
    driver.disconnect()
    for name, start in (("pan.pos", pan), ("lift.pos", lift)):
        line = np.array([start, *(sent[name] for sent in told)])
        low, high, speed = (UNITS[name][key] for key in ("low", "high", "speed"))
        assert np.isfinite(line).all()
        assert (np.abs(np.diff(line)) <= speed / driver.spec.inner_hz * 1.0001 + 1e-9).all()
        outside = np.maximum(np.maximum(low - line, line - high), 0)
        assert (np.diff(outside) <= 1e-9).all()


def test_what_the_robot_itself_clamps_shows_in_the_mask_and_in_the_setpoint(arm):
    driver, robot = arm(clamp=0.5)
    driver.arm()
    driver.command(np.float32([1, 1, 1, 1]))
    driver.tick()
    driver.tick()
    assert driver.command(np.float32([1, 1, 1, 1])).clip & Clip.RELATIVE_STEP
    assert driver.read().values["setpoint"][1] == pytest.approx(robot.sent[-1]["lift.pos"] / 60, abs=1e-5)


def test_standing_leaves_it_as_it_is(arm):
    driver, robot = arm()
    before = dict(robot.state)
    driver.arm()
    steps(driver, driver.standing(driver.read().values), 20)
    assert robot.state == pytest.approx(before, abs=1e-4)


def test_a_slow_bus_keeps_nobody_waiting_and_one_thread_alone_talks_to_the_robot(arm):
    driver, robot = arm(paced=True, slow=0.1)
    driver.arm()
    longest = 0.0
    for _ in range(100):
        begin = time.monotonic()
        driver.command(np.float32([0, 0, 0, 0.5]))
        driver.tick()
        driver.read()
        longest = max(longest, time.monotonic() - begin)
        time.sleep(0.01)
    assert longest < 0.1 and driver.health().link_age < 5
    until(lambda: (driver.command(np.float32([0, 0, 0, 0.5])), driver.tick(), robot.sent and
                   robot.sent[-1]["x.vel"] > 0)[-1])
    assert len(robot.threads) == 1 and threading.get_ident() not in robot.threads


def test_a_driver_whose_owner_hangs_ends_its_velocities(arm):
    driver, robot = arm(paced=True)
    driver.arm()
    until(lambda: (driver.command(np.float32([0, 0, 0, 1])), driver.tick(), robot.state["x.vel"] > 0.01)[-1])
    there = robot.state["pan.pos"]
    until(lambda: robot.state["x.vel"] == 0)  # nobody ticks any more
    assert robot.state["pan.pos"] == pytest.approx(there, abs=3)


def test_a_bus_that_fails_disarms_and_comes_back(arm):
    driver, robot = arm(paced=True)
    driver.arm()
    robot.failing = True
    until(lambda: (driver.command(np.zeros(4, np.float32)), driver.tick(), driver.health().mode == Mode.DISARMED)[-1])
    assert driver.health().link_age >= driver.spec.damp_after * 0.9 and driver.health().gauges["bus_errors"] > 0
    with pytest.raises(StaleState, match="Failed to sync read"):
        driver.arm()
    robot.failing = False
    until(lambda: driver.health().link_age < 0.1)
    driver.arm()


def test_a_bus_that_stays_away_is_a_lost_link(arm, monkeypatch):
    monkeypatch.setattr("robots.lerobot.driver.LOST", 0.3)
    driver, robot = arm(paced=True)
    robot.failing = True
    with pytest.raises(LinkLost, match="no reading for.*Failed to sync read"):
        until(lambda: driver.tick())


def test_disconnecting_says_the_last_word_and_lets_go(arm):
    driver, robot = arm(paced=True)
    driver.arm()
    until(lambda: (driver.command(np.float32([0, 0, 0, 1])), driver.tick(), robot.state["x.vel"] > 0.01)[-1])
    driver.disconnect()
    assert robot.state["x.vel"] == 0 and robot.calls[-2:] == ["send_action", "disconnect"]
    driver.connect(30.0)
    assert driver.health().mode == Mode.DISARMED and odd_lerobot.ALL[-1] is not robot


@pytest.mark.parametrize("config, told", [
    ({"trouble": "connect", "port": "/dev/ttyACM7"}, "ConnectionError: no motor on /dev/ttyACM7"),
    ({"trouble": "calibration"}, "lerobot-calibrate first"), ({"trouble": "hangs"}, "takes longer than 0.2 s")])
def test_why_a_robot_does_not_connect_is_told(config, told, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: (_ for _ in ()).throw(EOFError("EOF when reading a line")))
    with pytest.raises(LinkLost, match=told):
        make_driver("lerobot", options(**config)).connect(0.2 if "hangs" in config.values() else 30.0)


@pytest.mark.parametrize("change, told", [
    ({"wrist.pos": {"unit": "degrees"}}, r"wrist.pos: not observed by it; it observes.*gripper.pos"),
    ({"elbow.vel": {"unit": "raw", "low": -1, "high": 1, "speed": 1, "rest": "zero", "measured": False}},
     "elbow.vel: not taken by it"),
    ({"x.vel": {"unit": "metres_per_second"}}, "x.vel: taken by it, but without a speed"),
])
def test_a_config_that_does_not_fit_the_robot_is_told(change, told):
    with pytest.raises(LinkLost, match=told):
        make_driver("lerobot", options() | {"units": UNITS | change}).connect(30.0)


@pytest.mark.parametrize("feature, told", [
    ({"unit": "degress"}, "unit.*degress.*degrees"), ({"unit": "raw", "low": 1, "high": -1, "speed": 1}, "low"),
    ({"unit": "gripper"}, "high"), ({"unit": "raw", "speed": -1}, "speed"),
    ({"unit": "raw", "low": 1, "high": 2, "speed": 1, "rest": "zero"}, "rest"),
    ({"unit": "raw", "low": -1, "high": 1, "speed": 1, "measured": False}, "rest"),
    ({"unit": "raw", "spede": 1}, "spede"),
])
def test_a_bad_unit_is_named(feature, told):
    with pytest.raises(ValueError, match=f"units: pan.pos: .*{told}.*"):
        make_driver("lerobot", options() | {"units": UNITS | {"pan.pos": feature}})


@settings(max_examples=50)
@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(0, 1))
def test_a_gripper_is_zero_closed_and_one_open_whichever_is_larger(closed, opened, share):
    if abs(opened - closed) > 1e-3:
        feature = Feature("gripper.pos", "gripper", closed, opened)
        assert feature.to_si(closed + share * (opened - closed)) == pytest.approx(share, abs=1e-6)


def test_an_expired_command_is_held_where_it_led(arm):
    driver, robot = arm()
    driver.arm()
    steps(driver, [1, 1, 1, 1], 10)
    there = dict(robot.state)
    for _ in range(round(0.5 * driver.spec.inner_hz)):
        driver.tick()
    assert driver.health().mode == Mode.ARMED
    assert robot.state["pan.pos"] - there["pan.pos"] <= 90 * driver.spec.command_ttl * 1.1
    assert robot.state["x.vel"] == 0 and robot.sent[-1] == robot.sent[-2]


def test_the_task_that_comes_with_it_pays_for_the_middle():
    _, task = make("lerobot", "centre", options())
    assert task.score({"position": np.zeros(4)}).reward == 1 and task.score({"position": np.ones(4)}).reward == 0


def test_without_lerobot_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "draccus", None)
    with pytest.raises(LinkLost, match="pip install lerobot"):
        make_driver("lerobot", options() | {"type": "so101_follower"}).connect(30.0)


def test_a_robot_of_the_real_package_is_found_by_its_type_and_driven(tmp_path):
    pytest.importorskip("lerobot")
    import real_lerobot

    config = {"port": "/dev/null", "id": "mine", "calibration_dir": str(tmp_path)}
    driver = make_driver("lerobot", options() | {"type": "real_wobbly", "config": config})
    driver.connect(20.0)
    robot = odd_lerobot.ALL.pop()
    assert isinstance(robot, real_lerobot.Robot) and robot.id == "mine"
    driver.arm()
    steps(driver, [1, 1, 1, 1], 60)
    assert robot.state["pan.pos"] == pytest.approx(90)
    driver.disconnect()
    with pytest.raises(LinkLost, match="walker: LeRobot has .*real_wobbly"):
        make_driver("lerobot", options() | {"type": "walker"}).connect(20.0)


def test_one_process_at_a_time_drives_it_and_its_fault_is_met_at_its_port_whoever_drives_it(tmp_path):
    run, jog = (Body(f"{tmp_path}-{clamp:g}", "lerobot", options(port=str(tmp_path / "tty"), clamp=clamp))
                for clamp in (360.0, 5.0))
    try:
        run.connect(30.0)
        with pytest.raises(LinkLost, match="another process of this computer drives this robot"):
            jog.connect(30.0)
        run.stop(Stop.ESTOP)
        run.disconnect()
        jog.connect(30.0)
        with pytest.raises(FaultLatched, match="emergency stop .latched"):
            jog.arm()
        jog.clear_fault("Ada")
        jog.arm()
    finally:
        for body in (run, jog):
            body.disconnect()
