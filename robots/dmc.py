"""Tasks of the DeepMind Control suite as gymnasium environments; needs the extra `bench`.

    env = gymnasium.make("robots.dmc:dmc-v0", task="cartpole-swingup", action_repeat=2)

As a robot of a config: `driver: gym`, `task: env`, `options: {id: "robots.dmc:dmc-v0", kwargs: {task: walker-walk}}`.
The suite: Tassa et al., "DeepMind Control Suite", arXiv 1801.00690.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

FILM = (240, 320)  # height and width of what `render` draws


class DMC(gymnasium.Env):
    """One task, named `domain-task` as in `ball_in_cup-catch`.

    The observation is a Dict: each of the task's own observations flattened to a float32 Box, and on request `image`,
    uint8 [size, size, 3], and `depth`, uint8 [size, size, 1] in counts of `DEPTH_UNIT` metres (255 and beyond: far), of
    the task's camera number `camera`. With `frames` above 1 both hold the pictures of that many decisions along their
    channels, the newest first, so that speeds can be seen; an episode begins with its first one repeated.

    Each action, in [-1, 1], is held for `action_repeat` control steps, whose rewards are summed. The time limit
    truncates; only a task that says so terminates. `reset(seed=...)` determines the episode.
    """

    DEPTH_UNIT = 0.02
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, task: str, action_repeat: int = 2, image: bool = False, depth: bool = False, size: int = 64,
                 camera: int = 0, frames: int = 1, render_mode: str | None = None) -> None:
        """Raises ValueError for an unknown task, DependencyNotInstalled where dm_control is missing."""
        for name, value in (("action_repeat", action_repeat), ("frames", frames)):
            if value < 1:
                raise ValueError(f"{name}: {value}: at least 1")
        self._env = _load(task)
        self.action_repeat, self.render_mode = action_repeat, render_mode
        self._image, self._depth, self._size, self._camera = image, depth, size, camera
        self._frames: deque[dict[str, np.ndarray]] = deque(maxlen=frames)
        self._eyes: dict[tuple[int, int], Any] = {}
        action = self._env.action_spec()
        self._middle, self._swing = (action.maximum + action.minimum) / 2, (action.maximum - action.minimum) / 2
        self.action_space = spaces.Box(-1.0, 1.0, action.shape, np.float32)
        self.observation_space = spaces.Dict(self._vectors() | self._pictures())
        hz = round(1 / (self._env.control_timestep() * action_repeat))
        self.metadata = self.metadata | {"render_fps": hz}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """The first observation of an episode."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.task.random.seed(seed)
        self._frames.clear()
        return self._shown(self._env.reset().observation), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        """`action_repeat` control steps, fewer where the episode ends."""
        wanted, reward = self._middle + self._swing * np.asarray(action, np.float64), 0.0
        for _ in range(self.action_repeat):
            now = self._env.step(wanted)
            reward += float(now.reward or 0.0)
            if now.last():
                break
        terminated = now.last() and now.discount == 0.0
        return self._shown(now.observation), reward, terminated, now.last() and not terminated, {}

    def render(self) -> np.ndarray:
        """RGB uint8 [240, 320, 3] of the state now."""
        return self._look(*FILM).rgb()

    def close(self) -> None:
        """Lets the cameras' memory go."""
        for eye in self._eyes.values():
            eye.close()
        self._eyes = {}
        self._env.close()

    def _vectors(self) -> dict[str, spaces.Space]:
        sizes = {name: int(np.prod(spec.shape)) for name, spec in self._env.observation_spec().items()}
        return {name: spaces.Box(-np.inf, np.inf, (size,), np.float32) for name, size in sizes.items()}

    def _pictures(self) -> dict[str, spaces.Space]:
        channels = {"image": 3 * self._image * self._frames.maxlen, "depth": 1 * self._depth * self._frames.maxlen}
        return {name: spaces.Box(0, 255, (self._size, self._size, count), np.uint8)
                for name, count in channels.items() if count}

    def _shown(self, observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
        shown = {name: np.asarray(value, np.float32).reshape(-1) for name, value in observation.items()}
        if self._image or self._depth:
            self._frames.appendleft(self._seen())
            while len(self._frames) < self._frames.maxlen:
                self._frames.appendleft(self._frames[0])
            shown |= {name: np.concatenate([frame[name] for frame in self._frames], -1) for name in self._frames[0]}
        return shown

    def _seen(self) -> dict[str, np.ndarray]:
        """The pictures of the state now."""
        eye, seen = self._look(self._size, self._size), {}
        if self._image:
            seen["image"] = eye.rgb()
        if self._depth:
            seen["depth"] = np.clip(eye.depth() / self.DEPTH_UNIT, 0, 255).astype(np.uint8)[..., None]
        return seen

    def _look(self, height: int, width: int) -> Any:
        """An eye of this size, turned to the state now."""
        from robots.eye import Eye

        physics = self._env.physics
        if (height, width) not in self._eyes:
            self._eyes[height, width] = Eye(physics.model.ptr, height, width)
        eye = self._eyes[height, width]
        eye.look(physics.data.ptr, self._camera)
        return eye


def _load(name: str) -> Any:
    """The suite's own environment of a task. Imports dm_control, which takes a second."""
    try:
        from dm_control import suite
    except ImportError as error:
        raise gymnasium.error.DependencyNotInstalled(
            f"task {name}: dm_control is not installed ({error}): pip install 'daydreamer[bench]'") from error
    known = {f"{domain}-{task}": (domain, task) for domain, task in suite.ALL_TASKS}
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"task: {name}: unknown, {hint}")
    return suite.load(*known[name])


gymnasium.register("dmc-v0", entry_point="robots.dmc:DMC")
