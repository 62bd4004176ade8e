"""Both ways between robots and gymnasium: any robot and task as an environment, any environment as a robot.

`RobotEnv` runs in virtual time: it owns the driver and ticks it as fast as the machine allows. `GymDriver` freezes its
environment between commands, so whoever commands it sets the pace: one command, one step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from robots.driver import (
    Applied,
    Clip,
    Driver,
    FaultLatched,
    Health,
    Mode,
    NotConnected,
    RobotSpec,
    Signals,
    Stop,
    expiry,
)
from robots.safety import Gate, Interlock
from robots.task import Outcome, Task

OUTCOME = ("env_reward", "env_terminated", "env_truncated")  # signals for `EnvTask`, of no use to a model
POLL_HZ = 200.0  # how soon a new command is stepped where the owner ticks in real time


class RobotEnv(gymnasium.Env):
    """A robot and a task; observations are its signals, or those named in `keys`.

    After `episode_steps` steps the episode is truncated (0: never). `reset` starts a double anew, armed; with
    `options={"keep": True}` the robot stays as it is, as one without resets must. `info` holds `applied` and `clip`.
    """

    metadata = {"render_modes": []}

    def __init__(self, driver: Driver, task: Task, episode_steps: int = 0, keys: tuple[str, ...] = ()) -> None:
        self.driver, self.task, self.episode_steps = driver, task, episode_steps
        spec = driver.spec
        self._keys = tuple(keys or spec.signals)
        self.observation_space = spaces.Dict({key: spec.signals[key] for key in self._keys})
        self.action_space = spec.action_space
        self._ticks = round(spec.inner_hz / spec.control_hz)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """The first observation of an episode. Raises RobotError where the robot cannot be had or armed."""
        super().reset(seed=seed)
        if seed is not None:
            self.driver.reseed(seed)
        if not (options or {}).get("keep"):
            self.driver.stop(Stop.DAMP)
            self.driver.disconnect()
        self.driver.connect()
        if self.driver.health().mode != Mode.ARMED:
            self.driver.arm()
        self.task.reset()
        self._steps = 0
        return self._observe(self.driver.read()), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        """One control period. Raises FaultLatched where the robot stopped by itself."""
        applied = self.driver.command(action)
        for _ in range(self._ticks):
            self.driver.tick()
        signals = self.driver.read()
        outcome = self.task.score(signals.values)
        if fault := self.driver.health().fault:
            raise FaultLatched(fault)
        self._steps += 1
        truncated = outcome.is_last and not outcome.is_terminal or self._steps == self.episode_steps
        info = {"applied": applied.action, "clip": int(applied.clip)}
        return self._observe(signals), outcome.reward, outcome.is_terminal, truncated, info

    def close(self) -> None:
        """The double rests; nothing is left open."""
        self.driver.stop(Stop.DAMP)
        self.driver.disconnect()

    def _observe(self, signals: Signals) -> dict[str, np.ndarray]:
        return {key: signals.values[key] for key in self._keys}


@dataclass(frozen=True)
class GymOptions:
    """`id` and `kwargs` as for `gymnasium.make`; `noop` is the discrete action that stands for doing nothing."""

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    noop: int = 0


class EnvTask(Task):
    """The environment's own reward and endings, as it told them in the signals."""

    def reset(self) -> None:
        """Nothing is remembered."""

    def score(self, signals: Mapping[str, np.ndarray]) -> Outcome:
        """Reads `env_reward`, `env_terminated` and `env_truncated`."""
        terminated, truncated = bool(signals["env_terminated"]), bool(signals["env_truncated"])
        return Outcome(float(signals["env_reward"]), terminated or truncated, terminated)


class GymDriver(Driver):
    """A gymnasium environment shown as a robot.

    Signals are its observation (`observation`, or the names of a Dict space, nested ones joined by `_`; what is no box
    is flattened to one-hot), and `env_reward`, `env_terminated`, `env_truncated`. Continuous actions are rescaled from
    [-1, 1]. After an ending, the next command resets it, whatever the action. Without commands it stands still.
    """

    Options = GymOptions
    tasks = {"env": EnvTask}

    def __init__(self, options: GymOptions, control_hz: float = 20.0, seed: int = 0) -> None:
        self.options, self._seed = options, seed
        env = made(options)
        self._parts, self._action = parts(env.observation_space), env.action_space
        env.close()
        self.spec = _spec(options, self._parts, self._action, control_hz)
        self._gate = Gate(self.spec.action_space, self.spec.noop)
        self._interlock = Interlock()
        self._env: gymnasium.Env | None = None
        self._wanted: np.ndarray | None = None
        self._over = False
        self._ticks = self._sequence = self._time = 0

    def connect(self, timeout: float = 10.0) -> None:
        """Makes and resets the environment; disarmed."""
        if self._env is None:
            self._interlock.stop(Stop.DAMP)
            self._env = made(self.options)
            self._reset(self._seed)
            self._seed = None

    def disconnect(self) -> None:
        """Closes the environment."""
        self._interlock.stop(Stop.DAMP)
        if self._env is not None:
            self._env.close()
            self._env = None

    def read(self) -> Signals:
        """What the environment showed last."""
        self._require_connection()
        return Signals(self._values, self._time, self._sequence)

    def command(self, action: np.ndarray) -> Applied:
        """The action of the next step, taken at the next tick."""
        self._require_connection()
        applied = self._gate.admit(action)
        if self._interlock.mode != Mode.ARMED:
            return Applied(applied.action, applied.clip | Clip.DISARMED)
        self._wanted = applied.action
        return applied

    def tick(self) -> None:
        """Steps the environment where a command waits, else leaves it alone."""
        self._require_connection()
        self._ticks += 1
        wanted, self._wanted = self._wanted, None
        if wanted is None or self._interlock.mode != Mode.ARMED:
            return
        self._reset(None) if self._over else self._step(wanted)

    def arm(self) -> None:
        """Forgets what was commanded before. Raises FaultLatched."""
        self._require_connection()
        self._wanted = None
        self._interlock.arm()

    def stop(self, level: Stop) -> None:
        """Drops the command that waits; an environment stands still by itself."""
        self._wanted = None
        self._interlock.stop(level)

    def clear_fault(self, token: str) -> None:
        """Ends disarmed; an empty token raises FaultLatched."""
        self._interlock.clear(token)

    def health(self) -> Health:
        """Mode and fault; there is nothing to measure."""
        return Health(self._interlock.mode, self._interlock.fault, ticks=self._ticks)

    def reseed(self, seed: int) -> None:
        """The next `connect` resets the environment with this seed."""
        self._seed = seed

    def _reset(self, seed: int | None) -> None:
        observation, _ = self._env.reset(seed=seed)
        self._over = False
        self._show(observation, 0.0, False, False)

    def _step(self, action: np.ndarray) -> None:
        observation, reward, terminated, truncated, _ = self._env.step(self._to_env(action))
        self._over = terminated or truncated
        self._show(observation, reward, terminated, truncated)

    def _to_env(self, action: np.ndarray) -> Any:
        if isinstance(self._action, spaces.Discrete):
            return int(action) + int(self._action.start)
        low, high = self._action.low, self._action.high
        return (low + (action + 1) / 2 * (high - low)).astype(self._action.dtype)

    def _show(self, observation: Any, reward: float, terminated: bool, truncated: bool) -> None:
        values = {name: picked(observation, path, space) for name, (path, space) in self._parts.items()}
        values["env_reward"] = np.asarray(reward, np.float32)
        values["env_terminated"] = np.asarray(terminated, np.uint8)
        values["env_truncated"] = np.asarray(truncated, np.uint8)
        if not all(np.isfinite(value).all() for value in values.values()):
            self._interlock.trip(f"{self.options.id}: an observation or reward is not finite")
            self._over = True
        self._values = values
        self._sequence += 1
        self._time += round(1e9 / self.spec.control_hz)

    def _require_connection(self) -> None:
        if self._env is None:
            raise NotConnected(f"{self.options.id}: connect first")


Parts = dict[str, tuple[tuple[str, ...], spaces.Space]]


def made(options: GymOptions, **more: Any) -> gymnasium.Env:
    """The environment that the options name. Raises ValueError where there is none, or what it needs is missing."""
    try:
        return gymnasium.make(options.id, **options.kwargs, **more)
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"id: {options.id}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"kwargs: {dict(options.kwargs)}: {error}") from error


def parts(space: spaces.Space, path: tuple[str, ...] = ()) -> Parts:
    """The leaves of an observation space: name -> (where it lies in the observation, its own space)."""
    if isinstance(space, spaces.Dict):
        return {name: part for key, inner in space.items() for name, part in parts(inner, (*path, key)).items()}
    return {"_".join(path) or "observation": (path, space)}


def picked(observation: Any, path: tuple[str, ...], space: spaces.Space) -> np.ndarray:
    """One leaf of an observation, as it is shown: see `box`."""
    for key in path:
        observation = observation[key]
    if not isinstance(space, spaces.Box):
        return np.asarray(spaces.flatten(space, observation), np.float32)
    return np.asarray(observation, np.uint8 if space.dtype == np.uint8 else np.float32)


def box(space: spaces.Space) -> spaces.Box:
    """The box a leaf is shown as: bytes stay bytes, all other numbers become float32."""
    if not isinstance(space, spaces.Box):
        space = spaces.flatten_space(space)
    if space.dtype == np.uint8:
        return space
    return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), space.shape, np.float32)


def _spec(options: GymOptions, leaves: Parts, action: spaces.Space, control_hz: float) -> RobotSpec:
    signals = {name: box(space) for name, (_, space) in leaves.items()}
    signals["env_reward"] = spaces.Box(-np.inf, np.inf, (), np.float32)
    signals |= {name: spaces.Box(0, 1, (), np.uint8) for name in ("env_terminated", "env_truncated")}
    inner_hz = control_hz * max(1, round(POLL_HZ / control_hz))
    if isinstance(action, spaces.Discrete):
        if not 0 <= options.noop < action.n:
            raise ValueError(f"noop: {options.noop}: {options.id} has the actions 0 to {action.n - 1}")
        space, noop = spaces.Discrete(int(action.n)), options.noop
    elif isinstance(action, spaces.Box) and action.is_bounded() and action.dtype.kind == "f":
        space, noop = spaces.Box(-1.0, 1.0, action.shape, np.float32), None
    else:
        raise ValueError(f"{options.id}: action space {action} is neither Discrete nor a bounded Box of floats")
    units = dict.fromkeys(signals, "")
    return RobotSpec(options.id, spaces.Dict(signals), units, space, control_hz, inner_hz, *expiry(control_hz), noop)
