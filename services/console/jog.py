"""Moves a robot a little along one axis of its actions, through the whole safety chain, to see that signs and limits
are right before anything learns on it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium import spaces

from robots.body import Body
from robots.body_process import hardware
from robots.driver import Clip, FaultLatched, Mode, RobotError, Stop
from robots.realtime import real_time
from services.config import Config, ConfigError
from services.embodiment import robot_spec

SETTLE = 0.3  # seconds until a robot that was armed stands still
PATIENCE = 20.0  # seconds for what it does by itself first: an arm may go over its bin


class NotJogged(RobotError):
    """What the robot was told was not done: it did something of its own, or was disarmed meanwhile."""


@dataclass(frozen=True)
class Change:
    """The value of a signal that changed most: before, at the end of the motion, and after as long a rest."""

    signal: str
    unit: str
    before: float
    moved: float
    after: float


@dataclass(frozen=True)
class Jogged:
    """What came of it. `clip`: every reason for which the action was not applied as it was."""

    changes: list[Change]
    clip: Clip


def jog(config: Config, home: Path, axis: int, by: float, seconds: float) -> Jogged:
    """Arm, wait until it stands, move for `seconds`, stand for as long, disarm. Continuous actions: what leaves the
    robot as it is, with `by` added on `axis`; discrete ones: action `axis` once. A double's clock runs as the wall's.
    Raises ConfigError, NotJogged, RobotError."""
    check(config, axis, by, seconds)
    robot = config.robot
    body = Body(f"{home.resolve()}/jog", robot.driver, robot.options, robot.control_hz, 1.0, config.seed,
                robot.monitors, keep_faults=False)
    body.connect()
    try:
        with real_time():  # as the control loop of a run
            body.arm()
            rest = body.standing(body.read().values)
            _stand(body, rest)
            before = body.read().values
            clip = _move(body, _moving(body.spec.action_space, rest, axis, by), rest, seconds)
            moved = body.read().values
            _move(body, rest, rest, seconds)
            after = body.read().values
    finally:
        body.stop(Stop.DAMP)
        body.disconnect()
    return Jogged(_changes(body.spec.units, before, moved, after), clip)


def check(config: Config, axis: int, by: float, seconds: float) -> None:
    """Raises ConfigError for an axis that the robot lacks, or a motion that is not a little."""
    space = robot_spec(config).action_space
    axes = space.n if isinstance(space, spaces.Discrete) else space.shape[0]
    if not 0 <= axis < axes:
        raise ConfigError(f"--axis {axis}: {config.robot.driver} has actions 0 to {axes - 1}")
    if not 0 < abs(by) <= 0.5:
        raise ConfigError(f"--by {by:g}: allowed is -0.5 to 0.5 of the action's range, not 0")
    if not 0 < seconds <= 5:
        raise ConfigError(f"--seconds {seconds:g}: allowed is above 0, to 5")


def is_real(config: Config) -> bool:
    """Whether somebody could stand in its way."""
    return bool(hardware(config.robot.driver, config.robot.options))


def _moving(space: spaces.Space, rest: np.ndarray, axis: int, by: float) -> np.ndarray:
    if isinstance(space, spaces.Discrete):
        return np.int64(axis)
    action = np.array(rest)
    action[axis] = np.clip(action[axis] + by, -1, 1)
    return action


def _stand(body: Body, rest: np.ndarray) -> None:
    """Until it has done nothing by itself for a while. Raises NotJogged where it does not end."""
    since = began = time.monotonic()
    while (now := time.monotonic()) < since + SETTLE:
        _command(body, rest)
        if body.health().busy:
            since = time.monotonic()
        if now > began + PATIENCE:
            raise NotJogged(f"it still moves by itself after {PATIENCE:g} s, so nothing was jogged; look what it does, "
                            "and clear its way")


def _move(body: Body, action: np.ndarray, rest: np.ndarray, seconds: float) -> Clip:
    """Say it each period; a discrete action once, and then nothing. Raises NotJogged where it is not done."""
    clip, once = Clip.NONE, isinstance(body.spec.action_space, spaces.Discrete)
    told, end = action, time.monotonic() + seconds
    while time.monotonic() < end:
        met = _command(body, told)
        if met & Clip.BUSY and told is not rest:
            raise NotJogged("it began to do something by itself, so the motion was given up; jog again")
        clip |= met
        told = rest if once else action
    return clip


def _command(body: Body, action: np.ndarray) -> Clip:
    """For a period. Raises FaultLatched, NotJogged where the robot is stopped."""
    clip = body.command(action).clip
    time.sleep(1 / body.spec.control_hz)
    if (health := body.health()).mode == Mode.FAULT:
        raise FaultLatched(f"{health.fault}; the motion was given up")
    if health.mode == Mode.DISARMED:
        why = health.fault or "somebody let go of its deadman, it is not heard, or this computer is too busy"
        raise NotJogged(f"it was disarmed, and the motion given up: {why}; `daydreamer doctor` shows which")
    return clip


def _changes(units: Mapping[str, str], before: Mapping[str, np.ndarray], moved: Mapping[str, np.ndarray],
             after: Mapping[str, np.ndarray]) -> list[Change]:
    """One row per signal, in the order of the spec; pictures are left out."""
    changes = []
    for name in (name for name, value in before.items() if value.ndim < 2):
        was, then, now = (np.atleast_1d(values[name]).astype(float) for values in (before, moved, after))
        n = int(np.abs(then - was).argmax())
        changes.append(Change(f"{name}[{n}]", units[name], was[n], then[n], now[n]))
    return changes
