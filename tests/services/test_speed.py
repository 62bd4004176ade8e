"""`speed: auto`: what it is refused for, how a control loop keeps to a clock that changes, and a slow learner in real
time."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq
from coordinated import ask, client, config, coordinator, run_folder, running, until

from robots.clock import Clock
from robots.driver import RobotSpec
from robots.registry import make_driver
from services import config as configs
from services.config import ConfigError
from services.console import options
from services.coordinator.status import Status
from services.embodiment import robot_spec
from services.link import Link
from services.node import Node
from services.replay.service import ReplayService
from services.robot import clockwork as clockworks
from services.robot.clockwork import NAP, Clockwork
from services.robot.service import RobotNode
from services.tempo import FASTEST
from services.wire.messages import Answer, Ask, SampleReply, SampleRequest, SampleWait

SPHERO = Path(__file__).parents[2] / "configs" / "sphero_navigate.yaml"


def arm(link, **robot):
    return config(driver="ur5e", task="reach", options={"link": link, "address": "10.0.0.2"}, control_hz=10.0, **robot)


@pytest.mark.parametrize("link", ["hardware", "protocol"])
def test_only_a_double_in_this_process_can_wait(link):
    with pytest.raises(ConfigError, match=f"robot.speed: auto: link={link}.* only a double in this process"):
        robot_spec(arm(link, speed="auto"))
    robot_spec(arm(link))
    robot_spec(arm("direct", speed="auto"))


def test_a_driver_without_links_says_itself_that_its_clock_cannot_wait(monkeypatch):
    from robots.gym import GymDriver

    def refuse(self, speed):
        if speed != 1:
            raise ValueError("the real world")

    robot_spec(config(speed="auto"))
    monkeypatch.setattr(GymDriver, "keep_pace", refuse)
    with pytest.raises(ConfigError, match="auto: the real world"):
        robot_spec(config(speed="auto"))


def test_what_the_command_line_puts_in_the_doubles_place_runs_in_real_time():
    chosen = {"": "auto", "direct": "auto", "protocol": 1.0}
    for double, speed in chosen.items():
        assert options.settings_of(SPHERO, None, double=double).robot.speed == speed
    hardware = ["robot.options.address=SK-1234", "robot.options.camera='0'"]
    robot_spec(options.settings_of(SPHERO, hardware, which="hardware"))


def test_a_run_may_go_on_at_another_speed():
    fixed, auto = config(), config(speed="auto")
    configs.check_resume(fixed, auto)
    configs.check_resume(auto, fixed)


class Machine:
    """A computer in virtual time, with one robot on it whose periods are `busy` seconds of work each."""

    def __init__(self, monkeypatch, speed="auto", busy=0.001):
        self.now, self.busy, self.speeds, self.told = 10**12, busy, [], {}
        monkeypatch.setattr(clockworks, "time", SimpleNamespace(sleep=self.sleep, monotonic=lambda: self.now * 1e-9))
        monkeypatch.setattr(clockworks, "Clock", lambda: Clock(wall=lambda: self.now))
        spec: RobotSpec = make_driver("gym", {"id": "CartPole-v1"}).spec
        self.node = SimpleNamespace(speed=0.0, gauge=self.told.__setitem__, observe=lambda *_: None, count=self.count)
        self.control = SimpleNamespace(speed=0.0, overruns=0, fell_back=False)
        body = SimpleNamespace(spec=spec, keep_pace=self.speeds.append)
        self.clockwork = Clockwork(config(speed=speed).robot, body, self.control, self.node)

    def sleep(self, seconds):
        self.now += max(1, round(seconds * 1e9))

    def count(self, name, n=1):
        self.told[name] = self.told.get(name, 0) + n

    def run(self, seconds):
        """(periods, naps, seconds of the robot's clock) in so many of the wall's."""
        periods, naps, end = 0, 0, self.now + seconds * 1e9
        before = self.told.get("robot_clock_seconds_total", 0)
        while self.now < end:
            if self.clockwork.wait():
                periods += 1
                self.sleep(self.busy)
                self.clockwork.note()
            else:
                naps += 1
        return periods, naps, self.told.get("robot_clock_seconds_total", 0) - before


def test_periods_follow_the_speed_that_the_run_wants(monkeypatch):
    machine = Machine(monkeypatch)
    assert machine.run(5)[0] == pytest.approx(100, abs=2) and machine.told["robot_speed"] == 1.0
    machine.node.speed = 4.0
    periods, naps, seconds = machine.run(5)
    assert (periods, naps) == (pytest.approx(400, abs=2), 0) and seconds == pytest.approx(20, abs=0.1)
    assert machine.speeds[-1] == machine.control.speed == machine.told["robot_speed"] == 4.0


def test_a_slow_clock_leaves_time_to_look_up_and_hears_at_once_that_it_may_go_on(monkeypatch):
    machine = Machine(monkeypatch)
    machine.run(1)
    machine.node.speed = 0.01
    periods, naps, seconds = machine.run(20)
    assert periods <= 5 and naps >= 20 / NAP - 10 and seconds < 0.3
    machine.node.speed = 10.0
    assert machine.run(1)[0] == pytest.approx(200, abs=15)
    assert not machine.told.get("robot_deadline_misses_total")


def test_a_speed_that_is_set_is_kept_whatever_the_run_wants(monkeypatch):
    machine = Machine(monkeypatch, speed=1.0)
    machine.node.speed, machine.control.fell_back = 5.0, True
    assert machine.run(5)[:2] == (pytest.approx(100, abs=2), 0) and machine.speeds == [1.0]


@pytest.mark.parametrize("strain", ["late periods", "late answers", "given up ticks"])
def test_a_double_runs_no_faster_than_its_computer_can(monkeypatch, strain):
    machine = Machine(monkeypatch, busy=0.012 if strain == "late periods" else 0.001)
    machine.node.speed = FASTEST
    for _ in range(600):
        speed = machine.control.speed
        machine.control.fell_back = strain == "late answers" and speed > 4
        machine.control.overruns += (50 if speed > 4 else 0) if strain == "given up ticks" else 0
        machine.run(0.1)
    assert 2.5 < machine.control.speed < 5


@contextmanager
def slow_learner(settings, control, seconds):
    """Takes its time for each batch. Yields what it replayed of what was inserted, and how long it was kept waiting."""
    told, over = SimpleNamespace(replayed=0, inserted=0, idle=0.0), threading.Event()
    replay = settings.replay

    def request(link, number):
        wanted = SampleRequest(number, replay.batch, replay.length, replay.burn_in, told.replayed, ["reward"])
        match link.client().receive(1.0) if link.send(wanted) else None:
            case SampleReply(inserted=inserted):
                told.replayed, told.inserted = told.replayed + replay.batch * replay.length, inserted
                over.wait(seconds)
            case SampleWait(seconds=wait):
                told.idle += wait
                over.wait(wait)
            case _:
                over.wait(0.05)

    def work():
        with zmq.Context() as context, Node("learner", "learner", settings, context, control=control) as node:
            link, number = Link(context, node, "samples"), 0
            while not over.is_set():
                number += 1
                request(link, number)
            link.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield told
    finally:
        over.set()
        thread.join()


def test_a_slow_learner_slows_the_double_and_the_train_ratio_holds(tmp_path):
    folder = run_folder(tmp_path)
    robot = {"driver": "gym", "task": "env", "options": {"id": "CartPole-v1"}, "control_hz": 50.0,
             "action_deadline": 0.002, "speed": "auto"}
    settings = configs.from_mapping({
        "name": "test", "robot": robot, "network": {"port": 0}, "learner": {"train_ratio": 64.0},
        "replay": {"batch": 8, "length": 16, "burn_in": 0, "prefill": 50}})
    batch = 8 * 16 / 64  # collected steps
    with coordinator(settings, folder) as here, client(control := here.addresses["control"]) as operator:
        def seen():
            return next(iter(Status.from_json(ask(operator, Ask("status"), Answer).text).robots), None)

        with (running(ReplayService(settings, folder, control=control)),
              slow_learner(settings, control, batch / 20) as learner,  # 20 collected steps a second: a speed of 0.4
              running(RobotNode(settings, "robot-0", folder, control=control))):
            until(lambda: learner.replayed > 64 * 60, "the prefill is caught up")
            until(lambda: 0.2 < seen().speed < 0.6, "the speed that suits the learner")
            time.sleep(2)
            replayed, inserted, idle, began = learner.replayed, learner.inserted, learner.idle, time.monotonic()
            time.sleep(6)
            collected = learner.inserted - inserted
            ratio, speed = (learner.replayed - replayed) / collected, collected / (time.monotonic() - began) / 50
        assert 0.2 < speed < 0.6  # that of any moment depends on which chunks were just counted
        assert ratio == pytest.approx(64, rel=0.4)  # chunks of a second make it uneven; in real time it would be 26
        assert learner.idle - idle < 1.0
        summary = here._ledger.summary(time.monotonic())
        assert 50 * summary["robot_seconds"] == pytest.approx(summary["steps"], rel=0.2)
        assert summary["robot_seconds"] < 0.7 * summary["seconds"]
