"""Arms behind their vendors' protocols, with a camera behind its own: what they do while they do not see."""

import time

import numpy as np
import pytest

from robots.driver import Clip, Mode
from robots.realtime import real_time
from robots.registry import make_driver

SDKS = {"ur5e": "rtde_receive", "xarm": "xarm"}


@pytest.fixture
def punctual():
    """This thread is the one that ticks, as a body's."""
    with real_time():
        yield


@pytest.mark.parametrize("robot", SDKS)
def test_an_arm_holds_while_its_picture_is_frozen_and_goes_on_with_the_next_one(robot, punctual):
    pytest.importorskip(SDKS[robot])
    pytest.importorskip("pyrealsense2")
    driver = make_driver(robot, {"link": "protocol", "camera": "front", "objects": 3}, control_hz=5.0)
    action, met = np.array([0, 0, 0.1, 0], np.float32), Clip.NONE

    def until(what, seconds=20.0):
        nonlocal met
        deadline, due = time.monotonic() + seconds, 0.0
        while not what():
            assert time.monotonic() < deadline, driver.health()
            if time.monotonic() >= due:
                due, met = time.monotonic() + 0.2, met | driver.command(action).clip
            driver.tick()
            time.sleep(1 / driver.spec.inner_hz)

    driver.connect(60)
    try:
        until(lambda: driver.health().link_age < 0.05)
        values = driver.read().values
        assert driver.spec.signals.contains(values)
        assert values["image"].std() > 10 and 10 < np.median(values["depth"]) < 100  # counts of 2 cm
        driver.arm()
        driver.link.link.double.order("freeze", seconds=2.5)
        until(lambda: driver.health().gauges["camera_age_seconds"] > 0.5 and met & Clip.STALE
              and driver.health().mode == Mode.ARMED
              and np.abs(driver.read().values["joint_velocities"]).max() < 0.05)
        until(lambda: driver.health().gauges["camera_age_seconds"] < 0.3 and driver.health().link_age < 0.05)
        if driver.health().mode == Mode.DISARMED:  # where it took longer than `damp_after`
            driver.arm()
        met = Clip.NONE
        until(lambda: not driver.command(action).clip & (Clip.STALE | Clip.DISARMED))
        assert not driver.health().fault and driver.health().gauges["camera_restarts"] >= 1
    finally:
        driver.disconnect()
