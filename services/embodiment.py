"""Which robot a config means, checked as far as it can be without connecting to one. Imports no torch."""

from __future__ import annotations

import dataclasses
import difflib

import gymnasium
from gymnasium import spaces

from robots import environments, registry
from robots.driver import Driver, RobotSpec
from robots.gym import OUTCOME
from robots.link import address_of
from services.config import AUTO, Config, ConfigError


def robot_spec(config: Config) -> RobotSpec:
    """The spec of the config's robot. Raises ConfigError for a driver, task, option or model key that is unknown, and
    for `speed: auto` of what is not a double in this process."""
    robot = config.robot
    try:
        driver, _ = registry.make(robot.driver, robot.task, robot.options, robot.control_hz, config.seed)
    except ValueError as error:
        raise ConfigError(f"{config.name}: robot.{_placed(str(error))}") from error
    check_speed(config, driver)
    observation_space(config, driver.spec)
    return driver.spec


def takes_link(config: Config, link: str) -> bool:
    """Whether this link of the config's robot has to be chosen. Raises ConfigError where there is none to choose, but
    for the hardware that a robot without a double is."""
    options = registry.driver_class(config.robot.driver).Options
    if "link" in {field.name for field in dataclasses.fields(options)}:
        return True
    try:
        if link == "hardware" and address_of(registry.checked(options, config.robot.options)):
            return False
    except ValueError as error:
        raise ConfigError(f"{config.name}: robot.{_placed(str(error))}") from error
    raise ConfigError(f"{config.name}: robot.driver: {config.robot.driver}: there is one way to it only; leave out "
                      "--robot and --double")


def check_speed(config: Config, driver: Driver) -> None:
    """Raises ConfigError for `speed: auto` of what is not a double in this process. `driver` is not connected yet."""
    if config.robot.speed != AUTO:
        return
    options = registry.checked(registry.driver_class(config.robot.driver).Options, config.robot.options)
    try:
        if (link := getattr(options, "link", "direct")) != "direct":
            raise ValueError(f"link={link} runs in real time")
        for speed in (2.0, config.robot.first_speed):
            driver.keep_pace(speed)
    except ValueError as error:
        raise ConfigError(f"{config.name}: robot.speed: auto: {error}; only a double in this process has a clock that "
                          "can wait, leave speed at 1") from error


def model_spaces(config: Config) -> tuple[spaces.Dict, spaces.Box | spaces.Discrete]:
    """Observation and action space of the agent, on hosts without the robot too. Raises as `robot_spec`."""
    spec = robot_spec(config)
    return observation_space(config, spec), spec.action_space


def environment(config: Config, filmed: bool = False) -> gymnasium.Env:
    """The config's robot as an environment that is stepped in lockstep; `filmed`: one that can render, if it has a
    picture. Raises as `robot_spec`."""
    robot_spec(config)
    robot = config.robot
    try:
        return environments.environment(
            robot.driver, robot.task, robot.options, control_hz=robot.control_hz, seed=config.seed,
            keys=robot.model_keys, episode_steps=config.training.episode_steps, filmed=filmed)
    except ValueError as error:
        raise ConfigError(f"{config.name}: robot.{error}") from error


def observation_space(config: Config, spec: RobotSpec) -> spaces.Dict:
    """The signals that the model sees: those of `model_keys`, or where none are named all but what an environment tells
    of its rewards and endings. Raises ConfigError."""
    keys = config.robot.model_keys or tuple(key for key in spec.signals if key not in OUTCOME)
    for key in keys:
        if key not in spec.signals.spaces:
            near = difflib.get_close_matches(key, spec.signals, n=1)
            hint = f", did you mean {near[0]}?" if near else f"; there are {', '.join(spec.signals)}"
            raise ConfigError(f"{config.name}: robot.model_keys: {key}: {spec.name} has no such signal{hint}")
    return spaces.Dict({key: spec.signals[key] for key in sorted(keys)})


def _placed(problem: str) -> str:
    """A driver's options say only which of them is wrong, the registry also says that it is one of the options."""
    if problem.startswith(("driver: ", "task: ")):
        return problem
    return "options." + problem.removeprefix("options: ")
