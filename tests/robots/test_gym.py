import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from robots.driver import FaultLatched, Mode
from robots.gym import GymDriver, GymOptions, RobotEnv
from robots.registry import make


class Nested(gymnasium.Env):
    """Three steps long; observes a picture, an integer and a nested vector of float64; breaks when told to."""

    observation_space = spaces.Dict({
        "picture": spaces.Box(0, 255, (4, 4, 3), np.uint8), "button": spaces.Discrete(3),
        "arm": spaces.Dict({"angles": spaces.Box(-1.0, 1.0, (2,), np.float64)})})
    action_space = spaces.Discrete(3, start=5)
    broken = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._look(5), {}

    def step(self, action):
        self.steps += 1
        return self._look(action), np.nan if Nested.broken else 1.0, self.steps == 3, False, {}

    def _look(self, action):
        return {"picture": np.full((4, 4, 3), self.steps, np.uint8), "button": action - 5,
                "arm": {"angles": np.array([0.5, -0.5])}}


gymnasium.register("Nested-v0", Nested)


def tick(driver, count=10):
    for _ in range(count):
        driver.tick()


@pytest.mark.parametrize("driver, task, options", [
    ("unitree_a1", "walk", {"pose": "random", "noise": 1.0}),
    ("gym", "env", {"id": "CartPole-v1"}),
    ("gym", "env", {"id": "Pendulum-v1"}),
])
def test_a_robot_is_a_gymnasium_environment(driver, task, options):
    env = RobotEnv(*make(driver, task, options), episode_steps=30)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(infinity|render).*")
        check_env(env)
    env.close()


def test_an_episode_is_truncated_and_the_next_one_starts_anew_or_goes_on():
    env = RobotEnv(*make("unitree_a1", "walk", {"pose": "stand"}), episode_steps=5, keys=("joint_angles", "tilt"))
    start, _ = env.reset(seed=0)
    assert set(start) == {"joint_angles", "tilt"}
    ends = [env.step(-np.ones(12, np.float32))[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    kept, _ = env.reset(options={"keep": True})
    assert np.abs(kept["joint_angles"] - start["joint_angles"]).max() > 0.1
    assert np.allclose(env.reset()[0]["joint_angles"], start["joint_angles"])
    env.close()


def test_a_robot_that_stops_by_itself_ends_the_environment_with_its_reason():
    env = RobotEnv(*make("unitree_a1", "walk", {"pose": "stand"}))
    env.reset()
    env.driver.link.data.qvel[8] = np.nan
    with pytest.raises(FaultLatched, match="not finite"):
        env.step(np.zeros(12, np.float32))
    env.close()


def test_every_command_is_one_step_of_the_environment_and_after_an_end_it_resets():
    driver, task = make("gym", "env", {"id": "Nested-v0"})
    driver.connect()
    driver.arm()
    seen = []
    for _ in range(9):
        driver.command(np.int64(1))
        tick(driver)
        values = driver.read().values
        outcome = task.score(values)
        seen.append((int(values["picture"][0, 0, 0]), outcome.reward, outcome.is_terminal))
    assert seen == [(1, 1, False), (2, 1, False), (3, 1, True), (0, 0, False)] * 2 + [(1, 1, False)]


def test_observations_of_any_kind_become_boxes_and_actions_find_their_way():
    driver = GymDriver(GymOptions("Nested-v0", noop=1))
    assert driver.spec.action_space == spaces.Discrete(3) and driver.spec.noop == 1
    driver.connect()
    driver.arm()
    driver.command(np.int64(2))
    tick(driver)
    values = driver.read().values
    assert driver.spec.signals.contains(values)
    assert values["picture"].dtype == np.uint8 and values["arm_angles"].dtype == np.float32
    assert values["button"].tolist() == [0, 0, 1]


def test_continuous_actions_cover_the_environments_range():
    driver = GymDriver(GymOptions("Pendulum-v1"), seed=3)
    driver.connect()
    driver.arm()
    torques, step = [], driver._env.step
    driver._env.step = lambda action: torques.append(float(action[0])) or step(action)
    for action in (-1.0, 0.0, 1.0):
        driver.command(np.float32([action]))
        tick(driver)
    assert torques == [-2, 0, 2]


@pytest.mark.filterwarnings("ignore:.*NaN")
def test_a_reward_that_is_not_finite_is_a_fault(monkeypatch):
    driver = GymDriver(GymOptions("Nested-v0"))
    driver.connect()
    driver.arm()
    monkeypatch.setattr(Nested, "broken", True)
    driver.command(np.int64(0))
    tick(driver)
    assert driver.health().mode == Mode.FAULT and "not finite" in driver.health().fault


@pytest.mark.parametrize("noop", [3, -1])
def test_a_noop_that_is_no_action_is_refused(noop):
    with pytest.raises(ValueError, match="noop"):
        make("gym", "env", {"id": "Nested-v0", "noop": noop})
