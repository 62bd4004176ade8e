"""What is warned of, and what stops a robot, whatever drives it."""

import itertools
import math
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots.body import Body
from robots.driver import FaultLatched, Mode
from robots.monitors import Monitors, Threshold
from services import config as configs

CONFIGS = Path(__file__).parents[2] / "configs"
numbers = itertools.count()
finite = st.floats(-1e6, 1e6)


@given(warn=finite, stop=finite, value=finite)
def test_a_gauge_stops_the_robot_from_its_limit_on_and_warns_from_before_that(warn, stop, value):
    if warn == stop:
        return
    warnings, reason = Monitors({"x": Threshold(warn, stop)}).look({"x": value})
    towards = math.copysign(1, stop - warn)
    assert bool(reason) == ((value - stop) * towards >= 0)
    assert bool(warnings) == ((value - warn) * towards >= 0)
    assert not reason or warnings


def test_a_battery_is_watched_downwards():
    monitors = Monitors({"battery_ratio": Threshold(0.3, 0.1)})
    assert monitors.look({"battery_ratio": 0.5}) == ((), "")
    assert monitors.look({"battery_ratio": 0.2})[0] and not monitors.look({"battery_ratio": 0.2})[1]
    assert "battery_ratio 0.05: the limit is 0.1" in monitors.look({"battery_ratio": 0.05})[1]


def test_what_is_no_number_is_warned_of_and_what_is_not_measured_is_not_watched():
    monitors = Monitors({"x": Threshold(1, 2), "y": Threshold(1, 2)})
    warnings, reason = monitors.look({"x": math.nan})
    assert len(warnings) == 1 and "x nan" in warnings[0] and not reason


@pytest.mark.parametrize("warn, stop", [(1.0, 1.0), (math.nan, 1.0), (1.0, math.nan)])
def test_a_threshold_without_a_direction_is_an_error(warn, stop):
    with pytest.raises(ValueError, match="two different numbers"):
        Threshold(warn, stop)


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


@pytest.fixture
def lying():
    """Bodies of a robot that lies on its side, tilted by 90 degrees."""
    bodies = []

    def body(**limits):
        bodies.append(Body(f"monitor-test-{os.getpid()}-{next(numbers)}", "unitree_a1", {"pose": "side"},
                           monitors={"tilt_radians": Threshold(**limits)}))
        bodies[-1].connect()
        return bodies[-1]

    yield body
    for each in bodies:
        each.disconnect()


def test_a_body_past_its_limit_is_stopped_and_says_why_until_an_operator_looked(lying):
    body = lying(warn=0.5, stop=1.0)
    wait_until(lambda: body.health().mode == Mode.FAULT)
    assert "tilt_radians 1." in body.health().fault and "the limit is 1" in body.health().fault
    with pytest.raises(FaultLatched):
        body.arm()
    body.clear_fault("ann")
    wait_until(lambda: body.health().mode == Mode.FAULT)  # it lies there still


def test_a_body_near_its_limit_goes_on_and_warns(lying):
    body = lying(warn=0.5, stop=3.0)
    body.arm()
    wait_until(lambda: body.health().warnings)
    assert body.health().mode == Mode.ARMED and "tilt_radians" in body.health().warnings[0]


@pytest.mark.parametrize("config, gauge, warns, stops", [
    ("a1_walk", "temperature_celsius", 50, 60), ("a1_walk", "torque_newton_metres", 38, 42),
    ("a1_run", "tilt_radians", 0.6, math.inf), ("ur5e_reach", "temperature_celsius", 60, 75),
    ("xarm_pick_place", "torque_residual_ratio", 0.6, math.inf), ("sphero_navigate", "battery_volts", 7.0, 6.5),
    ("ur5e_pick_place", "link_age_seconds", 0.1, math.inf), ("sphero_navigate", "overrun_ratio", 0.05, math.inf)])
def test_the_robots_of_our_configs_are_watched_as_their_pages_say(config, gauge, warns, stops):
    """With what every robot and each driver is watched for, where the config does not say it."""
    robot = configs.load(CONFIGS / f"{config}.yaml").robot
    limits = Body(config, robot.driver, robot.options, robot.control_hz, monitors=robot.monitors).thresholds[gauge]
    assert (limits.warn, limits.stop) == (warns, stops)
    assert not math.isfinite(stops) or Monitors({gauge: limits}).look({gauge: float(stops)})[1]
