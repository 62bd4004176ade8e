"""One run of the whole system, in which every process is killed once: it goes on, and loses nothing acknowledged.

The tests share the run and follow one another; each needs only that it is going.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from live_run import ROBOT, LiveRun, alive

from daydreamer.replay.stats import verify

pytestmark = pytest.mark.chaos

BACK = 10.0  # seconds from the death of a process until its successor works
HZ = 20  # of the control loop


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRun]:
    run = LiveRun(tmp_path_factory.mktemp("runs"))
    try:
        run.start()
        run.until(lambda: acts(run) and run.robot().weights_version >= 0, 60, "the robot acts from weights")
        yield run
    finally:
        run.clear()


def acts(run: LiveRun) -> bool:
    """Whether the robot is armed."""
    return run.robot().state == "armed"


def kill(run: LiveRun, name: str) -> float:
    """SIGKILL, and wait for the successor. Returns the seconds it took."""
    before = run.until(lambda: run.pid(name), BACK, f"{name} has a process")
    os.kill(before, signal.SIGKILL)
    begun = time.monotonic()
    run.until(lambda: run.pid(name) not in (0, before), BACK, f"{name} is back")
    return time.monotonic() - begun


def running(run: LiveRun, name: str) -> bool:
    """Whether the newest process of a service has reported and works."""
    service = next(s for s in run.status().services if s.name == name)
    return service.alive == "alive" and service.pid == run.pid(name) and service.state in ("running", "waiting")


@pytest.mark.parametrize("service", ["replay", "learner", "policy"])
def test_a_killed_service_is_back_in_seconds_and_the_robot_goes_on_meanwhile(run: LiveRun, service: str):
    before, begun = run.robot(), time.monotonic()
    kill(run, service)
    run.until(lambda: running(run, service), BACK, f"{service} works")
    seconds, after = time.monotonic() - begun, run.robot()
    assert seconds < BACK
    assert after.pid == before.pid and after.control_hz > 0.9 * HZ
    if service != "policy":  # without answers the robot holds its pose and records nothing
        assert after.steps - before.steps > 0.7 * HZ * (seconds - 1)  # what is reported is up to a second old
    run.until(lambda: acts(run) and run.robot().steps > after.steps, BACK, "it records steps")
    run.until(lambda: {s.name: s.restarts for s in run.status().services}[service] == 1, BACK, "the restart is counted")


def test_a_killed_coordinator_is_missed_by_nobody(run: LiveRun):
    before, begun = run.status(), time.monotonic()
    kill(run, "coordinator")
    after = run.until(lambda: (s := run.status()) and s.steps > before.steps
                      and s.learner.updates >= before.learner.updates and s, BACK, "all have reported to it again")
    seconds = time.monotonic() - begun
    assert seconds < BACK
    assert after.robots[0].pid == before.robots[0].pid
    assert after.steps - before.steps > 0.7 * HZ * (seconds - 1)


def test_a_killed_control_process_finds_its_body_alive_and_is_armed_again(run: LiveRun):
    before, body = run.robot(), run.pid("body")
    seconds = kill(run, ROBOT)
    run.until(lambda: run.robot().pid == run.pid(ROBOT) and acts(run), BACK, "the robot is armed again")
    assert seconds < BACK
    assert run.pid("body") == body
    run.until(lambda: run.robot().steps > before.steps + HZ, BACK, "it records steps")


def test_a_killed_body_is_replaced_and_the_robot_armed_again(run: LiveRun):
    before = run.robot()
    kill(run, "body")
    run.until(lambda: acts(run) and run.robot().steps > before.steps + HZ, BACK, "it records steps")
    assert run.robot().pid == before.pid


def test_learning_went_on_through_all_of_it(run: LiveRun):
    before = run.status().learner
    run.until(lambda: run.status().learner.updates > before.updates, BACK, "there are more updates")
    run.until(lambda: run.robot().weights_version > before.weights_version, BACK, "they reach the robot")


def test_killing_the_command_line_leaves_a_resting_robot_and_a_run_that_goes_on_where_it_was(run: LiveRun):
    before = run.until(run.status, BACK, "there is a status")
    pids = {name: run.pid(name) for name in ("coordinator", "replay", "learner", "policy", ROBOT, "body")}
    run.process.kill()
    run.process.wait()
    deadline = time.monotonic() + 25  # the body lays the robot down about 10 s after it was last commanded
    while left := {name for name, pid in pids.items() if alive(pid)}:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)

    run.start()
    after = run.until(lambda: (s := run.status()) and s.robots and s.learner.updates > before.learner.updates and s, 60,
                      "it goes on learning")
    assert after.replay.acknowledged >= before.replay.acknowledged
    assert after.steps > before.steps - 6 * HZ  # counted, not acknowledged: the coordinator saves figures every 5 s
    run.until(lambda: acts(run) and run.status().steps > after.steps + HZ, 30, "the robot acts again")
    assert run.stop() == 0, run.output()


def test_every_acknowledged_step_is_in_the_log_once_and_the_summary_tells_what_happened(run: LiveRun):
    log, summary = verify(run.folder.replay), run.summary()
    assert log.sound, log
    assert log.steps == summary["replay"]["acknowledged"] == summary["replay"]["inserted"]
    assert len(log.streams) >= 4  # a stream ends with its control process or its body, and with the run
    assert summary["replay"]["corrupt"] == 0
    assert summary["restarts"] == dict.fromkeys(("replay", "learner", "policy", "coordinator", ROBOT), 1)
    lost = 2 * 1.2 * HZ  # a control process takes along what it did not write within a second; two were killed
    assert log.steps >= summary["steps"] - lost
