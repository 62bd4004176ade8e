"""What an operator does before a robot moves by itself: look it over, and move it a little."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium import spaces

from robots.basic import BasicDriver
from robots.driver import RobotSpec
from robots.task import Outcome, Task
from services import cli
from services import config as configs
from services.config import ConfigError
from services.console import doctor
from services.console.jog import jog


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


def test_a_jogged_joint_goes_where_it_should_and_comes_back(tmp_path):
    jogged = jog(config(options={"pose": "back"}), tmp_path, axis=1, by=0.1, seconds=1.0)  # its feet in the air
    thigh = next(change for change in jogged.changes if change.signal == "joint_angles[1]")
    assert thigh.moved - thigh.before > 0.1 and abs(thigh.after - thigh.before) < 0.05 and thigh.unit == "rad"


@pytest.mark.parametrize("axis, by, seconds, said", [
    (12, 0.1, 1.0, "--axis 12: unitree_a1 has actions 0 to 11"), (0, 0.9, 1.0, "--by 0.9"), (0, 0.0, 1.0, "--by 0"),
    (0, 0.1, 60.0, "--seconds 60")])
def test_a_motion_that_is_not_a_little_is_an_error(tmp_path, axis, by, seconds, said):
    with pytest.raises(ConfigError, match=said):
        jog(config(), tmp_path, axis, by, seconds)


@pytest.mark.parametrize("options, said", [
    (["--robot", "hardware"], "one way to it only"), (["--double", "protocol"], "one way to it only"),
    (["--robot", "real"], "--robot real: hardware or double"), (["--double", "x"], "--double x: direct or protocol"),
    (["--robot", "hardware", "--double", "direct"], "is no double")])
def test_a_link_that_there_is_not_is_an_error_that_says_so(monkeypatch, capsys, options, said):
    monkeypatch.setattr(sys, "argv", ["daydreamer", "doctor", "configs/cartpole.yaml", *options])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert said in capsys.readouterr().err.replace("\n", " ")
