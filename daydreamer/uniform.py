"""Any gymnasium environment as an agent wants it: observations by name, actions in [-1, 1] or counted from 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import RescaleAction, TransformAction


def uniform(env: gymnasium.Env) -> gymnasium.Env:
    """`env` with observations by name, continuous actions in [-1, 1], and discrete ones counted from 0."""
    space = env.action_space
    if isinstance(space, spaces.Box) and not ((space.low == -1).all() and (space.high == 1).all()):
        env = RescaleAction(env, np.float32(-1), np.float32(1))
    elif isinstance(space, spaces.Discrete) and space.start != 0:
        env = TransformAction(env, lambda action: action + space.start, spaces.Discrete(space.n))
    return _Named(env)


def no_action(space: spaces.Space) -> Any:
    """What stands for the action before the first."""
    return 0 if isinstance(space, spaces.Discrete) else np.zeros(space.shape, np.float32)


def applied(requested: Any, info: Mapping[str, Any]) -> tuple[Any, int]:
    """What was done, in the units of `requested`, and the mask that says why it was something else (`Clip` of
    robots.driver): a robot tells both in `info`, and what followed is the consequence of what it did."""
    return (info["applied"], info["clip"]) if "applied" in info else (requested, 0)


class _Named(gymnasium.ObservationWrapper):
    """Observations as a Dict of arrays: a lone Box is called `observation`, float64 becomes float32."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        space = env.observation_space
        self._lone = not isinstance(space, spaces.Dict)
        parts = {"observation": space} if self._lone else dict(space.spaces)
        self.observation_space = spaces.Dict({key: _single(part) for key, part in parts.items()})

    def observation(self, observation: Any) -> dict[str, np.ndarray]:
        parts = {"observation": observation} if self._lone else observation
        return {key: np.asarray(parts[key], space.dtype) for key, space in self.observation_space.items()}


def _single(space: spaces.Space) -> spaces.Space:
    if isinstance(space, spaces.Box) and space.dtype == np.float64:
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), space.shape, np.float32)
    return space
