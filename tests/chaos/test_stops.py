"""Stops that must work when what they usually go through is dead, and a fault that outlives its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_run import LiveRun, alive

from robots.body_layout import Files
from robots.unitree_a1.driver import A1Driver
from services import cli, run_folder
from services import config as configs
from services.cluster.cluster import with_ports
from services.console import watching
from services.console.operator import Operator
from services.coordinator.service import CoordinatorService
from services.robot.service import RobotNode

pytestmark = pytest.mark.chaos

HERE = Path(__file__).parent
CARTPOLE = HERE.parents[1] / "configs" / "cartpole.yaml"


class Diary(A1Driver):
    """Writes down when it was let go, how high it was and how fast its fastest joint then."""

    def disconnect(self):
        super().disconnect()
        data = self.link.data
        Path(os.environ["DIARY"]).write_text(f"{time.time()} {data.qpos[2]} {abs(data.qvel[6:]).max()}")


def until(true, what, seconds=20.0):
    """Wait for something to become true, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return value


def test_with_learner_policy_and_replay_dead_the_robot_is_brought_to_rest_before_the_run_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("DIARY", str(tmp_path / "diary"))
    run = LiveRun(tmp_path, robot="Diary-0", **{
        "robot.driver": "test_stops:Diary", "robot.options.pose": "stand", "robot.options.lift_after": "0"})
    try:
        run.start()
        run.until(lambda: run.robot().state == "armed" and all(map(run.pid, ("learner", "policy", "replay"))), 60,
                  "the robot acts, and all are there")
        body = run.pid("body")
        for service in ("learner", "policy", "replay"):
            os.kill(run.pid(service), signal.SIGKILL)
        killed = time.time()
        watching.end(*run_folder.running(tmp_path, "chaos"))  # what `daydreamer stop` does
        let_go, height, speed = map(float, (tmp_path / "diary").read_text().split())
        names = ("Diary-0", "coordinator", "learner", "policy", "replay")
        logs = {name: run.folder.logs / f"{name}.log" for name in names}
        assert all(log.read_text().count("begins as process") == 1 for log in logs.values())  # nobody came back to help
        assert let_go - killed < 15  # parking takes 2.3 s, whatever else is dead
        assert let_go < logs["Diary-0"].stat().st_mtime < logs["coordinator"].stat().st_mtime
        assert height < 0.2 and speed < 0.5, (height, speed)
        assert not alive(body) and not alive(run.pid("coordinator"))
    finally:
        run.clear()


@contextmanager
def by_hand(home):
    """A robot that was started by hand on its own computer; its coordinator is nowhere."""
    control = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "robot", str(CARTPOLE), "--connect", "127.0.0.1:9", "--home", str(home)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    files = Files(f"{(home / 'cartpole').resolve()}/gym-0")
    try:
        until(lambda: files.owner()[0] > 0 and files.region.exists(), "the robot has a body")
        yield control, files
    finally:
        control.kill()
        control.wait()
        if (body := files.owner()[0]) > 0:
            os.kill(body, signal.SIGKILL)


def daydreamer(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["daydreamer", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


@pytest.mark.parametrize("killed", [True, False])
def test_with_nobody_who_runs_it_a_stop_ends_its_robots_here_in_order(tmp_path, monkeypatch, capsys, killed):
    with by_hand(tmp_path) as (control, files):
        body = files.owner()[0]
        if killed:
            control.kill()
            control.wait()
        assert daydreamer(monkeypatch, "stop", "--home", tmp_path) == 0
        assert not files.region.exists() and files.owner()[0] == 0
        until(lambda: not alive(body), "its process is gone, too")
        assert control.wait(20) == (-signal.SIGKILL if killed else 0)
    assert "gym-0: ended in order" in capsys.readouterr().out
    assert daydreamer(monkeypatch, "stop", "--home", tmp_path) == 2  # there is nothing left to stop
    assert "no run here" in capsys.readouterr().err


@contextmanager
def running(service):
    """A service in a thread, stopped in the end."""
    stop = threading.Event()
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    try:
        yield service
    finally:
        stop.set()
        thread.join()


def test_a_fault_comes_back_with_its_run_and_ends_with_a_name_and_a_resume(tmp_path, monkeypatch):
    monkeypatch.setattr("services.robot.service.LAST_DELIVERY", 0.1)  # there is no replay to deliver to
    config = with_ports(configs.load(CARTPOLE, ["network.port=0"]))
    folder = run_folder.join(tmp_path, config)

    def robot():
        robots = operator.status().robots
        return robots[0] if robots else None

    def comes_to(state):
        return until(lambda: (now := robot()) and now.state == state and now, state)

    with running(CoordinatorService(config, folder)), Operator(config.network.addresses()["control"]) as operator:
        with running(RobotNode(config, "gym-0", folder)):
            comes_to("armed")
            operator.ask("estop")
            comes_to("fault")
        comes_to("stopped")
        with running(RobotNode(config, "gym-0", folder)):
            assert comes_to("fault").detail.startswith("emergency stop (latched 2")
            operator.ask("resume")
            time.sleep(0.5)  # several heartbeats, after which it might have been armed
            assert robot().state == "fault"
            operator.ask("clear_fault", token="Ada")
            comes_to("paused")
            operator.ask("resume")
            comes_to("armed")
