"""Faults of robots that protocol doubles play below a whole run: each ends as its page in docs/robots says, and the run
stays up. What the operator types and reads goes through the coordinator; the steps are read from the disk.

The tests of one robot share a run and follow one another; each leaves the robot acting.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from live_run import PATIENCE, LiveRun

from daydreamer.replay.stats import columns, verify
from services.console.operator import OperatorError
from services.coordinator.status import RobotStatus

pytestmark = pytest.mark.chaos

SOON = 20.0  # seconds; many times what any of it takes, so that a busy machine fails no test
GAP = 0.6  # seconds between what two steps of an episode saw, at most: commands live 0.25, and no state is older
STARVED = "the control script does not run"
A1, UR5E, SDK = "robots.unitree_a1.udp_double", "robots.ur5e.controller", "robots.ur5e.sdk"
PROTOCOL = {"robot.options.link": "protocol", "learner.train_ratio": 1}


def started(run: LiveRun) -> Iterator[LiveRun]:
    try:
        run.start()
        acts_again(run, PATIENCE)
        yield run
    finally:
        run.clear()


@pytest.fixture(scope="module")
def a1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRun]:
    yield from started(LiveRun(tmp_path_factory.mktemp("a1"), **PROTOCOL))


@pytest.fixture(scope="module")
def ur5e(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRun]:
    yield from started(LiveRun(tmp_path_factory.mktemp("ur5e"), "ur5e_reach.yaml", "ur5e-0", **PROTOCOL,
                               **{"robot.options.camera": "front"}))


def until(run: LiveRun, true: Callable[[RobotStatus], object], why: str, seconds: float = SOON) -> RobotStatus:
    """The robot, once this is true of it. Where a busy computer starved a UR5e's watchdog, somebody looks meanwhile."""
    def looked() -> RobotStatus | None:
        robot = run.robot()
        if robot.state == "fault" and robot.detail.startswith(STARVED):
            with contextlib.suppress(OperatorError):
                run.ask("clear_fault", token="Ada")
                run.ask("resume")
        return robot if true(robot) else None

    return run.until(looked, seconds, why)


def acts_again(run: LiveRun, seconds: float = SOON) -> None:
    """It is armed and records."""
    before = until(run, lambda robot: robot.state == "armed", "the robot acts", seconds).steps
    until(run, lambda robot: robot.state == "armed" and robot.steps > before, "it records steps")


def falls_into_fault(run: LiveRun, told: str) -> None:
    """It stays in it, and the run stays up."""
    until(run, lambda robot: robot.state == "fault" and re.match(told, robot.detail), f"a fault says {told}")
    run.ask("resume")
    time.sleep(0.6)  # more than a heartbeat, after which it would be armed
    assert run.robot().state == "fault"
    assert {service.state for service in run.status().services} <= {"running", "waiting"}


def looked_after(run: LiveRun) -> None:
    """An operator clears the fault, as soon as the robot lets them, which pauses the robot; and resumes it."""
    def cleared() -> bool:
        try:
            return bool(run.ask("clear_fault", token="Ada"))
        except OperatorError:
            return False

    run.until(cleared, SOON, "the fault can be cleared")
    until(run, lambda robot: robot.state == "paused", "it is paused, by whoever looked")
    run.ask("resume")
    acts_again(run)


def ends_with_all_its_steps_on_disk(run: LiveRun) -> None:
    """And none of them claims to follow one from before a fault."""
    assert run.stop() == 0, run.output()
    log, summary = verify(run.folder.replay), run.summary()
    assert log.sound and log.steps == summary["steps"] == summary["replay"]["acknowledged"]
    assert log.episodes == summary["episodes"]
    for stream in columns(run.folder.replay, ["time", "is_first", "is_last", "joint_angles", "action"]):
        begins, ends = stream["is_first"], stream["is_last"]
        assert begins[0] and (begins[1:] == ends[:-1]).all()
        assert begins[1:][np.diff(stream["time"]) > GAP * 1e9].all()
        assert np.isfinite(stream["joint_angles"]).all() and np.isfinite(stream["action"]).all()


def test_lost_and_spoiled_datagrams_a_stall_and_a_clock_that_jumps_need_nobody(a1: LiveRun):
    before, begun, states = a1.robot(), time.monotonic(), set()
    a1.play(A1, "loss", ratio=0.2, seconds=1.5)
    a1.play(A1, "corrupt", ratio=0.5, seconds=1.5)
    a1.play(A1, "stall", seconds=0.2)
    a1.play(A1, "clock", seconds=10.0)
    while time.monotonic() < begun + 2.5:
        states.add(a1.robot().state)
        time.sleep(0.1)
    assert states <= {"armed", "waiting", "disarmed"}  # the latter two on a busy computer only, whose double is late
    acts_again(a1)
    after = a1.robot()
    for counted in ("packets_lost", "packets_refused", "clock_jumps"):
        assert after.gauges[counted]["value"] > before.gauges[counted]["value"]


def test_a_robot_that_is_gone_is_waited_for_and_acts_again_when_it_is_back(a1: LiveRun):
    a1.play(A1, "disconnect")
    until(a1, lambda robot: robot.state == "disarmed" and "robot not heard for" in robot.detail, "it is away")
    a1.play(A1, "reconnect")
    acts_again(a1)


def test_a_motor_that_is_too_hot_stops_the_robot_until_it_is_cool_and_somebody_looked(a1: LiveRun):
    told = "FL thigh: the robot switched the motor off: too hot|temperature_celsius 60: the limit is 60"
    a1.play(A1, "temperature", celsius=55.0, motor=4)
    shown = {"value": 55.0, "warns": 50.0, "stops": 60.0}
    warm = until(a1, lambda robot: "warns at 50" in robot.detail and robot.gauges["temperature_celsius"] == shown,
                 "it is warned of")
    assert warm.state == "armed"
    a1.play(A1, "temperature", celsius=60.0, motor=4)
    falls_into_fault(a1, told)
    a1.ask("clear_fault", token="Ada")
    falls_into_fault(a1, told)  # it is still hot
    a1.play(A1, "temperature", celsius=30.0, motor=4)
    until(a1, lambda robot: robot.gauges["temperature_celsius"]["value"] == 30.0, "it is cool")
    looked_after(a1)


def test_a_reading_that_is_not_finite_stops_the_robot(a1: LiveRun):
    a1.play(A1, "blind")
    falls_into_fault(a1, "a state has a number that is not finite")
    looked_after(a1)


def test_an_emergency_stop_in_mid_step_is_a_fault_of_the_robot_and_not_of_the_run(a1: LiveRun):
    a1.ask("estop")
    falls_into_fault(a1, "emergency stop")
    looked_after(a1)


def test_a_robot_whose_far_end_dies_is_connected_anew(a1: LiveRun):
    body = a1.pid("body")
    os.kill(a1.below(A1), signal.SIGKILL)
    a1.until(lambda: a1.pid("body") not in (0, body), SOON, "there is another body")
    acts_again(a1)


def test_the_steps_of_an_a1_in_faults_are_all_on_disk_and_cut_where_it_stood(a1: LiveRun):
    ends_with_all_its_steps_on_disk(a1)


def test_a_protective_stop_is_left_as_the_controller_allows_it(ur5e: LiveRun):
    ur5e.play(UR5E, "protective_stop")
    falls_into_fault(ur5e, "protective stop: look what the arm met")
    with pytest.raises(OperatorError, match="5s after"):
        ur5e.ask("clear_fault", token="Ada")
    looked_after(ur5e)


def test_a_picture_that_freezes_is_seen_to_be_old_and_waited_for(ur5e: LiveRun):
    ur5e.play(UR5E, "freeze", seconds=2.5)
    until(ur5e, lambda robot: robot.gauges["camera_age_seconds"]["value"] > 1.0, "the picture is old")
    until(ur5e, lambda robot: robot.state == "disarmed" and "not heard" in robot.detail, "it stands")
    acts_again(ur5e)


def test_an_sdk_that_dies_is_a_lost_controller_which_is_taken_up_again(ur5e: LiveRun):
    os.kill(ur5e.below(SDK), signal.SIGKILL)
    falls_into_fault(ur5e, "lost the controller")
    looked_after(ur5e)


def test_the_steps_of_an_arm_in_faults_are_all_on_disk_and_cut_where_it_stood(ur5e: LiveRun):
    ends_with_all_its_steps_on_disk(ur5e)
