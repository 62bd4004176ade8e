"""What an operator does before a robot moves by itself: move it a little."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from robots.basic import BasicDriver
from robots.driver import Applied, Clip, RobotSpec
from robots.task import Outcome, Task
from services import config as configs
from services.config import ConfigError
from services.console import jog as jogging
from services.console.jog import NotJogged, jog

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Options:
    """When it sleepwalks: always, or once it is told to move."""

    when: str = "always"


class Nothing(Task):
    def reset(self):
        pass

    def score(self, signals):
        return Outcome(0.0)


class Sleepwalker(BasicDriver):
    """It may do something of its own, and then does nothing that it is told."""

    Options, tasks = Options, {"walk": Nothing}

    def __init__(self, options=Options(), control_hz=20.0, seed=0):
        space = spaces.Dict({"place": spaces.Box(-1, 1, (1,), np.float32)})
        super().__init__(RobotSpec("sleepwalker", space, {"place": "m"}, spaces.Box(-1, 1, (1,), np.float32),
                                   control_hz, 100.0))
        self._busy = options.when == "always"

    def measure(self):
        return {"place": np.zeros(1, np.float32)}

    def drive(self, action):
        pass

    def command(self, action):
        applied = super().command(action)
        self._busy |= bool(applied.action.any())
        return Applied(applied.action, applied.clip | Clip.BUSY if self._busy else applied.clip)

    def health(self):
        return replace(super().health(), busy=self._busy)


def config(**robot):
    return configs.from_mapping({"name": "demo", "robot": {"driver": "unitree_a1", "task": "walk"} | robot})


def sleepwalker(when):
    return config(driver="test_jog:Sleepwalker", options={"when": when})


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])


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


def test_an_arm_goes_over_its_bin_before_it_is_jogged_and_shows_the_sign_of_its_step(tmp_path):
    seen = configs.load(CONFIGS / "ur5e_pick_place.yaml",
                        ["robot.options.camera=off", "robot.model_keys=[tool_position]"])
    forth, back = (next(change.moved - change.before for change in jog(seen, tmp_path, axis, 0.1, 0.5).changes
                        if change.signal == "tool_position[0]") for axis in (1, 2))  # +x and -x
    assert (forth, back) == pytest.approx((0.04, -0.04), abs=0.005)  # a move is 4 cm


@pytest.mark.parametrize("when, said", [("always", "still moves by itself after 0.5 s"), ("led", "began to do some")])
def test_a_robot_that_is_busy_with_something_of_its_own_was_not_jogged(tmp_path, monkeypatch, when, said):
    monkeypatch.setattr(jogging, "PATIENCE", 0.5)
    with pytest.raises(NotJogged, match=said):
        jog(sleepwalker(when), tmp_path, axis=0, by=0.1, seconds=1.0)


@pytest.mark.parametrize(("robot", "real"), [
    ({"driver": "ur5e", "task": "reach"}, False), ({"driver": "ur5e", "options": {"link": "protocol"}}, False),
    ({"driver": "ur5e", "options": {"link": "hardware", "address": "10.0.0.7"}}, True),
    ({"driver": "gym", "options": {"id": "CartPole-v1"}}, False),
    ({"driver": "lerobot", "options": {"type": "so101_follower", "config": {"port": "/dev/ttyACM0"}, "units": {
        "pan.pos": {"unit": "degrees", "low": -90, "high": 90, "speed": 60}}}}, True)])
def test_an_operator_is_asked_before_what_somebody_could_stand_beside(robot, real):
    """Also where there is no double that it could be instead."""
    assert jogging.is_real(configs.from_mapping({"name": "demo", "robot": {"task": "reach"} | robot})) == real
