"""What an agent is built from, as plain JSON: so that a checkpoint says what it is of, and can be played from alone."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from daydreamer.agent import Agent
from daydreamer.settings import AgentSettings


@dataclass(frozen=True)
class Blueprint:
    """Spaces of Box, Discrete and MultiBinary, and the settings."""

    observation_space: spaces.Dict
    action_space: spaces.Space
    settings: AgentSettings

    @classmethod
    def of(cls, agent: Agent) -> Blueprint:
        """The blueprint of an agent that is there."""
        return cls(agent.observation_space, agent.action_space, agent.settings)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Blueprint:
        """The inverse of `to_json`; settings that are not named have their defaults. Raises ValueError."""
        try:
            seen = {key: _space(space) for key, space in values["observation_space"].items()}
            return cls(spaces.Dict(seen), _space(values["action_space"]), _filled(AgentSettings, values["settings"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an agent that this program knows: {error!r}") from error

    def to_json(self) -> dict[str, Any]:
        """Nested plain values, finite numbers only."""
        return {"observation_space": {key: _plain(space) for key, space in self.observation_space.items()},
                "action_space": _plain(self.action_space), "settings": dataclasses.asdict(self.settings)}

    def identity(self) -> dict[str, object]:
        """What makes two agents the same: the spaces, and the settings that cannot change on resume, by dotted name."""
        signals = {f"signal {key}": str(space) for key, space in self.observation_space.items()}
        return dict(_fixed(self.settings, "agent.")) | signals | {"action": str(self.action_space)}

    def build(self, seed: int = 0, device: str = "cpu") -> Agent:
        """A fresh agent. Raises ValueError for spaces that no model can read."""
        return Agent(self.observation_space, self.action_space, self.settings, seed, device)


def _fixed(settings: Any, prefix: str) -> Iterator[tuple[str, object]]:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.metadata.get("resume"):
            continue
        if is_dataclass(value):
            yield from _fixed(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def _filled(kind: type, values: Mapping[str, Any]) -> Any:
    """The dataclass `kind` from nested plain values. Raises TypeError for a name that it does not have."""
    kinds = typing.get_type_hints(kind)
    return kind(**{name: _filled(kinds[name], value) if is_dataclass(kinds.get(name)) else
                   tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _plain(space: spaces.Space) -> dict[str, Any]:
    if isinstance(space, spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "binary", "n": int(space.n) if np.ndim(space.n) == 0 else list(space.shape)}
    if isinstance(space, spaces.Box):
        return {"kind": "box", "dtype": space.dtype.name, "shape": list(space.shape), "low": _bounds(space.low),
                "high": _bounds(space.high)}
    raise ValueError(f"{space}: neither Box, Discrete nor MultiBinary")


def _space(values: Mapping[str, Any]) -> spaces.Space:
    match values["kind"]:
        case "discrete":
            return spaces.Discrete(values["n"], start=values["start"])
        case "binary":
            return spaces.MultiBinary(values["n"])
        case "box":
            shape, dtype = tuple(values["shape"]), np.dtype(values["dtype"])
            low, high = _array(values["low"], shape, -math.inf), _array(values["high"], shape, math.inf)
            return spaces.Box(low.astype(dtype), high.astype(dtype), shape, dtype)
    raise ValueError(f"{values['kind']}: no such space")


def _bounds(array: np.ndarray) -> Any:
    """One number for all where they are the same, else all of them in a row; None: there is no bound."""
    flat = [float(x) if math.isfinite(x) else None for x in array.ravel()]
    return flat[0] if flat and all(x == flat[0] for x in flat) else flat


def _array(bounds: Any, shape: tuple[int, ...], unbounded: float) -> np.ndarray:
    flat = bounds if isinstance(bounds, list) else [bounds] * math.prod(shape)
    return np.array([unbounded if x is None else x for x in flat], np.float64).reshape(shape)
