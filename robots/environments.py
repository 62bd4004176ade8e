"""What a config's robot is when it is stepped in lockstep: a gymnasium environment.

A robot becomes one through `RobotEnv`. A robot that is an environment behind `GymDriver` becomes that environment
again, without the driver between: it ends as it ends by itself, and resets at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from robots import registry
from robots.gym import GymDriver, GymOptions, RobotEnv, box, made, parts, picked

ROBOT_STEPS = 1000  # of an episode, where nobody says how many


def environment(driver: str, task: str, options: Mapping[str, Any], *, control_hz: float = 20.0, seed: int = 0,
                keys: tuple[str, ...] = (), episode_steps: int = 0, filmed: bool = False) -> gymnasium.Env:
    """The environment of a robot and its task; observations are the signals named in `keys`, or all.

    Episodes are cut after `episode_steps`; 0: where they end by themselves, those of a robot after 1000. `filmed`: it
    can `render`, where it has a picture. Raises ValueError for what is unknown or not installed.
    """
    found = registry.driver_class(driver)
    if not issubclass(found, GymDriver):
        robot, its_task = registry.make(driver, task, options, control_hz, seed)
        return RobotEnv(robot, its_task, episode_steps or ROBOT_STEPS, keys)
    env = _rendering(registry.checked(GymOptions, options), filmed)
    return _Signals(TimeLimit(env, episode_steps) if episode_steps else env, keys)


def frames_per_step(env: gymnasium.Env) -> int:
    """How often the environment repeats each action, as its `action_repeat` says."""
    return int(getattr(env.unwrapped, "action_repeat", 1))


def _rendering(options: GymOptions, filmed: bool) -> gymnasium.Env:
    env = made(options)
    if not filmed or "rgb_array" not in env.metadata.get("render_modes", []):
        return env
    env.close()
    return made(options, render_mode="rgb_array")


class _Signals(gymnasium.ObservationWrapper):
    """An environment whose observation is the signals that `GymDriver` makes of it, as far as `keys` name them."""

    def __init__(self, env: gymnasium.Env, keys: tuple[str, ...]) -> None:
        super().__init__(env)
        leaves = parts(env.observation_space)
        if odd := sorted(set(keys) - set(leaves)):
            raise ValueError(f"model_keys: {odd[0]}: no part of the observation; there are {', '.join(leaves)}")
        self._leaves = {key: leaves[key] for key in keys or leaves}
        self.observation_space = spaces.Dict({key: box(space) for key, (_, space) in self._leaves.items()})

    def observation(self, observation: Any) -> dict[str, np.ndarray]:
        return {key: picked(observation, path, space) for key, (path, space) in self._leaves.items()}
