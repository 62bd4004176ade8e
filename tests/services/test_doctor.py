"""What an operator does before a robot moves: look it over."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium import spaces

from robots.basic import BasicDriver
from robots.driver import Health, Mode, RobotSpec, Signals
from robots.registry import make_driver
from robots.task import Outcome, Task
from services import cli
from services import config as configs
from services.config import ConfigError
from services.console import doctor
from services.console.options import settings_of


@dataclass(frozen=True)
class Options:
    """`brightness` of what its camera sees; `link` as all robots of vendors have it."""

    brightness: int = 100
    link: str = "direct"


class Nothing(Task):
    def reset(self):
        pass

    def score(self, signals):
        return Outcome(0.0)


class Watcher(BasicDriver):
    """A camera that stands still."""

    Options, tasks, packages = Options, {"look": Nothing}, ("a-vendors-sdk",)

    def __init__(self, options=Options(), control_hz=20.0, seed=0):
        image = spaces.Box(0, 255, (64, 64, 3), np.uint8)
        super().__init__(RobotSpec("watcher", spaces.Dict({"image": image}), {"image": ""},
                                   spaces.Box(-1, 1, (2,), np.float32), control_hz, 100.0))
        self._image = np.full((64, 64, 3), options.brightness, np.uint8)

    def measure(self):
        picture = self._image.copy()
        picture[0, 0] += 1
        return {"image": picture if self._image[0, 0, 0] else self._image}

    def drive(self, action):
        pass


def config(**robot):
    return configs.from_mapping({"name": "demo", "robot": {"driver": "unitree_a1", "task": "walk"} | robot})


def watcher(**options):
    return config(driver="test_doctor:Watcher", task="look", options=options)


def graded(found, grade):
    return {finding.what: finding.told for finding in found if finding.grade == grade}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])


def test_a_robot_in_order_gets_a_figure_for_everything(tmp_path):
    found = list(doctor.examine(config(options={"pose": "belly"}), tmp_path, 0.5))
    assert not graded(found, doctor.WRONG)
    looked_at = {finding.what for finding in found}
    assert looked_at >= {"real-time priority", "clock", "disk", "limits", "connection", "mode", "signals", "commands",
                         "tilt_radians", "link_age_seconds"}
    assert "readings/s" in next(finding.told for finding in found if finding.what == "signals")


def test_a_gauge_past_its_limit_and_the_fault_that_it_is_are_wrong(tmp_path):
    tilted = config(options={"pose": "side"}, monitors={"tilt_radians": {"warn": 0.5, "stop": 1.0}})
    found = graded(doctor.examine(tilted, tmp_path, 0.5), doctor.WRONG)
    assert "stops at 1" in found["tilt_radians"]


def test_a_camera_that_sees_nothing_is_wrong_and_one_that_stands_still_is_worth_a_look(tmp_path):
    assert "lens" in graded(doctor.examine(watcher(brightness=0), tmp_path, 0.5), doctor.WRONG)["image"]
    assert "frozen" in graded(doctor.examine(watcher(), tmp_path, 0.5), doctor.LOOK)["image"]


def test_a_missing_sdk_ends_it_before_the_robot_is_touched(tmp_path):
    found = list(doctor.examine(watcher(link="hardware"), tmp_path, 0.5))
    assert "a-vendors-sdk is not installed: pip install" in graded(found, doctor.WRONG)["SDK"]
    assert found[-1].what == "SDK"


def test_a_robot_behind_its_protocol_gets_the_rates_of_its_link_and_its_limits(tmp_path):
    found = list(doctor.examine(config(options={"pose": "belly", "link": "protocol"}), tmp_path, 0.6))
    told = {finding.what: finding.told for finding in found}
    assert not graded(found, doctor.WRONG)
    assert told["SDK"] == "none is needed" and "link protocol) answered in" in told["connection"]
    assert "of 500 orders/s to the link" in told["commands"] and told["packets_lost"] == "0"
    assert told["joint range"].startswith("hips -0.80 to 0.80") and "16 rad/s" in told["joint speed"]


def test_an_address_that_is_silent_is_wrong_and_the_last_that_is_said(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        found = list(doctor.examine(config(options={"link": "hardware", "address": address}), tmp_path, patience=2.0))
    assert found[-1].what == "connection" and found[-1].grade == doctor.WRONG and address in found[-1].told
    assert "no body process" not in found[-1].told  # the link's own words, not that nobody waited for them


@pytest.mark.parametrize("code, grade, said", [
    ("", doctor.OK, "a-vendors-sdk 1.0"),
    ("raise ImportError('libvendor.so.2: cannot open shared object file')", doctor.WRONG, "package that has libvendor"),
    ("import os; os.kill(os.getpid(), 9)", doctor.WRONG, "ends with SIGKILL; pip install --force-reinstall")])
def test_an_sdk_is_imported_and_one_that_cannot_be_is_wrong(tmp_path, monkeypatch, code, grade, said):
    about = tmp_path / "a_vendors_sdk-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: a-vendors-sdk\nVersion: 1.0\n")
    (about / "RECORD").write_text("vendor.py,,\nlibvendor.so,,\n")
    (tmp_path / "vendor.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    finding, = doctor.sdk(watcher(link="hardware"))
    assert finding.grade == grade and said in finding.told


@pytest.mark.parametrize("camera", ["off", "front"])
def test_an_arm_that_sees_needs_its_cameras_sdk_too(camera):
    arm = {"link": "hardware", "address": "192.0.2.1", "camera": camera}
    found = list(doctor.sdk(config(driver="ur5e", task="reach", options=arm)))
    assert [finding.told.split()[0] for finding in found] == ["ur-rtde", "pyrealsense2"][:1 + (camera == "front")]


@pytest.mark.parametrize("robot, options, values, what, said", [
    ("ur5e", {}, {"joint_angles": [0.9, -1.4, 2.9, -2.1, -1.6, 0.9]}, "joint range", "joint 3 is at 2.90; armed"),
    ("ur5e", {}, {"joint_angles": [0.9, -0.4, 0.4, -2.1, -1.6, 0.9]}, "workspace", "y by 19.8 cm"),
    ("unitree_a1", {}, {"joint_angles": [0.0, 1.2, -0.7] * 4, "torques": [0.0]}, "joint range", "FR calf is at -0.70"),
    ("sphero", {}, {"motor_powers": [0.5, 0.0], "ball_lost": [0], "ball_position": [0.5, 0.5]}, "power", "more than"),
    ("sphero", {}, {"motor_powers": [0, 0], "ball_lost": [1], "ball_position": [-1, -1]}, "arena", "not seen; put it")])
def test_a_robot_outside_of_its_limits_is_wrong(robot, options, values, what, said):
    signals = Signals({name: np.asarray(value, np.float32) for name, value in values.items()}, 0, 0)
    assert said in graded(doctor.limits(make_driver(robot, options), signals), doctor.WRONG)[what]


@pytest.mark.parametrize("age, grade, said", [(0.05, doctor.OK, "0.05 s old"), (0.8, doctor.LOOK, "more light")])
def test_a_camera_is_judged_by_the_age_of_its_frames_where_that_is_known(age, grade, said):
    picture = Signals(Watcher().measure(), 0, 0)  # of a scene that stands still
    aged = Health(Mode.DISARMED, gauges={"camera_age_seconds": age})
    finding, = doctor.pictures(doctor.Watched([(0.0, picture)], [(0.0, aged)]), Watcher().spec)
    assert finding.grade == grade and said in finding.told


def test_a_gauge_near_its_limit_comes_with_what_to_do():
    health = Health(Mode.DISARMED, gauges={"battery_volts": 6.8, "toy_watchdog": 1.0})
    sphero = config(driver="sphero", task="navigate", control_hz=2.0)
    found = list(doctor.gauges(health, make_driver("sphero", {}), sphero))
    assert graded(found, doctor.LOOK) == {"battery_volts": "6.8, warns at 7, stops at 6.5; charge it"}
    assert graded(found, doctor.OK) == {"toy_watchdog": "1"}


@pytest.mark.parametrize("gauge, grade, said", [
    ("temperature_celcius", doctor.LOOK, "not watched; did you mean temperature_celsius?"),
    ("battery_ratio", doctor.OK, "not measured over this link, so not watched")])
def test_a_gauge_that_is_watched_in_vain_is_told_and_one_that_is_misspelt_is_worth_a_look(gauge, grade, said):
    health = Health(Mode.DISARMED, gauges={"temperature_celsius": 30.0})
    watched = config(monitors={gauge: {"warn": 50.0, "stop": 60.0}})
    found = list(doctor.gauges(health, make_driver("unitree_a1", {}), watched))
    assert said in graded(found, grade)[gauge]


def test_an_environment_that_stands_still_until_it_is_commanded_is_no_robot_that_does_not_send(tmp_path):
    found = list(doctor.examine(configs.load("configs/cartpole.yaml"), tmp_path, 0.5))
    assert not graded(found, doctor.WRONG) and "until it is commanded" in graded(found, doctor.LOOK)["signals"]


def test_what_is_never_a_double_may_be_asked_for_as_hardware(tmp_path):
    file = tmp_path / "arm.yaml"
    file.write_text("""
robot:
  driver: lerobot
  task: centre
  options: {type: so101_follower, config: {port: 7}, units: {pan.pos: {unit: degrees, low: -90, high: 90, speed: 60}}}
""")
    assert settings_of(file, None, which="hardware") == settings_of(file, None)
    with pytest.raises(ConfigError, match="one way to it only"):
        settings_of(file, None, double="protocol")
    with pytest.raises(ConfigError, match=r"robot.options.units: pan.pos: speed: -1.0: allowed"):
        settings_of(file, ['robot.options.units."pan.pos".speed=-1.0'], which="hardware")


@pytest.mark.parametrize("options, said", [
    (["--robot", "hardware"], "one way to it only"), (["--double", "protocol"], "one way to it only"),
    (["--robot", "real"], "--robot real: hardware or double"), (["--double", "x"], "--double x: direct or protocol"),
    (["--robot", "hardware", "--double", "direct"], "is no double")])
def test_a_link_that_there_is_not_is_an_error_that_says_so(monkeypatch, capsys, options, said):
    monkeypatch.setattr(sys, "argv", ["daydreamer", "doctor", "configs/cartpole.yaml", *options])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert said in capsys.readouterr().err.replace("\n", " ")
