"""What the model sees and does, from the config alone: the driver's spec is known before connecting to any robot.

Learner and policy server build the same agent from it on hosts without the robot.
"""

from __future__ import annotations

import difflib

from gymnasium import spaces

from daydreamer.agent import Agent
from robots import registry
from robots.driver import RobotSpec
from services.config import Config, ConfigError


def robot_spec(config: Config) -> RobotSpec:
    """The spec of the config's robot. Raises what `robots.registry.make` raises."""
    robot = config.robot
    driver, _ = registry.make(robot.driver, robot.task, robot.options, robot.control_hz, config.seed)
    return driver.spec


def model_spaces(config: Config) -> tuple[spaces.Dict, spaces.Box | spaces.Discrete]:
    """Observation and action space of the agent: the signals named by `model_keys` (none: all). Raises ConfigError."""
    spec = robot_spec(config)
    keys = config.robot.model_keys or tuple(spec.signals)
    for key in keys:
        if key not in spec.signals.spaces:
            near = difflib.get_close_matches(key, spec.signals, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(spec.signals)}"
            raise ConfigError(f"robot.model_keys: {key}: {spec.name} has no such signal, {hint}")
    return spaces.Dict({key: spec.signals[key] for key in sorted(keys)}), spec.action_space


def build_agent(config: Config, observation_space: spaces.Dict, action_space: spaces.Space, device: str) -> Agent:
    """The agent of a config, before it has learned anything. `device`: auto, cpu, cuda or cuda:N."""
    return Agent(observation_space, action_space, config.agent, seed=config.seed, device=device)
